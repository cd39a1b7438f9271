"""C-STORE into flute-sync (mode index, the real ledger) against other receivers.

Usage: ``python -m bench.c_store [--seconds S] [--rounds N]``. The sender is dcmtk's storescu, one
process for each association, with TCP_NODELAY=1 and as Debian has it (Nagle's algorithm on). Every
receiver is a process of its own; they take turns, so that what else the machine does hits all
alike. The others: pynetdicom doing nothing, Orthanc, and dcmtk's storescp writing to disk.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.figures import Figure, table
from bench.parties import Party, empty, orthanc_in
from bench.sender import Sender
from bench.store_parties import AE_TITLE, party

GOALS: Final[Mapping[str, float]] = {"storescp": 0.7, "orthanc": 1.0}
OTHERS: Final = ("storescp", "orthanc", "nothing")
SHARED_MEMORY: Final = Path("/dev/shm")
SIZES: Final = {"512 KiB": (512 * 1024, 240), "10 KiB": (10 * 1024, 800)}
SLOW: Final = 4
"""Receivers that are slow are sent so many times fewer instances."""
NAGLE_INSTANCES: Final = 40


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    found: list[Figure] = []
    try:
        for figure in figures(parser.parse_args().rounds):
            found.append(figure)  # noqa: PERF402  what was measured before a fault is printed
    finally:
        print(table(found))


def figures(rounds: int = 5) -> Iterator[Figure]:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="flute-sync-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        parties = {
            kind: stack.enter_context(party(kind, folder))
            for kind in ("lean", "pynetdicom", "nothing", "storescp")
        }
        if SHARED_MEMORY.is_dir():
            memory = tempfile.TemporaryDirectory(prefix="flute-sync-bench-", dir=SHARED_MEMORY)
            parties["memory"] = stack.enter_context(
                party("memory", Path(stack.enter_context(memory)))
            )
        parties["orthanc"] = stack.enter_context(orthanc_in(folder / "orthanc"))
        for size, (pixel_bytes, instances) in SIZES.items():
            bench = Bench(parties, folder, Sender(pixel_bytes), size)
            for associations in (1, 4):
                yield from bench.compared(instances, associations, rounds)
            yield bench.nagle(rounds)


class Bench:
    """Instances of one size, sent to everybody."""

    def __init__(
        self, parties: Mapping[str, Party], folder: Path, sender: Sender, size: str
    ) -> None:
        self._parties = parties
        self._folder = folder
        self._sender = sender
        self._size = size

    def compared(self, instances: int, associations: int, rounds: int) -> Iterator[Figure]:
        """Send to all in turns, and compare the rates."""
        rates: dict[str, list[float]] = {kind: [] for kind in self._parties}
        costs = []
        for turn in range(rounds):
            kinds = list(rates)
            for kind in kinds[turn % len(kinds) :] + kinds[: turn % len(kinds)]:
                count = instances if kind in _QUICK else instances // SLOW
                before = self._parties[kind].cpu()
                rates[kind].append(self._rate(kind, count, associations, nodelay=True))
                if kind == "lean":
                    costs.append((self._parties[kind].cpu() - before) / count * 1e3)
        for other in (name for name in _NAMES if name in rates):
            ratios = [a / b for a, b in zip(rates["lean"], rates[other], strict=True)]
            yield Figure(
                f"C-STORE, {self._size}, {associations} association(s), against {_NAMES[other]}",
                statistics.median(ratios),
                at_least=GOALS.get(other),
                detail=f"{statistics.median(rates['lean']):.0f} to "
                f"{statistics.median(rates[other]):.0f} instances/s, "
                f"{statistics.median(costs):.2f} ms CPU each, "
                f"ratios {min(ratios):.2f} to {max(ratios):.2f}",
            )

    def nagle(self, rounds: int) -> Figure:
        """Send as Debian's dcmtk does unasked."""
        rates = {
            kind: statistics.median(
                self._rate(kind, NAGLE_INSTANCES, 1, nodelay=False) for _ in range(min(rounds, 3))
            )
            for kind in ("lean", "orthanc", "nothing")
        }
        others = ", ".join(f"{_NAMES[kind]} {1e3 / rates[kind]:.1f} ms" for kind in OTHERS[1:])
        return Figure(
            f"C-STORE, {self._size}, a sender with Nagle on, each instance",
            1e3 / rates["lean"],
            "ms",
            at_most=20,
            detail=others,
        )

    def _rate(self, kind: str, count: int, associations: int, *, nodelay: bool) -> float:
        """Send instances that nobody has seen before; return how many a second were taken."""
        called = "ORTHANC" if kind == "orthanc" else AE_TITLE
        port = self._parties[kind].dicom_port
        folders = [self._written(number, count // associations) for number in range(associations)]
        environment = {**os.environ, "TCP_NODELAY": "1"} if nodelay else None
        command = ["storescu", "-R", "-aec", called, "127.0.0.1", str(port), "+sd"]
        began = time.perf_counter()
        senders = [subprocess.Popen([*command, str(one)], env=environment) for one in folders]
        codes = [sender.wait() for sender in senders]
        took = time.perf_counter() - began
        assert codes == [0] * associations, f"{kind}: {codes}"
        self._clean(kind, folders)
        return count / took

    def _written(self, number: int, count: int) -> Path:
        folder = self._folder / f"to-send-{number}"
        folder.mkdir()
        for name in range(count):
            (folder / f"{name}.dcm").write_bytes(self._sender.file())
        return folder

    def _clean(self, kind: str, folders: list[Path]) -> None:
        for folder in folders:
            shutil.rmtree(folder)
        if kind == "orthanc":
            empty(self._parties[kind])
        if kind == "storescp":
            for file in (self._folder / "disk").iterdir():
                file.unlink()


_QUICK: Final = ("lean", "memory", "storescp")
_NAMES: Final = {
    "storescp": "storescp to disk",
    "orthanc": "Orthanc",
    "nothing": "pynetdicom doing nothing",
    "pynetdicom": "our pynetdicom path",
    "memory": "itself without waiting for the disk",
}


if __name__ == "__main__":
    main()
