"""The criterion of FLUTE's study on images, over intervals of days, in three values.

A biopsy is excluded where there is no MRI of the prostate within the calendar year before it, and
unknown where that depends on the days that inexact dates leave open. It never guesses: each result
names the study that decided, and the dates.

References
----------
FLUTE study protocol 5.2.5 and F-PIL-1; FHIR R4 imagingstudy.html, procedure.html,
evidencevariable.html; docs/criteria.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Any, Final, NamedTuple

from flute_sync.criteria_evidence import History
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.fhir_dates import ALWAYS, Interval, add_months, age, date_time, period
from flute_sync.fhir_elements import Resource, codings, members
from flute_sync.flute_variables import Kind, kind_of
from flute_sync.link_settings import LinkSettings
from flute_sync.prostate import Prostate, body_site, has_modality, prostate

CRITERION: Final = "flute-excl-mri-before-biopsy"
"""The name of the criterion, in results and in what is written back."""
TEXT: Final = (
    "Patients without MRI images prior to the biopsy or with images obtained earlier than one year "
    "before the biopsy"
)
"""The criterion as the protocol words it: whom it names is excluded."""
_YEAR: Final = 12


class Eligibility(StrEnum):
    """What the criterion says of one biopsy."""

    INCLUDED = "included"
    EXCLUDED = "excluded"
    UNKNOWN = "unknown"


class Ground(StrEnum):
    """Why it says so, in words that programs may rely on."""

    IN_WINDOW = "mri-in-window"
    NO_MRI = "no-mri"
    TOO_EARLY = "mri-too-early"
    NOT_BEFORE = "mri-not-before"
    BIOPSY_UNDATED = "biopsy-undated"
    BIOPSY_AGE = "biopsy-dated-by-age"
    MRI_UNDATED = "mri-undated"
    MRI_UNTRUSTED = "mri-date-untrusted"
    SAME_DAY = "same-day"
    INEXACT = "dates-inexact"
    BY_INCLUDED = "included-by-expression"
    BY_EXCLUDED = "excluded-by-expression"
    BY_NEITHER = "neither-by-expression"


class Place(StrEnum):
    """Where an MRI lies: in the year before a biopsy, before that, not before it, or unknown."""

    IN = "in"
    EARLY = "early"
    LATE = "late"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Mri:
    """An MRI that counts; ``day`` is None where no date can be used."""

    name: str
    part: Prostate
    day: Interval | None
    untrusted: bool = False

    @property
    def words(self) -> str:
        """What people call it, and why it counts."""
        when = f"the MRI of {self.day}" if self.day else "an MRI without a usable date"
        if self.untrusted:
            when = "an MRI with an untrusted date"
        shown = "the prostate" if self.part is Prostate.YES else "a body part not contradicted"
        return f"{when} ({self.name}, {shown})"


@dataclass(frozen=True)
class Biopsy:
    """A completed biopsy; ``day`` is None where it states no date that can be used.

    ``end`` is of one that began and ended on a day, at times with zones: `day` has when it began.
    """

    name: str
    day: Interval | None
    by_age: bool = False
    elsewhere: bool = False
    end: Interval | None = None

    @property
    def words(self) -> str:
        """What people call it."""
        how = ", by the patient's age" if self.by_age else ""
        return f"the biopsy of {self.day}{how}" if self.day else "the undated biopsy"


class Result(NamedTuple):
    """What the criterion says of one biopsy.

    ``study`` decided: the MRI in the window, the one that leaves the doubt, or the nearest.
    """

    patient: str
    biopsy: Biopsy
    verdict: Eligibility
    ground: Ground
    reason: str
    study: Mri | None = None


class Judged(NamedTuple):
    """One patient: a result for each biopsy, in the order of their days, and the MRIs that count.

    Nothing is said of the patient as a whole: he may have a biopsy that is included and another
    that is not.
    """

    results: tuple[Result, ...]
    mris: tuple[Mri, ...]


def judge(history: History, settings: CriteriaSettings, site: LinkSettings) -> Judged:
    """Judge every completed biopsy of a patient.

    Parameters
    ----------
    site
        How this site names the prostate, and whether shifted dates agree with the clinical data.
    """
    mris, left_out = _mris(history, settings, site)
    judge_one = _Judge(history.patient, mris, left_out, settings)
    found = sorted(_biopsies(history), key=lambda one: (_days(one.day), one.name))
    return Judged(tuple(judge_one(one) for one in found), mris)


def _days(day: Interval | None) -> tuple[date, date]:
    """Return what sorts by days, and puts last what has none."""
    return (day.low, day.high) if day else (date.max, date.max)


def place(mri: Interval, biopsy: Interval, same_day: str) -> Place:
    """Tell where an MRI lies: only what holds on each of the possible days is told.

    Of one recorded day times with a zone decide, where both are stated; else ``same_day``.
    """
    if mri.low == mri.high == biopsy.low == biopsy.high and mri.instant and biopsy.instant:
        return Place.IN if mri.instant < biopsy.instant else Place.LATE
    before = mri.high < biopsy.low or (same_day == "include" and mri.high == biopsy.low)
    after = mri.low > biopsy.high or (same_day == "exclude" and mri.low == biopsy.high)
    if before and mri.low >= add_months(biopsy.high, -_YEAR):
        return Place.IN
    if after:
        return Place.LATE
    if mri.high < add_months(biopsy.low, -_YEAR):
        return Place.EARLY
    return Place.UNKNOWN


# -- one biopsy ------------------------------------------------------------------------------


class _Judge:
    def __init__(
        self, patient: str, mris: tuple[Mri, ...], left_out: str, settings: CriteriaSettings
    ) -> None:
        self._patient = patient
        self._mris = mris
        self._left_out = left_out
        self._same_day = settings.same_day

    def __call__(self, biopsy: Biopsy) -> Result:
        where: dict[Place, list[Mri]] = {one: [] for one in Place}
        for mri in self._mris:
            where[_place(mri.day or ALWAYS, biopsy, self._same_day)].append(mri)
        if where[Place.IN]:
            mri = max(where[Place.IN], key=lambda one: (one.part is Prostate.YES, _latest(one)))
            said = f"{mri.words} is before {biopsy.words}, and within one year"
            said += self._of_one_day(mri, biopsy)
            return self._result(biopsy, Eligibility.INCLUDED, Ground.IN_WINDOW, said, mri)
        if where[Place.UNKNOWN]:
            mri = max(where[Place.UNKNOWN], key=lambda one: (one.day is not None, _latest(one)))
            ground = _doubt(mri, biopsy)
            said = f"{mri.words} and {biopsy.words}: {_DOUBTS[ground]}"
            return self._result(biopsy, Eligibility.UNKNOWN, ground, said, mri)
        return self._excluded(biopsy, where)

    def _of_one_day(self, mri: Mri, biopsy: Biopsy) -> str:
        """Say what told the order of two that are of one day."""
        one, other = mri.day, biopsy.day
        if one is None or other is None or not one.low == one.high == other.low == other.high:
            return ""
        by_times = _place(one, biopsy, "unknown") is not Place.UNKNOWN
        return f"; of one day, {'by their times' if by_times else 'by criteria.same_day'}"

    def _excluded(self, biopsy: Biopsy, where: dict[Place, list[Mri]]) -> Result:
        verdict = Eligibility.EXCLUDED
        if where[Place.EARLY]:
            mri = max(where[Place.EARLY], key=_latest)
            said = f"{mri.words} is earlier than one year before {biopsy.words}"
            if where[Place.LATE]:
                said += ", and others are not before it"
            return self._result(biopsy, verdict, Ground.TOO_EARLY, said, mri)
        if where[Place.LATE]:
            mri = min(where[Place.LATE], key=_latest)
            said = f"{mri.words} is not before {biopsy.words}, nor is any other"
            said += self._of_one_day(mri, biopsy)
            return self._result(biopsy, verdict, Ground.NOT_BEFORE, said, mri)
        said = f"there is no MRI of the prostate for {biopsy.words}"
        return self._result(biopsy, verdict, Ground.NO_MRI, said, None)

    def _result(
        self, biopsy: Biopsy, verdict: Eligibility, ground: Ground, said: str, mri: Mri | None
    ) -> Result:
        if verdict is not Eligibility.INCLUDED:
            said += self._left_out
        if biopsy.elsewhere:
            said += "; the biopsy states another body site than the prostate"
        return Result(self._patient, biopsy, verdict, ground, said, mri)


def _place(mri: Interval, biopsy: Biopsy, same_day: str) -> Place:
    day = biopsy.day or ALWAYS
    found = place(mri, day, same_day)
    if biopsy.end is None or found is place(mri, biopsy.end, same_day):
        return found
    # Within the hours of the biopsy: its times tell nothing.
    return place(mri, Interval(day.low, day.high), same_day)


def _latest(mri: Mri) -> tuple[date, date, str]:
    day = mri.day or ALWAYS
    return day.high, day.low, mri.name


def _doubt(mri: Mri, biopsy: Biopsy) -> Ground:
    if biopsy.day is None:
        return Ground.BIOPSY_UNDATED
    if mri.day is None:
        return Ground.MRI_UNTRUSTED if mri.untrusted else Ground.MRI_UNDATED
    if biopsy.by_age:
        return Ground.BIOPSY_AGE
    if mri.day.low == mri.day.high == biopsy.day.low == biopsy.day.high:
        return Ground.SAME_DAY
    return Ground.INEXACT


_DOUBTS: Final = {
    Ground.BIOPSY_UNDATED: "the biopsy states no date that can be used",
    Ground.MRI_UNTRUSTED: "the date of the MRI was shifted, or is not to be trusted",
    Ground.MRI_UNDATED: "the MRI states no date that can be used",
    Ground.BIOPSY_AGE: "an age leaves a year of possible days",
    Ground.SAME_DAY: "they are of one day, and no times with a zone tell which was first",
    Ground.INEXACT: "the dates are not exact enough to tell",
}

# -- what counts -----------------------------------------------------------------------------


def _mris(
    history: History, settings: CriteriaSettings, site: LinkSettings
) -> tuple[tuple[Mri, ...], str]:
    """Return the MRIs that count, the earliest first, and a word on those that do not."""
    pairs = [one.partition("|") for one in site.prostate_procedures]
    codes = [(system, code) for system, _, code in pairs]
    found: list[Mri] = []
    left_out: dict[str, int] = {}
    for name, study in history.studies.items():
        if not has_modality(study, "MR"):
            continue
        part = prostate(study, codes, site.prostate_description)
        why = _why_not(study, part, settings)
        if why is not None:
            left_out[why] = left_out.get(why, 0) + 1
            continue
        untrusted = _is_untrusted(study) and not site.untrusted_dates
        day = None if untrusted else recorded(study.get("started"))
        found.append(Mri(name, part, day, untrusted))
    found.sort(key=lambda one: (_days(one.day), one.name))
    said = "".join(f"; not counted: {left_out[why]} {why}" for why in sorted(left_out))
    return tuple(found), said


def _why_not(study: Resource, part: Prostate, settings: CriteriaSettings) -> str | None:
    if study.get("status") != "available":
        return "MRI that is not available"
    if part is Prostate.NO:
        return "MRI of another body part"
    if part is Prostate.POSSIBLE and settings.prostate == "certain":
        return "MRI that does not say it shows the prostate"
    return None


def _is_untrusted(study: Resource) -> bool:
    meta = study.get("meta")
    tags = members(meta.get("tag") if isinstance(meta, dict) else None)
    return any(one.get("code") == "date-untrusted" for one in tags)


def _biopsies(history: History) -> Iterator[Biopsy]:
    birth = date_time(history.person.get("birthDate"))
    for name, one in history.procedures.items():
        if one.get("status") != "completed" or kind_of(one) is not Kind.BIOPSY:
            continue
        sites = {body_site(site) for site in codings(one.get("bodySite"))}
        found = Biopsy(name, None, elsewhere=sites == {Prostate.NO})
        yield replace(found, **_performed(one, birth))


def _performed(procedure: Resource, birth: Interval | None) -> dict[str, Any]:
    """Return what a Procedure says of when it was, as a `Biopsy` has it."""
    if "performedDateTime" in procedure:
        return {"day": recorded(procedure["performedDateTime"])}
    if "performedPeriod" in procedure:
        return _lasted(procedure["performedPeriod"])
    if "performedAge" in procedure:
        return {"day": age(procedure["performedAge"], birth), "by_age": True}
    return {}


def _lasted(stated: object) -> dict[str, Any]:
    ends = stated if isinstance(stated, dict) else {}
    start, end = recorded(ends.get("start")), recorded(ends.get("end"))
    if start and end and start.instant and end.instant and start[:2] == end[:2]:
        return {"day": start, "end": end} if start.instant <= end.instant else {}
    return {"day": period({name: _day(value) for name, value in ends.items()})}


def recorded(value: object) -> Interval | None:
    """Read a dateTime; of one with a time that FHIR does not allow, such as none of a zone, the
    day is taken as it was recorded."""
    return date_time(_day(value))


def _day(value: object) -> object:
    if isinstance(value, str) and value[10:11] == "T" and date_time(value) is None:
        return value[:10]
    return value
