"""``flute-sync check``: are the settings right, and does each connection work?

It writes nothing, needs no ledger, and works while the daemon runs.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

import click

from flute_sync.console.opening import load_config
from flute_sync.console.output import config_option, json_option, show_json
from flute_sync.console.pages.users import parsed
from flute_sync.console_errors import UsersUnusable
from flute_sync.daemon.checks import Verdict, every_check
from flute_sync.daemon.config import Config
from flute_sync.settings_errors import SecretUnreadable
from flute_sync.transport.secret import read_secret, secret_path

MARK = {"ok": ("ok     ", "green"), "warning": ("warning", "yellow"), "error": ("error  ", "red")}
_OTHERS: Final = 0o007


@click.command()
@config_option
@json_option
def check(config_path: Path | None, as_json: bool) -> int:
    """Check the settings, then each connection, and say what to do.

    Exits with 0 when nothing is wrong (warnings included), else with the code of the worst error.
    """
    config = load_config(config_path)
    verdicts = []
    for verdict in chain(every_check(config), _users(config)):
        verdicts.append(verdict)
        if not as_json:
            _show(verdict)
    if as_json:
        show_json(
            {
                "ok": all(verdict.level != "error" for verdict in verdicts),
                "checks": [verdict.as_dict() for verdict in verdicts],
                "settings": _merged(config),
            }
        )
    return max((verdict.exit_code for verdict in verdicts), default=0)


def _users(config: Config) -> Iterator[Verdict]:
    """Read the users of the console, where they can be read here."""
    file, name = config.console.auth.users_file, "console.auth.users_file"
    if not config.console.enabled or config.console.auth.mode != "users" or file is None:
        return
    try:
        number = len(parsed(read_secret(file)))
        is_open = secret_path(file).stat().st_mode & _OTHERS
    except SecretUnreadable:
        return  # which `every_check` said
    except UsersUnusable as error:
        yield Verdict(name, "error", error.sentence, error.hint, error.code, error.exit_code)
        return
    if is_open or not number:
        said = "Everybody on this machine can reach it." if is_open else "Nobody is in it."
        hint = f"chmod o= {file}" if is_open else "Run `flute-sync console-user NAME`."
        yield Verdict(name, "warning", said, hint)
    else:
        yield Verdict(name, "ok", f"{number} may sign in.")


def _show(verdict: Verdict) -> None:
    label, colour = MARK[verdict.level]
    click.secho(label, fg=colour, nl=False)
    click.echo(f"  {verdict.check}: {verdict.sentence}")
    if verdict.hint:
        click.echo(f"           {verdict.hint}")


def _merged(config: Config) -> object:
    """The settings in force. Secrets are file names here, so there is nothing to mask."""
    return config.model_dump(mode="json")
