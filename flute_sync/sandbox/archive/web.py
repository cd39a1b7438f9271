"""What the archive's services share on the web: addresses, DICOM JSON answers, refusals."""

from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from flute_sync.sandbox.archive.index import Address

DICOM_JSON: Final = "application/dicom+json"
ROOT: Final = "/dicom-web"


def base_url(request: Request) -> str:
    """Give the DICOMweb base address as the client reached it."""
    return f"{str(request.base_url).rstrip('/')}{ROOT}"


def address_of(request: Request) -> Address:
    """Read the UIDs in the request's path."""
    return Address(*(request.path_params.get(level) for level in Address._fields))


def accepts(request: Request, *media_types: str) -> str | None:
    """Choose the first acceptable media type, in the client's order; None when none is.

    Parameters of the ranges are not weighed: what is stored is sent as it is stored.
    """
    for offered in request.headers.get("accept", "*/*").split(","):
        wanted = offered.split(";")[0].strip().lower()
        for media_type in media_types:
            kind = media_type.partition("/")[0]
            if wanted in ("*/*", f"{kind}/*", media_type):
                return media_type
    return None


def dicom_json(content: Any, status_code: int = 200) -> Response:
    """Answer with DICOM JSON."""
    return Response(orjson.dumps(content), status_code, media_type=DICOM_JSON)


def refusal(status_code: int, reason: str) -> Response:
    """Answer with an error and its reason, which never quotes what was sent."""
    return Response(orjson.dumps({"error": reason}), status_code, media_type="application/json")
