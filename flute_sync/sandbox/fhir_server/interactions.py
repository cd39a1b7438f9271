"""The interactions on one resource, as a client asks for them and as a transaction does.

References
----------
FHIR R4 http.html.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import uuid4

from flute_sync.sandbox.fhir_server.checks import check_resource, check_type
from flute_sync.sandbox.fhir_server.outcome import FhirError
from flute_sync.sandbox.fhir_server.parameters import Resource
from flute_sync.sandbox.fhir_server.search import Search, parse_search
from flute_sync.sandbox.fhir_server.store import ResourceStore, Stored

_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_ETAG: Final = re.compile(r'(?:W/)?"?(\d+)"?')
_SERVER_META: Final = frozenset({"versionId", "lastUpdated"})
_SEARCHES_KEPT: Final = 200
_MOST_VERSIONS: Final = 500


@dataclass(frozen=True, slots=True)
class Done:
    """What an interaction did: the HTTP status and the version it ended with."""

    status: int
    stored: Stored


@dataclass(frozen=True, slots=True)
class _Paged:
    search: Search
    rids: list[int]


class Interactions:
    """The server's interactions; call them within ``store.exclusive()``.

    Parameters
    ----------
    store
        The resources.
    stale_status
        What answers a stale If-Match: 412 as FHIR says, 409 as HAPI does.
    """

    def __init__(self, store: ResourceStore, stale_status: int = 409) -> None:
        self.store = store
        self._stale_status = stale_status
        self._pages: OrderedDict[str, _Paged] = OrderedDict()

    def read(self, resource_type: str, resource_id: str) -> Stored:
        """Read the current version.

        Raises
        ------
        FhirError
            404 where there is none, 410 where it was deleted.
        """
        check_type(resource_type)
        stored = self.store.read(resource_type, resource_id)
        if stored is None:
            raise FhirError(404, "not-found", "there is no such resource")
        return _present(stored)

    def vread(self, resource_type: str, resource_id: str, version: str) -> Stored:
        """Read one version; raises as ``read``."""
        for stored in self.history(resource_type, resource_id):
            if str(stored.version) == version:
                return _present(stored)
        raise FhirError(404, "not-found", "there is no such version")

    def history(self, resource_type: str, resource_id: str) -> list[Stored]:
        """Read all versions, newest first; raises 404 as ``read``."""
        check_type(resource_type)
        versions = self.store.history(resource_type, resource_id)
        if not versions:
            raise FhirError(404, "not-found", "there is no such resource")
        return versions

    def type_history(self, resource_type: str, parameters: Mapping[str, str]) -> list[Stored]:
        """Read a page of a type's versions since ``_since``, newest first, and one version more.

        Raises
        ------
        FhirError
            400 for an unfit value, 404 for an unknown type.
        """
        check_type(resource_type)
        try:
            since = datetime.fromisoformat(parameters.get("_since", "0001-01-02T00:00:00Z"))
        except ValueError:
            raise FhirError(400, "invalid", "_since is no instant") from None
        if since.tzinfo is None:
            raise FhirError(400, "invalid", "_since is no instant")
        count, offset = page_of(parameters)
        return self.store.type_history(resource_type, since, count + 1, offset)

    def create(self, resource_type: str, body: Any, condition: str | None) -> Done:
        """Create; with a condition only where nothing matches it.

        Raises
        ------
        FhirError
            400, 422 as ``check_resource``, 412 when several match, 400 when the new one would not.
        """
        resource = check_resource(body, resource_type)
        if condition is not None:
            existing = self.match(resource_type, condition)
            if existing is not None:
                return Done(200, existing)
        return self.create_as(self.store.new_id(), resource, condition)

    def create_as(self, resource_id: str, resource: Resource, condition: str | None) -> Done:
        """Create under an id of the server, the condition being judged already."""
        written = self.store.write(resource, resource_id, "POST")
        if condition is not None and self.match(written.type, condition) is None:
            raise FhirError(400, "invalid", "the resource does not meet its own condition")
        return Done(201, written)

    def match(self, resource_type: str, condition: str) -> Stored | None:
        """Find the one resource that a condition matches.

        Raises
        ------
        FhirError
            412 when several match, 400 when the condition says nothing.
        """
        parameters = parse_qsl(condition.removeprefix(f"{resource_type}?").removeprefix("?"))
        if not parameters:
            raise FhirError(400, "invalid", "the condition has no search parameter")
        search = parse_search(resource_type, parameters, self.store.installed)
        found = self.store.load(self.store.select(*search.sql())[:2])
        if len(found) > 1:
            raise FhirError(412, "multiple-matches", "the condition matches several resources")
        return found[0] if found else None

    def update(self, resource_type: str, resource_id: str, body: Any, match: str | None) -> Done:
        """Update, or create under the client's id; an unchanged body makes no version.

        Raises
        ------
        FhirError
            400, 422 as ``check_resource``; 400 for an unfit id; the stale status where ``match``
            is not the current version.
        """
        resource = check_resource(body, resource_type)
        if resource.get("id") != resource_id or not _ID.fullmatch(resource_id):
            raise FhirError(400, "invalid", "the body's id is not that of the address, or unfit")
        current = self.store.read(resource_type, resource_id)
        self._check_version(current, match)
        if current is None and resource_id.isdigit():
            raise FhirError(400, "business-rule", "an id that a client chooses is not a number")
        if current is None or current.body is None:
            return Done(201, self.store.write(resource, resource_id, "PUT"))
        if _same(current.resource, resource):
            return Done(200, current)
        return Done(200, self.store.write(resource, resource_id, "PUT"))

    def delete(self, resource_type: str, resource_id: str, match: str | None) -> Done:
        """Delete; again: nothing more.

        Raises
        ------
        FhirError
            404 where there is none; the stale status as ``update``.
        """
        check_type(resource_type)
        current = self.store.read(resource_type, resource_id)
        if current is None:
            raise FhirError(404, "not-found", "there is no such resource")
        if current.body is None:
            return Done(204, current)
        self._check_version(current, match)
        return Done(204, self.store.delete(resource_type, resource_id))

    def expunge(self, resource_type: str, resource_id: str, body: Any) -> int:
        """Remove old versions, and all of a resource that was deleted; return how many.

        Raises
        ------
        FhirError
            400 when the body is no Parameters, 404 where there is no such resource.
        """
        current = self.history(resource_type, resource_id)[0]
        asked = {
            one.get("name")
            for one in check_resource(body, "Parameters").get("parameter", [])
            if one.get("valueBoolean") is True
        }
        wholly = current.body is None and "expungeDeletedResources" in asked
        if not wholly and "expungePreviousVersions" not in asked:
            return 0
        return self.store.expunge(resource_type, resource_id, wholly=wholly)

    def search(
        self, resource_type: str, parameters: Iterable[tuple[str, str]], base: str
    ) -> Resource:
        """Search; the result is fixed now and paged through later.

        Raises
        ------
        FhirError
            400 as ``parse_search``, 404 for an unknown type.
        """
        check_type(resource_type)
        search = parse_search(resource_type, parameters, self.store.installed)
        paged = _Paged(search, self.store.select(*search.sql()))
        if search.count_only:
            return _bundle(len(paged.rids), [], {"self": f"{base}/{resource_type}"})
        token = uuid4().hex
        if len(paged.rids) > search.count:
            self._pages[token] = paged
            while len(self._pages) > _SEARCHES_KEPT:
                self._pages.popitem(last=False)
        return self._page(paged, token, 0, base)

    def reindex(self, body: Any) -> None:
        """Index the types anew that the ``url`` parameters of a Parameters resource name.

        Raises
        ------
        FhirError
            400 when they are not of the form ``Type?``, 404 for an unknown type.
        """
        asked = check_resource(body, "Parameters").get("parameter", [])
        types = [str(one.get("valueString", "")) for one in asked if one.get("name") == "url"]
        if not types or not all(one.endswith("?") for one in types):
            raise FhirError(400, "invalid", "say which types, each as Type?")
        for one in types:
            check_type(one.removesuffix("?"))
            self.store.reindex(one.removesuffix("?"))

    def page(self, token: str, offset: int, base: str) -> Resource:
        """Give a further page of a search.

        Raises
        ------
        FhirError
            410 when the search is no longer kept.
        """
        paged = self._pages.get(token)
        if paged is None:
            raise FhirError(410, "expired", "this search is no longer kept")
        return self._page(paged, token, offset, base)

    def _page(self, paged: _Paged, token: str, offset: int, base: str) -> Resource:
        end = offset + paged.search.count
        matches = self.store.load(paged.rids[offset:end])
        shown = [_entry(one, "match", paged.search.elements, base) for one in matches]
        included = self._included(paged, matches)
        shown += [_entry(one, "include", frozenset(), base) for one in included]
        links = {"self": f"{base}/{paged.search.resource_type}"}  # values stay out of addresses
        if end < len(paged.rids):
            links["next"] = f"{base}?_getpages={token}&_getpagesoffset={end}"
        return _bundle(len(paged.rids), shown, links)

    def _included(self, paged: _Paged, matches: list[Stored]) -> list[Stored]:
        query = """SELECT DISTINCT target.rid FROM entry JOIN resource USING (rid)
            JOIN resource AS target ON target.type = entry.system AND target.id = entry.value
            WHERE resource.type = ? AND resource.id = ? AND entry.parameter = ?"""
        rids = {
            rid
            for one in matches
            for name in paged.search.include
            for rid in self.store.select(query, (one.type, one.id, name))
        }
        return self.store.load(sorted(rids - set(paged.rids)))

    def _check_version(self, current: Stored | None, match: str | None) -> None:
        if match is None:
            return
        version = _ETAG.fullmatch(match.strip())
        if version is None:
            raise FhirError(400, "invalid", "If-Match is not a version")
        if current is None or current.version != int(version[1]):
            raise FhirError(self._stale_status, "conflict", "this is not the current version")


def page_of(parameters: Mapping[str, str]) -> tuple[int, int]:
    """Return how many versions a page of a history has, and after how many it begins.

    Raises
    ------
    FhirError
        400 for what is no number.
    """
    count, offset = parameters.get("_count", "100"), parameters.get("_offset", "0")
    if not all(one.isascii() and one.isdigit() and len(one) < 10 for one in (count, offset)):
        raise FhirError(400, "invalid", "_count is no number")
    return min(max(int(count), 1), _MOST_VERSIONS), int(offset)


def _present(stored: Stored) -> Stored:
    if stored.body is None:
        raise FhirError(410, "deleted", "the resource was deleted")
    return stored


def _same(one: Resource, other: Resource) -> bool:
    return _without_server_meta(one) == _without_server_meta(other)


def _without_server_meta(resource: Resource) -> Resource:
    meta = {k: v for k, v in resource.get("meta", {}).items() if k not in _SERVER_META}
    return {**resource, "meta": meta}


def _entry(stored: Stored, mode: str, elements: frozenset[str], base: str) -> dict[str, Any]:
    resource = stored.resource
    if elements:
        kept = elements | {"resourceType", "id", "meta"}
        resource = {name: value for name, value in resource.items() if name in kept}
        subsetted = {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
            "code": "SUBSETTED",
        }
        resource["meta"].setdefault("tag", []).append(subsetted)
    return {"fullUrl": f"{base}/{stored.path}", "resource": resource, "search": {"mode": mode}}


def _bundle(total: int, shown: list[dict[str, Any]], links: dict[str, str]) -> Resource:
    bundle: Resource = {
        "resourceType": "Bundle",
        "id": str(uuid4()),
        "type": "searchset",
        "total": total,
        "link": [{"relation": relation, "url": url} for relation, url in links.items()],
    }
    if shown:
        bundle["entry"] = shown
    return bundle
