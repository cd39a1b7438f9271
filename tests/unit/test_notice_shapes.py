"""What pushed notices say, in each shape, and that nothing that is pushed can do harm."""

import base64
import contextlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.intake import Notice
from flute_sync.notice_errors import NoticeMalformed, NoticeNotJson, NoticeTooLarge
from flute_sync.sources.notice_shapes import Message, Told, understand
from flute_sync.study import StudyInstanceUID

UID = "1.2.3.4.3"
SERIES = "1.2.3.4.3.9423673"
SOP = "1.3.6.1.4.1.45096.2.296485376.2210.1633373143.864442"
HOST = "an-account.dicom.azurehealthcareapis.com"
STORE = "projects/p/locations/europe-west6/datasets/d/dicomStores/s"


def azure(what: str = "Created", uid: Any = UID) -> dict[str, Any]:
    """An event as "Events message structures" of Azure Health Data Services shows it."""
    return {
        "id": "d621839d-958b-4142-a638-bb966b4f7dfd",
        "topic": "/subscriptions/s/providers/Microsoft.HealthcareApis/workspaces/w",
        "subject": f"{HOST}/v1/partitions/Microsoft.Default/studies/{uid}/series/{SERIES}",
        "data": {
            "partitionName": "Microsoft.Default",
            "imageStudyInstanceUid": uid,
            "imageSeriesInstanceUid": SERIES,
            "imageSopInstanceUid": SOP,
            "serviceHostName": HOST,
            "sequenceNumber": 1,
        },
        "eventType": f"Microsoft.HealthcareApis.DicomImage{what}",
        "dataVersion": "1",
        "metadataVersion": "1",
        "eventTime": "2022-09-15T01:14:04.5613214Z",
    }


def cloud(event: dict[str, Any], version: str = "specversion") -> dict[str, Any]:
    """The same event as a CloudEvent; Azure's documentation writes the version both ways."""
    moved = {"source": event["topic"], "type": event["eventType"], "time": event["eventTime"]}
    return {key: event[key] for key in ("id", "subject", "data")} | moved | {version: "1.0"}


def google(name: str | None = f"{STORE}/dicomWeb/studies/{UID}", **attributes: str) -> Any:
    """A Pub/Sub push as "Push subscriptions" of Cloud Pub/Sub shows it."""
    message: dict[str, Any] = {"messageId": "1", "publishTime": "2026-02-26T19:13:55.749Z"}
    if name is not None:
        message["data"] = base64.b64encode(name.encode()).decode()
    if attributes:
        message["attributes"] = attributes
    return {"message": message, "subscription": "projects/p/subscriptions/s"}


def told(document: Any) -> list[Told]:
    return list(understand(orjson.dumps(document), 100).told)


def one(notice: Notice = Notice.CHANGED, archive: str | None = None, uid: str = UID) -> Told:
    return Told(StudyInstanceUID(uid), notice, archive)


@pytest.mark.parametrize(
    ("document", "meant"),
    [
        ({"study_instance_uid": UID}, one()),
        ({"StudyInstanceUID": UID, "PatientID": "unread"}, one()),
        ({"study_instance_uid": f"{UID}\0"}, one()),
        (
            {"study_instance_uid": UID, "archive": "pacs", "notice": "gone"},
            one(Notice.GONE, "pacs"),
        ),
        ({"study_instance_uid": UID, "archive": None}, one()),
        ([{"study_instance_uid": UID}], one()),
        ({"studies": [UID], "archive": "vna", "notice": "gone"}, one(Notice.GONE, "vna")),
        (
            {"studies": [{"study_instance_uid": UID, "archive": "a"}], "archive": "b"},
            one(archive="a"),
        ),
        ({"ChangeType": "StableStudy", "StudyInstanceUID": UID, "archive": "o"}, one(archive="o")),
        (
            {"ChangeType": "Deleted", "ResourceType": "Study", "StudyInstanceUID": UID},
            one(Notice.GONE),
        ),
        ({"ChangeType": "Deleted", "ResourceType": "Series", "StudyInstanceUID": UID}, one()),
        ([azure()], one()),
        ([azure("Updated")], one()),
        ([azure("Deleted")], one()),  # an instance: the study may well stay
        (azure(), one()),
        (cloud(azure()), one()),
        (cloud(azure("Deleted"), "specVersion"), one()),
        ([cloud(azure("Updated"))], one()),
        (google(), one()),
        (google(f"{STORE}/dicomWeb/studies/{UID}/series/{SERIES}/instances/{SOP}"), one()),
        (google(None, action="StoreInstances", studyInstanceUID=UID), one()),
        ({"specversion": "1.0", "type": "a.b", "data": {"study_instance_uid": UID}}, one()),
        ({"specversion": "1.0", "type": "google.cloud.pubsub.x", "data": google()}, one()),
    ],
)
def test_each_shape_is_understood(document: Any, meant: Told) -> None:
    assert told(document) == [meant]


def test_a_batch_is_read_element_by_element_and_the_latest_counts() -> None:
    events = [azure(), azure("Deleted"), azure(uid="1.2.9"), google(), 7, azure(uid="x"), {}]
    fhir = azure() | {"eventType": "Microsoft.HealthcareApis.FhirResourceCreated"}
    message = understand(orjson.dumps([*events, fhir]), 8)
    assert message == Message((one(), one(uid="1.2.9")), foreign=1, useless=3)
    orthanc = {"ChangeType": "Deleted", "ResourceType": "Study", "StudyInstanceUID": UID}
    stored = orthanc | {"ChangeType": "NewInstance", "ResourceType": "Instance"}
    assert told([stored, orthanc]) == [one(Notice.GONE)]
    assert told([orthanc, stored]) == [one()]


@pytest.mark.parametrize(
    "document",
    [
        azure() | {"eventType": "Microsoft.HealthcareApis.FhirResourceDeleted"},
        azure() | {"eventType": "Microsoft.EventGrid.SubscriptionDeletedEvent"},
        {"specversion": "1.0", "type": "org.example.else", "data": {"patient": 1}},
        {"specversion": "1.0", "type": "org.example.else", "data": "text"},
        {"specversion": "1.0"},
        google(f"{STORE.replace('dicomStores', 'fhirStores')}/fhir/Patient/1"),
    ],
)
def test_what_is_about_something_else_is_left_alone(document: Any) -> None:
    assert understand(orjson.dumps(document), 9) == Message(foreign=1)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"studies": []},
        {"studies": [None]},
        None,
        UID,
        7,
        [[{"study_instance_uid": UID}]],
        {"study_instance_uid": 1.2},
        {"study_instance_uid": ""},
        {"study_instance_uid": "1.2.x"},
        {"study_instance_uid": "1." * 40 + "1"},
        {"study_instance_uid": UID, "notice": "deleted"},
        {"study_instance_uid": UID, "notice": ["gone"]},
        {"study_instance_uid": UID, "archive": 7},
        {"ChangeType": "StableStudy", "ID": "66c8e41e"},
        [azure(uid=None)],
        [azure() | {"data": None}],
        [azure() | {"eventType": 7}],
        {"message": None},
        {"message": {}},
        {"message": {"data": 7}},
        {"message": {"data": "=="}},
        google("a b"),
        google(f"{STORE}/dicomWeb/studies/x"),
        google("projects/p/\u00fc"),
        [{"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {}}],
    ],
)
def test_what_tells_of_no_study_is_refused_without_its_values(document: Any) -> None:
    with pytest.raises(NoticeMalformed) as refused:
        told(document)
    assert UID not in refused.value.sentence


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"NaN",
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b'"\\ud800"',
        b"study_instance_uid=1.2.3",
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(NoticeNotJson):
        understand(body, 10)


def test_more_elements_than_allowed_are_refused() -> None:
    assert len(told({"studies": [f"1.2.{n}" for n in range(100)]})) == 100
    too_many: list[Any] = [{"studies": ["1.2.3"] * 101}, [{}] * 101]
    for much in too_many:
        with pytest.raises(NoticeTooLarge):
            told(much)


def test_event_grid_is_told_that_its_events_are_wanted() -> None:
    event = {
        "id": "2d1781af-3a4c-4d7c-bd0c-e34b19da4e66",
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": {"validationCode": "512d38b6", "validationUrl": "https://example.net/x"},
    }
    assert understand(orjson.dumps([event]), 9).validation == "512d38b6"


NAMES = """study_instance_uid StudyInstanceUID studies archive notice message data attributes
eventType type specversion ChangeType studyInstanceUID"""
KEYS = st.sampled_from(NAMES.split())
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from([UID, "gone", "changed", "Deleted", "Microsoft.HealthcareApis.DicomImageX"])
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(ANYTHING)
def test_whatever_is_pushed_is_understood_or_refused(document: Any) -> None:
    with contextlib.suppress(NoticeMalformed):
        message = understand(orjson.dumps(document), 1000)
        assert message.told or message.foreign or message.validation


@given(st.binary(max_size=60))
def test_whatever_bytes_are_pushed_are_understood_or_refused(body: bytes) -> None:
    with contextlib.suppress(NoticeMalformed, NoticeNotJson):
        understand(body, 10)


SHAPES: dict[str, Callable[[str], Any]] = {
    "ours": lambda uid: {"study_instance_uid": uid},
    "orthanc": lambda uid: {"ChangeType": "StableStudy", "StudyInstanceUID": uid},
    "event grid": lambda uid: azure(uid=uid),
    "cloud event": lambda uid: cloud(azure(uid=uid)),
    "google": lambda uid: google(f"{STORE}/dicomWeb/studies/{uid}"),
}
PUSHED = st.tuples(st.sampled_from(["1.2.1", "1.2.2", "2.25.3"]), st.sampled_from(list(SHAPES)))


@given(st.lists(PUSHED, min_size=1, max_size=20))
def test_repetition_says_nothing_more(pushed: list[tuple[str, str]]) -> None:
    document = [SHAPES[shape](uid) for uid, shape in pushed]
    uids = [str(said.study_instance_uid) for said in told(document * 2)]
    assert sorted(uids) == sorted({uid for uid, _ in pushed})
