"""Series of which archives tell no instances: what they say of the series alone.

Each archive has its own statement of a series; instances that are known make it needless.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flute_sync.intake import Stated
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.instances import Held
from flute_sync.ledger.places import Places
from flute_sync.ledger.rows import StudyRow, chunks
from flute_sync.study import Header, SeriesInstanceUID

_FORGET: Final = "DELETE FROM stated_series WHERE study_id = ? AND archive_id = ?"
_KEEP: Final = (
    "INSERT INTO stated_series (study_id, series_instance_uid, archive_id, header, instance_count)"
    " VALUES (?, ?, ?, ?, ?)"
)
_NUMBERS: Final = (
    "SELECT series, series_instance_uid FROM series WHERE study_id = ?"
    " AND series_instance_uid IN (?)"
)
_COUNT: Final = (
    "SELECT count(*), coalesce(sum(most), 0) FROM ("
    "SELECT coalesce(max(instance_count), 0) AS most FROM stated_series WHERE study_id = ?"
    " AND series_instance_uid NOT IN (SELECT series_instance_uid FROM series WHERE study_id = ?)"
    " GROUP BY series_instance_uid) AS alone"
)
_OF_STUDY: Final = (
    "SELECT series_instance_uid, archive_id, header, instance_count FROM stated_series"
    " WHERE study_id = ?"
)


@dataclass(frozen=True, slots=True)
class Statement:
    """What archives say of one series: who does, the first one's header, the highest count."""

    header: Header
    archives: frozenset[str]
    instance_count: int | None


def replace_all(
    driver: Driver, study: StudyRow, archive_id: int, stated: Sequence[Stated], places: Places
) -> None:
    """Replace what one archive says of series; headers are given out, not written yet."""
    numbers = places.give_headers(study, [one.header for one in stated])
    driver.run(_FORGET, [(study.id, archive_id)])
    rows = [
        (study.id, one.series_instance_uid, archive_id, number, one.instance_count)
        for one, number in zip(stated, numbers, strict=True)
    ]
    places.write()
    driver.run(_KEEP, rows)


def confirmed(
    driver: Driver, study: StudyRow, stated: Sequence[Stated], known: Sequence[Held]
) -> set[int]:
    """Return the numbers of the stated series whose known instances may all be there still.

    Where fewer are stated than are known, some were deleted, and which ones nobody tells.
    """
    counts = {one.series_instance_uid: one.instance_count for one in stated}
    numbers = {
        number: counts[SeriesInstanceUID(uid)]
        for part in chunks(sorted(counts))
        for number, uid in driver.rows(_NUMBERS, study.id, list(part))
    }
    sizes = Counter(held.series for held in known)
    return {number for number, count in numbers.items() if count is None or sizes[number] <= count}


def recount(driver: Driver, study: StudyRow) -> None:
    """Count anew what is known by statements alone, once series were added or removed."""
    ((study.stated_series, study.stated_instances),) = driver.rows(_COUNT, study.id, study.id)


def of_study(
    driver: Driver, study_id: int, headers: dict[int, Header], names: dict[int, str]
) -> dict[str, Statement]:
    """Return what is said of a study's series.

    Parameters
    ----------
    names
        The archives by id, the first to be believed first.
    """
    found: defaultdict[str, dict[int, tuple[int, int | None]]] = defaultdict(dict)
    for uid, archive_id, header, count in driver.rows(_OF_STUDY, study_id):
        found[uid][archive_id] = header, count
    return {
        uid: Statement(
            headers[next(said[archive] for archive in names if archive in said)[0]],
            frozenset(names[archive] for archive in said),
            max((count for _, count in said.values() if count is not None), default=None),
        )
        for uid, said in found.items()
    }
