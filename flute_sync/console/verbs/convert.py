"""``flute-sync convert``: DICOM files to ImagingStudyFlute JSON, without any server."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from flute_sync.command_errors import InputUnreadable
from flute_sync.console.opening import load_config
from flute_sync.console.output import config_option, json_option, show_json
from flute_sync.daemon.config import SiteSettings
from flute_sync.dicom_errors import HeaderError
from flute_sync.errors import EXIT_DATA, EXIT_OK, FluteSyncError
from flute_sync.identity import PatientSettings
from flute_sync.imaging_study import Context, ImagingStudySettings, map_study, to_json
from flute_sync.intake import Received
from flute_sync.patient import logical_subject
from flute_sync.sources.header import HeaderReader
from flute_sync.study import Instance, Series, SeriesInstanceUID, Study, StudyInstanceUID

Refusal = dict[str, Any]


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@config_option
@json_option
def convert(paths: tuple[Path, ...], config_path: Path | None, as_json: bool) -> int:
    """Say the studies in DICOM files or folders as ImagingStudyFlute, one a line.

    Works offline. The subject is a logical reference: nobody is asked who the patient is. With
    --config, the site's time zone, identifier systems and [imaging_study] apply. A file that is
    not DICOM, or a study that cannot be said, is named on stderr; the exit code is then 65.
    """
    site, patient, imaging_study = _settings(config_path)
    studies, refused = _read(paths)
    now = datetime.now(UTC)
    resources = []
    for study in studies:
        try:
            context = Context(subject=logical_subject(study, patient), now=now, zone=site.zone)
            resources.append(map_study(study, context, imaging_study).resource)
        except FluteSyncError as error:
            refused.append(_refusal(str(study.study_instance_uid), error))
    _show(resources, refused, as_json=as_json)
    return EXIT_DATA if refused else EXIT_OK


def _settings(path: Path | None) -> tuple[SiteSettings, PatientSettings, ImagingStudySettings]:
    if path is None:
        return SiteSettings(), PatientSettings(), ImagingStudySettings()
    config = load_config(path)
    return config.site, config.patient, config.imaging_study


def _read(paths: Iterable[Path]) -> tuple[list[Study], list[Refusal]]:
    """Read every file once; a file given twice counts once, as a UID does."""
    found: dict[StudyInstanceUID, dict[SeriesInstanceUID, dict[str, Instance]]]
    found = defaultdict(lambda: defaultdict(dict))
    refused: list[Refusal] = []
    reader = HeaderReader()
    for path in _files(paths):
        try:
            received = _header(reader, path)
        except FluteSyncError as error:
            refused.append(_refusal(str(path), error))
            continue
        series = found[received.study_instance_uid][received.series_instance_uid]
        series.setdefault(received.instance.sop_instance_uid, received.instance)
    return [_study(uid, series) for uid, series in sorted(found.items())], refused


def _header(reader: HeaderReader, path: Path) -> Received:
    try:
        with path.open("rb") as file:
            return reader.read(file)
    except OSError as error:
        raise InputUnreadable(error.strerror or "") from error


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            inside = (inner for inner in path.rglob("*") if inner.is_file())
            yield from sorted(inner for inner in inside if inner.name != "DICOMDIR")
        else:
            yield path


def _study(uid: StudyInstanceUID, series: dict[SeriesInstanceUID, dict[str, Instance]]) -> Study:
    return Study(
        uid,
        tuple(
            Series(series_uid, tuple(instances.values()))
            for series_uid, instances in sorted(series.items())
        ),
    )


def _refusal(what: str, error: FluteSyncError) -> Refusal:
    tag = error.tag if isinstance(error, HeaderError) else None
    return {"input": what, "code": error.code, "sentence": error.sentence, "tag": tag}


def _show(resources: list[dict[str, Any]], refused: list[Refusal], *, as_json: bool) -> None:
    if as_json:
        show_json({"resources": resources, "refused": refused})
        return
    for resource in resources:
        click.echo(to_json(resource))
    for refusal in refused:
        click.echo(f"{refusal['input']}: {refusal['code']}: {refusal['sentence']}", err=True)
