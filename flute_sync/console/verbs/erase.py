"""``flute-sync erase``: a patient withdraws, and nothing of him is left that is ours."""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click

from flute_sync.console import log
from flute_sync.console.opening import load_config, open_ledger
from flute_sync.console.output import EXIT_FINDINGS, config_option, json_option, show_json
from flute_sync.daemon.audit import Audit
from flute_sync.daemon.erase_plan import Left, Plan, Planner
from flute_sync.daemon.erasing import Eraser, Result
from flute_sync.erase_errors import EraseUnconfirmed
from flute_sync.errors import EXIT_OK
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.queries import is_reference
from flute_sync.fhir.traces import Person

_IDENTIFIER: Final = re.compile(r"[^\s|]+\|[^\r\n]*\S")
STAYS: Final = (
    "the hospital's Patient and clinical data, which are not ours",
    "the images, which go by the archive's own means (with Orthanc: DELETE /patients/ID)",
    "what people took away: fetched images, manifests, reports, exports",
    "backups, and what logs say of Study Instance UIDs: until they run out",
)
"""What no erasure touches, told each time."""


@click.command()
@click.option(
    "--patient",
    "asked",
    required=True,
    metavar="PATIENT",
    help="Patient/ID, or an identifier as SYSTEM|VALUE; - reads it from standard input.",
)
@click.option("--why", default="", metavar="TEXT", help="The reason, for the audit; name nobody.")
@click.option("--dry-run", is_flag=True, help="Tell what would go and what stays; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--allow-again", is_flag=True, help="Take the patient again, who consents again.")
@config_option
@json_option
def erase(
    asked: str,
    why: str,
    dry_run: bool,
    yes: bool,
    allow_again: bool,
    config_path: Path | None,
    as_json: bool,
) -> int:
    """Erase a patient who withdraws: ImagingStudies, Provenances, Observations, and the ledger.

    Works beside the running service or without it, and may be repeated: killed or interrupted, it
    goes on where it was. From its beginning on nothing of the patient is taken any more, however it
    comes, until --allow-again. The audit file says who did it, when and why.

    On the command line others can see the patient: - reads him from standard input.

    Exits with 0 when nothing remains. 1: something remains, and it is told what. 65: nobody knows
    the patient, or nobody confirmed. 69: a server cannot be reached; run it again.
    """
    named = _named(asked)
    config = load_config(config_path)
    log.configure(config.log)
    with open_ledger(config) as ledger, FhirClient(config.fhir) as fhir:
        fhir.capabilities()
        planner = Planner(config, ledger, fhir)
        eraser = Eraser(planner, Audit(config.erase), lambda words: _tell(words, as_json))
        person = planner.person(named)
        if allow_again:
            return _allow(eraser, person, why, as_json=as_json)
        plan = planner.plan(person)
        if dry_run or not as_json:
            _show_plan(plan, as_json=as_json)
        if dry_run:
            return EXIT_OK
        _confirm(yes=yes, from_input=asked == "-")
        result = eraser.erase(person, why)
    _show_result(result, as_json=as_json)
    return EXIT_FINDINGS if result.remains else EXIT_OK


def _named(asked: str) -> str:
    named = sys.stdin.readline().strip() if asked == "-" else asked.strip()
    if not (is_reference(named, "Patient") or _IDENTIFIER.fullmatch(named)):
        raise click.BadParameter("Patient/ID or SYSTEM|VALUE", param_hint="--patient")
    return named


def _confirm(*, yes: bool, from_input: bool) -> None:
    if yes:
        return
    if from_input or not sys.stdin.isatty():
        raise EraseUnconfirmed("there is no terminal to ask at")
    if not click.confirm("Erase all this? It cannot be taken back", default=False):
        raise EraseUnconfirmed()


def _allow(eraser: Eraser, person: Person, why: str, *, as_json: bool) -> int:
    lifted = eraser.allow_again(person, why)
    if as_json:
        show_json({"allowed_again": True, "erasures": lifted})
    else:
        click.echo("The patient is taken again, from the next news of each study on.")
        click.echo("  What the archive holds already comes by `flute-sync import`.")
    return EXIT_OK


def _tell(words: str, as_json: bool) -> None:
    if not as_json:
        click.echo(f"... {words}", err=True)


def _lefts(left: Iterable[Left]) -> list[dict[str, str]]:
    return [{"what": one.what, "reason": one.reason} for one in left]


def plan_as_dict(plan: Plan) -> dict[str, Any]:
    """Return the documented shape of what would be done."""
    return {
        "dry_run": True,
        "patients": sorted(plan.person.references),
        "delete": plan.references,
        "clear": [f"ImagingStudy/{one['id']}" for one, _ in plan.cleared],
        "ledger": [
            {
                "study_instance_uid": one.study_instance_uid,
                "series": one.series,
                "instances": one.instances,
            }
            for one in plan.studies
        ],
        "remains": _lefts(plan.left),
        "referring": _lefts(plan.referrers),
        "stays": list(STAYS),
    }


def _show_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        show_json(plan_as_dict(plan))
        return
    kinds = Counter(one.partition("/")[0] for one in plan.references)
    click.secho("Goes from the FHIR server:", bold=True)
    for kind, count in sorted(kinds.items()):
        names = (one for one in plan.references if one.startswith(f"{kind}/"))
        click.echo(f"  {count} {kind}: {', '.join(names)}")
    for resource, reason in plan.cleared:
        click.echo(f"  what is ours of ImagingStudy/{resource['id']} ({reason})")
    if not (kinds or plan.cleared):
        click.echo("  nothing")
    instances = sum(one.instances for one in plan.studies)
    click.secho("Goes from the ledger:", bold=True)
    click.echo(f"  {len(plan.studies)} studies, {instances} instances, with all that is known")
    _show_left("Remains, for a person to see to:", plan.left)
    _show_left("Refers to what goes, and is not ours:", plan.referrers)
    click.secho("Stays:", bold=True)
    for one in STAYS:
        click.echo(f"  {one}")


def _show_left(title: str, left: Iterable[Left]) -> None:
    lines = [f"  {one.what}: {one.reason}" for one in left]
    if lines:
        click.secho(title, bold=True)
        click.echo("\n".join(lines))


def _show_result(result: Result, *, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                "dry_run": False,
                **result.counts,
                "remains": _lefts(result.remains),
                "noted": _lefts(result.noted),
                "stays": list(STAYS),
            }
        )
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(result.deleted.items()))
    click.echo(f"Deleted: {kinds or 'nothing'}; of {result.expunged} nothing is kept any more.")
    click.echo(f"The ledger forgot {result.studies} studies, and takes nothing of them again.")
    _show_left("Remains, for a person to see to:", result.remains)
    _show_left("To be known:", result.noted)
