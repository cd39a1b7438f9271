"""DICOM's codes and issuers as FHIR Coding, CodeableConcept and Identifier.

References
----------
PS3.3 8.8 and 10.14, PS3.16 Table 8-1 (2026b); FHIR R4 terminologies-systems.html.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from flute_sync.mapping import FhirJson, Remarks
from flute_sync.study import Code, Issuer
from flute_sync.terminology import (
    DCM,
    IDENTIFIER_TYPE,
    OID,
    SCHEME_SYSTEM,
    SNOMED_CT,
    SNOMED_RT_SCHEMES,
    SNOMED_RT_TO_CT,
    URI,
)
from flute_sync.valuerep import ILLEGAL, clean_text, uid_problem

_CONCEPT_ID: Final = re.compile(r"[1-9]\d{5,17}", re.ASCII)
_ABSOLUTE_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s|]+", re.ASCII)
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def coding(code: Code, schemes: Mapping[str, str]) -> FhirJson | None:
    """Write a coded value as Coding, or None where its scheme has no system.

    A code without a system would be taken for any code of that spelling, so there is none.

    Parameters
    ----------
    schemes
        The site's own coding scheme designators and their systems.
    """
    value = clean_text(code.value)
    if value is None:
        return None
    if code.scheme in SNOMED_RT_SCHEMES or code.scheme == "SCT":
        value = value if _CONCEPT_ID.fullmatch(value) else SNOMED_RT_TO_CT.get(value)
        system = SNOMED_CT if value else None
    else:
        system = _system(code, schemes)
    if system is None:
        return None
    written = {"system": system, "code": value}
    if display := clean_text(code.meaning or ""):
        written["display"] = display
    return written


def _system(code: Code, schemes: Mapping[str, str]) -> str | None:
    if code.scheme in SCHEME_SYSTEM:
        return SCHEME_SYSTEM[code.scheme]
    if code.scheme_uid and uid_problem(code.scheme_uid) != ILLEGAL:
        return OID + code.scheme_uid
    if not code.scheme and code.value.lower().startswith("urn:"):
        return URI  # a URN Code Value (0008,0120) needs no scheme
    return schemes.get(code.scheme)


def concepts(
    codes: Iterable[Code], schemes: Mapping[str, str], remarks: Remarks, tag: str
) -> list[FhirJson]:
    """Write coded values as CodeableConcepts, each once, in an order of their own."""
    found: dict[tuple[str, str], FhirJson] = {}
    for code in sorted(codes, key=repr):
        coded = coding(code, schemes)
        text = clean_text(code.meaning or "")
        if coded is None:
            remarks.add("code-without-system", tag)
        concept: FhirJson = {"coding": [coded]} if coded else {}
        if text:
            concept["text"] = text
        if concept:
            key = (coded["system"], coded["code"]) if coded else ("", text or "")
            found.setdefault(key, concept)
    return [found[key] for key in sorted(found)]


def universal_system(issuer: Issuer) -> str | None:
    """Say the identifier system that an issuer's universal ID is, or None.

    References
    ----------
    PS3.3 10.14.1, HL7 v2 table 0301 (2026b); RFC 4501 for host names.
    """
    universal = (issuer.universal_id or "").strip()
    match issuer.universal_id_type:
        case "ISO" if uid_problem(universal) != ILLEGAL:
            return OID + universal
        case "UUID" if _UUID.fullmatch(universal.lower()):
            return "urn:uuid:" + universal.lower()
        case "URI" if _ABSOLUTE_URI.fullmatch(universal):
            return universal
        case "DNS" if _HOST_NAME.fullmatch(universal):
            return "dns:" + universal.lower()
    return None


def issuer_system(
    issuer: Issuer | None, systems: Mapping[str, str], default: str | None
) -> str | None:
    """Say the identifier system of an issuer.

    ``default`` holds only where no issuer is stated: a foreign number never becomes one of ours.
    """
    if issuer is None:
        return default
    return universal_system(issuer) or systems.get(issuer.namespace or "")


def identifier(value: str, system: str | None, type_code: str | None = None) -> FhirJson:
    """Write an Identifier; ``type_code`` is one of HL7 v2 table 0203."""
    written: FhirJson = {}
    if type_code:
        written["type"] = {"coding": [{"system": IDENTIFIER_TYPE, "code": type_code}]}
    if system:
        written["system"] = system
    written["value"] = value
    return written


def accession_identifier(value: str, system: str | None) -> FhirJson:
    """Write an accession number as the European imaging guide does, typed ACSN and 121022."""
    written = identifier(value, system, "ACSN")
    written["type"]["coding"].append(
        {"system": DCM, "code": "121022", "display": "Accession Number"}
    )
    return written
