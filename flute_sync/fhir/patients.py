"""Patients: found by identifier, followed to whom they were merged into, watched for arrival."""

import time
from collections.abc import Collection, Mapping, Sequence
from threading import Lock
from typing import Any, Final

from flute_sync.bundle import Resource
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.queries import criteria, identifier_search, reference_id
from flute_sync.fhir.uniqueness import Pause, others_than_ours
from flute_sync.fhir_errors import FhirGone, FhirServerError
from flute_sync.identity import Identity, PatientKey, PatientSettings
from flute_sync.ownership import bears
from flute_sync.patient import CreatePatient, Missing, Subject, followed, judge, patient_keys
from flute_sync.patient_errors import PatientInactive
from flute_sync.settings_errors import ConfigurationError

PATIENT: Final = "Patient"
_MOST_ROUNDS: Final = 8


class Patients:
    """Resolves identities to subjects."""

    def __init__(
        self, client: FhirClient, settings: PatientSettings, *, pause: Pause = time.sleep
    ) -> None:
        self._client = client
        self._settings = settings
        self._pause = pause
        self._creating = Lock()

    @property
    def makes(self) -> bool:
        """Whether a subject is made up where nobody has the identifier."""
        return self._settings.policy != "lookup"

    def find(self, keys: Sequence[PatientKey]) -> list[Resource]:
        """Search the Patients that bear one of these identifiers."""
        pairs = [(key.system, key.value) for key in keys]
        found = self._client.search(PATIENT, identifier_search(pairs))
        return [patient for patient in found if any(bears(patient, *pair) for pair in pairs)]

    def resolve(self, identity: Identity, matches: Sequence[Resource] | None = None) -> Subject:
        """Return the subject of a study.

        Parameters
        ----------
        matches
            Patients that bear the identity's keys, where a look-up has found them already.

        Raises
        ------
        IdentityError
            It is not certain who is meant.
        """
        keys = identity.sought
        there = self.find(keys) if matches is None else list(matches)
        settings, known = self._settings, dict[str, Resource | None]()
        for _ in range(_MOST_ROUNDS):
            decision = judge(identity, map(self._relative, there), known, settings)
            if isinstance(decision, Subject):
                return decision
            if isinstance(decision, Missing):
                known |= {found: self._read(found) for found in sorted(decision.ids)}
            elif isinstance(decision, CreatePatient):
                there = self._created(decision.resource, keys)
                settings = settings.model_copy(update={"policy": "lookup"})
        raise PatientInactive("its replaced-by links do not end")

    def survivor(self, patient_id: str) -> str | None:
        """Return the id of the Patient into whom one was merged: its own where it was not.

        None where nobody can be reached.
        """
        known: dict[str, Resource | None] = {patient_id: self._read(patient_id)}
        for _ in range(_MOST_ROUNDS):
            end = followed(known, patient_id)
            if end is None or end in known:
                return end
            known[end] = self._read(end)
        return None

    def _read(self, patient_id: str) -> Resource | None:
        try:
            found = self._client.read(PATIENT, patient_id)
        except FhirGone:
            return None
        return None if found is None else self._relative(found)

    def _relative(self, patient: Resource) -> Resource:
        """Return a Patient whose links to this server are relative."""
        links = patient.get("link")
        if not isinstance(links, list):
            return patient
        return {**patient, "link": [self._relative_link(link) for link in links]}

    def _relative_link(self, link: Any) -> Any:
        other = link.get("other") if isinstance(link, dict) else None
        if not isinstance(other, dict):
            return link
        found = reference_id(other.get("reference"), PATIENT, self._client.base_url)
        return link if found is None else {**link, "other": {"reference": f"{PATIENT}/{found}"}}

    def _created(self, patient: Mapping[str, Any], keys: Sequence[PatientKey]) -> list[Resource]:
        """Create a Patient, one at a time: studies of one person arrive together."""
        with self._creating:
            there = self.find(keys)
            if there:
                return there
            pair = (keys[0].system, keys[0].value)
            once = criteria(identifier_search([pair]))
            result = self._client.create(dict(patient), if_none_exist=once)
            if result.status == 201:
                others_than_ours(
                    self._client, result, PATIENT, lambda: self.find(keys[:1]), self._pause
                )
            return self.find(keys)

    def identifiers(self, references: Collection[str]) -> frozenset[str]:
        """Return the keys of some Patients of this server; who cannot be read has none."""
        found = (self._read(one.partition("/")[2]) for one in sorted(references))
        return patient_keys(patient for patient in found if patient is not None)

    def members(self, reference: str) -> frozenset[str]:
        """Return the ids of the Patients in a Group.

        Parameters
        ----------
        reference
            ``Group/x``, on this server.

        Raises
        ------
        ConfigurationError
            There is no such Group, or it is no list of persons.
        """
        group_id = reference_id(reference, "Group", self._client.base_url)
        try:
            group = self._client.read("Group", group_id) if group_id else None
        except FhirGone:
            group = None
        if group is None:
            raise ConfigurationError("select.patients: the FHIR server has no such Group")
        if group.get("type") != "person" or group.get("actual") is False:
            raise ConfigurationError("select.patients: the Group is no list of persons")
        members = group.get("member", [])
        if not isinstance(members, list):
            raise FhirServerError("a Group is malformed")
        found = (self._member(member) for member in members)
        return frozenset(one for one in found if one is not None)

    def _member(self, member: Any) -> str | None:
        if not isinstance(member, dict) or member.get("inactive") is True:
            return None
        entity = member.get("entity")
        reference = entity.get("reference") if isinstance(entity, dict) else None
        return reference_id(reference, PATIENT, self._client.base_url)
