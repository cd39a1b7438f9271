"""QIDO-RS as a client: pages that end whatever the server does, and rows that can be compared.

References
----------
PS3.18 10.6 and 8.3.4 (2026b).
"""

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from flute_sync.archive_errors import ArchiveRefused, ArchiveServerError
from flute_sync.sources import header_tags as tags
from flute_sync.sources.dicom_json import uid_in
from flute_sync.sources.peer import Json, Peer
from flute_sync.study import StudyInstanceUID
from flute_sync.valuerep import Unusable, parse_date, parse_integer

STUDY_DATE: Final = "00080020"
MODALITIES_IN_STUDY: Final = "00080061"
PATIENT_ID: Final = "00100020"
_SERIES_COUNT: Final = "00201206"
_INSTANCE_COUNT: Final = "00201208"
_STUDY_INCLUDE: Final = ("00081030", "00100021")  # Study Description, Issuer of Patient ID
_OF_ONE: Final = ("00080016", "0020000D", "0020000E")  # SOP class, study and series
_COMPARED: Final = (
    STUDY_DATE, "00080030", "00080050", MODALITIES_IN_STUDY, "00080090", "00080201", "00081030",
    "00100010", PATIENT_ID, "00100021", "00100030", "00100040", "00200010",
    _SERIES_COUNT, _INSTANCE_COUNT,
)  # fmt: skip


_T = TypeVar("_T")


Stamp = Callable[[str | None, datetime], str]
"""What a study that does not state its number of instances is compared by, besides the rest."""


class RowPage(NamedTuple):
    """Rows that were not seen before, and the offset behind them."""

    rows: list[Json]
    offset: int


class Sighting(NamedTuple):
    """One row of a study search, cut down to what is compared; no UID where it is not usable."""

    study_instance_uid: str | None
    digest: str


@dataclass(frozen=True, slots=True)
class StudyRow:
    """What a study search says of one study.

    ``fingerprint`` changes when the counts or the attributes do. It is a short digest: nothing of
    the patient can be read from it. ``attributes`` holds the rows as they came, more than one
    where the archive files the study under several patients.
    """

    study_instance_uid: StudyInstanceUID
    series_count: int | None
    instance_count: int | None
    fingerprint: str
    attributes: tuple[Json, ...]


class Search:
    """Searches one archive.

    Parameters
    ----------
    page_size
        How many rows are asked for at once.
    most_pages
        How many are taken before a server counts as making them up.
    """

    def __init__(self, peer: Peer, page_size: int, most_pages: int = 10_000) -> None:
        self._peer = peer
        self._page_size = page_size
        self._most_pages = most_pages
        self._include_refused = False

    def sightings(self, key: str, at: datetime) -> Iterator[list[Sighting]]:
        """Yield page by page which studies match ``key``, such as ``"StudyDate=20260101-"``.

        A server may ignore the key and tell of all it has.
        """

        def keep(row: Json) -> tuple[Hashable, Sighting]:
            sighting = Sighting(uid_in(row, tags.STUDY_INSTANCE_UID), digest(row, at))
            return sighting, sighting

        for _, page in self._pages("/studies", (key,), _STUDY_INCLUDE, keep):
            yield page

    def rows(self, keys: Sequence[str], offset: int = 0) -> Iterator[RowPage]:
        """Yield the rows of studies that match, from an offset on; see `sightings`.

        Raises
        ------
        ArchiveRefused
            Besides what the peer raises: the server has no search, or does not want this one.
        """

        def keep(row: Json) -> tuple[Hashable, Json]:
            return (uid_in(row, tags.STUDY_INSTANCE_UID), text(row, PATIENT_ID)), row

        for after, page in self._pages("/studies", keys, _STUDY_INCLUDE, keep, offset):
            yield RowPage(page, after)

    def study(self, study_instance_uid: StudyInstanceUID, at: datetime) -> StudyRow | None:
        """Look one study up; None when the archive does not find it.

        Where the server ignores the key, its pages are read until the study appears.
        """

        def keep(row: Json) -> tuple[Hashable, Json | None]:
            uid = uid_in(row, tags.STUDY_INSTANCE_UID)
            return (uid, digest(row, at)), row if uid == study_instance_uid else None

        key = f"StudyInstanceUID={study_instance_uid}"
        for _, page in self._pages("/studies", (key,), _STUDY_INCLUDE, keep):
            if rows := [row for row in page if row is not None]:
                return summed_up(study_instance_uid, rows, at)
        return None

    def instance(self, sop_instance_uid: str) -> Json | None:
        """Look one instance up in all the archive; None when it does not find it.

        Raises
        ------
        ArchiveServerError
            When the server ignores what is asked: whether it holds the instance is not known.
        """
        found = None
        for row in self._page("/instances", (f"SOPInstanceUID={sop_instance_uid}",), _OF_ONE, 0):
            if uid_in(row, tags.SOP_INSTANCE_UID) != sop_instance_uid:
                raise ArchiveServerError("its instance search tells of others than was asked")
            found = found or row
        return found

    def series(self, study_instance_uid: str) -> list[Json]:
        """Return the series of a study."""
        path = f"/studies/{study_instance_uid}/series"
        return self._all(path, (), lambda row: (uid_in(row, tags.SERIES_INSTANCE_UID), row))

    def instances(
        self, study_instance_uid: str, series_instance_uid: str, include: Sequence[str]
    ) -> list[Json]:
        """Return the instances of a series, with the attributes of ``include`` (tags)."""
        path = f"/studies/{study_instance_uid}/series/{series_instance_uid}/instances"
        return self._all(path, include, lambda row: (uid_in(row, tags.SOP_INSTANCE_UID), row))

    def _all(
        self, path: str, include: Sequence[str], keep: Callable[[Json], tuple[Hashable, Json]]
    ) -> list[Json]:
        return [row for _, page in self._pages(path, (), include, keep) for row in page]

    def _pages(
        self,
        path: str,
        keys: Sequence[str],
        include: Sequence[str],
        keep: Callable[[Json], tuple[Hashable, _T]],
        start: int = 0,
    ) -> Iterator[tuple[int, list[_T]]]:
        """Yield what ``keep`` leaves of each row, page by page, until one brings nothing new.

        Neither a short page nor a full one says whether there is more: servers cap pages below
        what was asked for, or ignore limit and offset. Rows that were seen are dropped. A page of
        nothing else may hold one study's series, counted as rows: it is skipped once. Where the
        next is like it, everything is asked for at once.
        """
        seen: set[int] = set()
        offset: int | None = start
        is_stale = False
        for _ in range(self._most_pages):
            page: list[_T] = []
            count = 0
            for row in self._page(path, keys, include, offset):
                count += 1
                identity, kept = keep(row)
                if (key := hash(identity)) not in seen:
                    seen.add(key)
                    page.append(kept)
            at = (offset or 0) + count
            if page:
                yield at, page
            if offset is None or count == 0 or (not page and count > self._page_size):
                return
            if page:
                offset, is_stale = at, False
            else:
                offset, is_stale = (None if is_stale else offset + self._page_size), True
        raise ArchiveServerError("its pages do not end")

    def _page(
        self, path: str, keys: Sequence[str], include: Sequence[str], offset: int | None
    ) -> Iterator[Json]:
        # Not percent-encoded: some servers compare a value as it is on the wire.
        window = [] if offset is None else [f"limit={self._page_size}", f"offset={offset}"]
        fields = [f"includefield={','.join(include)}"] if include else []
        if fields and not self._include_refused:
            try:
                yield from self._peer.objects(_address(path, [*keys, *window, *fields]))
                return
            except ArchiveRefused as refusal:
                if refusal.status != 400:
                    raise
        yield from self._peer.objects(_address(path, [*keys, *window]))
        self._include_refused |= bool(fields)


def fingerprint(digests: Iterable[str]) -> str:
    """Return one digest for all the rows of a study, whatever their order."""
    different = sorted(set(digests))
    return different[0] if len(different) == 1 else _short("\n".join(different).encode())


def text(row: Json, tag: str) -> str | None:
    """Return the first value of an attribute as text, without pad; None when there is none."""
    values = _values(row, tag)
    if not values or not isinstance(values[0], str | int):
        return None
    return str(values[0]).strip(" \0") or None


def texts(row: Json, tag: str) -> list[str]:
    """Return the values of an attribute that are texts or numbers, without pad."""
    values = [
        str(value).strip(" \0") for value in _values(row, tag) if isinstance(value, str | int)
    ]
    return [value for value in values if value]


def date_of(row: Json) -> date | None:
    """Return the Study Date; None where none is stated, or no date."""
    try:
        return parse_date(text(row, STUDY_DATE) or "")
    except Unusable:
        return None


def hourly(_uid: str | None, at: datetime) -> str:
    """Take a study that states no counts for changed once an hour: a poll asks for few."""
    return f"{at:%Y%m%d%H}"


def monthly(uid: str | None, at: datetime) -> str:
    """Take it for changed once in thirty days, each study on a day of its own."""
    own = int.from_bytes(blake2b((uid or "").encode(), digest_size=2).digest())
    return str((at.date().toordinal() + own) // 30)


def summed_up(
    study_instance_uid: StudyInstanceUID,
    rows: Sequence[Json],
    at: datetime,
    stamp: Stamp = hourly,
) -> StudyRow:
    """Make one of all the rows of a study."""
    return StudyRow(
        study_instance_uid,
        _total(rows, _SERIES_COUNT),
        _total(rows, _INSTANCE_COUNT),
        fingerprint(digest(row, at, stamp) for row in rows),
        tuple(rows),
    )


def digest(row: Json, at: datetime, stamp: Stamp = hourly) -> str:
    """Return what of a study's row is compared, so that nothing can be read from it."""
    uid = uid_in(row, tags.STUDY_INSTANCE_UID)
    values = {tag: _values(row, tag) for tag in _COMPARED}
    values[MODALITIES_IN_STUDY] = sorted(map(str, values[MODALITIES_IN_STUDY]))
    if count(row, _INSTANCE_COUNT) is None:
        # Nothing tells whether such a study grew: it is taken for changed now and then.
        values["read"] = [stamp(uid, at)]
    return _short(_canonical([uid, values]))


def _canonical(said: object) -> bytes:
    try:
        return orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # half a surrogate pair, or more than 64 bits
        return json.dumps(said, sort_keys=True).encode()


def _address(path: str, parameters: Sequence[str]) -> str:
    return f"{path}?{'&'.join(parameters)}" if parameters else path


def _short(said: bytes) -> str:
    return blake2b(said, digest_size=12).hexdigest()


def _values(row: Json, tag: str) -> list[Any]:
    element = row.get(tag, row.get(tag.lower()))
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def count(row: Json, tag: str) -> int | None:
    """Return the first value of an attribute as a number; None when it is none."""
    try:
        return parse_integer(text(row, tag) or "")
    except Unusable:
        return None


def _total(rows: Sequence[Json], tag: str) -> int | None:
    counts = [count(row, tag) for row in rows]
    stated = [count for count in counts if count is not None]
    return sum(stated) if len(stated) == len(counts) else None
