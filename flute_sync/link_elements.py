"""Links as they stand in a resource: the FLUTE guide's extension ``resource-supportingInfo``.

References
----------
FLUTE guide 0.1.0, resource-supportingInfo; FHIR R4 references.html#Reference.
"""

from collections.abc import Collection, Iterable
from typing import Any

from flute_sync.fhir_elements import Resource, local_reference, members
from flute_sync.terminology import FLUTE_SUPPORTING_INFO


def link_element(reference: str, display: str | None) -> dict[str, Any]:
    """Return the Extension that links to a resource."""
    said = {"reference": reference} | ({} if display is None else {"display": display})
    return {"url": FLUTE_SUPPORTING_INFO, "valueReference": said}


def links_of(resource: Resource, base_url: str) -> dict[str, str | None]:
    """Return what a resource is linked to on this server: ``Type/id`` -> display."""
    return {
        reference: said.get("display")
        for extension in members(resource.get("extension"))
        if (reference := _reference(extension, base_url)) is not None
        for said in members(extension["valueReference"])
    }


def with_links(resource: Resource, links: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return a resource with further links."""
    extensions = [*members(resource.get("extension")), *links]
    return {**resource, "extension": extensions} if extensions else dict(resource)


def without_links(resource: Resource, references: Collection[str], base_url: str) -> dict[str, Any]:
    """Return a resource without its links to some resources; nothing else goes."""
    extensions = resource.get("extension")
    if not references or not isinstance(extensions, list):
        return dict(resource)
    kept = [
        one
        for one in extensions
        if not isinstance(one, dict) or _reference(one, base_url) not in references
    ]
    rest = {name: value for name, value in resource.items() if name != "extension"}
    return rest | {"extension": kept} if kept else rest


def _reference(extension: Resource, base_url: str) -> str | None:
    if extension.get("url") != FLUTE_SUPPORTING_INFO:
        return None
    return local_reference(extension.get("valueReference"), base_url)
