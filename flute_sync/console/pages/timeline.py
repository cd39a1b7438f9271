"""The study and what it is linked to, on a line of time: numbers for a drawing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

WIDTH: Final = 860
_LEFT: Final = 260
_RIGHT: Final = 20
_TOP: Final = 34
_ROW: Final = 34
_MOST_TICKS: Final = 8
_STEPS: Final = (1, 7, 30, 91, 182, 365, 730, 1826, 3652, 7305, 18262)
_BEFORE: Final = date(1900, 1, 1)
_AFTER: Final = date(2200, 1, 1)
_OPEN: Final = timedelta(days=60)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that took place from one day to another; `date.min` and `date.max`: not known.

    ``below`` is a second line of its label.
    """

    label: str
    below: str
    low: date
    high: date
    title: str
    kind: str = "link"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A mark at its place."""

    mark: Mark
    y: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A day on the axis."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that is drawn, in pixels."""

    width: int
    height: int
    left: int
    ticks: tuple[Tick, ...]
    rows: tuple[Drawn, ...]


def timeline(marks: Sequence[Mark]) -> Timeline | None:
    """Lay marks out, one a row; None where there is no day to show."""
    days = [day for mark in marks for day in (mark.low, mark.high) if _BEFORE < day < _AFTER]
    if not days:
        return None
    first, last = min(days), max(days)
    if any(mark.low <= _BEFORE for mark in marks):
        first -= _OPEN
    if any(mark.high >= _AFTER for mark in marks):
        last += _OPEN
    margin = timedelta(days=max((last - first).days // 20, 3))
    first, last = first - margin, last + margin
    span = (last - first).days
    scale = (WIDTH - _LEFT - _RIGHT) / span

    def place(day: date) -> float:
        return round(_LEFT + (min(max(day, first), last) - first).days * scale, 1)

    rows = tuple(
        Drawn(
            mark, _TOP + index * _ROW, place(mark.low), round(place(mark.high) - place(mark.low), 1)
        )
        for index, mark in enumerate(marks)
    )
    step = next((one for one in _STEPS if span / one <= _MOST_TICKS), _STEPS[-1])
    days_shown = (first + timedelta(days=offset) for offset in range(margin.days, span, step))
    ticks = tuple(Tick(place(day), day.isoformat()) for day in days_shown)
    return Timeline(WIDTH, _TOP + len(rows) * _ROW + 6, _LEFT, ticks, rows)
