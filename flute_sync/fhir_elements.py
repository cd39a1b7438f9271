"""Reading elements of resources that others wrote: codings, references, Study Instance UIDs.

Nothing is taken for granted: an element of another type than the standard's is as good as absent.

References
----------
FHIR R4 references.html (literal, logical, versioned, contained), datatypes.html#CodeableConcept,
imagingstudy.html (Study Instance UID as an Identifier).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from flute_sync.terminology import DICOM_UID, OID, URI

Resource = Mapping[str, Any]
_TEXT_OR_NONE: Final = (str, type(None))
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)+")


def members(value: object) -> list[Resource]:
    """Return the members of a list, or the one value, that are objects."""
    if isinstance(value, dict):
        return [value]
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def codings(concept: object) -> list[Resource]:
    """Return the Codings of a CodeableConcept, or of a list of them, that have a code."""
    if isinstance(concept, list):
        return [coding for one in members(concept) for coding in codings(one)]
    stated = concept.get("coding") if isinstance(concept, dict) else None
    if not isinstance(stated, list):
        return []
    return [
        one
        for one in stated
        if isinstance(one, dict)
        and isinstance(one.get("code"), str)
        and isinstance(one.get("system"), _TEXT_OR_NONE)
    ]


def own_reference(resource: Resource) -> str | None:
    """Return ``Type/id`` of a resource."""
    kind, name = resource.get("resourceType"), resource.get("id")
    return f"{kind}/{name}" if isinstance(kind, str) and isinstance(name, str) and name else None


def local_reference(reference: object, base_url: str) -> str | None:
    """Return ``Type/id`` of a Reference's literal part, or None where it is elsewhere or none.

    A version is left out; an absolute address is local where it begins with ``base_url``.
    """
    stated = reference.get("reference") if isinstance(reference, dict) else None
    if not isinstance(stated, str):
        return None
    if base_url and stated.startswith(base_url):
        stated = stated[len(base_url) :].lstrip("/")
    parts = stated.split("/")
    if len(parts) == 4 and parts[2] == "_history":
        parts = parts[:2]
        stated = "/".join(parts)
    return stated if len(parts) == 2 and parts[0].isalpha() and parts[1] else None


def names_type(reference: Resource, resource_type: str) -> bool:
    """Tell whether a Reference says that it leads to a resource of this type, wherever it is."""
    return type_named(reference) == resource_type or uid_named(reference) is not None


def uid_named(reference: Resource) -> str | None:
    """Return the Study Instance UID by which a Reference names a study logically.

    A Reference that says that it leads to another type names none: other numbers look like UIDs.
    """
    if type_named(reference) not in ("ImagingStudy", None):
        return None
    return next(_uids(reference.get("identifier")), None)


def type_named(reference: Resource) -> str | None:
    """Return the type to which a Reference leads, by its address or in words."""
    stated = reference.get("reference")
    parts = stated.split("/") if isinstance(stated, str) else []
    if len(parts) > 3 and parts[-2] == "_history":
        parts = parts[:-2]
    kind = parts[-2] if len(parts) > 1 else reference.get("type")
    return kind if isinstance(kind, str) else None


def study_uid(study: Resource) -> str | None:
    """Return the Study Instance UID of an ImagingStudy, in any of the forms it is found in."""
    return next(_uids(study.get("identifier")), None)


def _uids(identifiers: object) -> Iterator[str]:
    """Yield UIDs; of identifiers without a system, and of OIDs as URIs, what looks like one."""
    stated = [
        (one.get("system"), value)
        for one in members(identifiers)
        if isinstance(value := one.get("value"), str)
    ]
    for system, value in stated:
        if system == DICOM_UID:
            yield value.removeprefix(OID)
    for system, value in stated:
        uid = value.removeprefix(OID)
        if system in (URI, None) and _UID.fullmatch(uid):
            yield uid
