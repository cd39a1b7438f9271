"""All that is known of one patient on the server and may be linked to his studies.

By patient and code, never by profile: data carry old canonicals, or none. Neither by date nor by
status: undated and age-dated resources would not be found, nor would what was withdrawn be refused
with a reason. One batch; another one where it shows further ids of the patient or further studies.

References
----------
FHIR R4 search.html; the search parameters of observation.html, procedure.html,
familymemberhistory.html, diagnosticreport.html, imagingstudy.html and patient.html.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from flute_sync.bundle import Entry, Resource, Result, search_url
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.questions import Search
from flute_sync.fhir.reads import read_result
from flute_sync.fhir_elements import local_reference, members, own_reference
from flute_sync.fhir_errors import FhirGone
from flute_sync.flute_variables import CODES

_MOST_ROUNDS: Final = 8
_COUNT: Final = ("_count", "200")
_NAMING: Final = ("derived-from", "part-of", "focus")
"""Parameters of Observation that name a study; they find panels, whose own code may be any."""
LINKED_TYPES: Final = frozenset({"Observation", "Procedure", "FamilyMemberHistory"})
"""The types of what may be linked."""


@dataclass
class Evidence:
    """What was found of one patient; decimals are exact.

    Parameters
    ----------
    patient
        The Patient, None where he is gone.
    references
        ``Patient/ID`` of him, and of those who were merged into him.
    resources
        ``Type/id`` -> ImagingStudies, candidates, reports and requests.
    """

    patient: Resource | None
    references: set[str]
    resources: dict[str, Resource] = field(default_factory=dict)

    def of_type(self, *kinds: str) -> tuple[Resource, ...]:
        """Return the resources of some types."""
        return tuple(one for one in self.resources.values() if one["resourceType"] in kinds)

    @property
    def candidates(self) -> tuple[Resource, ...]:
        """What may be linked, and the panels that have it as members."""
        return self.of_type(*LINKED_TYPES)


class Candidates:
    """Finds what may be linked."""

    def __init__(self, client: FhirClient) -> None:
        self._client = client

    def of(self, patient_reference: str, studies: Collection[str] = ()) -> Evidence:
        """Find all that is known of a patient.

        Parameters
        ----------
        patient_reference
            ``Patient/ID``.
        studies
            Ids of ImagingStudies of his that are known; what names them is asked for at once.
        """
        found = Evidence(None, {patient_reference})
        asked: set[str] = set()
        named = {f"ImagingStudy/{one}" for one in studies}
        for _ in range(_MOST_ROUNDS):
            named |= {f"ImagingStudy/{one['id']}" for one in found.of_type("ImagingStudy")}
            people, images = sorted(found.references - asked), sorted(named - asked)
            if not people and not images:
                break
            self._ask(found, patient_reference, people, images)
            asked |= {*people, *images}
            self._consult_replaced(found, asked)
        return self._without_strangers(found)

    def _without_strangers(self, found: Evidence) -> Evidence:
        """Leave out ImagingStudies of others: of those it is not asked again whose they are."""
        base_url, references = self._client.base_url, found.references
        for name, one in list(found.resources.items()):
            is_study = one["resourceType"] == "ImagingStudy"
            if is_study and local_reference(one.get("subject"), base_url) not in references:
                del found.resources[name]
        return found

    def _ask(
        self, found: Evidence, patient_reference: str, people: list[str], images: list[str]
    ) -> None:
        searches = [
            one
            for one in (*_of_people(people), *_of_studies(images))
            if self._client.types is None or one.resource_type in self._client.types
        ]
        read = [patient_reference] if patient_reference in people else []
        answers = self._answers(read, searches)
        for resource in (one for answer in answers for one in answer):
            name = own_reference(resource)
            if name is None:
                continue
            if resource["resourceType"] != "Patient":
                found.resources[name] = resource
            elif name == patient_reference:
                found.patient = resource
            elif self._is_replaced(resource, found.references):
                found.references.add(name)

    def _consult_replaced(self, found: Evidence, asked: set[str]) -> None:
        """Add those whom the Patient says that he replaces, though they do not say so themselves.

        Who is active, or says that somebody else replaces him, is not the same person.
        """
        claimed = self._linked(found.patient or {}, "replaces") - found.references - asked
        for name in sorted(claimed):
            kind, _, patient_id = name.partition("/")
            other = self._patient(patient_id) if kind == "Patient" else None
            if other is None or other.get("active") is not False or self._linked(other):
                asked.add(name)
            else:
                found.references.add(name)

    def _answers(self, read: Sequence[str], searches: Sequence[Search]) -> list[list[Resource]]:
        client = self._client
        ids = [one.partition("/")[2] for one in read]
        if not client.bundles:
            people = [[] if (one := self._patient(each)) is None else [one] for each in ids]
            found = [client.whole(one.resource_type, one.parameters) for one in searches]
            return [*people, *found]
        entries = [Entry("GET", one) for one in read]
        entries += [Entry("GET", search_url(one.resource_type, one.parameters)) for one in searches]
        answers = list(client.batch(entries, exact=True))
        people = [self._read(answers.pop(0), one) for one in ids]
        return people + [
            client.whole_of(answer, one.resource_type)
            for answer, one in zip(answers, searches, strict=True)
        ]

    def _patient(self, patient_id: str) -> Resource | None:
        try:
            return self._client.read("Patient", patient_id)
        except FhirGone:
            return None

    def _read(self, answer: Result, patient_id: str) -> list[Resource]:
        try:
            found = read_result(answer, "Patient", patient_id)
        except FhirGone:
            return []
        return [] if found is None else [found]

    def _is_replaced(self, patient: Resource, references: Collection[str]) -> bool:
        """Tell whether a Patient was merged into one of these, and into nobody else."""
        successors = self._linked(patient)
        return bool(successors) and successors <= set(references)

    def _linked(self, patient: Resource, kind: str = "replaced-by") -> set[str]:
        """Return to whom links of a kind lead; empty text for who is not on this server."""
        others = (
            one.get("other") for one in members(patient.get("link")) if one.get("type") == kind
        )
        return {local_reference(other, self._client.base_url) or "" for other in others}


def _of_people(references: Sequence[str]) -> Iterator[Search]:
    if not references:
        return
    people = ",".join(references)
    patient = ("patient", people)
    yield Search("Patient", [("link", people), _COUNT])
    yield Search("ImagingStudy", [patient, _COUNT, ("_include", "ImagingStudy:basedon")])
    for kind in ("Observation", "Procedure"):
        codes = [f"{code.system}|{code.code}" for of, code in CODES.values() if of == kind]
        based_on = ("_include", f"{kind}:based-on")
        yield Search(kind, [patient, ("code", ",".join(codes)), _COUNT, based_on])
    yield Search("FamilyMemberHistory", [patient, _COUNT])
    yield Search("DiagnosticReport", [patient, _COUNT, ("_include", "DiagnosticReport:result")])


def _of_studies(references: Sequence[str]) -> Iterator[Search]:
    for name in _NAMING if references else ():
        yield Search("Observation", [(name, ",".join(references)), _COUNT])
