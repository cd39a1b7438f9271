"""What the rules of time are asked, and what they answer.

A date may be an interval. A rule places a variable with certainty only if it would do so on
whichever days of their intervals everything took place; where that depends on the days, it says so
instead of choosing. What has no date at all takes no part, but an MRI without one may have been on
any day.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flute_sync.link_case import Candidate, Imaging


class Placed(NamedTuple):
    """What a rule says of one variable, and why.

    ``study`` is the MRI that it surely belongs to, if any; ``possible`` those that it may belong to
    where that is not sure.
    """

    rule: str
    reason: str
    study: str | None = None
    possible: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Question:
    """Variables of one kind that are placed by their dates.

    Parameters
    ----------
    mris
        The MRIs of the prostate, the earliest first.
    occupied
        MRIs that have a variable of this kind by a better rule.
    only
        Reference -> the MRIs that the variable may belong to; of any where it is not named here.
    """

    candidates: tuple[Candidate, ...]
    mris: tuple[Imaging, ...]
    occupied: frozenset[str] = frozenset()
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def mris_for(self, one: Candidate) -> tuple[Imaging, ...]:
        """Return the MRIs that a variable may belong to."""
        if one.reference not in self.only:
            return self.mris
        allowed = self.only[one.reference]
        return tuple(mri for mri in self.mris if mri.uid in allowed)


def undecided(one: Candidate, mris: Iterable[Imaging]) -> str:
    """Say which dates leave a doubt."""
    named = " and ".join(mri.words for mri in mris)
    return f"its date {one.day} and {named} do not settle it"


def days(count: int) -> str:
    """Say a number of days."""
    return "1 day" if count == 1 else f"{count} days"
