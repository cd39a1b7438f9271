"""The search parameters that the server knows, and what a resource answers to each.

References
----------
FHIR R4 searchparameter-registry.html.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from flute_sync.sandbox.fhir_server.dates import interval_of

Resource = dict[str, Any]


class Kind(StrEnum):
    """Kind of a search parameter, the words of ``http://hl7.org/fhir/search-param-type``."""

    TOKEN = "token"  # noqa: S105
    REFERENCE = "reference"
    DATE = "date"
    STRING = "string"
    URI = "uri"


class Parameter(NamedTuple):
    """A search parameter: its kind, the elements it reads, and the only type it refers to.

    ``extension`` is the URL of the extensions that paths lead into, where they do.
    """

    kind: Kind
    paths: tuple[str, ...]
    target: str | None = None
    extension: str | None = None


class Entry(NamedTuple):
    """One value a resource is found by.

    ``system`` and ``value`` hold a token; type and id of a reference; a string or URI in ``value``
    alone. ``low`` and ``high`` hold a date.
    """

    parameter: str
    system: str = ""
    value: str = ""
    low: str = ""
    high: str = ""


def _token(*paths: str) -> Parameter:
    return Parameter(Kind.TOKEN, paths)


def _reference(*paths: str, target: str | None = None) -> Parameter:
    return Parameter(Kind.REFERENCE, paths, target)


def _patient(path: str) -> Parameter:
    return _reference(path, target="Patient")


def _date(*paths: str) -> Parameter:
    return Parameter(Kind.DATE, paths)


def _string(*paths: str) -> Parameter:
    return Parameter(Kind.STRING, paths)


_CANONICAL: Final = {
    "url": Parameter(Kind.URI, ("url",)),
    "name": _string("name"),
    "status": _token("status"),
    "version": _token("version"),
}
_NAMES: Final = ("name.text", "name.family", "name.given", "name.prefix", "name.suffix")
COMMON: Final[Mapping[str, Parameter]] = {
    "_id": _token("id"),
    "_lastUpdated": _date("meta.lastUpdated"),
    "_profile": Parameter(Kind.URI, ("meta.profile",)),
    "_security": _token("meta.security"),
    "_source": Parameter(Kind.URI, ("meta.source",)),
    "_tag": _token("meta.tag"),
}
PARAMETERS: Final[Mapping[str, Mapping[str, Parameter]]] = {
    "AuditEvent": {"date": _date("recorded"), "entity": _reference("entity.what")},
    "CodeSystem": _CANONICAL,
    "Device": {
        "identifier": _token("identifier"),
        "device-name": _string("deviceName.name", "type.text"),
        "status": _token("status"),
        "type": _token("type"),
    },
    "DiagnosticReport": {
        "based-on": _reference("basedOn"),
        "code": _token("code"),
        "date": _date("effectiveDateTime", "effectivePeriod"),
        "identifier": _token("identifier"),
        "patient": _patient("subject"),
        "result": _reference("result", target="Observation"),
        "status": _token("status"),
        "subject": _reference("subject"),
    },
    "Encounter": {
        "date": _date("period"),
        "identifier": _token("identifier"),
        "patient": _patient("subject"),
        "status": _token("status"),
        "subject": _reference("subject"),
    },
    "Endpoint": {
        "connection-type": _token("connectionType"),
        "identifier": _token("identifier"),
        "name": _string("name"),
        "organization": _reference("managingOrganization", target="Organization"),
        "status": _token("status"),
    },
    "EvidenceVariable": {**_CANONICAL, "identifier": _token("identifier")},
    "FamilyMemberHistory": {
        "code": _token("condition.code"),
        "date": _date("date"),
        "identifier": _token("identifier"),
        "patient": _patient("patient"),
        "relationship": _token("relationship"),
        "status": _token("status"),
    },
    "Group": {
        "actual": _token("actual"),
        "code": _token("code"),
        "identifier": _token("identifier"),
        "member": _reference("member.entity"),
        "type": _token("type"),
    },
    "ImagingStudy": {
        "basedon": _reference("basedOn"),
        "bodysite": _token("series.bodySite"),
        "dicom-class": _token("series.instance.sopClass"),
        "encounter": _reference("encounter", target="Encounter"),
        "endpoint": _reference("endpoint", "series.endpoint", target="Endpoint"),
        "identifier": _token("identifier"),
        "instance": _token("series.instance.uid"),
        "modality": _token("series.modality"),
        "patient": _patient("subject"),
        "series": _token("series.uid"),
        "started": _date("started"),
        "status": _token("status"),
        "subject": _reference("subject"),
    },
    "Library": {**_CANONICAL, "identifier": _token("identifier")},
    "MeasureReport": {
        "date": _date("date"),
        "identifier": _token("identifier"),
        "patient": _patient("subject"),
        "status": _token("status"),
        "subject": _reference("subject"),
    },
    "Observation": {
        "based-on": _reference("basedOn"),
        "category": _token("category"),
        "code": _token("code"),
        "date": _date("effectiveDateTime", "effectivePeriod", "effectiveInstant"),
        "derived-from": _reference("derivedFrom"),
        "encounter": _reference("encounter", target="Encounter"),
        "focus": _reference("focus"),
        "has-member": _reference("hasMember"),
        "identifier": _token("identifier"),
        "part-of": _reference("partOf"),
        "patient": _patient("subject"),
        "status": _token("status"),
        "subject": _reference("subject"),
    },
    "Organization": {
        "active": _token("active"),
        "identifier": _token("identifier"),
        "name": _string("name", "alias"),
    },
    "Patient": {
        "active": _token("active"),
        "birthdate": _date("birthDate"),
        "family": _string("name.family"),
        "gender": _token("gender"),
        "given": _string("name.given"),
        "identifier": _token("identifier"),
        "link": _reference("link.other"),
        "name": _string(*_NAMES),
    },
    "Practitioner": {"identifier": _token("identifier"), "name": _string(*_NAMES)},
    "Procedure": {
        "based-on": _reference("basedOn"),
        "code": _token("code"),
        "date": _date("performedDateTime", "performedPeriod"),
        "encounter": _reference("encounter", target="Encounter"),
        "identifier": _token("identifier"),
        "part-of": _reference("partOf"),
        "patient": _patient("subject"),
        "reason-reference": _reference("reasonReference"),
        "status": _token("status"),
        "subject": _reference("subject"),
    },
    "Provenance": {
        "agent": _reference("agent.who"),
        "entity": _reference("entity.what"),
        "patient": _patient("target"),
        "recorded": _date("recorded"),
        "target": _reference("target"),
    },
    "SearchParameter": {**_CANONICAL, "base": _token("base"), "code": _token("code")},
    "ServiceRequest": {
        "authored": _date("authoredOn"),
        "code": _token("code"),
        "identifier": _token("identifier"),
        "patient": _patient("subject"),
        "status": _token("status"),
        "subject": _reference("subject"),
    },
    "StructureDefinition": {**_CANONICAL, "type": Parameter(Kind.URI, ("type",))},
    "ValueSet": _CANONICAL,
}


Installed = Mapping[str, Mapping[str, Parameter]]
"""Parameters that were installed as SearchParameter resources, by type and name."""


def parameter(resource_type: str, name: str, installed: Installed) -> Parameter | None:
    """Find the parameter of a type, None when the server does not know it."""
    return {**COMMON, **known(resource_type, installed)}.get(name)


def known(resource_type: str, installed: Installed) -> Mapping[str, Parameter]:
    """Return the parameters that a type has beside the common ones."""
    return {**installed.get(resource_type, {}), **PARAMETERS.get(resource_type, {})}


def entries(resource: Resource, installed: Installed) -> Iterator[Entry]:
    """Yield every value that a resource is found by."""
    for name, one in {**COMMON, **known(resource["resourceType"], installed)}.items():
        for path in one.paths:
            for element in _at(resource, path.split("."), one.extension):
                yield from _READERS[one.kind](name, one, element)


def fold(text: str) -> str:
    """Drop case and accents, as string searches do (FHIR R4 search.html#string)."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(one for one in decomposed if not unicodedata.combining(one))


def split_reference(reference: str) -> tuple[str, str]:
    """Split a relative reference into type and id, its version dropped; others are all id."""
    parts = reference.partition("/_history/")[0].split("/")
    if len(parts) == 2 and parts[0][:1].isupper():
        return parts[0], parts[1]
    return "", reference


def _at(element: Any, path: list[str], extension: str | None = None) -> Iterator[Any]:
    if isinstance(element, list):
        for one in element:
            yield from _at(one, path, extension)
    elif not path:
        yield element
    elif isinstance(element, dict) and path[0] in element:
        inner = element[path[0]]
        if path[0] == "extension" and extension is not None:
            inner = [one for one in inner if one.get("url") == extension]
        yield from _at(inner, path[1:], extension)


def _tokens(name: str, _: Parameter, element: Any) -> Iterator[Entry]:
    if isinstance(element, bool):
        yield Entry(name, "", str(element).lower())
    elif isinstance(element, str):
        yield Entry(name, "", element)
    elif isinstance(element, dict):
        for coding in element.get("coding", [element]):
            value = coding.get("value", coding.get("code", ""))
            if value or coding.get("system"):
                yield Entry(name, coding.get("system", ""), value)


def _references(name: str, one: Parameter, element: Any) -> Iterator[Entry]:
    reference = element.get("reference", "") if isinstance(element, dict) else ""
    if reference and not reference.startswith("#"):
        kind, identity = split_reference(reference)
        if one.target in (None, kind):
            yield Entry(name, kind, identity)


def _dates(name: str, _: Parameter, element: Any) -> Iterator[Entry]:
    covered = interval_of(element)
    if covered is not None:
        yield Entry(name, low=covered.low, high=covered.high)


def _strings(name: str, _: Parameter, element: Any) -> Iterator[Entry]:
    if isinstance(element, str):
        yield Entry(name, value=fold(element))


def _uris(name: str, _: Parameter, element: Any) -> Iterator[Entry]:
    if isinstance(element, str):
        yield Entry(name, value=element)


_READERS: Final = {
    Kind.TOKEN: _tokens,
    Kind.REFERENCE: _references,
    Kind.DATE: _dates,
    Kind.STRING: _strings,
    Kind.URI: _uris,
}
