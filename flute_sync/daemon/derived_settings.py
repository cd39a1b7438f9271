"""Which Observations are made of structured reports."""

from typing import Annotated

from pydantic import Field

from flute_sync.settings import Settings


class DerivedSettings(Settings):
    """``[derived]``: PI-RADS scores and prostate volumes of structured reports in the archive."""

    enabled: bool = False
    """Whether they are written as Observations, which name the study that they were derived from;
    takes one more search a step, and one request for each report."""

    max_reports: Annotated[int, Field(ge=1, le=1000)] = 50
    """Most reports of a study; where it has more, none of them counts."""
