"""A notice that an archive pushes: ``POST /notify/study``.

A notice is a hint. It makes a study known, or due to be looked at; what is true is then read from
the archive. So a forged notice, which needs the token, costs the archive a question and can neither
add nor remove anything.

References
----------
RFC 9110, RFC 6750; CloudEvents HTTP 1.1 Web Hooks for Event Delivery 1.0.2, section 4.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Final

import orjson
from starlette.types import Receive, Scope, Send

from flute_sync.events import Event, fields
from flute_sync.intake import Intake, Notice
from flute_sync.notice_errors import (
    NoticeArchiveUnknown,
    NoticeMediaType,
    NoticeTooLarge,
    NoticeTooSlow,
)
from flute_sync.sources.hook import Refusals, serve
from flute_sync.sources.http_access import Access
from flute_sync.sources.http_messages import (
    Reply,
    Request,
    body_chunks,
)
from flute_sync.sources.multipart import media_type
from flute_sync.sources.notice_rounds import NoticeRounds
from flute_sync.sources.notice_shapes import Message, Told, understand
from flute_sync.sources.webhook_settings import WebhookSettings
from flute_sync.study import StudyInstanceUID
from flute_sync.transport.credentials import BearerAuth
from flute_sync.upload_errors import (
    RequestRefused,
    UploadTooLarge,
    UploadTooSlow,
)

log = logging.getLogger(__name__)

SOURCE: Final = "webhook"
_METHODS: Final = b"OPTIONS, POST"
_LONGEST_ORIGIN: Final = 253


class Webhook:
    """The application that takes notices.

    Parameters
    ----------
    intake
        Where notices are delivered; its methods may block.
    archives
        The names of all archives: a notice that names none is about each of them.

    Raises
    ------
    ValueError
        When the settings name no token, or there is no archive.
    """

    def __init__(self, settings: WebhookSettings, intake: Intake, archives: Sequence[str]) -> None:
        if settings.token_file is None or not archives:
            raise ValueError("a webhook needs a token, and an archive to be told of")
        self._settings = settings
        self._access = Access(BearerAuth(method="bearer", token_file=settings.token_file))
        self._refusals = Refusals(self._access, SOURCE, _METHODS)
        self._archives = tuple(archives)
        self._rounds = NoticeRounds(intake, SOURCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live as long as the server (ASGI 3.0)."""
        await serve(scope, receive, send, self._reply, self._refusals)

    async def _reply(self, request: Request, receive: Receive) -> Reply:
        if request.raw_path != self._settings.path.encode():
            raise RequestRefused("nothing is served at this address", status=404)
        if request.method == "OPTIONS":
            return self._consent(request)
        if not self._access.admits(request.headers.get(b"authorization")):
            raise RequestRefused("a valid bearer token is needed", status=401)
        if request.method != "POST":
            raise RequestRefused("this method is not served", status=405)
        _check_media_type(request)
        message = understand(await self._body(request, receive), self._settings.max_notices)
        if message.validation is not None:
            return _answer(200, {"validationResponse": message.validation})
        return await self._take(message)

    async def _take(self, message: Message) -> Reply:
        notices: dict[str, dict[StudyInstanceUID, Notice]] = {}
        unknown = 0
        for told in message.told:
            archives = self._meant(told)
            unknown += not archives
            for archive in archives:
                notices.setdefault(archive, {})[told.study_instance_uid] = told.notice
        if message.told and not notices:
            raise NoticeArchiveUnknown
        if notices:
            await self._rounds.commit(notices)
        studies = len({uid for told in notices.values() for uid in told})
        refused = message.useless + unknown
        log.log(
            logging.WARNING if refused else logging.DEBUG,
            "A notice was taken.",
            extra=fields(Event.NOTICE_TAKEN, source=SOURCE, studies=studies, failed=refused),
        )
        counts = {"studies": studies, "ignored": message.foreign, "refused": refused}
        return _answer(202, counts)

    def _meant(self, told: Told) -> tuple[str, ...]:
        if told.archive is None:
            return self._archives
        return (told.archive,) if told.archive in self._archives else ()

    async def _body(self, request: Request, receive: Receive) -> bytes:
        settings = self._settings
        if (request.content_length or 0) > settings.max_body_bytes:
            raise NoticeTooLarge
        body = body_chunks(
            receive,
            largest_bytes=settings.max_body_bytes,
            idle=settings.body_timeout,
            longest=settings.body_timeout,
        )
        try:
            async with aclosing(body) as chunks:
                return b"".join([chunk async for chunk in chunks])
        except UploadTooLarge:
            raise NoticeTooLarge from None
        except UploadTooSlow:
            raise NoticeTooSlow from None

    def _consent(self, request: Request) -> Reply:
        """Say whether a sender of CloudEvents may send; no credentials, since nothing is told."""
        reply = Reply(200, b"", "text/plain", ((b"allow", _METHODS),))
        origin = request.headers.get(b"webhook-request-origin", b"")
        if origin.decode("latin-1").lower() in self._settings.allowed_origins:
            reply = reply.with_header(b"webhook-allowed-origin", origin)
            reply = reply.with_header(b"webhook-allowed-rate", b"*")
        return reply


def _check_media_type(request: Request) -> None:
    label = media_type(request.headers.get(b"content-type", b"application/json"))
    coding = request.headers.get(b"content-encoding", b"identity").strip().lower()
    essence = "" if label is None else label.essence
    is_json = essence == "application/json" or essence.endswith("+json")
    if not is_json or coding != b"identity":
        raise NoticeMediaType


def _answer(status: int, content: Mapping[str, object]) -> Reply:
    return Reply(status, orjson.dumps(content), "application/json")
