"""STOW-RS: taking DICOM objects in, each part streamed to its own file (PS3.18 10.5)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from flute_sync.sandbox.archive.store import Store, Stored
from flute_sync.sandbox.archive.web import base_url, dicom_json, refusal

_PART_TYPE: Final = b"application/dicom"


class _Parts:
    """Splits a multipart body into files as its bytes arrive."""

    def __init__(self, boundary: bytes, store: Store) -> None:
        self._store = store
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self.complete = False
        self._done: list[Path] = []
        self.write = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        ).write

    def __iter__(self) -> Iterator[Path]:
        """Yield each file that is complete, once."""
        while self._done:
            yield self._done.pop(0)

    def discard(self) -> None:
        """Remove what was begun and not finished."""
        if self._file is not None:
            self._file.close()
        for path in [*self._done, self._path]:
            if path is not None:
                path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self._path = self._store.new_file()
        self._file = self._path.open("wb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])

    def _end(self) -> None:
        if self._file is not None and self._path is not None:
            self._file.close()
            self._done.append(self._path)
        self._file = self._path = None

    def _finish(self) -> None:
        self.complete = True


async def store_instances(request: Request) -> Response:
    """Answer ``POST /studies`` and ``POST /studies/{study}``.

    200 when all is stored, 202 when some is, 409 when the study does not fit, 400 when nothing
    could be understood, 415 for another media type.
    """
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type != b"multipart/related" or options.get(b"type", _PART_TYPE) != _PART_TYPE:
        return refusal(415, 'send multipart/related; type="application/dicom"')
    try:
        results = await _take(request, options.get(b"boundary", b""))
    except FormParserError:
        return refusal(400, "the body is not the multipart that its Content-Type says")
    except ClientDisconnect:
        return refusal(400, "the body ended early")
    return dicom_json(_answer(results, base_url(request)), _status(results))


async def _take(request: Request, boundary: bytes) -> list[Stored]:
    if not boundary:
        raise FormParserError("no boundary")
    store: Store = request.app.state.store
    study = request.path_params.get("study")
    results: list[Stored] = []
    parts = _Parts(boundary, store)
    try:
        async for chunk in request.stream():
            parts.write(chunk)
            results += [await run_in_threadpool(store.add, path, study) for path in parts]
    finally:
        parts.discard()
    if not parts.complete:
        raise FormParserError("no last boundary")
    return results


def _status(results: list[Stored]) -> int:
    failed = [one for one in results if one.failure_reason is not None]
    if len(failed) < len(results):
        return 202 if failed else 200
    return 409 if any(one.sop_instance_uid for one in failed) else 400


def _answer(results: list[Stored], base: str) -> dict[str, Any]:
    """Build the Store Instances Response (PS3.18 I.2, 2026b)."""
    stored = [one for one in results if one.failure_reason is None]
    refused = [one for one in results if one.failure_reason is not None and one.sop_instance_uid]
    other = [one for one in results if one.failure_reason is not None and not one.sop_instance_uid]
    answer: dict[str, Any] = {
        "00081198": _sequence([_item(one, base) for one in refused]),
        "00081199": _sequence([_item(one, base) for one in stored]),
    }
    if other:
        answer["0008119A"] = _sequence([_reason(one) for one in other])
    studies = {one.path.partition("/")[0] for one in stored}
    if len(studies) == 1:
        answer["00081190"] = {"vr": "UR", "Value": [f"{base}/studies/{studies.pop()}"]}
    return answer


def _sequence(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}


def _item(one: Stored, base: str) -> dict[str, Any]:
    item = {
        "00081150": {"vr": "UI", "Value": [one.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [one.sop_instance_uid]},
    }
    if one.failure_reason is None:
        return item | {"00081190": {"vr": "UR", "Value": [f"{base}/studies/{one.path}"]}}
    return item | _reason(one)


def _reason(one: Stored) -> dict[str, Any]:
    return {"00081197": {"vr": "US", "Value": [one.failure_reason]}}
