"""What verbs work on: the settings, and the ledger of the service."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from flute_sync.daemon.config import Config, load
from flute_sync.ledger import Ledger
from flute_sync.settings_errors import ConfigurationError

DEFAULT_CONFIG: Final = Path("/etc/flute-sync/flute-sync.toml")


def load_config(path: Path | None) -> Config:
    """Read the settings from the named file, or from where the service has them.

    Raises
    ------
    ConfigurationError, InputUnreadable
        When they cannot be read or are not valid.
    """
    if path is None and DEFAULT_CONFIG.exists():
        path = DEFAULT_CONFIG
    try:
        return load(path)
    except ConfigurationError as error:
        if path is not None:
            raise
        raise ConfigurationError(f"{error.detail} (no --config FILE was given)") from None


@contextmanager
def open_ledger(config: Config) -> Iterator[Ledger]:
    """Open the ledger that the service made; a verb never makes one.

    Raises
    ------
    OperatorError
        When there is none, or it is of another version.
    """
    ledger = Ledger.open(config.ledger, config.study, create=False, numbering=config.numbering)
    try:
        yield ledger
    finally:
        ledger.close()
