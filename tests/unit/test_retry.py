from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.fhir_errors import FhirBusy, FhirUnauthorized, FhirUnavailable
from flute_sync.patient_errors import PatientAmbiguous
from flute_sync.retry import RetrySettings, backoff, decide

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
SETTINGS = RetrySettings(first=timedelta(seconds=2), longest=timedelta(minutes=15))


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 2), (2, 4), (5, 32), (10, 900), (10_000, 900)]
)
def test_the_wait_doubles_up_to_the_longest(attempts: int, seconds: int) -> None:
    assert backoff(SETTINGS, attempts, 0.0) == timedelta(seconds=seconds)


@given(
    st.integers(min_value=1, max_value=10**9),
    st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_a_transient_error_is_always_tried_again(attempts: int, jitter: float) -> None:
    decision = decide(FhirUnavailable(), attempts, NOW, SETTINGS, jitter)
    assert decision.at is not None
    assert SETTINGS.first / 2 <= decision.at - NOW <= SETTINGS.longest


def test_retry_after_is_honoured_and_never_shortened_by_jitter() -> None:
    error = FhirBusy(retry_after=timedelta(minutes=40))
    assert decide(error, 1, NOW, SETTINGS, 0.99).at == NOW + timedelta(minutes=40)


def test_a_permanent_error_is_held() -> None:
    decision = decide(PatientAmbiguous(), 1, NOW, SETTINGS, 0.0)
    assert decision.at is None
    assert decision.reason


def test_an_operator_error_comes_back_without_a_person_touching_the_study() -> None:
    assert decide(FhirUnauthorized(), 7, NOW, SETTINGS, 0.5).at == NOW + SETTINGS.operator
