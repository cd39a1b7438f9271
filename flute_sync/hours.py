"""Hours of the day in which slow work goes on, such as ``22:00-05:00``; they may go past midnight.

The hours are local: whoever asks converts to the site's or the archive's zone first.
"""

from datetime import datetime, time, timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, Field

_PATTERN: Final = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"


def _is_a_window(value: str) -> str:
    first, last = _ends(value)
    if first == last:
        raise ValueError("the hours begin when they end")
    return value


Hours = Annotated[str, Field(pattern=_PATTERN), AfterValidator(_is_a_window)]


def is_open(hours: str, local: time) -> bool:
    """Tell whether a local time is within the hours; their end is not."""
    return covers(*_ends(hours), local)


def covers(first: time, last: time, local: time) -> bool:
    """Tell whether a local time is in the hours from one time to another; their end is not."""
    return first <= local < last if first < last else local >= first or local < last


def opened(hours: str, local: datetime) -> datetime:
    """Return when the hours began last, at or before a local time."""
    first, _ = _ends(hours)
    today = local.replace(hour=first.hour, minute=first.minute, second=0, microsecond=0)
    return today if today <= local else today - timedelta(days=1)


def _ends(hours: str) -> tuple[time, time]:
    first, _, last = hours.partition("-")
    return time.fromisoformat(first), time.fromisoformat(last)
