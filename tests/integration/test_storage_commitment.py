"""Storage commitment for real: Orthanc as the archive behind us, Orthanc and pynetdicom asking."""

import json
import queue
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import BytesIO
from struct import pack
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dsutils import decode, encode

from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.commitment_report import SOP_INSTANCE_UID
from flute_sync.sources.commitment_settings import CommitmentSettings
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.dimse_acceptor import Acceptor
from flute_sync.sources.dimse_connection import encoded_command, numbers
from flute_sync.sources.dimse_provider import Checkpoint
from flute_sync.sources.dimse_services import NormalizedServices
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.storage_commitment import StorageCommitment
from tests.acceptance.site import eventually
from tests.dimse import EXPLICIT, RELEASE_RQ, RawSender, listening, pdu
from tests.dimse_requests import COMMITMENT, SYNTAXES, associated, commitment, referenced
from tests.intake import MemoryIntake
from tests.services.orthanc import Orthanc
from tests.services.process import free_port
from tests.stow import MR, Answer, ScriptedArchive, dicom, uid

HELD = [uid("commitment", "series", number) for number in range(3)]


@pytest.fixture(scope="module")
def archive(orthanc: Orthanc) -> Orthanc:
    for number in range(3):
        store(orthanc, dicom("commitment", instance=number))
    return orthanc


def store(orthanc: Orthanc, file: bytes) -> Any:
    with urllib.request.urlopen(f"{orthanc.base_url}/instances", file, timeout=60) as answer:
        return json.load(answer)


@contextmanager
def committing(
    dicomweb_url: str, port: int = 0, dimse_timeout: str = "30s", **settings: Any
) -> Iterator[Acceptor]:
    """Listen for requests, and ask an archive."""
    chosen = CommitmentSettings(**({"pause": "50ms", "attempts": 3} | settings))
    archive = Archive(ArchiveSettings(dicomweb_url=dicomweb_url))
    service = StorageCommitment(chosen, archive.search, "FLUTE_SYNC", HeaderSettings())
    service.start()
    try:
        services = (NormalizedServices([service]),)
        listener = listening(MemoryIntake(), services, port=port, dimse_timeout=dimse_timeout)
        with listener as acceptor:
            yield acceptor
        assert service.alive()
    finally:
        service.stop(timedelta(seconds=5))
        archive.close()


class Listener:
    """Keeps the reports that it gets."""

    def __init__(self, status: int = 0) -> None:
        self._status = status
        self._told: queue.Queue[tuple[int, Dataset]] = queue.Queue()

    @property
    def handlers(self) -> list[Any]:
        return [(evt.EVT_N_EVENT_REPORT, self._take)]

    def report(self) -> tuple[int, Dataset]:
        return self._told.get(timeout=60)

    @property
    def is_empty(self) -> bool:
        return self._told.empty()

    def _take(self, event: Any) -> tuple[int, None]:
        self._told.put((int(event.request.EventTypeID), event.event_information))
        return self._status, None


@contextmanager
def called(listener: Listener, port: int = 0, *, answers_roles: bool = True) -> Iterator[int]:
    """Take reports on associations that are opened to us."""
    entity = AE("SENDER")
    roles = {"scu_role": True, "scp_role": True} if answers_roles else {}
    entity.add_supported_context(COMMITMENT, list(SYNTAXES), **roles)
    server = entity.start_server(("127.0.0.1", port), False, evt_handlers=listener.handlers)
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        # Who reports goes when it has its answer: an abort would overtake that.
        eventually(lambda: not entity.active_associations, what="the end of the reports")
        entity.shutdown()


def ask(association: Any, transaction: str, *references: Dataset, action: int = 1) -> int:
    status, _ = association.send_n_action(
        commitment(transaction, *references), action, COMMITMENT, SOP_INSTANCE_UID
    )
    return int(status.Status)


def named(dataset: Dataset, keyword: str) -> set[str]:
    return {str(item.ReferencedSOPInstanceUID) for item in dataset.get(keyword, ())}


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_report_comes_on_the_association_of_the_request(archive: Orthanc, syntax: str) -> None:
    listener = Listener()
    with (
        committing(archive.dicomweb_url) as acceptor,
        associated(
            acceptor.port, COMMITMENT, syntax, evt_handlers=listener.handlers
        ) as association,
    ):
        assert ask(association, "1.2.3", *(referenced(one, MR) for one in HELD)) == 0
        event, told = listener.report()
    assert (event, told.TransactionUID) == (1, "1.2.3")
    assert named(told, "ReferencedSOPSequence") == set(HELD)
    assert "FailedSOPSequence" not in told


def next_message(sender: RawSender) -> tuple[dict[int, int], bytes]:
    """Read the numbers of a command, and its data set."""
    parts = {True: b"", False: b""}
    while True:
        kind, body = sender.read()
        assert kind == 4, f"a PDU of type {kind}"
        while body:
            length = int.from_bytes(body[:4], "big")
            control, data = body[5], body[6 : 4 + length]
            parts[bool(control & 1)] += data
            body = body[4 + length :]
            command = numbers(parts[True])
            if control & 2 and (not control & 1 or command[0x0800] == 0x0101):
                return command, parts[False]


def requested(message_id: int, transaction: str) -> bytes:
    """Write a request, as senders do who do not wait for the report on the one before."""
    command = encoded_command(
        {
            0x0003: COMMITMENT.encode(),
            0x0100: pack("<H", 0x0130),
            0x0110: pack("<H", message_id),
            0x0800: pack("<H", 1),
            0x1001: SOP_INSTANCE_UID.encode(),
            0x1008: pack("<H", 1),
        }
    )
    data = encode(commitment(transaction, referenced(HELD[0], MR)), False, True)
    assert data is not None
    return pdu((1, 3, command), (1, 2, data))


def taken(message_id: int) -> bytes:
    """Write the answer to a report."""
    fields = {0x0100: 0x8100, 0x0120: message_id, 0x0800: 0x0101, 0x0900: 0}
    return pdu((1, 3, encoded_command({one: pack("<H", fields[one]) for one in fields})))


@pytest.fixture(params=[False, True], ids=["as it goes", "slowly"])
def busy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which two threads go on late: who asks, and the loop that was let go before."""
    rest, take = Checkpoint.wait, DIMSEServiceProvider.get_msg

    def rest_longer(checkpoint: Checkpoint, timeout: float | None = None) -> bool:
        is_set = rest(checkpoint, timeout)
        time.sleep(0.1)
        return is_set

    def take_later(messages: DIMSEServiceProvider, block: bool = False) -> Any:
        time.sleep(0.3 * block)
        return take(messages, block)

    if request.param:
        monkeypatch.setattr(Checkpoint, "wait", rest_longer)
        monkeypatch.setattr(DIMSEServiceProvider, "get_msg", take_later)


@pytest.mark.usefixtures("busy")
def test_more_is_asked_on_the_association_while_the_report_is_not_answered(
    archive: Orthanc, caplog: pytest.LogCaptureFixture
) -> None:
    """A sender keeps its association, and answers the first report after its third request."""
    caplog.set_level("INFO")
    told = []
    with (
        committing(archive.dicomweb_url) as acceptor,
        RawSender(acceptor.port, ((COMMITMENT, EXPLICIT),)) as sender,
    ):
        for number in (1, 2):
            sender.send(requested(number, f"1.2.12.{number}"))
            command, _ = next_message(sender)
            assert (command[0x0120], command[0x0900]) == (number, 0)
        report, data = next_message(sender)
        told.append(data)
        sender.send(requested(3, "1.2.12.3"))
        command, _ = next_message(sender)
        assert (command[0x0100], command[0x0120], command[0x0900]) == (0x8130, 3, 0)
        for _ in range(2):
            sender.send(taken(report[0x0110]))
            report, data = next_message(sender)
            told.append(data)
        sender.send(taken(report[0x0110]))
        eventually(lambda: caplog.text.count("commitment was reported") == 3, what="the answers")
        sender.send(RELEASE_RQ)
        assert sender.read()[0] == 6
    decoded = [decode(BytesIO(one), False, True) for one in told]
    assert {one.TransactionUID for one in decoded} == {f"1.2.12.{one}" for one in (1, 2, 3)}


@pytest.mark.usefixtures("busy")
def test_a_sender_that_leaves_without_answering_its_report_is_let_go(
    archive: Orthanc, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        committing(archive.dicomweb_url, dimse_timeout="1h") as acceptor,
        RawSender(acceptor.port, ((COMMITMENT, EXPLICIT),)) as sender,
    ):
        sender.send(requested(1, "1.2.13"))
        command, _ = next_message(sender)
        assert command[0x0900] == 0
        next_message(sender)
        sender.send(RELEASE_RQ)
        assert sender.read()[0] == 6
        eventually(lambda: "the sender did not answer" in caplog.text)


@pytest.mark.parametrize("answers_roles", [True, False])
def test_the_report_comes_to_the_address_of_the_sender(
    archive: Orthanc, answers_roles: bool
) -> None:
    listener = Listener()
    lacking, other = "1.2.3.4.5", HELD[1]
    with called(listener, answers_roles=answers_roles) as port:
        peers = {"SENDER": f"127.0.0.1:{port}"}
        with committing(archive.dicomweb_url, peers=peers) as acceptor:
            with associated(acceptor.port, COMMITMENT) as association:
                references = (
                    referenced(HELD[0], MR),
                    referenced(other, "1.2.840.10008.5.1.4.1.1.2"),
                    referenced(lacking, MR),
                )
                assert ask(association, "1.2.4", *references) == 0
            event, told = listener.report()
    assert event == 2
    assert named(told, "ReferencedSOPSequence") == {HELD[0]}
    reasons = {
        str(item.ReferencedSOPInstanceUID): item.FailureReason for item in told.FailedSOPSequence
    }
    assert reasons == {other: 0x0119, lacking: 0x0112}


def test_an_archive_that_cannot_be_asked_commits_nothing() -> None:
    listener = Listener()
    with (
        committing(f"http://127.0.0.1:{free_port()}/dicom-web") as acceptor,
        associated(acceptor.port, COMMITMENT, evt_handlers=listener.handlers) as association,
    ):
        assert ask(association, "1.2.5", referenced(HELD[0], MR)) == 0
        event, told = listener.report()
    assert event == 2
    assert "ReferencedSOPSequence" not in told
    assert told.FailedSOPSequence[0].FailureReason == 0x0110


def test_an_archive_that_ignores_what_it_is_asked_commits_nothing() -> None:
    listener = Listener()
    row = {"00080018": {"vr": "UI", "Value": [HELD[0]]}}
    with (
        ScriptedArchive(lambda _: Answer(json.dumps([row] * 3).encode())) as server,
        committing(f"http://127.0.0.1:{server.port}/pacs") as acceptor,
        associated(acceptor.port, COMMITMENT, evt_handlers=listener.handlers) as association,
    ):
        assert ask(association, "1.2.6", referenced(HELD[1], MR)) == 0
        event, told = listener.report()
    assert (event, told.FailedSOPSequence[0].FailureReason) == (2, 0x0110)


def test_a_report_is_tried_again_until_the_sender_listens(archive: Orthanc) -> None:
    listener, port = Listener(), free_port()
    peers = {"SENDER": f"127.0.0.1:{port}"}
    with committing(archive.dicomweb_url, peers=peers, attempts=50, pause="200ms") as acceptor:
        with associated(acceptor.port, COMMITMENT) as association:
            assert ask(association, "1.2.7", referenced(HELD[0], MR)) == 0
        with called(listener, port):
            assert listener.report()[0] == 1


def test_a_sender_that_is_switched_off_holds_up_no_other(archive: Orthanc) -> None:
    listener = Listener()
    with called(listener) as port:
        peers = {"OFF": f"127.0.0.1:{free_port()}", "SENDER": f"127.0.0.1:{port}"}
        with committing(archive.dicomweb_url, peers=peers, attempts=2, pause="1h") as acceptor:
            for sender in ("OFF", "SENDER"):
                with associated(acceptor.port, COMMITMENT, ae_title=sender) as association:
                    assert ask(association, "1.2.11", referenced(HELD[0], MR)) == 0
            assert listener.report()[0] == 1


def test_a_sender_that_is_not_known_and_gone_is_given_up(
    archive: Orthanc, caplog: pytest.LogCaptureFixture
) -> None:
    with committing(archive.dicomweb_url) as acceptor:
        with associated(acceptor.port, COMMITMENT) as association:
            assert ask(association, "1.2.8", referenced(HELD[0], MR)) == 0
        eventually(lambda: "could not be delivered" in caplog.text)


def test_a_sender_that_refuses_the_report_is_told_again_and_given_up(
    archive: Orthanc, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener(status=0x0110)
    with called(listener) as port:
        peers = {"SENDER": f"127.0.0.1:{port}"}
        with committing(archive.dicomweb_url, peers=peers, attempts=2) as acceptor:
            with associated(acceptor.port, COMMITMENT) as association:
                assert ask(association, "1.2.10", referenced(HELD[0], MR)) == 0
            assert [listener.report()[0] for _ in range(2)] == [1, 1]
            eventually(lambda: "the sender answered 0110" in caplog.text)
    assert listener.is_empty


def test_requests_that_are_none(archive: Orthanc) -> None:
    with (
        committing(archive.dicomweb_url, max_instances=2) as acceptor,
        associated(acceptor.port, COMMITMENT) as association,
    ):
        one = referenced(HELD[0], MR)
        assert ask(association, "1.2.9", one, action=2) == 0x0123
        assert ask(association, "1.2.9") == 0x0115
        assert ask(association, "", one) == 0x0115
        many = (referenced(f"1.2.3.{number}", MR) for number in range(3))
        assert ask(association, "1.2.9", *many) == 0x0213
        status, _ = association.send_n_action(commitment("1.2.9", one), 1, COMMITMENT, "1.2.3.4")
        assert status.Status == 0x0112


def test_orthanc_asks(archive: Orthanc, new_orthanc: Callable[..., Orthanc]) -> None:
    port = free_port()
    sender = new_orthanc(
        aet="MODALITY",
        settings={
            "DicomModalities": {
                "flute": {
                    "AET": "FLUTE_SYNC",
                    "Host": "127.0.0.1",
                    "Port": port,
                    "AllowStorageCommitment": True,
                }
            },
        },
    )
    names = [store(sender, dicom("commitment", instance=number))["ID"] for number in range(3)]
    other = store(sender, dicom("elsewhere"))["ID"]
    peers = {"MODALITY": f"127.0.0.1:{sender.dicom_port}"}
    with committing(archive.dicomweb_url, port, peers=peers):
        assert outcome(sender, names)["Status"] == "Success"
        failed = outcome(sender, [names[0], other])
    assert failed["Status"] == "Failure"
    assert [one["SOPInstanceUID"] for one in failed["Success"]] == [HELD[0]]
    (failure,) = failed["Failures"]
    assert failure["SOPInstanceUID"] == uid("elsewhere", "series", 1)
    assert 0x0112 in failure.values()


def outcome(sender: Orthanc, resources: list[str]) -> dict[str, Any]:
    """Let Orthanc ask, and wait for what it was told."""
    asked = posted(
        f"{sender.base_url}/modalities/flute/storage-commitment", {"Resources": resources}
    )
    told: dict[str, Any] = {}

    def is_told() -> bool:
        with urllib.request.urlopen(f"{sender.base_url}{asked['Path']}", timeout=60) as answer:
            told.update(json.load(answer))
        return bool(told["Status"] != "Pending")

    eventually(is_told)
    return told


def posted(url: str, question: dict[str, Any]) -> Any:
    with urllib.request.urlopen(url, json.dumps(question).encode(), timeout=60) as answer:
        return json.load(answer)
