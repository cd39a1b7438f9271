"""The pages of the console, put together from the settings."""

import secrets
from contextlib import ExitStack
from datetime import timedelta
from importlib.resources import files
from typing import Final

from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from flute_sync.console.pages.admission import Admission, Anybody, Named, SignedIn
from flute_sync.console.pages.audit import Audit, key_of
from flute_sync.console.pages.cookies import Cookies
from flute_sync.console.pages.listing import Listing
from flute_sync.console.pages.pictures import Pictures
from flute_sync.console.pages.sessions import Person, Sessions
from flute_sync.console.pages.shell import Shell, with_headers
from flute_sync.console.pages.sign_in import Bounds, PasswordSignIn, sign_out
from flute_sync.console.pages.study import StudyPage, StudyReader
from flute_sync.console.pages.users import Users
from flute_sync.daemon.config import Config
from flute_sync.daemon.pseudonymity import known_as
from flute_sync.errors import FluteSyncError
from flute_sync.fhir.browsing import StudyBrowser
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.wire import RequestCounter
from flute_sync.ledger import Ledger
from flute_sync.sources.rendered import Renderer

_PATIENCE: Final = timedelta(seconds=20)
_CONNECT: Final = timedelta(seconds=5)
_LARGEST_BYTES: Final = 64 * 1024 * 1024
_AT_ONCE: Final = 6
_ASSETS: Final = {
    "console.css": "text/css",
    "copy.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class Site:
    """All pages; `app` answers for them.

    Parameters
    ----------
    count
        Is told of each request to the FHIR server.

    Raises
    ------
    SecretUnreadable, UsersUnusable
        When people could not sign in, or patients could not be named.
    """

    def __init__(self, config: Config, ledger: Ledger, count: RequestCounter) -> None:
        self._open = ExitStack()
        auth = config.console.auth
        cookies = Cookies(secure=config.console.is_secure)
        self._sessions = Sessions(auth.session_idle, auth.session_longest)
        self._admission = _admission(config, self._sessions, cookies)
        self._shell = Shell(
            self._admission,
            cookies,
            Audit(key_of(config)),
            secrets.token_bytes(32),
        )
        client = self._open.enter_context(_client(config, count))
        browser = StudyBrowser(client, known_as(config))
        at_once = CapacityLimiter(_AT_ONCE)
        self._listing = Listing(self._shell, browser, config.fhir.base_url.rstrip("/"), at_once)
        reader = StudyReader(config, ledger, browser)
        pictures = Pictures(self._renderers(config), self._shell.audit.failed)
        self._study = StudyPage(self._shell, reader, pictures, at_once)
        self.app = Starlette(
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=with_headers)],
            routes=[*self._routes(), *self._sign_in(config)],
            exception_handlers=self._shell.refusals(),
        )
        # It would lead to whatever host the request names, and from https to http behind a proxy.
        self.app.router.redirect_slashes = False

    def close(self) -> None:
        """Close the connections."""
        self._open.close()

    def person(self, request: Request) -> Person | None:
        """Return who is admitted; None where nobody is."""
        try:
            return self._admission.person(request)
        except FluteSyncError:
            return None

    def _routes(self) -> list[Route]:
        admitted, listing, study = self._shell.admitted, self._listing, self._study
        picture = admitted(study.picture, is_page=False)
        return [
            Route("/", _first),
            Route("/assets/{name}", _asset),
            Route("/studies", admitted(listing.show), methods=["GET"]),
            Route("/studies", admitted(listing.search), methods=["POST"]),
            Route("/studies/{id}", admitted(study.show), methods=["GET"]),
            Route("/studies/{id}/pictures/{instance}", picture, methods=["GET"]),
        ]

    def _sign_in(self, config: Config) -> list[Route]:
        auth, bounds = config.console.auth, Bounds(config.console.auth)
        if auth.mode == "users" and auth.users_file is not None:
            users = Users(auth.users_file)
            users.hashes()
            own = PasswordSignIn(self._shell, self._sessions, users, bounds).routes()
            return [*own, sign_out(self._shell, self._sessions, at_provider=False)]
        if auth.mode == "oidc" and auth.oidc is not None:
            # Few sites need the libraries that check signatures, and they take 10 MB.
            from flute_sync.console.pages.openid_sign_in import (  # noqa: PLC0415
                CALLBACK,
                OpenIdSignIn,
            )
            from flute_sync.transport.openid import OpenIdProvider  # noqa: PLC0415

            provider = OpenIdProvider(auth.oidc, config.console.address + CALLBACK)
            self._open.callback(provider.close)
            there = OpenIdSignIn(self._shell, self._sessions, provider, auth.oidc, bounds).routes()
            return [*there, sign_out(self._shell, self._sessions, at_provider=True)]
        return []

    def _renderers(self, config: Config) -> dict[str, Renderer]:
        made = {}
        for entry in config.every_archive:
            if entry.published_url is not None:
                made[entry.name] = Renderer(entry)
                self._open.callback(made[entry.name].close)
        return made


def _admission(config: Config, sessions: Sessions, cookies: Cookies) -> Admission:
    auth = config.console.auth
    if auth.mode == "proxy" and auth.proxy is not None:
        return Named(auth.proxy, cookies)
    return Anybody(cookies) if auth.mode == "none" else SignedIn(sessions, cookies)


def _client(config: Config, count: RequestCounter) -> FhirClient:
    """Open a client of its own: a person waits, and must not keep the work from its connections."""
    settings = config.fhir
    patience = {
        "connect_timeout": min(_CONNECT, settings.connect_timeout),
        "read_timeout": min(_PATIENCE, settings.read_timeout),
        "answer_timeout": min(_PATIENCE, settings.answer_timeout),
        "largest_answer_bytes": min(_LARGEST_BYTES, settings.largest_answer_bytes),
    }
    return FhirClient(settings.model_copy(update=patience), on_request=count)


async def _first(_request: Request) -> Response:
    return RedirectResponse("/studies", status_code=303)


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    media_type = _ASSETS.get(name)
    if media_type is None:
        return Response(status_code=404)
    return Response(_read(name), media_type=media_type)


def _read(name: str) -> bytes:
    return files("flute_sync.console.pages").joinpath("assets", name).read_bytes()
