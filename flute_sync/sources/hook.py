"""What the HTTP addresses share at which others push news: how they live, answer and refuse."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.sources.http_access import Access
from flute_sync.sources.http_messages import (
    Reply,
    Request,
    respond,
    respond_early,
    status_report,
)
from flute_sync.upload_errors import UploadInterrupted

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusals:
    """How news are refused.

    Parameters
    ----------
    source
        Who refuses, for the log.
    methods
        What is served, for those who ask for something else.
    """

    access: Access
    source: str
    methods: bytes

    def of(self, error: FluteSyncError, request: Request) -> Reply:
        """Say, and log, why news are not taken."""
        reply = status_report(error, request, as_json=True)
        if reply.status == 401:
            reply = reply.with_header(b"www-authenticate", self.access.challenge)
        elif reply.status == 405:
            reply = reply.with_header(b"allow", self.methods)
        log.warning(
            error.sentence,
            extra=fields(
                Event.NOTICE_REFUSED,
                source=self.source,
                status=reply.status,
                code=error.code,
                hint=error.hint,
            ),
        )
        return reply


async def serve(
    scope: Scope,
    receive: Receive,
    send: Send,
    take: Callable[[Request, Receive], Awaitable[Reply]],
    refusals: Refusals,
) -> None:
    """Answer one request, or live as long as the server (ASGI 3.0).

    Parameters
    ----------
    take
        Takes the news and says what is answered; its `FluteSyncError` is answered too.
    """
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["type"] == "http":
        request = Request(scope)
        try:
            reply = await take(request, receive)
        except UploadInterrupted:
            return  # nobody is there to be answered
        except FluteSyncError as error:
            await respond_early(refusals.of(error, request), request, receive, send)
        else:
            await respond(reply, send)


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def mounted(path: str, hook: ASGIApp, rest: ASGIApp | None, *, below: bool = False) -> ASGIApp:
    """Serve a hook at its path, and another application at all others where there is one.

    Parameters
    ----------
    below
        Whether the hook is served also at what is below its path.
    """
    here, under = path.encode(), f"{path}/".encode()

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        asked = Request(scope).raw_path if scope["type"] == "http" else b""
        notified = asked == here or (below and asked.startswith(under))
        await (hook if notified or rest is None else rest)(scope, receive, send)

    return both
