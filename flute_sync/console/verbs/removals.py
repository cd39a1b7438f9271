"""``flute-sync removals``: what archives miss, and a person's word that it is gone."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from flute_sync.console.opening import load_config, open_ledger
from flute_sync.console.output import config_option, json_option, show_json
from flute_sync.daemon.removal import Missed, confirm, missed
from flute_sync.settings_errors import ConfigurationError


@click.command()
@click.option(
    "--confirm",
    "confirmed",
    metavar="ARCHIVE",
    help="Believe that what this archive misses now was deleted.",
)
@config_option
@json_option
def removals(confirmed: str | None, config_path: Path | None, as_json: bool) -> None:
    """Tell how many studies each archive misses that it held, and whether it is doubted.

    Where too many are missing at once, none is believed to be gone: the archive may be broken. If
    they were deleted on purpose, --confirm says so; studies that are missed later are not covered.
    """
    config = load_config(config_path)
    names = [entry.name for entry in config.every_archive]
    if confirmed is not None and confirmed not in names:
        raise ConfigurationError(f"no archive has the name {confirmed}")
    with open_ledger(config) as ledger:
        found = [missed(ledger, config.removal, name) for name in names]
        if confirmed is not None:
            now = datetime.now(UTC)
            confirm(ledger, confirmed, now)
            found = [
                replace(one, confirmed_at=now) if one.archive == confirmed else one for one in found
            ]
    if as_json:
        show_json({"archives": [_as_dict(one) for one in found]})
        return
    for one in found:
        _show(one, confirmed=one.archive == confirmed)


def _as_dict(found: Missed) -> dict[str, Any]:
    return {
        "name": found.archive,
        "held": found.held,
        "missing": found.missing,
        "limit": found.limit,
        "doubted": found.is_doubted,
        "missing_since": _time(found.since),
        "confirmed_at": _time(found.confirmed_at),
    }


def _time(at: datetime | None) -> str | None:
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _show(found: Missed, *, confirmed: bool) -> None:
    since = f" since {_time(found.since)}" if found.since is not None else ""
    click.echo(f"{found.archive} holds {found.held} studies and misses {found.missing}{since}.")
    if confirmed:
        click.echo("  What it misses now is believed to be gone when it was looked for in vain.")
    elif found.is_doubted:
        said = f"  That is more than {found.limit}: none of them is believed to be gone."
        click.secho(said, fg="yellow")
        click.echo(f"  If they were deleted: flute-sync removals --confirm {found.archive}")
