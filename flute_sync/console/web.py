"""What monitors ask over HTTP: /live, /ready and /metrics. No page here shows a patient."""

import logging
from collections.abc import Awaitable, Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from flute_sync.console.metrics import Metrics
from flute_sync.daemon.app import Daemon, Readiness
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.sources.http_access import Access

log = logging.getLogger(__name__)


def console_app(daemon: Daemon) -> Starlette:
    """Build the console's HTTP application; it asks for credentials where the settings say so."""
    registry = CollectorRegistry()
    registry.register(Metrics(daemon))
    access = Access(daemon.console_settings.auth)
    return Starlette(
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=_admitted(access))],
        routes=[
            Route("/live", _live),
            Route("/ready", _ready(daemon.readiness)),
            Route("/metrics", _metrics(registry)),
        ],
    )


def _admitted(
    access: Access,
) -> Callable[[Request, RequestResponseEndpoint], Awaitable[Response]]:
    async def dispatch(request: Request, proceed: RequestResponseEndpoint) -> Response:
        given = request.headers.get("Authorization")
        try:
            admitted = access.admits(None if given is None else given.encode("latin-1"))
        except FluteSyncError as error:
            log.error(
                error.sentence,
                extra=fields(Event.HTTP_REFUSED, listener="console", code=error.code),
            )
            return PlainTextResponse(f"{error.code}\n", status_code=503)
        if admitted:
            return await proceed(request)
        log.warning(
            "A request without valid credentials was refused.",
            extra=fields(Event.HTTP_REFUSED, listener="console", status=401),
        )
        challenge = {"WWW-Authenticate": access.challenge.decode("latin-1")}
        return PlainTextResponse("credentials are needed\n", status_code=401, headers=challenge)

    return dispatch


async def _live(_request: Request) -> Response:
    return PlainTextResponse("live\n")


def _ready(readiness: Callable[[], Readiness]) -> Callable[[Request], object]:
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


def _metrics(registry: CollectorRegistry) -> Callable[[Request], object]:
    async def answer(_request: Request) -> Response:
        text = await run_in_threadpool(generate_latest, registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return answer
