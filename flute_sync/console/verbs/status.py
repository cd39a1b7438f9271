"""``flute-sync status``: how the work stands."""

from datetime import UTC, datetime
from pathlib import Path

import click

from flute_sync.console.opening import load_config, open_ledger
from flute_sync.console.output import config_option, json_option, show_json


@click.command()
@config_option
@json_option
def status(config_path: Path | None, as_json: bool) -> None:
    """Count the studies by state and tell how long the oldest has waited."""
    with open_ledger(load_config(config_path)) as ledger:
        now = ledger.status(datetime.now(UTC))
    age = now.oldest_unsynced
    if as_json:
        show_json(
            {
                "counts": now.counts,
                "oldest_unsynced_seconds": None if age is None else round(age.total_seconds(), 3),
                "series": now.series,
                "instances": now.instances,
            }
        )
        return
    for state, count in now.counts.items():
        click.echo(f"{count:>10}  {state}")
    click.echo(f"{now.series:>10}  series, {now.instances} instances")
    waits = (
        "nothing is owed"
        if age is None
        else f"the oldest has waited {_span(int(age.total_seconds()))}"
    )
    click.echo(f"\nFHIR: {waits}.")


def _span(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
