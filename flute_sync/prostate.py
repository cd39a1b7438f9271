"""Is this ImagingStudy an MRI of the prostate? Links and criteria ask the same question.

References
----------
FHIR R4 imagingstudy.html; PS3.16 Annex L (2026b) for the body sites.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

from flute_sync.terminology import DCM, SNOMED_CT

PROSTATE: Final = frozenset({"41216001", "119231001", "279708004"})
"""Prostatic structure, part of it, and the prostatic region (SNOMED CT)."""
PELVIC: Final = frozenset({"816092008", "12921003", "63337009", "818982008"})
"""Regions that the prostate lies in (SNOMED CT): they contradict nothing."""
AVAILABLE: Final = "available"
_PROSTATE_WORD: Final = re.compile(r"prosta", re.IGNORECASE)


class Prostate(StrEnum):
    """What the study says of the part of the body."""

    YES = "prostate"
    POSSIBLE = "not contradicted"
    NO = "another body part"


def _mappings(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
    elif isinstance(value, list):
        yield from (one for one in value if isinstance(one, Mapping))


def has_modality(study: Mapping[str, Any], code: str) -> bool:
    """Tell whether a series, or the study where it lists no series, is of a modality (DCM)."""
    stated = [one.get("modality") for one in _mappings(study.get("series"))]
    codings = stated or list(_mappings(study.get("modality")))
    return any(
        one.get("code") == code and one.get("system") in (DCM, None) for one in _mappings(codings)
    )


def prostate(
    study: Mapping[str, Any],
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
    stated = {
        (code.get("system"), code.get("code"))
        for concept in _mappings(study.get("procedureCode"))
        for code in _mappings(concept.get("coding"))
    }
    sites = [one["bodySite"] for one in _mappings(study.get("series")) if "bodySite" in one]
    told = {_site(site) for site in _mappings(sites)}
    if stated & known or Prostate.YES in told or _named(study.get("description"), description):
        return Prostate.YES
    return Prostate.NO if told == {Prostate.NO} else Prostate.POSSIBLE


def _site(site: Mapping[str, Any]) -> Prostate:
    code, text = site.get("code"), site.get("display")
    if site.get("system") == SNOMED_CT and isinstance(code, str):
        if code in PROSTATE:
            return Prostate.YES
        return Prostate.POSSIBLE if code in PELVIC else Prostate.NO
    if isinstance(text, str) and _PROSTATE_WORD.search(text):
        return Prostate.YES
    return Prostate.POSSIBLE


def _named(text: object, description: str | None) -> bool:
    return isinstance(text, str) and bool(description and re.search(description, text, re.I))
