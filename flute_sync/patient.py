"""Which Patient is meant: identifier system, match, merge, contradiction.

A wrong patient is the worst that can happen. Every doubt therefore ends in an `IdentityError`,
and the study waits for a person. Names decide nothing: they are transliterated too freely.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, Literal

from flute_sync.coding import universal_system
from flute_sync.patient_errors import (
    PatientAbsent,
    PatientAmbiguous,
    PatientConflict,
    PatientContradicted,
    PatientIdMissing,
    PatientIdUnusable,
    PatientInactive,
    PatientIssuerUnknown,
    PatientSystemUnknown,
)
from flute_sync.settings import PositiveDuration, Settings, Uri
from flute_sync.study import (
    Header,
    Issuer,
    PatientAttributes,
    PatientId,
    Remark,
    Study,
    distinct,
)
from flute_sync.valuerep import human_names

Resource = dict[str, Any]
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_GENDER: Final = {"M": "male", "F": "female", "O": "other"}
_LONGEST_CHAIN: Final = 5
_PATIENT_ID_TAG: Final = "(0010,0020)"
_IDENTIFYING_TAGS: Final = frozenset({_PATIENT_ID_TAG, "(0010,0021)", "(0010,0024)"})


class PatientSettings(Settings):
    """``[patient]``: how the Patient of a study is found."""

    policy: Literal["lookup", "logical", "create"] = "lookup"
    """Where nobody on the FHIR server has the identifier; lookup: wait for the Patient; logical:
    state the identifier as subject; create: create a minimal Patient."""

    default_system: Uri | None = None
    """Identifier system of Patient IDs that name no issuer; none: such studies are held."""

    systems: Mapping[str, Uri] = {}
    """Issuer of Patient IDs, (0010,0021) or a universal id -> identifier system."""

    use_other_ids: bool = False
    """Also match by Other Patient IDs (0010,1002) that name their issuer."""

    watch_interval: PositiveDuration = timedelta(seconds=5)
    """How often to look for new and changed Patients, for the studies that wait."""


@dataclass(frozen=True, slots=True)
class PatientKey:
    """An identifier in its system; as text, what a waiting study is woken by."""

    system: str
    value: str

    def __str__(self) -> str:
        return f"{self.system}|{self.value}"


@dataclass(frozen=True, slots=True)
class Demographics:
    """What headers say of a person; more than one birth date or sex where they disagree."""

    names: frozenset[str] = frozenset()
    birth_dates: frozenset[str] = frozenset()
    sexes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a study is about.

    ``others`` are further identifiers of the same person, each good for a match, where
    ``patient.use_other_ids`` says so.
    """

    key: PatientKey
    demographics: Demographics = Demographics()
    others: tuple[PatientKey, ...] = ()
    remarks: tuple[Remark, ...] = ()


def identify(study: Study, settings: PatientSettings) -> Identity:
    """Return whom the headers of a study name.

    Instances without a Patient ID contradict nobody; a remark says that there are some.

    Raises
    ------
    PatientIdMissing
        No instance has a Patient ID.
    PatientConflict
        Instances name more than one patient.
    PatientIdUnusable
        An instance states an identifier that cannot be read.
    PatientIssuerUnknown, PatientSystemUnknown
        An identifier's system is not known.

    References
    ----------
    PS3.3 C.7.1.1 and 10.14 (2026b)
    """
    headers = study.headers.keys()
    _refuse_unusable(headers)
    ids = distinct(headers, lambda header: header.patient.id)
    if not ids:
        raise PatientIdMissing()
    if len({stated.value for stated in ids}) > 1:
        raise PatientConflict("more than one Patient ID")
    keys = {_key(stated, settings) for stated in ids}
    if len(keys) > 1:
        raise PatientConflict("one Patient ID of more than one issuer")
    without = any(header.patient.id is None for header in headers)
    remarks = (Remark("patient-id-missing", _PATIENT_ID_TAG),) if without else ()
    (key,) = keys
    patients = {header.patient for header in headers}
    return Identity(key, _demographics(patients), _others(patients, key, settings), remarks)


def _refuse_unusable(headers: Iterable[Header]) -> None:
    """Refuse an identifier that is stated but cannot be read: it may name somebody else."""
    for header in headers:
        unusable = {remark.tag for remark in header.remarks} & _IDENTIFYING_TAGS
        if header.patient.id is None and unusable:
            raise PatientIdUnusable(min(unusable))


def _key(stated: PatientId, settings: PatientSettings) -> PatientKey:
    return PatientKey(_system(stated.issuer, settings), stated.value)


def _system(issuer: Issuer | None, settings: PatientSettings) -> str:
    if issuer is None or not (issuer.namespace or issuer.universal_id):
        if settings.default_system is None:
            raise PatientSystemUnknown()
        return settings.default_system
    if issuer.universal_id and issuer.universal_id in settings.systems:
        return settings.systems[issuer.universal_id]
    system = universal_system(issuer) or settings.systems.get(issuer.namespace or "")
    if system is None:
        raise PatientIssuerUnknown()
    return system


def _others(
    patients: Iterable[PatientAttributes], key: PatientKey, settings: PatientSettings
) -> tuple[PatientKey, ...]:
    if not settings.use_other_ids:
        return ()
    found = set()
    for stated in {other for patient in patients for other in patient.other_ids}:
        try:
            # The default system is of the archive's own numbers, never of another issuer's.
            if stated.issuer is not None:
                found.add(_key(stated, settings))
        except (PatientIssuerUnknown, PatientSystemUnknown):
            continue
    return tuple(sorted(found - {key}, key=str))


def _demographics(patients: Iterable[PatientAttributes]) -> Demographics:
    stated = list(patients)
    return Demographics(
        names=frozenset(patient.name for patient in stated if patient.name),
        birth_dates=frozenset(
            _birth_date(patient.birth_date, patient.identity_removed)
            for patient in stated
            if patient.birth_date is not None
        ),
        sexes=frozenset(patient.sex for patient in stated if patient.sex in _GENDER),
    )


def _birth_date(stated: date, identity_removed: bool | None) -> str:
    # A DICOM date cannot be partial: who removes the day writes the first of January.
    if identity_removed and (stated.month, stated.day) == (1, 1):
        return f"{stated.year:04d}"
    return stated.isoformat()


@dataclass(frozen=True, slots=True)
class Subject:
    """The decision: the subject of the study, as a FHIR Reference.

    ``patient`` is the Patient where there is one; without, the subject is logical, to be made
    literal when the Patient arrives.
    """

    reference: Mapping[str, Any]
    patient: Resource | None = None


@dataclass(frozen=True, slots=True)
class CreatePatient:
    """The decision to create this Patient, and then to look again."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class Missing:
    """Patients that must be read before anything can be decided: ids that links lead to."""

    ids: frozenset[str]


def judge(
    identity: Identity,
    matches: Iterable[Resource],
    known: Mapping[str, Resource | None],
    settings: PatientSettings,
) -> Subject | CreatePatient | Missing:
    """Decide who the subject is.

    Parameters
    ----------
    matches
        Patients that bear the identity's key, or one of its others.
    known
        Patients read because links lead to them, by id; None for one that cannot be read.

    Raises
    ------
    PatientAbsent
        Nobody bears the key, and the policy is to wait.
    PatientAmbiguous, PatientInactive, PatientContradicted
        Somebody does, but it is not certain or not possible that he is meant.
    """
    by_id = {str(match["id"]): match for match in matches}
    ends = [_survivor(resource, {**known, **by_id}) for resource in by_id.values()]
    missing = frozenset(end for end in ends if isinstance(end, str))
    if missing:
        return Missing(missing)
    survivors = {str(end["id"]): end for end in ends if isinstance(end, dict)}
    active = [end for end in survivors.values() if end.get("active") is not False]
    if len(active) > 1:
        raise PatientAmbiguous(f"{len(active)} active Patients")
    if survivors and not active:
        raise PatientInactive()
    if not active:
        return _nobody(identity, settings)
    _refuse_contradiction(identity.demographics, active[0])
    return Subject({"reference": f"Patient/{active[0]['id']}", "type": "Patient"}, active[0])


def _survivor(patient: Resource, known: Mapping[str, Resource | None]) -> Resource | str:
    """Follow replaced-by links; return the last Patient, or the id that must be read first."""
    passed = {str(patient["id"])}
    while successors := replaced_by(patient):
        if len(successors) > 1:
            raise PatientAmbiguous("replaced by several Patients")
        (successor,) = successors
        if successor is None or successor in passed or len(passed) > _LONGEST_CHAIN:
            raise PatientInactive()
        if successor not in known:
            return successor
        following = known[successor]
        if following is None:
            raise PatientInactive()
        passed.add(successor)
        patient = following
    return patient


def followed(known: Mapping[str, Resource | None], patient_id: str) -> str | None:
    """Follow a Patient to whom it was merged into.

    Returns
    -------
    The id of the last Patient, an id that is not in ``known`` and must be read first, or None
    where the links lead nowhere or to several.
    """
    patient = known.get(patient_id)
    try:
        end = None if patient is None else _survivor(patient, known)
    except (PatientAmbiguous, PatientInactive):
        return None
    return str(end["id"]) if isinstance(end, dict) else end


def replaced_by(patient: Resource) -> set[str | None]:
    """Return the ids of the Patients that replace one; None for what names nobody on the server."""
    links = patient.get("link")
    return {
        _patient_id(link.get("other"))
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, dict) and link.get("type") == "replaced-by"
    }


def patient_keys(patients: Iterable[Resource]) -> frozenset[str]:
    """Return the identifiers that Patients bear, as what waiting studies are woken by."""
    found = set()
    for patient in patients:
        identifiers = patient.get("identifier")
        for one in identifiers if isinstance(identifiers, list) else []:
            system, value = (
                (one.get("system"), one.get("value")) if isinstance(one, dict) else (None, None)
            )
            if isinstance(system, str) and isinstance(value, str):
                found.add(str(PatientKey(system, value)))
    return frozenset(found)


def _patient_id(reference: object) -> str | None:
    text = reference.get("reference") if isinstance(reference, dict) else None
    kind, _, found = (text if isinstance(text, str) else "").partition("/")
    found = found.partition("/_history/")[0]
    return found if kind == "Patient" and _ID.fullmatch(found) else None


def _nobody(identity: Identity, settings: PatientSettings) -> Subject | CreatePatient:
    key = identity.key
    if settings.policy == "logical":
        identifier = {"system": key.system, "value": key.value}
        return Subject({"type": "Patient", "identifier": identifier})
    if settings.policy == "create":
        return CreatePatient(minimal_patient(identity))
    raise PatientAbsent()


def logical_subject(study: Study, settings: PatientSettings) -> dict[str, Any]:
    """Return the subject as a logical reference, for use without a FHIR server.

    Where the identifier's system is not known the value stands alone: whoever reads it must know
    from where the files came.

    Raises
    ------
    PatientIdMissing, PatientConflict
        No patient, or more than one, is named.
    """
    try:
        key = identify(study, settings).key
        identifier = {"system": key.system, "value": key.value}
    except (PatientIssuerUnknown, PatientSystemUnknown):
        ids = distinct(study.headers, lambda header: header.patient.id)
        identifier = {"value": min(stated.value for stated in ids)}
    return {"type": "Patient", "identifier": identifier}


def minimal_patient(identity: Identity) -> Resource:
    """Return the Patient to create: identifier, names, gender and birth date, no more.

    Raises
    ------
    PatientConflict
        Headers disagree about birth date or sex.
    """
    said = identity.demographics
    if len(said.birth_dates) > 1 or len(said.sexes) > 1:
        raise PatientConflict("more than one birth date or sex")
    key = identity.key
    patient: Resource = {
        "resourceType": "Patient",
        "identifier": [{"system": key.system, "value": key.value}],
        "active": True,
    }
    names = human_names(min(said.names)) if said.names else []
    if names:
        patient["name"] = names
    for sex in said.sexes:
        patient["gender"] = _GENDER[sex]
    for birth_date in said.birth_dates:
        patient["birthDate"] = birth_date
    return patient


def _refuse_contradiction(said: Demographics, patient: Resource) -> None:
    birth_date = patient.get("birthDate")
    if isinstance(birth_date, str) and any(
        not _agree(stated, birth_date) for stated in said.birth_dates
    ):
        raise PatientContradicted("birth date")
    opposite = {"male": "F", "female": "M"}.get(str(patient.get("gender")))
    if opposite in said.sexes:
        raise PatientContradicted("sex")


def _agree(one: str, other: str) -> bool:
    precision = min(len(one), len(other))
    return one[:precision] == other[:precision]
