"""Rows of the big table."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, delete

from flute_sync.ledger.driver import Driver
from flute_sync.ledger.rows import chunks
from flute_sync.ledger.tables import header, instance, series, stated_series

_COLUMNS: Final = (
    "study_id, sop_instance_uid, series, header, number, generation, archives"  # as in Held
)


class Held(NamedTuple):
    """One instance of a study, as it is stored."""

    study_id: int
    sop_instance_uid: bytes
    series: int
    header: int
    number: int | None
    generation: int
    archives: int


def known(driver: Driver, study_id: int, uids: Sequence[bytes]) -> dict[bytes, Held]:
    """Return those of some instances that the study has, by packed UID."""
    return {
        row[1]: Held(*row)
        for part in chunks(uids)
        for row in driver.rows(_KNOWN, study_id, list(part))
    }


def all_known(driver: Driver, study_id: int) -> dict[bytes, Held]:
    """Return all instances of a study, by packed UID."""
    return {row[1]: Held(*row) for row in driver.rows(_ALL, study_id)}


def add(driver: Driver, rows: Iterable[Held]) -> None:
    """Insert instances; their series and headers are there."""
    driver.run(_INSERT, list(rows))


def change(driver: Driver, rows: Iterable[Held]) -> None:
    """Write other values of known instances."""
    driver.run(_UPDATE, [(*row[2:], *row[:2]) for row in rows])


def remove(driver: Driver, rows: Iterable[Held]) -> None:
    """Remove instances."""
    driver.run(_DELETE, [row[:2] for row in rows])


def texts(driver: Driver, study_id: int, archives: int) -> list[str]:
    """Return the headers, as stored, of the instances that some archives hold."""
    return [text for (text,) in driver.rows(_TEXTS, study_id, study_id, archives)]


def forget_unused_headers(driver: Driver, study_id: int) -> None:
    """Remove the headers of a study that nothing has."""
    driver.run(_FORGET, [(study_id, study_id, study_id)])


def forget_unused(driver: Driver, study_id: int) -> int:
    """Remove the series and headers of a study that nothing has; return how many series stay."""
    driver.run(_FORGET_SERIES, [(study_id, study_id)])
    forget_unused_headers(driver, study_id)
    ((left,),) = driver.rows(_COUNT_SERIES, study_id)
    return int(left)


def forget_all(connection: Connection, study_id: int) -> None:
    """Remove everything that headers said of a study."""
    for table in (instance, stated_series, series, header):
        connection.execute(delete(table).where(table.c.study_id == study_id))


_ALL: Final = f"SELECT {_COLUMNS} FROM instance WHERE study_id = ?"  # noqa: S608
_KNOWN: Final = f"{_ALL} AND sop_instance_uid IN (?)"
_INSERT: Final = f"INSERT INTO instance ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_UPDATE: Final = (
    "UPDATE instance SET series = ?, header = ?, number = ?, generation = ?, archives = ?"
    " WHERE study_id = ? AND sop_instance_uid = ?"
)
_TEXTS: Final = (
    "SELECT text FROM header WHERE study_id = ? AND header IN"
    " (SELECT header FROM instance WHERE study_id = ? AND archives & ? <> 0)"
)
_FORGET: Final = (
    "DELETE FROM header WHERE study_id = ?"
    " AND header NOT IN (SELECT header FROM instance WHERE study_id = ?)"
    " AND header NOT IN (SELECT header FROM stated_series WHERE study_id = ?)"
)
_FORGET_SERIES: Final = (
    "DELETE FROM series WHERE study_id = ?"
    " AND series NOT IN (SELECT series FROM instance WHERE study_id = ?)"
)
_COUNT_SERIES: Final = "SELECT count(*) FROM series WHERE study_id = ?"
_DELETE: Final = "DELETE FROM instance WHERE study_id = ? AND sop_instance_uid = ?"
