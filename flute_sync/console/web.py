"""The console over HTTP: /live, /ready and /metrics for monitors, and pages for people."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from flute_sync.console.metrics import Metrics
from flute_sync.console.pages.site import Site
from flute_sync.daemon.app import Daemon, Readiness
from flute_sync.daemon.console_settings import ConsoleSettings
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.sources.http_access import Access

log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]


def console_app(daemon: Daemon) -> Starlette:
    """Build the console's HTTP application; it asks for credentials where the settings say so.

    Raises
    ------
    SecretUnreadable, UsersUnusable
        When nobody could be admitted.
    """
    registry = CollectorRegistry()
    registry.register(Metrics(daemon))
    settings = daemon.config.console
    site = (
        Site(daemon.config, daemon.ledger, daemon.count_request) if settings.shows_pages else None
    )
    guard = _Guard(settings, site)
    routes: list[BaseRoute] = [
        Route("/live", guard.admitted(_live)),
        Route("/ready", guard.admitted(_ready(daemon.readiness))),
        Route("/metrics", guard.admitted(_metrics(registry))),
    ]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        if site is not None:
            site.close()

    if site is not None:
        routes.append(Mount("/", site.app))
    return Starlette(routes=routes, lifespan=lifespan)


class _Guard:
    """Lets monitors in: by their credentials, or, where none are set, on this machine alone.

    Beyond this machine a person who is signed in may look too.
    """

    def __init__(self, settings: ConsoleSettings, site: Site | None) -> None:
        self._access = Access(settings.auth.machines)
        self._asks_people = settings.auth.method == "none" and not settings.loopback
        self._site = site

    def admitted(self, handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            if self._asks_people:
                is_person = self._site is not None and self._site.person(request) is not None
                return await handler(request) if is_person else _refused(None)
            given = request.headers.get("Authorization")
            try:
                admitted = self._access.admits(None if given is None else given.encode("latin-1"))
            except FluteSyncError as error:
                log.error(
                    error.sentence,
                    extra=fields(Event.HTTP_REFUSED, listener="console", code=error.code),
                )
                return PlainTextResponse(f"{error.code}\n", status_code=503)
            challenge = self._access.challenge.decode("latin-1")
            return await handler(request) if admitted else _refused(challenge)

        return answer


def _refused(challenge: str | None) -> Response:
    log.warning(
        "A request without valid credentials was refused.",
        extra=fields(Event.HTTP_REFUSED, listener="console", status=401),
    )
    headers = {} if challenge is None else {"WWW-Authenticate": challenge}
    return PlainTextResponse("credentials are needed\n", status_code=401, headers=headers)


async def _live(_request: Request) -> Response:
    return PlainTextResponse("live\n")


def _ready(readiness: Callable[[], Readiness]) -> Handler:
    async def answer(_request: Request) -> Response:
        verdict = await run_in_threadpool(readiness)
        return JSONResponse(
            {
                "ready": verdict.ready,
                "problems": list(verdict.problems),
                "warnings": list(verdict.warnings),
            },
            status_code=200 if verdict.ready else 503,
            headers={"Cache-Control": "no-store"},
        )

    return answer


def _metrics(registry: CollectorRegistry) -> Handler:
    async def answer(_request: Request) -> Response:
        text = await run_in_threadpool(generate_latest, registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return answer
