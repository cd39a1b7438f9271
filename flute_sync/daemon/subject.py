"""Who the study is about, held against who its ImagingStudy says: a wrong patient is the worst."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flute_sync.fhir.imaging_studies import Found
from flute_sync.fhir.patients import PATIENT, Patients
from flute_sync.fhir.queries import reference_id
from flute_sync.identity import Identity
from flute_sync.ownership import bears
from flute_sync.patient import Subject
from flute_sync.patient_errors import PatientChanged, PatientGone
from flute_sync.selection import SelectSettings, Verdict, judge_patient


@dataclass(frozen=True, slots=True)
class Last:
    """How a study was written last.

    ``is_same_identity``: the archive named the patient by the same identifier as now.
    """

    is_same_identity: bool = False
    patient_reference: str | None = None


@dataclass
class Subjects:
    """Resolves subjects, and knows which of them the selection wants."""

    patients: Patients
    select: SelectSettings
    base_url: str
    _members: frozenset[str] | None = None

    def resolve(
        self, identity: Identity, found: Found, *, confirmed: bool, last: Last = Last()
    ) -> Subject:
        """Return the subject.

        Where the archive says the same as ever and the FHIR server has sorted its Patients anew,
        by a merge, its undoing or a new number, the study follows the identifier.

        Parameters
        ----------
        found
            What the look-up found: Patients with the identity's keys, and the ImagingStudy.
        confirmed
            Whether a person confirmed that the patient was corrected in the archive.
        last
            How it was written last.

        Raises
        ------
        IdentityError
            It is not certain who is meant; `PatientChanged` when the ImagingStudy is of somebody
            else and nobody confirmed that; `PatientGone` when nobody has the identifier any more
            by which it was found.
        """
        study = found.study or {}
        current = study.get("subject")
        if confirmed or not isinstance(current, dict):
            return self.patients.resolve(identity, found.patients)
        # A Patient who was deleted is not made again, and none is made for a study that moves.
        if not found.patients and self._id(current) is not None and last.is_same_identity:
            raise PatientGone()
        if not found.patients and self._id(current) is not None and self.patients.makes:
            raise PatientChanged()
        subject = self.patients.resolve(identity, found.patients)
        self._refuse_another(current, subject, identity, study, last)
        return subject

    def moves(self, study: Mapping[str, Any] | None, subject: Subject) -> bool:
        """Tell whether a study goes from one patient to another."""
        current = (study or {}).get("subject")
        if not isinstance(current, dict):
            return False
        was_id, now_id = self._id(current), self._id(subject.reference)
        if was_id is not None:
            return was_id != now_id
        stated = current.get("identifier")
        if not isinstance(stated, dict) or subject.patient is None:
            return False
        return not bears(subject.patient, str(stated.get("system")), str(stated.get("value")))

    def _id(self, reference: Mapping[str, Any]) -> str | None:
        return reference_id(reference.get("reference"), PATIENT, self.base_url)

    def _refuse_another(
        self,
        current: Mapping[str, Any],
        subject: Subject,
        identity: Identity,
        study: Mapping[str, Any],
        last: Last,
    ) -> None:
        was_id, now_id = self._id(current), self._id(subject.reference)
        if was_id is not None:
            ours = last.patient_reference == f"{PATIENT}/{was_id}"
            follows = was_id == now_id or (now_id is not None and last.is_same_identity and ours)
            # A logical subject where a Patient stood: the Patient is gone or renumbered.
            if not follows and (now_id is None or self.patients.survivor(was_id) != now_id):
                raise PatientChanged()
            return
        keys = [(key.system, key.value) for key in identity.sought]
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
