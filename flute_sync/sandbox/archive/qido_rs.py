"""QIDO-RS: finding studies, series and instances (PS3.18 10.6, PS3.4 C.2.2.2)."""

import fnmatch
import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from flute_sync.sandbox.archive.headers import Header, as_text, tag, values
from flute_sync.sandbox.archive.index import Address
from flute_sync.sandbox.archive.store import Store
from flute_sync.sandbox.archive.web import address_of, base_url, dicom_json, refusal


def _tags(keywords: str) -> tuple[str, ...]:
    return tuple(map(tag, keywords.split()))


_STUDY: Final = _tags(
    "SpecificCharacterSet StudyDate StudyTime AccessionNumber ReferringPhysicianName "
    "TimezoneOffsetFromUTC PatientName PatientID IssuerOfPatientID PatientBirthDate "
    "PatientSex StudyInstanceUID StudyID StudyDescription"
)
_SERIES: Final = _STUDY + _tags(
    "Modality SeriesDescription SeriesInstanceUID SeriesNumber SeriesDate SeriesTime "
    "PerformedProcedureStepStartDate PerformedProcedureStepStartTime"
)
_INSTANCE: Final = _SERIES + _tags(
    "SOPClassUID SOPInstanceUID InstanceNumber NumberOfFrames Rows Columns BitsAllocated"
)
_RETURNED: Final = {"study": _STUDY, "series": _SERIES, "instance": _INSTANCE}
_CONTROLS: Final = frozenset({"limit", "offset", "includefield", "fuzzymatching"})
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")


class BadQuery(Exception):
    """The query is not one of QIDO-RS; the message says why, without quoting values."""


@dataclass(frozen=True, slots=True)
class Query:
    """A QIDO-RS query: matching keys (tag, value), attributes asked for, and the page."""

    keys: tuple[tuple[str, str], ...]
    include: frozenset[str]
    offset: int
    limit: int | None


def parse_query(parameters: Iterable[tuple[str, str]]) -> Query:
    """Read the query parameters.

    Raises
    ------
    BadQuery
        When a parameter is unknown or a number is none.

    References
    ----------
    PS3.18 8.3.4 (2026b).
    """
    keys: list[tuple[str, str]] = []
    include: set[str] = set()
    numbers = {"offset": 0, "limit": 0}
    for name, value in parameters:
        if name in numbers:
            if not value.isascii() or not value.isdigit():
                raise BadQuery(f"{name} is not a number")
            numbers[name] = int(value)
        elif name == "includefield":
            include.update("all" if one == "all" else _tag(one) for one in value.split(","))
        elif name not in _CONTROLS and value:
            keys.append((_tag(name), value))
    return Query(tuple(keys), frozenset(include), numbers["offset"], numbers["limit"] or None)


def search(store: Store, level: str, address: Address, query: Query, base: str) -> list[Header]:
    """Find what matches at a level under an address."""
    answers: list[Header] = []
    for row in store.index.find(level, _narrowed(level, address, query)):
        header = _described(level, row, base)
        if all(matches(header, key, value) for key, value in query.keys):
            answers.append(_returned(level, header, query))
    end = None if query.limit is None else query.offset + query.limit
    return answers[query.offset : end]


def matches(header: Header, key: str, wanted: str) -> bool:
    """Judge one matching key: list of UIDs, range, wildcard or single value.

    References
    ----------
    PS3.4 C.2.2.2 (2026b).
    """
    element = header.get(key, {})
    vr = element.get("vr", "")
    held = [as_text(value) for value in values(header, key)]
    if vr == "UI":
        return not set(held).isdisjoint(re.split(r"[,\\]", wanted))
    if vr in ("DA", "TM", "DT") and "-" in wanted:
        low, _, high = wanted.partition("-")
        return any(
            (not low or one >= low) and (not high or one[: len(high)] <= high) for one in held
        )
    if vr == "PN":
        held, wanted = [one.casefold() for one in held], wanted.casefold()
    pattern = re.sub(r"\[", "[[]", wanted)
    return any(fnmatch.fnmatchcase(one, pattern) for one in held)


async def search_studies(request: Request) -> Response:
    """Answer ``GET /studies``."""
    return _answer(request, "study")


async def search_series(request: Request) -> Response:
    """Answer ``GET /series`` and ``GET /studies/{study}/series``."""
    return _answer(request, "series")


async def search_instances(request: Request) -> Response:
    """Answer ``GET .../instances`` at the three levels."""
    return _answer(request, "instance")


def _answer(request: Request, level: str) -> Response:
    try:
        query = parse_query(request.query_params.multi_items())
    except BadQuery as error:
        return refusal(400, str(error))
    store: Store = request.app.state.store
    return dicom_json(search(store, level, address_of(request), query, base_url(request)))


def _narrowed(level: str, address: Address, query: Query) -> Address:
    """Let the index pick a single UID that the query asks for."""
    asked = {key: value for key, value in query.keys if not re.search(r"[,\\*?]", value)}
    uid_tags = {"study": "0020000D", "series": "0020000E", "instance": "00080018"}
    own = asked.get(uid_tags[level])
    if own is not None and getattr(address, level) is None:
        return address._replace(**{level: own})
    return address


def _described(level: str, row: sqlite3.Row, base: str) -> Header:
    header: Header = orjson.loads(row["header"])
    header["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}  # JSON is UTF-8 whatever was stored
    header["00081190"] = {"vr": "UR", "Value": [f"{base}/studies/{row['path']}"]}
    if level == "study":
        modalities = sorted(filter(None, row["modalities"].split(",")))
        header["00080061"] = {"vr": "CS", "Value": modalities} if modalities else {"vr": "CS"}
        header["00201206"] = {"vr": "IS", "Value": [row["series_count"]]}
        header["00201208"] = {"vr": "IS", "Value": [row["instance_count"]]}
    if level == "series":
        header["00201209"] = {"vr": "IS", "Value": [row["instance_count"]]}
    return header


def _returned(level: str, header: Header, query: Query) -> Header:
    computed = ("00081190", "00080061", "00201206", "00201208", "00201209")
    asked: Iterable[Any] = (key for key, _ in query.keys)
    wanted = {*_RETURNED[level], *computed, *query.include, *asked}
    return {key: header[key] for key in sorted(header) if key in wanted or "all" in query.include}


def _tag(name: str) -> str:
    if _TAG.fullmatch(name):
        return name.upper()
    try:
        return tag(name)
    except KeyError as error:
        raise BadQuery("an attribute is not in the data dictionary") from error
