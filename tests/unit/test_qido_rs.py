"""The poller of the study search: the right window, all studies, one commit with the cursor."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import httpx
import orjson
import pytest

from flute_sync.archive_errors import ArchiveCapabilityMissing, ArchiveUnavailable
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.poller_settings import QidoRsSettings
from flute_sync.sources.qido_rs import QidoRsPoller
from flute_sync.study import StudyInstanceUID
from tests.intake import MemoryIntake

NOW = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)


def row(uid, instances=3, **more):
    found = {
        "00201206": {"vr": "IS", "Value": [1]},
        "00201208": {"vr": "IS", "Value": [instances]},
    }
    if uid is not None:
        found["0020000D"] = {"vr": "UI", "Value": [uid]}
    return found | more


class Pacs:
    def __init__(self, *rows, status: int = 200) -> None:
        self.rows, self.status = list(rows), status
        self.windows: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = parse_qs(request.url.query.decode())
        self.windows += query.get("StudyDate", [])
        if self.status != 200:
            return httpx.Response(self.status)
        start, limit = (int(query.get(name, ["0"])[0]) for name in ("offset", "limit"))
        return httpx.Response(200, content=orjson.dumps(self.rows[start : start + limit]))


def poller(pacs, intake, zone=None, page_size=500, **settings) -> QidoRsPoller:
    archive = Archive(
        ArchiveSettings(dicomweb_url="http://pacs/dicom-web", page_size=page_size),
        transport=httpx.MockTransport(pacs),
        clock=lambda: NOW,
    )
    return QidoRsPoller(QidoRsSettings(**settings), archive, intake, zone)


@pytest.fixture
def intake() -> MemoryIntake:
    return MemoryIntake()


def test_every_study_is_noticed_with_what_was_said_of_it(intake):
    pacs = Pacs(row("1.2.1"), row("1.2.2"))
    poll = poller(pacs, intake)
    poll.step(NOW)
    first = intake.take()
    poll.step(NOW)
    assert first == intake.take()
    pacs.rows[1] = row("1.2.2", instances=4)
    poll.step(NOW)
    second = intake.take()
    assert first.keys() == second.keys() == {"1.2.1", "1.2.2"}
    assert first["1.2.1"] == second["1.2.1"]
    assert first["1.2.2"] != second["1.2.2"]


def test_the_fingerprint_is_the_one_that_a_read_brings(intake):
    pacs = Pacs(row("1.2.1"))
    poll = poller(pacs, intake)
    poll.step(NOW)
    row_read = poll._archive.counts(StudyInstanceUID("1.2.1"))
    assert row_read is not None
    assert intake.take() == {"1.2.1": row_read.fingerprint}


@pytest.mark.parametrize(
    ("zone", "since"),
    [(None, "20261114"), ("Europe/Rome", "20261115"), ("America/New_York", "20261114")],
)
def test_the_window_begins_a_day_before_the_local_day_of_the_lookback(intake, zone, since):
    pacs = Pacs()
    poller(pacs, intake, zone and ZoneInfo(zone), lookback="P7D").step(NOW)
    assert pacs.windows == [f"{since}-"]


def test_after_a_pause_the_window_begins_before_the_last_complete_poll(intake):
    pacs = Pacs()
    poll = poller(pacs, intake, lookback="P7D")
    poll.step(NOW)
    poll.step(NOW + timedelta(days=20))
    poll.step(NOW + timedelta(days=21))
    assert pacs.windows == ["20261114-", "20261114-", "20261204-"]


def test_a_clock_that_goes_back_does_not_shorten_the_window(intake):
    pacs = Pacs()
    poll = poller(pacs, intake, lookback="P7D")
    poll.step(NOW)
    poll.step(NOW - timedelta(days=3))
    assert pacs.windows[-1] == "20261111-"


def test_many_studies_come_in_batches_and_the_cursor_with_the_last(intake):
    poll = poller(Pacs(*(row(f"1.2.{n}") for n in range(25))), intake, page_size=7, batch_size=10)
    poll.step(NOW)
    assert [len(delivery.noticed) for delivery in intake.deliveries] == [10, 10, 5]
    assert [delivery.cursor is None for delivery in intake.deliveries] == [True, True, False]
    assert len(intake.take()) == 25


def test_an_empty_window_moves_the_cursor(intake):
    poller(Pacs(), intake).step(NOW)
    assert intake.cursors == {("qido_rs", "pacs"): "2026-11-22T23:30:00+00:00"}


def test_two_rows_of_one_study_are_one_notice_wherever_they_stand(intake):
    other = row("1.2.1", **{"00100020": {"vr": "LO", "Value": ["B"]}})
    rows = [row("1.2.1"), *(row(f"1.3.{n}") for n in range(9)), other]
    poller(Pacs(*rows), intake, page_size=4).step(NOW)
    once = [one for one in intake.noticed if one.study_instance_uid == "1.2.1"]
    first = intake.take()
    poller(Pacs(*reversed(rows)), intake, page_size=4).step(NOW)
    assert len(once) == 1
    assert first == intake.take()


def test_rows_without_a_usable_uid_are_remarked_once(intake, caplog):
    pacs = Pacs(row(None), row("x/y"), row("1.2.1"))
    poll = poller(pacs, intake)
    poll.step(NOW)
    poll.step(NOW)
    assert list(intake.take()) == ["1.2.1"]
    assert [record.event for record in caplog.records] == ["study.remark"]


def test_a_poll_that_fails_moves_no_cursor(intake):
    pacs = Pacs(row("1.2.1"), status=503)
    poll = poller(pacs, intake)
    with pytest.raises(ArchiveUnavailable):
        poll.step(NOW)
    intake.failure = LedgerUnavailable()
    pacs.status = 200
    with pytest.raises(LedgerUnavailable):
        poll.step(NOW)
    assert (intake.cursors, intake.deliveries) == ({}, [])


def test_a_server_without_search_says_so(intake):
    with pytest.raises(ArchiveCapabilityMissing):
        poller(Pacs(status=404), intake).step(NOW)


def test_a_poll_that_is_stopped_moves_no_cursor(intake):
    pacs = Pacs(*(row(f"1.2.{n}") for n in range(9)))
    poller(pacs, intake, page_size=2).step(NOW, lambda: True)
    assert len(pacs.windows) == 1
    assert intake.cursors == {}
    answers = iter([False, False, True])
    poller(pacs, intake, batch_size=3).step(NOW, lambda: next(answers))
    assert intake.cursors == {}


def test_a_server_that_refuses_large_answers_is_asked_for_a_few_days_at_a_time(intake):
    class Strict(Pacs):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            (window,) = parse_qs(request.url.query.decode()).get("StudyDate", ["20261115"])
            first, _, last = window.partition("-") if "-" in window else (window, "", window)
            found = [
                one for one in self.rows if first <= one["00080020"]["Value"][0] <= (last or "9")
            ]
            if len(found) > 5:
                self.windows.append(window)
                return httpx.Response(413)
            return Pacs(*found)(request)

    days = [f"202611{day}" for day in (15, 16, 17, 18, 19, 20, 21, 22)]
    rows = [
        row(f"1.2.{day}.{n}", **{"00080020": {"vr": "DA", "Value": [day]}})
        for day in days
        for n in range(3)
    ]
    pacs = Strict(*rows)
    poll = poller(pacs, intake)
    poll.step(NOW)
    first = intake.take()
    assert len(first) == 24
    poll.step(NOW)
    assert intake.take() == first
    assert pacs.windows.count("20261114-") == 3  # at once, and where the windows begin
    alone = poll._archive.counts(StudyInstanceUID("1.2.20261115.0"))
    assert alone is not None
    assert first["1.2.20261115.0"] == alone.fingerprint
