"""Who the study is about, held against who its ImagingStudy says: a wrong patient is the worst."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flute_sync.fhir.imaging_studies import Found
from flute_sync.fhir.patients import PATIENT, Patients
from flute_sync.fhir.queries import reference_id
from flute_sync.ownership import bears
from flute_sync.patient import Identity, Subject
from flute_sync.patient_errors import PatientChanged
from flute_sync.selection import SelectSettings, Verdict, judge_patient


@dataclass
class Subjects:
    """Resolves subjects, and knows which of them the selection wants."""

    patients: Patients
    select: SelectSettings
    base_url: str
    _members: frozenset[str] | None = None

    def resolve(self, identity: Identity, found: Found, *, confirmed: bool) -> Subject:
        """Return the subject.

        Parameters
        ----------
        found
            What the look-up found: Patients with the identity's keys, and the ImagingStudy.
        confirmed
            Whether a person confirmed that the patient was corrected in the archive.

        Raises
        ------
        IdentityError
            It is not certain who is meant; `PatientChanged` when the ImagingStudy is of somebody
            else and nobody confirmed that.
        """
        subject = self.patients.resolve(identity, found.patients)
        current = found.study.get("subject") if found.study is not None else None
        if isinstance(current, dict) and not confirmed:
            self._refuse_another(current, subject, identity, found.study or {})
        return subject

    def _refuse_another(
        self,
        current: Mapping[str, Any],
        subject: Subject,
        identity: Identity,
        study: Mapping[str, Any],
    ) -> None:
        now_id = reference_id(subject.reference.get("reference"), PATIENT, self.base_url)
        was_id = reference_id(current.get("reference"), PATIENT, self.base_url)
        if was_id is not None:
            # A logical subject where a Patient stood: the Patient is gone or renumbered.
            if was_id != now_id and (now_id is None or self.patients.survivor(was_id) != now_id):
                raise PatientChanged()
            return
        keys = [(key.system, key.value) for key in (identity.key, *identity.others)]
        stated = [current, *_contained(current, study)]
        known = [one for one in stated if "identifier" in one]
        if known and not any(_bears(one, key) for one in known for key in keys):
            raise PatientChanged()
        if not known and _is_elsewhere(current):
            raise PatientChanged()

    def judge(self, subject: Subject) -> Verdict:
        """Judge whether ``select.patients`` wants this subject."""
        named = subject.reference.get("reference")
        patient_id = reference_id(named, PATIENT, self.base_url)
        reference = None if patient_id is None else f"{PATIENT}/{patient_id}"
        members = frozenset[str]()
        if self.select.patients.startswith("Group/"):
            members = self.members() if self._members is None else self._members
        return judge_patient(reference, self.select, members)

    def members(self) -> frozenset[str]:
        """Read the members of the Group that ``select.patients`` names, and remember them."""
        ids = self.patients.members(self.select.patients)
        self._members = frozenset(f"{PATIENT}/{one}" for one in ids)
        return self._members


def wake_key(key: str, system: str) -> str:
    """Return what a waiting study keeps of a Patient's identifier.

    It is a keyed hash: a row that is left of a study out of scope holds no patient data.

    Parameters
    ----------
    key
        The identifier, ``system|value``.
    system
        The site's own identifier system.
    """
    salt = hashlib.blake2b(system.encode()).digest()
    return hashlib.blake2b(key.encode(), key=salt, digest_size=16).hexdigest()


def _contained(current: Mapping[str, Any], study: Mapping[str, Any]) -> list[dict[str, Any]]:
    name = str(current.get("reference", ""))
    contained = study.get("contained", [])
    return [
        one
        for one in (contained if isinstance(contained, list) else [])
        if isinstance(one, dict) and name == f"#{one.get('id')}"
    ]


def _is_elsewhere(current: Mapping[str, Any]) -> bool:
    """Tell whether a subject is a Patient of another server: who that is cannot be told."""
    named = current.get("reference")
    return isinstance(named, str) and not named.startswith("#")


def _bears(stated: Mapping[str, Any], key: tuple[str, str]) -> bool:
    identifier = stated.get("identifier")
    if isinstance(identifier, dict):  # a logical Reference
        return (identifier.get("system"), identifier.get("value")) == key
    return bears(stated, *key)
