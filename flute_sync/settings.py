"""What every settings class shares: strictness, durations, sizes, secrets by file name.

Each module owns its own settings class; ``daemon/config.py`` only composes them.
"""

import re
from datetime import timedelta
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_SHORT: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


class Settings(BaseModel):
    """Base of every settings class: frozen, unknown keys are errors, no values in error texts."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        hide_input_in_errors=True,
    )


def parse_duration(value: object) -> object:
    """Turn ``"30s"``, ``"1.5h"`` or a sum such as ``"1h30m"`` into a timedelta.

    Anything else, ISO 8601 (``PT15M``) included, is left to pydantic. A bare number is refused,
    since nobody can see its unit.

    Raises
    ------
    ValueError
        When the value is a bare number.
    """
    if isinstance(value, int | float):
        raise ValueError('a duration needs a unit: "30s", "15m" or ISO 8601 "PT15M"')
    if isinstance(value, str):
        if value.strip().lstrip("+-").replace(".", "", 1).isdigit():
            raise ValueError('a duration needs a unit: "30s", "15m" or ISO 8601 "PT15M"')
        parts = _SHORT.findall(value)
        if parts and "".join(number + unit for number, unit in parts) == value.strip():
            return sum((float(number) * _UNIT[unit] for number, unit in parts), timedelta())
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration), Field(ge=timedelta(0))]
PositiveDuration = Annotated[timedelta, BeforeValidator(parse_duration), Field(gt=timedelta(0))]
Port = Annotated[int, Field(ge=0, le=65535)]
Bytes = Annotated[int, Field(gt=0)]
SecretFile = Annotated[str, Field(pattern=r"^(/.+|credential:[A-Za-z0-9_.@-]+)$")]
"""An absolute file, or ``credential:NAME`` for a systemd credential."""
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")]
"""An http(s) address without credentials, query or fragment."""
Uri = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:[^\s|]+$")]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("not a time zone of the IANA database") from None
    return name


TimeZone = Annotated[str, AfterValidator(_known_zone)]
"""The name of a time zone in the IANA database, such as "Europe/Rome"."""
