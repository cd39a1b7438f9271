"""What the FHIR server sends when something changed: a hint to look, and nothing more.

Its content is not read. So a forged one, which needs the token, costs a few searches, and a lost
one some seconds: clinical data are looked at every ``links.watch_interval`` in any case.

References
----------
FHIR R4 subscription.html (rest-hook); RFC 6750.
"""

import logging
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Final

from starlette.types import Receive, Scope, Send

from flute_sync.events import Event, fields
from flute_sync.sources.hook import Refusals, serve
from flute_sync.sources.http_access import Access
from flute_sync.sources.http_messages import Reply, Request, body_chunks
from flute_sync.sources.subscription_settings import SubscriptionSettings
from flute_sync.transport.credentials import BearerAuth
from flute_sync.upload_errors import RequestRefused

log = logging.getLogger(__name__)

SOURCE: Final = "subscription"
_METHODS: Final = (b"POST", b"PUT", b"DELETE")
_LARGEST_BYTES: Final = 16 << 20
_PATIENCE: Final = timedelta(seconds=20)


class SubscriptionHook:
    """The application that takes hints.

    Parameters
    ----------
    told
        Called for each of them; it must not block.

    Raises
    ------
    ValueError
        When the settings name no token.
    """

    def __init__(self, settings: SubscriptionSettings, told: Callable[[], None]) -> None:
        if settings.token_file is None:
            raise ValueError("hints are taken with a token alone")
        self._access = Access(BearerAuth(method="bearer", token_file=settings.token_file))
        self._refusals = Refusals(self._access, SOURCE, b", ".join(_METHODS))
        self._told = told
        self._path = settings.path.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live as long as the server (ASGI 3.0)."""
        await serve(scope, receive, send, self._take, self._refusals)

    async def _take(self, request: Request, receive: Receive) -> Reply:
        if not (request.raw_path + b"/").startswith(self._path + b"/"):
            raise RequestRefused("nothing is served at this address", status=404)
        if not self._access.admits(request.headers.get(b"authorization")):
            raise RequestRefused("a valid bearer token is needed", status=401)
        if request.method.encode() not in _METHODS:
            raise RequestRefused("this method is not served", status=405)
        body = body_chunks(receive, largest_bytes=_LARGEST_BYTES, idle=_PATIENCE, longest=_PATIENCE)
        async with aclosing(body) as chunks:
            async for _ in chunks:
                pass  # what is true is read from the server
        self._told()
        log.debug("The FHIR server gave a hint.", extra=fields(Event.NOTICE_TAKEN, source=SOURCE))
        return Reply(200, b"", "text/plain")
