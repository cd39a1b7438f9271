"""Storage commitment: nothing is committed that the archive was not seen to hold."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flute_sync.archive_errors import (
    ArchiveCapabilityMissing,
    ArchiveRefused,
    ArchiveUnavailable,
)
from flute_sync.errors import FluteSyncError
from flute_sync.sources.commitment_lookup import FailureReason, judge
from flute_sync.sources.commitment_report import Report
from flute_sync.sources.commitment_settings import CommitmentSettings
from flute_sync.sources.peer import Json
from tests.dimse_requests import CT

MR = "1.2.840.10008.5.1.4.1.1.4"


class Held:
    """An archive that holds instances: series and SOP class of each."""

    def __init__(
        self, holding: Mapping[str, tuple[str, str]], failures: Mapping[int, FluteSyncError] = {}
    ) -> None:
        self._holding = holding
        self._failures = dict(failures)
        self.asked = 0

    def instance(self, sop_instance_uid: str) -> Json | None:
        self.asked += 1
        if self.asked in self._failures:
            raise self._failures[self.asked]
        if sop_instance_uid not in self._holding:
            return None
        return self._row(sop_instance_uid)

    def instances(self, study: str, series: str, include: tuple[str, ...]) -> list[Json]:
        self.asked += 1
        if self.asked in self._failures:
            raise self._failures[self.asked]
        return [self._row(uid) for uid, (of, _) in self._holding.items() if of == series]

    def _row(self, uid: str) -> Json:
        series, sop_class = self._holding[uid]
        stated = {
            "00080016": sop_class,
            "00080018": uid,
            "0020000D": "1.2.3",
            "0020000E": series,
        }
        return {tag: {"vr": "UI", "Value": [value]} for tag, value in stated.items()}


def test_what_is_held_what_is_not_and_what_is_something_else() -> None:
    archive = Held({"1.1": ("1.9", CT), "1.2": ("1.9", CT)})
    verdicts: dict[str, FailureReason | None] = {}
    judge(archive, {"1.1": CT, "1.2": MR, "1.3": CT}, verdicts)
    assert verdicts == {
        "1.1": None,
        "1.2": FailureReason.CLASS_CONFLICT,
        "1.3": FailureReason.NO_SUCH_INSTANCE,
    }


def test_one_instance_tells_all_of_its_series() -> None:
    asked = {f"1.{number}": CT for number in range(1, 500)}
    archive = Held(dict.fromkeys(asked, ("1.9", CT)))
    verdicts: dict[str, FailureReason | None] = {}
    judge(archive, asked, verdicts)
    assert set(verdicts.values()) == {None}
    assert archive.asked == 2


def test_what_was_found_out_before_a_failure_is_kept() -> None:
    holding = {f"1.{number}": (f"9.{number}", CT) for number in range(1, 5)}
    archive = Held(holding, {5: ArchiveUnavailable()})
    verdicts: dict[str, FailureReason | None] = {}
    with pytest.raises(ArchiveUnavailable):
        judge(archive, dict.fromkeys(holding, CT), verdicts)
    assert set(verdicts) == {"1.1", "1.2"}
    judge(archive, dict.fromkeys(holding, CT), verdicts)
    assert verdicts == dict.fromkeys(holding)


def test_an_archive_without_instance_search() -> None:
    archive = Held({}, {1: ArchiveRefused(status=404)})
    with pytest.raises(ArchiveCapabilityMissing):
        judge(archive, {"1.1": CT}, {})


UIDS = st.integers(1, 9).map(lambda number: f"1.{number}")
CLASSES = st.sampled_from([CT, MR])
HOLDING = st.dictionaries(UIDS, st.tuples(st.sampled_from(["2.1", "2.2"]), CLASSES))


@given(HOLDING, st.dictionaries(UIDS, CLASSES, min_size=1), st.integers(1, 12))
def test_only_what_is_held_is_ever_committed(
    holding: dict[str, tuple[str, str]], asked: dict[str, str], fails_at: int
) -> None:
    verdicts: dict[str, FailureReason | None] = {}
    archive = Held(holding, {fails_at: ArchiveUnavailable()})
    for _ in range(2):
        try:
            judge(archive, asked, verdicts)
        except ArchiveUnavailable:
            continue
    for uid, reason in verdicts.items():
        assert (reason is None) is (uid in holding and holding[uid][1] == asked[uid])
    unknown = dict.fromkeys(asked, FailureReason.PROCESSING_FAILURE)
    report = Report("1.2.3", asked, {**unknown, **verdicts})
    told = report.dataset()
    committed = {item.ReferencedSOPInstanceUID for item in told.get("ReferencedSOPSequence", ())}
    failed = {item.ReferencedSOPInstanceUID for item in told.get("FailedSOPSequence", ())}
    assert committed | failed == set(asked)
    assert not committed & failed
    assert committed <= set(holding)
    assert report.event_type == (2 if failed else 1)
    for item in told.get("FailedSOPSequence", ()):
        assert item.FailureReason in set(FailureReason)


@pytest.mark.parametrize("address", ["", "host", "host:", "host:x", "a b:1", "::1:104"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ValidationError):
        CommitmentSettings(peers={"SENDER": address})


@pytest.mark.parametrize(
    ("address", "host"), [("pacs.example:104", "pacs.example"), ("[::1]:104", "::1")]
)
def test_where_a_sender_is_called(address: str, host: str) -> None:
    settings = CommitmentSettings(peers={"SENDER": address})
    peer = settings.peer("SENDER", "OURS")
    assert peer is not None
    assert (peer.host, peer.port, peer.ae_title) == (host, 104, "SENDER")
    assert peer.calling_ae_title == "OURS"
    assert settings.peer("ANOTHER", "OURS") is None
