"""All studies of an archive by QIDO-RS, in windows of Study Date, and those without a date last.

Windows and not offsets: few servers promise that two pages are cut from one order, and an offset
into an order that changes skips studies, whereas a window holds the same studies whenever it is
asked for. It is made so narrow that one page shows it; what is resumed is a date. Only the studies
without a date, which no window shows, need the whole list by offsets, as does a server that
ignores the Study Date; there a listing that is resumed begins one page earlier.

References
----------
PS3.18 10.6 and 8.3.4 (2026b); PS3.4 C.2.2.2.5 (range matching).
"""

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote

from flute_sync.archive_errors import (
    ArchiveAnswerTooLarge,
    ArchiveCapabilityMissing,
    ArchiveRefused,
)
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.sources import header_tags as tags
from flute_sync.sources.dicom_json import uid_in
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.listing import Choice, Page
from flute_sync.sources.listing_parts import Part, is_in, parts_of
from flute_sync.sources.listing_windows import END, Position, Window, first_window
from flute_sync.sources.peer import Json
from flute_sync.sources.poller import Stop, batches
from flute_sync.sources.search import (
    Stamp,
    StudyRow,
    date_of,
    monthly,
    summed_up,
)
from flute_sync.study import StudyInstanceUID

log = logging.getLogger(__name__)

TOO_MUCH: Final = frozenset({400, 413, 416})
"""How servers refuse a search that finds more than they want to tell."""
_DAY: Final = timedelta(days=1)
_RAW: Final = "*,^-_.~:@!$'()"
"""What Orthanc 1.10 takes only as it is."""


class _DateIgnored(Exception):
    """The server does not heed the Study Date."""


class QidoListing:
    """Lists one archive; see `Listing`.

    Rows of one study that stand in one window come as one.

    Parameters
    ----------
    stamp
        When a study without a number of instances counts as changed.
    """

    def __init__(self, archive: Archive, stamp: Stamp = monthly) -> None:
        self._archive = archive
        self._stamp = stamp
        self._size = archive.settings.page_size
        self._unusable = False

    def count(self, choice: Choice, now: datetime) -> int | None:
        """Return None: QIDO-RS does not count without listing."""

    def pages(
        self,
        choice: Choice,
        resume: str | None,
        now: datetime,
        stop: Stop = lambda: False,
    ) -> Iterator[Page]:
        """Yield what is chosen, the oldest first; see `Listing.pages`.

        A page may be empty. The last one's ``resume`` is `END`, from which nothing follows.
        """
        parts = parts_of(choice)
        position = Position.parse(resume)
        while position.part < len(parts):
            part = parts[position.part]
            for page in self._part(part, choice, position, now, stop):
                yield page
                if stop():
                    return
            position = Position(position.part + 1)
        if resume != END:
            yield Page((), END)

    def _part(
        self, part: Part, choice: Choice, position: Position, now: datetime, stop: Stop
    ) -> Iterator[Page]:
        if position.phase == "dates":
            try:
                yield from self._windows(part, choice, position, now, stop)
            except _DateIgnored:
                position = Position(position.part, "all")
            else:
                if part.patient_id is not None or choice.since or choice.until:
                    return
                position = Position(position.part, "undated")
        yield from self._offsets(part, choice, position, now)

    def _windows(
        self, part: Part, choice: Choice, position: Position, now: datetime, stop: Stop
    ) -> Iterator[Page]:
        window: Window | None = first_window(
            choice, position, now.date() + _DAY, by_date=not part.patient_id
        )
        while window is not None and not stop():
            narrower = window.narrower()
            try:
                rows = self._window(part, choice, window, whole=narrower is None)
            except (ArchiveRefused, ArchiveAnswerTooLarge) as refusal:
                if narrower is None or not _is_too_much(refusal):
                    raise _missing(refusal) from refusal
                rows = None
            if rows is None:
                window = narrower
                continue
            following = window.following(len(rows), self._size // 2)
            here, behind = window.position(position.part), Position(position.part, "undated")
            if following is not None:
                behind = following.position(position.part)
            studies = list(batches(self._summed(rows, now), self._size))
            for number, some in enumerate(studies, start=1):
                yield Page(some, str(behind if number == len(studies) else here))
            window = following

    def _window(
        self, part: Part, choice: Choice, window: Window, *, whole: bool
    ) -> list[Json] | None:
        """Return what a window holds; None where it needs several pages and ``whole`` is false."""
        found: list[Json] = []
        for number, page in enumerate(self._archive.search.rows([*_keys(part), *window.keys])):
            if number and not whole:
                return None
            if window.bounded and any(map(window.is_far, filter(None, map(date_of, page.rows)))):
                raise _DateIgnored
            for row in page.rows:
                day = date_of(row)
                is_own = is_in(choice, day) and not (window.bounded and day is None)
                if is_own and part.takes(row):
                    found.append(row)
        return found

    def _offsets(
        self, part: Part, choice: Choice, position: Position, now: datetime
    ) -> Iterator[Page]:
        undated = position.phase == "undated"
        start = max(position.offset - self._size, 0)
        try:
            for page in self._archive.search.rows(_keys(part), start):
                rows = [
                    row
                    for row in page.rows
                    if part.takes(row)
                    and (date_of(row) is None if undated else is_in(choice, date_of(row)))
                ]
                behind = position._replace(offset=page.offset)
                yield Page(tuple(self._summed(rows, now)), str(behind))
        except ArchiveRefused as refusal:
            raise _missing(refusal) from refusal

    def _summed(self, rows: Iterable[Json], now: datetime) -> Iterator[StudyRow]:
        studies: dict[str, list[Json]] = {}
        for row in rows:
            uid = uid_in(row, tags.STUDY_INSTANCE_UID)
            if uid is None:
                self._remark()
            else:
                studies.setdefault(uid, []).append(row)
        for uid, own in studies.items():
            yield summed_up(StudyInstanceUID(uid), own, now, self._stamp)

    def _remark(self) -> None:
        if self._unusable:
            return
        self._unusable = True
        log.warning(
            "The archive's list holds studies without a usable UID; they are left out.",
            extra=fields(Event.STUDY_REMARK, archive=self._archive.name, tag="(0020,000D)"),
        )


def _keys(part: Part) -> list[str]:
    wanted = {"ModalitiesInStudy": part.modality, "PatientID": part.patient_id}
    return [f"{key}={quote(value, safe=_RAW)}" for key, value in wanted.items() if value]


def _is_too_much(error: FluteSyncError) -> bool:
    return isinstance(error, ArchiveAnswerTooLarge) or (
        isinstance(error, ArchiveRefused) and error.status in TOO_MUCH
    )


def _missing(error: FluteSyncError) -> ArchiveCapabilityMissing:
    return ArchiveCapabilityMissing(f"study search, {error.detail}")
