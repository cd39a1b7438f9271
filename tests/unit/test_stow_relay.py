"""What an archive is shown of an upload, piece by piece, wherever the upload is cut."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flute_sync.sources.header import HeaderReader
from flute_sync.sources.multipart import MultipartReader, PartEnd, PartHead, media_type
from flute_sync.sources.stow_forward import Relay
from flute_sync.sources.stow_intents import Intents, UploadIntent
from flute_sync.sources.stow_ledger import LedgerDoor
from flute_sync.sources.stow_parts import Parts, Tally
from flute_sync.sources.stow_settings import StowRsSettings
from tests.stow import BOUNDARY, FakeIntake, dicom, multipart

FILES = [dicom(study, pixels=b"\5\6" * 50_000) for study in ("a", "b", "a")]
BODY = multipart([FILES[0], b"junk", *FILES[1:]])
FIRST_END = BODY.index(FILES[0]) + len(FILES[0])


async def relayed(intake: FakeIntake, cuts: Sequence[int]) -> tuple[bytes, list[bytes]]:
    """Return what was shown before the first intent was committed, and all files shown."""
    door = LedgerDoor(intake, "pacs", 2)
    parts = Parts(MultipartReader(BOUNDARY), HeaderReader(), StowRsSettings())
    relay = Relay(parts, UploadIntent(Intents(door)), Tally())
    before, shown = b"", b""

    async def body() -> AsyncGenerator[bytes, None]:
        for start, stop in pairwise([0, *sorted(cuts), len(BODY)]):
            if stop > FIRST_END and not intake.gate.is_set():
                asyncio.get_running_loop().call_later(0.01, intake.gate.set)
            if BODY[start:stop]:
                yield BODY[start:stop]

    intake.gate.clear()
    async for piece in relay.stream(body()):
        shown += piece
        if not intake.gate.is_set():
            before = shown
    await door.close()
    return before, files(relay.content_type, shown)


def files(content_type: str, body: bytes) -> list[bytes]:
    """Take a body apart."""
    content = media_type(content_type.encode())
    assert content is not None
    reader = MultipartReader(content.parameters["boundary"])
    found: list[bytes] = []
    for one in reader.feed(body):
        if isinstance(one, PartHead):
            assert one.headers == {b"content-type": b"application/dicom"}
            found.append(b"")
        elif not isinstance(one, PartEnd):
            found[-1] += one
    reader.close()
    return found


@settings(max_examples=60)
@given(st.lists(st.integers(1, len(BODY) - 1), max_size=8))
def test_parts_are_shown_whole_and_none_before_its_study_is_committed(cuts: list[int]) -> None:
    intake = FakeIntake()
    before, shown = asyncio.run(relayed(intake, cuts))
    assert shown == FILES
    assert intake.names == ["intend", "extend"]
    assert FILES[0] not in before


@pytest.mark.parametrize("cut", range(FIRST_END - 2, FIRST_END + 5))
def test_a_part_whose_data_ends_with_a_chunk_is_held_back(cut: int) -> None:
    before, shown = asyncio.run(relayed(FakeIntake(), [cut - 30_000, cut]))
    assert FILES[0][:20_000] in before
    assert FILES[0] not in before
    assert shown == FILES
