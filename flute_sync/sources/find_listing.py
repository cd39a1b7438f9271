"""All studies of an archive by C-FIND, in windows of Study Date.

Where there are few they are asked for at once. Otherwise studies without a Study Date are not
found: no window holds them, and no key asks for them alone.

References
----------
PS3.4 C.2.2.2 and C.6.2 (2026b).
"""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from typing import Final

from flute_sync.sources import header_tags as tags
from flute_sync.sources.dicom_json import uid_in
from flute_sync.sources.find_client import FindClient
from flute_sync.sources.find_rows import MODALITIES_IN_STUDY
from flute_sync.sources.find_search import StudySearch, distinct
from flute_sync.sources.find_windows import EARLIEST, Found, Window, Windows
from flute_sync.sources.listing import Choice, Page
from flute_sync.sources.listing_parts import Part, is_in, parts_of
from flute_sync.sources.listing_windows import END
from flute_sync.sources.peer import Json
from flute_sync.sources.poller import Stop
from flute_sync.sources.search import StudyRow, date_of, monthly, summed_up
from flute_sync.sources.study_poller import Stopped
from flute_sync.study import StudyInstanceUID

_DAY: Final = timedelta(days=1)
_FIRST_DAYS: Final = 366


class FindListing:
    """Lists one archive; see `Listing`.

    Rows of one study that stand in one window come as one.
    """

    def __init__(self, client: FindClient) -> None:
        self._client = client

    def count(self, choice: Choice, now: datetime) -> int | None:
        """Return None: C-FIND does not count without listing."""

    def pages(
        self,
        choice: Choice,
        resume: str | None,
        now: datetime,
        stop: Stop = lambda: False,
    ) -> Iterator[Page]:
        """Yield what is chosen, the oldest first; see `Listing.pages`.

        A page may be empty. What is resumed is a day: one that was left in the middle is listed
        again. The last page's ``resume`` is `END`, from which nothing follows.
        """
        if resume == END:
            return
        begun, day = _position(resume)
        try:
            for number, part in enumerate(parts_of(choice)[begun:], start=begun):
                # Each query has an association of its own: pages may be hours apart.
                windows = Windows(self._client.settings.max_answers, days=_FIRST_DAYS)
                search = StudySearch(self._client.answers, windows, stop, _match(part))
                for rows, behind in _through(search, choice, day, (now + _DAY).date()):
                    own = (row for row in rows if part.takes(row) and is_in(choice, date_of(row)))
                    yield Page(tuple(_summed(own, now)), f"{number} {behind}")
                    if stop():
                        return
                day = None
        except Stopped:
            return
        yield Page((), END)


def _through(
    search: StudySearch, choice: Choice, day: date | None, tomorrow: date
) -> Iterator[tuple[list[Json], date]]:
    """Yield rows, and the day on which a listing goes on after them."""
    if day is None and choice.since is None and choice.until is None:
        found = search.at_once()
        if not found.cut:
            yield found.rows, date.max
            return
        yield [row for row in found.rows if date_of(row) is None], EARLIEST
    first = max(day or EARLIEST, choice.since or EARLIEST)
    last = tomorrow if choice.until is None else choice.until
    if first <= last:
        for found in search.through(first, last):
            if found.unheeded and found.window.seconds is None:
                yield found.rows, date.max
                return
            end = found.window.until or last
            yield _within(found), end if found.window.seconds is not None else end + _DAY
    if choice.until is None and first < date.max:
        yield _within(search.beyond(Window(max(first, tomorrow + _DAY), None))), date.max


def _within(found: Found) -> list[Json]:
    """Leave out what belongs to other windows, so that it does not come twice."""
    return [row for row in found.rows if found.window.holds(row) is not False]


def _match(part: Part) -> dict[int, str]:
    keys = {MODALITIES_IN_STUDY: part.modality, tags.PATIENT_ID: part.patient_id}
    return {tag: value for tag, value in keys.items() if value}


def _position(resume: str | None) -> tuple[int, date | None]:
    """Read where a listing stood; what cannot be read is the beginning."""
    try:
        number, day = (resume or "").split(" ")
        return max(int(number), 0), date.fromisoformat(day)
    except ValueError:
        return 0, None


def _summed(rows: Iterable[Json], now: datetime) -> Iterator[StudyRow]:
    studies: dict[str, list[Json]] = {}
    for row in rows:
        uid = uid_in(row, tags.STUDY_INSTANCE_UID)
        if uid is not None:
            studies.setdefault(uid, []).append(row)
    for uid, own in studies.items():
        yield summed_up(StudyInstanceUID(uid), distinct(own, now), now, monthly)
