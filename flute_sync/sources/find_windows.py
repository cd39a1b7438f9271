"""Study Date and Time in windows that hold no more than a PACS answers.

An answer that was cut off is not always told from a whole one: some archives refuse a broad query,
some end it early, some stop at a number and say success. A number at which one stops is the same
for every query, so an answer is known to be whole when a longer one came before; any other that is
as long as the longest is asked for again in parts. Below `LEAST_LIMIT` no archive is thought to
stop by itself.

Date and time are compared separately (PS3.4 C.2.2.2.5), so times are asked for within one day only.

References
----------
PS3.4 C.2.2.2.5 (2026b), PS3.5 6.2 (DA, TM).
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple

from flute_sync.archive_errors import ArchiveQueryRefused, ArchiveTooSlow
from flute_sync.sources import header_tags as tags
from flute_sync.sources.peer import Json
from flute_sync.sources.search import text
from flute_sync.valuerep import Unusable, parse_date, parse_time

LEAST_LIMIT: Final = 50
EARLIEST: Final = date(1895, 11, 8)
_LAST_SECOND: Final = 86_399
_HALF_A_DAY: Final = 43_200
_DATE: Final = f"{tags.STUDY_DATE:08X}"
_TIME: Final = f"{tags.STUDY_TIME:08X}"
_MOST_REFUSED: Final = 2
_GROWS_BELOW: Final = 4  # a window is doubled that holds less than this part of what it may


class Window(NamedTuple):
    """Some days, both included; None is open. Or some seconds of one day, both included."""

    since: date | None
    until: date | None
    seconds: tuple[int, int] | None = None

    @property
    def match(self) -> dict[int, str]:
        """The matching keys."""
        since, until = (f"{day:%Y%m%d}" if day else "" for day in (self.since, self.until))
        if not since and not until:
            return {}
        days = since if since == until else f"{since}-{until}"
        if self.seconds is None:
            return {tags.STUDY_DATE: days}
        first, last = map(_clock, self.seconds)
        return {tags.STUDY_DATE: days, tags.STUDY_TIME: f"{first}-{last}.999999"}

    def is_heeded(self, rows: Sequence[Json]) -> bool:
        """Tell whether the window made a difference to an answer, as far as that can be seen."""
        inside = [self.holds(row) for row in rows]
        return False not in inside and True in inside

    def holds(self, row: Json) -> bool | None:
        """Tell whether a row lies within; None where it does not say."""
        day, at = _stated_date(row), _stated_second(row)
        if day is None:
            return None
        if (self.since and day < self.since) or (self.until and day > self.until):
            return False
        if self.seconds is None:
            return True
        return None if at is None else self.seconds[0] <= at <= self.seconds[1]


class Answer(NamedTuple):
    """The rows of a query; not ``whole`` where it was cancelled, or for the ``refusal``."""

    rows: list[Json]
    whole: bool
    refusal: ArchiveQueryRefused | None = None


class Found(NamedTuple):
    """What a window holds.

    ``cut``: the PACS may hold more than could be had. ``unheeded``: these are all it has, of the
    day where the window is one of seconds.
    """

    window: Window
    rows: list[Json]
    cut: bool = False
    unheeded: bool = False


Ask = Callable[[Window, int | None], Answer]
"""Asks for a window; the number is that of answers at which to stop, None for all."""


@dataclass
class Windows:
    """Goes through windows, and remembers how wide they may be and how long answers were.

    Parameters
    ----------
    most
        Answers at which a query over several days is stopped.
    least_limit
        Answers below which none is thought to be cut off, unless by ``most``.
    """

    most: int
    least_limit: int = LEAST_LIMIT
    longest: int = 0
    days: int | None = None
    widest: int = date.max.toordinal()
    _answers: int = field(default=0, init=False)
    _refusal: ArchiveQueryRefused | None = field(default=None, init=False)

    def through(self, since: date, until: date, ask: Ask) -> Iterator[Found]:
        """Yield what there is from one day to another, in order, each day once.

        Where the PACS does not heed the date, all it has comes at once.

        Raises
        ------
        ArchiveQueryRefused
            When not even seconds of two days are answered, and whatever ``ask`` raises.
        """
        tried = 0

        def window(first: int, last: int) -> Window:
            nonlocal tried
            tried = last - first + 1
            return Window(date.fromordinal(first), date.fromordinal(last))

        first, last = since.toordinal(), until.toordinal()
        width, before, self._refusal = self.days or last - first + 1, self._answers, None
        try:
            for found in self._along(first, last, width, self.widest, window, ask):
                if found.cut and not found.unheeded and found.window.since == found.window.until:
                    yield from self._through_day(found, ask)
                else:
                    yield found
                if found.window.until != until:  # the last may be shorter than it could be
                    self.days = _days(found.window)
        except ArchiveTooSlow:
            self.widest = max(1, tried // 2)
            raise
        if self._answers == before:
            self._raise_refusal()

    def _raise_refusal(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def at_once(self, ask: Ask) -> Found:
        """Ask for everything; ``cut`` where that may not be all there is."""
        answer = ask(Window(None, None), self.most)
        return self._judged(Window(None, None), answer)

    def _through_day(self, day: Found, ask: Ask) -> Iterator[Found]:
        """Yield the studies of a day that is too full, those without a time last."""

        def window(first: int, last: int) -> Window:
            return day.window._replace(seconds=(first, last))

        yield from self._along(0, _LAST_SECOND, _HALF_A_DAY, _HALF_A_DAY, window, ask)
        yield Found(day.window, [row for row in day.rows if _stated_second(row) is None])

    def _along(
        self,
        first: int,
        last: int,
        width: int,
        widest: int,
        window: Callable[[int, int], Window],
        ask: Ask,
    ) -> Iterator[Found]:
        """Yield windows side by side, narrower where an answer is cut off, wider where it is short.

        A window that cannot be narrower is yielded as it is. Where two of them were refused and
        nothing was answered, nothing will be.
        """
        before, refused = self._answers, 0
        while first <= last and refused < _MOST_REFUSED:
            width = min(width, widest)
            end = min(first + width - 1, last)
            found = self._asked(window(first, end), ask)
            if found.cut and not found.unheeded and end > first:
                width = (end - first + 1) // 2
                continue
            yield found
            if found.unheeded:
                return
            refused += self._answers == before
            first = end + 1
            if len(found.rows) * _GROWS_BELOW < self.limit:
                width *= 2

    def _asked(self, window: Window, ask: Ask) -> Found:
        answer = ask(window, self.most if window.since != window.until else None)
        found = self._judged(window, answer)
        if not found.cut or not found.rows or window.is_heeded(found.rows):
            return found
        answer = ask(window, None)  # nothing is won by asking for less
        return Found(window, answer.rows, cut=not answer.whole, unheeded=True)

    def _judged(self, window: Window, answer: Answer) -> Found:
        is_whole = answer.whole and len(answer.rows) < self.limit
        self.longest = max(self.longest, len(answer.rows))
        self._refusal = answer.refusal or self._refusal
        if answer.rows or answer.whole:
            self._answers += 1
        return Found(window, answer.rows, cut=not is_whole)

    @property
    def limit(self) -> int:
        """Answers from which on one may have been cut off."""
        return min(self.most, max(self.longest, self.least_limit))


Query = Callable[[dict[int, str]], Generator[Json, None, None]]
"""Asks with matching keys."""


def asked(query: Query, window: Window, most: int | None) -> Answer:
    """Put a query for a window; raises what ``query`` does, but for refusals."""
    rows: list[Json] = []
    with closing(query(window.match)) as answers:
        try:
            for row in answers:
                rows.append(row)
                if most is not None and len(rows) >= most:
                    return Answer(rows, whole=False)
        except ArchiveQueryRefused as refusal:
            return Answer(rows, whole=False, refusal=refusal)
    return Answer(rows, whole=True)


def _days(window: Window) -> int | None:
    if window.since is None or window.until is None:
        return None
    return (window.until - window.since).days + 1


def _clock(second: int) -> str:
    return f"{second // 3600:02}{second // 60 % 60:02}{second % 60:02}"


def _stated_date(row: Json) -> date | None:
    try:
        return parse_date(text(row, _DATE) or "")
    except Unusable:
        return None


def _stated_second(row: Json) -> int | None:
    try:
        at = parse_time(text(row, _TIME) or "")
    except Unusable:
        return None
    return None if at is None else at.hour * 3600 + at.minute * 60 + at.second
