"""Reading headers from the DICOM JSON Model: WADO-RS metadata and QIDO-RS rows.

By the same rules as from a file, to the same `study.Header`. Servers differ in how well they keep
to the model: what has a wrong type is left out with a remark, and only a missing or illegal UID
refuses an instance, without harm to its neighbours.

References
----------
PS3.18 F (2026b).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Final

import orjson

from flute_sync.dicom_errors import HeaderError
from flute_sync.intake import Received, Stated
from flute_sync.sources import header_anatomy, header_diffusion
from flute_sync.sources import header_tags as tags
from flute_sync.sources.header import Shared, own_part, shared_part, with_remarks
from flute_sync.sources.header_attributes import STRUCTURED_REPORTS, read_series
from flute_sync.sources.header_decode import LONGEST_VALUE, SINGLE
from flute_sync.sources.header_elements import VALUE_TOO_LONG, WRONG_TYPE, Elements
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.study import (
    Header,
    Instance,
    Remark,
    SeriesInstanceUID,
    SOPInstanceUID,
    StudyInstanceUID,
)
from flute_sync.valuerep import parse_date

Json = Mapping[str, object]

_DEFAULT: Final = HeaderSettings()
_HELD_BYTES: Final = 1 << 20
_NUMERIC: Final = frozenset({"DS", "FD", "IS"})
_NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")


def _keys(wanted: Iterable[int]) -> dict[str, int]:
    upper = {f"{tag:08X}": tag for tag in wanted}
    return upper | {key.lower(): tag for key, tag in upper.items()}


_KEYS: Final = _keys(tags.WANTED)
_CAPITALS: Final = frozenset(key for key in _KEYS if key == key.upper())
_KEYS_IN_ITEMS: Final = _keys(tags.WANTED_IN_ITEMS)
_B_VALUE: Final = f"{tags.DIFFUSION_B_VALUE:08X}"
_OF_THE_INSTANCE: Final = frozenset(_keys(tags.OF_THE_INSTANCE))
_OF_THE_MOMENT: Final = frozenset(_keys(tags.OF_THE_MOMENT))
_IN_DOCUMENTS: Final = frozenset(
    _keys((tags.CONCEPT_NAME_CODE_SEQUENCE, tags.CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE))
)


class JsonReader:
    """Reads the instances of one answer; what many of them share is decoded once.

    They share one `study.Header` then. It is for one thread.
    """

    def __init__(self, settings: HeaderSettings = _DEFAULT) -> None:
        self._settings = settings
        self._left_out = _OF_THE_INSTANCE
        self._shared: dict[tuple[frozenset[str], bytes], Shared] = {}
        self._remarked: dict[tuple[Header, frozenset[Remark]], Header] = {}
        self._held_bytes = 0

    def received(self, instance: Json, *wider: Json) -> Received:
        """Read one instance.

        Parameters
        ----------
        instance
            Its metadata, or its row of a QIDO-RS answer.
        wider
            The rows of its series and its study, where instance rows alone say too little: what
            they state counts where the instance states nothing.

        Raises
        ------
        HeaderError
            When a UID is absent or illegal, or this is no object of the JSON model.
        """
        row = _merged((instance, *wider))
        if (b_values := header_diffusion.settle_json(instance)) is not None:
            row[_B_VALUE] = b_values
        row |= header_anatomy.settle_json(row, instance)
        own = {key: row[key] for key in _OF_THE_INSTANCE if key in row}
        try:
            sop_instance_uid, number, remarks = own_part(_elements(own, _KEYS, self._settings))
            study, series, header = self._decoded(row)
        except HeaderError as refusal:
            refusal.study_instance_uid = uid_in(row, tags.STUDY_INSTANCE_UID)
            refusal.sop_class_uid = uid_in(row, tags.SOP_CLASS_UID)
            refusal.sop_instance_uid = uid_in(row, tags.SOP_INSTANCE_UID)
            raise
        if remarks:
            header = self._with(header, remarks)
        return Received(
            StudyInstanceUID(study),
            SeriesInstanceUID(series),
            Instance(SOPInstanceUID(sop_instance_uid), number, header),
        )

    def _decoded(self, row: Json) -> Shared:
        """Return what a row shares with others.

        What decides about what is left out stays in: a row that is known when the same is left out
        as of the one before it is that row.
        """
        known = self._shared.get((self._left_out, _key(row, self._left_out)))
        if known is not None:
            return known
        self._left_out = _left_out(row, self._settings)
        key = _key(row, self._left_out)
        found = self._shared.get((self._left_out, key))
        if found is None:
            elements = _elements(orjson.loads(key), _KEYS, self._settings)
            found = shared_part(elements, self._settings)
            self._hold(len(key))
            self._shared[self._left_out, key] = found
        return found

    def _with(self, header: Header, remarks: frozenset[Remark]) -> Header:
        found = self._remarked.get((header, remarks))
        if found is None:
            found = self._remarked[header, remarks] = with_remarks(header, remarks)
        return found

    def _hold(self, size_bytes: int) -> None:
        """Forget what is known where it gets too much: alike instances come one after the other."""
        self._held_bytes += size_bytes
        if self._held_bytes > _HELD_BYTES:
            self._shared.clear()
            self._remarked.clear()
            self._held_bytes = size_bytes


def stated_from_json(
    series: Json,
    *wider: Json,
    instance_count: int | None = None,
    settings: HeaderSettings = _DEFAULT,
) -> Stated:
    """Read what is said of a series without its instances; otherwise as `JsonReader.received`."""
    row = _merged((series, *wider))
    left_out = _OF_THE_INSTANCE | _IN_DOCUMENTS
    elements = _elements({key: row[key] for key in row if key not in left_out}, _KEYS, settings)
    return Stated(
        StudyInstanceUID(elements.uid(tags.STUDY_INSTANCE_UID)),
        SeriesInstanceUID(elements.uid(tags.SERIES_INSTANCE_UID)),
        read_series(elements, settings),
        instance_count,
    )


def uid_in(row: object, tag: int) -> str | None:
    """Return a UID of a row, None where it is absent or illegal."""
    try:
        return _one(row, tag).optional_uid(tag)
    except HeaderError:
        return None


@cache
def _keys_of(tag: int) -> dict[str, int]:
    return _keys((tag,))


def _one(row: object, tag: int) -> Elements:
    if not isinstance(row, Mapping):
        return Elements()
    keys = _keys_of(tag)
    return _elements({key: row[key] for key in keys if key in row}, keys, _DEFAULT)


def _merged(rows: Sequence[object]) -> dict[str, object]:
    """Lay rows over each other, the first uppermost; an element without value covers none."""
    merged: dict[str, object] = {}
    for row in rows:
        if not isinstance(row, Mapping):
            raise HeaderError("an instance is no JSON object")
        wanted = row.keys() & _KEYS.keys()
        if len(rows) == 1 and wanted <= _CAPITALS:
            return {key: row[key] for key in wanted}
        for key in sorted(wanted):  # capitals, as they should be, come first
            name = key.upper()
            if name not in merged or not _states(merged[name]):
                merged[name] = row[key]
    return merged


def _states(element: object) -> bool:
    return not isinstance(element, Mapping) or any(
        element.get(key) for key in ("Value", "InlineBinary", "BulkDataURI")
    )


def _left_out(row: Json, settings: HeaderSettings) -> frozenset[str]:
    """Return what is no part of what instances share."""
    left_out = _OF_THE_INSTANCE
    day = partial(parse_date, placeholders=settings.placeholder_dates)
    if all(_one(row, tag).parsed(tag, day) for tag in (tags.STUDY_DATE, tags.SERIES_DATE)):
        left_out |= _OF_THE_MOMENT
    if not (uid_in(row, tags.SOP_CLASS_UID) or "").startswith(STRUCTURED_REPORTS):
        left_out |= _IN_DOCUMENTS
    return left_out


def _key(row: Json, left_out: frozenset[str]) -> bytes:
    """Write what instances share, alike wherever it is the same."""
    shared = {key: value for key, value in row.items() if key not in left_out}
    try:
        return orjson.dumps(shared, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise HeaderError("an instance holds text or numbers that JSON has not") from error


def _elements(row: Json, keys: Mapping[str, int], settings: HeaderSettings) -> Elements:
    into = Elements()
    _read(row, keys, into, settings.max_depth)
    return into


def _read(row: Json, keys: Mapping[str, int], into: Elements, depth: int) -> None:
    for key in sorted(row.keys() & keys.keys(), reverse=True):
        tag, element = keys[key], row[key]
        try:
            if tags.VR[tag] == "SQ":
                into.items[tag] = tuple(_items(_values(element), into.remarks, depth))
            elif tag != tags.SPECIFIC_CHARACTER_SET:
                into.values[tag] = _texts(tags.VR[tag], _values(element))
        except _Malformed as malformed:
            into.spoil(tag, malformed.code)


def _items(values: list[object], remarks: set[Remark], depth: int) -> Iterator[Elements]:
    if depth == 0:
        raise HeaderError("nested deeper than the settings allow")
    for value in values:
        if not isinstance(value, Mapping):
            raise _Malformed(WRONG_TYPE)
        item = Elements(remarks=remarks)
        _read(value, _KEYS_IN_ITEMS, item, depth - 1)
        yield item


def _values(element: object) -> list[object]:
    """Return an element's values; bulk data is never fetched, so it cannot be used."""
    if not isinstance(element, Mapping):
        raise _Malformed(WRONG_TYPE)
    values = element.get("Value")
    if values is None and not element.keys() & {"InlineBinary", "BulkDataURI"}:
        return []
    if not isinstance(values, list):
        raise _Malformed(WRONG_TYPE)
    return values


def _texts(vr: str, values: list[object]) -> tuple[str, ...]:
    texts = [_text(vr, value) for value in values]
    if sum(map(len, texts)) > LONGEST_VALUE:
        raise _Malformed(VALUE_TOO_LONG)
    return tuple(texts) if vr in SINGLE else tuple("\\".join(texts).split("\\"))


def _text(vr: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if vr in _NUMERIC and isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    if vr == "PN" and isinstance(value, Mapping):
        groups = [value.get(group) or "" for group in _NAME_GROUPS]
        return "=".join(_text("", group) for group in groups)
    raise _Malformed(WRONG_TYPE)


class _Malformed(Exception):
    """An element does not have the form that the model gives it."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)
