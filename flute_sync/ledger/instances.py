"""Rows of the big table, in the driver's own words: they are written a million times."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, delete, select

from flute_sync.ledger.rows import chunks
from flute_sync.ledger.tables import header, instance, series

_COLUMNS: Final = (
    "study_id, sop_instance_uid, series, header, number, generation, archives"  # as in Held
)
_MARKS: Final = {"sqlite": "?", "postgresql": "%s"}


class Held(NamedTuple):
    """One instance of a study, as it is stored."""

    study_id: int
    sop_instance_uid: bytes
    series: int
    header: int
    number: int | None
    generation: int
    archives: int


def known(connection: Connection, study_id: int, uids: Sequence[bytes]) -> dict[bytes, Held]:
    """Return those of some instances that the study has, by packed UID."""
    found: dict[bytes, Held] = {}
    for part in chunks(uids):
        if connection.dialect.name == "sqlite":
            marks = ", ".join("?" * len(part))
            query = _KNOWN.format(mark="?", among=f"IN ({marks})")
            rows = connection.exec_driver_sql(query, (study_id, *part))
        else:
            query = _KNOWN.format(mark="%s", among="= ANY(%s)")
            rows = connection.exec_driver_sql(query, (study_id, list(part)))
        found |= {row[1]: Held(*row) for row in rows}
    return found


def all_known(connection: Connection, study_id: int) -> dict[bytes, Held]:
    """Return all instances of a study, by packed UID."""
    query = select(instance).where(instance.c.study_id == study_id)
    return {row.sop_instance_uid: Held(*row) for row in connection.execute(query)}


def add(connection: Connection, rows: Collection[Held]) -> None:
    """Insert instances; their series and headers are there."""
    _execute_many(connection, _INSERT, list(rows))


def change(connection: Connection, rows: Iterable[Held]) -> None:
    """Write other values of known instances."""
    _execute_many(connection, _UPDATE, [(*row[2:], *row[:2]) for row in rows])


def remove(connection: Connection, rows: Iterable[Held]) -> None:
    """Remove instances."""
    _execute_many(connection, _DELETE, [row[:2] for row in rows])


def _execute_many(
    connection: Connection, statement: str, rows: Sequence[tuple[object, ...]]
) -> None:
    if rows:
        statement = statement.format(mark=_MARKS[connection.dialect.name])
        connection.exec_driver_sql(statement, list(rows))


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


_KNOWN: Final = (
    f"SELECT {_COLUMNS} FROM instance WHERE study_id = {{mark}} AND sop_instance_uid {{among}}"  # noqa: S608  no value is in the text
)
_INSERT: Final = f"INSERT INTO instance ({_COLUMNS}) VALUES ({', '.join(['{mark}'] * 7)})"  # noqa: S608
_UPDATE: Final = (
    "UPDATE instance SET series = {mark}, header = {mark}, number = {mark}, generation = {mark},"
    " archives = {mark} WHERE study_id = {mark} AND sop_instance_uid = {mark}"
)
_DELETE: Final = "DELETE FROM instance WHERE study_id = {mark} AND sop_instance_uid = {mark}"
