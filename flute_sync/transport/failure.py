"""Say what failed on the wire without repeating addresses, headers or bodies."""

import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

_LONGEST_WAIT: Final = timedelta(days=1)
_SENTENCES: Final = (
    (httpx.ConnectTimeout, "no connection in time"),
    (httpx.PoolTimeout, "no free connection in time"),
    (httpx.TimeoutException, "no answer in time"),
    (httpx.ProxyError, "the proxy refused"),
    (httpx.ConnectError, "no connection"),
    (httpx.NetworkError, "the connection broke"),
    (httpx.ProtocolError, "the answer was not HTTP, or ended early"),
    (httpx.DecodingError, "the answer could not be decompressed"),
)


def what_failed(error: httpx.HTTPError) -> str:
    """Return what went wrong in words that are safe to log.

    The texts of httpx may hold URLs, and those of ssl a certificate's subject: neither is used.
    """
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not accepted (X.509 error {cause.verify_code})"
        if isinstance(cause, ssl.SSLError):
            return "TLS failed"
        if isinstance(cause, OSError) and cause.errno is not None and cause.strerror:
            return f"no connection ({cause.strerror})"
    for kind, sentence in _SENTENCES:
        if isinstance(error, kind):
            return sentence
    return "the request failed"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    for _ in range(16):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return how long the peer asks to wait; None when it does not say, or not legally.

    Parameters
    ----------
    headers
        Of the answer, looked up without regard to case.
    now
        Aware; used where the peer names a date and its answer has none of its own.

    References
    ----------
    RFC 9110 10.2.3
    """
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return min(timedelta(seconds=int(said[:9])), _LONGEST_WAIT)
    at = http_date(said)
    if at is None:
        return None
    answered = http_date(headers.get("date", "")) or now
    return min(max(at - answered, timedelta(0)), _LONGEST_WAIT)


def http_date(text: str) -> datetime | None:
    """Return an HTTP date as aware UTC, or None when it is not one (RFC 9110 5.6.7)."""
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
