"""``flute-sync study`` and ``flute-sync retry``: one study's story, and another attempt."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from flute_sync.console.opening import load_config, open_ledger
from flute_sync.console.output import config_option, json_option, show_json
from flute_sync.console.story import story_of
from flute_sync.console.verbs.explain import as_dict as explained
from flute_sync.console.verbs.explain import show as show_links
from flute_sync.console.verbs.series import as_dicts as series_as_dicts
from flute_sync.console.verbs.series import show as show_series
from flute_sync.fhir_errors import FhirGone
from flute_sync.ledger import StudyView
from flute_sync.patient_errors import PatientChanged, PatientGone, PatientStepConflict
from flute_sync.study import Study, StudyInstanceUID


@click.command()
@click.argument("study_instance_uid", metavar="UID")
@click.option("--explain", is_flag=True, help="Tell of its links: taken, refused, and why.")
@config_option
@json_option
def study(study_instance_uid: str, explain: bool, config_path: Path | None, as_json: bool) -> None:
    """Tell what is known of one study, what was decided and why.

    With --explain: which clinical variables it is linked to, which not, and why.
    """
    uid = StudyInstanceUID(study_instance_uid)
    with open_ledger(load_config(config_path)) as ledger:
        story = story_of(ledger, uid)
    if as_json:
        show_json(explained(story.links) if explain else as_dict(story.study, story.known))
    elif explain:
        show_links(story.links)
    else:
        _show(story.study)
        show_series(story.known)


@click.command()
@click.argument("study_instance_uid", metavar="UID")
@config_option
@json_option
def retry(study_instance_uid: str, config_path: Path | None, as_json: bool) -> None:
    """Read the study anew and try again; also confirms a corrected patient or a deletion.

    What is confirmed is said. The running service takes it up within a second.
    """
    with open_ledger(load_config(config_path)) as ledger:
        before = ledger.study_view(StudyInstanceUID(study_instance_uid))
        ledger.replay(StudyInstanceUID(study_instance_uid))
        view = ledger.study_view(StudyInstanceUID(study_instance_uid))
        known = ledger.study(StudyInstanceUID(study_instance_uid))
    if as_json:
        show_json(as_dict(view, known))
        return
    if before.code in _CONFIRMED:
        click.echo(_CONFIRMED[before.code].format(was=before.patient_reference or "its Patient"))
    click.echo(f"{study_instance_uid} is {view.state}.")


_CONFIRMED: Final = {
    PatientChanged.code: (
        "Confirmed: the patient was corrected in the archive. "
        "The study goes from {was} to whom the archive names now."
    ),
    PatientGone.code: (
        "Confirmed: {was} is gone. The study goes to whom patient.policy finds or makes."
    ),
    PatientStepConflict.code: (
        "Confirmed: the archive is right, and the modality named another patient by mistake."
    ),
    FhirGone.code: ("Confirmed: the ImagingStudy was deleted by mistake. It is created anew."),
}


def as_dict(view: StudyView, known: Study) -> dict[str, Any]:
    """Return the documented shape; references are relative and unversioned."""
    fhir = None
    if view.fhir_reference is not None:
        fhir = {"reference": view.fhir_reference, "version": view.fhir_version}
    return {
        "study_instance_uid": view.study_instance_uid,
        "state": view.state,
        "code": view.code,
        "sentence": view.sentence,
        "hint": view.hint,
        "fhir": fhir,
        "patient": view.patient_reference,
        "series": view.series,
        "instances": view.instances,
        "series_roles": series_as_dicts(known),
        "attempts": view.attempts,
        "received_at": _time(view.received_at),
        "unsynced_since": _time(view.unsynced_since),
        "next_attempt_at": _time(view.next_attempt_at),
        "archives": [
            {
                "name": archive.name,
                "series": archive.series,
                "instances": archive.instances,
                "read_owed": archive.is_read_owed,
                "unverified": archive.is_unverified,
                "absent_since": _time(archive.absent_since),
            }
            for archive in view.archives
        ],
        "events": [
            {
                "at": _time(event.at),
                "event": event.event,
                "sentence": event.sentence,
                "code": event.code,
            }
            for event in view.events
        ],
    }


def _time(at: datetime | None) -> str | None:
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _show(view: StudyView) -> None:
    click.secho(f"{view.study_instance_uid}  {view.state}", bold=True)
    click.echo(f"  {view.series} series, {view.instances} instances")
    for archive in view.archives:
        owed = ", to be read" if archive.is_read_owed else ""
        gone = f", absent since {_time(archive.absent_since)}" if archive.absent_since else ""
        click.echo(f"  in {archive.name}: {_or_unknown(archive.instances)} instances{owed}{gone}")
    if view.fhir_reference is not None:
        click.echo(f"  {view.fhir_reference} version {view.fhir_version}")
    if view.code is not None:
        click.secho(f"  {view.code}: {view.sentence}", fg="yellow")
        click.echo(f"  {view.hint}")
    if view.next_attempt_at is not None:
        click.echo(f"  next attempt {_time(view.next_attempt_at)}")
    for event in view.events:
        click.echo(f"  {_time(event.at)}  {event.event:<22} {event.sentence}")


def _or_unknown(count: int | None) -> str:
    return "an unknown number of" if count is None else str(count)
