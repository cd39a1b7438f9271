"""STOW-RS through flute-sync against straight to Orthanc, and against a receiver that drops all.

Usage: ``python -m bench.stow_rs [--instances N] [--rounds N]``. Every party is a process of its
own; the two ways alternate, so that what else the machine does hits both alike. The ledger is the
real one, on SQLite. The bare receiver is uvicorn as it comes, with our multipart parser.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, table
from bench.parties import Party, empty, orthanc_in, party
from bench.sender import Sender

INDEX_GOAL = 0.8
FORWARD_GOAL = 0.9


@dataclass(frozen=True, slots=True)
class Pair:
    """Ours, who it is measured against, the goal, and what to do after each upload."""

    mode: str
    ours: Party
    other: Party
    goal: float
    between: Callable[[], None] = lambda: None


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(table(figures(options.instances, options.rounds)))


def figures(instances: int = 200, rounds: int = 5) -> Iterator[Figure]:
    """Measure both modes."""
    with tempfile.TemporaryDirectory(prefix="flute-sync-bench-") as name:
        folder = Path(name)
        with party("index", folder) as index, party("bare", folder) as bare:
            yield from _compared(Pair("index", index, bare, INDEX_GOAL), instances, rounds)
        with orthanc_in(folder / "orthanc") as orthanc:
            address = f"http://127.0.0.1:{orthanc.port}"
            with party("forward", folder, address) as forward:
                pair = Pair("forward", forward, orthanc, FORWARD_GOAL, lambda: empty(orthanc))
                yield from _compared(pair, instances, rounds)


def _compared(pair: Pair, instances: int, rounds: int) -> Iterator[Figure]:
    sender = Sender()
    for per_request, clients in ((1, 1), (1, 4), (100, 1), (100, 4)):
        count = instances * 2 if (per_request, clients) == (100, 4) else instances
        ratios, rates, costs = [], [], []
        for turn in range(rounds):
            seconds = {}
            cpu = pair.ours.cpu()
            for one in (pair.ours, pair.other) if turn % 2 else (pair.other, pair.ours):
                seconds[one.port] = sender.run(one.port, count, per_request, clients)
                pair.between()
            costs.append((pair.ours.cpu() - cpu) / count * 1e3)
            rates.append(count / seconds[pair.ours.port])
            ratios.append(seconds[pair.other.port] / seconds[pair.ours.port])
        yield Figure(
            f"STOW-RS, {pair.mode}, {per_request} a request, {clients} client(s)",
            statistics.median(ratios),
            at_least=pair.goal,
            detail=f"{statistics.median(rates):.0f} instances/s, "
            f"{statistics.median(costs):.2f} ms CPU each, "
            f"ratios {min(ratios):.2f} to {max(ratios):.2f}",
        )


if __name__ == "__main__":
    main()
