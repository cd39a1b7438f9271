"""How the DICOM change feed of an archive is followed."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from flute_sync.settings import PositiveDuration, Settings


class ChangeFeedSettings(Settings):
    """``[change_feed]``: following the archive's DICOM change feed, below its ``dicomweb_url``."""

    enabled: bool = False
    """Whether the feed is followed."""

    interval: PositiveDuration = timedelta(seconds=15)
    """How long to wait at the end of the feed."""

    page_size: Annotated[int, Field(ge=1, le=200)] = 100
    """How many changes are asked for at once; version 1 of the service allows 100."""

    start: Literal["beginning", "now"] = "beginning"
    """Where a feed begins that was never read: with all that the archive ever stored, or with
    what comes from now on."""

    paging: Literal["auto", "sequence", "time"] = "auto"
    """What its offset counts: sequence numbers (version 1) or entries of a window of time
    (version 2); auto: what the version in ``dicomweb_url`` says, sequence numbers without."""
