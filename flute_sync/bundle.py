"""Bundles: several requests in one, either each for itself (batch) or all or nothing (transaction).

References
----------
FHIR R4 http.html#transaction, bundle.html, provenance.html
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import urlencode
from uuid import NAMESPACE_URL, uuid5

from flute_sync.fhir_errors import FhirServerError
from flute_sync.terminology import DATA_OPERATION, PROVENANCE_PARTICIPANT, URI

Resource = dict[str, Any]
Method = Literal["GET", "POST", "PUT", "DELETE"]
_STATUS: Final = re.compile(r"^\s*(\d{3})\b")
_LOCATION: Final = re.compile(
    r"(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})"
    r"(?:/_history/(?P<version>[A-Za-z0-9\-.]{1,64}))?/?$"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One request of a bundle.

    ``full_url`` lets other entries refer to a resource that has no id yet (`full_url`).
    """

    method: Method
    url: str
    resource: Mapping[str, Any] | None = None
    full_url: str | None = None
    if_none_exist: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one request: status, where the resource is, and what came with it."""

    status: int
    id: str | None = None
    version: str | None = None
    resource: Resource | None = None


def search_url(resource_type: str, parameters: Iterable[tuple[str, str]]) -> str:
    """Return the url of a search as a bundle's GET entry carries it."""
    return f"{resource_type}?{urlencode(list(parameters))}"


def full_url(resource_type: str, key: str) -> str:
    """Return a urn:uuid for a resource to be created, the same for the same key."""
    return uuid5(NAMESPACE_URL, f"{resource_type}/{key}").urn


def bundle(kind: Literal["batch", "transaction"], entries: Iterable[Entry]) -> Resource:
    """Write a request bundle, entries in the order given."""
    return {"resourceType": "Bundle", "type": kind, "entry": [_entry(entry) for entry in entries]}


def _entry(entry: Entry) -> Resource:
    request: Resource = {"method": entry.method, "url": entry.url}
    if entry.if_none_exist is not None:
        request["ifNoneExist"] = entry.if_none_exist
    if entry.if_match is not None:
        request["ifMatch"] = etag(entry.if_match)
    if entry.if_none_match is not None:
        request["ifNoneMatch"] = entry.if_none_match
    written: Resource = {}
    if entry.full_url is not None:
        written["fullUrl"] = entry.full_url
    if entry.resource is not None:
        written["resource"] = entry.resource
    return written | {"request": request}


def results(answer: Mapping[str, Any], expected: int) -> tuple[Result, ...]:
    """Read a response bundle: one result for each request, in the order of the requests.

    Raises
    ------
    FhirServerError
        When it is not a response to ``expected`` requests.
    """
    entries = answer.get("entry")
    if (
        answer.get("resourceType") != "Bundle"
        or answer.get("type") not in {"batch-response", "transaction-response"}
        or not isinstance(entries, list)
        or len(entries) != expected
    ):
        raise FhirServerError("a bundle was not answered entry by entry")
    return tuple(_result(entry) for entry in entries)


def _result(entry: object) -> Result:
    response = entry.get("response") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(response, dict):
        raise FhirServerError("a bundle was answered with an entry without response")
    status = _STATUS.match(str(response.get("status", "")))
    if status is None:
        raise FhirServerError("a bundle was answered with an entry without status")
    resource = entry.get("resource", response.get("outcome"))
    if not isinstance(resource, dict):
        resource = None
    _, resource_id, version = located(str(response.get("location", "")))
    version = version_of_etag(str(response.get("etag", ""))) or version
    return Result(int(status[1]), resource_id, version, resource)


def located(location: str) -> tuple[str | None, str | None, str | None]:
    """Return type, id and version from a Location; None where it does not say."""
    found = _LOCATION.search(location)
    return (found["type"], found["id"], found["version"]) if found else (None, None, None)


def etag(version: str) -> str:
    """Return the ETag of a version (FHIR R4 http.html#versioning)."""
    return f'W/"{version}"'


def version_of_etag(text: str) -> str | None:
    """Return the version that an ETag names, weak or not."""
    version = text.strip().removeprefix("W/").strip('"')
    return version if re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", version) else None


@dataclass(frozen=True, slots=True)
class Account:
    """Why a resource is written as it is, for its Provenance.

    ``reasons`` are words that name nobody, or a person's own, ``policy`` is the URI of the rules
    that decided, and ``sources`` are the addresses, with their versions, of what they decided
    about.
    """

    reasons: tuple[str, ...] = ()
    policy: str | None = None
    sources: tuple[str, ...] = ()


def provenance(
    target: str,
    activity: Literal["CREATE", "UPDATE"],
    recorded: datetime,
    agent: Mapping[str, Any],
    *,
    account: Account = Account(),
    revision_of: str | None = None,
) -> Resource:
    """Say that flute-sync wrote a resource.

    Parameters
    ----------
    target
        A literal reference, or the ``full_url`` of an entry of the same transaction.
    recorded
        Aware time of the write.
    agent
        Who, as a FHIR Reference.
    account
        Why.
    revision_of
        Reference of the version that was replaced.
    """
    more: Resource = {}
    if account.reasons:
        more["reason"] = [{"text": reason} for reason in account.reasons]
    entities = [{"role": "source", "what": _source(one)} for one in account.sources]
    if revision_of is not None:
        entities.insert(0, {"role": "revision", "what": {"reference": revision_of}})
    if entities:
        more["entity"] = entities
    policy = {} if account.policy is None else {"policy": [account.policy]}
    return {
        "resourceType": "Provenance",
        "target": [{"reference": target}],
        "recorded": recorded.isoformat(timespec="milliseconds"),
        **policy,
        "activity": {"coding": [{"system": DATA_OPERATION, "code": activity}]},
        "agent": [
            {
                "type": {"coding": [{"system": PROVENANCE_PARTICIPANT, "code": "assembler"}]},
                "who": dict(agent),
            }
        ],
        **more,
    }


def _source(address: str) -> Resource:
    """Refer to a version logically: a literal reference would let servers refuse its deletion.

    HAPI would drop the version from it besides (FHIR R4 references.html#logical).
    """
    kind, resource_id, version = located(address)
    words = f"{kind}/{resource_id}" + (f", version {version}" if version else "")
    return {"type": kind, "identifier": {"system": URI, "value": address}, "display": words}


def witnessed(
    entry: Entry, recorded: datetime, agent: Mapping[str, Any], account: Account = Account()
) -> list[Entry]:
    """Return the entries of a transaction that writes a resource together with its Provenance."""
    target = entry.full_url or entry.url
    activity: Literal["CREATE", "UPDATE"] = "CREATE" if entry.if_match is None else "UPDATE"
    said = provenance(target, activity, recorded, agent, account=account)
    return [entry, Entry("POST", "Provenance", said, full_url("Provenance", target))]


def oldest_first(resources: Iterable[Resource]) -> list[Resource]:
    """Sort resources by `meta.lastUpdated`, then id; those without a date come last."""
    latest = datetime.max.replace(tzinfo=UTC)
    return sorted(resources, key=lambda found: (last_updated(found) or latest, str(found["id"])))


def last_updated(resource: Mapping[str, Any]) -> datetime | None:
    """Return when the server last wrote a resource, by the server's clock, in UTC."""
    meta = resource.get("meta")
    text = meta.get("lastUpdated") if isinstance(meta, dict) else None
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return at.astimezone(UTC) if at is not None and at.tzinfo is not None else None


def version_of(resource: Mapping[str, Any]) -> str | None:
    """Return `meta.versionId`."""
    meta = resource.get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    return version if isinstance(version, str) else None
