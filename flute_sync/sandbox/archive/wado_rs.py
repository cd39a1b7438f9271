"""WADO-RS: objects, metadata, frames and rendered images (PS3.18 10.4)."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from flute_sync.sandbox.archive.rendering import NotRenderable, frame_bytes, rendered
from flute_sync.sandbox.archive.store import Store
from flute_sync.sandbox.archive.web import DICOM_JSON, accepts, address_of, refusal

_DICOM: Final = "application/dicom"
_RELATED: Final = "multipart/related"
_CHUNK_BYTES: Final = 1 << 18
_THUMBNAIL_PIXELS: Final = 128


async def retrieve(request: Request) -> Response:
    """Answer ``GET`` of a study, a series or an instance with the objects as they are stored."""
    files = _files(request)
    if not files:
        return _absent()
    single = len(files) == 1 and "instance" in request.path_params
    media_type = accepts(request, _RELATED, *([_DICOM] if single else []))
    if media_type == _DICOM:
        return FileResponse(files[0], media_type=_DICOM)
    if media_type is None:
        return refusal(406, "DICOM objects are sent as multipart/related")
    return _multipart(_DICOM, (_read(file) for file in files))


async def metadata(request: Request) -> Response:
    """Answer ``GET .../metadata`` in DICOM JSON, without bulk data."""
    if accepts(request, DICOM_JSON, "application/json") is None:
        return refusal(406, "metadata is sent as application/dicom+json")
    store: Store = request.app.state.store
    rows = await run_in_threadpool(store.index.find, "instance", address_of(request))
    if not rows:
        return _absent()
    body = b"[" + b",".join(row["header"] for row in rows) + b"]"
    return Response(body, media_type=DICOM_JSON)


async def frames(request: Request) -> Response:
    """Answer ``GET .../frames/{numbers}`` with the frames' bytes, uncompressed."""
    files = _files(request)
    if not files:
        return _absent()
    numbers = request.path_params["numbers"].split(",")
    if not all(number.isascii() and number.isdigit() and int(number) for number in numbers):
        return refusal(400, "frame numbers are positive integers")
    try:
        found = await run_in_threadpool(frame_bytes, files[0], [int(one) for one in numbers])
    except NotRenderable as error:
        return refusal(404, str(error))
    return _multipart("application/octet-stream", ([frame] for frame in found))


async def render(request: Request) -> Response:
    """Answer ``GET .../rendered`` with a picture of the middle frame of the middle image."""
    return await _picture(request, None)


async def thumbnail(request: Request) -> Response:
    """Answer ``GET .../thumbnail`` with a small picture."""
    return await _picture(request, _THUMBNAIL_PIXELS)


async def _picture(request: Request, longest_side: int | None) -> Response:
    files = _files(request)
    if not files:
        return _absent()
    media_type = accepts(request, "image/jpeg", "image/png")
    if media_type is None:
        return refusal(406, "pictures are sent as image/jpeg or image/png")
    middle = len(files) // 2
    for file in files[middle:] + files[:middle]:
        try:
            picture = await run_in_threadpool(rendered, file, media_type, longest_side)
        except NotRenderable:
            continue
        return Response(picture, media_type=media_type)
    return refusal(406, "nothing here can be shown as a picture")


def _files(request: Request) -> list[Path]:
    store: Store = request.app.state.store
    return [store.file(row["id"]) for row in store.index.find("instance", address_of(request))]


def _absent() -> Response:
    return refusal(404, "the archive holds nothing at this address")


def _read(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def _multipart(part_type: str, parts: Iterator[Iterator[bytes] | list[bytes]]) -> Response:
    boundary = secrets.token_hex(16)

    def body() -> Iterator[bytes]:
        for part in parts:
            yield f"--{boundary}\r\nContent-Type: {part_type}\r\n\r\n".encode()
            yield from part
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    content_type = f'{_RELATED}; type="{part_type}"; boundary={boundary}'
    return StreamingResponse(body(), headers={"content-type": content_type})
