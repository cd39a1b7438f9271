"""What the rules of time are asked, and what they answer.

A date may be an interval. A rule places a variable with certainty only if it would do so on
whichever days of their intervals everything took place; where that depends on the days, it says so
instead of choosing. What has no date at all takes no part, but an MRI without one may have been on
any day.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import accumulate
from operator import attrgetter
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from flute_sync.fhir_dates import Interval, Verdict
from flute_sync.link_case import Candidate, Imaging

_MOST_NAMED: Final = 5


class Spanned(Protocol):
    """What took place on some day, or on one of several."""

    @property
    def span(self) -> Interval:
        """The days."""
        ...


_T = TypeVar("_T", bound=Spanned)
_BEGIN: Final = attrgetter("span.low")


class Placed(NamedTuple):
    """What a rule says of one variable, and why.

    ``study`` is the MRI that it surely belongs to, if any; ``possible`` those that it may belong to
    where that is not sure.
    """

    rule: str
    reason: str
    study: str | None = None
    possible: frozenset[str] = frozenset()


class Dated(Generic[_T]):
    """Things in the order of their dates, of which few are of the days asked for."""

    def __init__(self, things: Iterable[_T]) -> None:
        self._things = sorted(things, key=_BEGIN)
        self._begins = [one.span.low for one in self._things]
        self._ended = list(accumulate((one.span.high for one in self._things), max))

    def of_days(self, first: date, last: date) -> list[_T]:
        """Return what may be of these days, the latest first."""
        found = []
        index = bisect_right(self._begins, last)
        while index and self._ended[index - 1] >= first:
            index -= 1
            one = self._things[index]
            if one.span.high >= first:
                found.append(one)
        return found

    def latest(self, day: Interval, order: Callable[[Interval, Interval], Verdict]) -> list[_T]:
        """Return what may be the latest before a day.

        The first that surely is before it rules out all that surely were before that one.
        """
        found = []
        newest = date.min
        index = bisect_right(self._begins, day.high)
        while index and self._ended[index - 1] >= newest:
            index -= 1
            one = self._things[index]
            span = one.span
            if span.high < newest:
                continue
            verdict = order(span, day)
            if verdict is not Verdict.CONTRADICTED:
                found.append(one)
            if verdict is Verdict.CERTAIN:
                newest = max(newest, span.low)
        return found


@dataclass(frozen=True)
class Question:
    """Variables of one kind that are placed by their dates: each has one.

    Parameters
    ----------
    mris
        The MRIs of the prostate, the earliest first.
    dated_mris
        The same, by their dates.
    occupied
        MRIs that have a variable of this kind by a better rule.
    only
        Reference -> the MRIs that the variable may belong to; of any where it is not named here.
    """

    candidates: tuple[Candidate, ...]
    mris: tuple[Imaging, ...]
    dated_mris: Dated[Imaging]
    occupied: frozenset[str] = frozenset()
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def mris_for(self, one: Candidate) -> Dated[Imaging]:
        """Return the MRIs that a variable may belong to."""
        if one.reference not in self.only:
            return self.dated_mris
        allowed = self.only[one.reference]
        return Dated(mri for mri in self.mris if mri.uid in allowed)


def undecided(one: Candidate, mris: Iterable[Imaging]) -> str:
    """Say which dates leave a doubt."""
    words = list(dict.fromkeys(mri.words for mri in mris))
    named = " and ".join(words[:_MOST_NAMED])
    more = f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
    return f"its date {one.span} and {named}{more} do not settle it"


def days(count: int) -> str:
    """Say a number of days."""
    return "1 day" if count == 1 else f"{count} days"
