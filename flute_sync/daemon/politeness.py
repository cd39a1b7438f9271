"""How hard an import may lean on the archive: so many studies a second, in these hours."""

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from flute_sync.hours import covers

_RATE: Final = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)/(s|min|h)")
_UNITS: Final = {
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
}
_WINDOW: Final = re.compile(r"(\d\d:\d\d)-(\d\d:\d\d)")


@dataclass
class Rate:
    """So many studies in a time, evenly: what was taken is paid for before more is.

    Parameters
    ----------
    interval
        How long one study lasts.
    """

    interval: timedelta
    _free_at: datetime | None = None

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read ``5/s``, ``90/min`` or ``1000/h``.

        Raises
        ------
        ValueError
            It is none of these, or none at all.
        """
        found = _RATE.fullmatch(text.strip())
        if found is None or not float(found[1]):
            raise ValueError("a rate is written 5/s, 90/min or 1000/h")
        return cls(_UNITS[found[2]] / float(found[1]))

    @property
    def most_at_once(self) -> int:
        """How many studies last about a second, at least one."""
        return max(1, int(timedelta(seconds=1) / self.interval)) if self.interval else 1

    def spend(self, studies: int, now: datetime) -> None:
        """Take studies."""
        self._free_at = max(self._free_at or now, now) + studies * self.interval

    def wait(self, now: datetime) -> timedelta:
        """Return how long to wait before the next."""
        longest = max((self._free_at or now) - now, timedelta())
        # A clock that was set back must not stop the work for long.
        return min(longest, self.most_at_once * self.interval)


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of the day in which work may be taken up, such as a night.

    Parameters
    ----------
    zone
        In which the hours are meant; None: the machine's.
    """

    start: time
    end: time
    zone: ZoneInfo | None = None

    @classmethod
    def parse(cls, text: str, zone: ZoneInfo | None) -> "Window":
        """Read ``22:00-06:00``.

        Raises
        ------
        ValueError
            It is no such window, or an empty one.
        """
        found = _WINDOW.fullmatch(text.strip())
        problem = "a window is written 22:00-06:00"
        if found is None:
            raise ValueError(problem)
        try:
            start, end = time.fromisoformat(found[1]), time.fromisoformat(found[2])
        except ValueError:
            raise ValueError(problem) from None
        if start == end:
            raise ValueError(problem)
        return cls(start, end, zone)

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"

    def wait(self, now: datetime) -> timedelta:
        """Return how long it is until the window opens; zero while it is open."""
        local = now.astimezone(self.zone)
        at = local.timetz().replace(tzinfo=None)
        if covers(self.start, self.end, at):
            return timedelta()
        day = local.date() if at < self.start else local.date() + timedelta(days=1)
        opens = datetime.combine(day, self.start, local.tzinfo)
        return max(opens - now, timedelta(seconds=1))  # the hour that a change of time leaves out
