"""Who is admitted to the pages, in each of the four modes; sign-in itself is elsewhere."""

from typing import Final, Protocol
from urllib.parse import urlsplit

from starlette.requests import Request

from flute_sync.console.pages.cookies import SESSION, Cookies
from flute_sync.console.pages.elements import text
from flute_sync.console.pages.sessions import Person, Sessions
from flute_sync.console_errors import PeerRefused, RoleLacking
from flute_sync.daemon.console_settings import ProxySettings
from flute_sync.sources.http_access import is_loopback

_PASSED_ON: Final = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "via",
)
_LONGEST: Final = 256


class Admission(Protocol):
    """Tells who looks at a page."""

    def person(self, request: Request) -> Person | None:
        """Return who it is; None: nobody is signed in.

        Raises
        ------
        PeerRefused, RoleLacking
            Signing in would not help.
        """


class Anybody:
    """Mode ``none``: whoever is at this machine, and comes to it directly.

    A page of another site whose name leads to 127.0.0.1 shows its own name as host; a proxy on this
    machine leaves its traces. Neither is admitted.
    """

    def __init__(self, cookies: Cookies) -> None:
        self._cookies = cookies

    def person(self, request: Request) -> Person | None:
        """Return the same person for all."""
        host = _host(request.headers.get("host", ""))
        peer = request.client.host if request.client else ""
        passed_on = any(name in request.headers for name in _PASSED_ON)
        if passed_on or not is_loopback(host) or not is_loopback(peer):
            raise PeerRefused("console.auth.mode is none, which admits this machine alone")
        return Person("", "this machine", self._cookies.binding(request))


def _host(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


class SignedIn:
    """Modes ``users`` and ``oidc``: who has a session."""

    def __init__(self, sessions: Sessions, cookies: Cookies) -> None:
        self._sessions = sessions
        self._cookies = cookies

    def person(self, request: Request) -> Person | None:
        """Return whose session it is."""
        word = self._cookies.read(request, SESSION)
        return None if word is None else self._sessions.person(word)


class Named:
    """Mode ``proxy``: whom a reverse proxy names, and nobody else."""

    def __init__(self, settings: ProxySettings, cookies: Cookies) -> None:
        self._settings = settings
        self._cookies = cookies

    def person(self, request: Request) -> Person | None:
        """Return whom the headers name."""
        settings = self._settings
        if request.client is None or not settings.believes(request.client.host):
            raise PeerRefused("not from the proxy")
        names = [one.strip() for one in request.headers.getlist(settings.user_header)]
        if len(names) != 1 or not names[0] or len(names[0]) > _LONGEST:
            raise PeerRefused("the proxy names nobody, or several")
        stated = ",".join(request.headers.getlist(settings.role_header)).split(",")
        if settings.role not in {one.strip() for one in stated}:
            raise RoleLacking()
        return Person(_said(names[0]), names[0], self._cookies.binding(request))


def _said(name: str) -> str:
    """Return a name as a person reads it: proxies write headers in UTF-8."""
    try:
        return text(name.encode("latin-1").decode("utf-8"), _LONGEST)
    except UnicodeDecodeError:
        return text(name, _LONGEST)
