"""``flute-sync reconcile``: archive, ledger and FHIR server compared study by study."""

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from flute_sync.console import log
from flute_sync.console.opening import load_config
from flute_sync.console.output import (
    EXIT_FINDINGS,
    EXIT_INTERRUPTED,
    config_option,
    json_option,
    show_json,
)
from flute_sync.console.progress import display
from flute_sync.console.verbs.import_studies import (
    archive_names,
    archive_option,
    choice_of,
    date_options,
)
from flute_sync.daemon.reconciling import Reconciliation, Result, Told
from flute_sync.daemon.workshop import Workshop
from flute_sync.errors import EXIT_OK
from flute_sync.reconciliation import HINTS, MEANINGS, Kind


@click.command()
@date_options
@archive_option
@click.option("--repair", is_flag=True, help="Mend what can be mended; else nothing is written.")
@config_option
@json_option
def reconcile(
    since: datetime | None,
    until: datetime | None,
    archive: str | None,
    repair: bool,
    config_path: Path | None,
    as_json: bool,
) -> int:
    """Compare what archives, ledger and FHIR server say of every study, and tell what differs.

    Works beside the running service or without it. It mends by the same steps as the service: a
    wrong patient is held for a person, never moved, and a study that is gone is looked for again.

    Exits with 0 when all is well, or was mended. 1: there are findings. 69: a server cannot be
    reached, so that nothing can be said. 130: interrupted.
    """
    choice = choice_of(since, until)
    config = load_config(config_path)
    archives = archive_names(config, archive)
    log.configure(config.log.model_copy(update={"level": "error"}))
    with Workshop(config, create=False) as shop, display("reconcile") as shown:
        shop.require_fhir()
        run = Reconciliation(shop, archives, choice, repair=repair, tell=shown.show)
        finished = shop.run(run.run, workers=config.sync.workers if repair else 0)
    _show(run.result, archives, finished=finished, repair=repair, as_json=as_json)
    if not finished:
        return EXIT_INTERRUPTED
    return EXIT_FINDINGS if run.result.remaining else EXIT_OK


def as_dict(
    result: Result, archives: tuple[str, ...], *, finished: bool, repair: bool
) -> dict[str, Any]:
    """Return the documented shape."""
    return {
        "archives": list(archives),
        "finished": finished,
        "repair": repair,
        "compared": result.compared,
        "found": {kind.value: result.found[kind] for kind in Kind},
        "mended": {kind.value: result.mended[kind] for kind in Kind},
        "remaining": result.remaining,
        "findings": [_finding(told) for told in result.told],
        "omitted": result.omitted,
    }


def _finding(told: Told) -> dict[str, Any]:
    finding = told.finding
    return {
        "finding": finding.kind.value,
        "study_instance_uid": finding.study_instance_uid,
        "reference": finding.reference,
        "reasons": list(finding.reasons),
        "code": finding.code,
        "hint": HINTS[finding.kind],
        "mended": told.mended,
    }


def _show(
    result: Result, archives: tuple[str, ...], *, finished: bool, repair: bool, as_json: bool
) -> None:
    if as_json:
        show_json(as_dict(result, archives, finished=finished, repair=repair))
    else:
        click.echo(f"{', '.join(archives)}: {result.compared:,} studies compared")
        _table(result, repair=repair)
    if not finished:
        click.echo("Interrupted: not everything was compared.", err=True)


def _table(result: Result, *, repair: bool) -> None:
    for kind in Kind:
        if count := result.found[kind]:
            mended = f", {result.mended[kind]:,} mended" if repair else ""
            click.echo(f"{count:>10,}  {kind.value}{mended}: {MEANINGS[kind]}")
    for told in result.told:
        if not told.mended:
            _show_finding(told)
    if result.omitted:
        click.echo(f"... and {result.omitted:,} more")
    if not result.found:
        click.echo("Nothing was found.")


def _show_finding(told: Told) -> None:
    finding = told.finding
    what = [finding.study_instance_uid, finding.kind.value, finding.reference, finding.code]
    click.echo("  ".join(one for one in what if one) + _because(finding.reasons))
    click.echo(f"    {HINTS[finding.kind]}")


def _because(reasons: tuple[str, ...]) -> str:
    return f"  ({', '.join(reasons)})" if reasons else ""
