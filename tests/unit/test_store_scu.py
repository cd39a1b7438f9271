"""C-STORE towards a PACS that answers anything: bounded, and said in our words."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

from flute_sync.archive_errors import (
    ArchiveAssociationRejected,
    ArchiveServerError,
    ArchiveUnavailable,
)
from flute_sync.errors import FluteSyncError
from flute_sync.sources.dimse_peer import DimsePeerSettings
from flute_sync.sources.store_scu import StoreAssociation
from flute_sync.sources.store_sink import Context, StoreCommand
from tests.dimse import CT, EXPLICIT, IMPLICIT, pdu

COMMAND = StoreCommand(CT, "1.2.3", CT, EXPLICIT, 2, "MOVER", 7)
CONTEXTS = [Context(CT, IMPLICIT), Context(CT, EXPLICIT)]
RELEASE_RP = bytes((6, 0, 0, 0, 0, 4, 0, 0, 0, 0))


def accepting(largest_bytes: int = 16384, *syntaxes: str) -> bytes:
    """Write an A-ASSOCIATE-AC that accepts contexts 1, 3 and so on; an empty one is refused."""
    contexts = b""
    for number, syntax in enumerate(syntaxes or (IMPLICIT, EXPLICIT)):
        name = syntax.encode()
        body = pack(">BxBx", 2 * number + 1, 0 if syntax else 4)
        body += pack(">BxH", 0x40, len(name)) + name
        contexts += pack(">BxH", 0x21, len(body)) + body
    application = b"1.2.840.10008.3.1.1.1"
    items = pack(">BxH", 0x10, len(application)) + application + contexts
    length = pack(">BxHL", 0x51, 4, largest_bytes)
    items += pack(">BxH", 0x50, len(length)) + length
    body = pack(">Hxx16s16s32x", 1, b"PACS".ljust(16), b"FLUTE_SYNC".ljust(16)) + items
    return pack(">BxL", 2, len(body)) + body


def response(status: int, message_id: int = 1, field: int = 0x8001) -> bytes:
    """Write a C-STORE response."""
    elements = [(0x0100, field), (0x0120, message_id), (0x0800, 0x0101), (0x0900, status)]
    body = b"".join(pack("<HHLH", 0, element, 2, value) for element, value in elements)
    return pdu((3, 3, pack("<HHLL", 0, 0, 4, len(body)) + body))


class Peer:
    """What a PACS was sent."""

    def __init__(self) -> None:
        self.request = b""
        self.data = b""


@contextmanager
def answering(
    *answers: bytes,
    hangs_up: bool = True,
    drip: Callable[[socket.socket, threading.Event], None] | None = None,
) -> Iterator[tuple[DimsePeerSettings, Peer]]:
    """Answer the association request, then each message that ends, with the bytes given.

    ``drip`` answers what comes after them.
    """
    peer = Peer()
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        connection = listener.accept()[0]
        with connection:
            connection.settimeout(60)
            peer.request = _pdu(connection)
            for number, answer in enumerate(answers):
                if number:
                    peer.data += _message(connection)
                connection.sendall(answer)
            if drip is not None:
                peer.data += _message(connection)
                drip(connection, done)
            if not hangs_up:
                done.wait(10)

    def guarded() -> None:
        try:
            serve()
        except OSError:
            return

    thread = threading.Thread(target=guarded)
    thread.start()
    settings = DimsePeerSettings(
        host="127.0.0.1",
        port=listener.getsockname()[1],
        ae_title="PACS",
        connect_timeout=timedelta(seconds=2),
        answer_timeout=timedelta(milliseconds=500),
    )
    try:
        yield settings, peer
    finally:
        done.set()
        thread.join()
        listener.close()


def _pdu(connection: socket.socket) -> bytes:
    head = _exactly(connection, 6)
    return head + _exactly(connection, int.from_bytes(head[2:6], "big"))


def _message(connection: socket.socket) -> bytes:
    """Read PDUs until the data set ends; return them."""
    read = b""
    while True:
        one = _pdu(connection)
        read += one
        if one[0] != 4 or one[11] == 2:
            return read


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return data


def stored(settings: DimsePeerSettings, data: bytes = b"data") -> int:
    """Store one instance and return the status."""
    association = StoreAssociation(settings, CONTEXTS)
    try:
        association.begin(COMMAND)
        association.send(data)
        return association.finish()
    finally:
        association.abort()


def test_what_is_proposed() -> None:
    with answering(accepting()) as (settings, peer):
        association = StoreAssociation(settings, CONTEXTS)
        assert all(map(association.takes, CONTEXTS))
        association.abort()
    request = A_ASSOCIATE_RQ()
    request.decode(peer.request)
    assert (request.called_ae_title, request.calling_ae_title) == ("PACS", "FLUTE_SYNC")
    proposed = [
        (one.context_id, one.abstract_syntax, one.transfer_syntax)
        for one in request.presentation_context
    ]
    assert proposed == [(1, CT, [IMPLICIT]), (3, CT, [EXPLICIT])]
    answer = A_ASSOCIATE_AC()
    answer.decode(accepting())  # what these tests answer is what pynetdicom reads


@pytest.mark.parametrize(
    ("syntaxes", "taken"),
    [
        ((IMPLICIT, ""), CONTEXTS[:1]),
        (("", EXPLICIT), CONTEXTS[1:]),
        ((EXPLICIT, EXPLICIT), CONTEXTS[1:]),
    ],
)
def test_what_is_taken(syntaxes: tuple[str, ...], taken: list[Context]) -> None:
    with answering(accepting(16384, *syntaxes)) as (settings, _):
        association = StoreAssociation(settings, CONTEXTS)
        assert [one for one in CONTEXTS if association.takes(one)] == taken
        association.abort()


@pytest.mark.parametrize("largest_bytes", [0, 1, 129, 16384, 1 << 30])
@pytest.mark.parametrize("size", [1, 116, 117, 16378, 16379, 300_000])
def test_fragments_are_as_large_as_the_pacs_allows_and_even(largest_bytes: int, size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    with answering(accepting(largest_bytes), response(0)) as (settings, peer):
        assert stored(settings, data) == 0
    most = largest_bytes if largest_bytes >= 128 else (131072 if not largest_bytes else 128)
    rest, found, command = peer.data, b"", b""
    while rest:
        length = int.from_bytes(rest[2:6], "big")
        assert length <= most
        assert rest[10] == 3
        fragment, control = rest[12 : 6 + length], rest[11]
        if control & 1:
            command += fragment
        else:
            assert control == 2 or len(fragment) % 2 == 0
            found += fragment
        rest = rest[6 + length :]
    assert found == data
    for element in (
        b"1.2.3\0",
        b"MOVER ",
        pack("<HHLH", 0, 0x1031, 2, 7),
        pack("<HHLH", 0, 0x700, 2, 2),
    ):
        assert element in command
    assert pack("<HHLH", 0, 0x800, 2, 0x0101) not in command


@pytest.mark.parametrize("status", [0, 0xB000, 0xA700, 0xFFFF])
def test_the_status_is_the_one_of_the_answer(status: int) -> None:
    with answering(accepting(), response(status)) as (settings, _):
        assert stored(settings) == status


@pytest.mark.parametrize(
    "answer",
    [
        response(0, message_id=2),
        response(0, field=0x8030),
        response(0)[:20],
        pdu((3, 2, b"a data set")),
        pack(">BxL", 4, 1 << 31),
        pack(">BxL", 4, 4) + bytes(4),
        pack(">BxL", 7, 4) + bytes(4),
        pack(">BxL", 5, 4) + bytes(4),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
    ],
)
def test_answers_that_are_none(answer: bytes) -> None:
    with (
        answering(accepting(), answer) as (settings, _),
        pytest.raises((ArchiveUnavailable, ArchiveServerError)),
    ):
        stored(settings)


def test_no_answer() -> None:
    with (
        answering(accepting(), b"", hangs_up=False) as (settings, _),
        pytest.raises(ArchiveUnavailable),
    ):
        stored(settings)


def test_an_answer_that_does_not_end_is_left_in_time() -> None:
    endless = pdu(*[(3, 1, b"\0" * 4)] * 400)

    def drip(connection: socket.socket, stop: threading.Event) -> None:
        with suppress(OSError):
            for place in range(len(endless)):
                connection.sendall(endless[place : place + 1])
                if stop.wait(0.1):
                    return

    with answering(accepting(), drip=drip) as (settings, _):
        begun = time.monotonic()
        with pytest.raises(ArchiveUnavailable, match="no answer in time") as raised:
            stored(settings)
        assert raised.value.code == "ARCHIVE-UNAVAILABLE"
        assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (pack(">BxLBBBB", 3, 4, 0, 1, 1, 7), ArchiveAssociationRejected),
        (pack(">BxLBBBB", 3, 4, 0, 2, 3, 2), ArchiveUnavailable),
        (pack(">BxL", 7, 4) + bytes(4), ArchiveUnavailable),
        (b"", ArchiveUnavailable),
        (b"220 smtp.hospital.example ESMTP\r\n", ArchiveServerError),
    ],
)
def test_associations_that_come_to_nothing(answer: bytes, error: type[FluteSyncError]) -> None:
    with answering(answer) as (settings, _), pytest.raises(error):
        StoreAssociation(settings, CONTEXTS)


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_do_no_harm(data: bytes, framed: bool) -> None:
    if framed:
        data = pack(">BxL", 4, len(data)) + data
    with answering(accepting(), data) as (settings, _), suppress(FluteSyncError):
        assert 0 <= stored(settings) <= 0xFFFF


@given(st.binary(max_size=300))
def test_any_acceptance_does_no_harm(data: bytes) -> None:
    with answering(pack(">BxL", 2, len(data)) + data) as (settings, _):
        try:
            association = StoreAssociation(settings, CONTEXTS)
        except FluteSyncError:
            return
        association.abort()


def test_an_association_that_has_ended_is_known_to_have() -> None:
    with answering(accepting(), response(0), RELEASE_RP) as (settings, _):
        association = StoreAssociation(settings, CONTEXTS)
        assert association.alive()
        association.begin(COMMAND)
        association.send(b"data")
        assert association.finish() == 0
        assert association.alive()
        association.release()
    with answering(accepting() + pack(">BxL", 7, 4) + bytes(4)) as (settings, _):
        association = StoreAssociation(settings, CONTEXTS)
        while association.alive():
            pass
        association.release()
