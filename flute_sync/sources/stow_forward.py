"""STOW-RS with the archive behind: an upload is streamed on, and what was taken is recorded.

An upload is framed anew, part by part: nothing of a part is sent on before its header is known,
so that an object whose study nobody could name is kept from the archive, and no sender can show
the archive other parts than it shows us. The last bytes of a study's first part wait until the
intent for that study is committed.
"""

import secrets
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Final

import httpx

from flute_sync.archive_errors import ArchiveServerError, ArchiveUnauthorized, ArchiveUnavailable
from flute_sync.dicom_errors import HeaderTooLarge
from flute_sync.errors import PermanentError
from flute_sync.intake import Noticed, Received, Refused
from flute_sync.sources.http_messages import Reply, Request
from flute_sync.sources.stow_intents import UploadIntent
from flute_sync.sources.stow_parts import Part, Parts, Tally, refused
from flute_sync.sources.stow_response import StoreResponse
from flute_sync.study import StudyInstanceUID
from flute_sync.transport.failure import what_failed

_LARGEST_ANSWER_BYTES: Final = 64 << 20
_LARGEST_HELD_BYTES: Final = 16 << 20
_SMALL_BYTES: Final = 64 << 10
UNAUTHORIZED: Final = frozenset({401, 403, 407})
TELLING: Final = frozenset({200, 202, 400, 409, 413, 415})
"""HTTP statuses that say what became of an upload."""


class NothingForwarded(Exception):
    """No part of the upload could be sent on."""


class Relay:
    """The body as the archive gets it.

    ``forwarded`` is what was sent on, by SOP Instance UID; ``dropped`` what was not. ``ended`` is
    set when the archive was given the whole upload.
    """

    def __init__(self, parts: Parts, intent: UploadIntent, tally: Tally) -> None:
        self._parts = parts
        self._intent = intent
        self._tally = tally
        self._boundary = secrets.token_hex(16)
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._open = False
        self.forwarded: defaultdict[str, set[Received]] = defaultdict(set)
        self.dropped: list[PermanentError] = []
        self.ended = False

    @property
    def content_type(self) -> str:
        """Of the body."""
        return f'multipart/related; type="application/dicom"; boundary={self._boundary}'

    async def stream(self, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield the body; the sender is not read before the first piece is asked for.

        Raises
        ------
        FluteSyncError
            When the upload cannot be taken to its end, or its intent cannot be committed.
        NothingForwarded
            When the upload ends without a part for the archive.
        """
        # One piece lags behind, so that a part's last bytes wait for what its end waits for.
        ready = f"--{self._boundary}".encode()
        async for chunk in body:
            self._tally.bytes += len(chunk)
            out = await self._taken(chunk)
            if out and len(ready) < _SMALL_BYTES:
                ready = b"".join((ready, *out))
            elif out:
                yield ready
                ready = b"".join(out)
        self._parts.close()
        if not self.forwarded:
            raise NothingForwarded
        self.ended = True
        yield ready + b"--\r\n"

    async def _taken(self, chunk: bytes) -> list[bytes]:
        """Return what may be sent on now that a chunk has come."""
        out: list[bytes] = []
        for part, data in self._parts.feed(chunk):
            if data is not None:
                self._pass_on(part, data, out)
            else:
                await self._complete(part, out)
        if not self._intent.pending:
            await self._intent.committed()
        return out

    def _pass_on(self, part: Part, data: bytes, out: list[bytes]) -> None:
        outcome = part.outcome
        self._held.append(data)
        if isinstance(outcome, Received):
            if not self._open:
                self._open = True
                self._intent.begin(outcome.study_instance_uid)
                out.append(b"\r\nContent-Type: " + part.content_type + b"\r\n\r\n")
            out.extend(self._held)
            self._clear()
        elif outcome is not None:
            self._clear()
        else:
            self._held_bytes += len(data)
            if self._held_bytes > _LARGEST_HELD_BYTES:
                part.outcome = HeaderTooLarge("its header does not end")
                self._clear()

    async def _complete(self, part: Part, out: list[bytes]) -> None:
        self._tally.parts += 1
        if isinstance(part.outcome, Received):
            # Where the header was only known at the part's end, all of it is still held.
            self._pass_on(part, b"", out)
            await self._intent.committed()
            out.append(f"\r\n--{self._boundary}".encode())
            self.forwarded[part.outcome.instance.sop_instance_uid].add(part.outcome)
            self._tally.studies.add(part.outcome.study_instance_uid)
        elif part.outcome is not None:
            self._clear()
            self._tally.failed += 1
            self.dropped.append(part.outcome)
        self._open = False

    def _clear(self) -> None:
        self._held.clear()
        self._held_bytes = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an archive's answer means: recorded as it is, or the study must be read."""

    received: tuple[Received, ...] = ()
    doubtful: frozenset[StudyInstanceUID] = field(default_factory=frozenset)
    failed: int = 0


def judge(forwarded: Mapping[str, Set[Received]], response: StoreResponse) -> Judgement:
    """Compare an archive's answer with what it was sent.

    Raises
    ------
    ArchiveServerError
        When the answer speaks of instances that were not sent.
    """
    stored, failed = set(response.stored()), set(response.failed())
    if not (stored | failed) <= forwarded.keys():
        raise ArchiveServerError("its answer to an upload names instances that were not sent")
    received: list[Received] = []
    doubtful: set[StudyInstanceUID] = set()
    for uid, sent in forwarded.items():
        if uid in failed and uid not in stored:
            continue
        if uid in stored and uid not in failed and len(sent) == 1:
            received.extend(sent)
        else:
            doubtful.update(one.study_instance_uid for one in sent)
    return Judgement(tuple(received), frozenset(doubtful), len(failed - stored))


class ForwardedUpload:
    """One upload on its way to the archive.

    Parameters
    ----------
    target
        The archive's address for it.
    public_base
        Where Retrieve URLs of the answer lead.
    """

    def __init__(
        self,
        request: Request,
        parts: Parts,
        intent: UploadIntent,
        client: httpx.AsyncClient,
        tally: Tally,
        *,
        target: httpx.URL,
        public_base: str,
        timeout: httpx.Timeout,
    ) -> None:
        self._request = request
        self._intent = intent
        self._client = client
        self._target = target
        self._base = public_base
        self._timeout = timeout
        self._tally = tally
        self._relay = Relay(parts, intent, tally)

    async def reply(self, body: AsyncIterator[bytes]) -> Reply:
        """Stream the upload on; what the archive took is committed before success is said.

        Raises
        ------
        FluteSyncError
            When the upload did not reach the archive, its answer was lost, or the ledger failed.
        """
        try:
            return await self._settled(await self._exchanged(body))
        except NothingForwarded:
            return await self._all_dropped()
        finally:
            await self._intent.release()

    async def _exchanged(self, body: AsyncIterator[bytes]) -> httpx.Response:
        relay = self._relay
        stream = relay.stream(body)
        return await upload(self._client, self._target, relay.content_type, stream, self._timeout)

    async def _settled(self, response: httpx.Response) -> Reply:
        try:
            answer = StoreResponse.read(response.headers.get("content-type", ""), response.content)
            judgement = judge(self._relay.forwarded, answer)
            if not self._relay.ended:
                raise ArchiveServerError("it answered before it had the whole upload")
        except ArchiveServerError as error:
            await self._intent.release()
            return _passed_through(response, error)
        self._tally.failed += judgement.failed
        await self._intent.close(
            judgement.received,
            tuple(Noticed(study) for study in sorted(judgement.doubtful)),
            self._refused(),
        )
        for dropped in self._relay.dropped:
            answer.add_refused(dropped)
        answer.lead_to(self._base)
        status = 202 if response.status_code == 200 and self._relay.dropped else None
        return answer.reply(status or response.status_code, self._request.representation())

    async def _all_dropped(self) -> Reply:
        if self._refused():
            await self._intent.close((), (), self._refused())
        answer = StoreResponse()
        for dropped in self._relay.dropped:
            answer.add_refused(dropped)
        answer.lead_to(self._base)
        return answer.reply(409, self._request.representation())

    def _refused(self) -> tuple[Refused, ...]:
        return tuple(one for dropped in self._relay.dropped for one in refused(dropped))


def _passed_through(response: httpx.Response, error: ArchiveServerError) -> Reply:
    status = response.status_code
    if status in UNAUTHORIZED:
        raise ArchiveUnauthorized(f"HTTP {status} to an upload")
    if status not in TELLING:
        raise error
    return Reply(status, response.content, response.headers.get("content-type", "text/plain"))


async def upload(
    client: httpx.AsyncClient,
    target: httpx.URL,
    content_type: str,
    body: AsyncGenerator[bytes, None],
    waits: httpx.Timeout,
) -> httpx.Response:
    """Send an upload to an archive, and return its answer.

    Raises
    ------
    ArchiveUnavailable, ArchiveServerError
        When there is no whole answer.
    """
    # Put together by hand: the client's own way costs as much as reading a header.
    request = httpx.Request(
        "POST",
        target,
        content=body,
        headers={
            "User-Agent": client.headers["User-Agent"],
            "Content-Type": content_type,
            "Accept": "application/dicom+json",
            "Accept-Encoding": "identity",
        },
        extensions={"timeout": waits.as_dict()},
    )
    try:
        response = await client.send(request, stream=True)
        try:
            return await _whole(response)
        finally:
            await response.aclose()
    except httpx.HTTPError as error:
        raise ArchiveUnavailable(what_failed(error)) from error
    finally:
        await body.aclose()


async def _whole(response: httpx.Response) -> httpx.Response:
    """Read an answer to its end, where that is not too large."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _LARGEST_ANSWER_BYTES:
            raise ArchiveServerError("its answer to an upload is too large")
    return httpx.Response(
        response.status_code,
        headers={"content-type": response.headers.get("content-type", "")},
        content=bytes(body),
    )
