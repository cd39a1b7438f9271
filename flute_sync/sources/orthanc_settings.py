"""How the change feed of an Orthanc is followed."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from flute_sync.settings import HttpUrl, PositiveDuration
from flute_sync.sources.peer_settings import PeerSettings
from flute_sync.sources.sweep_settings import SweepSettings


class OrthancChangesSettings(PeerSettings):
    """``[orthanc_changes]``: following the change feed of the archive, where it is an Orthanc."""

    enabled: bool = False
    """Whether the feed is followed."""

    url: HttpUrl = "http://127.0.0.1:8042"
    """The address of Orthanc's own interface, not of its DICOMweb."""

    interval: PositiveDuration = timedelta(seconds=2)
    """How long to wait at the end of the feed."""

    page_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    """How many changes are asked for at once."""

    start: Literal["beginning", "now"] = "beginning"
    """Where a feed begins that was never read: with all that the archive holds, or with what
    comes from now on."""

    removals: PositiveDuration = timedelta(minutes=5)
    """How often it is looked whether something is gone, of which the feed does not tell."""

    sweep: SweepSettings = SweepSettings()
    """Going through the whole archive: by itself, or where it is not enabled when series or
    instances are gone."""
