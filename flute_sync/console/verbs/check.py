"""``flute-sync check``: are the settings right, and does each connection work?

It writes nothing, needs no ledger, and works while the daemon runs.
"""

from pathlib import Path

import click

from flute_sync.console.opening import load_config
from flute_sync.console.output import config_option, json_option, show_json
from flute_sync.daemon.checks import Verdict, every_check
from flute_sync.daemon.config import Config

MARK = {"ok": ("ok     ", "green"), "warning": ("warning", "yellow"), "error": ("error  ", "red")}


@click.command()
@config_option
@json_option
def check(config_path: Path | None, as_json: bool) -> int:
    """Check the settings, then each connection, and say what to do.

    Exits with 0 when nothing is wrong (warnings included), else with the code of the worst error.
    """
    config = load_config(config_path)
    verdicts = []
    for verdict in every_check(config):
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


def _show(verdict: Verdict) -> None:
    label, colour = MARK[verdict.level]
    click.secho(label, fg=colour, nl=False)
    click.echo(f"  {verdict.check}: {verdict.sentence}")
    if verdict.hint:
        click.echo(f"           {verdict.hint}")


def _merged(config: Config) -> object:
    """The settings in force. Secrets are file names here, so there is nothing to mask."""
    return config.model_dump(mode="json")
