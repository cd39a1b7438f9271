"""``flute-sync ledger upgrade``: migrate the ledger's schema."""

from pathlib import Path

import click

from flute_sync.console.opening import load_config
from flute_sync.console.output import config_option, json_option, show_json
from flute_sync.ledger import upgrade


@click.group()
def ledger() -> None:
    """Look after the ledger."""


@ledger.command("upgrade")
@config_option
@json_option
def upgrade_verb(config_path: Path | None, as_json: bool) -> None:
    """Bring an existing ledger to the schema of this version.

    Stop the service first. Running it again changes nothing.
    """
    revision = upgrade(load_config(config_path).ledger)
    if as_json:
        show_json({"revision": revision})
    else:
        click.echo(f"The ledger is at revision {revision}.")
