"""What monitors ask over HTTP: /live, /ready and /metrics. No page here shows a patient."""

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from flute_sync.console.metrics import Metrics
from flute_sync.daemon.app import Daemon, Readiness


def console_app(daemon: Daemon) -> Starlette:
    """Build the console's HTTP application."""
    registry = CollectorRegistry()
    registry.register(Metrics(daemon))
    return Starlette(
        routes=[
            Route("/live", _live),
            Route("/ready", _ready(daemon.readiness)),
            Route("/metrics", _metrics(registry)),
        ]
    )


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
