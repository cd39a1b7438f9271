"""When to try a study again, or never.

The decision is a value with its reason; the ledger's ``next_attempt_at`` is the only retry loop.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from flute_sync.errors import FluteSyncError, OperatorError, TransientError
from flute_sync.settings import Duration, PositiveDuration, Settings


class RetrySettings(Settings):
    """``[retry]``: how patiently a study is tried again.

    The wait doubles from ``first`` to ``longest`` and is shortened by up to half at random, so
    that many studies do not come back at once. It is never given up.
    """

    first: PositiveDuration = timedelta(seconds=2)
    """Wait after the first temporary failure of a study."""

    longest: PositiveDuration = timedelta(minutes=15)
    """Longest wait between two attempts."""

    operator: Duration = timedelta(minutes=1)
    """Wait after a failure that only a person can mend."""


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """Try again ``at``, or hold the study when ``at`` is None; ``reason`` says why."""

    at: datetime | None
    reason: str


def backoff(settings: RetrySettings, attempts: int, jitter: float) -> timedelta:
    """Return the wait after ``attempts`` failures (>= 1); ``jitter`` is within [0, 1)."""
    doubled: timedelta = settings.first * (1 << min(attempts - 1, 32))
    return min(doubled, settings.longest) * (1 - jitter / 2)


def decide(
    error: FluteSyncError, attempts: int, now: datetime, settings: RetrySettings, jitter: float
) -> RetryDecision:
    """Decide about a study whose step failed.

    Parameters
    ----------
    error
        What went wrong.
    attempts
        Failures so far, this one included.
    now
        Aware time of the failure.
    jitter
        A random number within [0, 1); an argument, so that the function stays pure.
    """
    if isinstance(error, TransientError):
        wait = backoff(settings, attempts, jitter)
        if error.retry_after is not None:
            wait = max(wait, error.retry_after)
            return RetryDecision(now + wait, "the peer asked to come back later")
        return RetryDecision(now + wait, f"temporary failure, attempt {attempts}")
    if isinstance(error, OperatorError):
        return RetryDecision(now + settings.operator, "waits for a person to change something")
    return RetryDecision(None, "another attempt would not help")
