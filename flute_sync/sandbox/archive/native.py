"""The part of Orthanc's own REST interface that a synchroniser uses: changes, look-ups, deletion.

References
----------
Orthanc 1.10.1, as measured; https://orthanc.uclouvain.be/api/ names the fields.
"""

import sqlite3
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from flute_sync.sandbox.archive.headers import Header, tag, text
from flute_sync.sandbox.archive.index import Address
from flute_sync.sandbox.archive.store import Store

_DEFAULT_LIMIT: Final = 100
_TABLES: Final = {"studies": "study", "series": "series", "instances": "instance"}
_FOLDERS: Final = {
    "Patient": "patients",
    "Study": "studies",
    "Series": "series",
    "Instance": "instances",
}
_BY_ID: Final = {
    table: f"SELECT * FROM {table} WHERE id = ?"  # noqa: S608 - the table is one of ours
    for table in _TABLES.values()
}
_BY_UID: Final = {
    table: f"SELECT id FROM {table} WHERE uid = ?"  # noqa: S608
    for table in _TABLES.values()
}
_SERIES_OF_STUDY: Final = "SELECT * FROM series WHERE study = ? ORDER BY rowid"
_INSTANCES_OF_SERIES: Final = "SELECT * FROM instance WHERE series = ? ORDER BY rowid"
_INSTANCES_OF_STUDY: Final = """SELECT instance.* FROM instance
    JOIN series ON instance.series = series.id WHERE series.study = ? ORDER BY instance.rowid"""
_Describe = Callable[[Request, sqlite3.Row], dict[str, Any]]
_PATIENT_TAGS: Final = ("PatientBirthDate", "PatientID", "PatientName", "PatientSex")
_STUDY_TAGS: Final = (
    "AccessionNumber", "InstitutionName", "ReferringPhysicianName", "StudyDate",
    "StudyDescription", "StudyID", "StudyInstanceUID", "StudyTime",
)  # fmt: skip
_SERIES_TAGS: Final = (
    "BodyPartExamined", "Manufacturer", "Modality", "OperatorsName", "ProtocolName",
    "SeriesDate", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber", "SeriesTime",
    "StationName",
)  # fmt: skip
_INSTANCE_TAGS: Final = (
    "ImageComments", "InstanceCreationDate", "InstanceCreationTime", "InstanceNumber",
    "NumberOfFrames", "SOPInstanceUID", "TemporalPositionIdentifier",
)  # fmt: skip


async def system(_: Request) -> Response:
    """Answer ``GET /system``."""
    return JSONResponse({"ApiVersion": 16, "Name": "flute-sync sandbox", "Version": "1.10.1"})


async def statistics(request: Request) -> Response:
    """Answer ``GET /statistics``."""
    rows = _store(request).index.rows(
        """SELECT (SELECT count(DISTINCT patient) FROM study) AS CountPatients,
        (SELECT count(*) FROM study) AS CountStudies, (SELECT count(*) FROM series) AS CountSeries,
        (SELECT count(*) FROM instance) AS CountInstances"""
    )
    return JSONResponse(dict(rows[0]))


async def changes(request: Request) -> Response:
    """Answer ``GET /changes?since=&limit=`` and ``GET /changes?last``."""
    index = _store(request).index
    newest, last = index.last_change()
    if "last" in request.query_params:
        return _feed(newest, done=True, last=newest[0]["seq"] if newest else last)
    try:
        since = int(request.query_params.get("since", "0"))
        limit = int(request.query_params.get("limit", _DEFAULT_LIMIT))
    except ValueError:
        return JSONResponse({"Message": "since and limit are numbers"}, 400)
    found, done = index.changes(since, limit)
    return _feed(found, done=done, last=found[-1]["seq"] if found else last)


async def lookup(request: Request) -> Response:
    """Answer ``POST /tools/lookup`` of a UID."""
    uid = (await request.body()).decode("ascii", "replace").strip()
    found = []
    for level, table in _TABLES.items():
        for row in _store(request).index.rows(_BY_UID[table], uid):
            path = f"/{level}/{row['id']}"
            found.append({"ID": row["id"], "Path": path, "Type": table.capitalize()})
    return JSONResponse(found)


async def studies(request: Request) -> Response:
    """Answer ``GET /studies``, a list of ids or, with ``expand``, of studies."""
    rows = _store(request).index.find("study", Address())
    if "expand" not in request.query_params:
        return JSONResponse([row["id"] for row in rows])
    return JSONResponse([_study(request, row) for row in rows])


async def study(request: Request) -> Response:
    """Answer ``GET`` and ``DELETE /studies/{id}``."""
    public_id = request.path_params["id"]
    if request.method == "DELETE":
        if not _store(request).delete_study(public_id):
            return Response(status_code=404)
        return JSONResponse({"RemainingAncestor": None})
    return _one(request, _BY_ID["study"], public_id, _study)


async def study_statistics(request: Request) -> Response:
    """Answer ``GET /studies/{id}/statistics``."""
    public_id = request.path_params["id"]
    series = _store(request).index.rows(_SERIES_OF_STUDY, public_id)
    if not series:
        return Response(status_code=404)
    count = len(_store(request).index.rows(_INSTANCES_OF_STUDY, public_id))
    return JSONResponse({"CountSeries": len(series), "CountInstances": count})


async def study_series(request: Request) -> Response:
    """Answer ``GET /studies/{id}/series``."""
    return _children(request, _SERIES_OF_STUDY, _series)


async def study_instances(request: Request) -> Response:
    """Answer ``GET /studies/{id}/instances``."""
    return _children(request, _INSTANCES_OF_STUDY, _instance)


async def series(request: Request) -> Response:
    """Answer ``GET /series/{id}``."""
    return _one(request, _BY_ID["series"], request.path_params["id"], _series)


async def instance(request: Request) -> Response:
    """Answer ``GET /instances/{id}``."""
    return _one(request, _BY_ID["instance"], request.path_params["id"], _instance)


async def instance_metadata(request: Request) -> Response:
    """Answer ``GET /instances/{id}/metadata?expand``."""
    rows = _store(request).index.rows(_BY_ID["instance"], request.path_params["id"])
    if not rows:
        return Response(status_code=404)
    fields = {
        "ReceptionDate": _seconds(rows[0]["received"]),
        "SopClassUid": text(orjson.loads(rows[0]["header"]), "SOPClassUID"),
        "TransferSyntax": rows[0]["transfer_syntax"],
    }
    return JSONResponse(fields if "expand" in request.query_params else sorted(fields))


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


def _feed(rows: list[sqlite3.Row], *, done: bool, last: int) -> Response:
    listed = [
        {
            "ChangeType": row["type"],
            "Date": row["at"],
            "ID": row["id"],
            "Path": f"/{_FOLDERS[row['level']]}/{row['id']}",
            "ResourceType": row["level"],
            "Seq": row["seq"],
        }
        for row in rows
    ]
    return JSONResponse({"Changes": listed, "Done": done, "Last": last})


def _one(request: Request, query: str, public_id: str, describe: _Describe) -> Response:
    rows = _store(request).index.rows(query, public_id)
    return JSONResponse(describe(request, rows[0])) if rows else Response(status_code=404)


def _children(request: Request, query: str, describe: _Describe) -> Response:
    rows = _store(request).index.rows(query, request.path_params["id"])
    if not rows:
        return Response(status_code=404)
    return JSONResponse([describe(request, row) for row in rows])


def _study(request: Request, row: sqlite3.Row) -> dict[str, Any]:
    header: Header = orjson.loads(row["header"])
    children = _store(request).index.rows(_SERIES_OF_STUDY, row["id"])
    return {
        "ID": row["id"],
        "IsStable": bool(row["stable"]),
        "LastUpdate": _seconds(row["last_update"]),
        "MainDicomTags": _tags(header, _STUDY_TAGS),
        "ParentPatient": row["patient"],
        "PatientMainDicomTags": _tags(header, _PATIENT_TAGS),
        "Series": [child["id"] for child in children],
        "Type": "Study",
    }


def _series(request: Request, row: sqlite3.Row) -> dict[str, Any]:
    children = _store(request).index.rows(_INSTANCES_OF_SERIES, row["id"])
    return {
        "ID": row["id"],
        "Instances": [child["id"] for child in children],
        "LastUpdate": _seconds(row["last_update"]),
        "MainDicomTags": _tags(orjson.loads(row["header"]), _SERIES_TAGS),
        "ParentStudy": row["study"],
        "Type": "Series",
    }


def _instance(_: Request, row: sqlite3.Row) -> dict[str, Any]:
    return {
        "FileSize": row["size_bytes"],
        "ID": row["id"],
        "MainDicomTags": _tags(orjson.loads(row["header"]), _INSTANCE_TAGS),
        "ParentSeries": row["series"],
        "Type": "Instance",
    }


def _tags(header: Header, keywords: tuple[str, ...]) -> dict[str, str]:
    return {keyword: text(header, keyword) for keyword in keywords if tag(keyword) in header}


def _seconds(moment: str) -> str:
    return datetime.fromisoformat(moment).strftime("%Y%m%dT%H%M%S")
