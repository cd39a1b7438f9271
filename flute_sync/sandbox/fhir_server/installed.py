"""Search parameters that clients install: those that read a value of an extension.

References
----------
FHIR R4 searchparameter.html, search.html#reference
"""

import re
from collections.abc import Iterable
from typing import Final

from flute_sync.sandbox.fhir_server.outcome import FhirError
from flute_sync.sandbox.fhir_server.parameters import Kind, Parameter, Resource

_EXPRESSION: Final = re.compile(
    r"(?P<type>[A-Z][A-Za-z]+)\.extension"
    r"(\('(?P<named>[^']+)'\)|\.where\(\s*url\s*=\s*'(?P<url>[^']+)'\s*\))"
    r"\.value(\.(ofType|as)\([A-Za-z]+\))?"
)
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*")  # it gets into SQL
_VALUES: Final = {
    Kind.TOKEN: ("valueCode", "valueCoding", "valueCodeableConcept", "valueIdentifier"),
    Kind.REFERENCE: ("valueReference",),
    Kind.DATE: ("valueDate", "valueDateTime", "valueInstant", "valuePeriod"),
    Kind.STRING: ("valueString",),
    Kind.URI: ("valueUri", "valueUrl", "valueCanonical"),
}


def check_parameter(resource: Resource) -> None:
    """Refuse a SearchParameter that would be stored and never do anything.

    Raises
    ------
    FhirError
        422.
    """
    if resource.get("status") == "active" and _read(resource) is None:
        raise FhirError(422, "not-supported", "only values of extensions can be searched by")


def installed(resources: Iterable[Resource]) -> dict[str, dict[str, Parameter]]:
    """Return the parameters that SearchParameter resources define, by type and name."""
    found: dict[str, dict[str, Parameter]] = {}
    for resource in resources:
        read = _read(resource) if resource.get("status") == "active" else None
        if read is not None:
            found.setdefault(resource["base"][0], {})[resource["code"]] = read
    return found


def _read(resource: Resource) -> Parameter | None:
    expression = _EXPRESSION.fullmatch(resource.get("expression", ""))
    kind = resource.get("type")
    if expression is None or kind not in _VALUES or resource.get("base") != [expression["type"]]:
        return None
    if not _CODE.fullmatch(resource.get("code", "")):
        return None
    paths = tuple(f"extension.{value}" for value in _VALUES[Kind(kind)])
    return Parameter(Kind(kind), paths, extension=expression["url"] or expression["named"])
