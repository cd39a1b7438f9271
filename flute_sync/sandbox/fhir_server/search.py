"""Searches: from parameters to SQL over the index of values (FHIR R4 search.html)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from flute_sync.sandbox.fhir_server.dates import interval
from flute_sync.sandbox.fhir_server.outcome import FhirError
from flute_sync.sandbox.fhir_server.parameters import (
    Installed,
    Kind,
    Parameter,
    fold,
    parameter,
    split_reference,
)

_IGNORED: Final = frozenset({"_format", "_pretty", "_total"})
_COUNT_LIMIT: Final = 500
_COUNT_DEFAULT: Final = 20
_COMPARISONS: Final = {
    "eq": "(low >= :low AND high <= :high)",
    "ne": "NOT (low >= :low AND high <= :high)",
    "gt": "high > :high",
    "lt": "low < :low",
    "ge": "(high > :high OR low >= :low)",
    "le": "(low < :low OR high <= :high)",
    "sa": "low > :high",
    "eb": "high < :low",
}
_LOWEST: Final = """(SELECT min(low || system || value) FROM entry
    WHERE entry.rid = resource.rid AND parameter = '{}') {}"""


@dataclass(slots=True)
class Search:
    """A search understood: SQL conditions with their values, order, page and what to add."""

    resource_type: str
    installed: Installed = field(default_factory=dict)
    conditions: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    count: int = _COUNT_DEFAULT
    count_only: bool = False
    elements: frozenset[str] = frozenset()
    include: tuple[str, ...] = ()

    def sql(self) -> tuple[str, list[str]]:
        """Give the query for the row ids in order, and its values."""
        where = " AND ".join(["type = ?", "NOT deleted", *self.conditions])
        order = ", ".join([*self.order, "rid"])
        query = f"SELECT rid FROM resource WHERE {where} ORDER BY {order}"  # noqa: S608 - no input
        return query, [self.resource_type, *self.values]


def parse_search(
    resource_type: str, parameters: Iterable[tuple[str, str]], installed: Installed
) -> Search:
    """Understand the parameters of a search.

    Parameters
    ----------
    resource_type
        The type searched.
    parameters
        Names and values, decoded; empty values are ignored.
    installed
        Parameters beyond those of the standard.

    Raises
    ------
    FhirError
        400 for an unknown parameter, an unknown modifier or an unfit value.
    """
    search = Search(resource_type, installed)
    for name, value in parameters:
        if name in _IGNORED or not value:
            continue
        if name in _CONTROLS:
            _CONTROLS[name](search, value)
        else:
            _add_filter(search, name, value)
    return search


def _add_filter(search: Search, name: str, value: str) -> None:
    plain, _, modifier = name.partition(":")
    one = parameter(search.resource_type, plain, search.installed)
    if one is None:
        raise FhirError(400, "not-supported", f"unknown search parameter of {search.resource_type}")
    found = "SELECT rid FROM entry WHERE type = ? AND parameter = ?"
    search.values += [search.resource_type, plain]
    if modifier == "missing":
        search.conditions.append(f"rid {'NOT ' if value == 'true' else ''}IN ({found})")
        return
    alternatives = []
    for alternative in split_escaped(value, ","):
        condition, values = _READERS[one.kind](one, modifier, alternative)
        alternatives.append(condition)
        search.values += values
    search.conditions.append(f"rid IN ({found} AND ({' OR '.join(alternatives)}))")


def split_escaped(text: str, separator: str) -> list[str]:
    """Split at separators that no backslash precedes; escapes are kept."""
    parts = [""]
    for piece in re.findall(r"\\.|[^\\]|\\$", text, re.DOTALL):
        if piece == separator:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def unescape(text: str) -> str:
    """Undo the backslash escapes of a search value (FHIR R4 search.html#escaping)."""
    return re.sub(r"\\([\\,$|])", r"\1", text)


Condition = tuple[str, list[str]]


def _token(_: Parameter, modifier: str, text: str) -> Condition:
    _no(modifier)
    parts = [unescape(part) for part in split_escaped(text, "|")]
    if len(parts) == 1:
        return "value = ?", parts
    if len(parts) > 2:
        raise FhirError(400, "invalid", "a token has one vertical bar")
    return ("system = ? AND value = ?", parts) if parts[1] else ("system = ?", parts[:1])


def _reference(one: Parameter, modifier: str, text: str) -> Condition:
    kind, identity = split_reference(unescape(text))
    if modifier and (not modifier[0].isupper() or kind not in ("", modifier)):
        raise FhirError(400, "not-supported", "unknown modifier of a search parameter")
    kind = kind or modifier or (one.target or "" if "/" not in identity else "")
    return ("system = ? AND value = ?", [kind, identity]) if kind else ("value = ?", [identity])


def _date(_: Parameter, modifier: str, text: str) -> Condition:
    _no(modifier)
    prefix, date = (text[:2], text[2:]) if text[:2] in _COMPARISONS else ("eq", text)
    try:
        low, high = interval(date.replace(" ", "+"))  # an unencoded plus sign arrives as a space
    except ValueError as error:
        raise FhirError(400, "invalid", "a date of the search is not one") from error
    names = re.findall(r":(low|high)", _COMPARISONS[prefix])
    condition = re.sub(r":(low|high)", "?", _COMPARISONS[prefix])
    return condition, [low if name == "low" else high for name in names]


def _string(_: Parameter, modifier: str, text: str) -> Condition:
    wanted = fold(unescape(text))
    if modifier in ("exact", "contains"):
        return ("value = ?" if modifier == "exact" else "instr(value, ?) > 0"), [wanted]
    _no(modifier)
    return "substr(value, 1, length(?)) = ?", [wanted, wanted]


def _uri(_: Parameter, modifier: str, text: str) -> Condition:
    _no(modifier)
    return "value = ?", [unescape(text)]


def _no(modifier: str) -> None:
    if modifier:
        raise FhirError(400, "not-supported", "unknown modifier of a search parameter")


_READERS: Final = {
    Kind.TOKEN: _token,
    Kind.REFERENCE: _reference,
    Kind.DATE: _date,
    Kind.STRING: _string,
    Kind.URI: _uri,
}


def _count(search: Search, value: str) -> None:
    if not (value.isascii() and value.isdigit()):
        raise FhirError(400, "invalid", "_count is not a number")
    search.count = min(int(value), _COUNT_LIMIT)
    search.count_only = search.count_only or search.count == 0


def _summary(search: Search, value: str) -> None:
    if value not in ("count", "false"):
        raise FhirError(400, "not-supported", "_summary is supported as count only")
    search.count_only = value == "count"


def _sort(search: Search, value: str) -> None:
    for key in value.split(","):
        name = key.removeprefix("-")
        if parameter(search.resource_type, name, search.installed) is None:
            raise FhirError(400, "not-supported", "unknown search parameter in _sort")
        direction = "DESC" if key.startswith("-") else "ASC"
        search.order.append(_LOWEST.format(name, direction))  # a name of our own table


def _elements(search: Search, value: str) -> None:
    search.elements = frozenset(value.split(","))


def _include(search: Search, value: str) -> None:
    parts = value.split(":")
    name = parts[1] if len(parts) in (2, 3) else ""
    one = parameter(search.resource_type, name, search.installed)
    if one is None or one.kind is not Kind.REFERENCE or parts[0] != search.resource_type:
        raise FhirError(400, "not-supported", "unknown search parameter in _include")
    search.include += (name,)


_CONTROLS: Final = {
    "_count": _count,
    "_summary": _summary,
    "_sort": _sort,
    "_elements": _elements,
    "_include": _include,
}
