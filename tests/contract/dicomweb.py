"""Small DICOMweb client of the tests: builds and takes apart what goes over the wire."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

BOUNDARY = "flute-sync-contract"
RELATED = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
Header = dict[str, Any]


def multipart(parts: Sequence[bytes]) -> bytes:
    """Build a multipart/related body."""
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()


def split_multipart(response: httpx.Response) -> Iterator[bytes]:
    """Yield the parts of a multipart answer."""
    found = re.search(r'boundary="?([^";]+)', response.headers["content-type"])
    assert found, response.headers["content-type"]
    delimiter = b"--" + found[1].encode()
    for part in response.content.split(delimiter)[1:-1]:
        yield part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def values(header: Header, tag: str) -> list[Any]:
    """Return the values of an element, none where it is absent or empty."""
    return list(header.get(tag, {}).get("Value", []))


def value(header: Header, tag: str) -> Any:
    """Return the only value of an element."""
    (only,) = values(header, tag)
    return only


def stored(answer: Header) -> set[str]:
    """Return the SOP UIDs that a STOW-RS answer calls stored."""
    return {value(item, "00081155") for item in values(answer, "00081199")}


def failed(answer: Header) -> dict[str, int]:
    """Return the SOP UIDs that a STOW-RS answer calls failed, with the reasons."""
    return {value(item, "00081155"): value(item, "00081197") for item in values(answer, "00081198")}
