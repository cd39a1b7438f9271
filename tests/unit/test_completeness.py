from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flute_sync.completeness import StudySettings, due_at

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
SETTINGS = StudySettings()
waits = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3))


@given(waits)
def test_never_before_the_last_fact_unless_the_longest_wait_is_over(gap: timedelta) -> None:
    due = due_at(NOW, NOW + gap, SETTINGS)
    assert due <= NOW + SETTINGS.longest_wait
    assert due == min(NOW + gap + timedelta(seconds=10), NOW + timedelta(minutes=15))


@given(waits, waits)
def test_a_later_fact_never_makes_it_due_earlier(one: timedelta, other: timedelta) -> None:
    earlier, later = sorted((one, other))
    assert due_at(NOW, NOW + earlier, SETTINGS) <= due_at(NOW, NOW + later, SETTINGS)


def test_a_longest_wait_below_the_quiet_period_is_refused() -> None:
    with pytest.raises(ValidationError, match="shorter than"):
        StudySettings(quiet_period="20s", longest_wait="10s")
