"""Variables around an MRI: PSA and digital rectal examination.

An MRI has the closest value before it, or on its day; where there is none, the closest after it,
up to its next biopsy. A value belongs to one MRI: the closest one takes it, and what lies before an
MRI is given away before anything is taken from after another.
"""

from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import NamedTuple

from flute_sync.fhir_dates import Interval, Verdict
from flute_sync.link_case import Candidate, Imaging
from flute_sync.link_place import Placed, Question, days, undecided

_CERTAIN, _POSSIBLE, _CONTRADICTED = Verdict.CERTAIN, Verdict.POSSIBLE, Verdict.CONTRADICTED
_Closer = Callable[[Candidate, Candidate], bool]


class Window(NamedTuple):
    """The days of an MRI's values: none before ``first`` or after ``last``, surely all between."""

    first: date
    surely_from: date
    surely_to: date
    last: date

    def holds(self, day: Interval) -> Verdict:
        """Tell whether a day is in the window."""
        if day.high < self.first or day.low > self.last:
            return _CONTRADICTED
        sure = day.low >= self.surely_from and day.high <= self.surely_to
        return _CERTAIN if sure else _POSSIBLE


class Around(NamedTuple):
    """How far around an MRI a kind may lie, and the name of its rules."""

    name: str
    before: timedelta
    after: timedelta


def place_around(
    question: Question, around: Around, biopsies: Iterable[Candidate]
) -> dict[str, Placed]:
    """Give each MRI a value of its own, as far as the dates let it."""
    return _Shares(question, around, [one.span for one in biopsies if one.day]).placed()


class _Shares:
    def __init__(self, question: Question, around: Around, biopsies: list[Interval]) -> None:
        self._question = question
        self._around = around
        self._values = [
            (one, one.day.low, one.day.high) for one in question.candidates if one.day is not None
        ]
        self._mris = [mri for mri in question.mris if mri.uid not in question.occupied]
        self._before = {mri.uid: _before(mri.span, around.before.days) for mri in self._mris}
        self._after = {mri.uid: _after(mri.span, around.after.days, biopsies) for mri in self._mris}
        self._unordered = {
            mri.uid: [
                other for other in self._mris if _overlap(other.span, mri.span) and other is not mri
            ]
            for mri in self._mris
        }
        self._near = [
            (mri, _near(mri.span, around.before.days, around.after.days)) for mri in question.mris
        ]
        self._settled: dict[str, Placed] = {}
        self._doubts: dict[str, set[str]] = {}
        self._served: set[str] = set()
        self._unserved: dict[str, bool] = {}  # false: perhaps served, by a value before it

    def placed(self) -> dict[str, Placed]:
        for mri in self._mris:
            self._share(mri, self._before, "before", _closer_before)
        for mri in reversed(self._mris):
            if mri.uid in self._unserved:
                self._share(mri, self._after, "after", _closer_after)
        left = (one for one, _, _ in self._values if one.reference not in self._settled)
        return self._settled | {one.reference: self._left_over(one) for one in left}

    def _share(self, mri: Imaging, windows: dict[str, Window], phase: str, closer: _Closer) -> None:
        """Let an MRI take the closest of what is in its window, or note that it may take some."""
        window = windows[mri.uid]
        first_day, _, _, last_day = window
        pool = [
            one
            for one, low, high in self._values
            if low <= last_day
            and high >= first_day
            and one.reference not in self._settled
            and self._allows(one, mri)
        ]
        if not pool:
            if phase == "before":
                self._unserved[mri.uid] = True
            return
        free = [
            one
            for one in pool
            if window.holds(one.span) is _CERTAIN and self._is_free(one, mri, windows)
        ]
        first = _first(free, pool, closer)
        if first is not None and self._unserved.get(mri.uid, True):
            self._settled[first.reference] = self._said(first, mri, phase)
            self._served.add(mri.uid)
            return
        if not free and phase == "before":
            self._unserved[mri.uid] = False
        for one in pool:
            if not any(closer(other, one) for other in free):
                self._doubts.setdefault(one.reference, set()).add(mri.uid)

    def _allows(self, one: Candidate, mri: Imaging) -> bool:
        only = self._question.only.get(one.reference)
        return only is None or mri.uid in only

    def _is_free(self, one: Candidate, mri: Imaging, windows: dict[str, Window]) -> bool:
        """Tell whether surely no other MRI takes a value before this one does."""
        return one.reference not in self._doubts and not any(
            other.uid not in self._served
            and windows[other.uid].holds(one.span) is not _CONTRADICTED
            and self._allows(one, other)
            for other in self._unordered[mri.uid]
        )

    def _said(self, one: Candidate, mri: Imaging, phase: str) -> Placed:
        rule = f"time/{self._around.name}-{phase}"
        if phase == "before":
            count = (mri.span.low - one.span.high).days
            where = f"{days(count)} before" if count else "on the day of"
            reason = f"the closest before it, {where} {mri.words}"
        else:
            count = (one.span.low - mri.span.high).days
            reason = f"after-MRI: none before it, this is {days(count)} after {mri.words}"
        return Placed(rule, reason, mri.uid)

    def _left_over(self, one: Candidate) -> Placed:
        rule = f"time/{self._around.name}"
        open_to = self._doubts.get(one.reference)
        if open_to:
            mris = [mri for mri in self._mris if mri.uid in open_to]
            return Placed(rule, undecided(one, mris), None, frozenset(open_to))
        before, after = self._around.before.days, self._around.after.days
        low, high = one.span.low, one.span.high
        for mri, window in self._near:
            if high >= window.first and low <= window.last:
                return Placed(rule, f"another value is taken for {mri.words}")
        reason = f"no MRI of the prostate in the {days(before)} after, or {days(after)} before, it"
        return Placed(rule, reason)


def _first(free: list[Candidate], pool: list[Candidate], closer: _Closer) -> Candidate | None:
    """Return the value that is surely free and surely closer than every other, if there is one."""
    if not free:
        return None
    first = pool[0]
    for one in pool:  # if one is closer than every other, it is found so
        if closer(one, first):
            first = one
    found = first in free and all(other is first or closer(first, other) for other in pool)
    return first if found else None


def _before(mri: Interval, count: int) -> Window:
    early = mri.shifted(-count)
    return Window(early.low, early.high, mri.low, mri.high)


def _after(mri: Interval, count: int, biopsies: list[Interval]) -> Window:
    """Return the window after an MRI, which ends with the next biopsy."""
    late, next_day = mri.shifted(count), mri.shifted(1)
    surely_to, last = late.low, late.high
    for biopsy in biopsies:
        if biopsy.high < mri.low or biopsy.low > late.high:
            continue
        order = mri.before(biopsy)
        if order is not _CONTRADICTED:
            surely_to = min(surely_to, biopsy.low)
        if order is _CERTAIN:
            last = min(last, biopsy.high)
    return Window(next_day.low, next_day.high, surely_to, last)


def _near(mri: Interval, before: int, after: int) -> Window:
    early, late = mri.shifted(-before), mri.shifted(after)
    return Window(early.low, early.high, late.low, late.high)


def _overlap(one: Interval, other: Interval) -> bool:
    return one.low <= other.high and other.low <= one.high


def _closer_before(one: Candidate, other: Candidate) -> bool:
    """Tell whether one is surely the later of two; of one day, the tie decides."""
    a, b = one.span, other.span
    if a.low == a.high == b.low == b.high:
        return one.tie > other.tie
    return a.low > b.high


def _closer_after(one: Candidate, other: Candidate) -> bool:
    a, b = one.span, other.span
    if a.low == a.high == b.low == b.high:
        return one.tie > other.tie
    return a.high < b.low
