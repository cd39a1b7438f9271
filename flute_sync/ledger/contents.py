"""Series, headers and instances of studies whose rows are locked.

Numbers of series and headers are given out from the study's row and only for an instance that
refers to them, so that nothing is stored that no instance has.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, update

from flute_sync.intake import Received
from flute_sync.ledger.columns import HeaderStore, Stored
from flute_sync.ledger.rows import StudyRow, chunks
from flute_sync.ledger.tables import header, instance, series
from flute_sync.study import EXTRACTION_VERSION, SeriesInstanceUID

InstanceRow = dict[str, Any]
"""A row of `instance` by column name: it is what the driver wants a million times."""

_SERIES: Final = select(series.c.study_id, series.c.series_instance_uid, series.c.series).where(
    series.c.series_instance_uid.in_(bindparam("uids", expanding=True))
)
_HEADERS: Final = select(header.c.study_id, header.c.digest, header.c.header).where(
    header.c.study_id.in_(bindparam("studies", expanding=True)),
    header.c.digest.in_(bindparam("digests", expanding=True)),
)
_KNOWN: Final = select(instance).where(
    instance.c.study_id == bindparam("of"),
    instance.c.sop_instance_uid.in_(bindparam("uids", expanding=True)),
)
_SAME: Final = and_(
    instance.c.study_id == bindparam("of"),
    instance.c.sop_instance_uid == bindparam("uid"),
)
_VALUES: Final = ("series", "header", "number", "generation", "archives")
_INSERT: Final = insert(instance)
_UPDATE: Final = update(instance).where(_SAME).values({name: bindparam(name) for name in _VALUES})
_DELETE: Final = delete(instance).where(_SAME)


class Place(NamedTuple):
    """Where an instance belongs; None where its study does not have that yet."""

    series: int | None
    header: int | None


@dataclass(slots=True)
class Contents:
    """What is in some studies, looked up for what arrives and completed by it."""

    connection: Connection
    headers: HeaderStore
    _series: dict[tuple[int, str], int] = field(default_factory=dict)
    _headers: dict[tuple[int, bytes], int] = field(default_factory=dict)
    _elsewhere: dict[str, set[int]] = field(default_factory=dict)
    _new_series: list[dict[str, object]] = field(default_factory=list)
    _new_headers: list[dict[str, object]] = field(default_factory=list)

    def look_up(self, arriving: Iterable[tuple[StudyRow, Iterable[Received]]]) -> None:
        """Find the series and headers that are there already."""
        studies: set[int] = set()
        uids: set[str] = set()
        digests: set[bytes] = set()
        for study, received in arriving:
            studies.add(study.id)
            for item in received:
                uids.add(item.series_instance_uid)
                digests.add(self.headers.store(item.instance.header).digest)
        self._find_series(studies, sorted(uids))
        for ids in chunks(sorted(studies)):
            self._find_headers(ids, sorted(digests))

    def _find_series(self, studies: Collection[int], uids: Sequence[str]) -> None:
        for part in chunks(uids):
            for study_id, uid, number in self.connection.execute(_SERIES, {"uids": part}):
                if study_id in studies:
                    self._series[study_id, uid] = number
                else:
                    self._elsewhere.setdefault(uid, set()).add(study_id)

    def _find_headers(self, studies: Sequence[int], digests: Sequence[bytes]) -> None:
        for part in chunks(digests):
            found = self.connection.execute(_HEADERS, {"studies": studies, "digests": part})
            for study_id, digest, number in found:
                self._headers[study_id, digest] = number

    def place(self, study: StudyRow, received: Received) -> Place:
        """Return where an instance would belong."""
        digest = self.headers.store(received.instance.header).digest
        return Place(
            self._series.get((study.id, received.series_instance_uid)),
            self._headers.get((study.id, digest)),
        )

    def make_place(self, study: StudyRow, received: Received) -> tuple[int, int]:
        """Return where an instance belongs, giving out what its study does not have yet."""
        stored = self.headers.store(received.instance.header)
        place = self.place(study, received)
        number = place.series
        if number is None:
            number = self._give_series(study, received.series_instance_uid)
        variant = place.header
        if variant is None:
            variant = self._give_header(study, stored)
        return number, variant

    def _give_series(self, study: StudyRow, uid: SeriesInstanceUID) -> int:
        study.last_series += 1
        study.series_count += 1
        self._series[study.id, uid] = study.last_series
        self._new_series.append(
            {"study_id": study.id, "series": study.last_series, "series_instance_uid": uid}
        )
        return study.last_series

    def _give_header(self, study: StudyRow, stored: Stored) -> int:
        study.last_header += 1
        self._headers[study.id, stored.digest] = study.last_header
        self._new_headers.append(
            {
                "study_id": study.id,
                "header": study.last_header,
                "digest": stored.digest,
                "extraction_version": EXTRACTION_VERSION,
                "text": stored.text,
            }
        )
        return study.last_header

    def moved_from(self) -> set[int]:
        """Return the other studies that have a series which is new here."""
        new = {str(row["series_instance_uid"]) for row in self._new_series}
        return set().union(*(ids for uid, ids in self._elsewhere.items() if uid in new))

    def write(self, added: Sequence[InstanceRow], changed: Sequence[InstanceRow]) -> None:
        """Write new series and headers, then the instances that refer to them."""
        if self._new_series:
            self.connection.execute(insert(series), self._new_series)
        if self._new_headers:
            self.connection.execute(insert(header), self._new_headers)
        if added:
            self.connection.execute(_INSERT, added)
        if changed:
            self.connection.execute(
                _UPDATE,
                [
                    {"of": row["study_id"], "uid": row["sop_instance_uid"]}
                    | {name: row[name] for name in _VALUES}
                    for row in changed
                ],
            )


def known(connection: Connection, study_id: int, uids: Sequence[bytes]) -> dict[bytes, InstanceRow]:
    """Return those of some instances that the study has, by packed UID."""
    return {
        row["sop_instance_uid"]: dict(row)
        for part in chunks(uids)
        for row in connection.execute(_KNOWN, {"of": study_id, "uids": part}).mappings()
    }


def all_known(connection: Connection, study_id: int) -> dict[bytes, InstanceRow]:
    """Return all instances of a study, by packed UID."""
    query = select(instance).where(instance.c.study_id == study_id)
    return {row["sop_instance_uid"]: dict(row) for row in connection.execute(query).mappings()}


def remove(connection: Connection, rows: Collection[InstanceRow]) -> None:
    """Remove instances."""
    if rows:
        connection.execute(
            _DELETE, [{"of": row["study_id"], "uid": row["sop_instance_uid"]} for row in rows]
        )


def forget_unused(connection: Connection, study_id: int) -> int:
    """Remove the study's series and headers that no instance has; return how many series stay."""
    for table, number in ((series, series.c.series), (header, header.c.header)):
        used = select(instance.c[number.name]).where(instance.c.study_id == study_id)
        connection.execute(
            delete(table).where(table.c.study_id == study_id, number.not_in(used.distinct()))
        )
    left = select(series.c.series).where(series.c.study_id == study_id)
    return len(connection.execute(left).all())


def forget_all(connection: Connection, study_id: int) -> None:
    """Remove everything that headers said of a study."""
    for table in (instance, series, header):
        connection.execute(delete(table).where(table.c.study_id == study_id))
