"""A manifest written instead of fetching: the addresses of what would be fetched."""

from collections.abc import Iterable
from dataclasses import replace
from typing import BinaryIO

import orjson

from flute_sync.daemon.fetch_choice import ArchiveHeaders, Choice, of_modalities, of_roles, split
from flute_sync.daemon.fetch_patience import Patience
from flute_sync.daemon.fetch_places import Places
from flute_sync.daemon.fetch_report import Report
from flute_sync.daemon.fetch_selectors import Refused
from flute_sync.errors import FluteSyncError
from flute_sync.retrieval import WantedSeries, WantedStudy, expected
from flute_sync.retrieval_manifest import lines


def write_manifest(
    stream: BinaryIO,
    studies: Iterable[WantedStudy | Refused],
    choice: Choice,
    places: Places,
    patience: Patience,
) -> Report:
    """Write a line for each instance, and return what it came to.

    The archive is asked only where headers decide what is wanted.

    Raises
    ------
    Ended, FluteSyncError
    """
    report = Report()
    headers = ArchiveHeaders(places, patience, report, decide=choice.needs_headers)
    for one in studies:
        if isinstance(one, tuple):
            report.miss(one[1], one[1].study_instance_uid)
            continue
        report.add(studies=1)
        try:
            study = of_modalities(headers, one, choice.modalities)
            study = of_roles(headers, study, choice.series_roles)
        except FluteSyncError as error:
            report.miss(error, one.uid, files=expected(one))
            continue
        for series in study.series:
            try:
                parts = _wanted(headers, study, series, choice)
            except FluteSyncError as error:
                report.miss(error, study.uid, series.uid, files=series.expected or 1)
                continue
            report.add(series=len(parts), known=sum(part.expected or 0 for part in parts))
            for line in lines(replace(study, series=tuple(parts))):
                stream.write(orjson.dumps(line) + b"\n")
    report.finished = True
    return report


def _wanted(
    headers: ArchiveHeaders, study: WantedStudy, series: WantedSeries, choice: Choice
) -> list[WantedSeries]:
    if not choice.filters:
        return [series]
    return [part for part, _ in split(headers, study, series, choice)]
