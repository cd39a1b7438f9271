"""Instances that come by C-STORE go on to a PACS: real ones, and such as fail in every way."""

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pynetdicom import AE
from pynetdicom.presentation import build_context

from flute_sync.archive_errors import ArchiveUnauthorized, ArchiveUnavailable
from flute_sync.intake import IntentId
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.dimse_peer import DimsePeerSettings
from flute_sync.sources.store_pacs import PacsOutlets, probe
from flute_sync.sources.store_sink import Context
from tests.acceptance.site import eventually
from tests.dimse import CT, EXPLICIT, IMPLICIT, RawSender, listening, message
from tests.forwarding import (
    Sender,
    answering,
    dataset_of,
    forwarding,
    pacs_at,
    silent,
    storescp,
)
from tests.intake import MemoryIntake
from tests.integration.tls import Authority
from tests.services.orthanc import Orthanc
from tests.services.process import free_port
from tests.stow import (
    MR,
    Answer,
    FakeIntake,
    ScriptedArchive,
    dicom,
    sop_uids,
    store_answer,
    uid,
)

WAYS = ("c-store", "stow-rs")
DATA = dataset_of(dicom())
INSTANCE = uid("study", "series", 1)
COMPRESSED = (
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "JPEG2000.dcm",
    "JPEG-lossy.dcm",
    "image_dfl.dcm",
)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def behind(way: str, orthanc: Orthanc) -> DimsePeerSettings | ArchiveSettings:
    if way == "c-store":
        return pacs_at(orthanc.dicom_port)
    return ArchiveSettings(dicomweb_url=orthanc.dicomweb_url)


def even(data: bytes) -> bytes:
    """Pad a data set, as a deflated one must be, PS3.5 A.5."""
    return data + b"\0" * (len(data) % 2)


def held(orthanc: Orthanc, sop_instance_uid: str) -> list[str]:
    """Ask Orthanc for an instance, by its own names."""
    question = {"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}}
    return list(asked(f"{orthanc.base_url}/tools/find", question))


def asked(url: str, question: dict[str, Any] | None = None) -> Any:
    data = None if question is None else json.dumps(question).encode()
    with urllib.request.urlopen(url, data, timeout=60) as answer:
        return json.load(answer)


def file_of(orthanc: Orthanc, sop_instance_uid: str) -> bytes:
    (name,) = held(orthanc, sop_instance_uid)
    with urllib.request.urlopen(f"{orthanc.base_url}/instances/{name}/file", timeout=60) as got:
        return bytes(got.read())


@pytest.mark.parametrize("data_path", ["lean", "pynetdicom"])
@pytest.mark.parametrize("tool", ["storescu", "dcmsend"])
def test_what_dcmtk_sends_is_in_orthanc_and_in_the_ledger(
    orthanc: Orthanc,
    behind: DimsePeerSettings | ArchiveSettings,
    way: str,
    tool: str,
    data_path: str,
    dcmtk: Callable[..., Any],
    tmp_path: Path,
) -> None:
    study = f"{way} {tool} {data_path}"
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(dicom(study, instance=number, pixels=b"\1\2" * 100_000))
    intake = FakeIntake()
    with forwarding(intake, behind, data_path=data_path) as acceptor:
        target = ["-aec", "FLUTE_SYNC", "-aet", "MODALITY", "127.0.0.1", str(acceptor.port)]
        done = dcmtk(tool, *target, *map(str, paths))
        assert done.returncode == 0, done.stderr
        eventually(lambda: intake.names[-1] == "close")
    assert intake.names == ["intend", *["deliver"] * 5, "close"]
    assert intake.calls[0][1] == (uid(study),)
    sent = sorted(uid(study, "series", number) for number in range(5))
    assert sorted(sop_uids(intake.received)) == sent
    assert {(one.source, one.calling_ae_title) for one in intake.deliveries} == {
        ("store_scp", "MODALITY")
    }
    assert {one.under for one in intake.deliveries} == {IntentId(1)}
    for number in range(5):
        stored = pydicom.dcmread(pydicom.filebase.DicomBytesIO(file_of(orthanc, sent[number])))
        assert stored.PixelData == b"\1\2" * 100_000


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_pacs_gets_the_bytes_that_were_sent(name: str, tmp_path: Path) -> None:
    path = str(get_testdata_file(name))
    header = pydicom.dcmread(path, stop_before_pixels=True)
    data = even(dataset_of(Path(path).read_bytes()))
    syntax = str(header.file_meta.TransferSyntaxUID)
    with (
        storescp(tmp_path / "pacs", "+xa") as port,
        forwarding(FakeIntake(), pacs_at(port)) as acceptor,
        Sender(acceptor, syntax, header.SOPClassUID) as sender,
    ):
        assert sender.store(header.SOPInstanceUID, data) == 0
    (stored,) = [one for one in (tmp_path / "pacs").iterdir() if one.name != "log"]
    assert pydicom.dcmread(stored, stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax
    assert dataset_of(stored.read_bytes()) == data


@pytest.mark.parametrize("name", COMPRESSED)
def test_orthanc_holds_what_was_sent_in_its_syntax(
    name: str, orthanc: Orthanc, behind: DimsePeerSettings | ArchiveSettings, way: str
) -> None:
    path = str(get_testdata_file(name))
    sent = pydicom.dcmread(path)
    syntax = str(sent.file_meta.TransferSyntaxUID)
    for known in held(orthanc, sent.SOPInstanceUID):
        delete = urllib.request.Request(f"{orthanc.base_url}/instances/{known}", method="DELETE")
        urllib.request.urlopen(delete, timeout=60).close()
    data = even(dataset_of(Path(path).read_bytes()))
    with (
        forwarding(FakeIntake(), behind) as acceptor,
        Sender(acceptor, syntax, sent.SOPClassUID) as sender,
    ):
        assert sender.store(sent.SOPInstanceUID, data) == 0
    stored = file_of(orthanc, sent.SOPInstanceUID)
    read = pydicom.dcmread(pydicom.filebase.DicomBytesIO(stored))
    assert read.file_meta.TransferSyntaxUID == syntax
    assert read.PixelData == sent.PixelData
    if way == "stow-rs":
        assert dataset_of(stored) == data


def test_a_pacs_that_is_down_costs_no_commit(way: str) -> None:
    intake, port = FakeIntake(), free_port()
    nobody = ArchiveSettings(dicomweb_url=f"http://127.0.0.1:{port}/pacs")
    with (
        forwarding(intake, pacs_at(port) if way == "c-store" else nobody) as acceptor,
        Sender(acceptor) as sender,
    ):
        assert [sender.store(INSTANCE, DATA) for _ in range(2)] == [0xA700, 0xA700]
    assert intake.calls == []


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC123, 0x0110, 0x0124])
def test_a_refusal_is_passed_on_and_nothing_recorded(status: int) -> None:
    intake = FakeIntake()
    with (
        answering(lambda _: status) as port,
        forwarding(intake, pacs_at(port)) as acceptor,
        Sender(acceptor) as sender,
    ):
        assert sender.store(INSTANCE, DATA) == status
    assert intake.names == ["intend", "close"]


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0x0001, 0x0107, 0x0116])
def test_a_warning_is_a_success_and_passed_on(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    intake = FakeIntake()
    with (
        answering(lambda _: status) as port,
        forwarding(intake, pacs_at(port)) as acceptor,
        Sender(acceptor) as sender,
    ):
        assert sender.store(INSTANCE, DATA) == status
    assert intake.names == ["intend", "deliver", "close"]
    assert sop_uids(intake.received) == [INSTANCE]
    assert "an instance was refused" not in caplog.text
    assert "instances were stored by C-STORE" in caplog.text


def test_the_association_with_the_pacs_is_kept_and_opened_anew_when_it_ended() -> None:
    opened, closing = [], threading.Event()

    def store(event: Any) -> int:
        opened.append(event.assoc)
        if closing.is_set():
            event.assoc.abort()
        return 0

    intake = FakeIntake()
    with (
        answering(store) as port,
        forwarding(intake, pacs_at(port)) as acceptor,
        Sender(acceptor) as sender,
    ):
        assert [sender.store(INSTANCE, DATA) for _ in range(3)] == [0, 0, 0]
        assert len(set(map(id, opened))) == 1
        opened[0].abort()
        assert sender.store(INSTANCE, DATA) == 0
        assert len(set(map(id, opened))) == 2
        closing.set()
        assert sender.store(INSTANCE, DATA) == 0xA700
    assert intake.names == ["intend", *["deliver"] * 4, "abandon"]


def test_senders_may_choose_among_what_the_pacs_takes() -> None:
    both = build_context(MR, [EXPLICIT, IMPLICIT])
    with (
        answering(lambda _: 0, syntax=IMPLICIT) as port,
        forwarding(FakeIntake(), pacs_at(port)) as acceptor,
    ):
        association = AE("SENDER").associate(
            "127.0.0.1",
            acceptor.port,
            contexts=[both, build_context(MR, EXPLICIT), build_context(CT, IMPLICIT)],
            ae_title="FLUTE_SYNC",
        )
        accepted = [
            (one.abstract_syntax, one.transfer_syntax) for one in association.accepted_contexts
        ]
        association.release()
    assert accepted == [(MR, [IMPLICIT])]


def test_a_syntax_that_the_pacs_turns_out_not_to_take_is_refused() -> None:
    intake, port = FakeIntake(), free_port()
    with (
        forwarding(intake, pacs_at(port)) as acceptor,
        Sender(acceptor) as sender,
        answering(lambda _: 0, syntax=IMPLICIT, port=port),
    ):
        assert sender.store(INSTANCE, DATA) == 0x0122
    assert intake.calls == []


def test_a_pacs_is_asked_once_what_it_takes() -> None:
    with answering(lambda _: 0) as port:
        outlets = PacsOutlets(pacs_at(port))
        many = [Context(MR, EXPLICIT), *(Context(MR, f"1.2.3.{one}") for one in range(300))]
        assert outlets.acceptable(many) == {many[0]}
    assert outlets.acceptable(many) == {many[0]}
    another = [*many, Context(CT, EXPLICIT)]
    assert outlets.acceptable(another) == another


def test_whether_a_pacs_can_be_called(tmp_path: Path) -> None:
    with answering(lambda _: 0) as port:
        probe(pacs_at(port))
    with pytest.raises(ArchiveUnavailable):
        probe(pacs_at(free_port()))
    with storescp(tmp_path / "pacs", "--refuse") as port, pytest.raises(ArchiveUnauthorized):
        probe(pacs_at(port))


def test_a_pacs_that_rejects_the_association(tmp_path: Path) -> None:
    intake = FakeIntake()
    with (
        storescp(tmp_path / "pacs", "--refuse") as port,
        forwarding(intake, pacs_at(port)) as acceptor,
        Sender(acceptor) as sender,
    ):
        assert sender.store(INSTANCE, DATA) == 0xA700
    assert intake.calls == []


@pytest.mark.parametrize(
    ("option", "names"),
    [("--abort-during", ["intend", "abandon"]), ("--abort-after", ["intend", "abandon"])],
)
def test_a_pacs_that_aborts_is_asked_what_it_stored(
    option: str, names: list[str], tmp_path: Path
) -> None:
    intake = FakeIntake()
    with (
        storescp(tmp_path / "pacs", option) as port,
        forwarding(intake, pacs_at(port)) as acceptor,
        Sender(acceptor) as sender,
    ):
        assert sender.store(INSTANCE, DATA) == 0xA700
    assert intake.names == names


def test_a_pacs_that_says_nothing_at_all() -> None:
    intake = FakeIntake()
    with (
        silent() as port,
        forwarding(intake, pacs_at(port, connect_timeout=timedelta(milliseconds=300))) as acceptor,
        Sender(acceptor) as sender,
    ):
        assert sender.store(INSTANCE, DATA) == 0xA700
    assert intake.calls == []


def test_a_pacs_that_does_not_answer_is_asked_what_it_stored() -> None:
    wait = threading.Event()
    intake = FakeIntake()
    with ExitStack() as open_:
        port = open_.enter_context(answering(lambda _: wait.wait(20) and 0))
        open_.callback(wait.set)
        acceptor = open_.enter_context(
            forwarding(intake, pacs_at(port, answer_timeout=timedelta(milliseconds=500)))
        )
        sender = open_.enter_context(Sender(acceptor))
        assert sender.store(INSTANCE, DATA) == 0xA700
        assert intake.names == ["intend", "abandon"]


def test_nothing_goes_on_when_the_intent_is_not_committed(way: str) -> None:
    intake = FakeIntake(failing={"intend": LedgerUnavailable()})
    with any_archive(way) as (settings, stored):
        with forwarding(intake, settings) as acceptor, Sender(acceptor) as sender:
            assert sender.store(INSTANCE, DATA) == 0xA700
        assert stored == []
    assert intake.names == []


def test_success_is_not_said_when_the_ledger_fails_after_the_archive_stored(way: str) -> None:
    intake = FakeIntake(failing={"deliver": LedgerUnavailable()})
    with any_archive(way) as (settings, stored):
        with forwarding(intake, settings) as acceptor, Sender(acceptor) as sender:
            assert sender.store(INSTANCE, DATA) == 0xA700
        assert stored == [INSTANCE]
    assert intake.names == ["intend", "abandon"]


def test_a_sender_that_goes_in_the_middle_leaves_nothing(way: str) -> None:
    intake = FakeIntake()
    with any_archive(way) as (settings, stored), forwarding(intake, settings) as acceptor:
        sender = RawSender(acceptor.port, ((MR, "1.2.840.10008.1.2.1"),))
        whole = message(1, MR, INSTANCE, dataset_of(dicom(pixels=b"\7" * 1_000_000)))
        sender.send(whole[: len(whole) // 2])
        eventually(lambda: intake.names == ["intend"])
        sender.socket.close()
        eventually(lambda: intake.names == ["intend", "close"])
        assert stored == []
        with Sender(acceptor) as another:
            assert another.store(INSTANCE, DATA) == 0
        assert stored == [INSTANCE]


def test_what_is_unreadable_or_another_instance_is_kept_from_the_archive(way: str) -> None:
    intake = FakeIntake()
    with (
        any_archive(way) as (settings, stored),
        forwarding(intake, settings) as acceptor,
        Sender(acceptor) as sender,
    ):
        assert sender.store(INSTANCE, b"not DICOM at all" * 20) == 0xC000
        assert sender.store("1.2.3", DATA) == 0xA900
        assert sender.store(INSTANCE, DATA[:60]) == 0xC000
        assert stored == []
        assert sender.store(INSTANCE, DATA) == 0
    assert intake.names[-3:] == ["intend", "deliver", "close"]


def test_instances_of_two_studies_extend_the_intent(way: str) -> None:
    intake = FakeIntake()
    with (
        any_archive(way) as (settings, _),
        forwarding(intake, settings) as acceptor,
        Sender(acceptor) as sender,
    ):
        for study in ("study", "other", "study"):
            name = uid(study, "series", 1)
            assert sender.store(name, dataset_of(dicom(study))) == 0
    assert [call for call in intake.calls if call[0] != "deliver"] == [
        ("intend", (uid("study"),)),
        ("extend", (1, (uid("other"),))),
        ("close", 1),
    ]


@pytest.mark.parametrize(
    ("answer", "status", "names"),
    [
        (Answer(store_answer([], [INSTANCE]), 409), 0x0110, ["intend", "close"]),
        (Answer(b"", 401), 0xA700, ["intend", "abandon"]),
        (Answer(b"", 503), 0xA700, ["intend", "abandon"]),
        (Answer(b"", 413), 0xC000, ["intend", "abandon"]),
        (Answer(b"{}", 200), 0xA700, ["intend", "abandon"]),
        (Answer(store_answer([uid("another")]), 200), 0xA700, ["intend", "abandon"]),
        (None, 0xA700, ["intend", "abandon"]),
    ],
)
def test_what_an_archive_answers_to_an_upload(
    answer: Answer | None, status: int, names: list[str]
) -> None:
    intake = FakeIntake()
    with (
        ScriptedArchive(lambda _: answer) as archive,
        forwarding(intake, archive.settings) as acceptor,
        Sender(acceptor) as sender,
    ):
        assert sender.store(INSTANCE, DATA) == status
    assert intake.names == names


def test_reasons_and_warnings_of_an_upload_are_passed_on() -> None:
    failed = json.loads(store_answer([], [INSTANCE]))
    failed["00081198"]["Value"][0]["00081197"]["Value"] = [0xA700]
    warned = json.loads(store_answer([INSTANCE]))
    warned["00081199"]["Value"][0]["00081196"] = {"vr": "US", "Value": [0xB007]}
    for said, status in ((failed, 0xA700), (warned, 0xB007)):
        answer = Answer(json.dumps(said).encode())
        with (
            ScriptedArchive(lambda _, answer=answer: answer) as archive,  # type: ignore[misc]
            forwarding(FakeIntake(), archive.settings) as acceptor,
            Sender(acceptor) as sender,
        ):
            assert sender.store(INSTANCE, DATA) == status


@contextmanager
def any_archive(
    way: str,
) -> Iterator[tuple[DimsePeerSettings | ArchiveSettings, list[str]]]:
    """Run an archive that stores everything; yield how to reach it, and what it stored."""
    stored: list[str] = []

    def keep(event: Any) -> int:
        stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    def answer(body: bytes) -> Answer:
        found = [name for name in NAMES if name.encode() in body]
        stored.extend(found)
        return Answer(store_answer(found))

    if way == "c-store":
        with answering(keep) as port:
            yield pacs_at(port), stored
    else:
        with ScriptedArchive(answer) as archive:
            yield archive.settings, stored


NAMES = [uid(study, "series", 1) for study in ("study", "other")]


def test_a_pacs_is_called_by_tls_with_a_certificate(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path), Authority(tmp_path, "stranger")
    pair, stranger = ours.pair("127.0.0.1"), theirs.pair("localhost")
    pacs = MemoryIntake()
    shown = {
        "cert_file": str(pair.certificate),
        "key_file": str(pair.key),
        "ca_file": str(ours.file),
    }
    wrong = shown | {"cert_file": str(stranger.certificate), "key_file": str(stranger.key)}
    untrusted = shown | {"ca_file": str(theirs.file)}
    with listening(pacs, tls=shown, ae_title="PACS") as behind:
        for tls, status in ((shown, 0), (wrong, 0xA700), (untrusted, 0xA700), (None, 0xA700)):
            with (
                forwarding(FakeIntake(), pacs_at(behind.port, tls=tls)) as acceptor,
                Sender(acceptor) as sender,
            ):
                assert sender.store(INSTANCE, DATA) == status
    assert len(pacs.deliveries) == 1
