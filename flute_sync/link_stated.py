"""Links that somebody stated: by reference, by request, by encounter.

References
----------
FHIR R4 observation.html (derivedFrom, partOf, focus, hasMember, basedOn, encounter),
diagnosticreport.html (imagingStudy, result), procedure.html (report, reasonReference).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Final, NamedTuple

from flute_sync.fhir_dates import Verdict
from flute_sync.fhir_elements import Resource, codings, members, names_type, uid_named
from flute_sync.flute_variables import Kind
from flute_sync.link_case import Candidate, Case, Imaging, newest_of
from flute_sync.link_settings import LinkSettings
from flute_sync.terminology import IDENTIFIER_TYPE

WITH_ITS_STUDY: Final = frozenset({Kind.PI_RADS, Kind.VOLUME})
"""Kinds that are read off the images: a common request or encounter is enough for them."""
_ELEMENTS: Final = ("derivedFrom", "partOf", "focus")
_REPORTS: Final = ("report", "reasonReference")
_PANEL: Final = "hasMember"
_NAMING: Final = frozenset({*_ELEMENTS, *_REPORTS, _PANEL})
_WITHDRAWN: Final = frozenset({"entered-in-error", "cancelled"})
_Key = tuple[str | None, str]
_REQUEST: Final = "ServiceRequest"

Named = dict[str | None, str]
"""Study Instance UID -> in which words it is named; None for a study that is not known here."""


class Shared(NamedTuple):
    """What two resources may share: requests by reference, accession numbers by system."""

    requests: frozenset[str]
    numbers: frozenset[_Key]


class StatedLinks:
    """Finds what is stated about the candidates of one patient."""

    def __init__(self, case: Case, resources: Mapping[str, Resource]) -> None:
        self._case = case
        self._resources = resources
        self._by_name = {
            name: one.uid for one in case.imaging.values() for name in sorted(one.names)
        }
        self._reports = newest_of(case.reports)
        self._requests = newest_of(case.requests)
        self._of_reports = {
            name: found
            for name, report in self._reports.items()
            if str(report.get("status")) not in _WITHDRAWN
            and (found := self._studies(report.get("imagingStudy")))
        }
        self._explicit = self._closure()

    def explicit(self, one: Candidate) -> Named:
        """Return the studies that a candidate, a report or a panel names for it."""
        return self._explicit.get(one.reference, {})

    def by_request(self, one: Candidate) -> Named:
        """Return the MRIs that were made for the candidate's request or accession number."""
        if one.kind not in WITH_ITS_STUDY or "basedOn" not in one.resource:
            return {}
        wanted = self._asked(one.resource)
        return {
            mri.uid: words
            for mri in self._case.mris
            if (words := self._common(wanted, self._shared[mri.uid])) is not None
        }

    def by_encounter(self, one: Candidate) -> Named:
        """Return the MRIs of the candidate's encounter, of the same day."""
        if one.kind not in WITH_ITS_STUDY or "encounter" not in one.resource:
            return {}
        day = one.span
        if day.low != day.high:
            return {}
        encounter = self._encounter(one.resource)
        return {
            mri.uid: "both are of one encounter and one day"
            for mri in self._case.mris
            if mri.span[:2] == day[:2] and encounter & self._encounter(mri.resource)
        }

    def of_one_request(self, one: Candidate, other: Candidate) -> bool:
        """Tell whether two variables are based on the same ServiceRequest."""
        return bool(self._asked(one.resource).requests & self._asked(other.resource).requests)

    # -- explicit ----------------------------------------------------------------------------

    def _closure(self) -> dict[str, Named]:
        """Collect what is named, and let the members of a panel follow it."""
        naming = {
            name: resource
            for name, resource in self._resources.items()
            if not _NAMING.isdisjoint(resource) and str(resource.get("status")) not in _WITHDRAWN
        }
        found = {name: self._named_by(resource) for name, resource in naming.items()}
        for report, studies in self._of_reports.items():
            for result in self._case.locals(self._reports[report].get("result")):
                for uid in studies:
                    found.setdefault(result, {}).setdefault(uid, "its report is of this study")
        panels = {
            name: self._case.locals(resource[_PANEL])
            for name, resource in naming.items()
            if _PANEL in resource
        }
        waiting = [name for name in panels if found.get(name)]
        while waiting:
            panel = waiting.pop()
            for member in panels[panel]:
                known = found.setdefault(member, {})
                fresh = found[panel].keys() - known.keys()
                known |= dict.fromkeys(fresh, "it is part of a panel that names this study")
                if fresh and member in panels:
                    waiting.append(member)
        return found

    def _named_by(self, resource: Resource) -> Named:
        found: Named = {}
        for element in _ELEMENTS:
            if element in resource:
                for uid in self._studies(resource[element]):
                    found.setdefault(uid, f"{element} names this study")
        for element in _REPORTS:
            if element in resource:
                for report in self._case.locals(resource[element]):
                    for uid in self._of_reports.get(report, ()):
                        found.setdefault(uid, f"{element} names a report of this study")
        return found

    def _studies(self, references: object) -> dict[str | None, None]:
        """Return the studies that references name, None for one that is not known here."""
        found: dict[str | None, None] = {}
        for one in members(references):
            uid = uid_named(one)
            if uid is None:
                uid = self._by_name.get(self._case.local(one) or "")
            if uid is not None and uid in self._case.imaging:
                found[uid] = None
            elif names_type(one, "ImagingStudy"):
                found[None] = None
        return found

    # -- requests and encounters -----------------------------------------------------------------

    @cached_property
    def _shared(self) -> Mapping[str, Shared]:
        """What each study is based on."""
        return {uid: self._asked(one.resource) for uid, one in self._case.imaging.items()}

    @cached_property
    def _holders(self) -> Counter[str]:
        """How many studies bear each accession number, of whatever system."""
        return Counter(
            number
            for shared in self._shared.values()
            for number in {value for _, value in shared.numbers}
        )

    def _asked(self, resource: Resource) -> Shared:
        """Return what a resource is based on."""
        requests, numbers = set(), set()
        for reference in members(resource.get("basedOn")):
            numbers |= set(_accessions(reference))
            name = self._case.local(reference) or ""
            if name.startswith(_REQUEST + "/"):
                requests.add(name)
                numbers |= set(_accessions(self._requests.get(name, {}), typed=True))
        return Shared(frozenset(requests), frozenset(numbers))

    def _common(self, one: Shared, other: Shared) -> str | None:
        if one.requests & other.requests:
            return "both are based on one request"
        if any(system is not None for system, _ in one.numbers & other.numbers):
            return "both bear one accession number"
        for system, value in one.numbers:
            for scheme, number in other.numbers:
                if value == number and None in (system, scheme) and self._holders[value] == 1:
                    return "both bear one accession number, which no other study of the patient has"
        return None

    def _encounter(self, resource: Resource) -> set[_Key]:
        reference = resource.get("encounter")
        name = self._case.local(reference)
        found: set[_Key] = {(None, name)} if name else set()
        for one in members(reference):
            for identifier in members(one.get("identifier")):
                system, value = identifier.get("system"), identifier.get("value")
                if isinstance(system, str) and isinstance(value, str):
                    found.add((system, value))
        return found


def _accessions(resource: Resource, *, typed: bool = False) -> Iterator[_Key]:
    """Yield accession numbers; without ``typed``, an identifier of no type is taken for one."""
    for identifier in members(resource.get("identifier")):
        system, value = identifier.get("system"), identifier.get("value")
        kinds = {(one.get("system"), one["code"]) for one in codings(identifier.get("type"))}
        is_number = bool(kinds & {(IDENTIFIER_TYPE, "ACSN"), (None, "ACSN")})
        known = is_number or not (kinds or typed)
        if known and isinstance(value, str) and value and isinstance(system, str | None):
            yield (system, value)


def contradiction(one: Candidate, study: Imaging, settings: LinkSettings) -> str | None:
    """Say in which way dates contradict that a variable belongs to a study; None where not."""
    day, started = one.day, study.day
    if day is None or started is None:
        return None
    if one.kind not in (Kind.PSA, Kind.DRE):
        before = day.high < started.low
        return f"its date {day} is before {study.words}" if before else None
    psa = one.kind is Kind.PSA
    early = started.shifted(-(settings.psa_before if psa else settings.dre_before).days)
    late = started.shifted((settings.psa_after if psa else settings.dre_after).days)
    if day.within(early, late) is Verdict.CONTRADICTED:
        return f"its date {day} is far from {study.words}"
    return None
