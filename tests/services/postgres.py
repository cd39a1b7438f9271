"""A PostgreSQL cluster of the tests' own."""

import os
import pwd
import shutil
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from tests.services.missing import postgresql_tool
from tests.services.process import Process, ServiceFailedError, free_port

START_SECONDS = 120
SUPERUSER = "flute"


@dataclass
class Postgres:
    """A cluster on loopback; its databases are made by `new_database`.

    Parameters
    ----------
    directory
        Its data and log. PostgreSQL refuses to run as root: then the directory, and every one
        above it, must be open to the user `postgres`.
    durable
        Whether a commit waits for the disk, and tables are vacuumed: a bench wants it. Tests that
        kill processes do not, and have hundreds of databases to vacuum, each within a minute.
    """

    directory: Path
    durable: bool = False
    port: int = field(default_factory=free_port)
    process: Process | None = None

    def start(self) -> None:
        """Make the cluster if there is none, start it and wait until it answers."""
        data = self.directory / "data"
        if os.geteuid() == 0:
            shutil.chown(self.directory, "postgres", "postgres")
        if not data.exists():
            self._initdb(data)
        onoff = "on" if self.durable else "off"
        self.process = Process(
            [
                *as_ordinary_user(), _tool("postgres"), "-D", str(data), "-p", str(self.port),
                "-h", "127.0.0.1", "-k", "", "-c", f"fsync={onoff}",
                "-c", f"synchronous_commit={onoff}", "-c", f"full_page_writes={onoff}",
                "-c", f"autovacuum={onoff}",
            ],
            self.directory / "postgres.log",
        )  # fmt: skip
        self.process.await_ready(self._answers, START_SECONDS)

    def stop(self) -> None:
        """End it; its databases stay."""
        if self.process is not None:
            self.process.stop()
            self.process = None

    def new_database(self) -> str:
        """Make an empty database.

        Returns
        -------
        str
            Its address for SQLAlchemy with psycopg.
        """
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return f"postgresql+psycopg://{SUPERUSER}@127.0.0.1:{self.port}/{name}"

    def _dsn(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._dsn("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _initdb(self, data: Path) -> None:
        made = subprocess.run(
            [
                *as_ordinary_user(), _tool("initdb"), "-D", str(data), "-U", SUPERUSER,
                "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync",
            ],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if made.returncode:
            raise ServiceFailedError(made.stderr)


def as_ordinary_user() -> list[str]:
    """The prefix of a command that must not run as root; empty for anybody else."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _tool(name: str) -> str:
    path = postgresql_tool(name)
    assert path is not None
    return str(path)
