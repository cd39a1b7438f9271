"""The criterion by brute force, word by word of the protocol: shares nothing with flute_sync.

Every date is the list of days on which it may have been. A pair of an MRI and a biopsy is looked at
on every pair of days: was the MRI before the biopsy, and no earlier than one year before it?
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache

BEFORE, NOT_BEFORE, NOBODY_KNOWS = "before", "not before", "?"


@dataclass(frozen=True)
class When:
    """The days on which something may have been, and its time where it states one with a zone."""

    days: tuple[date, ...]
    time: datetime | None = None


def verdict(biopsy: When | None, mris: list[When | None], same_day: str = "unknown") -> str:
    """Judge a biopsy by the MRIs that count; None: a date that cannot be used."""
    if not mris:
        return "excluded"
    found = [_pair(mri, biopsy, same_day) for mri in mris]
    if "in" in found:
        return "included"
    return "unknown" if "?" in found else "excluded"


def _pair(mri: When | None, biopsy: When | None, same_day: str) -> str:
    if mri is None or biopsy is None:
        return "?"
    answers = {
        _on_days(of_mri, of_biopsy, _order(mri, biopsy, same_day))
        for of_mri in mri.days
        for of_biopsy in biopsy.days
    }
    return answers.pop() if len(answers) == 1 else "?"


def _order(mri: When, biopsy: When, same_day: str) -> str:
    if mri.time is not None and biopsy.time is not None:
        return BEFORE if mri.time.timestamp() < biopsy.time.timestamp() else NOT_BEFORE
    return {"include": BEFORE, "exclude": NOT_BEFORE}.get(same_day, NOBODY_KNOWS)


def _on_days(mri: date, biopsy: date, on_one_day: str) -> str:
    if mri > biopsy:
        return "out"
    if mri == biopsy:
        return {BEFORE: "in", NOT_BEFORE: "out", NOBODY_KNOWS: "?"}[on_one_day]
    return "in" if mri >= a_year_before(biopsy) else "out"


@cache
def a_year_before(day: date) -> date:
    """Return the same day of the calendar a year earlier; of a 29th of February the 28th."""
    found = day
    while (found.year, found.month, found.day) > (day.year - 1, day.month, day.day):
        found -= timedelta(days=1)
    return found
