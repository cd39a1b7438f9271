"""What watching an archive of 100,000 studies takes of our processor.

Usage: ``python -m bench.watch [--studies N]``. The archive is a process of its own that answers
from memory: studies of ten years, evenly. Ours are the pollers, the sweep and a ledger that knows
every study, at the default intervals; only our own processor time counts.
"""

import argparse
import multiprocessing
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

import orjson
import uvicorn
from starlette.types import Receive, Scope, Send

from bench.figures import Figure, table
from bench.parties import listens
from flute_sync.completeness import StudySettings
from flute_sync.intake import Delivery, Received
from flute_sync.ledger import Ledger, LedgerSettings
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.change_feed import ChangeFeedPoller
from flute_sync.sources.change_feed_settings import ChangeFeedSettings
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.orthanc_changes import OrthancChangesPoller
from flute_sync.sources.orthanc_settings import OrthancChangesSettings
from flute_sync.sources.poller import Poller, batches
from flute_sync.sources.poller_settings import QidoRsSettings
from flute_sync.sources.qido_listing import QidoListing
from flute_sync.sources.qido_rs import QidoRsPoller
from flute_sync.sources.sweep import Sweep
from flute_sync.sources.sweep_settings import SweepSettings
from flute_sync.study import Header, Instance, SeriesInstanceUID, SOPInstanceUID, StudyInstanceUID
from tests.acceptance.site import eventually, free_port

STUDIES: Final = 100_000
MOST_PERCENT: Final = 1
DAYS: Final = 3650
DAY_SECONDS: Final = 86_400


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=STUDIES)
    print(table(figures(parser.parse_args().studies)))


def uid(number: int) -> str:
    """Return the UID of a study."""
    return f"1.2.826.0.1.3680043.8.498.{10**30 + number}"


class Pacs:
    """Answers study searches, Orthanc's feed and a DICOM change feed in which nothing happens."""

    def __init__(self, studies: int) -> None:
        first = datetime.now(UTC).date() - timedelta(days=DAYS)
        self.days = [
            f"{first + timedelta(days=number * DAYS // studies):%Y%m%d}"
            for number in range(studies)
        ]
        self.rows = [orjson.dumps(self._row(n, day)) for n, day in enumerate(self.days)]
        self.ids = [f"{number:040x}" for number in range(studies)]
        self.looks = 0

    @staticmethod
    def _row(number: int, day: str) -> dict[str, object]:
        values = {
            "00080020": ("DA", day),
            "00080030": ("TM", "101112"),
            "00080050": ("SH", f"A{number}"),
            "00080056": ("CS", "ONLINE"),
            "00080061": ("CS", "MR"),
            "00080090": ("PN", {"Alphabetic": "Referring^Physician"}),
            "00081030": ("LO", "MR Prostata mpMRI"),
            "00081190": ("UR", f"http://pacs/dicom-web/studies/{uid(number)}"),
            "00100010": ("PN", {"Alphabetic": "Example^Adam"}),
            "00100020": ("LO", f"P{number:08}"),
            "00100030": ("DA", "19500101"),
            "00100040": ("CS", "M"),
            "0020000D": ("UI", uid(number)),
            "00200010": ("SH", f"S{number}"),
            "00201206": ("IS", 1),
            "00201208": ("IS", 1),
        }
        return {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in values.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] == "lifespan":
            for told in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{told}.complete"})
            return
        body = self._answer(scope["path"], parse_qs(scope["query_string"].decode()))
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, path: str, query: dict[str, list[str]]) -> bytes:
        if path == "/dicom-web/studies":
            return self._search({key: value[0] for key, value in query.items()})
        if path.startswith("/dicom-web/changefeed"):
            entry = b'{"Sequence": 9, "StudyInstanceUid": "1.2", "Action": "create"}'
            return entry if path.endswith("latest") or int(query["offset"][0]) < 9 else b"[]"
        if path == "/changes":
            return b'{"Changes": [], "Done": true, "Last": 9}'
        if path == "/statistics":
            self.looks += 1  # another number each time: something seems gone
            counts = {"CountStudies": len(self.ids) - self.looks % 2, "CountSeries": 0}
            return orjson.dumps(counts | {"CountInstances": 0})
        since = int(query.get("since", ["0"])[0])
        end = since + int(query.get("limit", [str(len(self.ids))])[0])
        if "since" not in query:
            return orjson.dumps(self.ids)
        return orjson.dumps(
            [
                {"ID": self.ids[n], "MainDicomTags": {"StudyInstanceUID": uid(n)}}
                for n in range(since, min(end, len(self.ids)))
            ]
        )

    def _search(self, query: dict[str, str]) -> bytes:
        first, _, last = query.get("StudyDate", "-").partition("-")
        low, high = bisect_left(self.days, first), len(self.days)
        if last:
            high = bisect_right(self.days, last)
        start = low + int(query.get("offset", 0))
        end = min(high, start + int(query.get("limit", high)))
        return b"[" + b",".join(self.rows[start:end]) + b"]"


def _serve(studies: int, port: int) -> None:
    uvicorn.run(Pacs(studies), port=port, http="httptools", loop="uvloop", log_level="critical")


@contextmanager
def _pacs(studies: int) -> Iterator[str]:
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(studies, port))
    process.start()
    try:
        eventually(lambda: listens(port), what="the archive", within=60)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.join()


def figures(studies: int = STUDIES) -> Iterator[Figure]:
    """Measure each source, and what they take together."""
    with ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="flute-sync-bench-"))
        url = opened.enter_context(_pacs(studies))
        settings = LedgerSettings(url=f"sqlite:///{Path(folder)}/ledger.db")
        ledger = Ledger.open(settings, StudySettings(), create=True)
        opened.callback(ledger.close)
        _fill(ledger, studies)
        archive = Archive(ArchiveSettings(dicomweb_url=f"{url}/dicom-web"))
        opened.callback(archive.close)
        for name, percent, detail in _measured(url, archive, ledger, opened):
            yield Figure(
                f"processor, {studies:,} studies watched by {name}",
                percent,
                "%",
                at_most=MOST_PERCENT,
                detail=detail,
            )


def _measured(
    url: str, archive: Archive, ledger: Ledger, opened: ExitStack
) -> Iterator[tuple[str, float, str]]:
    polled = QidoRsSettings()
    qido = QidoRsPoller(polled, archive, ledger)
    sweep = Sweep(
        SweepSettings(enabled=True, rate=100_000), QidoListing(archive), archive.name, ledger
    )
    once, _ = _cpu(lambda: _swept(sweep))
    sweep.ask()
    again, seconds = _cpu(lambda: _swept(sweep))
    a_poll = _a_step(qido, 20)
    share = 100 * (a_poll / polled.interval.total_seconds() + again / DAY_SECONDS)
    detail = (
        f"a poll {1000 * a_poll:.0f} ms each {polled.interval.total_seconds():.0f} s; a nightly"
        f" sweep {again:.1f} s of processor time ({seconds:.0f} s), the first one {once:.1f} s"
    )
    yield "QIDO-RS and a nightly sweep", share, detail
    follow = OrthancChangesSettings(url=url)
    orthanc = OrthancChangesPoller(follow, archive.name, ledger)
    opened.callback(orthanc.close)
    a_step = _a_step(orthanc, 100)
    learnt, _ = _cpu(lambda: orthanc.step(datetime.now(UTC) + follow.removals))
    look, _ = _cpu(lambda: orthanc.step(datetime.now(UTC) + 2 * follow.removals))
    share = 100 * (
        a_step / follow.interval.total_seconds() + look / follow.removals.total_seconds()
    )
    detail = (
        f"a look at the feed {1000 * a_step:.1f} ms each 2 s; at all ids {look:.2f} s each 5 min,"
        f" {learnt:.2f} s the first time"
    )
    yield "Orthanc's feed, something gone all the time", share, detail
    listen = ChangeFeedSettings()
    feed = ChangeFeedPoller(
        listen, archive.settings.dicomweb_url, archive.name, archive.settings, ledger
    )
    opened.callback(feed.close)
    a_step = _a_step(feed, 50)
    share = 100 * a_step / listen.interval.total_seconds()
    yield "the DICOM change feed", share, f"a look {1000 * a_step:.1f} ms each 15 s"


def _fill(ledger: Ledger, studies: int) -> None:
    """Let the ledger hold an instance of every study."""
    header = Header(sop_class_uid="1.2.840.10008.5.1.4.1.1.4")
    received = (
        Received(
            StudyInstanceUID(uid(n)),
            SeriesInstanceUID(f"{uid(n)}.1"),
            Instance(SOPInstanceUID(f"{uid(n)}.1.1"), 1, header),
        )
        for n in range(studies)
    )
    for some in batches(received, 1000):
        ledger.deliver(Delivery("stow_rs", "pacs", datetime.now(UTC), received=some))


def _swept(sweep: Sweep) -> None:
    sweep.step(datetime.now(UTC))
    while sweep.interval != timedelta(minutes=1):
        sweep.step(datetime.now(UTC))


def _a_step(poller: Poller, times: int) -> float:
    poller.step(datetime.now(UTC))
    used, _ = _cpu(lambda: [poller.step(datetime.now(UTC)) for _ in range(times)])
    return used / times


def _cpu(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of our processor, and of the clock."""
    used, began = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - used, time.perf_counter() - began


if __name__ == "__main__":
    main()
