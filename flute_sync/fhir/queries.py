"""Searches: how criteria are written, and what of an answer counts as found.

References
----------
FHIR R4 search.html#token, search.html#escaping, search.html#errors
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

from flute_sync.bundle import Resource, located, version_of_etag
from flute_sync.fhir_errors import FhirServerError
from flute_sync.terminology import DICOM_UID, OID, URI

Parameters = list[tuple[str, str]]
_SPECIAL: Final = re.compile(r"([\\,$|])")
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")


def escaped(text: str) -> str:
    """Escape what separates parts of a search value."""
    return _SPECIAL.sub(r"\\\1", text)


def token(system: str, value: str) -> str:
    """Write ``system|value`` as a token criterion that matches nothing else."""
    return f"{escaped(system)}|{escaped(value)}"


def criteria(parameters: Parameters) -> str:
    """Write a search as If-None-Exist carries it: a query without type and ``?``."""
    return urlencode(parameters)


def study_criteria(study_instance_uid: str) -> str:
    """Return the criterion under which flute-sync writes a study, for If-None-Exist."""
    return criteria([("identifier", f"{DICOM_UID}|{OID}{study_instance_uid}")])


def study_search(study_instance_uid: str) -> Parameters:
    """Search a study by its UID, in every form that others write it."""
    with_prefix = OID + study_instance_uid
    forms = (
        f"{DICOM_UID}|{with_prefix}",
        f"{DICOM_UID}|{study_instance_uid}",
        f"{URI}|{with_prefix}",
        f"|{study_instance_uid}",
        f"|{with_prefix}",
    )
    return [("identifier", ",".join(forms))]


def identifier_search(keys: Iterable[tuple[str, str]]) -> Parameters:
    """Search what bears at least one of these identifiers, each a system and a value."""
    return [("identifier", ",".join(token(system, value) for system, value in keys))]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a search: what matched, what came with it, and where the next one is."""

    matches: list[Resource]
    next_url: str | None
    included: list[Resource] = field(default_factory=list)


def page(bundle: object, resource_type: str, base_url: str) -> Page:
    """Read a searchset.

    Outcomes are left out, and so is a match that is not of the type asked for or has no id: a
    server that says nonsense finds nothing.

    Raises
    ------
    FhirServerError
        When it is not a searchset, or its next page would be on another server.
    """
    entries, links = _entries(bundle, "searchset", "search")
    matches = [found for entry in entries if (found := _match(entry, resource_type)) is not None]
    included = [found for entry in entries if (found := _included(entry)) is not None]
    return Page(matches, _next(links, base_url), included)


def past(bundle: object, resource_type: str, base_url: str) -> Page:
    """Read a page of a type's history: versions, and of what was deleted its id and meta alone.

    Raises
    ------
    FhirServerError
        As `page`.
    """
    entries, links = _entries(bundle, "history", "history")
    found = [_version(entry, resource_type) for entry in entries if isinstance(entry, dict)]
    return Page([one for one in found if one is not None], _next(links, base_url))


def _entries(bundle: object, kind: str, asked: str) -> tuple[list[Any], object]:
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise FhirServerError(f"a {asked} was not answered with a Bundle")
    if bundle.get("type") != kind:
        raise FhirServerError(f"a {asked} was answered with a Bundle that is no {kind}")
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        raise FhirServerError(f"a {asked} was answered with a malformed Bundle")
    return entries, bundle.get("link")


def _version(entry: Mapping[str, Any], resource_type: str) -> Resource | None:
    if isinstance(entry.get("resource"), dict):
        resource: Resource = entry["resource"]
        fits = resource.get("resourceType") == resource_type and has_id(resource)
        return resource if fits else None
    request, response = entry.get("request"), entry.get("response")
    if not isinstance(request, dict) or request.get("method") != "DELETE":
        return None
    kind, resource_id, version = located(str(request.get("url", "")))
    if kind != resource_type or resource_id is None:
        return None
    said = response if isinstance(response, dict) else {}
    meta = {
        "versionId": version_of_etag(str(said.get("etag", ""))) or version,
        "lastUpdated": said.get("lastModified"),
    }
    return {"resourceType": kind, "id": resource_id, "meta": meta}


def _match(entry: object, resource_type: str) -> Resource | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("resource"), dict):
        return None
    search = entry.get("search")
    mode = search.get("mode") if isinstance(search, dict) else None
    resource: Resource = entry["resource"]
    # search.mode is optional (0..1): a server that leaves it out must not look empty, or every
    # study would be created again. It is then the type, and the caller's look at the identifier.
    if mode not in {"match", None} or resource.get("resourceType") != resource_type:
        return None
    return resource if has_id(resource) else None


def _included(entry: object) -> Resource | None:
    resource = entry.get("resource") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(resource, dict):
        return None
    search = entry.get("search")
    is_included = isinstance(search, dict) and search.get("mode") == "include"
    return resource if is_included and has_id(resource) else None


def has_id(resource: Mapping[str, Any]) -> bool:
    """Tell whether a resource has an id that a URL can carry."""
    return bool(_ID.fullmatch(str(resource.get("id", ""))))


def is_reference(said: str, resource_type: str) -> bool:
    """Tell whether this is ``TYPE/ID`` and no more, with an id that a URL can carry."""
    kind, _, found = said.partition("/")
    return kind == resource_type and _ID.fullmatch(found) is not None


def _next(links: object, base_url: str) -> str | None:
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("relation") == "next":
            return _inside(str(link.get("url", "")), base_url)
    return None


def _inside(url: str, base_url: str) -> str:
    """Return the absolute URL; refuse one that would take our credentials elsewhere."""
    try:
        absolute = urljoin(base_url + "/", url)
        there, here = urlsplit(absolute), urlsplit(base_url)
        same_origin = (there.scheme, there.hostname, _port(there.scheme, there.port)) == (
            here.scheme,
            here.hostname,
            _port(here.scheme, here.port),
        )
    except ValueError:
        raise FhirServerError("a search names a next page that is no URL") from None
    below = there.path == here.path or there.path.startswith(here.path + "/")
    if not same_origin or not below or ".." in there.path or there.username is not None:
        raise FhirServerError(
            "a search names a next page outside fhir.base_url: tell the server its own address"
        )
    return absolute


def _port(scheme: str, port: int | None) -> int | None:
    return port or {"http": 80, "https": 443}.get(scheme)


def reference_id(reference: object, resource_type: str, base_url: str) -> str | None:
    """Return the id that a literal reference names on this server, else None."""
    if not isinstance(reference, str):
        return None
    relative = reference.removeprefix(base_url + "/").partition("/_history/")[0]
    kind, _, found = relative.partition("/")
    return found if kind == resource_type and _ID.fullmatch(found) else None
