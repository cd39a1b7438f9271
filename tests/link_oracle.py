"""What the rules of time say, by brute force: an oracle that shares nothing with flute_sync.

Every fact is a set of days. A world takes one day of each, and an order of the MRIs and biopsies of
one day. In a world the rules are read word by word: all pairs are listed, the closest first. A link
is certain if it is made in every world and possible if it is made in some.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

FOLLOWING = ("pi_rads", "volume")
AROUND = ("psa", "dre")


@dataclass(frozen=True)
class Fact:
    """An MRI (kind ``mri``) or a variable, with the days on which it may have been."""

    name: str
    kind: str
    days: tuple[date, ...]
    amended: bool = False
    tie: tuple[object, ...] = ()


@dataclass(frozen=True)
class Windows:
    """The settings, in days and months."""

    report: int = 90
    psa_before: int = 180
    psa_after: int = 180
    dre_before: int = 180
    dre_after: int = 180
    biopsy_months: int = 12
    outcome: int = 90


@dataclass(frozen=True)
class Said:
    """``pinned``: variable -> MRI by a better rule; ``removed``: pairs that a person took apart."""

    pinned: Mapping[str, str] = field(default_factory=dict)
    removed: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Answer:
    """For each variable: the (MRI, rule) of every world, None where it had none."""

    placements: Mapping[str, frozenset[tuple[str, str] | None]]

    def certain(self) -> dict[str, tuple[str, str]]:
        """Return what is linked in all worlds alike."""
        found = {}
        for name, all_of in self.placements.items():
            places = [one for one in all_of if one is not None]
            if len(all_of) == len(places) == 1:
                found[name] = places[0]
        return found

    def possible(self) -> set[tuple[str, str]]:
        """Return the pairs of some world."""
        return {(name, one[0]) for name, all_of in self.placements.items() for one in all_of if one}


def answer(facts: list[Fact], windows: Windows, said: Said | None = None) -> Answer:
    """Judge in all worlds."""
    found: dict[str, set[tuple[str, str] | None]] = {
        one.name: set() for one in facts if one.kind != "mri"
    }
    for order in _worlds(facts):
        placed = _World(facts, order, windows, said or Said()).placed()
        for name, all_of in found.items():
            all_of.add(placed.get(name))
    return Answer({name: frozenset(all_of) for name, all_of in found.items()})


Order = dict[str, tuple[date, int]]


def _worlds(facts: list[Fact]) -> Iterator[Order]:
    for days in itertools.product(*(one.days for one in facts)):
        day = dict(zip([one.name for one in facts], days, strict=True))
        timed = [one.name for one in facts if one.kind in ("mri", "biopsy")]
        groups = [[name for name in timed if day[name] == each] for each in sorted({*day.values()})]
        for orders in itertools.product(*(itertools.permutations(group) for group in groups)):
            slots = {name: index for group in orders for index, name in enumerate(group)}
            yield {name: (day[name], slots.get(name, 0)) for name in day}


def months_before(day: date, months: int) -> date:
    """Return the day so many months earlier; the last of that month where it has none such."""
    year, month = day.year, day.month
    for _ in range(months):
        year, month = (year - 1, 12) if month == 1 else (year, month - 1)
    for number in (day.day, 30, 29, 28):
        try:
            if number <= day.day:
                return date(year, month, number)
        except ValueError:
            continue
    raise AssertionError(day)


class _World:
    def __init__(self, facts: list[Fact], at: Order, windows: Windows, said: Said) -> None:
        self.facts, self.at, self.windows, self.said = facts, at, windows, said
        self.mris = [one.name for one in facts if one.kind == "mri"]
        self.links: dict[str, tuple[str, str]] = {
            name: (mri, "pinned") for name, mri in said.pinned.items()
        }

    def placed(self) -> dict[str, tuple[str, str]]:
        for kind in FOLLOWING:
            self.follow(kind, self.report_owner)
        self.follow("biopsy", self.biopsy_owner)
        for kind in AROUND:
            self.around(kind)
        self.outcomes()
        return self.links

    def day(self, name: str) -> date:
        return self.at[name][0]

    def of(self, kind: str) -> list[Fact]:
        return [one for one in self.facts if one.kind == kind]

    def free(self, kind: str) -> list[Fact]:
        return [one for one in self.of(kind) if one.name not in self.said.pinned]

    def taken(self, kind: str) -> set[str]:
        return {self.links[one.name][0] for one in self.of(kind) if one.name in self.links}

    def may(self, name: str, mri: str) -> bool:
        return (mri, name) not in self.said.removed

    def report_owner(self, name: str) -> str | None:
        before = [
            mri for mri in self.mris if self.may(name, mri) and self.day(mri) <= self.day(name)
        ]
        if not before:
            return None
        last = max(before, key=lambda mri: self.at[mri])
        near = (self.day(name) - self.day(last)).days <= self.windows.report
        return last if near else None

    def biopsy_owner(self, name: str) -> str | None:
        before = [mri for mri in self.mris if self.may(name, mri) and self.at[mri] < self.at[name]]
        if not before:
            return None
        last = max(before, key=lambda mri: self.at[mri])
        earliest = months_before(self.day(name), self.windows.biopsy_months)
        return last if self.day(last) >= earliest else None

    def follow(self, kind: str, owner) -> None:
        rule = "time/biopsy" if kind == "biopsy" else "time/after-mri"
        taken = self.taken(kind)
        for mri in self.mris:
            own = [one for one in self.free(kind) if owner(one.name) == mri]
            if not own or mri in taken:
                continue
            amended = [one for one in own if one.amended]
            if amended:
                chosen = max(amended, key=lambda one: (self.day(one.name), one.tie))
            else:
                first = min(self.day(one.name) for one in own)
                chosen = max(
                    (one for one in own if self.day(one.name) == first), key=lambda one: one.tie
                )
            self.links[chosen.name] = (mri, rule)

    def around(self, kind: str) -> None:
        before = {"psa": self.windows.psa_before, "dre": self.windows.dre_before}[kind]
        after = {"psa": self.windows.psa_after, "dre": self.windows.dre_after}[kind]
        served = self.taken(kind)
        values = self.free(kind)
        pairs = []
        for one in values:
            for mri in self.mris:
                gap = (self.day(mri) - self.day(one.name)).days
                if 0 <= gap <= before and self.may(one.name, mri):
                    pairs.append((gap, mri, one))
        self.take(pairs, served, f"time/{kind}-before")
        pairs = []
        for one in values:
            for mri in self.mris:
                gap = (self.day(one.name) - self.day(mri)).days
                end = self.day(mri) + timedelta(days=after)
                nexts = [self.at[each.name] for each in self.of("biopsy")]
                limits = [each[0] for each in nexts if each > self.at[mri]]
                end = min([end, *limits])
                if gap > 0 and self.day(one.name) <= end and self.may(one.name, mri):
                    pairs.append((gap, mri, one))
        self.take(pairs, served, f"time/{kind}-after")

    def take(self, pairs: list[tuple[int, str, Fact]], served: set[str], rule: str) -> None:
        """Closest first; of values of one day the higher tie, of MRIs of one day in their order."""
        while pairs:
            gap = min(pair[0] for pair in pairs)
            closest = [pair for pair in pairs if pair[0] == gap]
            first = min(closest, key=lambda pair: self.at[pair[1]])
            same = [pair for pair in closest if pair[1] == first[1]]
            _, mri, one = max(same, key=lambda pair: pair[2].tie)
            if mri not in served and one.name not in self.links:
                self.links[one.name] = (mri, rule)
                served.add(mri)
            pairs.remove((gap, mri, one))

    def outcomes(self) -> None:
        for one in self.free("isup"):
            day = self.day(one.name)
            before = [each for each in self.of("biopsy") if self.day(each.name) <= day]
            if not before:
                continue
            last = max(self.day(each.name) for each in before)
            session = [each.name for each in before if self.day(each.name) == last]
            homes = {self.links[name][0] for name in session if name in self.links}
            if (day - last).days <= self.windows.outcome and len(homes) == 1:
                home = homes.pop()
                if self.may(one.name, home):
                    self.links[one.name] = (home, "time/outcome")
