"""Windows of Study Date, one after the other, as wide as is right for what they hold.

References
----------
PS3.4 C.2.2.2.5 (range matching, open at either end) (2026b).
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final, NamedTuple

from flute_sync.sources.listing import Choice

END: Final = "end"
"""Where a listing stands that is complete."""

_EARLY: Final = date(1990, 1, 1)
"""Before it, what there is fits into one window."""
_EARLIEST: Final = date(1895, 11, 8)
_WIDEST: Final = 3660
_FIRST: Final = 366
_MOST: Final = 10**9


class Position(NamedTuple):
    """Where a listing stands: in which part, and how far in it."""

    part: int = 0
    phase: str = "dates"
    day: date | None = None
    width: int = _FIRST
    offset: int = 0

    @classmethod
    def parse(cls, text: str | None) -> "Position":
        """Read what `__str__` wrote; what cannot be read is the beginning."""
        if text is None:
            return cls()
        if text == END:
            return cls(_MOST)
        try:
            part, phase, *rest = text.split(" ")
            if phase == "dates":
                day, width = rest
                found = cls(int(part), phase, date.fromisoformat(day), int(width))
                return found if 1 <= found.width <= _WIDEST else cls()
            if phase in ("undated", "all"):
                (offset,) = rest
                return cls(int(part), phase, offset=int(offset))
        except (ValueError, TypeError):
            pass
        return cls()

    def __str__(self) -> str:
        if self.phase != "dates":
            return f"{self.part} {self.phase} {self.offset}"
        return f"{self.part} dates {self.day or _EARLIEST} {self.width}"


@dataclass(frozen=True, slots=True)
class Window:
    """Some days; without a first or last one it is open there.

    ``limit`` is the last day that is wanted, None for all; ``today`` where the future begins.
    """

    first: date | None
    last: date | None
    limit: date | None
    today: date
    width: int = _FIRST

    @property
    def bounded(self) -> bool:
        """Whether it bounds anything."""
        return self.first is not None or self.last is not None

    @property
    def keys(self) -> list[str]:
        """The matching key, none where nothing is bounded."""
        if not self.bounded:
            return []
        first, last = (f"{day:%Y%m%d}" if day else "" for day in (self.first, self.last))
        return [f"StudyDate={first}" if first == last else f"StudyDate={first}-{last}"]

    def is_far(self, day: date) -> bool:
        """Tell whether a day is so far outside that the key cannot have been heeded."""
        before = self.first is not None and (self.first - day).days > 1
        return before or (self.last is not None and (day - self.last).days > 1)

    def following(self, rows: int, wanted: int) -> "Window | None":
        """Return the next window, so wide that it may hold as many rows as are wanted."""
        if self.last is None or (self.limit is not None and self.last >= self.limit):
            return None
        width = self.width
        if self.first is not None:
            held = (self.last - self.first).days + 1
            width = min(held * max(wanted, 1) // max(rows, 1), 2 * width, _WIDEST)
        return self.beginning(self.last + timedelta(days=1), max(width, 1))

    def narrower(self) -> "Window | None":
        """Return the first half; None of a single day, or of what dates do not bound."""
        if not self.bounded:
            return None
        first = self.first or _EARLIEST  # the first of all stays open
        if self.last is None:
            last = max(self.today, first)
            return replace(self, last=last, width=(last - first).days + 1)
        half = ((self.last - first).days + 1) // 2
        if half < 1:
            return None
        return replace(self, last=first + timedelta(days=half - 1), width=half)

    def position(self, part: int) -> Position:
        """Say where a listing stands that goes on with this window."""
        return Position(part, "dates", self.first, self.width)

    def beginning(self, first: date, width: int) -> "Window":
        """Return the window of some days from ``first`` on."""
        last = first + timedelta(days=width - 1)
        if self.limit is not None:
            return replace(self, first=first, last=min(last, self.limit), width=width)
        return replace(self, first=first, last=None if last >= self.today else last, width=width)


def first_window(choice: Choice, position: Position, today: date, *, by_date: bool) -> Window:
    """Return where a listing begins, or goes on.

    Parameters
    ----------
    today
        The day from which the last window is open, where the choice has no end.
    by_date
        Whether there is so much that it must be cut; otherwise one window holds it all.
    """
    if not by_date:
        return Window(choice.since, choice.until, choice.until, today)
    begin = Window(None, None, choice.until, today, position.width)
    first = position.day or choice.since
    if choice.since is not None and first is not None:
        first = max(first, choice.since)
    if first is None or first <= _EARLIEST:
        last = _EARLY - timedelta(days=1)
        return replace(begin, last=last if choice.until is None else min(last, choice.until))
    return begin.beginning(first, position.width)
