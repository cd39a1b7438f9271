"""An association that we request: bounded and said in our words, whatever the peer sends."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from struct import pack, unpack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flute_sync.archive_errors import (
    ArchiveAssociationRejected,
    ArchiveServerError,
    ArchiveTooSlow,
    ArchiveUnavailable,
)
from flute_sync.errors import FluteSyncError
from flute_sync.sources.dimse_association import DimseAssociation
from flute_sync.sources.dimse_connection import encoded_command
from flute_sync.sources.dimse_negotiation import acceptance, negotiated
from flute_sync.sources.dimse_peer import DimsePeerSettings

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT = "1.2.840.10008.1.2"
PROPOSALS = {FIND: (IMPLICIT,)}
PENDING = encoded_command({0x0100: b"\x20\x80", 0x0800: b"\x01\x00", 0x0900: b"\x00\xff"})
Peer = Callable[[socket.socket], None]


def item(kind: int, body: bytes) -> bytes:
    return pack(">BxH", kind, len(body)) + body


def pdu(kind: int, body: bytes) -> bytes:
    return pack(">BxL", kind, len(body)) + body


def p_data(*values: tuple[int, bytes]) -> bytes:
    """A P-DATA-TF of message control headers and fragments."""
    parts = (pack(">LBB", len(data) + 2, 1, control) + data for control, data in values)
    return pdu(4, b"".join(parts))


def accept(*, context_id: int = 1, result: int = 0, most: int = 16384) -> bytes:
    context = bytes((context_id, 0, result, 0)) + item(0x40, IMPLICIT.encode())
    user = item(0x51, pack(">L", most))
    return pdu(2, bytes(68) + item(0x10, b"1.2") + item(0x21, context) + item(0x50, user))


@contextmanager
def peer(act: Peer) -> Iterator[DimsePeerSettings]:
    """Listen once; ``act`` is what the peer does with the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(60)
                act(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield DimsePeerSettings(
                host="127.0.0.1",
                port=listening.getsockname()[1],
                ae_title="PACS",
                connect_timeout=timedelta(seconds=2),
                answer_timeout=timedelta(seconds=2),
            )
        finally:
            thread.join(60)


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    kind, length = unpack(">BxL", _read(connection, 6))
    return kind, _read(connection, length)


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return data


def answering(answer: bytes) -> Peer:
    def act(connection: socket.socket) -> None:
        read_pdu(connection)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass

    return act


def opened(chosen: DimsePeerSettings) -> DimseAssociation:
    return DimseAssociation(chosen, PROPOSALS)


def received(answer: bytes, seconds: float = 60, largest_bytes: int = 1000):
    with peer(answering(accept() + answer)) as chosen:
        association = opened(chosen)
        try:
            return association.receive(time.monotonic() + seconds, largest_bytes)
        finally:
            association.abort()


def test_what_is_accepted_is_known():
    with peer(answering(accept())) as chosen:
        association = opened(chosen)
        association.abort()
    assert association.accepted == {FIND: (1, IMPLICIT)}


@pytest.mark.parametrize("answer", [accept(result=3), accept(context_id=3), pdu(2, bytes(68))])
def test_what_is_not_accepted_is_not(answer):
    with peer(answering(answer)) as chosen:
        association = opened(chosen)
        association.abort()
    assert association.accepted == {}


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (pdu(3, b"\0\1\1\7"), ArchiveAssociationRejected, "called AE title"),
        (pdu(3, b"\0\2\3\2"), ArchiveUnavailable, "local limit exceeded"),
        (pdu(3, b"\0\1\1\x09"), ArchiveAssociationRejected, "source 1, reason 9"),
        (pdu(7, bytes(4)), ArchiveUnavailable, "aborted"),
        (pdu(4, bytes(4)), ArchiveServerError, "does not speak DICOM"),
        (pdu(3, b""), ArchiveServerError, "does not speak DICOM"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ArchiveServerError, "no DICOM"),
        (b"", ArchiveUnavailable, "closed the connection"),
    ],
)
def test_an_association_that_does_not_come_to_be(answer, error, said):
    with peer(answering(answer)) as chosen, pytest.raises(error, match=said):
        opened(chosen)


def test_a_message_in_pieces_is_put_together():
    half = len(PENDING) // 2
    answer = (
        p_data((1, PENDING[:half])) + p_data((3, PENDING[half:]), (0, b"ab")) + p_data((2, b"c"))
    )
    message = received(answer)
    assert (message.command[0x0900], message.data) == (0xFF00, b"abc")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (p_data((2, b"data first")), ArchiveServerError),
        (p_data((3, PENDING), (3, PENDING)), ArchiveServerError),
        (p_data((3, PENDING), (0, bytes(2000))), ArchiveServerError),
        (p_data((1, bytes(20_000))), ArchiveServerError),
        (pack(">BxL", 4, 1 << 30), ArchiveServerError),
        (pdu(4, pack(">LBB", 1 << 30, 1, 3)), ArchiveServerError),
        (pdu(4, b"\0\0"), ArchiveServerError),
        (pdu(9, b"??"), ArchiveServerError),
        (pdu(5, bytes(4)), ArchiveUnavailable),
        (pdu(7, bytes(4)), ArchiveUnavailable),
        (p_data((3, PENDING)), ArchiveUnavailable),
    ],
)
def test_what_is_no_message_ends_the_association(answer, error):
    with pytest.raises(error):
        received(answer)


@given(answer=st.binary(max_size=60))
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_are_a_negotiation_or_one_of_our_errors(answer):
    try:
        agreed, _ = acceptance(2, bytes(68) + answer)
    except FluteSyncError:
        return
    assert negotiated(agreed, PROPOSALS).keys() <= {FIND}


@pytest.mark.parametrize("endless", [p_data((0, b"")), pdu(4, b"")])
def test_a_peer_that_never_ends_is_left_in_time(endless):
    stop = threading.Event()

    def act(connection: socket.socket) -> None:
        read_pdu(connection)
        connection.sendall(accept() + p_data((3, PENDING)))
        while not stop.is_set():
            try:
                connection.sendall(endless * 100)
            except OSError:
                return

    with peer(act) as chosen:
        association = opened(chosen)
        begun = time.monotonic()
        with pytest.raises(ArchiveTooSlow):
            association.receive(begun + 0.3, 1000)
        association.abort()
        stop.set()


def test_a_request_is_cut_to_what_the_peer_takes_and_released_in_order():
    seen: list[tuple[int, bytes]] = []

    def act(connection: socket.socket) -> None:
        read_pdu(connection)
        connection.sendall(accept(most=128))
        while not seen or seen[-1][0] != 5:
            seen.append(read_pdu(connection))
        connection.sendall(pdu(6, bytes(4)))

    with peer(act) as chosen:
        association = opened(chosen)
        assert association.alive()
        association.send(1, b"c" * 200, b"d" * 50)
        association.release()
    assert [kind for kind, _ in seen] == [4, 4, 4, 5]
    assert max(len(body) for _, body in seen) <= 128
    assert [body[5] for kind, body in seen if kind == 4] == [1, 3, 2]
    assert b"".join(body[6:] for kind, body in seen if kind == 4) == b"c" * 200 + b"d" * 50


def test_an_association_that_the_peer_ended_is_not_alive():
    with peer(answering(accept() + pdu(7, bytes(4)))) as chosen:
        association = opened(chosen)
        deadline = time.monotonic() + 60
        while association.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not association.alive()
        association.abort()
