"""``[links]``: the rules and windows by which FLUTE variables are linked to studies.

References
----------
FLUTE guide 0.1.0, resource-supportingInfo; docs/links.md says what each rule does.
"""

import re
from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from flute_sync.hours import Hours
from flute_sync.settings import PositiveDuration, Settings, parse_duration

RuleName = Literal["explicit", "request", "encounter", "time", "sole-candidate"]
_DAYS_180: Final = timedelta(days=180)
_DAYS_90: Final = timedelta(days=90)


def _whole_days(value: timedelta) -> timedelta:
    if value % timedelta(days=1):
        raise ValueError('a window is counted in whole days: "90d"')
    return value


def _expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error:
        raise ValueError("not a regular expression") from None
    return value


Days = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    Field(ge=timedelta(0), le=timedelta(days=3660)),
    AfterValidator(_whole_days),
]
Expression = Annotated[str, Field(min_length=1), AfterValidator(_expression)]
SystemAndCode = Annotated[str, Field(pattern=r"^[^\s|]+\|[^\s|]+$")]


class LinkSettings(Settings):
    """``[links]``: which FLUTE variables a study is linked to by ``supporting-info``."""

    enabled: bool = True
    """Whether links are made and kept; what a person decided stays in any case."""

    conformance: Literal["relaxed", "strict"] = "relaxed"
    """strict: only what meets every rule of its FLUTE profile; relaxed: other displays, further
    local codings, more decimals, a unit's code without its system, a PI-RADS score that is coded or
    text and another performed[x] than an Age are waived, and said."""

    rules: tuple[RuleName, ...] = ("explicit", "request", "encounter", "time", "sole-candidate")
    """The rules in use; their order is fixed, explicit references come first."""

    preliminary: bool = False
    """Also link Observations that are preliminary."""

    report_after: Days = _DAYS_90
    """How long after an MRI its PI-RADS score and prostate volume may be dated."""

    psa_before: Days = _DAYS_180
    """How long before an MRI a PSA value may be taken."""

    psa_after: Days = _DAYS_180
    """How long after it, where there is none before; never beyond the next biopsy."""

    dre_before: Days = _DAYS_180
    """How long before an MRI a digital rectal examination may be."""

    dre_after: Days = _DAYS_180
    """How long after it, where there is none before; never beyond the next biopsy."""

    biopsy_after_months: Annotated[int, Field(ge=1, le=120)] = 12
    """How many calendar months after an MRI a biopsy may be that it led to."""

    outcome_after: Days = _DAYS_90
    """How long after a biopsy its ISUP grade may be dated."""

    sole_candidate: Literal["undated", "any", "never"] = "undated"
    """Where a patient has one prostate MRI and one candidate of a kind: link it although its date
    leaves a doubt; undated: only what has no date, or an age; any: also a date that is not
    exact."""

    untrusted_dates: bool = False
    """Use the date of an MRI although it is tagged date-untrusted: right where the clinical data
    carry the same shift as the images."""

    display: bool = True
    """Say kind, date and rule in each link's ``display``."""

    prostate_description: Expression | None = None
    """Regular expression: study descriptions that name the prostate at this site."""

    prostate_procedures: tuple[SystemAndCode, ...] = ()
    """Procedure codes of prostate MRI at this site, each ``system|code``."""

    watch_interval: PositiveDuration = timedelta(seconds=30)
    """How often to look for new and changed clinical data."""

    watch_history: bool = True
    """Where the FHIR server tells the history of a type, follow it too: what is deleted, or changes
    its code, is seen as soon as what arrives, not only by the sweep. A history cannot be narrowed
    by code: switch it off where the server takes far more other results than these."""

    sweep: bool = True
    """Judge the links of all patients once a day, and let those be written that differ: what no
    watch can see is found so."""

    sweep_hours: Hours = "00:00-06:00"
    """The hours of the day in which the sweep goes on, in ``site.timezone``; what is left goes on
    in the next night."""

    sweep_rate: Annotated[float, Field(ge=0.01, le=100_000)] = 100
    """How many patients a second the sweep looks at, at most."""

    sweep_requests: Annotated[int, Field(ge=1, le=64)] = 4
    """How many patients it looks at at once."""


UNJUDGED: Final = frozenset(
    {
        "watch_interval",
        "watch_history",
        "sweep",
        "sweep_hours",
        "sweep_rate",
        "sweep_requests",
    }
)
"""Settings that say when to judge, not how."""
