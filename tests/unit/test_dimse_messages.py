"""PDUs, fragments and commands: any cut gives the same messages, no bytes do harm."""

from collections.abc import Iterable, Sequence
from struct import pack

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flute_sync.dimse_errors import ProtocolViolated
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.sources.dimse_commands import C_ECHO_RQ, C_STORE_RQ, Command
from flute_sync.sources.dimse_exchange import VERIFICATION, Exchange
from flute_sync.sources.dimse_pdus import Fragment, PduReader, Sign, abort, p_data
from flute_sync.sources.store_session import StoreSession
from flute_sync.sources.store_sink import Caller, Context, StoreCommand
from tests.dimse import CT, IMPLICIT, RELEASE_RQ, command_set, message, pdu

LARGEST = 4096
CALLER = Caller("MODALITY", "FLUTE_SYNC", (Context(CT, IMPLICIT),))
CONTEXTS = {1: Context(CT, IMPLICIT), 3: Context(VERIFICATION, IMPLICIT)}


class Kept:
    """A sink that keeps everything, and fails where it is told to."""

    def __init__(self) -> None:
        self.stored: list[tuple[StoreCommand, bytes]] = []
        self.abandoned = 0
        self.closed = 0
        self.fails: type[LedgerUnavailable] | None = None

    def acceptable(self, proposed: Sequence[Context]) -> Sequence[Context]:
        return proposed

    def open(self, caller: Caller) -> "Kept":
        assert caller == CALLER
        return self

    def begin(self, command: StoreCommand) -> "KeptInstance":
        return KeptInstance(self, command)

    def close(self) -> None:
        self.closed += 1


class KeptInstance:
    def __init__(self, kept: Kept, command: StoreCommand) -> None:
        self._kept = kept
        self._command = command
        self._data = b""

    def feed(self, data: bytes) -> None:
        self._data += data

    def finish(self) -> int:
        if self._kept.fails is not None:
            raise self._kept.fails("for the test")
        self._kept.stored.append((self._command, self._data))
        return 0

    def abandon(self) -> None:
        self._kept.abandoned += 1


def exchange(kept: Kept, counted: list[int]) -> Exchange:
    return Exchange(CONTEXTS, StoreSession(kept, CALLER, counted.append))


def cut(stream: bytes, sizes: Iterable[int]) -> list[bytes]:
    pieces, pos = [], 0
    for size in sizes:
        pieces.append(stream[pos : pos + size])
        pos += size
    return [*pieces, stream[pos:]]


def read(pieces: Iterable[bytes]) -> list[Fragment | Sign]:
    reader = PduReader(LARGEST)
    return [found for piece in pieces for found in reader.feed(piece)]


def joined(found: Iterable[Fragment | Sign]) -> list[object]:
    """Put fragments together that belong to one command or data set."""
    whole: list[object] = []
    begun = b""
    for one in found:
        if isinstance(one, Sign):
            whole.append(one)
            continue
        begun += one.data
        if one.is_last:
            whole.append((one.context_id, one.is_command, begun))
            begun = b""
    return whole


PDVS = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 3), st.binary(max_size=300)),
    min_size=1,
    max_size=4,
)


@given(
    pdus=st.lists(PDVS, max_size=5),
    sizes=st.lists(st.integers(0, 40), max_size=60),
)
def test_any_cut_gives_the_same_fragments(
    pdus: list[list[tuple[int, int, bytes]]], sizes: list[int]
) -> None:
    stream = b"".join(pdu(*one) for one in pdus) + RELEASE_RQ
    expected = joined(
        [
            Fragment(context_id, bool(control & 1), bool(control & 2), data)
            for pdvs in pdus
            for context_id, control, data in pdvs
        ]
        + [Sign.RELEASE_RQ]
    )
    assert joined(read([stream])) == expected
    assert joined(read(cut(stream, sizes))) == expected


@given(st.binary(max_size=400), st.lists(st.integers(0, 30), max_size=20))
@example(b"\x04\x00\xff\xff\xff\xff", [])
@example(b"\x04\x00\x00\x00\x00\x06\x00\x00\x00\x01\x01\x03", [])
def test_no_bytes_do_harm_to_the_reader(stream: bytes, sizes: list[int]) -> None:
    reader = PduReader(LARGEST)
    taken = reason = 0
    try:
        for piece in cut(stream, sizes):
            for found in reader.feed(piece):
                taken += len(found.data) if isinstance(found, Fragment) else 0
    except ProtocolViolated as violation:
        reason = violation.reason
    assert reason in (0, 1, 2, 6)
    assert taken <= len(stream)


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"\x01\x00\x00\x00\x00\x04", 2),
        (b"\x08\x00\x00\x00\x00\x04", 1),
        (b"\x00" * 6, 1),
        (b"\x05\x00\x00\x00\x00\x05", 6),
        (pack(">BxL", 4, LARGEST + 1), 6),
        (pack(">BxL", 4, 5), 6),
        (pack(">BxLLBB", 4, 8, 1, 1, 3), 6),
        (pack(">BxLLBB", 4, 8, 5, 1, 3), 6),
        (pack(">BxLLBB", 4, 10, 2, 1, 3), 6),
    ],
)
def test_what_ps3_8_does_not_allow(stream: bytes, reason: int) -> None:
    with pytest.raises(ProtocolViolated) as caught:
        read([stream])
    assert caught.value.reason == reason


@given(st.binary(max_size=200))
def test_no_bytes_do_harm_as_a_command(encoded: bytes) -> None:
    try:
        command = Command(encoded)
    except ProtocolViolated:
        return
    assert Command(command.response(0)).field & 0x8000


def test_a_response_says_what_it_answers() -> None:
    request = Command(command_set(C_STORE_RQ, CT, "1.2.3", message_id=77, has_data=True))
    response = Command(request.response(0xA700, "LEDGER-1: no room"))
    assert (response.field, response.has_data) == (0x8001, False)
    assert (response.sop_class_uid, response.sop_instance_uid) == (CT, "1.2.3")
    assert pack("<HHLH", 0, 0x120, 2, 77) in request.response(0)
    assert pack("<HHLH", 0, 0x900, 2, 0xA700) in request.response(0xA700)


@given(st.integers(1, 400), st.integers(0, 300))
def test_a_response_fits_the_peer(size: int, most: int) -> None:
    command = bytes(size % 251 for size in range(size))
    reader = PduReader(1 << 20)
    written = p_data(5, command, most)
    found = list(reader.feed(written))
    assert joined(found) == [(5, True, command)]
    if most >= 128:
        assert all(len(one.data) + 6 <= most for one in found if isinstance(one, Fragment))


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 3, 5]), st.booleans(), st.booleans(), st.binary(max_size=80)),
        max_size=8,
    )
)
def test_no_fragments_do_harm(fragments: list[tuple[int, bool, bool, bytes]]) -> None:
    kept = Kept()
    messages = exchange(kept, [])
    try:
        for one in fragments:
            messages.take(Fragment(*one))
    except ProtocolViolated as violation:
        messages.interrupt(violation)
    assert not kept.stored


def take(messages: Exchange, stream: bytes) -> list[int]:
    """Feed whole messages, and return the statuses of the responses."""
    statuses = []
    for found in PduReader(1 << 20).feed(stream):
        assert isinstance(found, Fragment)
        response = messages.take(found)
        if response is not None:
            statuses.append(status_of(response.command))
    return statuses


def status_of(response: bytes) -> int:
    return int.from_bytes(response.split(pack("<HHL", 0, 0x900, 2))[1][:2], "little")


def test_a_store_and_an_echo() -> None:
    kept, counted = Kept(), list[int]()
    messages = exchange(kept, counted)
    echo = command_set(C_ECHO_RQ, VERIFICATION, message_id=2)
    store = message(1, CT, "1.2.3", b"data set", most=5)
    assert take(messages, store + pdu((3, 3, echo)) + store) == [0, 0, 0]
    assert [data for _, data in kept.stored] == [b"data set", b"data set"]
    assert counted == [0, 0]
    assert kept.stored[0][0] == StoreCommand(CT, "1.2.3", CT, IMPLICIT)
    assert messages.is_idle


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (message(1, VERIFICATION, "1.2.3", b"data"), 0x0122),
        (message(1, CT, "1.2.x", b"data"), 0x0117),
        (message(1, CT, "", b"data"), 0x0117),
        (message(1, CT, "1.2.3", None), 0x0212),
        (message(3, VERIFICATION, "1.2.3", b"data"), 0x0211),
        (pdu((1, 3, command_set(0x0140, CT, "1.2.3"))), 0x0211),
        (pdu((1, 3, command_set(0x0020, CT, has_data=True)), (1, 2, b"identifier")), 0x0211),
    ],
)
def test_requests_that_are_refused(stream: bytes, status: int) -> None:
    kept, counted = Kept(), list[int]()
    messages = exchange(kept, counted)
    assert take(messages, stream) == [status]
    assert take(messages, message(1, CT, "1.2.3", b"next")) == [0]
    assert [data for _, data in kept.stored] == [b"next"]


def test_a_failure_is_answered_and_the_next_instance_taken() -> None:
    kept, counted = Kept(), list[int]()
    messages = exchange(kept, counted)
    kept.fails = LedgerUnavailable
    assert take(messages, message(1, CT, "1.2.3", b"one")) == [0xA700]
    kept.fails = None
    assert take(messages, message(1, CT, "1.2.4", b"two")) == [0]
    assert counted == [0xA700, 0]


def test_a_cancel_has_no_answer() -> None:
    cancel = pack("<HHLL", 0, 0, 4, 30)
    cancel += pack("<HHLH", 0, 0x100, 2, 0x0FFF) + pack("<HHLH", 0, 0x120, 2, 1)
    cancel += pack("<HHLH", 0, 0x800, 2, 0x0101)
    assert take(exchange(Kept(), []), pdu((1, 3, cancel))) == []


@pytest.mark.parametrize(
    "stream",
    [
        pdu((7, 3, command_set(C_ECHO_RQ, VERIFICATION))),
        pdu((1, 2, b"a data set without a command")),
        pdu((1, 3, command_set(C_STORE_RQ, CT, "1.2.3", has_data=True)), (3, 0, b"mingled")),
        pdu((1, 3, command_set(C_STORE_RQ, CT, "1.2.3", has_data=True)), (1, 1, b"command")),
        pdu((1, 3, command_set(0x8030, VERIFICATION))),
        pdu((1, 3, b"")),
        b"".join(pdu((1, 1, b"\0" * 60_000)) for _ in range(2)),
    ],
)
def test_what_ends_the_association(stream: bytes) -> None:
    kept = Kept()
    messages = exchange(kept, [])
    with pytest.raises(ProtocolViolated) as caught:
        take(messages, stream)
    messages.interrupt(caught.value)
    assert messages.is_idle
    assert not kept.stored


def test_what_is_interrupted_is_abandoned() -> None:
    kept = Kept()
    messages = exchange(kept, [])
    whole = message(1, CT, "1.2.3", b"data set", most=5)
    assert take(messages, whole[:-12]) == []
    messages.interrupt(ProtocolViolated("for the test"))
    assert (kept.abandoned, kept.stored) == (1, [])


def test_an_abort_is_one_pdu() -> None:
    assert read([abort(2)]) == [Sign.ABORT]
    assert abort(2)[-2:] == b"\x02\x02"
