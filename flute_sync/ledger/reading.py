"""Reading a study back as the frozen value it is."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import BindParameter, Connection, bindparam, select

from flute_sync.ledger.columns import load_header, unpack_uid
from flute_sync.ledger.tables import archive, header, instance, series, study, study_archive
from flute_sync.study import Instance, Series, SeriesInstanceUID, Study

_OF: Final[BindParameter[int]] = bindparam("of")
_STUDY: Final = select(study.c.study_instance_uid, study.c.calling_ae_titles).where(
    study.c.id == _OF
)
_ARCHIVES: Final = (
    select(
        archive.c.id,
        archive.c.name,
        study_archive.c.series_count,
        study_archive.c.instance_count,
        study_archive.c.absences,
    )
    .join(study_archive, study_archive.c.archive_id == archive.c.id)
    .where(study_archive.c.study_id == _OF)
)
_HEADERS: Final = select(header.c.header, header.c.text).where(header.c.study_id == _OF)
_SERIES: Final = (
    select(series.c.series, series.c.series_instance_uid)
    .where(series.c.study_id == _OF)
    .order_by(series.c.series_instance_uid)
)
_INSTANCES: Final = (
    select(
        instance.c.sop_instance_uid,
        instance.c.series,
        instance.c.header,
        instance.c.number,
        instance.c.archives,
    )
    .where(instance.c.study_id == _OF)
    .order_by(instance.c.sop_instance_uid)
)


def load_study(connection: Connection, study_id: int) -> Study:
    """Return all that is known of a study, in an order that does not depend on how it came."""
    of = {"of": study_id}
    uid, callers = connection.execute(_STUDY, of).one()
    archives = connection.execute(_ARCHIVES, of).all()
    headers = {number: load_header(text) for number, text in connection.execute(_HEADERS, of)}
    members: dict[int, list[Instance]] = {}
    holders: dict[int, int] = {}
    for packed, number, variant, instance_number, held in connection.execute(_INSTANCES, of):
        members.setdefault(number, []).append(
            Instance(unpack_uid(packed), instance_number, headers[variant])
        )
        holders[number] = holders.get(number, 0) | held
    names = {1 << (row.id - 1): row.name for row in archives}
    parts = tuple(
        Series(
            SeriesInstanceUID(series_uid),
            tuple(members[number]),
            frozenset(name for bit, name in names.items() if holders[number] & bit),
        )
        for number, series_uid in connection.execute(_SERIES, of)
    )
    return Study(
        study_instance_uid=uid,
        series=parts,
        series_count=_most(row.series_count for row in archives),
        instance_count=_most(row.instance_count for row in archives),
        archives=frozenset[str]().union(*(part.archives for part in parts)),
        calling_ae_titles=frozenset(callers),
        vanished=bool(archives) and all(row.absences for row in archives),
    )


def _most(counts: Iterable[int | None]) -> int | None:
    return max((count for count in counts if count is not None), default=None)
