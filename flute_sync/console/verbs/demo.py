"""``flute-sync demo``: the main job, seen from end to end."""

import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import orjson

from flute_sync.console import showcase
from flute_sync.console.opening import load_config
from flute_sync.console.output import config_option, json_option, show_json
from flute_sync.console.showcase import Account, Scene
from flute_sync.sandbox.server import Sandbox


@click.command()
@click.option("--fhir", "fhir_url", help="A FHIR R4 server instead of the sandbox's.")
@click.option("--archive", "dicomweb_url", help="A DICOMweb archive instead of the sandbox's.")
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C.")
@config_option
@json_option
def demo(
    fhir_url: str | None,
    dicomweb_url: str | None,
    keep: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Upload an invented prostate MRI and ultrasound, and watch them arrive in FHIR.

    Then judge the criterion of the study, and fetch the images of what it includes.

    Without --fhir and --archive everything runs on an embedded archive and FHIR server. With them
    the invented patient, his variables and the two studies stay on those servers.
    """
    if config_path is not None:
        load_config(config_path)  # nothing of it is needed, but a wrong file is said
    say = (lambda *_: None) if as_json else click.echo
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="flute-sync-demo-")))
        if fhir_url is None or dicomweb_url is None:
            sandbox = stack.enter_context(Sandbox(folder / "sandbox"))
            fhir_url = fhir_url or sandbox.fhir_url
            dicomweb_url = dicomweb_url or sandbox.dicomweb_url
        place = showcase.scene(folder, fhir_url.rstrip("/"), dicomweb_url.rstrip("/"))
        stack.enter_context(showcase.daemon(place))
        say(f"FHIR server  {place.fhir_url}\nArchive      {place.dicomweb_url}")
        say(f"flute-sync   {place.stow_url}  (STOW-RS)\n")
        patient = showcase.load_patient(place)
        say(f"Loaded the FLUTE patient {patient} with PSA, PI-RADS, biopsy and more.\n")
        accounts = [_one(place, what, files, as_json) for what, files in showcase.studies()]
        results, files = showcase.judged(place, patient), showcase.fetched(place)
        if as_json:
            shown = [_as_dict(one) for one in accounts]
            told = {"results": results, "files": len(files)}
            show_json({"patient": patient, "studies": shown, "research": told})
        else:
            _tell_research(place, results, files)
        if keep:
            _wait(place)


def _one(place: Scene, what: str, files: list[bytes], as_json: bool) -> Account:
    megabytes = sum(map(len, files)) / 1e6
    began = time.monotonic()
    uid = showcase.upload(place, files)
    uploaded = time.monotonic() - began
    account = showcase.follow(place, uid, len(files), began + uploaded)
    if not as_json:
        click.secho(
            f"{what}: {len(files)} instances, {megabytes:.1f} MB uploaded in {uploaded:.1f} s; "
            f"in FHIR {account.seconds:.1f} s later",
            bold=True,
        )
        _tell(account)
    return account


def _tell(account: Account) -> None:
    click.echo("\nThe ImagingStudyFlute (one instance of each series shown):\n")
    shown = orjson.dumps(_abridged(account.resource), option=orjson.OPT_INDENT_2).decode()
    click.echo("  " + shown.replace("\n", "\n  "))
    click.echo(f"\nIts {len(account.instance_urls)} WADO-RS addresses; the first:")
    click.echo(f"  {account.instance_urls[0]}")
    click.echo(f"\nA thumbnail fetched by them ({len(account.rendered)} bytes of JPEG):\n")
    for line in showcase.picture(account.rendered):
        click.echo(f"  {line}")
    row = account.ledger
    click.echo(f"\nThe ledger: {row['state']}, {row['fhir']['reference']}")
    for event in row["events"]:
        click.echo(f"  {event['at']}  {event['event']:<16} {event['sentence']}")
    click.echo()


def _tell_research(place: Scene, results: list[dict[str, Any]], files: list[Path]) -> None:
    click.secho("flute-sync criteria: an MRI within one year before the biopsy?", bold=True)
    for one in results:
        click.echo(f"  {one['biopsy']}  {one['verdict']}: {one['reason']}")
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    click.secho("\nflute-sync fetch: the images of what is included", bold=True)
    click.echo(f"  {len(files)} files, {megabytes:.1f} MB, verified; the first:")
    click.echo(f"  {files[0].relative_to(place.folder)}\n")


def _abridged(resource: dict[str, Any]) -> dict[str, Any]:
    series = [
        {**one, "instance": [*one["instance"][:1], f"... {len(one['instance']) - 1} more"]}
        if len(one["instance"]) > 1
        else one
        for one in resource["series"]
    ]
    return {**resource, "series": series}


def _as_dict(account: Account) -> dict[str, Any]:
    return {
        "study_instance_uid": account.study_instance_uid,
        "seconds": round(account.seconds, 3),
        "resource": account.resource,
        "wado_rs": list(account.instance_urls),
        "thumbnail_bytes": len(account.rendered),
        "ledger": account.ledger,
    }


def _wait(place: Scene) -> None:
    click.echo(f"Left running. Upload to {place.stow_url}/studies; settings: {place.config}")
    click.echo(f"Studies: http://127.0.0.1:{place.console_port}/studies; monitors: /metrics there.")
    click.echo("Ctrl-C ends it.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        click.echo("Ending.")
