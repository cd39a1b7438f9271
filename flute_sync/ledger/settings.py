"""Where the ledger is and how it is held."""

from datetime import timedelta
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from flute_sync.settings import PositiveDuration, SecretFile, Settings, parse_duration

_POSTGRESQL: Final = "postgresql+psycopg"
_DRIVERS: Final = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": _POSTGRESQL,
    _POSTGRESQL: _POSTGRESQL,
}

_Lease = Annotated[timedelta, BeforeValidator(parse_duration), Field(ge=timedelta(seconds=10))]


def _known_url(text: str) -> str:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("not a database URL") from None
    if url.drivername not in _DRIVERS:
        raise ValueError("only sqlite:////absolute/file and postgresql://host/database are known")
    if url.password is not None:
        raise ValueError("the password belongs into a file: ledger.password_file")
    if url.drivername.startswith("sqlite"):
        _check_file(url)
    return text


def _check_file(url: URL) -> None:
    if url.host or url.query:
        raise ValueError("a SQLite ledger is a plain file: sqlite:////absolute/file")
    if not url.database or not url.database.startswith("/"):
        raise ValueError("a SQLite ledger needs an absolute file: sqlite:////absolute/file")


class LedgerSettings(Settings):
    """``[ledger]``: where the ledger is and how it is held."""

    url: Annotated[str, AfterValidator(_known_url)] = "sqlite:////var/lib/flute-sync/ledger.db"
    """The database: ``sqlite:////absolute/file``, or ``postgresql://user@host/database`` where
    several machines share the work. It never holds a password."""

    password_file: SecretFile | None = None
    """The password of the user in ``url``: an absolute file or ``credential:NAME``."""

    lease: _Lease = timedelta(seconds=20)
    """How long a study or an upload stays with a process that is not heard of any more."""

    busy_timeout: PositiveDuration = timedelta(seconds=10)
    """How long one waits for a lock or a connection that another holds."""

    connections: Annotated[int, Field(ge=2, le=100)] = 16
    """The most connections that this process opens."""

    events_per_study: Annotated[int, Field(ge=10, le=10_000)] = 100
    """The most entries kept in one study's audit trail; older ones are dropped."""

    @model_validator(mode="after")
    def _password_has_a_user(self) -> Self:
        if self.password_file is not None and make_url(self.url).username is None:
            raise ValueError("ledger.password_file needs a user in ledger.url")
        return self

    def database_url(self, password: str | None) -> URL:
        """Return the address with the driver this program uses."""
        url = make_url(self.url)
        url = url.set(drivername=_DRIVERS[url.drivername])
        return url if password is None else url.set(password=password)
