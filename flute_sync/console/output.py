"""What every verb shares: the ``--config`` and ``--json`` options, and how answers are printed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import orjson

from flute_sync.daemon.config import Config, load
from flute_sync.errors import FluteSyncError
from flute_sync.ledger import Ledger
from flute_sync.settings_errors import ConfigurationError

DEFAULT_CONFIG: Final = Path("/etc/flute-sync/flute-sync.toml")

EXIT_FINDINGS: Final = 1
EXIT_INTERRUPTED: Final = 130

_Command = TypeVar("_Command", bound=Callable[..., Any])


def config_option(command: _Command) -> _Command:
    """Add ``--config FILE``; without it, $FLUTE_SYNC_CONFIG, then the file of the service."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        envvar="FLUTE_SYNC_CONFIG",
        help="The settings file.  [default: /etc/flute-sync/flute-sync.toml]",
    )(command)


def json_option(command: _Command) -> _Command:
    """Add ``--json``: a documented shape instead of text."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")(command)


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
    ledger = Ledger.open(config.ledger, config.study, create=False)
    try:
        yield ledger
    finally:
        ledger.close()


def show_json(value: object) -> None:
    """Print one JSON document."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str))


def show_error(error: FluteSyncError, *, as_json: bool) -> None:
    """Print an error with its code and its hint."""
    if as_json:
        show_json({"error": {"code": error.code, "sentence": error.sentence, "hint": error.hint}})
        return
    click.secho(f"{error.code}: {error.sentence}", fg="red", err=True)
    click.echo(f"  {error.hint}", err=True)
