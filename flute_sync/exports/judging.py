"""From the spool to judged patients, in the order of their names; many on all processors."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

from flute_sync.cohort import Tally
from flute_sync.criteria_evidence import History
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.eligibility import Judged, judge
from flute_sync.exports.pool import in_order, processors
from flute_sync.exports.spool import Person, Spool, history_of
from flute_sync.link_settings import LinkSettings

_PEOPLE: Final = 500
ALONE_PIECES: Final = 50_000
"""Below this more processes would cost more than they bring."""

Rule = Callable[[History], Judged]
"""Judges a patient; it passes to other processes."""


@dataclass(frozen=True)
class BuiltIn:
    """The criterion on images, with the settings it is judged by."""

    settings: CriteriaSettings
    site: LinkSettings

    def __call__(self, history: History) -> Judged:
        """Judge a patient."""
        return judge(history, self.settings, self.site)


class Part(NamedTuple):
    """Some patients of a cohort, and the counts of them alone."""

    judged: list[Judged]
    tally: Tally


def judged(spool: Spool, chosen: Collection[str] | None, rule: Rule) -> Iterator[Part]:
    """Judge all patients of a spool, or those chosen, in the order of their names.

    Raises
    ------
    InputMalformed
        Two copies of a resource differ, and nothing says which counts.
    SpoolFailed
        The disk does not serve.
    """
    parts = _parts(spool.people(chosen))
    if processors() == 1 or spool.pieces < ALONE_PIECES:
        yield from (_judged(part, rule=rule) for part in parts)
        return
    for _, part in in_order(partial(_judged, rule=rule), parts):
        yield part


def _parts(people: Iterable[Person]) -> Iterator[list[Person]]:
    rest = iter(people)
    while part := list(islice(rest, _PEOPLE)):
        yield part


def _judged(people: list[Person], rule: Rule) -> Part:
    found, tally = [], Tally()
    for person in people:
        history = history_of(person)
        one = rule(history)
        tally.add(history, one)
        found.append(one)
    return Part(found, tally)
