"""Forms: read with a bound, and believed only where they come from a page of ours."""

import asyncio
import hashlib
import hmac
from datetime import timedelta
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from flute_sync.console_errors import FormRefused

FIELD: Final = "form_token"
_MOST_BYTES: Final = 16 * 1024
_MOST_FIELDS: Final = 30
_PATIENCE: Final = timedelta(seconds=20)
_OURS: Final = (None, "same-origin", "none")


def token(key: bytes, binding: str) -> str:
    """Return what a form carries: it follows from a word that only this browser shows."""
    return hmac.new(key, b"form:" + binding.encode(), hashlib.sha256).hexdigest()


async def fields_of(request: Request, key: bytes, binding: str | None) -> dict[str, str]:
    """Read a form.

    Parameters
    ----------
    binding
        The word that this browser shows; None: it shows none.

    Raises
    ------
    FormRefused
        It is no form, too large, or another site made the browser send it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise FormRefused("not a form")
    if request.headers.get("sec-fetch-site") not in _OURS:
        raise FormRefused("sent by another site")
    try:
        async with asyncio.timeout(_PATIENCE.total_seconds()):
            text = (await _body(request)).decode("utf-8")
        given = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise FormRefused("not readable") from None
    except TimeoutError:
        raise FormRefused("it does not end") from None
    expected = "" if binding is None else token(key, binding)
    if not expected or not hmac.compare_digest(given.get(FIELD, "").encode(), expected.encode()):
        raise FormRefused()
    return given


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise FormRefused("too large")
    return bytes(body)
