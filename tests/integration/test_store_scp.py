"""C-STORE in mode index, by every sender at hand, on both data paths."""

import logging
import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from pynetdicom import AE
from pynetdicom.presentation import build_context

from flute_sync.dicom_errors import HeaderError
from flute_sync.errors import FluteSyncError
from flute_sync.ledger_errors import LedgerBusy, LedgerUnavailable
from flute_sync.settings_errors import ListenerUnavailable
from flute_sync.sources.dimse_acceptor import Acceptor
from flute_sync.sources.dimse_incoming import IncomingAssociation
from flute_sync.sources.dimse_policy import STORAGE
from flute_sync.sources.header import HeaderReader
from tests.acceptance.site import eventually
from tests.dimse import (
    ABORT,
    CT,
    EXPLICIT,
    IMPLICIT,
    RELEASE_RQ,
    VERIFICATION,
    RawSender,
    association_request,
    bare,
    command_set,
    data_set,
    listening,
    message,
    pdu,
    status_of,
)
from tests.headers import pydicom_reads, real_files
from tests.intake import MemoryIntake
from tests.services.dcmtk import dcmtk
from tests.stow import MR, FakeIntake, dicom, post, serving, uid

PATHS = ("lean", "pynetdicom")
PRIVATE = "1.2.826.0.1.3680043.9.9999.1"
WORKLIST = "1.2.840.10008.5.1.4.31"


@pytest.fixture(params=PATHS)
def data_path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def intake() -> MemoryIntake:
    return MemoryIntake()


@pytest.fixture
def acceptor(intake: MemoryIntake, data_path: str) -> Iterator[Acceptor]:
    with listening(intake, data_path=data_path) as running:
        yield running


def files(folder: Path, count: int, pixels: bytes = b"\0" * 512) -> list[str]:
    written = []
    for number in range(count):
        path = folder / f"{number}.dcm"
        path.write_bytes(dicom(instance=number, pixels=pixels))
        written.append(str(path))
    return written


def received(intake: MemoryIntake) -> set[str]:
    return {
        str(one.instance.sop_instance_uid)
        for delivery in intake.deliveries
        for one in delivery.received
    }


@pytest.mark.parametrize("nodelay", ["", "1"])
@pytest.mark.parametrize("tool", ["storescu", "dcmsend"])
def test_dcmtk(
    acceptor: Acceptor, intake: MemoryIntake, tmp_path: Path, tool: str, nodelay: str
) -> None:
    sent = files(tmp_path, 20, pixels=b"\0" * 20_000)
    began = time.monotonic()
    done = subprocess.run(
        [tool, "-aec", "FLUTE_SYNC", "-aet", "MODALITY", "127.0.0.1", str(acceptor.port), *sent],
        env={**os.environ, "TCP_NODELAY": nodelay} if nodelay else None,
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert len(received(intake)) == 20
    assert {one.calling_ae_title for one in intake.deliveries} == {"MODALITY"}
    assert {one.source for one in intake.deliveries} == {"store_scp"}
    assert time.monotonic() - began < 50


def test_echo(acceptor: Acceptor) -> None:
    done = dcmtk("echoscu", "-aec", "FLUTE_SYNC", "127.0.0.1", str(acceptor.port))
    assert done.returncode == 0


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        JPEG2000Lossless,
        "1.2.826.0.1.3680043.9.9999.4",
    ],
)
def test_any_encoding_as_it_comes(acceptor: Acceptor, intake: MemoryIntake, syntax: str) -> None:
    with RawSender(acceptor.port, ((CT, syntax),)) as sender:
        sender.send(message(1, CT, "1.2.3", data_set(syntax)))
        assert sender.status() == 0
    assert received(intake) == {"1.2.3"}
    assert intake.deliveries[0].received[0].study_instance_uid == "1.2"


@pytest.mark.parametrize(
    ("settings", "is_accepted"),
    [
        ({}, False),
        ({"private_sop_classes": (PRIVATE,)}, True),
        ({"unrestricted": True}, True),
    ],
)
def test_private_sop_classes(
    intake: MemoryIntake, data_path: str, settings: dict[str, Any], *, is_accepted: bool
) -> None:
    with (
        listening(intake, data_path=data_path, **settings) as acceptor,
        RawSender(acceptor.port, ((PRIVATE, EXPLICIT), (WORKLIST, EXPLICIT))) as sender,
    ):
        assert results(sender) == [0 if is_accepted else 3, 3]
        if is_accepted:
            sender.send(message(1, PRIVATE, "1.2.3", data_set(sop_class=PRIVATE)))
            assert sender.status() == 0
    assert received(intake) == ({"1.2.3"} if is_accepted else set())


def results(sender: RawSender) -> list[int]:
    """Return the result of each presentation context, PS3.8 9.3.3.2."""
    assert sender.kind == 2
    items = sender.answer[68:]
    found = []
    while items:
        length = int.from_bytes(items[2:4], "big")
        if items[0] == 0x21:
            found.append(items[6])
        items = items[4 + length :]
    return found


@pytest.mark.parametrize("data_path", ["lean"])
def test_every_storage_class_in_one_association(
    acceptor: Acceptor, intake: MemoryIntake, data_path: str
) -> None:
    every = sorted(STORAGE)
    for begin in range(0, len(every), 128):
        chosen = every[begin : begin + 128]
        with RawSender(acceptor.port, tuple((one, EXPLICIT) for one in chosen)) as sender:
            assert results(sender) == [0] * len(chosen)


def test_pynetdicom_as_sender(acceptor: Acceptor, intake: MemoryIntake) -> None:
    entity = AE("PYNETDICOM")
    contexts = [build_context(MR, ExplicitVRLittleEndian), build_context(VERIFICATION)]
    association = entity.associate(
        "127.0.0.1", acceptor.port, contexts=contexts, ae_title="FLUTE_SYNC"
    )
    assert association.is_established
    assert association.send_c_echo().Status == 0
    for number in range(3):
        instance = pydicom.dcmread(BytesIO(dicom(instance=number)))
        assert association.send_c_store(instance).Status == 0
    association.release()
    assert received(intake) == {uid("study", "series", number) for number in range(3)}


def test_the_real_files_that_pydicom_brings(acceptor: Acceptor, intake: MemoryIntake) -> None:
    """What the reader of files takes is taken, and nothing else, each with its own status."""
    reader, expected = HeaderReader(), dict[str, str]()
    wrong = 0
    for path in real_files():
        syntax, body = bare(path.read_bytes())
        try:
            known = reader.read(body, syntax)
        except HeaderError:
            continue
        sop_class = known.instance.header.sop_class_uid
        if sop_class not in STORAGE or len(body) > 4 << 20:
            continue
        name = str(known.instance.sop_instance_uid)
        with RawSender(acceptor.port, ((sop_class, syntax),)) as sender:
            sender.send(message(1, sop_class, name, body))
            status = sender.status()
        wrong += status != 0
        expected[name] = sop_class
    assert not wrong
    assert len(expected) > 60
    assert received(intake) == set(expected)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (message(1, CT, "1.2.9", data_set()), 0xA900),
        (message(1, CT, "1.2.3", data_set(sop_class=MR)), 0xA900),
        (message(1, MR, "1.2.3", data_set(sop_class=MR)), 0x0122),
        (message(1, CT, "1.2.3", b"this is not DICOM at all"), 0xC000),
        (message(1, CT, "1.2.3", data_set()[:40]), 0xC000),
        (message(1, CT, "1.02.x", data_set()), 0x0117),
        (message(1, CT, "1.2.3", None), 0x0212),
        (pdu((1, 3, command_set(0x0140, CT, "1.2.3"))), 0x0211),
    ],
)
def test_refusals_have_their_status(
    acceptor: Acceptor, intake: MemoryIntake, sent: bytes, status: int
) -> None:
    with RawSender(acceptor.port) as sender:
        sender.send(sent)
        assert sender.status() == status
        sender.send(message(1, CT, "1.2.3", data_set()))
        assert sender.status() == 0
        sender.send(RELEASE_RQ)
        assert sender.read()[0] == 6
    assert received(intake) == {"1.2.3"}


def test_what_is_of_an_erased_patient_is_refused_for_good(
    acceptor: Acceptor, intake: MemoryIntake
) -> None:
    with RawSender(acceptor.port) as sender:
        sender.send(message(1, CT, "1.2.3", data_set()))
        assert sender.status() == 0
        (delivery,) = intake.deliveries
        intake.erased = {one.study_instance_uid for one in delivery.received}
        sender.send(message(1, CT, "1.2.3", data_set()))
        kind, answer = sender.read()
        assert (kind, status_of(answer)) == (4, 0x0124)
        assert b"PATIENT-ERASED" in answer


@pytest.mark.parametrize("error", [LedgerUnavailable, LedgerBusy])
def test_no_success_without_the_ledger(
    acceptor: Acceptor, intake: MemoryIntake, error: type[FluteSyncError]
) -> None:
    intake.failure = error("for the test")
    with RawSender(acceptor.port) as sender:
        sender.send(message(1, CT, "1.2.3", data_set()))
        kind, answer = sender.read()
        assert (kind, status_of(answer)) == (4, 0xA700)
        assert error.code.encode() in answer
        assert b"for the test" not in answer
        sender.send(message(1, CT, "1.2.3", data_set()))
        assert sender.status() == 0


@pytest.mark.parametrize(
    ("request_with", "settings", "reason"),
    [
        ({"called": "OTHER"}, {}, (1, 1, 7)),
        ({"calling": "OTHER"}, {"calling_ae_titles": ("MODALITY",)}, (1, 1, 3)),
        ({"application": "1.2.3"}, {}, (1, 1, 2)),
    ],
)
def test_associations_that_are_rejected(
    intake: MemoryIntake,
    data_path: str,
    request_with: dict[str, Any],
    settings: dict[str, Any],
    reason: tuple[int, int, int],
) -> None:
    with (
        listening(intake, data_path=data_path, **settings) as acceptor,
        RawSender(acceptor.port, **request_with) as sender,
    ):
        assert (sender.kind, tuple(sender.answer[1:])) == (3, reason)


def test_any_name_is_heard_where_that_is_set(intake: MemoryIntake, data_path: str) -> None:
    settings: dict[str, Any] = {"require_called_ae_title": False, "calling_ae_titles": ("RAW",)}
    with (
        listening(intake, data_path=data_path, **settings) as acceptor,
        RawSender(acceptor.port, called="WHOEVER") as sender,
    ):
        assert sender.kind == 2


def test_the_limit_of_associations(intake: MemoryIntake, data_path: str) -> None:
    with listening(intake, data_path=data_path, max_associations=2) as acceptor:
        with RawSender(acceptor.port) as first, RawSender(acceptor.port) as second:
            assert (first.kind, second.kind) == (2, 2)
            with RawSender(acceptor.port) as third:
                assert (third.kind, tuple(third.answer[1:])) == (3, (2, 3, 2))
            first.send(RELEASE_RQ)
            assert first.read()[0] == 6
        eventually(lambda: reaches(acceptor))


def reaches(acceptor: Acceptor) -> bool:
    with RawSender(acceptor.port) as sender:
        return sender.kind == 2


HOSTILE = {
    "unknown PDU": b"\x09\x00\x00\x00\x00\x04\x00\x00\x00\x00",
    "a second request": b"\x01\x00\x00\x00\x00\x04\x00\x00\x00\x00",
    "a PDU of 4 GiB": b"\x04\x00\xff\xff\xff\xff" + bytes(64),
    "a PDU above the maximum": b"\x04\x00\x00\x10\x00\x00" + bytes(64),
    "a PDV beyond its PDU": b"\x04\x00\x00\x00\x00\x08\x00\x00\x00\x99\x01\x03\x00\x00",
    "a context not accepted": pdu((9, 3, command_set(1, CT, "1.2.3", has_data=True))),
    "data without a command": pdu((1, 2, b"data")),
    "no command": pdu((1, 3, b"rubbish")),
    "a command without end": pdu((1, 1, bytes(30_000))) * 3,
    "mingled messages": pdu(
        (1, 3, command_set(1, CT, "1.2.3", has_data=True)), (1, 0, data_set()), (3, 0, b"mingled")
    ),
    "a response": pdu((1, 3, command_set(0x8001, CT, "1.2.3"))),
    "zeros": bytes(100),
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_not_dicom_ends_the_association(
    acceptor: Acceptor, intake: MemoryIntake, sent: bytes
) -> None:
    with RawSender(acceptor.port) as sender:
        sender.send(sent)
        assert sender.read()[0] in (0, 7)
    with RawSender(acceptor.port) as sender:
        sender.send(message(1, CT, "1.2.3", data_set()))
        assert sender.status() == 0
    assert received(intake) == {"1.2.3"}


def test_broken_streams_do_no_harm(
    acceptor: Acceptor, intake: MemoryIntake, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(8)
    request = association_request(((CT, EXPLICIT), (VERIFICATION, IMPLICIT)))
    store = message(1, CT, "1.2.3", data_set(), most=31)
    for _ in range(120):
        sent = (
            request + mutated(store, chance) if chance.random() < 0.8 else mutated(request, chance)
        )
        with socket.create_connection(("127.0.0.1", acceptor.port), timeout=60) as connection:
            connection.sendall(sent + RELEASE_RQ)
            if chance.random() < 0.5:
                connection.shutdown(socket.SHUT_WR)
                with suppress(OSError):
                    while connection.recv(4096):
                        pass
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    eventually(lambda: reaches(acceptor))
    assert received(intake) <= {"1.2.3"}


def mutated(stream: bytes, chance: random.Random) -> bytes:
    """Change, cut out or put in some bytes."""
    broken = bytearray(stream)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(broken))
        end = at + chance.choice([0, 1, 4, 30])
        broken[at:end] = chance.choice([b"", b"\xff" * 4, bytes(4), chance.randbytes(9)])
    return bytes(broken)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x01\x00\xff\xff\xff\xff"])
def test_what_connects_and_is_no_association(acceptor: Acceptor, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", acceptor.port), timeout=60) as connection:
        connection.sendall(sent)
    eventually(lambda: reaches(acceptor))
    assert acceptor.alive()


def test_a_title_padded_with_nul_is_heard(acceptor: Acceptor, intake: MemoryIntake) -> None:
    asked = association_request(((CT, EXPLICIT),), calling="MODALITY")
    padded = asked.replace(b"FLUTE_SYNC      ", b"FLUTE_SYNC".ljust(16, b"\0"))
    with RawSender(acceptor.port, request=padded.replace(b"Y        ", b"Y\0rest   ")) as sender:
        assert sender.kind == 2
        sender.send(message(1, CT, "1.2.3", data_set()))
        assert sender.status() == 0
    assert intake.deliveries[0].calling_ae_title == "MODALITY"


def test_a_request_that_cannot_be_read_is_told(
    acceptor: Acceptor, caplog: pytest.LogCaptureFixture
) -> None:
    asked = association_request(((CT, EXPLICIT),))
    with RawSender(acceptor.port, request=asked.replace(EXPLICIT.encode(), b"\xff" * 19)) as sender:
        assert sender.kind in {0, ABORT}

    def told() -> list[logging.LogRecord]:
        return [one for one in caplog.records if getattr(one, "event", "") == "association.aborted"]

    eventually(told, within=60)


def test_a_context_without_transfer_syntax_is_let_by(acceptor: Acceptor) -> None:
    asked = association_request(((CT, EXPLICIT), (VERIFICATION, IMPLICIT)))
    ours = pack(">BxH", 0x40, len(EXPLICIT)) + EXPLICIT.encode()
    start = asked.index(ours)
    lengths = (2, 6, 4), (start - len(CT) - 10, start - len(CT) - 8, 2)
    cut = bytearray(asked[:start] + asked[start + len(ours) :])
    for first, behind, size in lengths:
        length = int.from_bytes(cut[first:behind], "big") - len(ours)
        cut[first:behind] = length.to_bytes(size, "big")
    with RawSender(acceptor.port, request=bytes(cut)) as sender:
        assert sender.kind == 2
        sender.send(pdu((3, 3, command_set(0x30, VERIFICATION))))
        assert sender.status() == 0


def test_who_connects_and_leaves_is_forgotten(
    acceptor: Acceptor, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        socket.create_connection(("127.0.0.1", acceptor.port)).close()

    def are_gone() -> bool:
        return not [one for one in threading.enumerate() if one.name == "dimse-association"]

    eventually(are_gone, within=60, what="forgotten")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_tiny_fragments(acceptor: Acceptor, intake: MemoryIntake) -> None:
    with RawSender(acceptor.port) as sender:
        sender.send(message(1, CT, "1.2.3", data_set(), most=1))
        assert sender.status() == 0
        whole = message(1, CT, "1.2.3", data_set())
        for start in range(0, len(whole), 7):
            sender.send(whole[start : start + 7])
        assert sender.status() == 0
    assert len(intake.deliveries) == 2


def test_a_sender_that_breaks_off(
    acceptor: Acceptor, intake: MemoryIntake, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with RawSender(acceptor.port) as sender:
        sender.send(message(1, CT, "1.2.3", data_set(pixels=bytes(100_000)))[:-5000])
    eventually(lambda: "store.interrupted" in events(caplog))
    assert events(caplog).count("store.interrupted") == 1
    assert not intake.deliveries


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [getattr(record, "event", "") for record in caplog.records]


def test_the_log_names_no_instance_and_counts_once(
    acceptor: Acceptor, intake: MemoryIntake, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with RawSender(acceptor.port, calling="CT 1") as sender:
        for number in range(5):
            sender.send(message(1, CT, f"1.2.{number}", data_set(instance=f"1.2.{number}")))
            assert sender.status() == 0
        for _ in range(3):
            sender.send(message(1, CT, "1.2.9", data_set()))
            assert sender.status() == 0xA900
        sender.send(RELEASE_RQ)
        sender.read()
    eventually(lambda: "store.accepted" in events(caplog))
    told = [getattr(record, "fields", {}) for record in caplog.records]
    assert events(caplog) == ["association.accepted", "store.refused", "store.accepted"]
    assert told[0]["calling_ae_title"] == "CT 1"
    assert (told[2]["instances"], told[2]["failed"]) == (5, 3)
    assert "1.2.9" not in caplog.text


def test_a_defect_is_no_success(acceptor: Acceptor, intake: MemoryIntake) -> None:
    intake.failure = ZeroDivisionError("a defect, for the test")
    with RawSender(acceptor.port) as sender:
        sender.send(message(1, CT, "1.2.3", data_set()))
        assert sender.read()[0] in (0, 7)
    with RawSender(acceptor.port) as sender:
        sender.send(message(1, CT, "1.2.3", data_set()))
        assert sender.status() == 0
    assert len(intake.deliveries) == 1


def test_the_same_is_known_as_by_stow(acceptor: Acceptor, intake: MemoryIntake) -> None:
    files = [dicom(series=series, instance=number) for series in "ab" for number in range(3)]
    uploaded = FakeIntake()
    with serving(uploaded) as url:
        assert post(url, files).status_code == 200
    with RawSender(acceptor.port, ((MR, EXPLICIT),)) as sender:
        for file in files:
            _, body = bare(file)
            name = str(pydicom_reads(file).SOPInstanceUID)
            sender.send(message(1, MR, name, body))
            assert sender.status() == 0
    told = {one for delivery in intake.deliveries for one in delivery.received}
    assert told == set(uploaded.received)


def test_slow_senders(intake: MemoryIntake, data_path: str) -> None:
    settings: dict[str, Any] = {"network_timeout": "500ms", "idle_timeout": "5s"}
    with listening(intake, data_path=data_path, **settings) as acceptor:
        with RawSender(acceptor.port) as sender:
            began = time.monotonic()
            sender.send(message(1, CT, "1.2.3", data_set())[:-10])
            assert sender.read()[0] in (0, 7)
            assert time.monotonic() - began < 30
        with RawSender(acceptor.port) as sender:
            time.sleep(0.8)
            sender.send(message(1, CT, "1.2.3", data_set()))
            assert sender.status() == 0
            assert sender.read()[0] == 7
    assert received(intake) == {"1.2.3"}


def test_fifty_associations(acceptor: Acceptor, intake: MemoryIntake) -> None:
    senders = [RawSender(acceptor.port) for _ in range(50)]
    try:
        for round_ in range(4):
            for number, sender in enumerate(senders):
                name = f"1.2.{number}.{round_}"
                sender.send(message(1, CT, name, data_set(instance=name, pixels=bytes(50_000))))
            assert [sender.status() for sender in senders] == [0] * 50
    finally:
        for sender in senders:
            sender.socket.close()
    assert len(received(intake)) == 200


@pytest.mark.parametrize("data_path", PATHS)
def test_associations_that_were_only_open_are_served_when_they_ask(
    intake: MemoryIntake, data_path: str
) -> None:
    with listening(intake, data_path=data_path) as acceptor, ExitStack() as opened:
        senders = [opened.enter_context(RawSender(acceptor.port)) for _ in range(20)]
        time.sleep(2)  # they rest only when nothing has come for a while
        for sender in senders:
            sender.send(pdu((3, 3, command_set(0x30, VERIFICATION))))
            assert sender.status() == 0


def test_a_large_instance_leaves_no_trace_in_memory(
    acceptor: Acceptor, intake: MemoryIntake, data_path: str
) -> None:
    size = (600 if data_path == "lean" else 60) << 20
    head = data_set(pixels=b"")
    with RawSender(acceptor.port) as sender:
        sender.send(message(1, CT, "1.2.3", head)[: -len(head) - 12])
        sender.send(pdu((1, 0, head)))
        before, piece = resident_bytes(), pdu(*[(1, 0, bytes(32_000))] * 4)
        for _ in range(size // 128_000):
            sender.send(piece)
        sender.send(pdu((1, 2, bytes(2))))
        assert sender.status() == 0
    assert resident_bytes() - before < 20 << 20
    assert received(intake) == {"1.2.3"}


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def is_busy() -> bool:
    """Tell whether a message is in hand."""
    associations = [one for one in threading.enumerate() if isinstance(one, IncomingAssociation)]
    return any(not one.exchange.is_idle for one in associations)


def test_stopping_finishes_the_message_in_hand(intake: MemoryIntake, data_path: str) -> None:
    whole = message(1, CT, "1.2.3", data_set(pixels=bytes(40_000)))
    with (
        listening(intake, data_path=data_path) as acceptor,
        RawSender(acceptor.port) as idle,
        RawSender(acceptor.port) as busy,
    ):
        busy.send(whole[:-100])
        eventually(is_busy)
        stopping = threading.Thread(target=acceptor.stop, args=(timedelta(seconds=20),))
        stopping.start()
        assert idle.read()[0] in (0, 7)
        busy.send(whole[-100:])
        assert busy.status() == 0
        assert busy.read()[0] in (0, 7)
        stopping.join(60)
        assert not stopping.is_alive()
        assert not acceptor.alive()
    assert received(intake) == {"1.2.3"}


def test_stopping_breaks_off_who_does_not_end(intake: MemoryIntake, data_path: str) -> None:
    with (
        listening(intake, data_path=data_path) as acceptor,
        RawSender(acceptor.port) as sender,
    ):
        sender.send(message(1, CT, "1.2.3", data_set())[:-10])
        eventually(is_busy)
        acceptor.stop(timedelta(seconds=0.5))
        assert sender.read()[0] in (0, 7)
    assert not intake.deliveries


def test_an_address_in_use(acceptor: Acceptor, intake: MemoryIntake) -> None:
    with (
        pytest.raises(ListenerUnavailable, match="store_scp"),
        listening(intake, port=acceptor.port),
    ):
        pass
