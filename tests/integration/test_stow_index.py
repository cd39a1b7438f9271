"""STOW-RS where nothing is behind: headers are recorded, pixels discarded."""

import httpx
import orjson
import pytest
from pydicom.dataset import Dataset

from flute_sync.ledger_errors import LedgerUnavailable
from tests.stow import (
    BOUNDARY,
    MR,
    RELATED,
    FakeIntake,
    dicom,
    multipart,
    post,
    serving,
    sop_uids,
    talk,
    uid,
)

FILES = [dicom(instance=number) for number in range(3)]
UIDS = [uid("study", "series", number) for number in range(3)]


def test_all_stored() -> None:
    intake = FakeIntake()
    with serving(intake) as url:
        answer = post(url, FILES)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    (delivery,) = intake.deliveries
    assert sop_uids(delivery.received) == UIDS
    assert (delivery.source, delivery.closes) == ("stow_rs", None)
    read = Dataset.from_json(answer.text)
    assert [item.ReferencedSOPInstanceUID for item in read.ReferencedSOPSequence] == UIDS
    assert {item.ReferencedSOPClassUID for item in read.ReferencedSOPSequence} == {MR}
    assert "FailedSOPSequence" not in read


def test_some_stored() -> None:
    intake = FakeIntake()
    unnamed = FILES[1].replace(uid("study").encode(), b"x" * len(uid("study")))
    with serving(intake) as url:
        answer = post(url, [FILES[0], b"junk", unnamed])
    assert answer.status_code == 202
    read = Dataset.from_json(answer.text)
    assert [item.ReferencedSOPInstanceUID for item in read.ReferencedSOPSequence] == UIDS[:1]
    failed = [
        (item.ReferencedSOPInstanceUID, item.FailureReason) for item in read.FailedSOPSequence
    ]
    assert failed == [("", 0xC000), (UIDS[1], 0xC000)]
    assert sop_uids(intake.received) == UIDS[:1]


def test_none_stored_because_none_can_be_read() -> None:
    intake = FakeIntake()
    with serving(intake) as url:
        answer = post(url, [b"junk", b""])
    assert answer.status_code == 409
    assert len(Dataset.from_json(answer.text).FailedSOPSequence) == 2
    assert intake.received == []


def test_instances_of_another_study_than_the_address_are_not_stored() -> None:
    intake = FakeIntake()
    other = dicom(study="other")
    with serving(intake) as url:
        both = post(url, [other, FILES[0]], study=uid("study"))
        none = post(url, [other], study=uid("study"))
        right = post(url, [other], study=uid("other"))
    assert [both.status_code, none.status_code, right.status_code] == [202, 409, 200]
    (failed,) = Dataset.from_json(none.text).FailedSOPSequence
    assert failed.ReferencedSOPInstanceUID == uid("other", "series", 1)
    assert failed.FailureReason == 0x0110
    assert sop_uids(intake.received) == [UIDS[0], uid("other", "series", 1)]


def test_instances_of_an_erased_patient_are_refused_and_others_are_not() -> None:
    intake = FakeIntake(erased=frozenset({uid("study")}))
    other = dicom(study="other")
    with serving(intake) as url:
        both = post(url, [FILES[0], other])
        none = post(url, [FILES[0]])
    assert [both.status_code, none.status_code] == [202, 409]
    read = Dataset.from_json(both.text)
    (failed,), (stored,) = read.FailedSOPSequence, read.ReferencedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == (UIDS[0], 0x0124)
    assert stored.ReferencedSOPInstanceUID == uid("other", "series", 1)
    assert "ReferencedSOPSequence" not in Dataset.from_json(none.text)


def test_success_is_not_said_when_the_ledger_fails() -> None:
    intake = FakeIntake(failing={"deliver": LedgerUnavailable()})
    with serving(intake) as url:
        answer = post(url, FILES)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert answer.headers["warning"].startswith('299 flute-sync "LEDGER-UNAVAILABLE')


def test_a_large_upload_is_committed_in_batches_before_success_is_said() -> None:
    small = dicom(pixels=b"\0" * 32)
    name = uid("study", "series", 1).encode()
    files = [small.replace(name, name[:-4] + b"%04d" % number) for number in range(1000, 3500)]
    intake = FakeIntake()
    with serving(intake) as url:
        answer = post(url, files)
    assert answer.status_code == 200
    assert len(intake.received) == len(set(sop_uids(intake.received))) == 2500
    assert len(intake.deliveries) > 1
    assert len(orjson.loads(answer.content)["00081199"]["Value"]) == 2500


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/dicom", FILES[0], 415),
        ("", b"x", 415),
        (f'multipart/form-data; boundary="{BOUNDARY}"', multipart(FILES), 415),
        (f'multipart/related; type="application/dicom+json"; boundary={BOUNDARY}', b"", 415),
        (f'multipart/related; type="image/jpeg"; boundary={BOUNDARY}', b"", 415),
        ('multipart/related; type="application/dicom"', multipart(FILES), 400),
        ('multipart/related; type="application/dicom"; boundary=other', multipart(FILES), 400),
        (RELATED, b"", 400),
        (RELATED, f"--{BOUNDARY}--\r\n".encode(), 400),
        (RELATED, multipart(FILES)[:-40], 400),
        (RELATED, f"--{BOUNDARY}\r\nno header\r\n\r\nx\r\n--{BOUNDARY}--".encode(), 400),
    ],
)
def test_what_is_no_upload_is_refused(content_type: str, body: bytes, status: int) -> None:
    intake = FakeIntake()
    with serving(intake) as url:
        answer = httpx.post(
            f"{url}/studies", content=body, headers={"Content-Type": content_type}, timeout=60
        )
    assert answer.status_code == status
    assert answer.headers["warning"]
    assert intake.calls == []


@pytest.mark.parametrize(
    "content_type",
    [
        f"multipart/related; boundary={BOUNDARY}",
        f"multipart/related; type=application/dicom; boundary={BOUNDARY}",
        f'MULTIPART/Related;BOUNDARY="{BOUNDARY}";Type="Application/DICOM" ; start="x"',
    ],
)
def test_senders_write_the_content_type_in_their_own_way(content_type: str) -> None:
    intake = FakeIntake()
    with serving(intake) as url:
        answer = httpx.post(
            f"{url}/studies/",
            content=multipart(FILES),
            headers={"Content-Type": content_type},
            timeout=60,
        )
    assert answer.status_code == 200


def test_parts_without_headers_are_what_the_type_says() -> None:
    intake = FakeIntake()
    body = b"".join(b"--%s\r\n\r\n%s\r\n" % (BOUNDARY.encode(), file) for file in FILES)
    body += f"--{BOUNDARY}--".encode()
    with serving(intake) as url:
        answer = httpx.post(
            f"{url}/studies", content=body, headers={"Content-Type": RELATED}, timeout=60
        )
    assert answer.status_code == 200
    assert sop_uids(intake.received) == UIDS


def test_a_compressed_body_is_refused() -> None:
    with serving(FakeIntake()) as url:
        answer = post(url, FILES, **{"Content-Encoding": "gzip"})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/studies", 404, None),
        ("PUT", "/studies", 405, "POST"),
        ("DELETE", "/studies/1.2", 405, "POST"),
        ("POST", "/studies/1.2/series", 405, ""),
        ("POST", "/studies/x", 405, ""),
        ("POST", "/../studies", 405, ""),
    ],
)
def test_nothing_else_is_served(method: str, path: str, status: int, allow: str | None) -> None:
    with serving(FakeIntake()) as url, talk(url) as client:
        base = httpx.URL(url).path
        client.sendall(f"{method} {base}{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = client.recv(65536)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    if allow is not None:
        assert f"\r\nallow: {allow}\r\n".encode() in answer


def test_an_address_outside_the_path_is_not_served() -> None:
    with serving(FakeIntake()) as url:
        answer = httpx.post(
            url.replace("/dicom-web", "/dicom-webs") + "/studies", content=b"", timeout=60
        )
    assert answer.status_code == 404
