"""What every verb shares: the ``--config`` and ``--json`` options, and how answers are printed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import orjson

from flute_sync.errors import FluteSyncError

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
