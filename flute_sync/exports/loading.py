"""From files to the spool, on all processors: what is read of a cut is small, and put in order."""

import os
import signal
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

from flute_sync.command_errors import InputMalformed, PatientsUnknown
from flute_sync.criteria_evidence import names_nobody, piece, reference_name, replaced_by
from flute_sync.errors import FluteSyncError
from flute_sync.exports.files import CUT_BYTES, Cut, cuts, files
from flute_sync.exports.resources import Named, Resource, resources
from flute_sync.exports.spool import Row, Spool, row
from flute_sync.fhir_elements import members

_ROWS: Final = 5000
ALONE_BYTES: Final = 32 * 1024 * 1024
"""Below this more processes would cost more than they bring."""
_WHOLE_BYTES: Final = 8 * CUT_BYTES
"""What is larger is not read as a whole by another process, but here, bit by bit."""

Tell = Callable[[int, int], None]
"""Called with how many bytes were read, and of how many."""


class Wanted(NamedTuple):
    """What is looked for: the members of a Group, and types of which everything is needed."""

    group: str | None
    whole: Collection[str]


@dataclass
class Batch:
    """What some resources say; ``patients`` are the members of the Group asked for."""

    rows: list[Row] = field(default_factory=list)
    aliases: list[tuple[str, str]] = field(default_factory=list)
    without_patient: int = 0
    patients: list[str] | None = None

    def add(self, named: Named, group: str | None, whole: Collection[str]) -> None:
        """Take what a resource says, of some types as a whole.

        Raises
        ------
        InputMalformed
            It holds text that is no Unicode.
        """
        resource = named.resource
        if named.alias is not None:
            self.aliases.append((named.alias, named.name))
        if group is not None and named.name == group:
            self.patients = (self.patients or []) + group_members(resource)
        found = piece(resource, named.name, whole)
        if found is not None:
            self.rows.append(row(found))
        elif names_nobody(resource):
            self.without_patient += 1
        survivor = replaced_by(resource) if resource["resourceType"] == "Patient" else None
        if survivor is not None:
            self.aliases.append((named.name, survivor))


_Answer = Batch | tuple[type[FluteSyncError], str]
"""What another process read, or what it failed with."""


def group_members(group: Resource) -> list[str]:
    """Return the Patients that are members of a Group now."""
    found = (
        reference_name(one.get("entity"))
        for one in members(group.get("member"))
        if one.get("inactive") is not True
    )
    return [one for one in found if one is not None and one.startswith(("Patient/", "urn:"))]


def load(
    path: Path,
    spool: Spool,
    tell: Tell,
    group: str | None = None,
    whole: Collection[str] = frozenset(),
) -> Batch:
    """Read all files of an export into the spool.

    Parameters
    ----------
    group
        ``Group/ID`` whose members are to be found too.
    whole
        Types of resources of which everything is needed.

    Returns what is not in the spool: how much names nobody, and the members of the Group.

    Raises
    ------
    InputUnreadable, InputMalformed, InputTooLarge, SpoolFailed
        Nothing of the export can be judged then.
    PatientsUnknown
        The Group is not in it.
    """
    work = list(cuts(files(path)))
    total, done = sum(one.bytes for one in work), 0
    found = Batch()
    for cut, batch in _read_all(work, total, Wanted(group, whole)):
        spool.add(batch.rows, batch.aliases)
        found.without_patient += batch.without_patient
        if batch.patients is not None:
            found.patients = (found.patients or []) + batch.patients
        if cut is not None:
            done += cut.bytes
            tell(done, total)
    if group is not None and found.patients is None:
        raise PatientsUnknown(f"{group} is not in the input")
    return found


def _read_all(work: list[Cut], total: int, wanted: Wanted) -> Iterator[tuple[Cut | None, Batch]]:
    processes = len(os.sched_getaffinity(0))
    if processes == 1 or total < ALONE_BYTES:
        for cut in work:
            yield from _read_here(cut, wanted)
        return
    large = [one for one in work if one.bytes > _WHOLE_BYTES]
    for cut in large:
        yield from _read_here(cut, wanted)
    rest = [one for one in work if one.bytes <= _WHOLE_BYTES]
    context = get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_ignore_interrupts)
    try:
        yield from _in_order(pool, rest, partial(_whole, wanted=wanted), 4 * processes)
    except BrokenProcessPool:
        raise FluteSyncError("a process that reads the input was ended") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, work: list[Cut], read: Callable[[Cut], Any], ahead: int
) -> Iterator[tuple[Cut, Batch]]:
    """Keep so many cuts in work, and no more: what was read would pile up."""
    waiting: deque[tuple[Cut, Future[_Answer]]] = deque()
    for cut in work:
        waiting.append((cut, pool.submit(read, cut)))
        if len(waiting) > ahead:
            yield _result(*waiting.popleft())
    while waiting:
        yield _result(*waiting.popleft())


def _result(cut: Cut, answer: "Future[_Answer]") -> tuple[Cut, Batch]:
    found = answer.result()
    if isinstance(found, Batch):
        return cut, found
    kind, detail = found
    raise kind(detail)


def _read_here(cut: Cut, wanted: Wanted) -> Iterator[tuple[Cut | None, Batch]]:
    batch = Batch()
    for named in resources(cut):
        _add(batch, named, cut, wanted)
        if len(batch.rows) >= _ROWS:
            yield None, batch
            batch = Batch()
    yield cut, batch


def _whole(cut: Cut, wanted: Wanted) -> _Answer:
    batch = Batch()
    try:
        for named in resources(cut):
            _add(batch, named, cut, wanted)
    except FluteSyncError as error:
        return type(error), error.detail
    return batch


def _add(batch: Batch, named: Named, cut: Cut, wanted: Wanted) -> None:
    try:
        batch.add(named, *wanted)
    except InputMalformed as error:
        raise InputMalformed(f"{cut.path.name}: {error.detail}") from None


def _ignore_interrupts() -> None:
    """Ctrl-C reaches every process; the one that was started says what is said."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
