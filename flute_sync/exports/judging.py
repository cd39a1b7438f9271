"""From the spool to judged patients, in the order of their names; many on all processors."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final, NamedTuple

from flute_sync.cohort import Tally
from flute_sync.criteria_evidence import History
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.eligibility import Judged, judge
from flute_sync.exports.pool import in_order, processors
from flute_sync.exports.spool import Person, Spool, history_of
from flute_sync.exports.time_limit import limited
from flute_sync.link_settings import LinkSettings
from flute_sync.own_criterion import OwnCriterion
from flute_sync.own_judgement import OwnJudge

_PIECES: Final = 4000
"""What is judged at once; by people, some who have very much would fill the memory."""
ALONE_PIECES: Final = 50_000
"""Below this more processes would cost more than they bring."""

OWN_ALONE_PIECES: Final = 1000
"""The same, of a criterion of a site's own, which takes far longer to judge."""

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


@dataclass(frozen=True)
class OwnRule:
    """A criterion of a site's own, as JSON, and the settings by which MRIs count beside it."""

    criterion: str
    settings: CriteriaSettings
    site: LinkSettings

    def __call__(self, history: History) -> Judged:
        """Judge a patient; it may take a limited time."""
        judge_one = _own(self.criterion)
        with limited(judge_one.criterion.name):
            return judge_one(history, self.settings, self.site)


def ready(criterion: OwnCriterion) -> OwnCriterion:
    """Return a criterion of which it is certain that its expressions can be evaluated.

    Raises
    ------
    CriterionMalformed, CriterionFailed, CriterionSlow
        They cannot.
    """
    with limited(criterion.name):
        _own(criterion.model_dump_json())
    return criterion


@lru_cache(maxsize=4)
def _own(criterion: str) -> OwnJudge:
    return OwnJudge(OwnCriterion.model_validate_json(criterion))


class Part(NamedTuple):
    """Some patients of a cohort, and the counts of them alone."""

    judged: list[Judged]
    tally: Tally


def judged(
    spool: Spool, chosen: Collection[str] | None, rule: Rule, alone_pieces: int = ALONE_PIECES
) -> Iterator[Part]:
    """Judge all patients of a spool, or those chosen, in the order of their names.

    Parameters
    ----------
    alone_pieces
        Below this no other process is started.

    Raises
    ------
    SpoolFailed
        The disk does not serve.
    """
    parts = _parts(spool.people(chosen))
    if processors() == 1 or spool.pieces < alone_pieces:
        yield from (_judged(part, rule=rule) for part in parts)
        return
    for _, part in in_order(partial(_judged, rule=rule), parts):
        yield part


def _parts(people: Iterable[Person]) -> Iterator[list[Person]]:
    part: list[Person] = []
    pieces = 0
    for person in people:
        part.append(person)
        pieces += len(person.rows)
        if pieces >= _PIECES:
            yield part
            part, pieces = [], 0
    if part:
        yield part


def _judged(people: list[Person], rule: Rule) -> Part:
    found, tally = [], Tally()
    for person in people:
        history = history_of(person)
        one = rule(history)
        tally.add(history, one)
        found.append(one)
    return Part(found, tally)
