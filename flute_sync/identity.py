"""Whom a study names: all that its archives state, each in its own identifier systems.

An archive that numbers its patients by itself gives them a system of its own. Two keys are two
patients, whichever archive was read last: nothing is guessed, and the study waits for a person.

References
----------
PS3.3 C.7.1.1 "Patient Identification Module" and 10.14 (2026b)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import Final, Literal

from flute_sync.coding import universal_system
from flute_sync.patient_errors import (
    PatientConflict,
    PatientIdMissing,
    PatientIdUnusable,
    PatientIssuerUnknown,
    PatientStepConflict,
    PatientSystemUnknown,
)
from flute_sync.settings import PositiveDuration, Settings, Uri
from flute_sync.study import (
    PATIENT_ID_TAG,
    Issuer,
    PatientAttributes,
    PatientId,
    Remark,
    Step,
    Study,
    identity_of,
)

GENDER: Final = {"M": "male", "F": "female", "O": "other"}


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


def identify(
    study: Study,
    settings: PatientSettings,
    per_archive: Mapping[str, PatientSettings] = MappingProxyType({}),
) -> Identity:
    """Return whom a study names: its instances, or its procedure steps before there are any.

    Instances without a Patient ID contradict nobody; a remark says that there are some.

    Parameters
    ----------
    per_archive
        How the patients of archives are identified that have systems of their own.

    Raises
    ------
    PatientIdMissing
        No instance has a Patient ID.
    PatientConflict
        Instances name more than one patient.
    PatientStepConflict
        Instances name one, and a procedure step another.
    PatientIdUnusable
        An instance states an identifier that cannot be read.
    PatientIssuerUnknown, PatientSystemUnknown
        An identifier's system is not known.
    """
    stated = list(_stated(study, settings, per_archive))
    ids = [(patient_id, systems) for patient_id, systems in stated if patient_id is not None]
    if any(not patient_id.value for patient_id, _ in ids):
        raise PatientIdUnusable(PATIENT_ID_TAG)
    if not ids:
        raise PatientIdMissing()
    if len({patient_id.value for patient_id, _ in ids}) > 1:
        raise PatientConflict("more than one Patient ID")
    keys = {key_of(patient_id, systems) for patient_id, systems in ids}
    if len(keys) > 1:
        raise PatientConflict("one Patient ID of more than one issuer")
    (key,) = keys
    if study.headers:
        _refuse_other_steps(study.steps, key, settings, per_archive)
    without = len(ids) < len(stated)
    remarks = (Remark("patient-id-missing", PATIENT_ID_TAG),) if without else ()
    patients = {header.patient for header in study.evidence}
    systems = [per_archive.get(archive, settings) for archive in study.patient_ids] or [settings]
    return Identity(key, _demographics(patients), _others(patients, key, systems), remarks)


def _stated(
    study: Study, settings: PatientSettings, per_archive: Mapping[str, PatientSettings]
) -> Iterator[tuple[PatientId | None, PatientSettings]]:
    """Yield all identities that count, each with the systems of who states it."""
    if not study.headers:
        for step in study.steps:
            yield identity_of(step.header), per_archive.get(step.archive or "", settings)
    elif any(study.patient_ids.values()):
        for archive, ids in study.patient_ids.items():
            for patient_id in ids:
                yield patient_id, per_archive.get(archive, settings)
    else:
        for header in study.headers:
            yield identity_of(header), settings


def _refuse_other_steps(
    steps: Iterable[Step],
    key: PatientKey,
    settings: PatientSettings,
    per_archive: Mapping[str, PatientSettings],
) -> None:
    """Refuse a step that was of somebody else; one of an issuer that is not known may be his."""
    for step in steps:
        stated = step.header.patient.id
        if stated is None:
            continue
        try:
            another = key_of(stated, per_archive.get(step.archive or "", settings)) != key
        except (PatientIssuerUnknown, PatientSystemUnknown):
            another = stated.value != key.value
        if another:
            raise PatientStepConflict()


def key_of(stated: PatientId, settings: PatientSettings) -> PatientKey:
    """Return the identifier that a Patient ID is.

    Raises
    ------
    PatientIssuerUnknown, PatientSystemUnknown
        Its system is not known.
    """
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
    patients: Iterable[PatientAttributes], key: PatientKey, systems: Sequence[PatientSettings]
) -> tuple[PatientKey, ...]:
    """Return what else is good for a match; an issuer must mean one thing wherever the study is."""
    if not systems[0].use_other_ids:
        return ()
    found = set()
    for stated in {other for patient in patients for other in patient.other_ids}:
        try:
            # The default system is of the archive's own numbers, never of another issuer's.
            keys = {key_of(stated, one) for one in systems} if stated.issuer is not None else set()
        except (PatientIssuerUnknown, PatientSystemUnknown):
            continue
        found |= keys if len(keys) == 1 else set()
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
        sexes=frozenset(patient.sex for patient in stated if patient.sex in GENDER),
    )


def _birth_date(stated: date, identity_removed: bool | None) -> str:
    # A DICOM date cannot be partial: who removes the day writes the first of January.
    if identity_removed and (stated.month, stated.day) == (1, 1):
        return f"{stated.year:04d}"
    return stated.isoformat()
