"""What is known of one patient when links are judged, and what a judgement says.

References
----------
FHIR R4 imagingstudy.html, references.html; FLUTE guide 0.1.0, resource-supportingInfo.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from flute_sync.fhir_dates import Interval, Verdict, date_time, effective
from flute_sync.flute_variables import Kind, Resource, Rule
from flute_sync.prostate import Prostate, has_modality, prostate
from flute_sync.settings import Duration, PositiveDuration, Settings
from flute_sync.terminology import DICOM_UID, OID

IMAGING_STUDY: Final = "ImagingStudy"
TOOK_PLACE: Final = frozenset({"available", "unknown"})
"""A study that vanished from its archive took place all the same: what belongs to it must not move
to an older one."""
RuleName = Literal["explicit", "request", "encounter", "time", "sole-candidate"]
_DAYS_180: Final = timedelta(days=180)
_DAYS_90: Final = timedelta(days=90)


class LinkSettings(Settings):
    """``[links]``: which FLUTE variables a study is linked to by ``supporting-info``."""

    enabled: bool = True
    """Whether links are made and kept."""

    conformance: Literal["relaxed", "strict"] = "relaxed"
    """strict: only what meets every rule of its FLUTE profile; relaxed: displays, further local
    codings, more decimals and another performed[x] than an Age are waived, and said."""

    rules: tuple[RuleName, ...] = ("explicit", "request", "encounter", "time", "sole-candidate")
    """The rules in use; whatever their order here, explicit references come first."""

    preliminary: bool = False
    """Also link Observations that are preliminary."""

    report_after: Duration = _DAYS_90
    """How long after an MRI its PI-RADS score and prostate volume may be dated."""

    psa_before: Duration = _DAYS_180
    """How long before an MRI a PSA value may be taken."""

    psa_after: Duration = _DAYS_180
    """How long after it, where there is none before; never beyond the next biopsy."""

    dre_before: Duration = _DAYS_180
    """How long before an MRI a digital rectal examination may be."""

    dre_after: Duration = _DAYS_180
    """How long after it, where there is none before; never beyond the next biopsy."""

    biopsy_after_months: Annotated[int, Field(ge=1, le=120)] = 12
    """How many calendar months after an MRI a biopsy may be that it led to."""

    outcome_after: Duration = _DAYS_90
    """How long after a biopsy its ISUP grade may be dated."""

    sole_candidate: Literal["undated", "any", "never"] = "undated"
    """Where a patient has one prostate MRI and one candidate of a kind: link it although its date
    leaves a doubt; undated: only what has no date, or an age."""

    display: bool = True
    """Say kind, date and rule in each link's ``display``."""

    prostate_description: str | None = None
    """Regular expression: study descriptions that name the prostate at this site."""

    prostate_procedures: tuple[str, ...] = ()
    """Procedure codes of prostate MRI at this site, each ``system|code``."""

    watch_interval: PositiveDuration = timedelta(seconds=30)
    """How often to look for new and changed clinical data."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's word on one link; it goes before every rule."""

    study_instance_uid: str
    reference: str
    verb: Literal["add", "remove"]
    why: str


@dataclass(frozen=True, slots=True)
class Link:
    """A link, or why there is none: the rule that decided, how sure it is, and the reason."""

    reference: str
    kind: Kind
    rule: str
    verdict: Verdict
    reason: str
    waived: tuple[Rule, ...] = ()
    when: Interval | None = None


@dataclass(frozen=True, slots=True)
class StudyLinks:
    """What was judged for one study, sorted by reference."""

    links: tuple[Link, ...] = ()
    refused: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Imaging:
    """One ImagingStudy of the patient."""

    uid: str
    resource: Resource
    part: Prostate

    @cached_property
    def day(self) -> Interval | None:
        """When it began."""
        return date_time(self.resource.get("started"))

    @cached_property
    def is_mri(self) -> bool:
        """Whether it is an MRI that took place and may show the prostate."""
        took_place = self.resource.get("status") in TOOK_PLACE
        return took_place and self.part is not Prostate.NO and has_modality(self.resource, "MR")

    @property
    def is_withdrawn(self) -> bool:
        """Whether it should never have existed, or did not take place."""
        return self.resource.get("status") in ("entered-in-error", "cancelled", "registered")


@dataclass(frozen=True)
class Candidate:
    """One resource that may be linked, as its rules left it."""

    reference: str
    kind: Kind
    resource: Resource
    day: Interval | None
    waived: tuple[Rule, ...] = ()

    @property
    def is_age_dated(self) -> bool:
        """Whether its date follows from an age, a year wide."""
        return "performedAge" in self.resource


@dataclass(frozen=True)
class Case:
    """All that is known of one patient.

    Parameters
    ----------
    patient
        The Patient; its birth date gives ages a meaning.
    patient_references
        ``Patient/ID`` of the Patient and of those that it replaced.
    studies, candidates, reports
        ImagingStudies, resources of the seven kinds or what looks like them, DiagnosticReports.
    base_url
        The server's, by which absolute references are known as its own.
    """

    patient: Resource
    patient_references: frozenset[str]
    studies: tuple[Resource, ...] = ()
    candidates: tuple[Resource, ...] = ()
    reports: tuple[Resource, ...] = ()
    decisions: tuple[Decision, ...] = ()
    base_url: str = ""
    settings: LinkSettings = field(default_factory=LinkSettings)

    @cached_property
    def birth(self) -> Interval | None:
        """The birth date."""
        return date_time(self.patient.get("birthDate"))

    @cached_property
    def imaging(self) -> tuple[Imaging, ...]:
        """The studies with a Study Instance UID, one for each UID."""
        codes = [tuple(one.split("|", 1)) for one in self.settings.prostate_procedures]
        pairs = [(code[0], code[1]) for code in codes if len(code) == 2]
        found = {
            uid: Imaging(uid, one, prostate(one, pairs, self.settings.prostate_description))
            for one in self.studies
            if (uid := study_uid(one)) is not None
        }
        return tuple(found[uid] for uid in sorted(found))

    @cached_property
    def mris(self) -> tuple[Imaging, ...]:
        """The MRIs that take links by rule: certain of the prostate, or the only one at all."""
        mris = [one for one in self.imaging if one.is_mri]
        return tuple(one for one in mris if one.part is Prostate.YES or len(mris) == 1)

    def when(self, resource: Resource) -> Interval | None:
        """Return when a resource took place."""
        return effective(resource, self.birth)

    def local(self, reference: object) -> str | None:
        """Return ``Type/id`` of a reference to a resource of this server."""
        return local_reference(reference, self.base_url)


def references(value: object) -> Iterator[Mapping[str, Any]]:
    """Yield the References of an element, one or several."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, Mapping):
            yield one


def local_reference(reference: object, base_url: str) -> str | None:
    """Return ``Type/id`` of a Reference's literal part, or None where it is elsewhere or none."""
    stated = reference.get("reference") if isinstance(reference, Mapping) else None
    if not isinstance(stated, str):
        return None
    parts = stated.removeprefix(base_url.rstrip("/") + "/").split("/")
    if len(parts) == 4 and parts[2] == "_history":
        parts = parts[:2]
    return "/".join(parts) if len(parts) == 2 and all(parts) else None


def own_reference(resource: Resource) -> str | None:
    """Return ``Type/id`` of a resource."""
    kind, name = resource.get("resourceType"), resource.get("id")
    return f"{kind}/{name}" if kind and name else None


def study_uid(study: Resource) -> str | None:
    """Return the Study Instance UID of an ImagingStudy, in any of the forms it is found in."""
    return next(_uids(references(study.get("identifier"))), None)


def _uids(identifiers: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for one in identifiers:
        if one.get("system") == DICOM_UID and isinstance(one.get("value"), str):
            yield str(one["value"]).removeprefix(OID)


def stated_uid(reference: Mapping[str, Any]) -> str | None:
    """Return the Study Instance UID by which a Reference names a study logically."""
    identifier = reference.get("identifier")
    return next(_uids(references(identifier)), None)
