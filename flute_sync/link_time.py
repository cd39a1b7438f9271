"""Links by time: which MRI a variable belongs to, by windows over intervals of days.

Each kind has its own rule. All of them give a variable to one MRI at most, and where dates leave a
doubt they say so instead of choosing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Final, NamedTuple

from flute_sync.fhir_dates import Interval, Verdict, add_months
from flute_sync.flute_variables import Kind
from flute_sync.link_case import Candidate, Case, Imaging

_CERTAIN, _POSSIBLE, _CONTRADICTED = Verdict.CERTAIN, Verdict.POSSIBLE, Verdict.CONTRADICTED
_AMENDED: Final = frozenset({"amended", "corrected"})


class Placed(NamedTuple):
    """The MRI that the rule gives a candidate to, if any, how sure that is, and why."""

    study: Imaging | None
    verdict: Verdict
    rule: str
    reason: str


class Dated(NamedTuple):
    """An MRI with the day on which it began."""

    study: Imaging
    day: Interval


class Timed(NamedTuple):
    """A candidate with its date."""

    one: Candidate
    day: Interval

    @property
    def reference(self) -> str:
        """The candidate's."""
        return self.one.reference

    @property
    def tie(self) -> tuple[str, str, str]:
        """Later time, then higher version, then id: which of several of one day is taken."""
        instant = self.day.instant.isoformat() if self.day.instant else ""
        meta = self.one.resource.get("meta")
        version = str(meta.get("versionId", "")) if isinstance(meta, dict) else ""
        return (instant, version.zfill(12), self.reference)

    @property
    def recency(self) -> tuple[date, date, str, str, str]:
        """By which the later of two is told."""
        return (self.day.low, self.day.high, *self.tie)


class TimeLinks:
    """Places the dated candidates of one patient.

    Parameters
    ----------
    candidates
        Those that nothing better than their dates places.
    biopsies
        All biopsies of the patient.
    placed
        Reference of a biopsy -> the study that it is linked to.
    """

    def __init__(
        self,
        case: Case,
        candidates: Iterable[Candidate],
        biopsies: Iterable[Candidate],
        placed: Mapping[str, Imaging],
    ) -> None:
        self._settings = case.settings
        self._case = case
        self._mris = sorted(
            (Dated(study, study.day) for study in case.mris if study.day is not None),
            key=lambda one: (one.day.low, one.day.high, one.study.uid),
        )
        self._undated = len(self._mris) < len(case.mris)
        self._biopsies = _timed(biopsies)
        self._placed = placed
        self._candidates = _timed(candidates)

    def _of(self, kind: Kind) -> list[Timed]:
        return [timed for timed in self._candidates if timed.one.kind is kind]

    def biopsies(self) -> dict[str, Placed]:
        """Return for each biopsy what became of it; outcomes are placed after them."""
        return self._each(Kind.BIOPSY, self._biopsy)

    def others(self) -> dict[str, Placed]:
        """Return for each candidate of the other kinds what became of it."""
        found: dict[str, Placed] = {}
        for kind in (Kind.PI_RADS, Kind.VOLUME):
            found |= self._each(kind, self._of_report)
        found |= self._each(Kind.OUTCOME, self._outcome)
        for kind, before, after in (
            (Kind.PSA, self._settings.psa_before, self._settings.psa_after),
            (Kind.DRE, self._settings.dre_before, self._settings.dre_after),
        ):
            found |= self._around(kind, before, after)
        return found

    def _each(self, kind: Kind, rule: Callable[[Interval], Placed]) -> dict[str, Placed]:
        """Place each candidate of a kind, then leave to each MRI the one that is its own."""
        placed = {timed.reference: rule(timed.day) for timed in self._of(kind)}
        rivals: dict[str, list[Timed]] = {}
        for timed in self._of(kind):
            place = placed[timed.reference]
            if place.study is not None and place.verdict is _CERTAIN:
                rivals.setdefault(place.study.uid, []).append(timed)
        for group in rivals.values():
            first = _chosen(kind, group)
            for timed in group:
                if timed is not first and kind is not Kind.OUTCOME:
                    rule_name = placed[timed.reference].rule
                    reason = f"{first.reference} of {first.day} is that MRI's own"
                    placed[timed.reference] = Placed(None, _CONTRADICTED, rule_name, reason)
        return placed

    # -- the latest MRI before ------------------------------------------------------------------

    def _of_report(self, day: Interval) -> Placed:
        """A score or a volume is read off the latest prostate MRI, some weeks later at most."""
        rule = "time/after-mri"
        window = self._settings.report_after.days
        return self._latest(
            day, rule, lambda mri: day.within(mri, mri.shifted(window)), f"{window} days"
        )

    def _biopsy(self, day: Interval) -> Placed:
        """A biopsy follows the latest prostate MRI before it, of the year before at most."""
        rule = "time/biopsy"
        months = self._settings.biopsy_after_months

        def follows(mri: Interval) -> Verdict:
            earliest = Interval(add_months(day.low, -months), add_months(day.high, -months))
            return _worse(mri.within(earliest, day), _before(mri, day))

        return self._latest(day, rule, follows, f"{months} months")

    def _latest(
        self, day: Interval, rule: str, verdict: Callable[[Interval], Verdict], window: str
    ) -> Placed:
        if self._undated:
            return Placed(None, _POSSIBLE, rule, "an MRI of this patient has no date")
        possible = [one for one in self._mris if one.day.low <= day.high]
        if not possible:
            return Placed(None, _CONTRADICTED, rule, f"no MRI of the prostate precedes {day}")
        last = possible[-1]
        rivals = [one for one in possible[:-1] if one.day.high >= last.day.low]
        sure = verdict(last.day)
        if sure is _CONTRADICTED and not rivals:
            reason = f"the MRI of {last.day} is not in the {window} before {day}"
            return Placed(None, _CONTRADICTED, rule, reason)
        if rivals or sure is not _CERTAIN:
            named = " and ".join(str(one.day) for one in (*rivals, last))
            return Placed(
                last.study, _POSSIBLE, rule, f"the dates {named} and {day} do not settle it"
            )
        days = (day.low - last.day.high).days
        return Placed(last.study, _CERTAIN, rule, f"{days} days after the MRI of {last.day}")

    # -- by the biopsy ----------------------------------------------------------------------

    def _outcome(self, day: Interval) -> Placed:
        """An ISUP grade belongs where its biopsy does: the last one before it."""
        rule = "time/outcome"
        window = self._settings.outcome_after.days
        near = [
            biopsy
            for biopsy in self._biopsies
            if day.within(biopsy.day, biopsy.day.shifted(window)) is not _CONTRADICTED
        ]
        if not near:
            return Placed(None, _CONTRADICTED, rule, f"no biopsy in the {window} days before {day}")
        last = max(near, key=lambda biopsy: biopsy.recency)
        sure = day.within(last.day, last.day.shifted(window)) is _CERTAIN and all(
            other.day.high < last.day.low for other in near if other is not last
        )
        if not sure:
            study = self._placed.get(last.reference)
            return Placed(study, _POSSIBLE, rule, f"more than one biopsy may precede {day}")
        study = self._placed.get(last.reference)
        if study is None:
            reason = f"its biopsy {last.reference} belongs to no MRI"
            return Placed(None, _CONTRADICTED, rule, reason)
        return Placed(study, _CERTAIN, rule, f"with its biopsy {last.reference}")

    # -- around -----------------------------------------------------------------------------

    def _around(self, kind: Kind, before: timedelta, after: timedelta) -> dict[str, Placed]:
        """Give each MRI the closest value before it, else the closest after it."""
        name = {Kind.PSA: "psa", Kind.DRE: "dre"}[kind]
        values = self._of(kind)
        if self._undated:
            reason = "an MRI of this patient has no date"
            return {
                timed.reference: Placed(None, _POSSIBLE, f"time/{name}", reason) for timed in values
            }
        found: dict[str, Placed] = {}
        unserved: list[Dated] = []
        for mri in self._mris:
            free = [timed for timed in values if timed.reference not in found]
            near = [timed for timed in free if self._is_before(timed.day, mri, before.days)]
            if near:
                last = max(near, key=lambda timed: timed.recency)
                gap = (mri.day.low - last.day.high).days
                reason = f"the closest before the MRI of {mri.day}, by {gap} days"
                found[last.reference] = Placed(mri.study, _CERTAIN, f"time/{name}-before", reason)
            else:
                unserved.append(mri)
        for mri in unserved:
            free = [timed for timed in values if timed.reference not in found]
            near = [timed for timed in free if self._is_after(timed.day, mri, after.days)]
            if near:
                first = min(near, key=lambda timed: (timed.day.low, timed.day.high, *timed.tie))
                gap = (first.day.low - mri.day.high).days
                reason = f"after-MRI: {gap} days after the MRI of {mri.day}"
                found[first.reference] = Placed(mri.study, _CERTAIN, f"time/{name}-after", reason)
        left = [timed for timed in values if timed.reference not in found]
        return found | {
            timed.reference: self._left_over(timed.day, f"time/{name}", before, after)
            for timed in left
        }

    def _is_before(self, day: Interval, mri: Dated, days: int) -> bool:
        """Tell whether a value is surely of the time before an MRI, and of no earlier one's."""
        earlier = [other for other in self._mris if other.day.high < mri.day.low]
        return day.within(mri.day.shifted(-days), mri.day) is _CERTAIN and not any(
            day.high <= other.day.low for other in earlier
        )

    def _is_after(self, day: Interval, mri: Dated, days: int) -> bool:
        """Tell whether a value surely follows an MRI, before its biopsy and before the next MRI."""
        limit = self._next_biopsy(mri.day)
        return (
            day.low > mri.day.high
            and day.within(mri.day, mri.day.shifted(days)) is _CERTAIN
            and (limit is None or day.high <= limit)
            and not any(mri.day.high < other.day.low < day.high for other in self._mris)
        )

    def _next_biopsy(self, mri: Interval) -> date | None:
        """Return the first day on which the next biopsy may have been, if there is one."""
        days = [biopsy.day.low for biopsy in self._biopsies if biopsy.day.low > mri.high]
        return min(days, default=None)

    def _left_over(self, day: Interval, rule: str, before: timedelta, after: timedelta) -> Placed:
        verdicts = [
            (mri, day.within(mri.day.shifted(-before.days), mri.day.shifted(after.days)))
            for mri in self._mris
        ]
        for mri, verdict in verdicts:
            if verdict is _CERTAIN:
                reason = f"another value is closer to the MRI of {mri.day}"
                return Placed(None, _CONTRADICTED, rule, reason)
        for mri, verdict in verdicts:
            if verdict is _POSSIBLE:
                reason = f"the dates {mri.day} and {day} do not settle it"
                return Placed(mri.study, _POSSIBLE, rule, reason)
        reason = f"no MRI of the prostate near {day}"
        return Placed(None, _CONTRADICTED, rule, reason)


def _timed(candidates: Iterable[Candidate]) -> list[Timed]:
    return [Timed(one, one.day) for one in candidates if one.day is not None]


def _before(one: Interval, other: Interval) -> Verdict:
    """Tell whether one day lies before another; on the same day it is not known."""
    if one.instant is not None and other.instant is not None:
        return _CERTAIN if one.instant < other.instant else _CONTRADICTED
    if one.high < other.low:
        return _CERTAIN
    return _CONTRADICTED if one.low > other.high else _POSSIBLE


def _worse(*verdicts: Verdict) -> Verdict:
    for verdict in (_CONTRADICTED, _POSSIBLE):
        if verdict in verdicts:
            return verdict
    return _CERTAIN


def _chosen(kind: Kind, group: Sequence[Timed]) -> Timed:
    """Choose among several that belong to one MRI: what was amended last, else the earliest."""
    amended = [timed for timed in group if timed.one.resource.get("status") in _AMENDED]
    if amended and kind is not Kind.BIOPSY:
        return max(amended, key=lambda timed: timed.recency)
    return min(group, key=lambda timed: (timed.day.low, timed.day.high, *timed.tie))
