"""From files to the spool, on all processors: what is read of a cut is small, and put in order."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from flute_sync.command_errors import InputMalformed, PatientsUnknown
from flute_sync.criteria_evidence import names_nobody, other_names, patient_name, piece
from flute_sync.exports.files import CUT_BYTES, Cut, cuts, files
from flute_sync.exports.pool import in_order, processors
from flute_sync.exports.resources import Named, Resource, resources
from flute_sync.exports.spool import Row, Spool, row
from flute_sync.fhir_elements import members
from flute_sync.link_case import newest

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


class Group(NamedTuple):
    """The members of a Group, and what says how new that is."""

    order: tuple[int, str]
    patients: list[str]


@dataclass
class Batch:
    """What some resources say; ``group`` is the newest copy of the Group asked for.

    ``deleted`` are names, each with when.
    """

    rows: list[Row] = field(default_factory=list)
    deleted: list[tuple[str, str]] = field(default_factory=list)
    aliases: list[tuple[str, str]] = field(default_factory=list)
    without_patient: int = 0
    group: Group | None = None

    def add(self, named: Named, group: str | None, whole: Collection[str]) -> None:
        """Take what a resource says, of some types as a whole.

        Raises
        ------
        InputMalformed
            It holds text that is no Unicode.
        """
        resource = named.resource
        if named.is_deleted:
            self.deleted.append((named.name, str(resource["meta"]["lastUpdated"])))
            return
        if group is not None and named.name == group:
            self.group = _newer(self.group, Group(newest(resource), group_members(resource)))
        found = piece(resource, named.name, whole)
        if found is not None:
            self.rows.append(row(found, named.alias))
        elif names_nobody(resource):
            self.without_patient += 1
        if resource["resourceType"] == "Patient":
            if named.alias is not None:
                self.aliases.append((named.alias, named.name))
            self.aliases += other_names(resource, named.name)


def _newer(one: Group | None, other: Group | None) -> Group | None:
    """Return the newer of two copies; of those that nothing orders, the members of both."""
    if one is None or other is None:
        return one or other
    if one.order == other.order:
        return Group(one.order, one.patients + other.patients)
    return max(one, other)


def group_members(group: Resource) -> list[str]:
    """Return the Patients that are members of a Group now."""
    found = (
        patient_name(one.get("entity"), group)
        for one in members(group.get("member"))
        if one.get("inactive") is not True
    )
    return [one for one in found if one is not None]


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
        spool.add(batch.rows, batch.aliases, batch.deleted)
        found.without_patient += batch.without_patient
        found.group = _newer(found.group, batch.group)
        if cut is not None:
            done += cut.bytes
            tell(done, total)
    if group is not None and found.group is None:
        raise PatientsUnknown(f"{group} is not in the input")
    return found


def _read_all(work: list[Cut], total: int, wanted: Wanted) -> Iterator[tuple[Cut | None, Batch]]:
    if processors() == 1 or total < ALONE_BYTES:
        for cut in work:
            yield from _read_here(cut, wanted)
        return
    large = [one for one in work if one.bytes > _WHOLE_BYTES]
    for cut in large:
        yield from _read_here(cut, wanted)
    rest = [one for one in work if one.bytes <= _WHOLE_BYTES]
    yield from in_order(partial(_whole, wanted=wanted), rest)


def _read_here(cut: Cut, wanted: Wanted) -> Iterator[tuple[Cut | None, Batch]]:
    batch = Batch()
    for named in resources(cut):
        _add(batch, named, cut, wanted)
        if len(batch.rows) >= _ROWS:
            yield None, batch
            batch = Batch()
    yield cut, batch


def _whole(cut: Cut, wanted: Wanted) -> Batch:
    batch = Batch()
    for named in resources(cut):
        _add(batch, named, cut, wanted)
    return batch


def _add(batch: Batch, named: Named, cut: Cut, wanted: Wanted) -> None:
    try:
        batch.add(named, *wanted)
    except InputMalformed as error:
        raise InputMalformed(f"{cut.path.name}: {error.detail}") from None
