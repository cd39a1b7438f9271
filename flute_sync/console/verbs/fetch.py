"""``flute-sync fetch``: from ImagingStudies in FHIR to the images on disk."""

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import BinaryIO

import click

from flute_sync.console import log
from flute_sync.console.opening import load_config
from flute_sync.console.output import (
    EXIT_INTERRUPTED,
    config_option,
    json_option,
    show_error,
    show_json,
)
from flute_sync.console.progress import display
from flute_sync.daemon.config import Config
from flute_sync.daemon.fetch_choice import Choice, by_b_value
from flute_sync.daemon.fetch_folder import Folder, written
from flute_sync.daemon.fetch_manifest import write_manifest
from flute_sync.daemon.fetch_patience import Ended, Patience
from flute_sync.daemon.fetch_places import Places
from flute_sync.daemon.fetch_report import Report
from flute_sync.daemon.fetch_selectors import Refused, Selecting
from flute_sync.daemon.fetching import Fetch
from flute_sync.eligibility import Eligibility
from flute_sync.errors import FluteSyncError
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.retrievable import Retrievable
from flute_sync.retrieval import WantedStudy
from flute_sync.series_role import Role

_SHOWN = 10
_PICTURES = {"jpeg": "image/jpeg", "png": "image/png"}


@click.command()
@click.argument("selector")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="The folder.")
@click.option("--rendered", is_flag=True, help="Pictures instead of DICOM files.")
@click.option(
    "--picture",
    type=click.Choice(list(_PICTURES)),
    default="jpeg",
    show_default=True,
    help="The kind of pictures.",
)
@click.option("--nifti", is_flag=True, help="Make NIfTI of each series besides, by dcm2niix.")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Write the addresses to this file, and fetch nothing; - is standard output.",
)
@click.option("--modality", "modalities", multiple=True, metavar="M", help="May be repeated.")
@click.option(
    "--series-role",
    "series_roles",
    multiple=True,
    type=click.Choice([role.value for role in Role], case_sensitive=False),
    metavar="ROLE",
    help="MR series for this purpose alone, as `study` tells it; may be repeated.",
)
@click.option(
    "--b-value",
    "b_values",
    multiple=True,
    type=click.FloatRange(min=0),
    metavar="B",
    help="Instances of this Diffusion b-value alone, in s/mm2; may be repeated.",
)
@click.option(
    "--verdict",
    "verdicts",
    multiple=True,
    type=click.Choice([one.value for one in Eligibility]),
    default=[Eligibility.INCLUDED.value],
    show_default=True,
    help="Of a file of criteria: whose studies; may be repeated.",
)
@click.option("--any-endpoint", is_flag=True, help="Ask unknown addresses too, as nobody.")
@click.option("--verify", is_flag=True, help="Read what is there already, all of it, again.")
@config_option
@json_option
def fetch(
    selector: str,
    out: Path | None,
    rendered: bool,
    picture: str,
    nifti: bool,
    manifest: Path | None,
    modalities: tuple[str, ...],
    series_roles: tuple[str, ...],
    b_values: tuple[float, ...],
    verdicts: tuple[str, ...],
    any_endpoint: bool,
    verify: bool,
    config_path: Path | None,
    as_json: bool,
) -> int:
    """Bring images to disk by WADO-RS; FHIR says which there are and where.

    SELECTOR is a FHIR query (ImagingStudy?subject=Patient/1), a reference (ImagingStudy/1), a
    Study Instance UID, or a file: what criteria --json printed, or a manifest.

    The same command goes on where an earlier one stopped. What is on disk was whole: UIDs, counts
    and checksums.

    Exits with 0 when everything is there. 65: something cannot be had; 69: not now; 78: a person
    must change something; 130: interrupted.
    """
    if out is None and manifest is None:
        raise click.UsageError("say --out, or --manifest")
    if nifti and (rendered or manifest is not None):
        raise click.UsageError("--nifti is made of DICOM files that are fetched")
    config = load_config(config_path)
    log.configure(config.log.model_copy(update={"level": "error"}))
    filters = (by_b_value(frozenset(b_values)),) if b_values else ()
    choice = Choice(
        modalities=frozenset(one.upper() for one in modalities),
        series_roles=frozenset(map(Role, series_roles)),
        filters=filters,
        picture=_PICTURES[picture] if rendered else None,
        nifti=nifti,
    )
    with _interruptible(), FhirClient(config.fhir) as fhir, ExitStack() as opened:
        places = Places(config, any_endpoint=any_endpoint)
        opened.callback(places.close)
        asked = _Asked(config, fhir, places, choice, selector, frozenset(verdicts))
        if manifest is not None or out is None:
            report = _listed(asked, manifest or Path("-"))
        else:
            report = _fetched(asked, out, verify=verify)
    is_streamed = manifest is not None and str(manifest) == "-"
    if as_json and not is_streamed:
        show_json({"out": str(out) if manifest is None else None, **report.as_dict()})
    else:
        _show(report, listed=manifest is not None, to_stderr=is_streamed)
    return report.exit_code if report.finished or report.error else EXIT_INTERRUPTED


@dataclass(frozen=True)
class _Asked:
    """What was asked for, and of whom."""

    config: Config
    fhir: FhirClient
    places: Places
    choice: Choice
    selector: str
    verdicts: frozenset[str]

    def studies(self, patience: Patience) -> Iterator[WantedStudy | Refused]:
        fhir = Retrievable(self.fhir)
        selecting = Selecting(fhir, self.fhir.base_url, patience, self.verdicts)
        return selecting.studies(self.selector)


def _fetched(asked: _Asked, out: Path, *, verify: bool) -> Report:
    with Folder(out) as folder, display("fetch", "files") as shown:

        def tell(fetch: Fetch) -> None:
            report = fetch.report
            total = report.known if fetch.is_planned else None
            shown.show(report.done, total, fetch.patience.waiting_for)

        fetching = Fetch(asked.config, folder, asked.places, asked.choice, verify=verify, tell=tell)
        fetching.run(lambda: asked.studies(fetching.patience))
    return fetching.report


def _listed(asked: _Asked, manifest: Path) -> Report:
    patience = Patience(asked.config.retry, asked.config.fetch.attempts)
    try:
        with _written(manifest) as stream:
            studies = asked.studies(patience)
            return write_manifest(stream, studies, asked.choice, asked.places, patience)
    except KeyboardInterrupt:
        return Report()
    except Ended as end:
        raise end.error or FluteSyncError() from end


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """Give a file that takes its name once it is whole; ``-`` is standard output."""
    if str(path) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with written(path) as stream:
        yield stream


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(report: Report, *, listed: bool, to_stderr: bool) -> None:
    """Say what it came to; standard output may hold a manifest."""
    tell = partial(click.echo, err=to_stderr)
    tell(f"{report.studies:,} studies, {report.series:,} series")
    if listed:
        tell(f"{report.known:>10,}  listed")
    elif report.known or report.done:
        tell(f"{report.fetched:>10,}  fetched, {report.bytes / 1e6:,.1f} MB")
        tell(f"{report.already:>10,}  were there")
    for count, said in (
        (report.converted, "series made NIfTI"),
        (report.unlisted, "left out: the archive has them, FHIR lists them not"),
    ):
        if count:
            tell(f"{count:>10,}  {said}")
    for code, count in sorted(report.failed.items()):
        tell(f"{count:>10,}  failed: {code}")
    _show_missed(report)


def _show_missed(report: Report) -> None:
    for missed in report.missed[:_SHOWN]:
        where = missed.sop_instance_uid or missed.series_instance_uid or missed.study_instance_uid
        click.echo(f"{where or 'study'}: {missed.code}: {missed.sentence}", err=True)
    for hint in dict.fromkeys(one.hint for one in report.missed):
        click.echo(f"  {hint}", err=True)
    if report.error is not None:
        show_error(report.error, as_json=False)
    if not report.finished:
        click.echo("Not finished: the same command goes on where this one stopped.", err=True)
