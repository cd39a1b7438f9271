"""What eligibility criteria need of a resource, and nothing else of it.

A cohort is read once, resource by resource, from a server or from files; what is kept of each is
small, whatever its size was, and is a FHIR resource still: `flute_sync.eligibility` reads either.

References
----------
FHIR R4 patient.html, imagingstudy.html, procedure.html, references.html; FLUTE guide 0.1.0,
resource-supportingInfo.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from flute_sync.fhir_elements import Resource, members, own_reference
from flute_sync.flute_variables import Kind, is_accepted, kind_of
from flute_sync.link_case import newest
from flute_sync.terminology import FLUTE_SUPPORTING_INFO

LOGICAL: Final = "identifier:"
"""What a patient's name begins with where he is known by an identifier alone: ``system|value``."""
# Ids that FHIR does not allow, such as with an underscore, are found in exports all the same.
_REFERENCE: Final = re.compile(
    r"(?:.*/)?([A-Z][A-Za-z]{1,63})/([^/\s?#]{1,128})(?:/_history/[^/\s?#]{1,128})?"
)
_ORDER: Final = ("versionId", "lastUpdated")
_STUDY: Final = ("status", "started", "modality", "procedureCode", "description")
_PERFORMED: Final = ("performedDateTime", "performedPeriod", "performedAge")


class Piece(NamedTuple):
    """What a resource says for the criteria.

    Parameters
    ----------
    patient
        ``Patient/ID`` that it is about, the ``urn:`` by which its Bundle names him, or `LOGICAL`.
    name
        ``Type/id`` of the resource, or the ``urn:`` where it has no id.
    whole
        Whether nothing of it was left out: then its numbers stay numbers, too.
    """

    patient: str
    name: str
    resource: Resource
    whole: bool = False


@dataclass(frozen=True)
class History:
    """All that was found of one patient, by name; of several versions the newest.

    ``variables`` are the resources of the seven kinds that may be used; ``aliases`` are other
    names by which resources are referred to; ``resources`` are all that there are, and of those
    who were merged none is a Patient any more.
    """

    patient: str
    person: Resource = field(default_factory=dict)
    studies: Mapping[str, Resource] = field(default_factory=dict)
    procedures: Mapping[str, Resource] = field(default_factory=dict)
    variables: Mapping[str, Kind] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, Resource] = field(default_factory=dict)


def reference_name(reference: object) -> str | None:
    """Return ``Type/id``, or the ``urn:``, that a Reference leads to; None where to nothing.

    Where it is does not matter: an export is of one server, whatever that calls itself.
    """
    stated = reference.get("reference") if isinstance(reference, dict) else None
    return name_of(stated)


def name_of(address: object) -> str | None:
    """Return ``Type/id`` at the end of an address without its version, or the ``urn:``."""
    if not isinstance(address, str):
        return None
    if address.startswith("urn:"):
        return address
    found = _REFERENCE.fullmatch(address)
    return f"{found[1]}/{found[2]}" if found else None


def piece(resource: Resource, name: str | None = None, whole: Collection[str] = ()) -> Piece | None:
    """Return what the criteria need of a resource; None where that is nothing.

    Parameters
    ----------
    name
        What it is called; None: by its id.
    whole
        Types of resources of which everything is needed.
    """
    kind = resource.get("resourceType")
    name = name or own_reference(resource)
    if not isinstance(kind, str) or name is None:
        return None
    patient = name if kind == "Patient" else _patient(resource)
    if kind in whole:
        return None if patient is None else Piece(patient, name, resource, whole=True)
    reduce = _REDUCED.get(kind)
    kept = reduce(resource) if reduce is not None else None
    if patient is None or kept is None:
        return None
    meta = resource.get("meta")
    order = {one: meta[one] for one in _ORDER if one in meta} if isinstance(meta, dict) else {}
    tags = kept.pop("tag", [])
    if order or tags:
        kept["meta"] = order | ({"tag": tags} if tags else {})
    return Piece(patient, name, {"resourceType": kind, **kept})


def names_nobody(resource: Resource) -> bool:
    """Tell whether an ImagingStudy or a biopsy is of nobody who could be judged."""
    return is_judged(resource) and _patient(resource) is None


def is_judged(resource: Resource) -> bool:
    """Tell whether a resource is an ImagingStudy or a biopsy."""
    kind = resource.get("resourceType")
    return kind == "ImagingStudy" or (kind == "Procedure" and kind_of(resource) is Kind.BIOPSY)


def other_names(person: Resource, name: str) -> Iterator[tuple[str, str]]:
    """Yield by which names a Patient is known too: each, and the name that it leads to."""
    for link in members(person.get("link")):
        other = reference_name(link.get("other"))
        if other is not None and other != name:
            if link.get("type") == "replaced-by":
                yield name, other
            elif link.get("type") == "replaces":
                yield other, name
    for one in members(person.get("identifier")):
        logical = _logical(one)
        if logical is not None:
            yield logical, name


def replaced_by(person: Resource) -> str | None:
    """Return the Patient into whom one was merged."""
    for link in members(person.get("link")):
        if link.get("type") == "replaced-by":
            return reference_name(link.get("other"))
    return None


def history(
    patient: str, pieces: Iterable[Piece], aliases: Mapping[str, str] | None = None
) -> History:
    """Put together what was found of one patient, also under names he had before."""
    kept: dict[str, Resource] = {}
    for one in pieces:
        other = kept.get(one.name)
        kept[one.name] = max(other or one.resource, one.resource, key=newest)
    return History(
        patient,
        kept.get(patient, {}),
        dict(_of(kept, "ImagingStudy")),
        dict(_of(kept, "Procedure")),
        {name: kind for name, one in kept.items() if (kind := _variable(one)) is not None},
        aliases or {},
        {name: one for name, one in kept.items() if name == patient or not _is_patient(one)},
    )


def _of(kept: Mapping[str, Resource], kind: str) -> Iterator[tuple[str, Resource]]:
    return ((name, one) for name, one in kept.items() if one["resourceType"] == kind)


def _is_patient(resource: Resource) -> bool:
    return bool(resource["resourceType"] == "Patient")


def _variable(resource: Resource) -> Kind | None:
    return kind_of(resource) if is_accepted(resource) else None


def _patient(resource: Resource) -> str | None:
    return patient_name(resource.get("subject", resource.get("patient")), resource)


def patient_name(stated: object, resource: Resource) -> str | None:
    """Return the name of the Patient whom a Reference in a resource leads to, `LOGICAL` where it
    is by an identifier: its own, of a conditional reference, or of a contained Patient."""
    if not isinstance(stated, dict):
        return None
    named = reference_name(stated)
    if named is not None:
        return named if named.startswith(("Patient/", "urn:")) else None
    address = str(stated.get("reference", ""))
    if address.startswith("#"):
        inside = (one for one in members(resource.get("contained")) if one.get("id") == address[1:])
        identifiers = [one for person in inside for one in members(person.get("identifier"))]
        return next(filter(None, map(_logical, identifiers)), None)
    return _conditional(address) or _logical(stated.get("identifier"))


def _conditional(address: str) -> str | None:
    """Return the identifier of a conditional reference (FHIR R4 http.html#transaction)."""
    kind, _, query = address.partition("?")
    asked = parse_qsl(query)
    if kind != "Patient" or len(asked) != 1 or asked[0][0] != "identifier":
        return None
    system, _, value = asked[0][1].partition("|")
    return _logical({"system": system, "value": value})


def _logical(identifier: object) -> str | None:
    """Return an identifier as a name; without a system it may be of anybody."""
    stated = identifier if isinstance(identifier, dict) else {}
    system, value = stated.get("system"), stated.get("value")
    if not (isinstance(system, str) and system and isinstance(value, str) and value):
        return None
    return f"{LOGICAL}{system}|{value}"


# -- what is kept ----------------------------------------------------------------------------


def _person(resource: Resource) -> dict[str, Any]:
    return _kept(resource, ("birthDate", "link"))


def _imaging_study(resource: Resource) -> dict[str, Any]:
    links = [
        {"url": FLUTE_SUPPORTING_INFO, "valueReference": {"reference": name}}
        for one in members(resource.get("extension"))
        if one.get("url") == FLUTE_SUPPORTING_INFO
        and (name := reference_name(one.get("valueReference"))) is not None
    ]
    meta = resource.get("meta")
    tags = list(members(meta.get("tag") if isinstance(meta, dict) else None))
    kept = _kept(resource, _STUDY) | {"series": _series(resource)}
    return kept | ({"extension": links} if links else {}) | {"tag": tags}


def _series(resource: Resource) -> list[dict[str, Any]]:
    """Each pair of modality and body site once: there may be hundreds of series."""
    found: dict[str, dict[str, Any]] = {}
    last = None
    for one in members(resource.get("series")):
        kept = _kept(one, ("modality", "bodySite"))
        if kept != last:  # mostly they are alike
            found[repr(kept)] = last = kept
    return list(found.values())


def _procedure(resource: Resource) -> dict[str, Any] | None:
    if kind_of(resource) is None:
        return None
    return _kept(resource, ("status", "code", "bodySite", *_PERFORMED))


def _other(resource: Resource) -> dict[str, Any] | None:
    if kind_of(resource) is None:
        return None
    return _kept(resource, ("status", "code", "condition"))


def _kept(resource: Resource, names: Iterable[str]) -> dict[str, Any]:
    return {name: resource[name] for name in names if name in resource}


_REDUCED: Final = {
    "Patient": _person,
    "ImagingStudy": _imaging_study,
    "Procedure": _procedure,
    "Observation": _other,
    "FamilyMemberHistory": _other,
}
READ: Final = frozenset(_REDUCED)
"""The types of resources that say something for the criteria."""
