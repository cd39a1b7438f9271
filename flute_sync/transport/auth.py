"""Put credentials on requests: to the configured origin only, and a second time after a 401."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Protocol, assert_never

import httpx

from flute_sync.settings_errors import SecretUnreadable
from flute_sync.transport.credentials import (
    AuthSettings,
    BasicAuth,
    BearerAuth,
    NoAuth,
    OAuth2Auth,
    SmartAuth,
)
from flute_sync.transport.secret import Secret
from flute_sync.transport.tokens import (
    TokenSource,
    backend_services,
    client_credentials,
    is_token,
)


class Credentials(Protocol):
    """Where the value of the Authorization header comes from."""

    def held(self) -> str | None:
        """Return the value if it is at hand without waiting for anybody."""

    def current(self, *, refused: str | None = None) -> str:
        """Return the value; a new one, if there can be one, when the last was refused."""


class _Basic:
    def __init__(self, settings: BasicAuth) -> None:
        self._user = settings.user
        self._password = Secret(settings.password_file)

    def held(self) -> str | None:
        return self.current()

    def current(self, *, refused: str | None = None) -> str:
        pair = httpx.BasicAuth(self._user, self._password.read())
        request = next(pair.auth_flow(httpx.Request("GET", "http://localhost/")))
        return request.headers["Authorization"]


class _Bearer:
    def __init__(self, settings: BearerAuth) -> None:
        self._token = Secret(settings.token_file)

    def held(self) -> str | None:
        return self.current()

    def current(self, *, refused: str | None = None) -> str:
        token = self._token.read().strip()
        if not is_token(token):
            raise SecretUnreadable(f"{self._token.name}: not a bearer token")
        return f"Bearer {token}"


class _Token:
    def __init__(self, source: TokenSource) -> None:
        self._source = source

    def held(self) -> str | None:
        token = self._source.held()
        return None if token is None else f"Bearer {token}"

    def current(self, *, refused: str | None = None) -> str:
        spent = None if refused is None else refused.removeprefix("Bearer ")
        return f"Bearer {self._source.token(refused=spent)}"


def credentials(
    settings: AuthSettings, base_url: str, connect: Callable[[], httpx.Client]
) -> Credentials | None:
    """Return the credentials that the settings describe.

    Parameters
    ----------
    base_url
        Of the peer; SMART discovery starts from it.
    connect
        Opens a client without credentials, for the token server.
    """
    match settings:
        case NoAuth():
            return None
        case BasicAuth():
            return _Basic(settings)
        case BearerAuth():
            return _Bearer(settings)
        case OAuth2Auth():
            return _Token(TokenSource(client_credentials(settings), connect))
        case SmartAuth():
            return _Token(TokenSource(backend_services(settings, base_url), connect))
        case _:
            assert_never(settings)


class OriginAuth(httpx.Auth):
    """Sign requests to one origin; a request that strays elsewhere goes without credentials."""

    def __init__(self, source: Credentials, base_url: str) -> None:
        self._source = source
        self._origin = _origin(httpx.URL(base_url))

    def __repr__(self) -> str:
        return "OriginAuth()"

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign, send, and once more with new credentials if there are any."""
        if _origin(request.url) != self._origin:
            yield request
            return
        repeatable = _repeatable(request)
        used = self._source.current()
        request.headers["Authorization"] = used
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED and repeatable:
            fresh = self._source.current(refused=used)
            if fresh != used:
                request.headers["Authorization"] = fresh
                yield request

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Do the same without blocking the event loop."""
        if _origin(request.url) != self._origin:
            yield request
            return
        repeatable = _repeatable(request)
        held = self._source.held()
        used = await asyncio.to_thread(self._source.current) if held is None else held
        request.headers["Authorization"] = used
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED and repeatable:
            fresh = await asyncio.to_thread(self._source.current, refused=used)
            if fresh != used:
                request.headers["Authorization"] = fresh
                yield request


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, port


def _repeatable(request: httpx.Request) -> bool:
    # A streamed upload is gone once sent: its sender must send it again.
    return isinstance(request.stream, httpx.ByteStream)
