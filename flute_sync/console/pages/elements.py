"""What others wrote in a resource, as plain text, bounded: nothing is taken for granted."""

import re
from collections.abc import Mapping
from typing import Any, Final

from flute_sync.fhir_elements import members

Resource = Mapping[str, Any]
_MOST: Final = 200
_DOTS: Final = "\N{HORIZONTAL ELLIPSIS}"
_MOMENT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?", re.ASCII
)


def text(value: object, most: int = _MOST) -> str:
    """Return a string without control characters; empty where it is none."""
    if not isinstance(value, str):
        return ""
    plain = "".join(one if one.isprintable() else " " for one in value[: most + 1])
    return plain if len(plain) <= most else plain[:most] + _DOTS


def moment(said: str) -> str:
    """Return a dateTime as people read it, to the minute; what is none stays as it is."""
    found = _MOMENT.fullmatch(said)
    if found is None:
        return said
    day, time, offset = found.groups(default="")
    return f"{day} {time} {'UTC' if offset == 'Z' else offset}".rstrip()


def number(value: object) -> int | None:
    """Return a count; None where it is none."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if is_count and isinstance(value, int) else None


def code(value: object) -> str:
    """Return the code of a Coding."""
    return text(value.get("code"), 64) if isinstance(value, dict) else ""


def said(value: object) -> str:
    """Return what a Coding says to people: its display, or else its code."""
    if not isinstance(value, dict):
        return ""
    return text(value.get("display")) or code(value)


def modalities(resource: Resource) -> str:
    """Return the modalities of an ImagingStudy."""
    return ", ".join(filter(None, (code(one) for one in members(resource.get("modality")))))


def subject(resource: Resource) -> str:
    """Return how an ImagingStudy names its patient."""
    stated = resource.get("subject")
    if not isinstance(stated, dict):
        return ""
    identifier = stated.get("identifier")
    value = identifier.get("value") if isinstance(identifier, dict) else None
    return text(stated.get("reference")) or text(value)
