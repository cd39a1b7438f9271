"""Rates and remaining times as a person reads them."""

from datetime import timedelta

import pytest

from flute_sync.console.progress import Display, Gauge, span


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (7, "7 s"),
        (61, "1 min 1 s"),
        (3_700, "1 h 1 min"),
        (86_400, "24 h 0 min"),
        (400_000, "4 days"),
    ],
)
def test_spans(seconds: int, said: str) -> None:
    assert span(timedelta(seconds=seconds)) == said


def test_rate_and_remaining_time() -> None:
    gauge = Gauge()
    assert gauge.sentence(0, 100) == ""
    gauge.note(0, 10.0)
    assert gauge.sentence(0, 100) == ""
    gauge.note(20, 20.0)
    assert gauge.sentence(20, 100) == "2.0/s, 40 s left"
    assert gauge.sentence(20, None) == "2.0/s"
    gauge.note(20, 25.0)
    gauge.note(20, 200.0)  # what was long ago does not count
    assert gauge.per_second == 0
    assert gauge.sentence(20, 100) == ""


def test_a_line_says_what_is_waited_for_once(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Display("import", None)
    shown.show(0, None)
    shown.show(5, 1000, "fhir")
    shown.show(5, 1000, "fhir")
    shown.show(6, 1000, None)
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert lines[0] == "import: 5 of 1,000 studies, waiting for fhir"
    assert lines[1].startswith("import: 6 of 1,000 studies")
    assert len(lines) == 2
