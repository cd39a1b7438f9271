"""Studies by C-FIND, window by window, and one study.

References
----------
PS3.4 C.4.1 and C.6.2 (2026b).
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Final

from flute_sync.archive_errors import (
    ArchiveCapabilityMissing,
    ArchiveRefused,
)
from flute_sync.sources import header_tags as tags
from flute_sync.sources.dicom_json import uid_in
from flute_sync.sources.find_client import Answers
from flute_sync.sources.find_rows import Level
from flute_sync.sources.find_windows import Answer, Found, Window, Windows, asked
from flute_sync.sources.peer import Json
from flute_sync.sources.poller import Stop
from flute_sync.sources.search import Stamp, StudyRow, date_of, digest, hourly, summed_up
from flute_sync.sources.study_poller import Stopped
from flute_sync.study import StudyInstanceUID

_RECENT: Final = timedelta(days=2)


class StudySearch:
    """Searches of one kind.

    Parameters
    ----------
    answers
        Of a session, or of a client.
    match
        What is compared besides the window, by tag.
    """

    def __init__(
        self,
        answers: Answers,
        windows: Windows,
        stop: Stop,
        match: Mapping[int, str] | None = None,
    ) -> None:
        self._answers = answers
        self._windows = windows
        self._stop = stop
        self._match = match or {}

    def through(self, since: date, until: date) -> Iterator[Found]:
        """Yield what there is from one day to another, in order.

        Raises
        ------
        Stopped
            When it was told to stop.
        ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized, ArchiveCapabilityMissing
            As every way to ask.
        """
        return self._windows.through(since, until, self._asked)

    def beyond(self, window: Window) -> Found:
        """Return what an open window holds, as far as the archive tells; see `through`."""
        answer = self._asked(window, None)
        return Found(window, answer.rows, cut=not answer.whole)

    def at_once(self) -> Found:
        """Ask for everything; ``cut`` where that may not be all there is; see `through`."""
        return self._windows.at_once(self._asked)

    def _asked(self, window: Window, most: int | None) -> Answer:
        if self._stop():
            raise Stopped
        try:
            return asked(
                lambda match: self._answers(Level.STUDY, {**match, **self._match}),
                window,
                most,
            )
        except ArchiveRefused as refusal:
            raise ArchiveCapabilityMissing(refusal.detail) from refusal


def study_row(answers: Answers, uid: StudyInstanceUID, at: datetime) -> StudyRow | None:
    """Look one study up; None when the archive says that nothing matches.

    Raises
    ------
    ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized, ArchiveCapabilityMissing
        As every way to ask.
    """
    try:
        found = [
            row
            for row in answers(Level.STUDY, {tags.STUDY_INSTANCE_UID: uid})
            if uid_in(row, tags.STUDY_INSTANCE_UID) == uid
        ]
    except ArchiveRefused as refusal:
        raise ArchiveCapabilityMissing(refusal.detail) from refusal
    return summed_up(uid, distinct(found, at), at, stamp_of(found[0], at)) if found else None


def distinct(rows: Iterable[Json], at: datetime) -> list[Json]:
    """Leave out rows that say the same again: their counts must not be added up."""
    return list({digest(row, at): row for row in rows}.values())


def stamp_of(row: Json, at: datetime) -> Stamp:
    """Return what a study is compared by whose number of instances the archive does not tell.

    One of these days may still be on its way: it is taken for changed every ten minutes, others
    once an hour.
    """
    day = date_of(row)
    is_recent = day is not None and day >= (at - _RECENT).date()
    return _each_ten_minutes if is_recent else hourly


def _each_ten_minutes(_uid: str | None, at: datetime) -> str:
    return f"{at:%Y%m%d%H}{at.minute // 10}"
