"""How the study search of an archive is polled."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from flute_sync.settings import PositiveDuration, Settings
from flute_sync.sources.sweep_settings import SweepSettings


class StudyPollerSettings(Settings):
    """How a study search is polled."""

    enabled: bool = False
    """Whether the archive is polled."""

    interval: PositiveDuration = timedelta(seconds=60)
    """How long to wait after each poll."""

    lookback: Annotated[PositiveDuration, Field(le=timedelta(days=36525))] = timedelta(days=7)
    """How old a Study Date may be. After a pause the window begins that much before the last
    complete poll."""

    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    """How many notices are committed at once."""

    sweep: SweepSettings = SweepSettings()
    """Going through the whole archive, for what the window does not show."""


class QidoRsSettings(StudyPollerSettings):
    """``[qido_rs]``: polling the archive's study search."""
