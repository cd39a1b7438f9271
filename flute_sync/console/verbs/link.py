"""A person's word on a link."""

import re
from pathlib import Path
from typing import Final, Literal

import click

from flute_sync.console.opening import load_config, open_ledger
from flute_sync.console.output import config_option, json_option, show_json
from flute_sync.console.verbs.explain import as_dict
from flute_sync.study import StudyInstanceUID

_LINKABLE: Final = re.compile(r"(Observation|Procedure|FamilyMemberHistory)/[A-Za-z0-9\-.]{1,64}")


@click.command()
@click.argument("verb", type=click.Choice(["add", "remove", "release"]))
@click.argument("study_instance_uid", metavar="STUDY")
@click.argument("reference", metavar="REFERENCE")
@click.option("--why", required=True, metavar="TEXT", help="The reason, kept and shown.")
@config_option
@json_option
def link(
    verb: Literal["add", "remove", "release"],
    study_instance_uid: str,
    reference: str,
    why: str,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Decide on a link: add it, remove it, or release it to the rules again.

    REFERENCE is an Observation, Procedure or FamilyMemberHistory, such as Observation/17. The
    decision goes before every rule and stays until it is released. The running service takes it up
    within a second.
    """
    if not _LINKABLE.fullmatch(reference):
        raise click.BadParameter(
            "Observation/ID, Procedure/ID or FamilyMemberHistory/ID", param_hint="REFERENCE"
        )
    if not why.strip():
        raise click.BadParameter("say why", param_hint="--why")
    uid = StudyInstanceUID(study_instance_uid)
    with open_ledger(load_config(config_path)) as ledger:
        ledger.links.decide(uid, reference, verb, why.strip())
        view = ledger.links.view(uid)
    if as_json:
        show_json(as_dict(view))
    else:
        click.echo(f"Kept. {uid} is judged again.")
