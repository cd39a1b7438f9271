"""Bundles of interactions: transactions, all or nothing, and batches."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

from flute_sync.sandbox.fhir_server.checks import check_resource
from flute_sync.sandbox.fhir_server.interactions import Done, Interactions
from flute_sync.sandbox.fhir_server.outcome import FhirError
from flute_sync.sandbox.fhir_server.parameters import Resource

_ORDER: Final = ("DELETE", "POST", "PUT", "GET")
_INSTANCE: Final = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})")
_TYPE: Final = re.compile(r"([A-Z][A-Za-z]+)(?:\?(.*))?")


@dataclass(slots=True)
class _Entry:
    """One entry: its method, address split in three, conditions, body; then what came of it."""

    full_url: str
    method: str
    type: str
    id: str
    query: str
    condition: str | None
    match: str | None
    body: Any
    done: Done | None = None
    response: dict[str, Any] | None = None


def process(interactions: Interactions, body: Any, base: str, *, full: bool) -> Resource:
    """Process a Bundle of type transaction or batch.

    Parameters
    ----------
    interactions
        What carries the entries out.
    body
        The Bundle.
    base
        The server's own address.
    full
        Send the resources back (``Prefer: return=representation``).

    Raises
    ------
    FhirError
        As the first entry that fails of a transaction; 400 for a Bundle that is none.
    """
    check_resource(body, "Bundle")
    entries = [_parse(entry, base) for entry in body.get("entry", [])]
    if body.get("type") == "transaction":
        with interactions.store.exclusive():
            _transact(interactions, entries, base)
    elif body.get("type") == "batch":
        for entry in entries:
            _attempt(interactions, entry, base)
    else:
        raise FhirError(400, "invalid", "the Bundle is neither transaction nor batch")
    answers = [_answer(entry, full=full) for entry in entries]
    return {"resourceType": "Bundle", "type": f"{body['type']}-response", "entry": answers}


def _parse(entry: dict[str, Any], base: str) -> _Entry:
    request = entry.get("request", {})
    url = request.get("url", "").removeprefix(base + "/")
    method = request.get("method", "")
    instance, kind = _INSTANCE.fullmatch(url), _TYPE.fullmatch(url)
    fits = {
        "POST": kind is not None and kind[2] is None,
        "PUT": instance is not None,
        "DELETE": instance is not None,
        "GET": instance is not None or kind is not None,
    }
    if not fits.get(method):
        raise FhirError(400, "not-supported", "an entry's method and url do not fit together")
    return _Entry(
        full_url=entry.get("fullUrl", ""),
        method=method,
        type=(instance or kind or ("", ""))[1],
        id=instance[2] if instance else "",
        query=(kind[2] or "") if kind else "",
        condition=request.get("ifNoneExist"),
        match=request.get("ifMatch"),
        body=entry.get("resource"),
    )


def _transact(interactions: Interactions, entries: list[_Entry], base: str) -> None:
    _check_identities(entries)
    known: dict[str, str] = {}
    for entry in entries:
        if entry.method == "POST":
            _prepare_create(interactions, entry)
        if entry.full_url.startswith("urn:") and entry.method in ("POST", "PUT"):
            known[entry.full_url] = f"{entry.type}/{entry.id}"
    for entry in entries:
        entry.body = _rewritten(entry.body, known)
    for method in _ORDER:
        for entry in entries:
            if entry.method == method and entry.done is None:
                _carry_out(interactions, entry, base)


def _check_identities(entries: list[_Entry]) -> None:
    named = [f"{one.type}/{one.id}" for one in entries if one.method in ("PUT", "DELETE")]
    named += [f"{one.type}?{one.condition}" for one in entries if one.condition]
    if len(named) > len(set(named)):
        raise FhirError(400, "invalid", "the transaction names one resource twice")


def _prepare_create(interactions: Interactions, entry: _Entry) -> None:
    """Learn before anything is written whether the resource exists, and which id it has."""
    if entry.condition is not None:
        check_resource(entry.body, entry.type)
        existing = interactions.match(entry.type, entry.condition)
        if existing is not None:
            entry.id, entry.done = existing.id, Done(200, existing)
            return
    entry.id = interactions.store.new_id()


def _carry_out(interactions: Interactions, entry: _Entry, base: str) -> None:
    if entry.method == "POST":
        resource = check_resource(entry.body, entry.type)
        entry.done = interactions.create_as(entry.id, resource, entry.condition)
    elif entry.method == "PUT":
        entry.done = interactions.update(entry.type, entry.id, entry.body, entry.match)
    elif entry.method == "DELETE":
        entry.done = interactions.delete(entry.type, entry.id, entry.match)
    elif entry.id:
        entry.done = Done(200, interactions.read(entry.type, entry.id))
    else:
        found = interactions.search(entry.type, parse_qsl(entry.query), base)
        entry.response = {"resource": found, "response": {"status": "200 OK"}}


def _attempt(interactions: Interactions, entry: _Entry, base: str) -> None:
    try:
        with interactions.store.exclusive():
            if entry.method == "POST":
                _prepare_create(interactions, entry)
            if entry.done is None:
                _carry_out(interactions, entry, base)
    except FhirError as error:
        entry.response = {"response": {"status": _status(error.status), "outcome": error.resource}}


def _rewritten(element: Any, known: dict[str, str]) -> Any:
    """Put the ids in the place of the bundle's own ``urn:`` names, in references and URIs.

    Raises
    ------
    FhirError
        400 when a reference names an entry that is not there.
    """
    if isinstance(element, list):
        return [_rewritten(one, known) for one in element]
    if not isinstance(element, dict):
        return element
    rewritten = {key: _rewritten(value, known) for key, value in element.items()}
    for key in ("reference", "valueUri", "valueUrl"):
        value = rewritten.get(key)
        if isinstance(value, str) and value in known:
            rewritten[key] = known[value]
        elif key == "reference" and isinstance(value, str) and value.startswith("urn:uuid:"):
            raise FhirError(400, "invalid", "a reference names no entry of the transaction")
    return rewritten


def _answer(entry: _Entry, *, full: bool) -> dict[str, Any]:
    if entry.response is not None or entry.done is None:
        return entry.response or {}
    stored = entry.done.stored
    response = {
        "status": _status(entry.done.status),
        "location": f"{stored.path}/_history/{stored.version}",
        "etag": stored.etag,
        "lastModified": stored.at,
    }
    if stored.body is not None and (full or entry.method == "GET"):
        return {"resource": stored.resource, "response": response}
    return {"response": response}


def _status(code: int) -> str:
    return f"{code} {HTTPStatus(code).phrase}"
