"""What becomes of a study that archives hold no more."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from flute_sync.daemon.linking import Linker, Plan
from flute_sync.daemon.reading import Found, Reader
from flute_sync.daemon.removal import Brake, RemovalSettings
from flute_sync.daemon.withdrawal import Removals
from flute_sync.fhir.imaging_studies import Found as InFhir
from flute_sync.fhir.imaging_studies import ImagingStudies, Written
from flute_sync.ledger import Absence, Claim, FhirRow, Missing
from flute_sync.study import Study
from flute_sync.task import TaskEvent
from tests.studies import mpmri, rejection_note, with_series

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)
OURS = "Endpoint/ours"


def _held(study: Study, *archives: str) -> Study:
    series = tuple(replace(one, archives=frozenset(archives)) for one in study.series)
    return replace(study, series=series, archives=frozenset(archives))


FULL = _held(mpmri(), "pacs")
REJECTED = _held(with_series(FULL, rejection_note("113001", FULL.series)), "pacs")
EXPIRED = _held(with_series(FULL, rejection_note("113039", FULL.series)), "pacs")


@dataclass
class _Site:
    """Ledger, archive and FHIR server, as far as a removal asks them."""

    left: Study = field(default_factory=lambda: Study(FULL.study_instance_uid))
    has_moved_: bool = False
    resource: dict[str, Any] | None = None
    missing_: int = 0
    believed: list[str] = field(default_factory=list)
    kept_notes: list[Any] = field(default_factory=list)
    written: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ledger(self) -> "_Site":
        return self

    def has_moved(self, _claim: Claim) -> bool:
        return self.has_moved_

    def missing(self, _archive: str, _after: datetime) -> Missing:
        return Missing(1000, self.missing_)

    def cursor(self, _source: str, _archive: str) -> None:
        return None

    def keep_notes(self, _claim: Claim, notes: Any) -> int:
        self.kept_notes.append(notes)
        return 0

    def believe(self, _claim: Claim, absences: list[Absence]) -> Study:
        self.believed += [absence.archive for absence in absences]
        return self.left

    def find(self, _uid: str, **_more: Any) -> InFhir:
        return InFhir(self.resource)

    def write(self, _uid: str, ours: dict[str, Any], *_more: Any, **_named: Any) -> Written:
        self.written.append(ours)
        return Written("updated", "7", "3", "another digest")

    def plan(self, _claim: Claim, resource: dict[str, Any], *_more: Any, **_named: Any) -> Plan:
        return Plan(resource)

    @property
    def removals(self) -> Removals:
        settings = RemovalSettings()
        brake = Brake(cast("Any", self), lambda: settings, ("pacs",))
        return Removals(
            cast("Reader", self),
            cast("ImagingStudies", self),
            cast("Linker", self),
            lambda: {"pacs": (OURS,)},
            settings,
            brake,
        )


def _claim(**changed: Any) -> Claim:
    claim = Claim(
        study_id=1,
        study_instance_uid=FULL.study_instance_uid,
        owner="worker",
        generation=1,
        attempts=0,
        reads_owed=(),
        unverified=(),
        absences=(),
        fhir=FhirRow("7", "2", "digest"),
        patient_reference="Patient/1",
        confirmed=False,
        received_at=NOW,
        first_fact_at=NOW,
        rules=None,
    )
    return replace(claim, **changed)


def _found(study: Study, *absent: str, times: int = 1, since: timedelta = DAY) -> Found:
    return Found(study, tuple(Absence(name, NOW - since, times) for name in absent))


def test_what_is_there_is_said() -> None:
    left = _Site().removals.judge(_claim(), _found(FULL), NOW)
    assert (left.study, left.believed) == (FULL, True)


def test_an_archive_that_never_held_it_misses_nothing() -> None:
    left = _Site().removals.judge(_claim(), _found(FULL, "copy"), NOW)
    assert (left.study, left.believed) == (FULL, True)


def test_one_look_changes_nothing() -> None:
    site = _Site()
    left = site.removals.judge(_claim(), _found(FULL, "pacs"), NOW)
    assert (left.study, left.believed, site.believed) == (None, False, [])
    settlement = site.removals.settle(_claim(), FULL, left)
    assert (settlement.event, settlement.code) == (TaskEvent.FAIL, "ARCHIVE-STUDY-ABSENT")
    assert settlement.next_attempt_at == NOW + DAY / 2
    assert site.written == []


def test_what_another_archive_holds_goes_on_being_said() -> None:
    both = _held(FULL, "pacs", "copy")
    left = _Site().removals.judge(_claim(), _found(both, "copy"), NOW)
    assert (left.study, left.believed) == (both, False)
    site = _Site(left=FULL)
    left = site.removals.judge(_claim(), _found(both, "copy", times=3), NOW)
    assert (left.study, left.believed, site.believed) == (FULL, True, ["copy"])


@pytest.mark.parametrize("study", [REJECTED, EXPIRED])
def test_what_a_note_explains_is_no_riddle(study: Study) -> None:
    site = _Site()
    left = site.removals.judge(_claim(), _found(study, "pacs", times=9, since=9 * DAY), NOW)
    assert (left.study, left.believed, site.believed) == (study, True, [])


def test_what_is_all_known_elsewhere_has_moved_at_once() -> None:
    left = _Site(has_moved_=True).removals.judge(_claim(), _found(FULL, "pacs"), NOW)
    assert left.study == replace(FULL, moved=True)
    assert left.believed


def test_too_much_at_once_is_not_believed() -> None:
    site = _Site(missing_=500)
    left = site.removals.judge(_claim(), _found(FULL, "pacs", times=3), NOW)
    settlement = site.removals.settle(_claim(), FULL, left)
    assert (settlement.code, site.believed) == ("ARCHIVE-MANY-ABSENT", [])


def _gone(site: _Site, claim: Claim) -> Any:
    removals = site.removals
    left = removals.judge(claim, _found(FULL, "pacs", times=3), NOW)
    assert (left.study, left.believed) == (None, True)
    return removals.settle(claim, FULL, left)


def test_what_is_believed_to_be_gone_becomes_unknown_and_keeps_what_it_told() -> None:
    there = {
        "resourceType": "ImagingStudy",
        "status": "available",
        "subject": {"reference": "Patient/1"},
        "endpoint": [{"reference": OURS}],
        "started": "2024-03-01",
    }
    site = _Site(resource=there)
    settlement = _gone(site, _claim(has_notes=True))
    (written,) = site.written
    assert (written["status"], written["started"]) == ("unknown", "2024-03-01")
    assert "endpoint" not in written
    assert settlement.fhir == FhirRow("7", "3", "digest")
    assert settlement.event is TaskEvent.SYNC
    assert site.kept_notes == [()]


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled"])
def test_what_was_taken_back_before_stays_so(status: str) -> None:
    there = {"status": status, "subject": {"reference": "Patient/1"}}
    site = _Site(resource=there)
    settlement = _gone(site, _claim())
    assert site.written == []
    assert (settlement.event, settlement.fhir) == (TaskEvent.SYNC, FhirRow("7", "2", "digest"))
    assert status in settlement.sentence


@pytest.mark.parametrize("resource", [None, {"status": "available"}])
def test_what_fhir_does_not_have_is_left_out(resource: dict[str, Any] | None) -> None:
    assert _gone(_Site(resource=resource), _claim()).event is TaskEvent.LEAVE_OUT
    claim = _claim(fhir=None, unverified=("pacs",))
    assert _gone(_Site(), claim).event is TaskEvent.LEAVE_OUT
