"""What the ledger promises when processes die or work side by side, on SQLite and PostgreSQL."""

import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

from flute_sync.completeness import StudySettings
from flute_sync.intake import Delivery
from flute_sync.ledger import Ledger, LedgerSettings
from flute_sync.study import StudyInstanceUID
from tests.contract.ledger_site import QUIET, Site, received, synced

SENDER = """
import sys
from datetime import UTC, datetime, timedelta
from itertools import count
from flute_sync.completeness import StudySettings
from flute_sync.intake import Delivery
from flute_sync.ledger import Ledger, LedgerSettings
from tests.contract.ledger_site import received

ledger = Ledger.open(LedgerSettings(url=sys.argv[1]), StudySettings(), create=True)
for number in count(1):
    ledger.deliver(Delivery("stow_rs", "pacs", datetime.now(UTC), received([number])))
    print(number, flush=True)
"""

WORKER = """
import sys
from datetime import timedelta
from flute_sync.completeness import StudySettings
from flute_sync.events import Event
from flute_sync.ledger import Ledger, LedgerSettings, Settlement
from flute_sync.task import TaskEvent

ledger = Ledger.open(LedgerSettings(url=sys.argv[1]), StudySettings(), create=False)
sys.stdin.readline()
done = Settlement(TaskEvent.SYNC, "Done.", Event.STUDY_SYNCED)
while claimed := ledger.claim(sys.argv[2]):
    print(claimed.study_instance_uid, flush=True)
    ledger.settle(claimed, done)
"""


def _run(program: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_what_was_acknowledged_survives_kill_9(site: Site) -> None:
    with _run(SENDER, site.url) as sender:
        assert sender.stdout is not None
        acknowledged = 0
        while acknowledged < 50:
            acknowledged = int(sender.stdout.readline())
        sender.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, sender.stdout.read().split())])
    study = _in_real_time(site).claim("worker")
    assert study is not None
    held = {i.number for _, i in site.ledger.load(study).instances()}
    assert held >= set(range(1, acknowledged + 1))


def _in_real_time(site: Site) -> Ledger:
    """A process whose clock is ahead of everybody's quiet period."""
    site.clock.now = datetime.now(UTC) + timedelta(hours=1)
    return site.ledger


def test_two_processes_never_hold_one_study(site: Site) -> None:
    site.clock.now = datetime.now(UTC) - QUIET
    uids = [StudyInstanceUID(f"1.2.{number}") for number in range(60)]
    site.deliver(tuple(received([1], study=uid)[0] for uid in uids))
    workers = [_run(WORKER, site.url, f"worker{number}") for number in range(3)]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    claimed = [uid for worker in workers for uid in worker.communicate(timeout=120)[0].split()]
    assert sorted(claimed) == sorted(uids)
    assert site.ledger.status(site.clock.now).counts["completed"] == len(uids)


def test_a_worker_killed_by_9_is_replaced(site: Site) -> None:
    site.clock.now = datetime.now(UTC) - QUIET
    site.deliver(received([1]))
    holder = WORKER.replace("    ledger.settle(claimed, done)", "    sys.stdin.readline()")
    with _run(holder, site.url, "dead") as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
        assert worker.stdout.readline().strip() == "1.2.3"
        worker.kill()
    site.clock.now = datetime.now(UTC)
    assert site.ledger.claim("alive") is None
    site.clock.pass_(timedelta(seconds=30))
    claimed = site.ledger.claim("alive")
    assert claimed is not None
    site.ledger.settle(claimed, synced())


def test_many_senders_at_once(site: Site) -> None:
    ledger = site.ledger
    errors: list[BaseException] = []

    def send(sender: int) -> None:
        try:
            for number in range(15):
                items = received([sender * 100 + number]) + received([number], series=sender)
                ledger.deliver(Delivery("stow_rs", "pacs", site.clock.now, items))
        except BaseException as error:  # noqa: BLE001  the test's own thread raises it
            errors.append(error)

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(2, 12)]
    for thread in senders:
        thread.start()
    for thread in senders:
        thread.join(60)
    assert errors == []
    assert site.view().instances == 10 * 15 * 2
    assert ledger.alive()


def test_two_processes_deliver_to_the_same_studies(site: Site) -> None:
    ledgers = [site.open(), site.open()]
    uids = [StudyInstanceUID(f"1.2.{number}") for number in range(8)]
    errors: list[BaseException] = []

    def send(ledger: Ledger, order: int, start: int) -> None:
        try:
            for number in range(start, start + 10):
                items = tuple(received([number], study=uid)[0] for uid in uids[::order])
                ledger.deliver(Delivery("stow_rs", "pacs", site.clock.now, items))
        except BaseException as error:  # noqa: BLE001  the test's own thread raises it
            errors.append(error)

    senders = [
        threading.Thread(target=send, args=(ledger, order, start))
        for ledger, order, start in zip(ledgers, (1, -1), (0, 5), strict=True)
    ]
    for thread in senders:
        thread.start()
    for thread in senders:
        thread.join(120)
    assert errors == []
    assert site.ledger.status(site.clock.now).instances == 8 * 15


def test_settings_of_a_real_process(site: Site) -> None:
    """The default clock, the default settings, one whole round."""
    ledger = Ledger.open(
        LedgerSettings(url=site.url), StudySettings(quiet_period=timedelta(0)), create=True
    )
    try:
        ledger.bind_target("http://fhir.example")
        ledger.deliver(Delivery("stow_rs", "pacs", datetime.now(UTC), received([1])))
        claimed = ledger.claim("worker")
        assert claimed is not None
        assert ledger.settle(claimed, synced()) == "completed"
    finally:
        ledger.close()
