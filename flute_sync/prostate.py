"""Is this ImagingStudy an MRI of the prostate? Links and criteria ask the same question.

References
----------
FHIR R4 imagingstudy.html; PS3.16 Annex L and CID 6300 (2026b) for the body sites.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from flute_sync.body_part import body_part
from flute_sync.fhir_elements import Resource, codings, members
from flute_sync.terminology import DCM, SNOMED_CT_FORMS

PROSTATIC: Final = frozenset(
    {
        "41216001", "181422007", "279706003", "399384005", "716891004", "716892006", "716893001",
        "716894007", "716895008", "716896009", "716897000", "716898005", "716899002", "716900007",
        "716901006", "716902004", "716903009", "716904003", "716905002", "716906001", "716907005",
        "716908000", "716909008", "716910003", "716911004", "716912006", "716913001", "716914007",
        "716915008", "716916009", "716917000", "716918005", "716919002", "716920008", "716921007",
        "716922000", "716923005", "716924004", "716925003", "716926002", "716927006", "716928001",
        "716929009", "716930004", "716931000", "716932007", "716933002", "716934008", "716935009",
        "716936005", "716937001", "716938006", "716939003", "716940001", "716941002", "717025007",
        "836427009", "836428004",
    }
)  # fmt: skip
"""The prostate, as a structure and as an entire organ, and its parts of CID 6300 (SNOMED CT)."""
PELVIC: Final = frozenset(
    {
        "816092008", "12921003", "63337009", "21844003", "816989007", "816991004", "818987002",
        "818982008", "416949008", "416775004", "416319003", "1231522001", "416631005", "22943007",
        "38242008", "38266002", "90264002", "21514008",
    }
)  # fmt: skip
"""The pelvis, its cavity, regions that reach into it, the male genitalia, the genitourinary system,
trunk and whole body (SNOMED CT): the prostate lies in them, so that they contradict nothing."""
_ELSEWHERE: Final = {"T-92000": "41216001", "RID343": "41216001"}
"""The prostate in SNOMED RT and RadLex: no other system has such codes."""
_DCM_FORMS: Final = (DCM, "urn:oid:1.2.840.10008.2.16.4", "DCM")
"""As studies of others write it: by its OID (PS3.16 8, 2026b), or by the designator of DICOM."""
_PROSTATE_WORD: Final = re.compile("pr(?:o|\u00f3|o\u0301)sta", re.IGNORECASE)


class Prostate(StrEnum):
    """What the study says of the part of the body."""

    YES = "prostate"
    POSSIBLE = "not contradicted"
    NO = "another body part"


def has_modality(study: Resource, code: str) -> bool:
    """Tell whether a series, or the study where no series says, is of a modality (DCM)."""
    is_stated = False
    for series in members(study.get("series")):
        stated = members(series.get("modality"))
        if _is_modality(stated, code):
            return True
        # Of an unknown one there may be an extension that says why.
        is_stated = is_stated or any("code" in one for one in stated)
    return not is_stated and _is_modality(members(study.get("modality")), code)


def _is_modality(stated: Iterable[Resource], code: str) -> bool:
    return any(one.get("code") == code and one.get("system", DCM) in _DCM_FORMS for one in stated)


def prostate(
    study: Resource,
    procedure_codes: Iterable[tuple[str, str]] = (),
    description: str | None = None,
) -> Prostate:
    """Judge which part of the body an ImagingStudy shows.

    One series of the prostate is enough; of a study with magnetic resonance its series of that
    modality count, and the others where those state nothing; one that states nothing says nothing
    of what the others show. Body sites in words that DICOM does
    not define, or none at all, contradict nothing, nor does the pelvis.

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
    series = members(study.get("series"))
    of_mr = [one for one in series if _is_modality(members(one.get("modality")), "MR")]
    told = _sites(of_mr) or _sites(series)
    if Prostate.YES in told or _named(study.get("description"), description):
        return Prostate.YES
    return Prostate.NO if told == {Prostate.NO} else Prostate.POSSIBLE


def _sites(series: Iterable[Resource]) -> set[Prostate]:
    return {body_site(site) for one in series for site in members(one.get("bodySite"))}


def body_site(site: Resource) -> Prostate:
    """Judge one Coding of a body site: by SNOMED CT, else by a defined term of DICOM."""
    code, text = site.get("code"), site.get("display")
    if isinstance(text, str) and _PROSTATE_WORD.search(text):
        return Prostate.YES
    if site.get("system") not in SNOMED_CT_FORMS:
        code = _defined(code) or _defined(text)
    if not isinstance(code, str):
        return Prostate.POSSIBLE
    if code in PROSTATIC:
        return Prostate.YES
    return Prostate.POSSIBLE if code in PELVIC else Prostate.NO


def _defined(term: object) -> str | None:
    """Return the SNOMED CT code of a code or term that needs no system to be understood."""
    if not isinstance(term, str):
        return None
    concept = body_part(term)
    return concept.code if concept else _ELSEWHERE.get(term)


def _named(text: object, description: str | None) -> bool:
    return isinstance(text, str) and bool(description and re.search(description, text, re.I))
