"""The archive as one ASGI application: DICOMweb under ``/dicom-web``, Orthanc's paths beside."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from flute_sync.sandbox.archive import native, qido_rs, wado_rs
from flute_sync.sandbox.archive.store import Store
from flute_sync.sandbox.archive.stow_rs import store_instances
from flute_sync.sandbox.archive.web import ROOT

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"


def archive_app(store: Store) -> Starlette:
    """Make the archive's application.

    References
    ----------
    PS3.18 10.3 to 10.6 (2026b); Orthanc's REST API for what is outside ``/dicom-web``.
    """
    app = Starlette(routes=[Mount(ROOT, routes=_dicomweb()), *_native()])
    app.state.store = store
    return app


def _dicomweb() -> list[BaseRoute]:
    routes: list[BaseRoute] = [
        Route("/studies", _store_or_search, methods=["GET", "POST"]),
        Route(_STUDY, _store_or_retrieve, methods=["GET", "POST"]),
        Route("/series", qido_rs.search_series),
        Route(f"{_STUDY}/series", qido_rs.search_series),
        Route("/instances", qido_rs.search_instances),
        Route(f"{_STUDY}/instances", qido_rs.search_instances),
        Route(f"{_SERIES}/instances", qido_rs.search_instances),
        Route(_SERIES, wado_rs.retrieve),
        Route(_INSTANCE, wado_rs.retrieve),
        Route(f"{_INSTANCE}/frames/{{numbers}}", wado_rs.frames),
    ]
    for level in (_STUDY, _SERIES, _INSTANCE):
        routes += [
            Route(f"{level}/metadata", wado_rs.metadata),
            Route(f"{level}/rendered", wado_rs.render),
            Route(f"{level}/thumbnail", wado_rs.thumbnail),
        ]
    return routes


def _native() -> list[BaseRoute]:
    return [
        Route("/system", native.system),
        Route("/statistics", native.statistics),
        Route("/changes", native.changes),
        Route("/tools/lookup", native.lookup, methods=["POST"]),
        Route("/studies", native.studies),
        Route("/studies/{id}", native.study, methods=["GET", "DELETE"]),
        Route("/studies/{id}/statistics", native.study_statistics),
        Route("/studies/{id}/series", native.study_series),
        Route("/studies/{id}/instances", native.study_instances),
        Route("/series/{id}", native.series),
        Route("/instances/{id}", native.instance),
        Route("/instances/{id}/metadata", native.instance_metadata),
    ]


async def _store_or_search(request: Request) -> Response:
    if request.method == "POST":
        return await store_instances(request)
    return await qido_rs.search_studies(request)


async def _store_or_retrieve(request: Request) -> Response:
    if request.method == "POST":
        return await store_instances(request)
    return await wado_rs.retrieve(request)
