"""The poller by C-FIND: all studies, whatever a PACS makes of limits, keys and associations."""

import itertools
import threading
from datetime import UTC, datetime, timedelta

import pytest

from flute_sync.archive_errors import (
    ArchiveAssociationRejected,
    ArchiveCapabilityMissing,
    ArchiveQueryRefused,
    ArchiveServerError,
    ArchiveTooSlow,
    ArchiveUnauthorized,
    ArchiveUnavailable,
)
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.find_archive import FindArchive
from flute_sync.sources.find_client import FindClient
from flute_sync.sources.find_scu import FindScuPoller
from flute_sync.sources.find_settings import FindScuSettings
from flute_sync.study import StudyInstanceUID
from tests.find_scp import NOON, FindScp, many, serving, study
from tests.intake import MemoryIntake
from tests.services.process import free_port


@pytest.fixture
def intake() -> MemoryIntake:
    return MemoryIntake()


def settings(port: int, **more) -> FindScuSettings:
    return FindScuSettings(port=port, ae_title="PACS", **more)


def poller(port: int, intake: MemoryIntake, **more) -> FindScuPoller:
    chosen = settings(port, **more)
    return FindScuPoller(chosen, "pacs", FindClient(chosen), intake)


def test_every_study_is_noticed_with_what_was_said_of_it(intake):
    pacs = FindScp([*study("1.2.1"), *study("1.2.2")])
    with serving(pacs) as port:
        poll = poller(port, intake)
        poll.step(NOON)
        first = intake.take()
        poll.step(NOON + timedelta(hours=2))
        assert first == intake.take()
        pacs.instances += study("1.2.2", series=3)[-1:]
        poll.step(NOON)
        second = intake.take()
    assert first.keys() == second.keys() == {"1.2.1", "1.2.2"}
    assert first["1.2.1"] == second["1.2.1"]
    assert first["1.2.2"] != second["1.2.2"]


def test_a_step_takes_one_association(intake):
    pacs = FindScp(many(130))
    with serving(pacs) as port:
        poller(port, intake, max_answers=60).step(NOON)
    assert len(pacs.queries) > 5
    assert pacs.associations == 1


@pytest.mark.parametrize("how", ["silent", "refused", "ended", "failed"])
def test_a_pacs_that_limits_its_answers_is_asked_in_smaller_windows(intake, how):
    pacs = FindScp(many(130, timedelta(minutes=45)), limit=60, how=how)
    with serving(pacs) as port:
        poll = poller(port, intake)
        poll.step(NOON)
        assert len(intake.take()) == 130
        poll.step(NOON)
        assert len(intake.take()) == 130


def test_a_pacs_without_limits_is_asked_to_stop(intake):
    pacs = FindScp(many(130))
    with serving(pacs) as port:
        poller(port, intake, max_answers=50).step(NOON)
    assert len(intake.take()) == 130
    assert pacs.cancelled > 0


def test_a_known_limit_needs_no_finding_out(intake):
    pacs = FindScp(many(45), limit=20)
    with serving(pacs) as port:
        poller(port, intake, max_answers=20).step(NOON)
    assert len(intake.take()) == 45


def test_optional_keys_that_are_not_supported_make_a_match_no_less(intake):
    with serving(FindScp(study("1.2.1"), pending=0xFF01)) as port:
        poller(port, intake).step(NOON)
    assert list(intake.take()) == ["1.2.1"]


def test_a_pacs_that_refuses_optional_keys_is_asked_for_the_others(intake):
    pacs = FindScp(study("1.2.1"), needs_few_keys=True)
    with serving(pacs) as port:
        poll = poller(port, intake)
        poll.step(NOON)
        once = len(pacs.queries)
        poll.step(NOON)
    assert set(intake.take()) == {"1.2.1"}
    assert len(pacs.queries) - once == once - 1


def test_a_pacs_that_ignores_the_date_does_no_harm(intake):
    pacs = FindScp(many(130, timedelta(days=2)), ignored=frozenset({"StudyDate", "StudyTime"}))
    with serving(pacs) as port:
        poller(port, intake).step(NOON)
    assert len(intake.take()) == 130
    assert len(pacs.queries) < 5


def test_a_study_under_two_patients_is_one_notice(intake):
    pacs = FindScp([*study("1.2.1"), *study("1.2.1", StudyID="2")])
    for one in pacs.instances[6:]:
        one.PatientID = "P2"
    with serving(pacs) as port:
        chosen = settings(port)
        client = FindClient(chosen)
        FindScuPoller(chosen, "pacs", client, intake).step(NOON)
        archive = FindArchive(ArchiveSettings(metadata="c-find"), client, clock=lambda: NOON)
        row = archive.counts(StudyInstanceUID("1.2.1"))
    assert row is not None
    assert len(intake.noticed) == 1
    assert intake.take() == {"1.2.1": row.fingerprint}
    assert row.instance_count == 12


@pytest.mark.parametrize(("days", "changed"), [(5, [0, 0, 1]), (0, [0, 1, 1])])
def test_where_no_counts_are_told_a_study_is_changed_now_and_then(intake, days, changed):
    missing = frozenset({"NumberOfStudyRelatedInstances"})
    pacs = FindScp(study("1.2.1", NOON - timedelta(days=days)), missing=missing)
    prints = []
    with serving(pacs) as port:
        poll = poller(port, intake)
        for minutes in (0, 5, 30, 60):
            poll.step(NOON + timedelta(minutes=minutes))
            prints.append(intake.take()["1.2.1"])
    pairs = itertools.pairwise(prints)
    assert [int(one != other) for one, other in pairs] == changed


def test_the_window_and_the_cursor_are_those_of_every_poller(intake):
    pacs = FindScp()
    with serving(pacs) as port:
        poller(port, intake, lookback="P7D").step(NOON)
    assert [one.StudyDate for one in pacs.queries] == ["20261112-20261121", "20261122-"]
    assert intake.cursors == {("find_scu", "pacs"): NOON.isoformat()}


def test_a_future_study_date_is_seen(intake):
    with serving(FindScp(study("1.2.1", datetime(2062, 1, 1, tzinfo=UTC)))) as port:
        poller(port, intake).step(NOON)
    assert list(intake.take()) == ["1.2.1"]


def test_a_pacs_that_dies_in_the_middle_moves_no_cursor_and_is_called_again(intake):
    pacs = FindScp(many(9), dies_after=4)
    with serving(pacs) as port:
        poll = poller(port, intake)
        with pytest.raises(ArchiveUnavailable):
            poll.step(NOON)
        assert (intake.cursors, intake.deliveries) == ({}, [])
        poll.step(NOON)
    assert len(intake.take()) == 9


def test_a_pacs_that_does_not_answer_in_time(intake):
    pacs = FindScp(study("1.2.1"), patience=threading.Event())
    with serving(pacs) as port:
        with pytest.raises(ArchiveTooSlow):
            poller(port, intake, answer_timeout="100ms").step(NOON)
        assert pacs.patience is not None
        pacs.patience.set()


def test_nobody_listens(intake):
    with pytest.raises(ArchiveUnavailable, match="no connection"):
        poller(free_port(), intake).step(NOON)


def test_a_pacs_that_does_not_know_us_says_so_as_to_credentials(intake):
    with serving(FindScp(calling=("OTHER",))) as port:
        with pytest.raises(ArchiveAssociationRejected, match="calling AE title") as caught:
            poller(port, intake).step(NOON)
        assert isinstance(caught.value, ArchiveUnauthorized)
        poller(port, intake, calling_ae_title="OTHER").step(NOON)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (0x0110, ArchiveServerError),
        (0x0122, ArchiveCapabilityMissing),
        (0x0124, ArchiveUnauthorized),
        (0xA700, ArchiveQueryRefused),
        (0xA900, ArchiveCapabilityMissing),
        (0xC000, ArchiveQueryRefused),
    ],
)
def test_what_a_pacs_answers_to_every_query_is_said(intake, status, error):
    pacs = FindScp(refuses={"STUDY": status})
    with serving(pacs) as port, pytest.raises(error):
        poller(port, intake).step(NOON)
    assert intake.cursors == {}
    assert len(pacs.queries) < 50


def test_a_poll_that_is_stopped_between_queries_delivers_nothing(intake):
    answers = iter([False, False, True])
    with serving(FindScp(many(130), limit=60)) as port:
        poller(port, intake).step(NOON, lambda: next(answers))
    assert (intake.cursors, intake.deliveries) == ({}, [])
