"""An upload on its way through the service to an archive that does what the test wants."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from pydicom.dataset import Dataset

from flute_sync.daemon.http_server import TlsFiles
from flute_sync.intake import IntentId
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.sources.archive_settings import ArchiveSettings
from tests.acceptance.site import eventually
from tests.integration.tls import Authority
from tests.services.process import free_port
from tests.stow import (
    BOUNDARY,
    RELATED,
    Answer,
    FakeIntake,
    ScriptedArchive,
    dicom,
    multipart,
    post,
    sent_uids,
    serving,
    sop_uids,
    store_answer,
    talk,
    uid,
)

FILES = [dicom(instance=number, pixels=b"\1\2" * 40_000) for number in range(4)]
JUNK = b"not DICOM at all" * 20


def takes_all(body: bytes) -> Answer:
    """Store every file of `FILES` that comes whole."""
    return Answer(store_answer(sent_uids(body, FILES)))


def head(url: str, length: int, more: str = "") -> bytes:
    path = httpx.URL(url).path
    return (
        f"POST {path}/studies HTTP/1.1\r\nHost: x\r\nContent-Type: {RELATED}\r\n{more}"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def test_what_the_archive_took_is_recorded_before_success_is_said() -> None:
    intake = FakeIntake()
    with ScriptedArchive(takes_all) as archive, serving(intake, archive.settings) as url:
        answer = post(url, FILES)
    assert answer.status_code == 200
    assert intake.names == ["intend", "deliver", "close"]
    assert intake.calls[0][1] == (uid("study"),)
    (delivery,) = intake.deliveries
    assert delivery.under == IntentId(1)
    assert delivery.archive == "pacs"
    assert not delivery.noticed
    assert sorted(sop_uids(delivery.received)) == sorted(sent_uids(b"".join(FILES), FILES))
    read = Dataset.from_json(answer.text)
    assert read.RetrieveURL.startswith(f"{url}/studies/")
    assert archive.requests[0].startswith(b"POST /pacs/studies HTTP/1.1\r\n")


def test_the_study_in_the_address_is_passed_on() -> None:
    with (
        ScriptedArchive(takes_all) as archive,
        serving(FakeIntake(), archive.settings) as url,
    ):
        assert post(url, FILES, study=uid("study")).status_code == 200
    assert archive.requests[0].startswith(f"POST /pacs/studies/{uid('study')} ".encode())


@pytest.mark.parametrize("pixel_bytes", [0, 100, 70_000, 3_000_000])
def test_a_part_is_not_completed_before_its_study_is_committed(pixel_bytes: int) -> None:
    file = dicom(pixels=b"\3" * (pixel_bytes - 4) + b"tail" if pixel_bytes else b"")
    intake = FakeIntake()
    intake.gate.clear()
    with (
        ScriptedArchive(lambda body: Answer(store_answer(sent_uids(body, [file])))) as archive,
        serving(intake, archive.settings) as url,
        ThreadPoolExecutor() as threads,
    ):
        answer = threads.submit(post, url, [file])
        eventually(lambda: bool(archive.connections))
        if pixel_bytes > 1_000_000:
            archive.wait_for(lambda raw: len(raw) > 1_000_000)
        assert not answer.done()
        assert file[-16:] not in archive.raw
        intake.gate.set()
        assert answer.result(60).status_code == 200
        assert file in archive.raw
    assert intake.names == ["intend", "deliver", "close"]


def test_each_further_study_extends_the_intent_before_its_part_is_completed() -> None:
    files = [dicom(study=study) for study in ("a", "b", "a", "c")]
    intake = FakeIntake()
    with (
        ScriptedArchive(lambda body: Answer(store_answer(sent_uids(body, files)))) as archive,
        serving(intake, archive.settings) as url,
    ):
        assert post(url, [files[0], files[1], files[3]]).status_code == 200
    assert [(name, what) for name, what in intake.calls if name != "deliver"] == [
        ("intend", (uid("a"),)),
        ("extend", (1, (uid("b"),))),
        ("extend", (1, (uid("c"),))),
    ]
    assert {one.study_instance_uid for one in intake.received} == {uid("a"), uid("b"), uid("c")}


def test_nothing_is_forwarded_when_the_intent_is_not_committed() -> None:
    intake = FakeIntake(failing={"intend": LedgerUnavailable()})
    with ScriptedArchive(takes_all) as archive, serving(intake, archive.settings) as url:
        answer = post(url, FILES)
        assert answer.status_code == 503
        assert "LEDGER-UNAVAILABLE" in answer.text
        assert int(answer.headers["retry-after"]) > 0
    assert not any(file in archive.raw for file in FILES)
    assert intake.names == []


def test_an_intent_that_cannot_be_extended_is_abandoned() -> None:
    files = [dicom(study="a"), dicom(study="b")]
    intake = FakeIntake(failing={"extend": LedgerUnavailable()})
    with ScriptedArchive(takes_all) as archive, serving(intake, archive.settings) as url:
        assert post(url, files).status_code == 503
    assert files[1] not in archive.raw
    assert intake.names == ["intend", "abandon"]


def test_success_is_not_said_when_the_ledger_fails_after_the_archive_stored() -> None:
    intake = FakeIntake(failing={"deliver": LedgerUnavailable()})
    with ScriptedArchive(takes_all) as archive, serving(intake, archive.settings) as url:
        assert post(url, FILES).status_code == 503
    assert intake.names == ["intend", "abandon"]


def test_an_intent_is_abandoned_as_soon_as_the_ledger_can() -> None:
    intake = FakeIntake(failing={"deliver": LedgerUnavailable(), "abandon": LedgerUnavailable()})
    with ScriptedArchive(takes_all) as archive, serving(intake, archive.settings) as url:
        assert post(url, FILES).status_code == 503
        assert intake.names == ["intend"]
        intake.failing.clear()
        eventually(lambda: intake.names == ["intend", "abandon"])


def test_only_what_the_answer_s_body_calls_stored_is_recorded() -> None:
    uids = sent_uids(b"".join(FILES), FILES)
    answer = Answer(store_answer(uids[:2], uids[2:3]), status=400)
    intake = FakeIntake()
    with ScriptedArchive(lambda _: answer) as archive, serving(intake, archive.settings) as url:
        assert post(url, FILES).status_code == 400
    (delivery,) = intake.deliveries
    assert sorted(sop_uids(delivery.received)) == sorted(uids[:2])
    # Of the fourth nothing was said: the archive is asked.
    assert [one.study_instance_uid for one in delivery.noticed] == [uid("study")]


def test_one_instance_sent_twice_with_other_values_is_read_from_the_archive() -> None:
    other = FILES[0].replace(b"Example^Adam", b"Example^Evan")
    assert other != FILES[0]
    intake = FakeIntake()
    uids = sent_uids(FILES[0], FILES)
    with (
        ScriptedArchive(lambda _: Answer(store_answer(uids))) as archive,
        serving(intake, archive.settings) as url,
    ):
        assert post(url, [FILES[0], other]).status_code == 200
        assert post(url, [FILES[0], FILES[0]]).status_code == 200
    different, same = intake.deliveries
    assert (sop_uids(different.received), len(different.noticed)) == ([], 1)
    assert (sop_uids(same.received), len(same.noticed)) == (uids, 0)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Answer(b"<html>Stored!</html>", content_type="text/html"), 200),
        (Answer(b"", 202), 202),
        (Answer(store_answer(["1.2.3.4"])), 200),
        (Answer(b"{}", 409), 409),
        (Answer(b"too large", 413, "text/plain"), 413),
        (Answer(b"no", 415, "text/plain"), 415),
        (Answer(b"who are you", 401, "text/plain"), 503),
        (Answer(b"broken", 500, "text/plain"), 503),
        (Answer(b"", 302, headers="Location: /elsewhere\r\n"), 503),
        (Answer(b"", 404), 503),
        (None, 503),
    ],
)
def test_an_answer_that_tells_nothing_leaves_a_notice(answer: Answer | None, status: int) -> None:
    intake = FakeIntake()
    with ScriptedArchive(lambda _: answer) as archive, serving(intake, archive.settings) as url:
        assert post(url, FILES).status_code == status
    assert intake.names == ["intend", "abandon"]


def test_an_archive_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    held = threading.Event()

    def never(_: bytes) -> Answer | None:
        held.wait(60)
        return None

    intake = FakeIntake()
    with (
        ScriptedArchive(never) as archive,
        serving(intake, archive.settings, answer_timeout="300ms") as url,
    ):
        answer = post(url, FILES)
        held.set()
        assert answer.status_code == 503
        assert "ARCHIVE-UNAVAILABLE" in answer.text
    assert intake.names == ["intend", "abandon"]


def test_an_archive_that_dies_during_the_upload_leaves_a_notice() -> None:
    intake = FakeIntake()
    with ScriptedArchive(takes_all) as archive, serving(intake, archive.settings) as url:
        archive.hang_up_at = 200_000
        assert post(url, FILES).status_code == 503
    assert intake.names == ["intend", "abandon"]


def test_an_archive_that_is_down_is_said_at_once_and_nothing_is_recorded() -> None:
    intake = FakeIntake()
    archive = ArchiveSettings(dicomweb_url=f"http://127.0.0.1:{free_port()}/pacs")
    with serving(intake, archive) as url, talk(url) as client:
        # The answer comes although most of the body never does.
        client.sendall(head(url, 10_000_000) + multipart(FILES)[:1000])
        answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in answer.lower()
        assert b"retry-after" in answer.lower()
    assert intake.names == []


def test_a_sender_who_goes_away_leaves_a_notice_and_an_unfinished_upload() -> None:
    intake = FakeIntake()
    body = multipart(FILES)
    with ScriptedArchive(takes_all) as archive, serving(intake, archive.settings) as url:
        with talk(url) as client:
            client.sendall(head(url, len(body)) + body[:-100])
            archive.wait_for(lambda raw: len(raw) > 1000)
        eventually(lambda: intake.names == ["intend", "abandon"])
    assert FILES[3] not in archive.raw


def test_a_body_that_is_cut_off_is_refused_and_leaves_a_notice() -> None:
    intake = FakeIntake()
    body = multipart(FILES)[:-60]
    with ScriptedArchive(takes_all) as archive, serving(intake, archive.settings) as url:
        answer = httpx.post(
            f"{url}/studies", content=body, headers={"Content-Type": RELATED}, timeout=60
        )
        assert answer.status_code == 400
    assert intake.names == ["intend", "abandon"]
    assert FILES[3] not in archive.raw


def test_an_unreadable_part_is_kept_from_the_archive_and_reported() -> None:
    intake = FakeIntake()
    with ScriptedArchive(takes_all) as archive, serving(intake, archive.settings) as url:
        answer = post(url, [FILES[0], JUNK, FILES[1]])
    assert answer.status_code == 202
    assert JUNK not in archive.raw
    read = Dataset.from_json(answer.text)
    assert len(read.ReferencedSOPSequence) == 2
    assert [item.FailureReason for item in read.FailedSOPSequence] == [0xC000]
    assert len(intake.received) == 2


def test_an_upload_of_unreadable_parts_alone_never_reaches_the_archive() -> None:
    intake = FakeIntake()
    with ScriptedArchive(takes_all) as archive, serving(intake, archive.settings) as url:
        answer = post(url, [JUNK, JUNK])
    assert answer.status_code == 409
    assert len(Dataset.from_json(answer.text).FailedSOPSequence) == 2
    assert not archive.raw
    assert intake.names == []


def test_other_parts_than_dicom_are_kept_from_the_archive() -> None:
    body = multipart([FILES[0]]).replace(
        b"--a-boundary--", b"--a-boundary\r\nContent-Type: text/html\r\n\r\n<b>\r\n--a-boundary--"
    )
    intake = FakeIntake()
    with ScriptedArchive(takes_all) as archive, serving(intake, archive.settings) as url:
        answer = httpx.post(
            f"{url}/studies", content=body, headers={"Content-Type": RELATED}, timeout=60
        )
    assert answer.status_code == 202
    assert b"<b>" not in archive.raw


def test_the_sender_s_credentials_never_reach_the_archive() -> None:
    with (
        ScriptedArchive(takes_all) as archive,
        serving(FakeIntake(), archive.settings) as url,
    ):
        assert post(url, FILES, Authorization="Bearer mine", Cookie="a=b").status_code == 200
    sent = archive.requests[0].lower()
    assert b"authorization" not in sent
    assert b"cookie" not in sent


def test_the_answer_comes_in_xml_to_who_asks_for_it() -> None:
    with (
        ScriptedArchive(takes_all) as archive,
        serving(FakeIntake(), archive.settings) as url,
    ):
        answer = post(url, FILES, Accept="application/dicom+xml")
    assert answer.headers["content-type"] == "application/dicom+xml"
    assert b"<NativeDicomModel" in answer.content
    assert url.encode() in answer.content


def test_public_url_goes_before_the_address_the_sender_used() -> None:
    with (
        ScriptedArchive(takes_all) as archive,
        serving(FakeIntake(), archive.settings, public_url="https://gate.example/web") as url,
    ):
        answer = post(url, FILES)
    assert orjson.loads(answer.content)["00081190"]["Value"] == [
        "https://gate.example/web/studies/1"
    ]


def test_connections_to_the_archive_are_used_again() -> None:
    with (
        ScriptedArchive(takes_all) as archive,
        serving(FakeIntake(), archive.settings) as url,
        httpx.Client(timeout=60) as client,
    ):
        for _ in range(3):
            answer = client.post(
                f"{url}/studies", content=multipart(FILES), headers={"Content-Type": RELATED}
            )
            assert answer.status_code == 200
    assert len(archive.requests) == 3
    assert archive.connections < 3


def test_a_connection_that_ends_before_anything_was_sent_is_replaced() -> None:
    intake = FakeIntake()
    other = dicom(study="other")
    with (
        ScriptedArchive(
            lambda body: Answer(store_answer(sent_uids(body, [*FILES, other])))
        ) as archive,
        serving(intake, archive.settings) as url,
        ThreadPoolExecutor() as threads,
    ):
        assert post(url, FILES).status_code == 200
        asked = intake.asked
        intake.gate.clear()
        answer = threads.submit(post, url, [other])
        eventually(lambda: intake.asked > asked)
        archive.hang_up()
        intake.gate.set()
        assert answer.result(60).status_code == 200
    assert len(archive.requests) == 2


def test_a_chunked_upload_that_expects_leave_to_begin() -> None:
    intake = FakeIntake()
    body = multipart(FILES[:1])
    with (
        ScriptedArchive(takes_all) as archive,
        serving(intake, archive.settings) as url,
        talk(url) as client,
    ):
        client.sendall(
            head(url, 0, "Expect: 100-continue\r\n").replace(
                b"Content-Length: 0", b"Transfer-Encoding: chunked"
            )
        )
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
        for start in range(0, len(body), 7001):
            piece = body[start : start + 7001]
            client.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        client.sendall(b"0\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert len(intake.received) == 1


def test_a_sender_that_stalls_is_given_up_and_leaves_a_notice() -> None:
    intake = FakeIntake()
    body = multipart(FILES)
    with (
        ScriptedArchive(takes_all) as archive,
        serving(intake, archive.settings, idle_timeout="300ms") as url,
        talk(url) as client,
    ):
        client.sendall(head(url, len(body)) + body[:200_000])
        assert client.recv(65536).startswith(b"HTTP/1.1 408 ")
    assert intake.names == ["intend", "abandon"]


@pytest.mark.parametrize(
    "limits",
    [
        {"max_request_bytes": 150_000},
        {"max_part_bytes": 50_000},
        {"max_parts": 2},
    ],
)
def test_what_is_too_large_is_refused_and_leaves_a_notice(limits: dict[str, Any]) -> None:
    intake = FakeIntake()
    chunks = [multipart(FILES)]
    with ScriptedArchive(takes_all) as archive, serving(intake, archive.settings, **limits) as url:
        answer = httpx.post(
            f"{url}/studies", content=iter(chunks), headers={"Content-Type": RELATED}, timeout=60
        )
        assert answer.status_code == 413
        assert answer.headers["connection"] == "close"
    assert set(intake.names) <= {"intend", "abandon"}
    assert intake.names.count("intend") == intake.names.count("abandon")


def test_no_more_uploads_at_once_than_allowed() -> None:
    intake = FakeIntake()
    intake.gate.clear()
    with (
        ScriptedArchive(takes_all) as archive,
        serving(intake, archive.settings, max_uploads=1) as url,
        ThreadPoolExecutor() as threads,
    ):
        first = threads.submit(post, url, FILES)
        eventually(lambda: bool(archive.connections))
        busy = post(url, FILES)
        assert busy.status_code == 503
        assert "STOW-BUSY" in busy.text
        assert int(busy.headers["retry-after"]) > 0
        intake.gate.set()
        assert first.result(60).status_code == 200
        # Its place is free a moment after it was answered.
        eventually(lambda: post(url, FILES).status_code == 200)


def test_a_stopping_service_finishes_the_upload_in_hand() -> None:
    intake = FakeIntake()
    intake.gate.clear()
    with (
        ScriptedArchive(takes_all) as archive,
        ThreadPoolExecutor() as threads,
        serving(intake, archive.settings, grace=timedelta(seconds=30)) as url,
    ):
        answer = threads.submit(post, url, FILES)
        eventually(lambda: bool(archive.connections))
        threading.Timer(0.5, intake.gate.set).start()
    assert answer.result(60).status_code == 200
    assert intake.names == ["intend", "deliver", "close"]


def test_an_upload_broken_off_by_the_end_of_the_service_leaves_a_notice() -> None:
    intake = FakeIntake()
    body = multipart(FILES)
    with ScriptedArchive(takes_all) as archive:
        with serving(intake, archive.settings, grace=timedelta(seconds=0.2)) as url:
            client = talk(url)
            client.sendall(head(url, len(body)) + body[:-100])
            archive.wait_for(lambda raw: len(raw) > 1000)
        client.close()
    assert intake.names == ["intend", "abandon"]


def test_many_senders_at_once_do_not_mix() -> None:
    studies = [[dicom(study=f"s{n}", instance=i) for i in range(5)] for n in range(8)]
    every = [file for files in studies for file in files]
    intake = FakeIntake()
    with (
        ScriptedArchive(lambda body: Answer(store_answer(sent_uids(body, every)))) as archive,
        serving(intake, archive.settings) as url,
        ThreadPoolExecutor(8) as threads,
    ):
        answers = list(threads.map(lambda files: post(url, files), studies))
    assert [answer.status_code for answer in answers] == [200] * 8
    for delivery in intake.deliveries:
        assert len({one.study_instance_uid for one in delivery.received}) == 1
    assert sorted(sop_uids(intake.received)) == sorted(sent_uids(b"".join(every), every))


def test_a_boundary_of_the_sender_s_in_the_data_splits_nothing_at_the_archive() -> None:
    lure = dicom(pixels=b"\r\n--other\r\n\r\nDICM" + b"\r\n--" + BOUNDARY.encode()[:-1] + b"!!")
    intake = FakeIntake()
    with (
        ScriptedArchive(lambda body: Answer(store_answer(sent_uids(body, [lure])))) as archive,
        serving(intake, archive.settings) as url,
    ):
        assert post(url, [lure]).status_code == 200
    assert lure in archive.raw
    assert len(intake.received) == 1


def test_half_a_request_is_no_upload() -> None:
    intake = FakeIntake()
    with (
        ScriptedArchive(takes_all) as archive,
        serving(intake, archive.settings) as url,
        talk(url) as client,
    ):
        client.sendall(head(url, 1000)[:-2])
        client.shutdown(socket.SHUT_WR)
        assert client.recv(65536) == b""
    assert intake.names == []


def test_an_archive_behind_tls_is_known_by_its_certificate(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    pair = authority.pair("127.0.0.1")
    intake, behind = FakeIntake(), FakeIntake()
    # What is behind is another instance of this service, which takes all and keeps nothing.
    with serving(behind, tls=TlsFiles(pair.certificate, pair.key)) as archive_url:
        trusted = ArchiveSettings(dicomweb_url=archive_url, ca_file=str(authority.file))
        with serving(intake, trusted) as url:
            assert [post(url, FILES).status_code for _ in range(2)] == [200, 200]
        distrusted = ArchiveSettings(dicomweb_url=archive_url, ca_file=str(stranger.file))
        with serving(intake, distrusted) as url:
            refused = post(url, FILES)
    assert refused.status_code == 503
    assert "certificate" in refused.text
    assert intake.names == ["intend", "deliver", "deliver", "close"]
    assert sop_uids(intake.received) == sop_uids(behind.received)
