"""Real files: our walker and decoder against pydicom's, byte for byte and value for value."""

from itertools import repeat
from pathlib import Path

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from flute_sync.dicom_errors import HeaderError
from flute_sync.intake import Received
from flute_sync.sources import header_tags as tags
from flute_sync.sources.dicom_json import JsonReader
from flute_sync.sources.header import HeaderReader, HeaderSettings
from flute_sync.sources.header_part10 import Part10Parser
from tests.headers import as_json, pieces, pydicom_reads, real_files

FILES = real_files()
NAMES = [path.name for path in FILES]
LAST_OF_IMAGES = tags.REASON_FOR_REQUESTED_PROCEDURE_CODE_SEQUENCE
NOT_DICOM = {"README", "no_meta.dcm"}  # the latter begins with what no data set begins with
UNFINISHED = {"rtplan_truncated.dcm"}


@pytest.fixture(scope="module")
def reader() -> HeaderReader:
    return HeaderReader()


def outcome(reader: HeaderReader, data: bytes) -> Received | str:
    try:
        return reader.read(data)
    except HeaderError as refusal:
        return f"{refusal.code} {refusal.tag}"


def test_there_are_files_to_read():
    assert len(FILES) > 150
    assert sum(len(_raw_values(pydicom_reads(path.read_bytes()))) > 10 for path in FILES) > 90


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_walker_keeps_the_bytes_that_pydicom_keeps(path: Path):
    data = path.read_bytes()
    parser = Part10Parser(HeaderSettings())
    try:
        parser.feed(data)
        if not parser.done:
            parser.finish()
    except HeaderError:
        assert path.name in NOT_DICOM | UNFINISHED
        return
    ours = {tag: value for tag, (_, value) in parser.elements.items()}
    theirs = _raw_values(pydicom_reads(data))
    assert {tag: ours.get(tag) for tag in theirs} == theirs


def _raw_values(dataset: Dataset) -> dict[int, bytes]:
    """Return what pydicom has not decoded yet of the wanted elements of every image."""
    found: dict[int, bytes] = {}
    for tag in sorted(tags.WANTED):
        element: object = dataset.get_item(Tag(tag)) if tag in dataset else None
        if isinstance(element, RawDataElement) and tag <= LAST_OF_IMAGES and tags.VR[tag] != "SQ":
            found[tag] = element.value or b""
    return found


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_file_and_metadata_say_the_same(path: Path, reader: HeaderReader):
    data = path.read_bytes()
    ours = outcome(reader, data)
    try:
        theirs = JsonReader().received(as_json(pydicom_reads(data)))
    except HeaderError:
        assert isinstance(ours, str)
        return
    assert isinstance(ours, Received)
    assert _without_remarks(ours) == _without_remarks(theirs)


def _without_remarks(received: Received) -> tuple[object, ...]:
    header = received.instance.header
    stated = (header.patient, header.study, header.series, header.title, header.key_objects)
    return (*received[:2], *received.instance[:2], *stated)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_pieces_make_no_difference(size: int, reader: HeaderReader):
    for path in FILES:
        data = path.read_bytes()
        if len(data) > 64 * 1024:
            continue
        parser = reader.parser()
        for piece in pieces(data, repeat(size)):
            if parser.feed(piece):
                break
        try:
            result: Received | str = parser.finish()
        except HeaderError as refusal:
            result = f"{refusal.code} {refusal.tag}"
        assert result == outcome(reader, data), path.name
