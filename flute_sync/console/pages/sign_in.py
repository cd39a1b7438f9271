"""Signing in by a password, and signing out.

References
----------
OWASP ASVS 5.0 V6.3 (attempts), V7.4 (sessions)
"""

from typing import Final

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from flute_sync.console.pages.attempts import Attempts, network_of
from flute_sync.console.pages.cookies import FORM, SESSION
from flute_sync.console.pages.sessions import Person, Sessions
from flute_sync.console.pages.shell import Shell, local_path
from flute_sync.console.pages.users import LONGEST, NAME, Users
from flute_sync.console_errors import SignInLimited, SignInRefused
from flute_sync.daemon.console_settings import ConsoleAuth
from flute_sync.errors import FluteSyncError

_AT_ONCE: Final = 2


class Bounds:
    """How often signing in may fail, by name and by address."""

    def __init__(self, settings: ConsoleAuth) -> None:
        window = settings.attempts_window
        self._names = Attempts(settings.attempts_per_user, window)
        self._addresses = Attempts(settings.attempts_per_address, window)

    def take(self, request: Request, name: str | None = None) -> None:
        """Count an attempt.

        Raises
        ------
        SignInLimited
        """
        wait = self._addresses.take(_address(request))
        if wait is None and name is not None:
            wait = self._names.take(name)
        if wait is not None:
            raise SignInLimited(retry_after=wait)

    def succeeded(self, request: Request, name: str | None = None) -> None:
        """Forget an attempt that turned out well, and the earlier ones under its name."""
        self._addresses.give_back(_address(request))
        if name is not None:
            self._names.forget(name)


def _address(request: Request) -> str:
    return network_of(request.client.host if request.client else "")


class PasswordSignIn:
    """The sign-in of mode ``users``."""

    def __init__(self, shell: Shell, sessions: Sessions, users: Users, bounds: Bounds) -> None:
        self._shell = shell
        self._sessions = sessions
        self._users = users
        self._bounds = bounds
        # Each takes 64 MiB for a moment.
        self._at_once = CapacityLimiter(_AT_ONCE)

    def routes(self) -> list[Route]:
        """Return the addresses."""
        return [
            Route("/sign-in", self._ask, methods=["GET"]),
            Route("/sign-in", self._take, methods=["POST"]),
        ]

    async def _ask(self, request: Request) -> Response:
        return self._form(request, local_path(request.query_params.get("next")))

    def _form(
        self, request: Request, following: str, error: FluteSyncError | None = None
    ) -> Response:
        status = 200 if error is None else error.http_status
        shown = {"following": following, "error": error}
        response = self._shell.page(request, "sign_in.html", None, status, **shown)
        if error is not None and error.retry_after is not None:
            response.headers["Retry-After"] = str(max(int(error.retry_after.total_seconds()), 1))
        return response

    async def _take(self, request: Request) -> Response:
        given = await self._shell.form(request, None)
        following = local_path(given.get("next"))
        name, password = given.get("name", "").strip(), given.get("password", "")
        try:
            word = await self._verified(request, name, password)
        except (SignInLimited, SignInRefused) as error:
            self._shell.audit.refused(error, name)
            return self._form(request, following, error)
        self._shell.audit.signed_in(name)
        self._sessions.end(self._shell.cookies.read(request, SESSION) or "")
        response = RedirectResponse(following, status_code=303)
        self._shell.cookies.write(response, SESSION, word)
        self._shell.cookies.drop(response, FORM)
        return response

    async def _verified(self, request: Request, name: str, password: str) -> str:
        self._bounds.take(request, name)
        if not NAME.fullmatch(name) or not 0 < len(password) <= LONGEST:
            raise SignInRefused()
        verify, users = self._users.verified, self._users
        hashed = await to_thread.run_sync(verify, name, password, limiter=self._at_once)
        if hashed is None:
            raise SignInRefused()
        self._bounds.succeeded(request, name)
        return self._sessions.begin(name, name, lambda: users.hashes().get(name) == hashed)


def sign_out(shell: Shell, sessions: Sessions, *, at_provider: bool) -> Route:
    """Return the address at which a session is ended.

    Parameters
    ----------
    at_provider
        Whether people are signed in elsewhere, too, and stay so.
    """

    async def take(request: Request) -> Response:
        person: Person | None = shell.admission.person(request)
        if person is not None:
            await shell.form(request, person)
            sessions.end(person.binding)
            shell.audit.signed_out(person.identity)
        response = shell.page(request, "signed_out.html", None, at_provider=at_provider)
        shell.cookies.drop(response, SESSION)
        return response

    return Route("/sign-out", take, methods=["POST"])
