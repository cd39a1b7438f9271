"""Links that are kept right when clinical data change, and by the sweep of all patients."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from flute_sync.daemon.link_sweep import PORTION, LinkSweep, review
from flute_sync.daemon.link_watch import LinkAlarm
from flute_sync.daemon.pauses import Pause
from flute_sync.daemon.stats import Stats
from flute_sync.fhir.candidates import Candidates, Evidence
from flute_sync.fhir.clinical_watch import ClinicalWatch
from flute_sync.fhir.patients import Patients
from flute_sync.fhir_errors import FhirServerError, FhirUnavailable
from flute_sync.link_settings import LinkSettings
from tests.contract.fhir_rest import JSON, create, new_patient
from tests.contract.ledger_site import OTHER, STUDY
from tests.linking import (
    MRI,
    PSA,
    SCORE,
    SYSTEM,
    Daemon,
    days,
    observe,
    put,
    reference_of,
)

NIGHT = datetime(2026, 3, 2, 1, tzinfo=UTC)


def never() -> bool:
    return False


class Watcher:
    """The watch and the sweep of a daemon, one step at a time."""

    def __init__(self, daemon: Daemon, **settings: Any) -> None:
        self.daemon = daemon
        self.settings = LinkSettings(watch_interval=timedelta(milliseconds=1), **settings)
        self.pause, self.stats = Pause("fhir"), Stats()
        self.restart()

    def restart(self) -> None:
        """Forget all that is not in the ledger."""
        daemon = self.daemon
        patients = Patients(daemon.client, daemon.configured().patient)
        self.alarm = LinkAlarm(
            daemon.ledger,
            ClinicalWatch(daemon.client),
            lambda: self.settings,
            lambda: patients,
            self.pause,
            self.stats,
        )
        self.sweep = LinkSweep(
            daemon.ledger,
            lambda: daemon.pipeline.linker,
            lambda: self.settings,
            lambda: None,
            self.pause,
            self.stats,
        )

    def look(self) -> None:
        """Look at clinical data, then do all that is due."""
        self.alarm.step(datetime.now(UTC), never)
        self.daemon.work()

    def night(self, now: datetime = NIGHT) -> int:
        """Sweep to the end; return how many steps that took."""
        before = self.stats.swept_at
        for count in range(1, 50):
            self.sweep.step(now, never)
            if self.stats.swept_at != before:
                self.daemon.work()
                return count
        raise AssertionError("the sweep never ends")


@pytest.fixture
def watcher(daemon: Daemon) -> Watcher:
    made = Watcher(daemon)
    made.look()  # it begins now
    return made


@pytest.fixture
def linked(watcher: Watcher, fhir: httpx.Client, patient: str) -> str:
    """A PSA that the study is linked to."""
    psa = observe(fhir, patient, MRI - days(5), **PSA)
    watcher.daemon.deliver(STUDY)
    watcher.daemon.work()
    watcher.look()
    assert watcher.daemon.links(STUDY) == {psa}
    return psa


def delete(fhir: httpx.Client, reference: str) -> None:
    assert fhir.delete(f"/{reference}").status_code in (200, 204)


def unlink(fhir: httpx.Client, daemon: Daemon) -> None:
    """Take the links from the study as somebody else would."""
    found = daemon.resource(STUDY)
    del found["extension"]
    reference = f"/ImagingStudy/{found['id']}"
    assert fhir.put(reference, json=found, headers=JSON).status_code == 200


def test_what_comes_late_is_linked(watcher: Watcher, fhir: httpx.Client, patient: str) -> None:
    daemon = watcher.daemon
    daemon.deliver(STUDY)
    daemon.work()
    psa = observe(fhir, patient, MRI - days(5), **PSA)
    assert daemon.links(STUDY) == set()
    watcher.look()
    assert daemon.links(STUDY) == {psa}
    assert watcher.stats.clinical_changes["Observation"] == 1
    before = daemon.versions()
    watcher.restart()
    watcher.look()
    assert daemon.versions() == before


@pytest.mark.parametrize(
    "change",
    [{"effectiveDateTime": (MRI - days(400)).isoformat()}, {"status": "entered-in-error"}],
)
def test_a_correction_takes_the_link_away(
    watcher: Watcher, fhir: httpx.Client, linked: str, change: dict[str, Any]
) -> None:
    put(fhir, linked, **change)
    watcher.look()
    assert watcher.daemon.links(STUDY) == set()


def test_what_moves_to_another_patient_leaves_one_study_and_joins_the_other(
    watcher: Watcher, fhir: httpx.Client, linked: str
) -> None:
    other = reference_of(create(fhir, new_patient(SYSTEM, "p2")))
    daemon = watcher.daemon
    daemon.deliver(OTHER, patient="p2")
    daemon.work()
    put(fhir, linked, subject={"reference": other})
    watcher.look()
    assert (daemon.links(STUDY), daemon.links(OTHER)) == (set(), {linked})
    lost, gained = (daemon.resource(one)["meta"]["lastUpdated"] for one in (STUDY, OTHER))
    assert datetime.fromisoformat(lost) <= datetime.fromisoformat(gained)


def test_a_report_that_names_the_study_late_gives_it_its_results(
    watcher: Watcher, fhir: httpx.Client, patient: str
) -> None:
    daemon = watcher.daemon
    score = observe(fhir, patient, MRI + days(200), **SCORE)
    daemon.deliver(STUDY)
    daemon.work()
    watcher.look()
    assert daemon.links(STUDY) == set()
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {"text": "MRI"},
        "subject": {"reference": patient},
        "imagingStudy": [{"reference": f"ImagingStudy/{daemon.resource(STUDY)['id']}"}],
        "result": [{"reference": score}],
    }
    made = reference_of(create(fhir, report))
    watcher.look()
    assert daemon.links(STUDY) == {score}
    put(fhir, made, imagingStudy=[])
    watcher.look()
    assert daemon.links(STUDY) == set()


def test_a_study_of_another_system_that_is_nearer_takes_over(
    watcher: Watcher, fhir: httpx.Client, patient: str
) -> None:
    daemon = watcher.daemon
    score = observe(fhir, patient, MRI + days(40), **SCORE)
    daemon.deliver(STUDY)
    daemon.work()
    watcher.look()
    assert daemon.links(STUDY) == {score}
    nearer = {
        **daemon.resource(STUDY),
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.77"}],
        "started": (MRI + days(30)).isoformat(),
    }
    del nearer["id"], nearer["extension"]
    create(fhir, nearer)
    watcher.look()
    assert daemon.links(STUDY) == set()


def test_our_own_writes_are_no_news(watcher: Watcher, fhir: httpx.Client, linked: str) -> None:
    watcher.restart()
    changes = watcher.stats.clinical_changes["ImagingStudy"]
    watcher.look()
    assert watcher.stats.clinical_changes["ImagingStudy"] == changes
    unlink(fhir, watcher.daemon)
    watcher.look()
    assert watcher.daemon.links(STUDY) == {linked}


def test_data_of_a_patient_who_was_merged_reach_the_survivors_studies(
    watcher: Watcher, fhir: httpx.Client, patient: str
) -> None:
    old = reference_of(create(fhir, new_patient(SYSTEM, "p-old")))
    put(fhir, old, active=False, link=[{"type": "replaced-by", "other": {"reference": patient}}])
    watcher.daemon.deliver(STUDY)
    watcher.daemon.work()
    psa = observe(fhir, old, MRI - days(5), **PSA)
    watcher.look()
    assert watcher.daemon.links(STUDY) == {psa}


def test_what_comes_during_the_first_step_of_a_study_is_not_missed(
    watcher: Watcher, fhir: httpx.Client, patient: str
) -> None:
    daemon = watcher.daemon
    daemon.deliver(STUDY)
    claimed = daemon.claim()
    step = daemon.pipeline.step(claimed)
    psa = observe(fhir, patient, MRI - days(5), **PSA)
    watcher.alarm.step(datetime.now(UTC), never)
    daemon.ledger.settle(claimed, step)
    daemon.work()
    assert daemon.links(STUDY) == {psa}


def test_what_comes_while_the_watch_is_off_is_seen_after_a_restart(
    watcher: Watcher, fhir: httpx.Client, linked: str
) -> None:
    watcher.restart()
    put(fhir, linked, status="cancelled")
    watcher.pause.begin(FhirUnavailable("down"), datetime.now(UTC))
    watcher.look()
    assert watcher.daemon.links(STUDY) == {linked}
    watcher.pause.end()
    watcher.look()
    assert watcher.daemon.links(STUDY) == set()


def test_it_waits_for_its_time_or_for_a_hint(watcher: Watcher, fhir: httpx.Client) -> None:
    watcher.settings = LinkSettings(watch_interval=timedelta(hours=1))
    now = datetime.now(UTC)
    watcher.alarm.step(now, never)
    looked = watcher.stats.looked_at
    watcher.alarm.step(now + timedelta(minutes=59), never)
    assert watcher.stats.looked_at == looked
    watcher.alarm.hint.set()
    watcher.alarm.step(now + timedelta(minutes=59), never)
    assert watcher.stats.looked_at == now + timedelta(minutes=59)
    assert not watcher.alarm.hint.is_set()


# -- the sweep -------------------------------------------------------------------------------


def test_the_sweep_finds_deletions_and_what_others_took_away(
    watcher: Watcher, fhir: httpx.Client, patient: str, linked: str
) -> None:
    daemon = watcher.daemon
    before = daemon.versions()
    watcher.night()
    assert daemon.versions() == before
    assert watcher.stats.swept == {"same": 1}
    unlink(fhir, daemon)
    watcher.night(NIGHT + days(1))
    assert daemon.links(STUDY) == {linked}
    delete(fhir, linked)
    watcher.night(NIGHT + days(2))
    assert daemon.links(STUDY) == set()
    assert daemon.ledger.links.view(STUDY).rows == ()
    assert watcher.stats.swept == {"same": 1, "differs": 2}


def test_the_sweep_keeps_to_its_hours_and_comes_once_a_night(
    watcher: Watcher, patient: str, linked: str
) -> None:
    evening = NIGHT - timedelta(hours=4)
    watcher.sweep.step(evening, never)
    assert watcher.daemon.ledger.cursor("link_sweep", "fhir") is None
    watcher.night()
    swept = watcher.stats.swept.total()
    for later in (timedelta(minutes=5), timedelta(hours=4), timedelta(hours=22)):
        watcher.restart()
        watcher.sweep.step(NIGHT + later, never)
    assert watcher.stats.swept.total() == swept
    watcher.night(NIGHT + days(1))
    assert watcher.stats.swept.total() == swept + 1
    watcher.settings = LinkSettings(sweep=False)
    watcher.sweep.step(NIGHT + days(2), never)
    assert watcher.stats.swept.total() == swept + 1


def test_the_hours_are_the_sites(watcher: Watcher, linked: str) -> None:
    watcher.sweep = replace(watcher.sweep, zone=lambda: ZoneInfo("Asia/Tokyo"))
    watcher.sweep.step(NIGHT, never)  # ten in the morning there
    assert watcher.stats.swept.total() == 0
    watcher.night(NIGHT + timedelta(hours=15))


def test_a_sweep_that_was_stopped_goes_on_where_it_was(
    watcher: Watcher, fhir: httpx.Client, linked: str
) -> None:
    create(fhir, new_patient(SYSTEM, "p2"))
    watcher.daemon.deliver(OTHER, patient="p2")
    watcher.daemon.work()
    watcher.sweep.step(NIGHT, lambda: True)  # it is told to stop after the first one
    assert watcher.stats.swept.total() == 1
    watcher.restart()
    watcher.night(NIGHT + days(1))
    assert watcher.stats.swept.total() == 2


def test_the_patient_who_cannot_be_read_does_not_stop_the_others(
    watcher: Watcher, linked: str
) -> None:
    daemon = watcher.daemon
    (patient,) = daemon.ledger.links.patients("", PORTION)
    linker = daemon.pipeline.linker

    class Broken(Candidates):
        def of(self, patient_reference: str, studies: Collection[str] = ()) -> Evidence:
            if patient_reference == "Patient/broken":
                raise FhirServerError("a search was answered with a malformed Bundle")
            return super().of(patient_reference, studies)

    broken = replace(linker, candidates=Broken(daemon.client))
    watcher.sweep = replace(watcher.sweep, linker=lambda: broken)
    watcher.night()
    assert watcher.stats.swept == {"same": 1}
    asked = [patient, "Patient/broken", patient, patient]
    found = list(review(broken, asked, 2))
    assert [one.patient for one in found] == asked
    assert [one.error is None for one in found] == [True, False, True, True]


def test_a_sweep_in_which_everybody_fails_does_not_go_on(
    watcher: Watcher, fhir: httpx.Client, linked: str
) -> None:
    daemon = watcher.daemon
    create(fhir, new_patient(SYSTEM, "p2"))
    daemon.deliver(OTHER, patient="p2")
    daemon.work()

    class Broken(Candidates):
        def of(self, patient_reference: str, studies: Collection[str] = ()) -> Evidence:
            raise FhirServerError("HTTP 500 on bundle")

    linker = daemon.pipeline.linker
    broken = replace(linker, candidates=Broken(daemon.client))
    watcher.sweep = replace(watcher.sweep, linker=lambda: broken)
    with pytest.raises(FhirServerError):
        watcher.sweep.step(NIGHT, never)
    watcher.sweep = replace(watcher.sweep, linker=lambda: linker)
    watcher.night(NIGHT + timedelta(minutes=1))
    assert watcher.stats.swept == {"failed": 2, "same": 2}


def test_nothing_is_asked_of_a_server_that_is_down(watcher: Watcher, linked: str) -> None:
    watcher.pause.begin(FhirUnavailable("down"), NIGHT)
    watcher.sweep.step(NIGHT, never)
    assert watcher.stats.swept.total() == 0
    watcher.pause.end()
    watcher.night(NIGHT + timedelta(minutes=1))
