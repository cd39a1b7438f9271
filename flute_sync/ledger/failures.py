"""Database errors to ours, once, at this folder's edge.

Their texts may hold values, so that only the driver's error code is passed on.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from flute_sync.errors import FluteSyncError
from flute_sync.ledger_errors import (
    LedgerBusy,
    LedgerCorrupt,
    LedgerRefused,
    LedgerUnauthorized,
    LedgerUnavailable,
)

_SQLITE: Final[dict[int, type[FluteSyncError]]] = {
    sqlite3.SQLITE_BUSY: LedgerBusy,
    sqlite3.SQLITE_LOCKED: LedgerBusy,
    sqlite3.SQLITE_CORRUPT: LedgerCorrupt,
    sqlite3.SQLITE_NOTADB: LedgerCorrupt,
    sqlite3.SQLITE_ERROR: LedgerCorrupt,  # a table or column that is not there
    sqlite3.SQLITE_CONSTRAINT: LedgerRefused,
    sqlite3.SQLITE_TOOBIG: LedgerRefused,
    sqlite3.SQLITE_MISMATCH: LedgerRefused,
}
_POSTGRESQL: Final[tuple[tuple[str, type[FluteSyncError]], ...]] = (
    ("40", LedgerBusy),  # serialization failure, deadlock
    ("55P03", LedgerBusy),  # lock not available
    ("57014", LedgerBusy),  # statement timeout
    ("28", LedgerUnauthorized),
    ("42501", LedgerUnauthorized),
    ("3D000", LedgerUnavailable),  # the database does not exist (yet)
    ("42", LedgerCorrupt),  # a table or column that is not there
    ("XX", LedgerCorrupt),
    ("22", LedgerRefused),
    ("23", LedgerRefused),
)
_REFUSALS: Final = ("DataError", "IntegrityError", "NotSupportedError")
"""Errors of PEP 249 that a driver raises by itself about a value."""


@contextmanager
def translated(driver_error: type[Exception]) -> Iterator[None]:
    """Turn what SQLAlchemy and the drivers raise into our errors.

    Parameters
    ----------
    driver_error
        The root of the driver's own errors (PEP 249).
    """
    try:
        yield
    except PoolTimeout as error:
        raise LedgerBusy("all its connections are in use") from error
    except DBAPIError as error:
        raise _meaning(error.orig) from error
    except driver_error as error:
        raise _meaning(error) from error
    except SQLAlchemyError as error:
        raise LedgerUnavailable(type(error).__name__) from error
    except (OverflowError, UnicodeError) as error:
        raise LedgerRefused("a value has no place in the database") from error


def _meaning(error: BaseException | None) -> FluteSyncError:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        found = _SQLITE.get(code & 0xFF, LedgerUnavailable)  # the low byte is the primary code
        return found(getattr(error, "sqlite_errorname", ""))
    state = getattr(error, "sqlstate", None)
    name = type(error).__name__
    if state is None:
        return LedgerRefused(name) if name in _REFUSALS else LedgerUnavailable(name)
    for prefix, meaning in _POSTGRESQL:
        if state.startswith(prefix):
            return meaning(f"SQLSTATE {state}")
    return LedgerUnavailable(f"SQLSTATE {state}")
