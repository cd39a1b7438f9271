"""Workers on a real ledger: what becomes of a study whose step could not be settled."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from flute_sync.daemon.pauses import ArchivePauses, Pause
from flute_sync.daemon.pipeline import Pipeline
from flute_sync.daemon.stats import Stats
from flute_sync.daemon.supervisor import Pulse
from flute_sync.daemon.workers import Workers
from flute_sync.ledger import Claim, Settlement
from flute_sync.retry import RetrySettings
from tests.acceptance.site import eventually
from tests.contract.ledger_site import Site, received, synced

LEASE = timedelta(seconds=20)


@dataclass
class Step:
    """Stands where the pipeline stands."""

    take: Callable[[Claim], Settlement]

    def step(self, claim: Claim) -> Settlement:
        return self.take(claim)

    @property
    def retry(self) -> RetrySettings:
        return RetrySettings()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def site(path: Path) -> Iterator[Site]:
    made = Site(f"sqlite:///{path}")
    made.open(busy_timeout="1s")
    yield made
    made.close()


def _workers(site: Site, take: Callable[[Claim], Settlement]) -> Workers:
    return Workers(
        ledger=site.ledger,
        owner="this process",
        pipeline=lambda: cast("Pipeline", Step(take)),
        fhir_pause=Pause("fhir"),
        archive_pauses=ArchivePauses(["pacs"]),
        stats=Stats(),
        clock=site.clock,
    )


def test_a_study_that_could_not_be_settled_is_taken_up_again(site: Site, path: Path) -> None:
    """Its lease must run out although the process lives and renews what it has in hand."""
    steps: list[str] = []
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def take(claim: Claim) -> Settlement:
        steps.append(claim.owner)
        if len(steps) == 1:
            other.execute("BEGIN IMMEDIATE")  # the ledger is busy while the step is settled
        return synced()

    stopping = threading.Event()
    workers = _workers(site, take)
    site.deliver(received([1]))
    site.clock.pass_(timedelta(minutes=1))
    thread = threading.Thread(target=workers.run, args=(Pulse(stopping),))
    thread.start()
    try:
        eventually(lambda: workers._ledger_pause.error, what="settling fails")
        other.execute("ROLLBACK")

        def taken_up() -> Any:
            workers.renew()
            site.clock.pass_(LEASE / 4)
            return len(steps) == 2

        eventually(taken_up, what="the second step")
        eventually(lambda: site.view().state == "completed")
    finally:
        stopping.set()
        thread.join(60)
        other.close()


def test_a_step_in_hand_keeps_its_study_and_hands_it_back(site: Site) -> None:
    began, end = threading.Event(), threading.Event()

    def take(_claim: Claim) -> Settlement:
        began.set()
        end.wait(60)
        return synced()

    stopping = threading.Event()
    workers = _workers(site, take)
    site.deliver(received([1]))
    site.clock.pass_(timedelta(minutes=1))
    thread = threading.Thread(target=workers.run, args=(Pulse(stopping),))
    thread.start()
    try:
        assert began.wait(60)
        for _ in range(8):
            workers.renew()
            site.clock.pass_(LEASE / 4)
            assert site.ledger.claim("other") is None
        stopping.set()
        workers.release()
        assert site.claim("other").study_instance_uid
    finally:
        stopping.set()
        end.set()
        thread.join(60)
