"""The sync step into a real HAPI FHIR server: ``python -m bench.sync [--rounds N]``.

Our side is the daemon's own workers, pipeline and ledger, with the ledger filled before the clock
starts. The other side is a loop over as many connections that sends, for other studies, the same
requests with bodies made before: what it takes is the server's time and the client library's. The
two take turns. The server is HAPI with all search parameters, on the same processor.
"""

import argparse
import gc
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from bench.figures import Figure, table
from bench.sync_bare import Bare, Recorder
from bench.sync_ours import RESOURCE_OF_PATIENT, Ours, instances_of
from flute_sync.events import Event
from tests.services.hapi import Hapi

WORKERS: Final = 4
JVM_OPTIONS: Final = ("-Xmx6g", "-XX:+UseSerialGC")
PHASES: Final = ("new", "changed", "unchanged")
MOST_REQUESTS: Final = {"new": 3, "changed": 2, "unchanged": 1}
GOAL: Final = 0.9


@dataclass(frozen=True, slots=True)
class Size:
    """Studies of one kind, and how many of them make a round."""

    name: str
    series: int
    instances: int
    studies: int


SMALL: Final = Size("20 instances", 1, 20, 80)
LARGE: Final = Size("5,000 instances", 10, 500, 4)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    print(table(figures(parser.parse_args().rounds)))


def figures(rounds: int = 5) -> Iterator[Figure]:
    """Measure studies of both sizes, each on a server of its own."""
    gc.freeze()  # as ``flute-sync`` does
    for size in (SMALL, LARGE):
        with tempfile.TemporaryDirectory(prefix="flute-sync-bench-") as name:
            hapi = Hapi(Path(name), jvm_options=JVM_OPTIONS)
            hapi.start()
            try:
                _put_patient(hapi.base_url)
                yield from Comparison(hapi.base_url, Path(name), size).figures(rounds)
            finally:
                hapi.stop()


def _put_patient(base_url: str) -> None:
    httpx.post(f"{base_url}/Patient", json=RESOURCE_OF_PATIENT, timeout=60).raise_for_status()


class Comparison:
    """Both sides with studies of one size."""

    def __init__(self, base_url: str, folder: Path, size: Size) -> None:
        self._base_url, self._folder, self._size = base_url, folder, size
        self._used = 0
        self._ratios: dict[str, list[float]] = {phase: [] for phase in PHASES}
        self._rates: dict[str, list[float]] = {phase: [] for phase in PHASES}
        self._requests: dict[str, float] = {}

    def figures(self, rounds: int) -> Iterator[Figure]:
        """Take turns, the first turn to warm up."""
        with self._bare() as bare, Ours(self._base_url, self._folder, WORKERS, None) as ours:
            ours.requests()
            for turn in range(rounds + 1):
                self._turn(ours, bare, counts=turn > 0)
        for phase in PHASES:
            ratio = statistics.median(self._ratios[phase])
            low, high = min(self._ratios[phase]), max(self._ratios[phase])
            rate = statistics.median(self._rates[phase])
            name = f"sync, {phase}, {self._size.name}"
            detail = f"{rate:.1f} studies/s, ratios {low:.2f} to {high:.2f}"
            yield Figure(name, ratio, at_least=GOAL, detail=detail)
            yield Figure(f"{name}: requests", self._requests[phase], at_most=MOST_REQUESTS[phase])

    def _bare(self) -> Bare:
        """Record the requests of one study."""
        recorder = Recorder()
        folder = self._folder / "model"
        folder.mkdir()
        with Ours(self._base_url, folder, 1, recorder) as ours:
            (number,) = self._numbers(1)
            ours.deliver(
                instances_of(number, self._size.series, range(1, self._size.instances + 1))
            )
            recorder.take()
            recorded = {}
            for phase in PHASES:
                self._our_phase(ours, phase, [number])
                recorded[phase] = recorder.take()
            model_id = next(one.url for one in recorded["changed"] if one.method == "PUT")
        return Bare(recorded, number, model_id.rpartition("/")[2], WORKERS)

    def _turn(self, ours: Ours, bare: Bare, *, counts: bool) -> None:
        mine, theirs = self._numbers(self._size.studies), self._numbers(self._size.studies)
        for number in mine:
            ours.deliver(
                instances_of(number, self._size.series, range(1, self._size.instances + 1))
            )
        for phase in PHASES:
            seconds = self._our_phase(ours, phase, mine)
            requests = ours.requests() / len(mine)
            bare_seconds = bare.run(phase, theirs)
            if counts:
                self._requests[phase] = requests
                self._rates[phase].append(len(mine) / seconds)
                self._ratios[phase].append(bare_seconds / seconds)

    def _our_phase(self, ours: Ours, phase: str, numbers: list[int]) -> float:
        one_more = range(self._size.instances + 1, self._size.instances + 2)
        for number in numbers:
            if phase == "changed":
                ours.deliver(instances_of(number, 1, one_more))
            elif phase == "unchanged":
                ours.ask_again(number)
        unchanged = phase == "unchanged"
        return ours.work_off(
            len(numbers), Event.STUDY_UNCHANGED if unchanged else Event.STUDY_SYNCED
        )

    def _numbers(self, count: int) -> list[int]:
        self._used += count
        return list(range(self._used - count, self._used))


if __name__ == "__main__":
    main()
