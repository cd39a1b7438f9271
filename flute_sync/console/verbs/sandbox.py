"""``flute-sync sandbox``: an archive and a FHIR server in one process, to try things on."""

import signal
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from flute_sync.console.opening import load_config
from flute_sync.console.output import config_option, json_option, show_json
from flute_sync.sandbox.server import Sandbox


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the data here.")
@click.option("--archive-port", default=8042, show_default=True, help="Port of the archive.")
@click.option("--fhir-port", default=8080, show_default=True, help="Port of the FHIR server.")
@config_option
@json_option
def sandbox(
    folder: Path | None,
    archive_port: int,
    fhir_port: int,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Run an archive (DICOMweb) and a FHIR R4 server on loopback until interrupted.

    They are for trying and testing: they have no authentication and listen on 127.0.0.1 only.
    """
    if config_path is not None:
        load_config(config_path)  # nothing of it is needed, but a wrong file is said
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    with TemporaryDirectory(prefix="flute-sync-sandbox-") as temporary:
        place = folder or Path(temporary)
        with Sandbox(place, archive_port=archive_port, fhir_port=fhir_port) as running:
            if as_json:
                show_json({"dicomweb_url": running.dicomweb_url, "fhir_url": running.fhir_url})
            else:
                click.echo(f"Archive (DICOMweb)  {running.dicomweb_url}")
                click.echo(f"FHIR R4 server      {running.fhir_url}")
                click.echo("Ctrl-C ends it." + ("" if folder else " Its data go with it."))
            stopping.wait()
