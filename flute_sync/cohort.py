"""What became of a whole cohort: how many patients, biopsies and MRIs, how judged, how linked.

References
----------
CONSORT's flow diagram, for what is counted; FLUTE guide 0.1.0, resource-supportingInfo.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any, Final

from flute_sync.criteria_evidence import History, reference_name
from flute_sync.eligibility import Eligibility, Ground, Judged, Mri
from flute_sync.fhir_elements import members
from flute_sync.flute_variables import Kind

MEANINGS: Final[Mapping[Ground, str]] = {
    Ground.IN_WINDOW: "an MRI within one year before the biopsy",
    Ground.NO_MRI: "no MRI of the prostate",
    Ground.TOO_EARLY: "the last MRI is earlier than one year before the biopsy",
    Ground.NOT_BEFORE: "no MRI before the biopsy, one after it",
    Ground.BIOPSY_UNDATED: "the biopsy has no date that can be used",
    Ground.BIOPSY_AGE: "the biopsy is dated by the patient's age",
    Ground.MRI_UNDATED: "an MRI has no date that can be used",
    Ground.MRI_UNTRUSTED: "the date of an MRI is not to be trusted",
    Ground.SAME_DAY: "an MRI of the day of the biopsy",
    Ground.INEXACT: "dates that are not exact enough",
    Ground.BY_INCLUDED: "the criterion's expression says so",
    Ground.BY_EXCLUDED: "the criterion's expression says so",
    Ground.BY_NEITHER: "neither of the criterion's expressions holds",
}
"""Why a biopsy was judged as it was, for people."""


@dataclass
class Tally:
    """Counts over all patients judged so far; memory does not grow with them.

    ``linked`` counts MRIs that have a variable of a kind, ``resources`` the resources of a kind
    that may be linked, ``used`` those of them that are.
    """

    patients: int = 0
    with_biopsy: int = 0
    with_mri: int = 0
    with_both: int = 0
    eligible: int = 0
    mris: int = 0
    without_patient: int = 0
    absent: int = 0
    files_not_read: int = 0
    pages_missing: int = 0
    verdicts: Counter[Eligibility] = field(default_factory=Counter)
    grounds: Counter[tuple[Eligibility, Ground]] = field(default_factory=Counter)
    linked: Counter[Kind] = field(default_factory=Counter)
    resources: Counter[Kind] = field(default_factory=Counter)
    used: Counter[Kind] = field(default_factory=Counter)
    first: date | None = None
    last: date | None = None

    def add(self, history: History, judged: Judged) -> None:
        """Count one patient."""
        self.patients += 1
        self.with_biopsy += bool(judged.results)
        self.with_mri += bool(judged.mris)
        self.with_both += bool(judged.results and judged.mris)
        self.mris += len(judged.mris)
        self.eligible += any(one.verdict is Eligibility.INCLUDED for one in judged.results)
        for one in judged.results:
            self.verdicts[one.verdict] += 1
            self.grounds[one.verdict, one.ground] += 1
            if one.biopsy.day is not None:
                self._widen(one.biopsy.day.low, one.biopsy.day.high)
        self._count_links(history, judged.mris)

    def merge(self, other: "Tally") -> None:
        """Count those whom another tally counted."""
        for one in fields(self):
            mine, others = getattr(self, one.name), getattr(other, one.name)
            if isinstance(mine, int | Counter):
                setattr(self, one.name, mine + others)
        for day in (other.first, other.last):
            if day is not None:
                self._widen(day, day)

    def _widen(self, low: date, high: date) -> None:
        """Note the first and last day of a biopsy; an open end says nothing."""
        if low != date.min:
            self.first = min(low, self.first or low)
        if high != date.max:
            self.last = max(high, self.last or high)

    def _count_links(self, history: History, mris: tuple[Mri, ...]) -> None:
        self.resources.update(history.variables.values())
        used: dict[str, Kind] = {}
        for mri in mris:
            found = _linked(history, mri.name)
            self.linked.update({*found.values()})
            used |= found
        self.used.update(used.values())

    @property
    def biopsies(self) -> int:
        """How many biopsies were judged."""
        return self.verdicts.total()

    def as_dict(self) -> dict[str, Any]:
        """Return the documented shape."""
        return {
            "patients": self.patients,
            "patients_with_biopsy": self.with_biopsy,
            "patients_with_mri": self.with_mri,
            "patients_with_both": self.with_both,
            "patients_included": self.eligible,
            "biopsies": self.biopsies,
            **{one.value: self.verdicts[one] for one in Eligibility},
            "why": {
                verdict.value: {
                    ground.value: count
                    for ground in Ground
                    if (count := self.grounds[verdict, ground])
                }
                for verdict in Eligibility
            },
            "mris": self.mris,
            "links": {
                kind.value: {
                    "resources": self.resources[kind],
                    "linked": self.used[kind],
                    "mris": self.linked[kind],
                }
                for kind in Kind
            },
            "without_patient": self.without_patient,
            "absent_patients": self.absent,
            "files_not_read": self.files_not_read,
            "pages_missing": self.pages_missing,
        }


def _linked(history: History, study: str) -> dict[str, Kind]:
    """Return what a study is linked to, of what is known of the patient."""
    found = {}
    for extension in members(history.studies[study].get("extension")):
        name = reference_name(extension.get("valueReference"))
        name = history.aliases.get(name, name) if name is not None else None
        if name is not None and name in history.variables:
            found[name] = history.variables[name]
    return found
