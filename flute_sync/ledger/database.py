"""Connections: how SQLite and PostgreSQL are opened, read and written."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection

from flute_sync.errors import FluteSyncError
from flute_sync.ledger.failures import translated
from flute_sync.ledger.settings import LedgerSettings
from flute_sync.ledger_errors import LedgerAbsent, LedgerBusy, LedgerCorrupt, LedgerUnavailable
from flute_sync.settings_errors import ConfigurationError
from flute_sync.transport.secret import read_secret

_T = TypeVar("_T")

_MODE: Final = 0o600
_JOURNAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
_CACHE_KIB: Final = 16 * 1024
_BUSY_PAUSE: Final = timedelta(milliseconds=20)
_CONNECT_TIMEOUT: Final = timedelta(seconds=5)
_STATEMENT_TIMEOUT: Final = timedelta(minutes=1)


class Database:
    """The ledger's database; every error that leaves its context managers is one of ours."""

    def __init__(self, settings: LedgerSettings, *, create: bool) -> None:
        password = read_secret(settings.password_file) if settings.password_file else None
        url = settings.database_url(password)
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._patience = settings.busy_timeout
        self._turn = threading.Lock()
        self.trouble: FluteSyncError | None = None
        """Why the last transaction that writes could not be written; None when it was."""
        if self.is_sqlite:
            _prepare_file(Path(url.database or ""), create=create)
        self._engine = self._open(url, settings)
        self._driver_error: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        self._reader = self._engine.execution_options(
            **({} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"})
        )

    def _open(self, url: URL, settings: LedgerSettings) -> Engine:
        options: dict[str, Any] = {
            "hide_parameters": True,
            "pool_size": settings.connections,
            "max_overflow": 0,
            "pool_timeout": settings.busy_timeout.total_seconds(),
        }
        if self.is_sqlite:
            engine = create_engine(url, **options)
            _listen(engine, settings.busy_timeout)
            return engine
        return create_engine(
            url, pool_pre_ping=True, connect_args=_postgresql_arguments(settings), **options
        )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Read one consistent state, without locks."""
        with translated(self._driver_error), self._reader.connect() as connection:
            if self.is_sqlite:
                connection.connection.cursor().execute("BEGIN")
            yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """Write in one transaction: all or nothing, durable when this returns.

        On SQLite it begins IMMEDIATE, and the threads of this process queue here: waiting for
        the database's own lock is polling. There ``durable=False`` spares the wait for the disk:
        a power cut may undo the transaction, as the death of a process may not.
        """
        with translated(self._driver_error), self._queue(), self._engine.begin() as connection:
            if self.is_sqlite:
                cursor = connection.connection.cursor()
                cursor.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                cursor.execute("BEGIN IMMEDIATE")
            yield connection

    def transact(self, work: Callable[[Connection], _T], *, durable: bool = True) -> _T:
        """Do work in one transaction, again where PostgreSQL chose it to resolve a deadlock."""
        deadline = time.monotonic() + self._patience.total_seconds()
        while True:
            try:
                with self.write(durable=durable) as connection:
                    before = self._rows_written(connection)
                    done = work(connection)
                    wrote = self._rows_written(connection) != before
                if wrote or not self.is_sqlite:
                    self.trouble = None
                return done
            except (LedgerUnavailable, LedgerCorrupt) as error:
                self.trouble = error
                raise
            except LedgerBusy:
                if self.is_sqlite or time.monotonic() > deadline:
                    raise

    def _rows_written(self, connection: Connection) -> int:
        """Count what a connection to SQLite wrote: on a full disk what writes nothing succeeds."""
        driver = connection.connection.driver_connection
        return driver.total_changes if isinstance(driver, sqlite3.Connection) else 0

    @contextmanager
    def _queue(self) -> Iterator[None]:
        if not self.is_sqlite:
            yield
            return
        if not self._turn.acquire(timeout=self._patience.total_seconds()):
            raise LedgerBusy("another thread is writing")
        try:
            yield
        finally:
            self._turn.release()

    def use_wal(self) -> None:
        """Let SQLite's readers and its writer not wait for each other; the file remembers it.

        SQLite does not always wait by itself here while another process does the same.
        """
        if not self.is_sqlite:
            return
        deadline = time.monotonic() + self._patience.total_seconds()
        while True:
            try:
                with translated(self._driver_error), self._engine.connect() as connection:
                    cursor = connection.connection.cursor()
                    cursor.execute("PRAGMA journal_mode = WAL")
                    cursor.close()
                return
            except LedgerBusy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_BUSY_PAUSE.total_seconds())

    def rewrite(self) -> bool:
        """Write SQLite's file anew and empty its journal, so that nothing deleted is left there.

        Returns whether that was done: PostgreSQL does it by itself, in its time.

        Raises
        ------
        LedgerBusy
            Others read or write all the time.
        LedgerUnavailable
            There is no space for a copy.
        """
        if not self.is_sqlite:
            return False
        with (
            translated(self._driver_error),
            self._queue(),
            self._engine.connect() as connection,
        ):
            cursor = connection.connection.cursor()
            cursor.execute("PRAGMA temp_store = FILE")  # the copy may be larger than the memory
            try:
                cursor.execute("VACUUM")
            finally:
                cursor.execute("PRAGMA temp_store = MEMORY")
            deadline = time.monotonic() + self._patience.total_seconds()
            while cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > deadline:
                    raise LedgerBusy("a reader keeps the journal from being emptied")
                time.sleep(_BUSY_PAUSE.total_seconds())
            cursor.close()
        return True

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def one_at_a_time(connection: Connection, table: Table) -> None:
    """Let only this transaction write a small table; SQLite's writers are alone anyway."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE")


def _prepare_file(path: Path, *, create: bool) -> None:
    """Make the file private before SQLite opens it: -wal and -shm get the mode of the file."""
    if not path.parent.is_dir():
        raise ConfigurationError(f"ledger.url: there is no directory {path.parent}")
    try:
        if create:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, _MODE))
        elif not path.stat().st_size:
            raise LedgerAbsent(str(path))
    except FileNotFoundError:
        raise LedgerAbsent(str(path)) from None
    except OSError as error:
        raise LedgerUnavailable(f"{path}: {error.strerror}") from error


def _listen(engine: Engine, patience: timedelta) -> None:
    """Prepare each connection; transactions are begun here, not by the driver."""

    @event.listens_for(engine, "connect")
    def _connected(connection: DBAPIConnection, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout = {int(patience.total_seconds() * 1000)}",
            "foreign_keys = ON",
            "synchronous = FULL",
            "temp_store = MEMORY",
            "secure_delete = ON",  # what is deleted is overwritten
            f"cache_size = -{_CACHE_KIB}",
            f"journal_size_limit = {_JOURNAL_LIMIT_BYTES}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


def _postgresql_arguments(settings: LedgerSettings) -> dict[str, Any]:
    statement = int(_STATEMENT_TIMEOUT.total_seconds() * 1000)
    lock = int(settings.busy_timeout.total_seconds() * 1000)
    return {
        "connect_timeout": int(_CONNECT_TIMEOUT.total_seconds()),
        "tcp_user_timeout": lock,
        "application_name": "flute-sync",
        "options": f"-c synchronous_commit=on -c statement_timeout={statement}"
        f" -c lock_timeout={lock}",
    }
