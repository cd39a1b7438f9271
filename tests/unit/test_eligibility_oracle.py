"""The criterion against brute force over all days that the dates leave open."""

import calendar
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flute_sync.criteria_evidence import history, piece
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.eligibility import judge
from flute_sync.link_settings import LinkSettings
from tests.criteria_cases.table import UNTRUSTED
from tests.eligibility_oracle import When, a_year_before, verdict
from tests.histories import DCM, KNEE, PATIENT, PELVIS, PROSTATE, biopsy, patient, study

CENTRES = [date(2024, 2, 29), date(2023, 2, 28), date(2025, 3, 1), date(2024, 6, 10)]
ZONES = [timezone(timedelta(hours=hours)) for hours in (-10, 0, 2, 14)]
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Dated:
    """A date as FHIR writes it, and the days that it leaves open."""

    text: Any
    when: When | None


def whole(day: date) -> Dated:
    return Dated(day.isoformat(), When((day,)))


def month(day: date) -> Dated:
    count = calendar.monthrange(day.year, day.month)[1]
    days = tuple(day.replace(day=number) for number in range(1, count + 1))
    return Dated(f"{day:%Y-%m}", When(days))


def timed(day: date, hour: int, zone: timezone) -> Dated:
    moment = datetime(day.year, day.month, day.day, hour, tzinfo=zone)
    return Dated(moment.isoformat(), When((day,), moment))


def lasting(day: date, length: int) -> Dated:
    days = tuple(day + number * ONE_DAY for number in range(length + 1))
    ends = {"start": day.isoformat(), "end": days[-1].isoformat()}
    return Dated(ends, When(days))


def near(offsets: st.SearchStrategy[int]) -> st.SearchStrategy[date]:
    return st.builds(lambda centre, off: centre + off * ONE_DAY, st.sampled_from(CENTRES), offsets)


BIOPSY_DAYS = near(st.integers(-2, 2))
MRI_DAYS = near(
    st.one_of(
        st.integers(-2, 2), st.integers(-369, -363), st.integers(-734, -728), st.integers(-400, 40)
    )
)


def dates(days: st.SearchStrategy[date]) -> st.SearchStrategy[Dated]:
    times = st.builds(timed, days, st.integers(0, 23), st.sampled_from(ZONES))
    none = st.sampled_from([Dated(None, None), Dated("soon", None)])
    return st.one_of(days.map(whole), times, days.map(month), none)


PERFORMED = st.one_of(dates(BIOPSY_DAYS), st.builds(lasting, BIOPSY_DAYS, st.integers(0, 40)))


Series = tuple[str, dict[str, str] | None]


@dataclass(frozen=True)
class Scan:
    started: Dated
    status: str
    series: list[Series]
    is_trusted: bool

    def counts(self, demanded: str) -> bool:
        sites = [site for modality, site in self.series if modality == "MR"]
        said = [site for site in sites if site] or [site for _, site in self.series if site]
        is_prostate = PROSTATE in said
        if demanded == "not-contradicted":
            is_prostate = is_prostate or said == [] or any(site != KNEE for site in said)
        return self.status == "available" and sites != [] and is_prostate

    def written(self, name: str) -> dict[str, Any]:
        found = [
            {"uid": f"1.2.{number}", "modality": {"system": DCM, "code": modality}}
            | ({"bodySite": site} if site else {})
            for number, (modality, site) in enumerate(self.series)
        ]
        made = study(name, self.started.text, series=found, status=self.status)
        return made | ({} if self.is_trusted else UNTRUSTED_)


SCANS = st.builds(
    Scan,
    dates(MRI_DAYS),
    st.sampled_from(["available"] * 5 + ["cancelled", "unknown"]),
    st.lists(
        st.tuples(
            st.sampled_from(["MR"] * 5 + ["US"]),
            st.sampled_from([PROSTATE, PROSTATE, PELVIS, None, KNEE]),
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([True] * 5 + [False]),
)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(SCANS, max_size=4),
    st.lists(PERFORMED, min_size=1, max_size=3),
    st.sampled_from(["not-contradicted", "certain"]),
    st.sampled_from(["unknown", "include", "exclude"]),
)
def test_the_verdict_is_that_of_brute_force(
    scans: list[Scan], performed: list[Dated], demanded: Any, same_day: Any
) -> None:
    resources = [patient()]
    resources += [scan.written(f"m{number}") for number, scan in enumerate(scans)]
    resources += [biopsy(f"b{number}", one.text) for number, one in enumerate(performed)]
    pieces = [found for one in resources if (found := piece(one)) is not None]
    asked = CriteriaSettings(prostate=demanded, same_day=same_day)
    results = judge(history(PATIENT, pieces), asked, LinkSettings()).results
    mris = [one.started.when if one.is_trusted else None for one in scans if one.counts(demanded)]
    assert {one.biopsy.name: one.verdict.value for one in results} == {
        f"Procedure/b{number}": verdict(one.when, mris, same_day)
        for number, one in enumerate(performed)
    }


UNTRUSTED_: dict[str, Any] = {"meta": UNTRUSTED}


def birthdays(birth: date, years: int) -> tuple[date, date]:
    """When somebody turns so many years; of the 29th of February either that people keep."""
    try:
        day = birth.replace(year=birth.year + years)
    except ValueError:
        return date(birth.year + years, 2, 28), date(birth.year + years, 3, 1)
    return day, day


def at_age(births: tuple[date, ...], years: int) -> When:
    """All days on which somebody born on one of these days may be so many years old."""
    days: set[date] = set()
    for birth in births:
        first, after = birthdays(birth, years)[0], birthdays(birth, years + 1)[1]
        days |= {first + number * ONE_DAY for number in range((after - first).days)}
    return When(tuple(sorted(days)))


BIRTHS = [Dated(None, None), *(whole(day) for day in CENTRES), month(CENTRES[0]), month(CENTRES[3])]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(BIRTHS), st.integers(1, 4), st.integers(-2, 2), st.sampled_from([-1, 0, 1]))
def test_a_biopsy_by_age_is_that_of_brute_force(
    birth: Dated, years: int, near_days: int, turns: int
) -> None:
    """MRIs about the days on which anything changes: birthdays, and those a year from them."""
    born = birth.when.days if birth.when else (CENTRES[3],)
    for centre in (*birthdays(born[0], years + turns), *birthdays(born[-1], years + turns)):
        mri = whole(centre + near_days * ONE_DAY)
        resources = [patient(birth.text), study("m", mri.text), biopsy("b", years)]
        pieces = [found for one in resources if (found := piece(one)) is not None]
        (result,) = judge(history(PATIENT, pieces), CriteriaSettings(), LinkSettings()).results
        performed = at_age(born, years) if birth.when else None
        assert result.verdict.value == verdict(performed, [mri.when]), (centre, near_days)


@pytest.mark.parametrize(
    ("day", "before"),
    [("2024-02-29", "2023-02-28"), ("2025-02-28", "2024-02-28"), ("2025-03-01", "2024-03-01")],
)
def test_the_oracle_knows_the_calendar(day: str, before: str) -> None:
    assert a_year_before(date.fromisoformat(day)) == date.fromisoformat(before)


def test_the_oracle_compares_instants() -> None:
    day = (date(2024, 6, 10),)
    early = When(day, datetime(2024, 6, 10, 8, tzinfo=UTC))
    late = When(day, datetime(2024, 6, 10, 9, tzinfo=UTC))
    assert verdict(late, [early]) == "included"
    assert verdict(early, [late]) == verdict(early, [early]) == "excluded"
    assert verdict(late, [When(day)]) == "unknown"
