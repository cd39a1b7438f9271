"""The FHIR server as an ASGI application: HTTP on the outside, interactions within."""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from flute_sync.sandbox.fhir_server.capability import capability_statement
from flute_sync.sandbox.fhir_server.interactions import Done, Interactions, page_of
from flute_sync.sandbox.fhir_server.outcome import FhirError
from flute_sync.sandbox.fhir_server.parameters import Resource
from flute_sync.sandbox.fhir_server.store import ResourceStore, Stored
from flute_sync.sandbox.fhir_server.transaction import process

ROOT: Final = "/fhir"
_FHIR_JSON: Final = "application/fhir+json"
_JSON: Final = frozenset({_FHIR_JSON, "application/json", "application/json+fhir"})
_T = TypeVar("_T")
_FORM: Final = "application/x-www-form-urlencoded"


def fhir_app(store: ResourceStore, stale_status: int = 409, *, expunge: bool = True) -> Starlette:
    """Make the server's application.

    Parameters
    ----------
    store
        The resources.
    stale_status
        What answers a stale If-Match: 412 as FHIR says, 409 as HAPI does.
    expunge
        Whether versions can be removed for good by ``$expunge``, as HAPI may allow.
    """
    routes = [
        Route("/", _root, methods=["GET", "POST"]),
        Route("/metadata", _metadata),
        Route("/$reindex", _reindex, methods=["POST"]),
        Route("/{type}", _type, methods=["GET", "POST"]),
        Route("/{type}/_search", _search, methods=["GET", "POST"]),
        Route("/{type}/_history", _type_history),
        Route("/{type}/{id}", _instance, methods=["DELETE", "GET", "POST", "PUT"]),
        Route("/{type}/{id}/$expunge", _expunge, methods=["POST"]),
        Route("/{type}/{id}/_history", _history),
        Route("/{type}/{id}/_history/{version}", _vread),
    ]
    app = Starlette(
        routes=[Route(ROOT, _root, methods=["GET", "POST"]), Mount(ROOT, routes=routes)],
        exception_handlers={FhirError: _refused, HTTPException: _unknown},
    )
    app.state.interactions = Interactions(store, stale_status)
    app.state.expunge = expunge
    app.state.started = datetime.now(UTC).isoformat(timespec="seconds")
    return app


async def _root(request: Request) -> Response:
    base, interactions = _base(request), _interactions(request)
    if request.method == "POST":
        body, full = await _body(request), _preferred(request) == "representation"
        return _json(await run_in_threadpool(process, interactions, body, base, full=full))
    token = request.query_params.get("_getpages", "")
    offset = request.query_params.get("_getpagesoffset", "")
    if not token or not (offset.isascii() and offset.isdigit()):
        raise FhirError(400, "not-supported", "nothing is answered at this address")
    return _json(await _run(request, lambda: interactions.page(token, int(offset), base)))


async def _metadata(request: Request) -> Response:
    installed = _interactions(request).store.installed
    return _json(capability_statement(_base(request), request.app.state.started, installed))


async def _type(request: Request) -> Response:
    if request.method != "POST":
        return await _search(request)
    resource_type, body = request.path_params["type"], await _body(request)
    condition = request.headers.get("if-none-exist")
    create = _interactions(request).create
    done = await _run(request, lambda: create(resource_type, body, condition))
    return _written(request, done)


async def _search(request: Request) -> Response:
    parameters = request.query_params.multi_items()
    if request.method == "POST":
        if _media_type(request) != _FORM:
            raise FhirError(415, "not-supported", f"a search is posted as {_FORM}")
        form = (await request.body()).decode("utf-8", "replace")
        parameters += parse_qsl(form, keep_blank_values=True)
    resource_type, base = request.path_params["type"], _base(request)
    search = _interactions(request).search
    return _json(await _run(request, lambda: search(resource_type, parameters, base)))


async def _reindex(request: Request) -> Response:
    """Index resources anew, as HAPI does on request; here it is done before the answer."""
    body = await _body(request)
    interactions = _interactions(request)
    await _run(request, lambda: interactions.reindex(body))
    issue = {"severity": "information", "code": "informational", "diagnostics": "indexed"}
    return _json({"resourceType": "OperationOutcome", "issue": [issue]})


async def _instance(request: Request) -> Response:
    if request.method == "POST" or request.path_params["id"].startswith("$"):
        raise FhirError(404, "not-supported", "the server has no operations")
    address = request.path_params["type"], request.path_params["id"]
    interactions, match = _interactions(request), request.headers.get("if-match")
    if request.method == "PUT":
        body = await _body(request)
        done = await _run(request, lambda: interactions.update(*address, body, match))
        return _written(request, done)
    if request.method == "DELETE":
        await _run(request, lambda: interactions.delete(*address, match))
        return Response(status_code=204)
    return _version(await _run(request, lambda: interactions.read(*address)))


async def _expunge(request: Request) -> Response:
    """Remove versions for good, by HAPI's operation."""
    if not request.app.state.expunge:
        raise FhirError(405, "not-supported", "$expunge is not enabled on this server")
    body, interactions = await _body(request), _interactions(request)
    address = request.path_params["type"], request.path_params["id"]
    count = await _run(request, lambda: interactions.expunge(*address, body))
    return _json(
        {"resourceType": "Parameters", "parameter": [{"name": "count", "valueInteger": count}]}
    )


async def _vread(request: Request) -> Response:
    address = (request.path_params[name] for name in ("type", "id", "version"))
    vread = _interactions(request).vread
    return _version(await _run(request, lambda: vread(*address)))


async def _history(request: Request) -> Response:
    resource_type, resource_id = request.path_params["type"], request.path_params["id"]
    history = _interactions(request).history
    versions = await _run(request, lambda: history(resource_type, resource_id))
    return _json({**_versions(request, versions), "total": len(versions)})


async def _type_history(request: Request) -> Response:
    resource_type, parameters = request.path_params["type"], dict(request.query_params)
    count, offset = page_of(parameters)
    history = _interactions(request).type_history
    versions = await _run(request, lambda: history(resource_type, parameters))
    bundle = _versions(request, versions[:count])
    if len(versions) > count:
        query = urlencode({**parameters, "_offset": str(offset + count)})
        url = f"{_base(request)}/{resource_type}/_history?{query}"
        bundle["link"] = [{"relation": "next", "url": url}]
    return _json(bundle)


def _versions(request: Request, versions: list[Stored]) -> Resource:
    shown = [_past(_base(request), one) for one in versions]
    return {"resourceType": "Bundle", "type": "history", "entry": shown}


def _past(base: str, stored: Stored) -> dict[str, Any]:
    url = stored.type if stored.method == "POST" else stored.path
    status = {"POST": "201 Created", "DELETE": "204 No Content"}.get(stored.method, "200 OK")
    entry: dict[str, Any] = {
        "fullUrl": f"{base}/{stored.path}",
        "request": {"method": stored.method, "url": url},
        "response": {"status": status, "etag": stored.etag, "lastModified": stored.at},
    }
    return entry if stored.body is None else {**entry, "resource": stored.resource}


async def _run(request: Request, interaction: Callable[[], _T]) -> _T:
    """Carry out an interaction alone, away from the event loop."""

    def alone() -> _T:
        with _interactions(request).store.exclusive():
            return interaction()

    return await run_in_threadpool(alone)


async def _body(request: Request) -> Any:
    if _media_type(request) not in _JSON:
        raise FhirError(415, "not-supported", f"resources are sent as {_FHIR_JSON}")
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise FhirError(400, "structure", "the body is not JSON") from error


def _written(request: Request, done: Done) -> Response:
    """Answer a create or an update, with the resource unless less is preferred."""
    stored, base = done.stored, _base(request)
    headers = _headers(stored)
    if request.method == "POST":
        headers["Location"] = f"{base}/{stored.path}/_history/{stored.version}"
    content = b"" if _preferred(request) == "minimal" else stored.body
    return Response(content, done.status, headers, _FHIR_JSON)


def _version(stored: Stored) -> Response:
    return Response(stored.body, 200, _headers(stored), _FHIR_JSON)


def _headers(stored: Stored) -> dict[str, str]:
    changed = datetime.fromisoformat(stored.at)
    return {"ETag": stored.etag, "Last-Modified": format_datetime(changed, usegmt=True)}


def _json(resource: Resource, status: int = 200) -> Response:
    return Response(orjson.dumps(resource), status, media_type=_FHIR_JSON)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def _preferred(request: Request) -> str:
    """Read ``Prefer: return=...``."""
    for preference in request.headers.get("prefer", "").split(","):
        name, _, value = preference.strip().partition("=")
        if name == "return":
            return value
    return ""


def _base(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}{ROOT}"


def _interactions(request: Request) -> Interactions:
    interactions: Interactions = request.app.state.interactions
    return interactions


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, FhirError):
        raise error
    return _json(error.resource, error.status)


async def _unknown(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _json(FhirError(status, "not-supported", "nothing is answered here").resource, status)
