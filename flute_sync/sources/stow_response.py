"""The Store Instances Response Module: what was stored and what was not (PS3.18 I, 2026b)."""

from collections.abc import Iterator
from typing import Any, Final

import orjson

from flute_sync.archive_errors import ArchiveServerError
from flute_sync.dicom_errors import HeaderError
from flute_sync.errors import PermanentError
from flute_sync.sources.http_messages import Reply, Representation
from flute_sync.sources.multipart import media_type
from flute_sync.sources.native_model import Json, from_xml, to_xml

_SOP_CLASS_UID: Final = "00081150"
_SOP_INSTANCE_UID: Final = "00081155"
_RETRIEVE_URL: Final = "00081190"
_WARNING_REASON: Final = "00081196"
_FAILURE_REASON: Final = "00081197"
_FAILED: Final = "00081198"
_STORED: Final = "00081199"
_XML_TYPES: Final = frozenset({"application/dicom+xml", "application/xml", "text/xml"})


class StoreResponse:
    """One response, held as DICOM JSON so that nothing an archive says in it is lost."""

    def __init__(self, dataset: Json | None = None) -> None:
        self._dataset: Json = {} if dataset is None else dataset

    @classmethod
    def read(cls, content_type: str, body: bytes) -> "StoreResponse":
        """Read an archive's answer.

        Raises
        ------
        ArchiveServerError
            When it is not a Store Instances Response Module.
        """
        essence = media_type(content_type.encode("latin-1", "replace"))
        if essence is not None and essence.essence in _XML_TYPES:
            dataset = from_xml(body)
        else:
            dataset = _json_dataset(body)
        if not dataset.keys() & {_RETRIEVE_URL, _FAILED, _STORED}:
            raise ArchiveServerError("its answer to an upload says nothing of instances")
        response = cls(dataset)
        response.stored()
        response.failed()
        return response

    def stored(self) -> list[str]:
        """SOP Instance UIDs said to be stored, in order, repetitions included."""
        return [_uid(item) for item in self._items(_STORED)]

    def failed(self) -> list[str]:
        """SOP Instance UIDs said not to be stored; what has none is left out."""
        found = (_uid(item, required=False) for item in self._items(_FAILED))
        return [uid for uid in found if uid]

    def reason(self, sop_instance_uid: str) -> int:
        """Return the Failure Reason or Warning Reason of an instance; 0 where none is stated."""
        for item in (*self._items(_FAILED), *self._items(_STORED)):
            if _uid(item, required=False) == sop_instance_uid:
                for tag in (_FAILURE_REASON, _WARNING_REASON):
                    match item.get(tag):
                        case {"Value": [int(reason)]}:
                            return reason
        return 0

    def add_stored(self, sop_class_uid: str, sop_instance_uid: str, url: str | None) -> None:
        """Add an instance that was stored."""
        item = _reference(sop_class_uid, sop_instance_uid) | {_RETRIEVE_URL: _element("UR", url)}
        self._sequence(_STORED).append(item)

    def add_failed(self, reason: int, sop_class_uid: str = "", sop_instance_uid: str = "") -> None:
        """Add an instance that was not stored; its UIDs are empty where nobody can read them."""
        item = _reference(sop_class_uid, sop_instance_uid)
        self._sequence(_FAILED).append(item | {_FAILURE_REASON: _element("US", reason)})

    def add_refused(self, error: PermanentError) -> None:
        """Add an object that we did not take, by what its header told before the fault."""
        if isinstance(error, HeaderError):
            self.add_failed(
                error.dimse_status, error.sop_class_uid or "", error.sop_instance_uid or ""
            )
        else:
            self.add_failed(error.dimse_status)

    def lead_to(self, base_url: str, study_url: str | None = None) -> None:
        """Let each Retrieve URL lead to a base address; ``study_url`` stands where none is."""
        self._dataset.setdefault(_RETRIEVE_URL, _element("UR", study_url))
        for dataset in (self._dataset, *self._items(_STORED), *self._items(_FAILED)):
            element = dataset.get(_RETRIEVE_URL)
            if isinstance(element, dict) and isinstance(element.get("Value"), list):
                element["Value"] = [_led_to(base_url, url) for url in element["Value"]]

    def reply(self, status: int, representation: Representation) -> Reply:
        """Write the response in the form the client reads."""
        if representation.is_xml:
            return Reply(status, to_xml(self._dataset), representation.value)
        return Reply(status, orjson.dumps(self._dataset), representation.value)

    def _sequence(self, tag: str) -> list[Json]:
        element = self._dataset.setdefault(tag, {"vr": "SQ"})
        items: list[Json] = element.setdefault("Value", [])
        return items

    def _items(self, tag: str) -> Iterator[Json]:
        element = self._dataset.get(tag, {})
        items = element.get("Value", []) if isinstance(element, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ArchiveServerError("a sequence in its answer to an upload is not one")
        return iter(items)


def _json_dataset(body: bytes) -> Json:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ArchiveServerError("its answer to an upload is neither JSON nor XML") from None
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, dict):
        raise ArchiveServerError("its answer to an upload is not one data set")
    return found


def _uid(item: Json, *, required: bool = True) -> str:
    match item.get(_SOP_INSTANCE_UID):
        case {"Value": [str(uid)]} if uid:
            return uid.strip(" \0")
    if required:
        raise ArchiveServerError("its answer to an upload names no SOP Instance UID")
    return ""


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Json:
    return {
        _SOP_CLASS_UID: _element("UI", sop_class_uid),
        _SOP_INSTANCE_UID: _element("UI", sop_instance_uid),
    }


def _element(vr: str, value: Any) -> Json:
    return {"vr": vr} if value in (None, "") else {"vr": vr, "Value": [value]}


def _led_to(base_url: str, url: Any) -> Any:
    if not isinstance(url, str):
        return url
    _, found, rest = url.partition("/studies/")
    return f"{base_url}{found}{rest}" if found else url
