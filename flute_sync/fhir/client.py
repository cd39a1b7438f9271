"""FHIR REST interactions, each with the preconditions that make it safe.

References
----------
FHIR R4 http.html
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal
from urllib.parse import urlencode

import httpx

from flute_sync.bundle import (
    Entry,
    Resource,
    Result,
    bundle,
    etag,
    located,
    results,
    version_of,
    version_of_etag,
)
from flute_sync.fhir.capability import Capabilities, capabilities
from flute_sync.fhir.outcome import failure
from flute_sync.fhir.queries import Page, Parameters, has_id, past
from flute_sync.fhir.queries import page as present
from flute_sync.fhir.reads import checked
from flute_sync.fhir.settings import FhirSettings
from flute_sync.fhir.wire import Answer, RequestCounter, Wire
from flute_sync.fhir_errors import FhirServerError
from flute_sync.transport.failure import http_date

__all__ = ["FhirClient", "FhirSettings"]

_MOST_PAGES: Final = 10_000
_MOST_MATCHES: Final = 2_000
_MOST_OF_PATIENT: Final = 50_000
_PLAIN: Final = "application/fhir+json, application/json;q=0.9"
_MINIMAL: Final = {"Prefer": "return=minimal"}


class FhirClient:
    """A FHIR R4 server. Methods are thread-safe; none tries again by itself.

    Every method raises `FhirUnavailable`, `FhirBusy`, `FhirServerError`, `FhirUnauthorized`,
    `FhirRejected`, `TokenUnavailable` or `TokenRefused` where the server or the way to it is at
    fault; what else one raises is said there.
    """

    def __init__(
        self,
        settings: FhirSettings,
        *,
        transport: httpx.BaseTransport | None = None,
        on_request: RequestCounter | None = None,
    ) -> None:
        self.settings = settings
        self.wire = Wire(settings, transport=transport, on_request=on_request)
        self.base_url = self.wire.base_url
        self.bundles = True
        """Whether several requests may go in one; `capabilities` finds out."""
        self.transactions = True
        """Whether they may go all or nothing; `capabilities` finds out."""
        self.types: frozenset[str] | None = None
        """The resource types that may be searched; `capabilities` finds out."""
        self.histories = frozenset[str]()
        """The resource types of which the history is told; `capabilities` finds out."""

    def __enter__(self) -> "FhirClient":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.wire.close()

    def capabilities(self) -> Capabilities:
        """Ask what the server can do (FHIR R4 http.html#capabilities)."""
        answer = self.wire.send("capabilities", "GET", "metadata", headers={"Accept": _PLAIN})
        found = capabilities(answer.body)
        self.bundles = found.bundles
        self.transactions = "transaction" in found.system
        self.types = found.searchable
        self.histories = found.historical
        return found

    def server_time(self) -> datetime:
        """Return the server's own time; ours where it does not say (RFC 9110 6.6.1)."""
        answer = self.wire.send("capabilities", "GET", "metadata", headers={"Accept": _PLAIN})
        return http_date(answer.headers.get("date", "")) or datetime.now(UTC)

    def read(self, resource_type: str, resource_id: str) -> Resource | None:
        """Read a resource; None when the server never had it.

        Raises
        ------
        FhirGone
            It was deleted.
        """
        answer = self.wire.send(
            "read", "GET", f"{resource_type}/{resource_id}", accept=frozenset({404})
        )
        if answer.status == 404:
            if answer.body is not None and answer.body["resourceType"] != "OperationOutcome":
                raise FhirServerError("HTTP 404 on read, with a resource")
            return None
        return checked(answer.body, resource_type, resource_id)

    def search(self, resource_type: str, parameters: Parameters) -> list[Resource]:
        """Search by POST, so that no identifier stands in a URL, and read all pages.

        For criteria that few resources meet; `pages` is for many.

        Raises
        ------
        FhirServerError
            So many were found that the server cannot have looked at the criteria.
        """
        return _few(self.pages(resource_type, parameters))

    def total(self, resource_type: str, parameters: Parameters) -> int | None:
        """Count by POST what a search matches; None where the server does not say."""
        form = [*parameters, ("_summary", "count")]
        body = self.wire.send("search", "POST", f"{resource_type}/_search", form=form).body
        found = (body or {}).get("total")
        return found if isinstance(found, int) else None

    def pages(
        self, resource_type: str, parameters: Parameters, *, exact: bool = False
    ) -> Iterator[list[Resource]]:
        """Search by POST and yield what matched, page by page.

        Parameters
        ----------
        exact
            Whether decimals keep their precision.

        Raises
        ------
        FhirServerError
            The pages lead in a circle, elsewhere, or never end.
        """
        form, url = parameters, f"{resource_type}/_search"
        answer = self.wire.send("search", "POST", url, form=form, exact=exact)
        for found in self._following(answer.body, resource_type, exact=exact):
            yield found.matches

    def history(self, resource_type: str, parameters: Parameters) -> Iterator[list[Resource]]:
        """Yield the versions of a type, page by page; what was deleted as id and meta alone.

        Raises
        ------
        FhirServerError
            As `pages`.
        """
        url = f"{resource_type}/_history?{urlencode(parameters)}"
        answer = self.wire.send("history", "GET", url)
        for found in self._following(answer.body, resource_type, read=past):
            yield found.matches

    def page(
        self, resource_type: str, parameters: Parameters, *, next_url: str | None = None
    ) -> Page:
        """Search by POST and return one page.

        Parameters
        ----------
        next_url
            Where an earlier page said that this one is; ``parameters`` are in it.
        """
        if next_url is None:
            answer = self.wire.send("search", "POST", f"{resource_type}/_search", form=parameters)
        else:
            answer = self.wire.send("search", "GET", next_url)
        return present(answer.body, resource_type, self.base_url)

    def whole(self, resource_type: str, parameters: Parameters) -> list[Resource]:
        """Search by POST and return all that matched and was included; decimals are exact."""
        form, url = parameters, f"{resource_type}/_search"
        answer = self.wire.send("search", "POST", url, form=form, exact=True)
        return self._whole(answer.body, resource_type)

    def whole_of(self, result: Result, resource_type: str) -> list[Resource]:
        """Return what a search within an exact batch found and included, further pages too."""
        return self._whole(_searchset(result), resource_type)

    def _whole(self, searchset: object, resource_type: str) -> list[Resource]:
        pages = self._following(searchset, resource_type, exact=True)
        return _few((found.matches + found.included for found in pages), _MOST_OF_PATIENT)

    def _following(
        self,
        first: object,
        resource_type: str,
        *,
        exact: bool = False,
        read: Callable[[object, str, str], Page] = present,
    ) -> Iterator[Page]:
        seen: set[str] = set()
        found = read(first, resource_type, self.base_url)
        yield found
        while found.next_url is not None:
            if found.next_url in seen or len(seen) >= _MOST_PAGES:
                raise FhirServerError("the pages of a search do not end")
            seen.add(found.next_url)
            answer = self.wire.send("search", "GET", found.next_url, exact=exact)
            found = read(answer.body, resource_type, self.base_url)
            yield found

    def matches(self, result: Result, resource_type: str) -> list[Resource]:
        """Return what a search within a batch found, further pages included."""
        pages = self._following(_searchset(result), resource_type)
        return _few(found.matches for found in pages)

    def batch(self, entries: Sequence[Entry], *, exact: bool = False) -> tuple[Result, ...]:
        """Send requests in one; each answer has its own status.

        Parameters
        ----------
        exact
            Whether decimals keep their precision.
        """
        return self._bundle("batch", entries, exact=exact)

    def transaction(self, entries: Sequence[Entry]) -> tuple[Result, ...]:
        """Send requests in one, all or nothing.

        Raises
        ------
        FhirConflict, FhirAmbiguous
            As `create` and `update`.
        """
        written = self._bundle("transaction", entries)
        for entry, result in zip(entries, written, strict=True):
            if not 200 <= result.status < 300:
                conditional = entry.if_none_exist is not None
                raise failure(result.status, {}, result.resource, "bundle", conditional=conditional)
        return written

    def _bundle(
        self,
        kind: Literal["batch", "transaction"],
        entries: Sequence[Entry],
        *,
        exact: bool = False,
    ) -> tuple[Result, ...]:
        # Without minimal, a written study of megabytes would come back.
        headers = {} if kind == "batch" else _MINIMAL
        sent = bundle(kind, entries)
        answer = self.wire.send(
            "bundle", "POST", self.base_url, resource=sent, headers=headers, exact=exact
        )
        return results(answer.body or {}, len(entries))

    def create(self, resource: Resource, *, if_none_exist: str | None = None) -> Result:
        """Create a resource; status 200 means that one matched and nothing was written.

        Parameters
        ----------
        if_none_exist
            Search criteria, as a query without ``?``.

        Raises
        ------
        FhirAmbiguous
            Several resources match already.
        FhirConflict
            Somebody creates the same at this moment.
        """
        headers = dict(_MINIMAL)
        if if_none_exist is not None:
            headers["If-None-Exist"] = if_none_exist
        kind = resource["resourceType"]
        answer = self.wire.send("create", "POST", kind, resource=resource, headers=headers)
        return _written(answer, kind)

    def update(self, resource: Resource, *, if_match: str | None) -> Result:
        """Write a resource to its id.

        Parameters
        ----------
        if_match
            The version that the resource was made from; None only for an id of our own choosing
            that is not known to exist.

        Raises
        ------
        FhirConflict
            Another version is current. The standard's status is 412, HAPI's 409.
        """
        headers = dict(_MINIMAL)
        if if_match is None:
            headers["If-None-Match"] = "*"
        else:
            headers["If-Match"] = etag(if_match)
        kind, resource_id = resource["resourceType"], resource["id"]
        url = f"{kind}/{resource_id}"
        answer = self.wire.send("update", "PUT", url, resource=resource, headers=headers)
        result = _written(answer, kind, resource_id)
        if result.id != resource_id:
            raise FhirServerError("an update was answered with another resource's location")
        return result

    def operate(self, name: str, parameters: Resource) -> None:
        """Ask the whole server for an operation, which it may carry out later.

        Parameters
        ----------
        name
            Without ``$``.
        parameters
            A Parameters resource.

        Raises
        ------
        FhirCapabilityMissing
            It has no such operation.
        """
        headers = {"Prefer": "respond-async"}
        self.wire.send("operation", "POST", f"${name}", resource=parameters, headers=headers)

    def delete(self, resource_type: str, resource_id: str, *, if_match: str) -> None:
        """Delete a version of a resource; one that is gone already is no error.

        HAPI ignores If-Match here: the caller must have looked at the resource just before.
        """
        self.wire.send(
            "delete",
            "DELETE",
            f"{resource_type}/{resource_id}",
            headers={"If-Match": etag(if_match)},
            accept=frozenset({404, 410}),
        )


def _searchset(result: Result) -> Resource | None:
    if result.status != 200:
        raise failure(result.status, {}, result.resource, "search")
    return result.resource


def _few(pages: Iterator[list[Resource]], most: int = _MOST_MATCHES) -> list[Resource]:
    """Put pages together, each resource once: what changes meanwhile may stand on two of them."""
    found: dict[tuple[str, str], Resource] = {}
    told = 0
    for matches in pages:
        found |= {(one["resourceType"], one["id"]): one for one in matches}
        told += len(matches)
        if told > most:
            raise FhirServerError("a search for one thing finds thousands of resources")
    return list(found.values())


def _written(answer: Answer, kind: str, known_id: str | None = None) -> Result:
    headers, body = answer.headers, answer.body
    if body is not None and (body["resourceType"] != kind or not has_id(body)):
        body = None
    location = headers.get("location") or headers.get("content-location") or ""
    found_kind, found_id, version = located(location)
    if found_id is not None and found_kind != kind:
        raise FhirServerError("a write was answered with another resource's location")
    resource_id = found_id or _id(body) or known_id
    version = version_of_etag(headers.get("etag", "")) or version or version_of(body or {})
    return Result(answer.status, resource_id, version, body)


def _id(body: dict[str, Any] | None) -> str | None:
    return None if body is None else str(body["id"])
