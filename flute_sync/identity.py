"""Whom a study names: all that its archives state, each in its own identifier systems.

An archive that numbers its patients by itself gives them a system of its own. Two numbers in one
system are two patients, whichever archive was read last: nothing is guessed, and the study waits
for a person. Numbers in different systems, each of an archive of its own, may be one person's: that
the FHIR server alone can tell.

References
----------
PS3.3 C.7.1.1 "Patient Identification Module" and 10.14 (2026b)
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

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
UNREAD: Final = "its archives' numbers differ, and `retry` must read what each says of the person"


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
    ``patient.use_other_ids`` says so. ``also`` are what other archives call him, in systems of
    their own: that they mean him is not known before the FHIR server says so of each.
    """

    key: PatientKey
    demographics: Demographics = Demographics()
    others: tuple[PatientKey, ...] = ()
    remarks: tuple[Remark, ...] = ()
    also: tuple[PatientKey, ...] = ()

    @property
    def keys(self) -> tuple[PatientKey, ...]:
        """What archives call the patient: each must be his."""
        return (self.key, *self.also)

    @property
    def sought(self) -> tuple[PatientKey, ...]:
        """All identifiers by which Patients are searched."""
        return (*self.keys, *self.others)

    @property
    def label(self) -> str:
        """All that archives call him as one text; where it is another, an archive was corrected."""
        return "\\".join(map(str, self.keys))  # which no Patient ID holds


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
        Instances name more than one patient; numbers of different systems count as one only where
        no archive states two, and of each is known what it says of birth date and sex.
    PatientStepConflict
        Instances name one, and a procedure step another.
    PatientIdUnusable
        An instance states an identifier that cannot be read.
    PatientIssuerUnknown, PatientSystemUnknown
        An identifier's system is not known.
    """
    stated = list(_stated(study, settings, per_archive))
    ids = [_Said(one, systems, by) for one, systems, by in stated if one is not None]
    if any(not one.patient_id.value for one in ids):
        raise PatientIdUnusable(PATIENT_ID_TAG)
    if not ids:
        raise PatientIdMissing()
    keys = _keys(ids)
    if study.headers:
        _refuse_other_steps(study.steps, keys, settings, per_archive)
    remarks = list[Remark]()
    if len(ids) < len(stated):
        remarks.append(Remark("patient-id-missing", PATIENT_ID_TAG))
    patients = {header.patient for header in study.evidence}
    systems = [per_archive.get(archive, settings) for archive in study.patient_ids] or [settings]
    others = _others(patients, keys, systems)
    if len(keys) > 1:
        remarks.append(Remark("patient-ids-joined", PATIENT_ID_TAG))
        patients |= _people(study)
    return Identity(keys[0], _demographics(patients), others, tuple(remarks), keys[1:])


class _Said(NamedTuple):
    """An identity, the systems of who states it, and which archive that is, where that counts."""

    patient_id: PatientId
    systems: PatientSettings
    archive: str | None


def _stated(
    study: Study, settings: PatientSettings, per_archive: Mapping[str, PatientSettings]
) -> Iterator[tuple[PatientId | None, PatientSettings, str | None]]:
    """Yield all identities that count, as `_Said`; None for what names nobody.

    Only archives may call one person differently, not the headers or steps of one.
    """
    if not study.headers:
        for step in study.steps:
            systems = per_archive.get(step.archive or "", settings)
            yield identity_of(step.header), systems, None
    elif any(study.patient_ids.values()):
        for archive, ids in study.patient_ids.items():
            for patient_id in ids:
                yield patient_id, per_archive.get(archive, settings), archive
    else:
        for header in study.headers:
            yield identity_of(header), settings, None


def _keys(ids: Iterable[_Said]) -> tuple[PatientKey, ...]:
    """Return what archives call the patient: one key of each, and one in each system."""
    by_archive = defaultdict[str | None, list[_Said]](list)
    for one in ids:
        by_archive[one.archive].append(one)
    for said in by_archive.values():
        if len({one.patient_id.value for one in said}) > 1:
            raise PatientConflict("more than one Patient ID")
    found = set()
    for said in by_archive.values():
        keys = {key_of(one.patient_id, one.systems) for one in said}
        if len(keys) > 1:
            raise PatientConflict("one Patient ID of more than one issuer")
        found |= keys
    if len({key.system for key in found}) < len(found):
        raise PatientConflict("more than one Patient ID")
    return tuple(sorted(found, key=str))


def _people(study: Study) -> set[PatientAttributes]:
    """Return what archives say of the patient, in what is kept of their headers and what is not."""
    found = set[PatientAttributes]()
    for archive, ids in study.patient_ids.items():
        said = study.patients.get(archive, frozenset())
        described = {one.id.value for one in said if one.id is not None}
        if not {one.value for one in ids if one is not None} <= described:
            raise PatientConflict(UNREAD)
        found |= said
    return found


def _refuse_other_steps(
    steps: Iterable[Step],
    keys: Collection[PatientKey],
    settings: PatientSettings,
    per_archive: Mapping[str, PatientSettings],
) -> None:
    """Refuse a step that was of somebody else; one of an issuer that is not known may be his."""
    for step in steps:
        stated = step.header.patient.id
        if stated is None:
            continue
        try:
            another = key_of(stated, per_archive.get(step.archive or "", settings)) not in keys
        except (PatientIssuerUnknown, PatientSystemUnknown):
            another = stated.value not in {key.value for key in keys}
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
    patients: Iterable[PatientAttributes],
    keys: Collection[PatientKey],
    systems: Sequence[PatientSettings],
) -> tuple[PatientKey, ...]:
    """Return what else is good for a match; an issuer must mean one thing wherever the study is."""
    if not systems[0].use_other_ids:
        return ()
    found = set()
    for stated in {other for patient in patients for other in patient.other_ids}:
        try:
            # The default system is of the archive's own numbers, never of another issuer's.
            meant = {key_of(stated, one) for one in systems} if stated.issuer is not None else set()
        except (PatientIssuerUnknown, PatientSystemUnknown):
            continue
        found |= meant if len(meant) == 1 else set()
    return tuple(sorted(found - {*keys}, key=str))


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
