"""What of a patient is on a FHIR server by our doing: found, and deleted.

References
----------
FHIR R4 http.html#delete, http.html#transaction, patient.html (Patient.link), provenance.html.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flute_sync.bundle import Entry, Resource, version_of
from flute_sync.erasure import is_derived, is_witness
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.imaging_studies import IMAGING_STUDY
from flute_sync.fhir.past import Past, past_of
from flute_sync.fhir.queries import identifier_search, study_search
from flute_sync.fhir_elements import local_reference, members, own_reference
from flute_sync.fhir_errors import (
    FhirAmbiguous,
    FhirCapabilityMissing,
    FhirConflict,
    FhirGone,
    FhirRejected,
    FhirServerError,
)
from flute_sync.identity import PatientKey
from flute_sync.ownership import bears_uid
from flute_sync.patient import patient_identifiers
from flute_sync.terminology import FLUTE_SYNC_TAG

_MOST_ROUNDS: Final = 8
_REFERRING: Final = (
    ("DiagnosticReport", "result"),
    ("DocumentReference", "related"),
    ("List", "item"),
    ("Observation", "derived-from"),
    ("Observation", "focus"),
    ("Observation", "has-member"),
    ("Procedure", "reason-reference"),
    ("Provenance", "target"),
)
"""By what others commonly refer to a study or an Observation. R4 has no such parameter for
DiagnosticReport.imagingStudy: reports are found by their patient."""


@dataclass(frozen=True, slots=True)
class Person:
    """A patient: all his ``Patient/ID``, merged ones too, and his identifiers.

    ``hidden`` are identifiers of the hospital behind his pseudonyms: no FHIR server is asked for
    them.
    """

    references: frozenset[str] = frozenset()
    keys: frozenset[PatientKey] = frozenset()
    hidden: frozenset[PatientKey] = frozenset()


@dataclass(frozen=True, slots=True)
class Trace:
    """An ImagingStudy of the patient, and what hangs on it.

    ``past`` is None where the server tells no history. ``witnesses`` are our Provenances,
    ``referrers`` are resources of others that refer to it or to its Observations.
    """

    study: Resource
    past: Past | None
    observations: tuple[Resource, ...]
    witnesses: tuple[str, ...]
    referrers: tuple[str, ...]

    @property
    def reference(self) -> str:
        """``ImagingStudy/ID``."""
        return f"{IMAGING_STUDY}/{self.study['id']}"


@dataclass(frozen=True, slots=True)
class Traces:
    """Finds and deletes.

    Parameters
    ----------
    agent
        Who we are, as a FHIR Reference.
    unsearched
        The types of which the server refused a search, so that what is ours may be there unseen.
    """

    client: FhirClient
    agent: Mapping[str, Any]
    unsearched: set[str] = field(default_factory=set)

    # -- who ---------------------------------------------------------------------------------

    def person(self, reference: str) -> Person:
        """Return a patient with all Patients that were merged into him, or he into them."""
        found: dict[str, Resource] = {}
        waiting = {reference}
        for _ in range(_MOST_ROUNDS):
            waiting -= found.keys()
            if not waiting:
                break
            for one in sorted(waiting):
                found |= self._with_merged(one)
            waiting = {each for one in found.values() for each in self._successors(one)}
        keys = frozenset(key for one in found.values() for key in patient_identifiers(one))
        return Person(frozenset(found), keys)

    def _with_merged(self, reference: str) -> dict[str, Resource]:
        try:
            patient = self.client.read(*reference.split("/"))
        except FhirGone:
            patient = None
        found = {} if patient is None else {reference: patient}
        for one in self._sought("Patient", [("link", reference)]):
            merged = own_reference(one)
            if merged is not None and reference in self._successors(one):
                found[merged] = one
        return found

    def _successors(self, patient: Resource) -> set[str]:
        links = (one for one in members(patient.get("link")) if one.get("type") == "replaced-by")
        found = {local_reference(one.get("other"), self._base) for one in links}
        return {one for one in found if one is not None}

    def others_with(self, key: PatientKey, person: Person) -> bool:
        """Tell whether somebody else has an identifier, too: then it does not tell who is meant."""
        found = self.client.search("Patient", identifier_search([(key.system, key.value)]))
        return any(
            f"Patient/{one['id']}" not in person.references
            for one in found
            if key in patient_identifiers(one)
        )

    def bearing(self, key: PatientKey) -> Person:
        """Return the patient who has an identifier.

        Raises
        ------
        FhirAmbiguous
            Several have it who are not one.
        """
        found = self.client.search("Patient", identifier_search([(key.system, key.value)]))
        people = [self.person(f"Patient/{one['id']}") for one in found]
        people = [one for one in people if key in one.keys]
        if len({one.references for one in people}) > 1:
            raise FhirAmbiguous(f"{len(people)} Patients")
        return people[0] if people else Person(keys=frozenset({key}))

    # -- what --------------------------------------------------------------------------------

    def studies(
        self, person: Person, uids: Iterable[str], ids: Iterable[str | None]
    ) -> list[Resource]:
        """Return the ImagingStudies of a patient: by subject, by UID, by the id that is known."""
        found = []
        if person.references:
            subject = ",".join(sorted(person.references))
            matches = self.client.search(IMAGING_STUDY, [("subject", subject)])
            found += [one for one in matches if self._subject(one) in person.references]
        wanted = sorted(set(uids))
        for uid in wanted:
            found += self.client.search(IMAGING_STUDY, study_search(uid))
        known = {str(one["id"]) for one in found}
        for resource_id in {one for one in ids if one is not None} - known:
            found += self._read(f"{IMAGING_STUDY}/{resource_id}")
        found = [
            one
            for one in found
            if self._subject(one) in person.references or any(bears_uid(one, uid) for uid in wanted)
        ]
        return list({str(one["id"]): one for one in found}.values())

    def _subject(self, resource: Resource) -> str | None:
        return local_reference(resource.get("subject"), self._base)

    def trace(self, study: Resource) -> Trace:
        """Look at what hangs on an ImagingStudy."""
        reference = f"{IMAGING_STUDY}/{study['id']}"
        derived = [
            one
            for one in self._sought("Observation", [("derived-from", reference)])
            if is_derived(one) and reference in targets_of(one.get("derivedFrom"), self._base)
        ]
        targets = [reference, *(f"Observation/{one['id']}" for one in derived)]
        witnesses = [one for target in targets for one in self.witnesses(target)]
        mine = {*targets, *witnesses}
        referrers = self._referrers(targets, self._subject(study))
        referrers -= mine
        try:
            past = past_of(self.client, reference)
        except FhirCapabilityMissing:
            past = None
        return Trace(
            study, past, tuple(derived), tuple(dict.fromkeys(witnesses)), tuple(sorted(referrers))
        )

    def _referrers(self, targets: Sequence[str], subject: str | None) -> set[str]:
        searches = [(*by, target) for by in _REFERRING for target in targets]
        if subject is not None:
            searches.append(("DiagnosticReport", "patient", subject))
        return {
            f"{kind}/{one['id']}"
            for kind, parameter, value in searches
            for one in self._search(kind, [(parameter, value)]) or ()
            if not targets_of(one, self._base).isdisjoint(targets)
        }

    @property
    def _base(self) -> str:
        return self.client.base_url

    def derived(self, person: Person) -> list[Resource]:
        """Return the Observations of a patient that bear our tag, whatever study they name."""
        if not person.references:
            return []
        subject, tag = ",".join(sorted(person.references)), f"{FLUTE_SYNC_TAG}|derived"
        found = self._sought("Observation", [("subject", subject), ("_tag", tag)], many=True)
        derived = (one for one in found if is_derived(one))
        return [one for one in derived if self._subject(one) in person.references]

    def witnesses(self, target: str) -> list[str]:
        """Return our Provenances of a resource."""
        found = self._sought("Provenance", [("target", target)])
        return [
            f"Provenance/{one['id']}"
            for one in found
            if is_witness(one, self.agent) and target in targets_of(one.get("target"), self._base)
        ]

    def naming(self, person: Person, system: str) -> list[str]:
        """Return the Groups that bear an identifier of ours and have the patient as a member."""
        if not person.references:
            return []
        found = self._sought("Group", [("member", ",".join(sorted(person.references)))])
        return [
            f"Group/{one['id']}"
            for one in found
            if any(each.get("system") == system for each in members(one.get("identifier")))
            and not targets_of(one.get("member"), self._base).isdisjoint(person.references)
        ]

    def _sought(
        self, kind: str, by: list[tuple[str, str]], *, many: bool = False
    ) -> list[Resource]:
        """Search what is ours or of him; where the server refuses that, it is remembered."""
        found = self._search(kind, by, many=many)
        if found is None:
            self.unsearched.add(kind)
        return found or []

    def _search(
        self, kind: str, by: list[tuple[str, str]], *, many: bool = False
    ) -> list[Resource] | None:
        """Search what a server may not know at all; None where it refuses to."""
        if self.client.types is not None and kind not in self.client.types:
            return []
        try:
            if many:
                return [one for page in self.client.pages(kind, by) for one in page]
            return self.client.search(kind, by)
        except (FhirRejected, FhirCapabilityMissing):
            return None

    def _read(self, reference: str) -> list[Resource]:
        try:
            found = self.client.read(*reference.split("/"))
        except FhirGone:
            return []
        return [] if found is None else [found]

    def is_there(self, reference: str) -> bool:
        """Tell whether a resource is there now."""
        return bool(self._read(reference))

    # -- deleting ----------------------------------------------------------------------------

    def delete(self, references: Sequence[str]) -> list[str]:
        """Delete resources, at once where they refer to each other; return those that stay.

        Parameters
        ----------
        references
            ``Type/id``; what refers to others comes before them.
        """
        if self.client.transactions and len(references) > 1:
            try:
                self.client.transaction([Entry("DELETE", one) for one in references])
                return [one for one in references if self._read(one)]
            except (FhirConflict, FhirRejected, FhirCapabilityMissing, FhirServerError):
                pass  # one of them is referred to: alone it is seen which
        return [one for one in references if not self._delete(one)]

    def _delete(self, reference: str) -> bool:
        for _ in range(2):  # somebody may write it in this moment
            there = self._read(reference)
            version = version_of(there[0]) if there else None
            if not there or version is None:
                return not there
            try:
                self.client.delete(*reference.split("/"), if_match=version)
                return True
            except (FhirConflict, FhirRejected):
                continue
        return False

    def replace(self, resource: Resource) -> bool:
        """Write a resource over the version that it was made from; tell whether that was done."""
        try:
            self.client.update(resource, if_match=version_of(resource))
        except (FhirConflict, FhirRejected):
            return False
        return True

    def own_endpoints(self, system: str, values: Collection[str]) -> frozenset[str]:
        """Return the references of our Endpoints."""
        keys = [(system, value) for value in sorted(values)]
        found = self.client.search("Endpoint", identifier_search(keys)) if keys else []
        return frozenset(f"Endpoint/{one['id']}" for one in found)


def targets_of(element: Any, base_url: str) -> set[str]:
    """Return all that an element refers to on this server, ``Type/id``."""
    if isinstance(element, list):
        return {found for one in element for found in targets_of(one, base_url)}
    if not isinstance(element, dict):
        return set()
    inner = {found for one in element.values() for found in targets_of(one, base_url)}
    own = local_reference(element, base_url)
    return inner if own is None else inner | {own}
