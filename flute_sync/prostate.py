"""Is this ImagingStudy an MRI of the prostate? Links and criteria ask the same question.

References
----------
FHIR R4 imagingstudy.html; PS3.16 Annex L (2026b) for the body sites.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from flute_sync.fhir_elements import Resource, codings, members
from flute_sync.terminology import DCM, SNOMED_CT

PROSTATE: Final = "41216001"
"""Prostatic structure (SNOMED CT)."""
PELVIC: Final = frozenset({"816092008", "12921003", "63337009", "818982008"})
"""Pelvis, pelvic structure, lower trunk, abdomen and pelvis (SNOMED CT): the prostate lies in them,
so that they contradict nothing."""
_DCM_FORMS: Final = (DCM, "urn:oid:1.2.840.10008.2.16.4", "DCM")
"""As studies of others write it: by its OID (PS3.16 8, 2026b), or by the designator of DICOM."""
_PROSTATE_WORD: Final = re.compile(r"prosta", re.IGNORECASE)


class Prostate(StrEnum):
    """What the study says of the part of the body."""

    YES = "prostate"
    POSSIBLE = "not contradicted"
    NO = "another body part"


def has_modality(study: Resource, code: str) -> bool:
    """Tell whether a series, or the study where it lists no series, is of a modality (DCM)."""
    stated = [
        modality
        for series in members(study.get("series"))
        for modality in members(series.get("modality"))
    ]
    return any(
        one.get("code") == code and one.get("system", DCM) in _DCM_FORMS
        for one in stated or members(study.get("modality"))
    )


def prostate(
    study: Resource,
    procedure_codes: Iterable[tuple[str, str]] = (),
    description: str | None = None,
) -> Prostate:
    """Judge which part of the body an ImagingStudy shows.

    One series of the prostate is enough. Body sites that are given only as text, or none at all,
    contradict nothing, nor does the pelvis.

    Parameters
    ----------
    procedure_codes
        ``(system, code)`` of procedures on the prostate that this site uses.
    description
        Regular expression by which this site's study descriptions name the prostate.
    """
    known = set(procedure_codes)
    if known and any(
        (one.get("system"), one["code"]) in known for one in codings(study.get("procedureCode"))
    ):
        return Prostate.YES
    told = {
        body_site(site)
        for series in members(study.get("series"))
        for site in members(series.get("bodySite"))
    }
    if Prostate.YES in told or _named(study.get("description"), description):
        return Prostate.YES
    return Prostate.NO if told == {Prostate.NO} else Prostate.POSSIBLE


def body_site(site: Resource) -> Prostate:
    """Judge one Coding of a body site."""
    code, text = site.get("code"), site.get("display")
    if isinstance(text, str) and _PROSTATE_WORD.search(text):
        return Prostate.YES
    if site.get("system") != SNOMED_CT or not isinstance(code, str):
        return Prostate.POSSIBLE
    if code == PROSTATE:
        return Prostate.YES
    return Prostate.POSSIBLE if code in PELVIC else Prostate.NO


def _named(text: object, description: str | None) -> bool:
    return isinstance(text, str) and bool(description and re.search(description, text, re.I))
