"""Access tokens: asked for when needed, renewed before they end, shared by all threads."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Final
from urllib.parse import quote_plus

import httpx
import orjson

from flute_sync.auth_errors import TokenRefused, TokenUnavailable
from flute_sync.transport.credentials import OAuth2Auth, SmartAuth, is_private
from flute_sync.transport.failure import retry_after, what_failed
from flute_sync.transport.secret import Secret

_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_DEFAULT_SECONDS: Final = 300.0  # where the server does not say; SMART recommends no more
_LARGEST_BYTES: Final = 256 * 1024
_REFUSALS: Final = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "access_denied",
    }
)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is sent to the token server."""

    url: str
    form: Mapping[str, str]
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return "TokenRequest(...)"


Grant = Callable[[httpx.Client], TokenRequest]
"""Makes the request for a token, a fresh one at each call; the client serves discovery."""


def client_credentials(settings: OAuth2Auth) -> Grant:
    """Ask with a client secret (RFC 6749 4.4.2, 2.3.1)."""
    secret = Secret(settings.client_secret_file)

    def request(_http: httpx.Client) -> TokenRequest:
        form = {"grant_type": "client_credentials"}
        if settings.scope:
            form["scope"] = settings.scope
        if settings.audience:
            form["audience"] = settings.audience
        if settings.client_authentication == "post":
            form |= {"client_id": settings.client_id, "client_secret": secret.read()}
            return TokenRequest(settings.token_url, form, {})
        pair = httpx.BasicAuth(quote_plus(settings.client_id), quote_plus(secret.read()))
        signed = next(pair.auth_flow(httpx.Request("POST", settings.token_url)))
        return TokenRequest(
            settings.token_url, form, {"Authorization": signed.headers["Authorization"]}
        )

    return request


def backend_services(settings: SmartAuth, base_url: str) -> Grant:
    """Ask with a signed assertion (SMART App Launch 2.2.0, Backend Services; RFC 7523)."""
    # Few sites need the libraries that sign, and they take 10 MB.
    from flute_sync.transport.assertion import assertion  # noqa: PLC0415

    key = Secret(settings.key_file)

    def request(http: httpx.Client) -> TokenRequest:
        url = settings.token_url or _discovered(http, base_url)
        form = {
            "grant_type": "client_credentials",
            "scope": settings.scope,
            "client_assertion_type": _ASSERTION,
            "client_assertion": assertion(settings, key, url),
        }
        return TokenRequest(url, form, {})

    return request


def _discovered(http: httpx.Client, base_url: str) -> str:
    answer = _exchange(
        http, http.build_request("GET", f"{base_url.rstrip('/')}/.well-known/smart-configuration")
    )
    url = _json_object(answer).get("token_endpoint")
    if not answer.is_success or not isinstance(url, str) or not is_private(url):
        raise TokenRefused(
            f"discovery names no https token endpoint (HTTP {answer.status_code}): set token_url"
        )
    return url


class TokenSource:
    """Holds one access token and gets the next.

    Parameters
    ----------
    grant
        Makes the request.
    connect
        Opens the client for the token server; called for each renewal.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        grant: Grant,
        connect: Callable[[], httpx.Client],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._grant = grant
        self._connect = connect
        self._clock = clock
        self._lock = Lock()
        self._token: str | None = None
        self._renew_at = 0.0

    def __repr__(self) -> str:
        return "TokenSource()"

    def held(self) -> str | None:
        """Return the token at hand while it is good for long enough."""
        token, renew_at = self._token, self._renew_at
        return token if token is not None and self._clock() < renew_at else None

    def token(self, *, refused: str | None = None) -> str:
        """Return a usable token.

        Parameters
        ----------
        refused
            A token that the peer just refused: it is not returned again.

        Raises
        ------
        TokenUnavailable
            The token server is down or answers nonsense.
        TokenRefused
            The token server does not accept us.
        SecretUnreadable
            The secret or key cannot be read.
        """
        with self._lock:
            held = self.held()
            if held is not None and held != refused:
                return held
            with self._connect() as http:
                answer = self._ask(http)
            token, seconds = _granted(answer)
            # A quarter of its life, a minute at most, is kept for requests under way.
            self._renew_at = self._clock() + seconds - min(seconds / 4, 60.0)
            self._token = token
            return token

    def _ask(self, http: httpx.Client) -> httpx.Response:
        request = self._grant(http)
        headers = {"Accept": "application/json", **request.headers}
        return _exchange(
            http, http.build_request("POST", request.url, data=request.form, headers=headers)
        )


def _exchange(http: httpx.Client, request: httpx.Request) -> httpx.Response:
    try:
        answer = http.send(request, stream=True)
        try:
            body = bytearray()
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > _LARGEST_BYTES:
                    raise TokenUnavailable("its answer is too large")
        finally:
            answer.close()
    except httpx.HTTPError as error:
        raise TokenUnavailable(what_failed(error)) from None
    if answer.status_code >= 500 or answer.status_code == 429:
        raise TokenUnavailable(
            f"HTTP {answer.status_code}",
            retry_after=retry_after(answer.headers, datetime.now(UTC)),
        )
    return httpx.Response(answer.status_code, content=bytes(body))


def _json_object(answer: httpx.Response) -> Mapping[str, object]:
    try:
        body = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _granted(answer: httpx.Response) -> tuple[str, float]:
    body = _json_object(answer)
    if not answer.is_success:
        said = body.get("error")
        reason = f", {said}" if isinstance(said, str) and said in _REFUSALS else ""
        raise TokenRefused(f"HTTP {answer.status_code}{reason}")
    token, kind = body.get("access_token"), body.get("token_type", "bearer")
    if not isinstance(token, str) or not is_token(token) or str(kind).lower() != "bearer":
        raise TokenUnavailable("its answer holds no bearer token")
    return token, _seconds(body.get("expires_in"))


def _seconds(said: object) -> float:
    try:
        seconds = float(said) if isinstance(said, int | float | str) else _DEFAULT_SECONDS
    except ValueError:
        return _DEFAULT_SECONDS
    return seconds if 0 < seconds < 366 * 86400 else _DEFAULT_SECONDS


def is_token(text: str) -> bool:
    """Tell whether a text may stand in an Authorization header (RFC 6750 2.1)."""
    return bool(text) and all("!" <= character <= "~" for character in text)
