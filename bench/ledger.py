"""Ledger: instance records a second at 100 a commit, and bytes per million instances.

Run with ``python -m bench.ledger [--instances N] [--directory DIR]``. The raw figure is the
standard library's sqlite3 doing the same inserts into the same table, with the same durability and
nothing else; the ratio of the two does not depend on the machine.
"""

import argparse
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

from bench.figures import Figure, table
from flute_sync.completeness import StudySettings
from flute_sync.intake import Delivery, Received
from flute_sync.ledger import Ledger, LedgerSettings
from flute_sync.ledger.columns import pack_uid
from flute_sync.study import (
    Accession,
    Code,
    Header,
    Instance,
    Issuer,
    Moment,
    PatientAttributes,
    PatientId,
    SeriesAttributes,
    SeriesInstanceUID,
    SOPInstanceUID,
    StudyAttributes,
    StudyInstanceUID,
)

COMMIT = 100
MIX = (  # modality, series, instances in each, share of the studies
    ("MR", 12, 60, 0.35),
    ("CT", 5, 250, 0.25),
    ("US", 1, 25, 0.15),
    ("CR", 2, 1, 0.15),
    ("MG", 4, 1, 0.10),
)
ROOT = "1.3.12.2.1107.5.2.43.66012"


def uid(random_: random.Random) -> str:
    """Return a UID of the length and look that modalities give."""
    return f"{ROOT}.{random_.randrange(10**16):016d}{random_.randrange(10**15):015d}.0.0.0"


def header(modality: str, number: int, variant: int, patient: int) -> Header:
    """Return a header with what a real one says."""
    return Header(
        "1.2.840.10008.5.1.4.1.1.4",
        PatientAttributes(
            PatientId(f"P{patient:08d}", Issuer("HOSPITAL")),
            name="Surname^Given Name",
            birth_date=date(1950, 1, 1),
            sex="M",
        ),
        StudyAttributes(
            Moment(date(2026, 3, 1)),
            study_id=f"{patient}",
            accessions=(Accession(f"A{patient:010d}", Issuer("HOSPITAL")),),
            description="MRI of the prostate, multiparametric",
            procedure_codes=(Code("719178004", "SCT", "Multiparametric MRI of prostate"),),
        ),
        SeriesAttributes(
            number=number,
            modality=modality,
            description=f"t2_tse_tra_{number}",
            started=Moment(date(2026, 3, 1)),
            body_part="PROSTATE",
            protocol_name=f"t2_tse_tra_{number}",
            manufacturer="A manufacturer of scanners",
            model_name="Model",
            station_name="STATION1",
            image_type=("ORIGINAL", "PRIMARY", "M", "ND"),
            diffusion_b_value=float(variant),
        ),
    )


def studies(seed: int, instances: int) -> Iterator[list[Received]]:
    """Yield the studies of a realistic mix until there are enough instances."""
    random_ = random.Random(seed)
    left = instances
    while left > 0:
        modality, series, count, _ = random_.choices(MIX, [mix[3] for mix in MIX])[0]
        study_uid = StudyInstanceUID(uid(random_))
        received = []
        for number in range(series):
            series_uid = SeriesInstanceUID(uid(random_))
            variants = [header(modality, number, variant, left) for variant in range(2)]
            received += [
                Received(
                    study_uid,
                    series_uid,
                    Instance(SOPInstanceUID(uid(random_)), index + 1, variants[index % 2]),
                )
                for index in range(count)
            ]
        yield received
        left -= len(received)


def deliveries(instances: int) -> list[Delivery]:
    """Return the mix cut as senders cut it: at most 100 instances, one study at a time."""
    return [
        Delivery("stow_rs", "pacs", datetime.now(UTC), tuple(received[start : start + COMMIT]))
        for received in studies(1, instances)
        for start in range(0, len(received), COMMIT)
    ]


def full(delivered: list[Delivery]) -> list[Delivery]:
    """Return the deliveries that bring exactly as many instances as a commit should have."""
    return [delivery for delivery in delivered if len(delivery.received) == COMMIT]


def timed(delivered: list[Delivery], ledger: Ledger) -> tuple[float, float]:
    """Deliver everything; return wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    for delivery in delivered:
        ledger.deliver(delivery)
    return time.perf_counter() - wall, time.process_time() - cpu


def timed_raw(delivered: list[Delivery], path: Path) -> tuple[float, float]:
    """Do the same inserts with sqlite3 alone; return wall and CPU seconds."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
        "CREATE TABLE instance (study_id INTEGER, sop_instance_uid BLOB, series INTEGER,"
        " header INTEGER, number INTEGER, generation INTEGER, archives INTEGER,"
        " PRIMARY KEY (study_id, sop_instance_uid)) WITHOUT ROWID;"
    )
    ids: dict[str, int] = {}
    wall, cpu = time.perf_counter(), time.process_time()
    for delivery in delivered:
        rows = [
            (
                ids.setdefault(item.study_instance_uid, len(ids)),
                pack_uid(item.instance.sop_instance_uid),
                1,
                1,
                item.instance.number,
                1,
                1,
            )
            for item in delivery.received
        ]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO instance VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
    taken = time.perf_counter() - wall, time.process_time() - cpu
    connection.close()
    return taken


def size_of(path: Path) -> int:
    """Return the bytes of a database file with everything checkpointed."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path.stat().st_size


def main() -> None:
    """Print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--instances", type=int, default=200_000)
    arguments.add_argument("--directory", type=Path)
    options = arguments.parse_args()
    print(table(figures(options.instances, options.directory)))


def figures(instances: int = 200_000, directory: Path | None = None) -> Iterator[Figure]:
    """Fill a ledger with a realistic mix, and the raw table with the same instances."""
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        path = Path(folder) / "ledger.db"
        ledger = Ledger.open(LedgerSettings(url=f"sqlite:///{path}"), StudySettings(), create=True)
        mix = deliveries(instances)
        measured = full(mix)
        records = COMMIT * len(measured)
        wall, cpu = timed(measured, ledger)
        raw_wall, raw_cpu = timed_raw(measured, Path(folder) / "raw.db")
        again, _ = timed(measured, ledger)
        timed([delivery for delivery in mix if len(delivery.received) != COMMIT], ledger)
        total = ledger.status(datetime.now(UTC))
        ledger.close()
        size = size_of(path)
    detail = f"{cpu / records * 1e6:.1f} us CPU each, synchronous=FULL; "
    detail += f"raw sqlite3 {records / raw_wall:.0f}/s, {raw_cpu / records * 1e6:.1f} us"
    rate = records / wall / 1000
    yield Figure("ledger, 100 a commit", rate, "thousand/s", at_least=50, detail=detail)
    yield Figure("ledger, against raw sqlite3", raw_wall / wall)
    yield Figure("ledger, known instances again", records / again / 1000, "thousand/s")
    detail = f"{sum(total.counts.values())} studies, {total.series} series"
    each = size / total.instances
    yield Figure("ledger, a million instances", each, "MB", at_most=120, detail=detail)


if __name__ == "__main__":
    main()
