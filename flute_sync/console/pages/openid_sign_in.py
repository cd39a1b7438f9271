"""Signing in at an OpenID provider: the way there, and back."""

import hmac
import secrets
from typing import Any
from urllib.parse import quote, unquote

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from flute_sync.console.pages.cookies import SESSION, WAY
from flute_sync.console.pages.elements import text
from flute_sync.console.pages.sessions import Sessions
from flute_sync.console.pages.shell import Shell, local_path
from flute_sync.console.pages.sign_in import Bounds
from flute_sync.console_errors import OpenIdRefused, RoleLacking
from flute_sync.errors import FluteSyncError
from flute_sync.transport.openid import Attempt, OpenIdProvider
from flute_sync.transport.openid_settings import OpenIdSettings

CALLBACK = "/sign-in/callback"
_AT_ONCE = 8
_LONGEST_CODE = 4096


class OpenIdSignIn:
    """The sign-in of mode ``oidc``."""

    def __init__(
        self,
        shell: Shell,
        sessions: Sessions,
        provider: OpenIdProvider,
        settings: OpenIdSettings,
        bounds: Bounds,
    ) -> None:
        self._shell = shell
        self._sessions = sessions
        self._provider = provider
        self._settings = settings
        self._bounds = bounds
        self._at_once = CapacityLimiter(_AT_ONCE)

    def routes(self) -> list[Route]:
        """Return the addresses."""
        return [
            Route("/sign-in", self._go, methods=["GET"]),
            Route(CALLBACK, self._back, methods=["GET"]),
        ]

    async def _go(self, request: Request) -> Response:
        seed = secrets.token_urlsafe(32)
        attempt = Attempt(seed, self._shell.key)
        address = await to_thread.run_sync(self._provider.address, attempt, limiter=self._at_once)
        response = RedirectResponse(address, status_code=303)
        following = quote(local_path(request.query_params.get("next")), safe="")
        self._shell.cookies.write(response, WAY, f"{seed}.{following}"[:900])
        return response

    async def _back(self, request: Request) -> Response:
        try:
            self._bounds.take(request)
            response = await self._admitted(request)
        except FluteSyncError as error:
            if not isinstance(error, RoleLacking):
                self._shell.audit.refused(error)
            response = self._shell.refusal(request, error)
        else:
            self._bounds.succeeded(request)
        self._shell.cookies.drop(response, WAY)
        return response

    async def _admitted(self, request: Request) -> Response:
        shown = self._shell.cookies.read(request, WAY) or ""
        seed, _, following = shown.partition(".")
        attempt = Attempt(seed, self._shell.key)
        code = _code(request, attempt if seed else None, self._settings.issuer)
        take = self._provider.claims
        claims = await to_thread.run_sync(take, code, attempt, limiter=self._at_once)
        identity = str(claims["sub"])
        if not identity:
            raise OpenIdRefused("the ID token names nobody")
        if not self._settings.admits(claims):
            error = RoleLacking()
            self._shell.audit.refused(error, identity)
            raise error
        name = text(claims.get(self._settings.name_claim), 80) or text(identity, 80)
        self._shell.audit.signed_in(identity)
        self._sessions.end(self._shell.cookies.read(request, SESSION) or "")
        response = RedirectResponse(local_path(unquote(following)), status_code=303)
        self._shell.cookies.write(response, SESSION, self._sessions.begin(name, identity))
        return response


def _code(request: Request, attempt: Attempt | None, issuer: str) -> str:
    given: Any = request.query_params
    state = given.get("state", "")
    if attempt is None or not hmac.compare_digest(state.encode(), attempt.state.encode()):
        raise OpenIdRefused("it answers no sign-in of this browser")
    if given.get("iss", issuer) != issuer:  # RFC 9207 2.4
        raise OpenIdRefused("another issuer answers")
    code: str = given.get("code", "")
    if "error" in given or not 0 < len(code) <= _LONGEST_CODE:
        raise OpenIdRefused("it did not sign the person in")
    return code
