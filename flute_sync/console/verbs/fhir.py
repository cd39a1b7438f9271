"""``flute-sync fhir install``: what the FHIR server should know of us, put there once."""

from pathlib import Path
from typing import Any, Final

import click

from flute_sync.console.opening import load_config
from flute_sync.console.output import config_option, json_option, show_json
from flute_sync.daemon.criteria_files import artefacts
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.installing import Installed, Installer
from flute_sync.fhir.link_search import becomes_usable, is_usable, reindex
from flute_sync.own_resources import definitions

_LOOKS: Final = 30
_SAID: Final = {
    "created": "created",
    "updated": "updated",
    "unchanged": "there already",
    "foreign": "there already, by somebody else",
    "refused": "not installed",
}
_NAMES: Final = {
    "StructureDefinition": "definition of the extension",
    "SearchParameter": "search parameter supporting-info",
    "Device": "Device flute-sync",
}
_WITHOUT_REINDEX: Final = (
    "Studies that were written before are not found by it until the server has indexed them"
    " anew: ask its administrator."
)


@click.group()
def fhir() -> None:
    """Look after the FHIR server."""


@fhir.command()
@click.option("--criteria", "of_criteria", is_flag=True, help="Also publish the criteria.")
@click.option("--dry-run", is_flag=True, help="Tell what would be done; write nothing.")
@click.option(
    "--reindex", "again", is_flag=True, help="Ask for indexing even if nothing has changed."
)
@config_option
@json_option
def install(
    *, of_criteria: bool, dry_run: bool, again: bool, config_path: Path | None, as_json: bool
) -> int:
    """Put our definitions on the FHIR server, and nothing in the place of others'.

    The definition of the extension, where the server has none; the search parameter, so that
    ImagingStudy?supporting-info=Observation/ID finds the studies linked to a resource; the Device
    that each Provenance names. With --criteria also the eligibility criteria: a Library with CQL,
    and EvidenceVariables by it and by FHIRPath, the site's own too. Running it again writes only
    what has changed.
    """
    config = load_config(config_path)
    wanted = definitions(config.identifier_system)
    if of_criteria:
        wanted += artefacts(config)
    with FhirClient(config.fhir) as client:
        installer = Installer(client, client.capabilities(), dry_run=dry_run)
        found = [installer.install(one) for one in wanted]
        search = _search(client, found, dry_run=dry_run, again=again)
    if as_json:
        show_json(
            {"dry_run": dry_run, "resources": [_as_dict(one) for one in found], "search": search}
        )
    else:
        _show(found, search, dry_run=dry_run)
    return max(one.error.exit_code if one.error else 0 for one in found)


def _search(
    client: FhirClient, found: list[Installed], *, dry_run: bool, again: bool
) -> dict[str, Any]:
    """Wait until the server has taken up the search, then let it index what was there."""
    (parameter,) = [one for one in found if one.definition.kind == "SearchParameter"]
    changed = parameter.outcome in {"created", "updated"}
    if parameter.outcome == "refused":
        return _told(usable=False, asked="not-needed")
    if dry_run:
        return _told(usable=is_usable(client), asked="wanted" if changed or again else "not-needed")
    usable = becomes_usable(client, looks=_LOOKS if changed else 1)
    if not (changed or again):
        return _told(usable=usable, asked="not-needed")
    refused = reindex(client)
    if refused is None:
        return _told(usable=usable, asked="requested")
    return _told(usable=usable, asked="refused") | {
        "code": refused.code,
        "sentence": refused.sentence,
        "hint": _WITHOUT_REINDEX,
    }


def _told(*, usable: bool, asked: str) -> dict[str, Any]:
    return {"usable": usable, "reindex": asked, "code": None, "sentence": None, "hint": None}


def _as_dict(one: Installed) -> dict[str, Any]:
    error = one.error
    return {
        "type": one.definition.kind,
        "outcome": one.outcome,
        "reference": one.reference,
        "changes": list(one.changes),
        "code": error.code if error else None,
        "sentence": error.sentence if error else None,
        "hint": error.hint if error else None,
        "resource": one.definition.resource,
    }


def _name(one: Installed) -> str:
    resource = one.definition.resource
    return _NAMES.get(one.definition.kind) or f"{one.definition.kind} {resource['url']}"


def _show(found: list[Installed], search: dict[str, Any], *, dry_run: bool) -> None:
    for one in found:
        where = f" ({one.reference})" if one.reference else ""
        would = "would be " if dry_run and one.outcome in {"created", "updated"} else ""
        changes = f": {', '.join(one.changes)}" if one.changes else ""
        click.echo(f"{_name(one)}: {would}{_SAID[one.outcome]}{changes}{where}")
        if one.error is not None:
            click.secho(f"  {one.error.code}: {one.error.sentence}", fg="red")
            click.echo(f"  {one.error.hint}")
    usable = "works" if search["usable"] else "does not work yet"
    click.echo(f"ImagingStudy?supporting-info=Observation/ID {usable}.")
    if search["reindex"] == "requested":
        click.echo("The server was asked to index the studies that are there; it may take a while.")
    if search["code"]:
        click.secho(f"  {search['code']}: {search['sentence']}", fg="yellow")
        click.echo(f"  {search['hint']}")
