"""From files to the spool, on all processors: what is read of a cut is small, and put in order."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from flute_sync.command_errors import InputMalformed, PatientsUnknown
from flute_sync.criteria_evidence import (
    names_nobody,
    other_names,
    patient_name,
    piece,
    reference_name,
)
from flute_sync.exports.files import CUT_BYTES, Cut, cuts, files
from flute_sync.exports.pool import in_order, processors
from flute_sync.exports.resources import Named, Page, Resource, resources
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
    """What is looked for: whether Groups are, and types of which everything is needed."""

    groups: bool
    whole: Collection[str]


class Members(NamedTuple):
    """The members of a Group, by name: Patients, and Groups whose members are members, too."""

    patients: list[str]
    groups: list[str]


class Group(NamedTuple):
    """The members of a Group, and what says how new that is."""

    order: tuple[int, str]
    members: Members


@dataclass
class Batch:
    """What some resources say; ``groups`` are Groups by name, of each the newest copy.

    ``deleted`` are names, each with when. ``pages`` are addresses of pages, and ``following`` those
    that they name as the next.
    """

    rows: list[Row] = field(default_factory=list)
    deleted: list[tuple[str, str]] = field(default_factory=list)
    aliases: list[tuple[str, str]] = field(default_factory=list)
    without_patient: int = 0
    files_not_read: int = 0
    groups: dict[str, Group] = field(default_factory=dict)
    pages: set[str | None] = field(default_factory=set)
    following: set[str | None] = field(default_factory=set)

    @property
    def pages_missing(self) -> int:
        """How many pages are named as the next of another, and are not there."""
        return len(self.following - self.pages - {None})

    def turn(self, page: Page) -> None:
        """Take where a page stands among others."""
        self.pages.add(page.own)
        self.following.add(page.following)

    def add(self, named: Named, wanted: Wanted) -> None:
        """Take what a resource says.

        Raises
        ------
        InputMalformed
            It holds text that is no Unicode.
        """
        resource = named.resource
        if named.is_deleted:
            self.deleted.append((named.name, str(resource["meta"]["lastUpdated"])))
            return
        if wanted.groups and resource["resourceType"] == "Group":
            self.take({named.name: Group(newest(resource), group_members(resource))})
        found = piece(resource, named.name, wanted.whole)
        if found is not None:
            self.rows.append(row(found, named.alias))
        elif names_nobody(resource):
            self.without_patient += 1
        if resource["resourceType"] == "Patient":
            if named.alias is not None:
                self.aliases.append((named.alias, named.name))
            self.aliases += other_names(resource, named.name)

    def take(self, groups: Mapping[str, Group]) -> None:
        """Take copies of Groups."""
        for name, one in groups.items():
            known = self.groups.get(name)
            self.groups[name] = one if known is None else _newer(known, one)


def _newer(one: Group, other: Group) -> Group:
    """Return the newer of two copies; of those that nothing orders, the members of both."""
    if one.order == other.order:
        both = zip(one.members, other.members, strict=True)
        return Group(one.order, Members(*(mine + theirs for mine, theirs in both)))
    return max(one, other)


def group_members(group: Resource) -> Members:
    """Return who are members of a Group now.

    Raises
    ------
    PatientsUnknown
        One is a Group that cannot be found by what is said of it.
    """
    found = Members([], [])
    for one in members(group.get("member")):
        entity = one.get("entity")
        if one.get("inactive") is True or not isinstance(entity, dict):
            continue
        patient, name = patient_name(entity, group), reference_name(entity) or ""
        if entity.get("type") == "Group" or name.startswith("Group/"):
            found.groups.append(name)
        elif patient is not None:
            found.patients.append(patient)
    return found


def all_members(group: str, read: Callable[[str], Members | None], where: str) -> tuple[str, ...]:
    """Return the Patients of a Group, and of the Groups in it, each once.

    Parameters
    ----------
    read
        Finds the members of a Group.
    where
        What it finds them in, as people call it.

    Raises
    ------
    PatientsUnknown
        One of the Groups is not there, or is not referred to.
    """
    waiting, found = {group: None}, dict[str, None]()
    seen: set[str] = set()
    while waiting:
        name, _ = waiting.popitem()
        seen.add(name)
        known = read(name) if name else None
        if known is None:
            raise PatientsUnknown(f"{name or 'a Group without a reference'} is not {where}")
        found |= dict.fromkeys(known.patients)
        waiting |= {one: None for one in known.groups if one not in seen}
    return tuple(found)


def load(
    path: Path,
    spool: Spool,
    tell: Tell,
    groups: bool = False,
    whole: Collection[str] = frozenset(),
) -> Batch:
    """Read all files of an export into the spool.

    Parameters
    ----------
    groups
        Whether the members of Groups are to be found too.
    whole
        Types of resources of which everything is needed.

    Returns what is not in the spool: how much names nobody, what was not there, and the Groups.

    Raises
    ------
    InputUnreadable, InputMalformed, InputTooLarge, SpoolFailed
        Nothing of the export can be judged then.
    """
    there = files(path)
    work = list(cuts(there.read))
    total, done = sum(one.bytes for one in work), 0
    found = Batch(files_not_read=there.others)
    for cut, batch in _read_all(work, total, Wanted(groups, whole)):
        spool.add(batch.rows, batch.aliases, batch.deleted)
        found.without_patient += batch.without_patient
        found.take(batch.groups)
        found.pages |= batch.pages
        found.following |= batch.following
        if cut is not None:
            done += cut.bytes
            tell(done, total)
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


def _add(batch: Batch, named: Named | Page, cut: Cut, wanted: Wanted) -> None:
    if isinstance(named, Page):
        batch.turn(named)
        return
    try:
        batch.add(named, wanted)
    except InputMalformed as error:
        raise InputMalformed(f"{cut.path.name}: {error.detail}") from None
