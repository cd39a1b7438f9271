"""When and how fast the whole archive is gone through."""

from datetime import time, timedelta
from typing import Annotated

from pydantic import Field

from flute_sync.hours import Hours, is_open
from flute_sync.settings import PositiveDuration, Settings


class SweepSettings(Settings):
    """``sweep`` of a poller: going through the whole archive now and then."""

    enabled: bool = False
    """Whether it is done by itself, and takes in what was never heard of; otherwise it is done only
    where another source has found removals, among the studies that are known."""

    interval: PositiveDuration = timedelta(hours=24)
    """How long after the beginning of one sweep the next begins."""

    window: Hours | None = None
    """The hours of the day in which it goes on, such as "22:00-05:00", in the archive's zone;
    none: all day."""

    rate: Annotated[float, Field(ge=0.01, le=100_000)] = 50
    """How many studies a second are listed, or looked into because they seem gone."""

    def is_open(self, local: time) -> bool:
        """Tell whether it may go on at a local time; the window may go past midnight."""
        return self.window is None or is_open(self.window, local)
