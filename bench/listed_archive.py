"""An archive that costs next to nothing: ``python -m bench.listed_archive PORT``.

It holds the studies ``first`` to ``first + count`` of its address ``/FIRST/COUNT``, alike but for
their UIDs, and answers from ready-made bytes what QIDO-RS and WADO-RS are asked by an import.
"""

import json
import sys
from typing import Any, Final
from urllib.parse import parse_qs

import uvicorn
from starlette.types import Receive, Scope, Send

from bench.sync_ours import SYSTEM, study_uid
from tests.headers import example

INSTANCES: Final = 20
STUDY_LEVEL: Final = (
    "00080005", "00080020", "00080030", "00080050", "00080090", "00080201", "00081030",
    "00100010", "00100020", "00100021", "00100030", "00100040", "0020000D", "00200010",
)  # fmt: skip
DAY: Final = "20240610"
_UID: Final = "1.2.3"


def _ready() -> tuple[str, str]:
    """Return a study's row and its metadata, with `_UID` where its UID belongs."""
    whole: dict[str, Any] = json.loads(example(StudyInstanceUID=_UID, StudyDate=DAY).to_json())
    row: dict[str, Any] = {tag: whole[tag] for tag in STUDY_LEVEL if tag in whole}
    row["00080061"] = {"vr": "CS", "Value": ["MR"]}
    row["00201206"] = {"vr": "IS", "Value": [1]}
    row["00201208"] = {"vr": "IS", "Value": [INSTANCES]}
    instances = []
    for number in range(1, INSTANCES + 1):
        one = example(
            StudyInstanceUID=_UID,
            StudyDate=DAY,
            SeriesInstanceUID=f"{_UID}.1",
            SOPInstanceUID=f"{_UID}.1.{number}",
            InstanceNumber=number,
        )
        said = json.loads(one.to_json())
        del said["00100024"]  # the issuer's name is enough
        instances.append(said)
    return json.dumps(row), json.dumps(instances)


ROW, METADATA = _ready()


def patient() -> dict[str, Any]:
    """Return the Patient of all studies."""
    said = example()
    born = str(said.PatientBirthDate)
    return {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": str(said.PatientID)}],
        "birthDate": f"{born[:4]}-{born[4:6]}-{born[6:]}",
        "gender": {"M": "male", "F": "female"}.get(str(said.PatientSex), "other"),
    }


def answer(path: str, query: str) -> str:
    """Return the body for one request."""
    first, count, _, *rest = path.strip("/").split("/")
    if len(rest) == 2 and rest[1] == "metadata":
        return METADATA.replace(_UID, rest[0])
    keys = {name: values[0] for name, values in parse_qs(query).items()}
    if "StudyInstanceUID" in keys:
        return f"[{ROW.replace(_UID, keys['StudyInstanceUID'])}]"
    begins, _, ends = keys.get("StudyDate", "-").partition("-")
    if not (begins or DAY) <= DAY <= (ends or DAY):
        return "[]"
    start = int(first) + int(keys.get("offset", 0))
    end = min(start + int(keys.get("limit", count)), int(first) + int(count))
    return f"[{','.join(ROW.replace(_UID, study_uid(n)) for n in range(start, end))}]"


async def archive(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer as an archive."""
    if scope["type"] == "lifespan":
        for told in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{told}.complete"})
        return
    body = answer(scope["path"], scope["query_string"].decode()).encode()
    headers = [
        (b"content-type", b"application/dicom+json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(
        archive, port=int(sys.argv[1]), http="httptools", loop="uvloop", log_level="critical"
    )
