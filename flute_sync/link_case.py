"""What is known of one patient when links are judged, and what a judgement says.

References
----------
FHIR R4 imagingstudy.html, observation.html, procedure.html, familymemberhistory.html;
FLUTE guide 0.1.0, resource-supportingInfo.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from functools import cached_property, partial
from typing import Final, Literal, NamedTuple

from flute_sync.fhir_dates import ALWAYS, Interval, Verdict, date_time
from flute_sync.fhir_elements import Resource, local_reference, members, own_reference, study_uid
from flute_sync.flute_profiles import Rule
from flute_sync.flute_variables import Kind
from flute_sync.link_settings import LinkSettings
from flute_sync.prostate import Prostate, has_modality, prostate
from flute_sync.terminology import FLUTE_SYNC_TAG

TOOK_PLACE: Final = frozenset({"available", "unknown"})
"""A study that vanished from its archive took place all the same: what belongs to it must not move
to an older one."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's word on one link; it goes before every rule.

    Of several on one resource, or on one pair, the last holds.
    """

    study_instance_uid: str
    reference: str
    verb: Literal["add", "remove"]
    why: str


class Link(NamedTuple):
    """A link, or why there is none: the rule that decided, how sure it is, and the reason.

    ``waived`` names the rules of its profile that the resource breaks; ``when`` is its own date.
    """

    reference: str
    kind: Kind
    rule: str
    verdict: Verdict
    reason: str
    waived: tuple[Rule, ...] = ()
    when: Interval | None = None


# Each study has one for every candidate, and Link(...) takes several times as long.
_AS_LINK: Final = partial(tuple.__new__, Link)


class StudyLinks(NamedTuple):
    """What was judged for one study: every candidate is in one of the two, sorted by kind."""

    links: tuple[Link, ...] = ()
    refused: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Imaging:
    """One ImagingStudy of the patient; ``names`` are its references, several where it is double.

    ``span`` is when it began, `ALWAYS` itself where that is not known.
    """

    uid: str
    resource: Resource
    part: Prostate
    names: frozenset[str]
    span: Interval

    @property
    def day(self) -> Interval | None:
        """When it began; None where that is not known."""
        return self.span if self.span is not ALWAYS else None

    @cached_property
    def took_place(self) -> bool:
        """Whether it was made and not withdrawn."""
        return str(self.resource.get("status")) in TOOK_PLACE

    @cached_property
    def is_mr(self) -> bool:
        """Whether it holds magnetic resonance images, of whatever part of the body."""
        return self.took_place and has_modality(self.resource, "MR")

    @cached_property
    def words(self) -> str:
        """What people call it."""
        modality = "MRI" if self.is_mr else "study"
        return f"the {modality} of {self.span}" if self.day else f"an undated {modality}"

    @property
    def why_never(self) -> str | None:
        """Why nothing at all may be linked to it by a rule or a reference."""
        if not self.took_place:
            return "this study was withdrawn or did not take place"
        if self.part is Prostate.NO:
            return "this study shows another part of the body"
        return None


class Candidate(NamedTuple):
    """One resource that may be linked, with the rules of its profile that it breaks.

    ``span`` is when it took place, `ALWAYS` itself where that is not known.
    """

    reference: str
    kind: Kind
    resource: Resource
    span: Interval
    waived: tuple[Rule, ...] = ()

    @property
    def is_dated(self) -> bool:
        """Whether anything is known of when it took place."""
        return self.span is not ALWAYS

    @property
    def day(self) -> Interval | None:
        """When it took place; None where that is not known."""
        return self.span if self.span is not ALWAYS else None

    @property
    def is_age_dated(self) -> bool:
        """Whether its date follows from an age, a year wide."""
        return "performedAge" in self.resource

    @property
    def tie(self) -> tuple[float, tuple[int, str], str]:
        """Which of several of one day is taken: later time, then higher version, then id."""
        instant = self.span.instant
        seconds = instant.timestamp() if instant else float("-inf")
        return (seconds, version(self.resource), self.reference)

    def link(self, rule: str, verdict: Verdict, reason: str) -> Link:
        """Say what became of it."""
        when = self.span if self.span is not ALWAYS else None
        return _AS_LINK((self.reference, self.kind, rule, verdict, reason, self.waived, when))


@dataclass(frozen=True)
class Case:
    """All that is known of one patient.

    Parameters
    ----------
    patient
        The Patient; its birth date gives ages a meaning.
    patient_references
        ``Patient/ID`` of the Patient and of those that it replaced.
    studies
        All ImagingStudies, with what they hold on the server.
    candidates
        Resources of the seven kinds, or what looks like them, and the Observations that have them
        as members. JSON numbers are `decimal.Decimal`, or their precision is lost.
    reports, requests
        DiagnosticReports and ServiceRequests.
    decisions
        What people decided, the oldest first.
    foreign
        ``(Study Instance UID, reference)`` of supporting-info that other systems wrote.
    base_url
        The server's, by which absolute references are known as its own.
    """

    patient: Resource
    patient_references: frozenset[str]
    studies: tuple[Resource, ...] = ()
    candidates: tuple[Resource, ...] = ()
    reports: tuple[Resource, ...] = ()
    requests: tuple[Resource, ...] = ()
    decisions: tuple[Decision, ...] = ()
    foreign: frozenset[tuple[str, str]] = frozenset()
    base_url: str = ""
    settings: LinkSettings = field(default_factory=LinkSettings)

    @cached_property
    def birth(self) -> Interval | None:
        """The birth date."""
        return date_time(self.patient.get("birthDate"))

    @cached_property
    def imaging(self) -> Mapping[str, Imaging]:
        """Study Instance UID -> study; of double resources the one that took place."""
        found: dict[str, list[Resource]] = {}
        for one in self.studies:
            uid = study_uid(one)
            if uid is not None:
                found.setdefault(uid, []).append(one)
        return {uid: self._study(uid, found[uid]) for uid in sorted(found)}

    def _study(self, uid: str, resources: list[Resource]) -> Imaging:
        known = resources
        if len(known) > 1:
            known = sorted(known, key=lambda one: (*newest(one), str(one)), reverse=True)
            known.sort(key=lambda one: str(one.get("status")) not in TOOK_PLACE)
        part = prostate(known[0], self._procedures, self.settings.prostate_description)
        names = frozenset(name for one in known if (name := own_reference(one)) is not None)
        return Imaging(uid, known[0], part, names, self._started(known[0]) or ALWAYS)

    @cached_property
    def _procedures(self) -> frozenset[tuple[str, str]]:
        pairs = (one.partition("|") for one in self.settings.prostate_procedures)
        return frozenset((system, code) for system, _, code in pairs)

    def _started(self, study: Resource) -> Interval | None:
        meta = study.get("meta")
        for tag in members(meta.get("tag")) if isinstance(meta, dict) else ():
            untrusted = tag.get("system") == FLUTE_SYNC_TAG and tag.get("code") == "date-untrusted"
            if untrusted and not self.settings.untrusted_dates:
                return None
        return date_time(study.get("started"))

    @cached_property
    def mris(self) -> tuple[Imaging, ...]:
        """The MRIs that take links by rule: of the prostate, or perhaps so and the only MRI."""
        made = [one for one in self.imaging.values() if one.is_mr]
        mris = [
            one
            for one in made
            if one.part is Prostate.YES or (one.part is Prostate.POSSIBLE and len(made) == 1)
        ]
        return tuple(sorted(mris, key=lambda one: (one.span.low, one.span.high, one.uid)))

    def is_his(self, reference: object) -> bool:
        """Tell whether a reference leads to the patient, or to whom he replaced."""
        stated = reference.get("reference") if isinstance(reference, dict) else None
        if isinstance(stated, str) and stated in self.patient_references:
            return True
        return self.local(reference) in self.patient_references

    def local(self, reference: object) -> str | None:
        """Return ``Type/id`` of a reference to a resource of this server."""
        return local_reference(reference, self.base_url)

    def locals(self, references: object) -> list[str]:
        """Return ``Type/id`` of each of several references that is to this server."""
        found = (self.local(one) for one in members(references))
        return [one for one in found if one is not None]


def version(resource: Resource) -> tuple[int, str]:
    """Return what orders the versions of a resource."""
    meta = resource.get("meta")
    stated = str(meta.get("versionId", "")) if isinstance(meta, dict) else ""
    return (int(stated), "") if stated.isdecimal() and len(stated) < 20 else (-1, stated)


def newest(resource: Resource) -> tuple[int, str]:
    """Return a key by which the newest of several copies of a resource comes last.

    A version that is no number, as some servers have, orders nothing: then their times do.
    """
    meta = resource.get("meta")
    updated = meta.get("lastUpdated") if isinstance(meta, dict) else None
    return version(resource)[0], moment(updated)


def moment(instant: object) -> str:
    """Return an instant as text that sorts by time, whatever its zone; empty where it is none."""
    found = date_time(instant)
    if found is None or found.instant is None:
        return ""
    return found.instant.astimezone(UTC).isoformat(timespec="microseconds")


def newest_of(resources: Iterable[Resource]) -> dict[str, Resource]:
    """Return each resource once, by ``Type/id``, sorted: of several copies the newest."""
    found: dict[str, Resource] = {}
    for one in resources:
        name = own_reference(one)
        if name is None:
            continue
        other = found.get(name)
        if other is None or (newest(one), str(one)) > (newest(other), str(other)):
            found[name] = one
    return {name: found[name] for name in sorted(found)}
