"""Variables around an MRI: PSA and digital rectal examination.

An MRI has the closest value before it, or on its day; where there is none, the closest after it,
up to its next biopsy. A value belongs to one MRI: the closest one takes it, and what lies before an
MRI is given away before anything is taken from after another.
"""

from collections.abc import Callable
from datetime import date, timedelta
from typing import NamedTuple

from flute_sync.fhir_dates import Interval, Verdict, plus
from flute_sync.link_case import Candidate, Imaging
from flute_sync.link_place import Dated, Placed, Question, days, undecided

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


class _Phase(NamedTuple):
    """What an MRI may take, and what it takes first: of values before it, or after it."""

    name: str
    window: Callable[[Interval], Window]
    closer: _Closer


def place_around(
    question: Question, around: Around, biopsies: Dated[Candidate]
) -> dict[str, Placed]:
    """Give each MRI a value of its own, as far as the dates let it."""
    return _Shares(question, around).placed(biopsies)


class _Shares:
    def __init__(self, question: Question, around: Around) -> None:
        self._question = question
        self._around = around
        self._values = Dated(question.candidates)
        self._mris = [mri for mri in question.mris if mri.uid not in question.occupied]
        self._settled: dict[str, Placed] = {}
        self._doubts: dict[str, set[str]] = {}
        self._served = set(question.occupied)
        self._unserved: dict[str, bool] = {}  # false: perhaps served, by a value before it

    def placed(self, biopsies: Dated[Candidate]) -> dict[str, Placed]:
        days_before, days_after = self._around.before.days, self._around.after.days
        before = _Phase("before", lambda mri: _before(mri, days_before), _closer_before)
        for mri in self._mris:
            self._share(mri, before)
        after = _Phase("after", lambda mri: _after(mri, days_after, biopsies), _closer_after)
        for mri in reversed(self._mris):
            if mri.uid in self._unserved:
                self._share(mri, after)
        return self._settled | self._left_over()

    def _share(self, mri: Imaging, phase: _Phase) -> None:
        """Let an MRI take the closest of what is in its window, or note that it may take some."""
        window = phase.window(mri.span)
        pool = [
            one
            for one in self._values.of_days(window.first, window.last)
            if one.reference not in self._settled and self._allows(one, mri)
        ]
        if not pool:
            if phase.name == "before":
                self._unserved[mri.uid] = True
            return
        rivals = [
            (other, phase.window(other.span))
            for other in self._question.dated_mris.of_days(mri.span.low, mri.span.high)
            if other is not mri and other.uid not in self._served
        ]
        free = [
            one for one in pool if window.holds(one.span) is _CERTAIN and self._is_free(one, rivals)
        ]
        first = _first(free, pool, phase.closer)
        if first is not None and self._unserved.get(mri.uid, True):
            self._settled[first.reference] = self._said(first, mri, phase.name)
            self._served.add(mri.uid)
            return
        if not free and phase.name == "before":
            self._unserved[mri.uid] = False
        for one in pool:
            if not any(phase.closer(other, one) for other in free):
                self._doubts.setdefault(one.reference, set()).add(mri.uid)

    def _allows(self, one: Candidate, mri: Imaging) -> bool:
        only = self._question.only.get(one.reference)
        return only is None or mri.uid in only

    def _is_free(self, one: Candidate, rivals: list[tuple[Imaging, Window]]) -> bool:
        """Tell whether surely no other MRI takes a value first."""
        if one.reference in self._doubts:
            return False
        return not any(
            window.holds(one.span) is not _CONTRADICTED and self._allows(one, other)
            for other, window in rivals
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

    def _left_over(self) -> dict[str, Placed]:
        """Say of each value that no MRI surely takes why that is so."""
        before, after = self._around.before.days, self._around.after.days
        mris = self._question.dated_mris
        far = f"no MRI of the prostate in the {days(before)} after, or {days(after)} before, it"
        rule = f"time/{self._around.name}"
        found = {}
        for one in self._question.candidates:
            if one.reference in self._settled:
                continue
            if open_to := self._doubts.get(one.reference):
                reason = undecided(one, [mri for mri in self._mris if mri.uid in open_to])
                found[one.reference] = Placed(rule, reason, None, frozenset(open_to))
            elif near := mris.of_days(plus(one.span.low, -after), plus(one.span.high, before)):
                reason = f"another value is taken for {near[-1].words}"
                found[one.reference] = Placed(rule, reason)
            else:
                found[one.reference] = Placed(rule, far)
        return found


def _first(free: list[Candidate], pool: list[Candidate], closer: _Closer) -> Candidate | None:
    """Return the value that is surely free and surely closer than every other, if there is one."""
    if not free:
        return None
    first = pool[0]
    for one in pool[1:]:  # if one is closer than every other, it is found so
        if closer(one, first):
            first = one
    found = first in free and all(other is first or closer(first, other) for other in pool)
    return first if found else None


def _before(mri: Interval, count: int) -> Window:
    early = mri.shifted(-count)
    return Window(early.low, early.high, mri.low, mri.high)


def _after(mri: Interval, count: int, biopsies: Dated[Candidate]) -> Window:
    """Return the window after an MRI, which ends with the next biopsy."""
    late, next_day = mri.shifted(count), mri.shifted(1)
    surely_to, last = late.low, late.high
    for one in biopsies.of_days(mri.low, late.high):
        biopsy = one.span
        order = mri.before(biopsy)
        if order is not _CONTRADICTED:
            surely_to = min(surely_to, biopsy.low)
        if order is _CERTAIN:
            last = min(last, biopsy.high)
    return Window(next_day.low, next_day.high, surely_to, last)


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
