"""Is the study quiet? DICOM has no message "the study is complete" (PS3.4 has none, 2026b).

A study is worked on when nothing new came for the quiet period, or when its first unwritten
fact has waited the longest wait, whichever is earlier: a sender that never stops must not keep
a study out of FHIR.
"""

from datetime import datetime, timedelta

from pydantic import model_validator

from flute_sync.settings import Duration, PositiveDuration, Settings


class StudySettings(Settings):
    """``[study]``: how long to wait for more of a study."""

    quiet_period: Duration = timedelta(seconds=10)
    """A study is written when nothing new came of it for this long."""

    longest_wait: PositiveDuration = timedelta(minutes=15)
    """A study that never gets quiet is written when its oldest news is this old; not below
    ``quiet_period``."""

    @model_validator(mode="after")
    def _ordered(self) -> "StudySettings":
        if self.longest_wait < self.quiet_period:
            raise ValueError("study.longest_wait is shorter than study.quiet_period")
        return self


def due_at(first_fact_at: datetime, last_fact_at: datetime, settings: StudySettings) -> datetime:
    """Return when the study may be worked on.

    Parameters
    ----------
    first_fact_at
        When the oldest fact came that FHIR does not have yet; aware.
    last_fact_at
        When the newest fact came; aware, not before ``first_fact_at``.
    """
    return min(last_fact_at + settings.quiet_period, first_fact_at + settings.longest_wait)
