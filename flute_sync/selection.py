"""Which studies this site wants in FHIR: an archive holds everything, a FLUTE node wants its own.

Each rule that is given must hold; a rule holds when any of its values does.

- ``modalities`` and ``body_parts`` look at series, and one series must satisfy both: an MR of the
  head beside an ultrasound of the prostate is no MR of the prostate.
- ``procedure_codes`` looks at the whole study.
- ``calling_ae_titles`` looks at who sent it. A study that nobody sent here, but that an archive
  told of, has no sender and is not wanted.
- A study without series is judged by the modality of its procedure steps.
- Where no series states a modality, or none of the wanted modality a body part, or the study no
  procedure code, there is nothing to judge by: it is kept, unless ``strict``.
- Documents (SR, KO, PR, ...) tell nothing of a body part or modality that is asked for. A study
  that has only those yet is not wanted yet; it is judged again when its images arrive.
- ``patients`` is judged by `judge_patient` when it is known who the patient is.

A verdict's reason never quotes the study.
"""

from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import Annotated, Final, NamedTuple

from pydantic import BeforeValidator, Field

from flute_sync.body_part import body_part
from flute_sync.coding import coding
from flute_sync.settings import Settings
from flute_sync.study import Code, Header, Series, SeriesInstanceUID, Step, Study, union
from flute_sync.terminology import ACQUISITION_MODALITY, modality_of_sop_class


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


_CodeString = Annotated[
    str, BeforeValidator(_upper), Field(pattern=r"^[A-Z0-9_ ]{1,16}$", max_length=16)
]
_Text = Annotated[str, Field(min_length=1, max_length=64)]


class SelectSettings(Settings):
    """``[select]``: which studies are wanted. What is empty asks for nothing."""

    modalities: tuple[_CodeString, ...] = ()
    """Modality (0008,0060) of a series, such as "MR"."""
    body_parts: tuple[_Text, ...] = ()
    """Body part of a series: a defined term of PS3.16 Annex L such as "PROSTATE", a SNOMED CT
    code such as "41216001", or the archive's own word for it."""
    procedure_codes: tuple[_Text, ...] = ()
    """Procedure code of the study: "RPID2235", or with its scheme designator
    "RADLEX|RPID2235"."""
    calling_ae_titles: tuple[_Text, ...] = ()
    """AE title that sent the study here by C-STORE. What nobody sent here, but an archive told of
    or an upload brought, has none and is out of scope."""
    patients: Annotated[str, Field(pattern=r"^(all|known|Group/[A-Za-z0-9.-]{1,64})$")] = "all"
    """all; known: those that are on the FHIR server; "Group/ID": the members of that Group."""
    strict: bool = False
    """Leave out what states no modality, body part or procedure code, where one is asked for."""


class Verdict(NamedTuple):
    """Whether a study is wanted, and why, in words that hold nothing of the study."""

    wanted: bool
    reason: str


_WANTED: Final = Verdict(True, "wanted by all rules")


def judge(study: Study, settings: SelectSettings) -> Verdict:
    """Judge a study by its content and sender; `judge_patient` judges whose it is."""
    if settings.calling_ae_titles and study.calling_ae_titles.isdisjoint(
        settings.calling_ae_titles
    ):
        sent = "another sender" if study.calling_ae_titles else "no known sender"
        return Verdict(False, f"{sent}: calling_ae_titles")
    if not _procedure_wanted(study, settings):
        return Verdict(False, "another procedure: procedure_codes")
    return _judge_series(study, settings)


def judge_patient(
    reference: str | None, settings: SelectSettings, members: Collection[str] = ()
) -> Verdict:
    """Judge whose study it is.

    Parameters
    ----------
    reference
        ``Patient/ID`` on the FHIR server, or None when the patient is not there.
    members
        The references of the members of the Group, where ``patients`` names one.
    """
    if settings.patients == "all":
        return _WANTED
    if reference is None:
        return Verdict(False, "the patient is not on the FHIR server: patients")
    if settings.patients == "known" or reference in members:
        return _WANTED
    return Verdict(False, "the patient is not a member of the group: patients")


def rules_digest(settings: SelectSettings) -> str:
    """Name a set of rules: when it changes, what was left out is judged again.

    The order of a rule's values does not count.
    """
    rules = {
        name: sorted(set(value)) if isinstance(value, tuple) else value for name, value in settings
    }
    return sha256(repr(sorted(rules.items())).encode()).hexdigest()[:16]


# -- series ----------------------------------------------------------------------------------


def _judge_series(study: Study, settings: SelectSettings) -> Verdict:
    if not settings.modalities and not settings.body_parts:
        return _WANTED
    known = study.series or tuple(map(_planned, study.steps))
    candidates = _of_modality(known, settings)
    if not candidates:
        if any(_modalities(series) & ACQUISITION_MODALITY.keys() for series in known):
            return Verdict(False, "another modality: modalities")
        return Verdict(False, "no images yet: modalities, body_parts")
    if not _body_part_wanted(candidates, settings):
        return Verdict(False, "another body part: body_parts")
    return _WANTED


def _planned(step: Step) -> Series:
    """Return a series as a step announces it."""
    return Series(SeriesInstanceUID(step.sop_instance_uid), (), stated=step.header)


def _of_modality(known: Sequence[Series], settings: SelectSettings) -> list[Series]:
    """Return the series of a wanted modality; those of none only where nothing is stated."""
    wanted = frozenset(settings.modalities) or ACQUISITION_MODALITY.keys()
    stated = {series.series_instance_uid: _modalities(series) for series in known}
    found = [s for s in known if not stated[s.series_instance_uid].isdisjoint(wanted)]
    images = any(modalities & ACQUISITION_MODALITY.keys() for modalities in stated.values())
    if found or images or (settings.strict and settings.modalities):
        return found
    return [series for series in known if not stated[series.series_instance_uid]]


def _modalities(series: Series) -> frozenset[str]:
    stated = {(header.series.modality or "").strip().upper() for header in series.headers}
    derived = {modality_of_sop_class(header.sop_class_uid) for header in series.headers}
    return frozenset(stated - {""} or {code for code in derived if code})


def _body_part_wanted(candidates: Iterable[Series], settings: SelectSettings) -> bool:
    if not settings.body_parts:
        return True
    headers = [header for series in candidates for header in series.headers]
    stated = {name for header in headers for name in _body_parts(header)}
    if not stated:
        return not settings.strict
    return any(not stated.isdisjoint(_names(wanted)) for wanted in settings.body_parts)


def _body_parts(header: Header) -> set[str]:
    names = _names(header.series.body_part) if header.series.body_part else set()
    for region in header.series.anatomic_regions:
        coded = coding(region, {})
        names.add(coded["code"] if coded else region.value)
    return names


def _names(text: str) -> set[str]:
    """Name a body part by its SNOMED CT code where there is one, and as it is written."""
    concept = body_part(text)
    written = text.strip().upper()
    return {written, concept.code} if concept else {written}


# -- study -----------------------------------------------------------------------------------


def _procedure_wanted(study: Study, settings: SelectSettings) -> bool:
    if not settings.procedure_codes:
        return True
    codes = union(study.evidence, lambda header: header.study.procedure_codes)
    if not codes:
        return not settings.strict
    wanted = frozenset(settings.procedure_codes)
    return any(not wanted.isdisjoint(_written(code)) for code in codes)


def _written(code: Code) -> set[str]:
    return {code.value, f"{code.scheme}|{code.value}"}
