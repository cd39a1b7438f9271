"""``flute-sync convert``: DICOM files to ImagingStudyFlute JSON, without any server."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from flute_sync.command_errors import InputUnreadable
from flute_sync.console.opening import load_config
from flute_sync.console.output import config_option, json_option, show_json
from flute_sync.daemon.config import Config
from flute_sync.daemon.pseudonymity import ONE_KIND, pseudonymiser
from flute_sync.dicom_errors import HeaderError
from flute_sync.errors import EXIT_DATA, EXIT_OK, FluteSyncError
from flute_sync.identity import PatientSettings, identify
from flute_sync.imaging_study import Context, ImagingStudySettings, map_study, to_json
from flute_sync.intake import Received
from flute_sync.patient import logical_reference, logical_subject
from flute_sync.pseudonym_settings import PseudonymSettings
from flute_sync.pseudonymous import Pseudonymiser, Source, refuse_other, source_of
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
    --config, the site's time zone, identifier systems, [pseudonyms] and [imaging_study] apply. A
    file that is not DICOM, or a study that cannot be said, is named on stderr; the exit code is
    then 65.
    """
    site = _Site() if config_path is None else _site(load_config(config_path))
    studies, refused = _read(paths)
    now = datetime.now(UTC)
    resources = []
    for study in studies:
        try:
            resources.append(site.resource(study, now))
        except FluteSyncError as error:
            refused.append(_refusal(str(study.study_instance_uid), error))
    _show(resources, refused, as_json=as_json)
    return EXIT_DATA if refused else EXIT_OK


@dataclass(frozen=True)
class _Site:
    """What the settings say of a study."""

    zone: ZoneInfo | None = None
    patient: PatientSettings = field(default_factory=PatientSettings)
    imaging_study: ImagingStudySettings = field(default_factory=ImagingStudySettings)
    pseudonyms: PseudonymSettings = field(default_factory=PseudonymSettings)
    pseudonymiser: Pseudonymiser | None = None

    def resource(self, study: Study, now: datetime) -> dict[str, Any]:
        """Say a study as ImagingStudyFlute; of no other kind than the settings state."""
        if self.pseudonyms.sources != ONE_KIND:
            kind = source_of(study, self.pseudonyms.unmarked)
            refuse_other(kind, Source(self.pseudonyms.sources))
        if self.pseudonymiser is None:
            subject = logical_subject(study, self.patient)
        else:
            key = self.pseudonymiser.identity(identify(study, self.patient)).key
            study = self.pseudonymiser.study(study, key.value, self.zone)
            subject = logical_reference(key)
        context = Context(subject=subject, now=now, zone=self.zone, pseudonyms=self.pseudonyms)
        return map_study(study, context, self.imaging_study).resource


def _site(config: Config) -> _Site:
    hidden = pseudonymiser(config)
    return _Site(config.site.zone, config.patient, config.mapping, config.pseudonyms, hidden)


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
