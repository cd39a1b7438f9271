"""When an archive is believed that finds a study no more."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from flute_sync.daemon.removal import Brake, RemovalSettings, confirm, judge, missed
from flute_sync.intake import Cursor
from flute_sync.ledger import Absence, Claim, FhirRow, Ledger, Missing

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DEFAULT = RemovalSettings()


@dataclass
class _Ledger:
    """Knows how much is missing since when, and what a person said."""

    held: int = 1000
    missing_since: list[datetime] = field(default_factory=list)
    cursors: dict[tuple[str, str], str] = field(default_factory=dict)
    looked: list[str] = field(default_factory=list)

    def missing(self, _archive: str, after: datetime) -> Missing:
        late = [at for at in self.missing_since if at > after]
        return Missing(self.held, len(late), min(late, default=None))

    def cursor(self, source: str, archive: str) -> str | None:
        return self.cursors.get((source, archive))

    def set_cursor(self, cursor: Cursor) -> None:
        self.cursors[cursor.source, cursor.archive] = cursor.value

    def look_for_missing(self, archive: str) -> int:
        self.looked.append(archive)
        return len(self.missing_since)


def _ledger(fake: _Ledger) -> Ledger:
    return cast("Ledger", fake)


def _brake(fake: _Ledger, settings: RemovalSettings = DEFAULT) -> Brake:
    return Brake(_ledger(fake), lambda: settings, ("pacs",))


def _claim(*, in_fhir: bool = True, accepted: bool = True) -> Claim:
    values: dict[str, Any] = {
        "fhir": FhirRow("7") if in_fhir else None,
        "unverified": ("pacs",) if accepted else (),
        "absences": (),
        "has_notes": False,
    }
    claim = object.__new__(Claim)
    for name, value in values.items():
        object.__setattr__(claim, name, value)
    return claim


def _absence(times: int, ago: timedelta) -> Absence:
    return Absence("pacs", NOW - ago, times)


@pytest.mark.parametrize(
    ("times", "ago", "believed"),
    [
        (3, 24 * HOUR, True),
        (2, 48 * HOUR, False),
        (9, 23 * HOUR, False),
        (1, timedelta(), False),
    ],
)
def test_it_takes_so_many_looks_over_such_a_time(
    times: int, ago: timedelta, believed: bool
) -> None:
    found = judge(_claim(), [_absence(times, ago)], DEFAULT, _brake(_Ledger()), NOW, was_held=True)
    assert found.believed is believed
    assert found.next_look == NOW + 12 * HOUR


def test_all_archives_must_be_sure() -> None:
    absences = [_absence(3, 24 * HOUR), _absence(1, HOUR)]
    assert not judge(_claim(), absences, DEFAULT, _brake(_Ledger()), NOW, was_held=True).believed


def test_what_fhir_never_knew_takes_less() -> None:
    def believed(claim: Claim, ago: timedelta, *, was_held: bool = False) -> bool:
        absences = [_absence(3, ago)]
        verdict = judge(claim, absences, DEFAULT, _brake(_Ledger()), NOW, was_held=was_held)
        return verdict.believed

    assert believed(_claim(in_fhir=False), HOUR)
    assert not believed(_claim(in_fhir=False), HOUR / 2)
    assert not believed(_claim(in_fhir=False, accepted=False), timedelta(), was_held=True)
    assert believed(_claim(in_fhir=False, accepted=False), timedelta())


@pytest.mark.parametrize(
    ("held", "missing", "doubted"),
    [(1000, 20, False), (1000, 21, True), (9900, 100, False), (9899, 101, True), (3, 20, False)],
)
def test_too_much_at_once_is_not_believed(held: int, missing: int, doubted: bool) -> None:
    fake = _Ledger(held, [NOW - 24 * HOUR] * missing)
    found = judge(_claim(), [_absence(3, 24 * HOUR)], DEFAULT, _brake(fake), NOW, was_held=True)
    assert (found.believed, found.doubted) == (not doubted, doubted)


def test_a_persons_word_covers_what_was_missing_then_and_no_more() -> None:
    fake = _Ledger(1000, [NOW - 30 * HOUR] * 50)
    brake = _brake(fake)
    assert brake.look("pacs", NOW).is_doubted
    confirm(_ledger(fake), "pacs", NOW - 25 * HOUR)
    assert fake.looked == ["pacs"]
    later = NOW + timedelta(seconds=1)
    assert not brake.look("pacs", later).is_doubted
    fake.missing_since += [NOW - 24 * HOUR] * 50
    later += timedelta(minutes=1)
    assert brake.look("pacs", later).is_doubted
    for since, believed in ((30 * HOUR, True), (24 * HOUR, False)):
        verdict = judge(_claim(), [_absence(3, since)], DEFAULT, brake, later, was_held=True)
        assert verdict.believed is believed


def test_doubt_is_said_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    fake = _Ledger(1000, [NOW] * 50)
    brake = _brake(fake)
    never: Callable[[], bool] = lambda: False  # noqa: E731
    for minute in range(3):
        brake.step(NOW + timedelta(minutes=minute), never)
    assert list(brake.warnings()) == ["pacs misses 50 studies at once, of 1050: more than 20"]
    fake.missing_since.clear()
    for minute in range(3, 6):
        brake.step(NOW + timedelta(minutes=minute), never)
    assert list(brake.warnings()) == []
    events = [record.__dict__["event"] for record in caplog.records]
    assert events == ["archive.doubted", "archive.trusted"]


def test_one_look_is_enough_where_the_settings_say_so() -> None:
    settings = RemovalSettings(confirmations=1, period=HOUR)
    assert settings.next_look(NOW, HOUR) == NOW + HOUR
    fake = _Ledger()
    assert missed(_ledger(fake), settings, "pacs").limit == 20
