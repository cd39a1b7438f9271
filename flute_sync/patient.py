"""Which Patient is meant: identifier system, match, merge, contradiction.

A wrong patient is the worst that can happen. Every doubt therefore ends in an `IdentityError`,
and the study waits for a person. Names decide nothing: they are transliterated too freely.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flute_sync.identity import (
    GENDER,
    Demographics,
    Identity,
    PatientKey,
    PatientSettings,
    identify,
)
from flute_sync.patient_errors import (
    PatientAbsent,
    PatientAmbiguous,
    PatientConflict,
    PatientContradicted,
    PatientInactive,
    PatientIssuerUnknown,
    PatientSystemUnknown,
)
from flute_sync.study import Study, distinct
from flute_sync.valuerep import human_names

Resource = dict[str, Any]
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_LONGEST_CHAIN: Final = 5


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
        Patients that bear one of the identifiers that are sought.
    known
        Patients read because links lead to them, by id; None for one that cannot be read.

    Raises
    ------
    PatientAbsent
        Nobody bears the key, and the policy is to wait.
    PatientConflict
        Archives name the patient by several numbers, and it is not known that all are his.
    PatientAmbiguous, PatientInactive, PatientContradicted
        Somebody does, but it is not certain or not possible that he is meant.
    """
    by_id = {str(match["id"]): match for match in matches}
    ends = [(one, _survivor(one, {**known, **by_id})) for one in by_id.values()]
    missing = frozenset(end for _, end in ends if isinstance(end, str))
    if missing:
        return Missing(missing)
    led_to = [(match, end) for match, end in ends if isinstance(end, dict)]
    if identity.also and led_to:
        _refuse_apart(identity, led_to)
    patient = _single(end for _, end in led_to)
    if patient is None:
        return _nobody(identity, settings)
    _refuse_contradiction(identity.demographics, patient)
    return Subject({"reference": f"Patient/{patient['id']}", "type": "Patient"}, patient)


def _single(ends: Iterable[Resource]) -> Resource | None:
    """Return the one active Patient among survivors; None where there is nobody at all."""
    survivors = {str(end["id"]): end for end in ends}
    active = [end for end in survivors.values() if end.get("active") is not False]
    if len(active) > 1:
        raise PatientAmbiguous(f"{len(active)} active Patients")
    if survivors and not active:
        raise PatientInactive()
    return active[0] if active else None


def _refuse_apart(identity: Identity, led_to: Sequence[tuple[Resource, Resource]]) -> None:
    """Refuse numbers of several archives that are not, each by itself, one Patient's.

    Parameters
    ----------
    led_to
        Each match, and the survivor that it leads to.
    """
    found = set()
    for key in identity.keys:
        patient = _single(end for match, end in led_to if key in patient_identifiers(match))
        if patient is None:
            raise PatientConflict("not every archive's number is one of the Patient")
        found.add(str(patient["id"]))
    if len(found) > 1:
        raise PatientConflict("the numbers of its archives are of different Patients")


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
    return frozenset(str(key) for patient in patients for key in patient_identifiers(patient))


def patient_identifiers(patient: Resource) -> frozenset[PatientKey]:
    """Return the identifiers that a Patient bears, each in its system."""
    identifiers = patient.get("identifier")
    return frozenset(
        PatientKey(one["system"], one["value"])
        for one in (identifiers if isinstance(identifiers, list) else [])
        if isinstance(one, dict)
        and isinstance(one.get("system"), str)
        and isinstance(one.get("value"), str)
    )


def _patient_id(reference: object) -> str | None:
    text = reference.get("reference") if isinstance(reference, dict) else None
    kind, _, found = (text if isinstance(text, str) else "").partition("/")
    found = found.partition("/_history/")[0]
    return found if kind == "Patient" and _ID.fullmatch(found) else None


def _nobody(identity: Identity, settings: PatientSettings) -> Subject | CreatePatient:
    if identity.also and settings.policy != "lookup":
        raise PatientConflict("its archives' numbers differ, and no Patient has any of them")
    if settings.policy == "logical":
        return Subject(logical_reference(identity.key))
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
        return logical_reference(identify(study, settings).key)
    except (PatientIssuerUnknown, PatientSystemUnknown):
        ids = distinct(study.headers, lambda header: header.patient.id)
        return {"type": "Patient", "identifier": {"value": min(one.value for one in ids)}}


def logical_reference(key: PatientKey) -> dict[str, Any]:
    """Return a Reference to whoever bears an identifier."""
    return {"type": "Patient", "identifier": {"system": key.system, "value": key.value}}


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
        patient["gender"] = GENDER[sex]
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
