"""Instance Availability Notification: which archive is asked for what."""

from collections.abc import Callable
from datetime import UTC, datetime
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from flute_sync.dimse_errors import (
    AttributeEmpty,
    AttributeInvalid,
    AttributeMissing,
    DataSetUnreadable,
)
from flute_sync.errors import FluteSyncError
from flute_sync.intake import Notice, Noticed
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.ian import InstanceAvailability, notices
from flute_sync.study import StudyInstanceUID
from tests.dimse_requests import SYNTAXES, available, notification, request
from tests.intake import MemoryIntake

STUDY = "1.2.840.1"
AT = datetime(2026, 1, 2, tzinfo=UTC)
ARCHIVES = {"north": frozenset({"PACS", "PACS2"}), "south": frozenset({"SOUTH"})}
CHANGED, GONE = Notice.CHANGED, Notice.GONE


def told(
    dataset: Dataset | bytes, intake: MemoryIntake | None = None, syntax: str = SYNTAXES[0]
) -> dict[str, Notice]:
    intake = intake or MemoryIntake()
    service = InstanceAvailability(intake, ARCHIVES, HeaderSettings(), lambda: AT)
    service.create(request(dataset, syntax=syntax))
    assert {one.source for one in intake.deliveries} == {"ian"}
    assert {one.calling_ae_title for one in intake.deliveries} == {"SENDER"}
    assert {one.at for one in intake.deliveries} == {AT}
    assert {uid.study_instance_uid for uid in intake.noticed} == {STUDY}
    return {one.archive: one.noticed[0].notice for one in intake.deliveries}


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_archive_of_the_retrieve_ae_title_is_asked(syntax: str) -> None:
    first = [available(f"1.{number}") for number in range(3)]
    second = [available("1.9", "NEARLINE", ["PACS2"])]
    assert told(notification(STUDY, first, second), syntax=syntax) == {"north": CHANGED}


def test_titles_of_nobody_mean_every_archive() -> None:
    dataset = notification(STUDY, [available("1.1", titles=["ELSEWHERE"])])
    assert told(dataset) == {"north": CHANGED, "south": CHANGED}


def test_several_titles_mean_several_archives() -> None:
    dataset = notification(STUDY, [available("1.1", titles=["SOUTH", "PACS"])])
    assert told(dataset) == {"north": CHANGED, "south": CHANGED}


def test_a_study_is_gone_where_nothing_of_it_can_be_had() -> None:
    lost = [available("1.1", "UNAVAILABLE"), available("1.2", "UNAVAILABLE")]
    held = [available("1.2", titles=["SOUTH"])]
    assert told(notification(STUDY, lost)) == {"north": GONE}
    assert told(notification(STUDY, lost, held)) == {"north": GONE, "south": CHANGED}
    assert told(notification(STUDY, [*lost, available("1.3")])) == {"north": CHANGED}


def test_the_same_notification_again_is_no_more_than_a_hint() -> None:
    intake = MemoryIntake()
    for _ in range(2):
        told(notification(STUDY, [available("1.1")]), intake)
    assert intake.noticed == [Noticed(StudyInstanceUID(STUDY))] * 2


def test_nothing_is_answered_before_the_commit() -> None:
    intake = MemoryIntake()
    intake.failure = LedgerUnavailable()
    with pytest.raises(LedgerUnavailable):
        told(notification(STUDY, [available("1.1")]), intake)


def damaged(change: Callable[[Dataset], None]) -> Dataset:
    dataset = notification(STUDY, [available("1.1"), available("1.2")])
    change(dataset)
    return dataset


def of_instance(dataset: Dataset) -> Dataset:
    found: Dataset = dataset.ReferencedSeriesSequence[0].ReferencedSOPSequence[1]
    return found


REQUIRED = (
    "ReferencedSOPClassUID",
    "ReferencedSOPInstanceUID",
    "InstanceAvailability",
    "RetrieveAETitle",
)


@pytest.mark.parametrize("keyword", REQUIRED)
def test_what_is_required_of_an_instance(keyword: str) -> None:
    def leave_out(dataset: Dataset) -> None:
        delattr(of_instance(dataset), keyword)

    def empty(dataset: Dataset) -> None:
        setattr(of_instance(dataset), keyword, "")

    with pytest.raises(AttributeMissing):
        told(damaged(leave_out))
    with pytest.raises(AttributeEmpty):
        told(damaged(empty))


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "ReferencedSeriesSequence"])
def test_what_is_required_of_a_notification(keyword: str) -> None:
    with pytest.raises(AttributeMissing):
        told(damaged(lambda dataset: delattr(dataset, keyword)))
    with pytest.raises(AttributeEmpty):
        told(damaged(lambda dataset: setattr(dataset, keyword, None)))


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("InstanceAvailability", "SOMEWHERE"),
        ("InstanceAvailability", ["ONLINE", "NEARLINE"]),
        ("ReferencedSOPInstanceUID", "1.2.x"),
        ("ReferencedSOPInstanceUID", ["1.2", "1.3"]),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_values_that_may_not_be(keyword: str, value: object) -> None:
    with pytest.raises(AttributeInvalid):
        told(damaged(lambda dataset: setattr(of_instance(dataset), keyword, value)))


def test_one_that_is_too_large_is_refused() -> None:
    sequence = pack("<HH2sxxL", 0x0008, 0x1115, b"SQ", 5 << 20) + bytes(5 << 20)
    with pytest.raises(DataSetUnreadable):
        told(sequence)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_understood(data: bytes) -> None:
    with pytest.raises(FluteSyncError) as refusal:
        told(data)
    assert refusal.value.dimse_status < 0xA000


AVAILABILITIES = st.sampled_from(["ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE"])
TITLES = st.frozensets(st.sampled_from(["PACS", "PACS2", "SOUTH", "X"]), min_size=1)
STATED = st.dictionaries(st.tuples(AVAILABILITIES, TITLES), st.just(1), min_size=1)


@given(STATED, st.randoms())
def test_the_order_of_instances_says_nothing(
    stated: dict[tuple[str, frozenset[str]], int], random: object
) -> None:
    shuffled = list(stated.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert notices(dict(shuffled), ARCHIVES) == notices(stated, ARCHIVES)


@given(STATED)
def test_an_archive_is_gone_only_where_all_that_means_it_is_unavailable(
    stated: dict[tuple[str, frozenset[str]], int],
) -> None:
    found = notices(stated, ARCHIVES)
    assert found
    for name, notice in found.items():
        own = ARCHIVES[name]
        others = frozenset[str]().union(*ARCHIVES.values()) - own
        means = {
            availability
            for availability, titles in stated
            if titles & own or not titles & (own | others)
        }
        assert (means == {"UNAVAILABLE"}) is (notice is GONE)
