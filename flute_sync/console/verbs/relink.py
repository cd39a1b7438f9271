"""A look at what a changed rule of links would do, and the judging anew."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from flute_sync.console.opening import load_config, open_ledger
from flute_sync.console.output import config_option, json_option, show_json
from flute_sync.console.verbs.explain import line, link_as_dict
from flute_sync.daemon.link_sweep import review
from flute_sync.daemon.linking import Difference, Linker
from flute_sync.fhir.candidates import Candidates
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.queries import is_reference
from flute_sync.ledger import Ledger, LinkRow

_PORTION: Final = 500


@dataclass
class _Found:
    """What relink came to."""

    patients: int = 0
    studies: int = 0
    woken: int = 0


@click.command()
@click.option(
    "--patient",
    metavar="FILE-OR-REFERENCE",
    help="Patient/ID, or a file with one on each line; - reads standard input.",
)
@click.option("--all", "everybody", is_flag=True, help="All patients who have studies.")
@click.option("--dry-run", is_flag=True, help="Tell what would change; change nothing.")
@config_option
@json_option
def relink(
    patient: str | None, everybody: bool, dry_run: bool, config_path: Path | None, as_json: bool
) -> None:
    """Judge the links of patients anew, and tell what changes.

    With --dry-run nothing is written: so it is seen what a changed setting does before the service
    reads it. Without, the studies are made ready, and the running service writes what differs.
    """
    if everybody == (patient is not None):
        raise click.UsageError("say either --patient or --all")
    config = load_config(config_path)
    found, differences = _Found(), list[dict[str, Any]]()
    with open_ledger(config) as ledger, FhirClient(config.fhir) as fhir:
        fhir.capabilities()
        linker = Linker(ledger, Candidates(fhir), config.links, fhir.base_url)
        asked = _named(patient) if patient is not None else _everybody(ledger)
        for reviewed in review(linker, asked, config.links.sweep_requests):
            if reviewed.error is not None:
                raise reviewed.error
            changed = reviewed.differences
            found.patients += 1
            found.studies += len(changed)
            if changed and not dry_run:
                found.woken += ledger.links.judge_again([reviewed.patient])
            if as_json:
                differences += [_as_dict(one) for one in changed]
            else:
                _show(changed)
    if as_json:
        show_json(
            {
                "dry_run": dry_run,
                "patients": found.patients,
                "studies": differences,
                "made_ready": found.woken,
            }
        )
    else:
        done = "nothing was written" if dry_run else f"{found.woken} studies are judged again"
        click.echo(f"{found.patients} patients, {found.studies} studies differ; {done}.")


def _named(stated: str) -> list[str]:
    """Return the patients that are named, or that a file names: no reference need be typed."""
    if is_reference(stated, "Patient"):
        return [stated]
    try:
        with click.open_file(stated, encoding="utf-8") as file:
            lines = [one.strip() for one in file]
    except (OSError, UnicodeDecodeError):
        raise click.BadParameter("neither Patient/ID nor a file", param_hint="--patient") from None
    named = [one for one in lines if one and not one.startswith("#")]
    if not all(is_reference(one, "Patient") for one in named):
        raise click.BadParameter("a line is not Patient/ID", param_hint="--patient")
    return list(dict.fromkeys(named))


def _everybody(ledger: Ledger) -> Iterator[str]:
    last = ""
    while portion := ledger.links.patients(last, _PORTION):
        last = portion[-1]
        yield from (one for one in portion if is_reference(one, "Patient"))


def _as_dict(one: Difference) -> dict[str, Any]:
    return {
        "study_instance_uid": one.study_instance_uid,
        "changes": [
            {"change": _change(before, after), **link_as_dict(_shown(before, after))}
            for before, after in one.changes
        ],
    }


def _show(differences: Iterable[Difference]) -> None:
    for one in differences:
        click.secho(one.study_instance_uid, bold=True)
        for before, after in one.changes:
            click.echo(f"  {_change(before, after)}: {line(_shown(before, after))}")


def _change(before: LinkRow | None, after: LinkRow | None) -> str:
    if after is None or not after.taken:
        return "removed"
    return "changed" if before is not None and before.taken else "added"


def _shown(before: LinkRow | None, after: LinkRow | None) -> LinkRow:
    shown = after or before
    if shown is None:
        raise ValueError("a change has a row")
    return shown
