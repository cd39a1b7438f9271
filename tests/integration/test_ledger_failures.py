"""Full disks, damaged files, lost connections: what the ledger says, and that it recovers."""

import sqlite3
import stat
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.pool import QueuePool

from flute_sync.ledger_errors import LedgerAbsent, LedgerBusy, LedgerCorrupt, LedgerUnavailable
from flute_sync.settings_errors import ConfigurationError
from tests.contract.ledger_site import STUDY, Clock, Site, received, synced
from tests.services.process import free_port


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def site(path: Path):
    made = Site(f"sqlite:///{path}")
    yield made
    made.close()


def _limit_pages(site: Site, pages: int) -> None:
    """Let every connection of the ledger find its disk full."""
    pool = site.ledger._database._engine.pool
    assert isinstance(pool, QueuePool)
    held = [pool.connect() for _ in range(pool.checkedin())]
    for connection in held:
        connection.cursor().execute(f"PRAGMA max_page_count = {pages}").close()
    for connection in held:
        connection.close()


def test_a_full_disk_is_said_and_recovered_from(site: Site) -> None:
    site.deliver(received([1]))
    (used,) = site.rows("PRAGMA page_count")[0]
    _limit_pages(site, used)
    with pytest.raises(LedgerUnavailable) as raised:
        site.deliver(received(range(2, 5000)))
    assert "SQLITE_FULL" in str(raised.value)
    assert site.view().instances == 1
    claimed = site.claim()
    with pytest.raises(LedgerUnavailable):
        site.snapshot(claimed, received(range(5000)))
    _limit_pages(site, 2**30)
    site.deliver(received(range(2, 5000)))
    assert site.view().instances == 4999


def test_a_disk_is_full_until_something_was_written(site: Site) -> None:
    """Workers who find nothing to do write nothing, and so say nothing of the disk."""
    site.deliver(received([1]))
    assert site.claim() is not None
    site.ledger.try_again()
    (used,) = site.rows("PRAGMA page_count")[0]
    _limit_pages(site, used)
    with pytest.raises(LedgerUnavailable):
        site.deliver(received(range(2, 5000)))
    assert site.ledger.claim("worker") is None
    assert site.ledger._database.trouble is not None
    site.ledger.try_again()
    assert site.ledger._database.trouble is None


def test_the_files_are_private(site: Site, path: Path) -> None:
    site.deliver(received([1]))
    files = sorted(path.parent.glob("ledger.db*"))
    assert [file.name for file in files] == ["ledger.db", "ledger.db-shm", "ledger.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_commits_are_durable(site: Site) -> None:
    with site.ledger._database.write() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_file_that_is_no_database_is_left_alone(site: Site, path: Path) -> None:
    path.write_bytes(b"not a database, but something that matters to somebody" * 100)
    before = path.read_bytes()
    with pytest.raises(LedgerCorrupt):
        site.open()
    assert path.read_bytes() == before


def test_a_damaged_ledger_is_said_to_be_damaged(site: Site, path: Path) -> None:
    site.deliver(received(range(3000)))
    site.close()
    site.opened.clear()
    data = bytearray(path.read_bytes())
    data[8192:] = b"\xff" * (len(data) - 8192)
    path.write_bytes(data)
    with pytest.raises(LedgerCorrupt):
        site.open().study_view(STUDY)


def test_a_dropped_table_is_said(site: Site) -> None:
    site.deliver(received([1]))
    site.execute("DROP TABLE event")
    with pytest.raises(LedgerCorrupt):
        site.view()


def test_an_empty_file_is_no_ledger_yet(site: Site, path: Path) -> None:
    path.touch()
    with pytest.raises(LedgerAbsent):
        site.open(create=False)
    site.open(create=True)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no directory"):
        Site(f"sqlite:///{tmp_path}/absent/ledger.db").open()


def test_a_directory_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable):
        Site(f"sqlite:///{tmp_path}").open()


def test_another_process_that_holds_the_lock_is_waited_for(site: Site, path: Path) -> None:
    ledger = site.open(busy_timeout="200ms")
    locker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    locker.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerBusy):
        site.deliver(received([1]))
    locker.execute("COMMIT")
    site.deliver(received([1]))
    assert ledger.study_view(STUDY).instances == 1
    locker.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.05, lambda: locker.execute("COMMIT"))
    release.start()
    site.deliver(received([2]))
    release.join()
    locker.close()
    assert site.view().instances == 2


def test_readers_do_not_wait_for_a_writer(site: Site, path: Path) -> None:
    site.deliver(received([1]))
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    assert site.view().instances == 1
    locker.close()


def test_a_server_that_is_not_there() -> None:
    site = Site(f"postgresql://nobody@127.0.0.1:{free_port()}/ledger")
    with pytest.raises(LedgerUnavailable):
        site.open()


def test_a_server_that_drops_its_connections(postgresql: Any) -> None:
    url = postgresql.new_database()
    site = Site(url, Clock())
    site.deliver(received([1]))
    claimed = site.claim()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    site.deliver(received([2]))
    site.ledger.settle(claimed, synced())
    assert site.view().instances == 2
    site.close()


def test_a_connection_lost_within_a_transaction(postgresql: Any) -> None:
    site = Site(postgresql.new_database(), Clock())
    site.deliver(received([1]))
    with pytest.raises(LedgerUnavailable), site.ledger._database.write() as connection:
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    site.deliver(received([2]))
    assert site.view().instances == 2
    site.close()


def test_a_database_that_does_not_exist(postgresql: Any) -> None:
    with pytest.raises(LedgerUnavailable):
        Site(postgresql.new_database() + "x").open()


def test_a_password_comes_from_a_file(postgresql: Any, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("trusted anyway\n")
    site = Site(postgresql.new_database(), Clock())
    assert site.open(password_file=str(secret)).next_due() is None
    site.close()
