"""DICOM headers as the DICOM JSON Model, and the values of it by keyword."""

import struct
import zlib
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

Header = dict[str, dict[str, Any]]
"""A data set in the DICOM JSON Model (PS3.18 F.2, 2026b): tag as eight hex digits -> element."""

_BULK_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "OB or OW", "UN"})
_MALFORMED: Final = (
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    KeyError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    Warning,  # a process may make errors of what pydicom remarks
    struct.error,
    zlib.error,
)


class Unreadable(Exception):
    """The bytes are not a DICOM object with the UIDs that place it."""


class Uids(NamedTuple):
    """What places an object: its class and its UIDs at the three levels."""

    sop_class: str
    study: str
    series: str
    instance: str


def read_header(path: Path) -> tuple[Header, str]:
    """Read a DICOM file's header without bulk data.

    Returns
    -------
    tuple
        The header in the DICOM JSON Model, group 0002 left out, and the transfer syntax UID.

    Raises
    ------
    Unreadable
        When the file is no DICOM Part 10 file or cannot be parsed.

    References
    ----------
    PS3.18 10.4.1.1.2 and F.2 (2026b).
    """
    try:
        dataset = dcmread(path, stop_before_pixels=True)
        header = _json_model(dataset)
        return header, str(dataset.file_meta.TransferSyntaxUID)
    except _MALFORMED as error:
        raise Unreadable(type(error).__name__) from error


def uids_of(header: Header) -> Uids:
    """Name the UIDs that place an object.

    Raises
    ------
    Unreadable
        When one of them is absent or unfit for a DICOMweb address.
    """
    keywords = ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    found = [text(header, keyword) for keyword in keywords]
    for keyword, uid in zip(keywords, found, strict=True):
        if not 0 < len(uid) <= 64 or uid.strip("0123456789."):
            raise Unreadable(keyword)
    return Uids(*found)


def tag(keyword: str) -> str:
    """Give the DICOM JSON key of a keyword, e.g. ``0020000D``.

    Raises
    ------
    KeyError
        When the data dictionary lacks the keyword.
    """
    number = tag_for_keyword(keyword)
    if number is None:
        raise KeyError(keyword)
    return f"{number:08X}"


def values(header: Header, key: str) -> list[Any]:
    """Return the values of the element with this tag, an empty list where it is absent."""
    return list(header.get(key, {}).get("Value", []))


def text(header: Header, keyword: str) -> str:
    """Return an element's values as DICOM text: joined by backslash, names in Alphabetic form."""
    return "\\".join(map(as_text, values(header, tag(keyword))))


def as_text(value: object) -> str:
    """Write one DICOM JSON value as DICOM text; an absent one is empty."""
    if isinstance(value, dict):
        return str(value.get("Alphabetic", ""))
    return "" if value is None else str(value)


def _json_model(dataset: Dataset) -> Header:
    model: Header = {}
    for tag_number in list(dataset.keys()):
        try:
            element = dataset[tag_number]
            if element.VR in _BULK_VRS:
                continue
            if element.VR == "SQ":
                items = [_json_model(item) for item in element.value]
                model[f"{tag_number:08X}"] = {"vr": "SQ", "Value": items}
            else:
                model[f"{tag_number:08X}"] = element.to_json_dict(None, 0)
        except (ValueError, TypeError, NotImplementedError, BytesLengthException, Warning):
            continue  # a malformed value is left out, as Orthanc does; the object stays usable
    return model
