"""A manifest: what would be fetched, as JSON Lines of WADO-RS addresses, and read again.

One line is one instance; or a series, or a study, where FHIR lists no instances. Lines of a series
follow each other, and so do those of a study.

References
----------
https://jsonlines.org; PS3.18 10.4.1 (2026b)
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from flute_sync.fetch_errors import SelectorUnusable, StudyNotRetrievable
from flute_sync.retrieval import (
    WantedInstance,
    WantedSeries,
    WantedStudy,
    legal_uid,
    path_of,
    service_base,
)

Line = dict[str, Any]


def lines(study: WantedStudy) -> Iterator[Line]:
    """Write the lines of a study."""
    for series in study.series:
        for instance in series.instances or (None,):
            yield _line(study, series, instance)


def _line(study: WantedStudy, series: WantedSeries, instance: WantedInstance | None) -> Line:
    uid = instance.uid if instance else None
    path = path_of(study.uid, series.uid, uid)
    return {
        "url": series.addresses[0] + path,
        "study_instance_uid": study.uid,
        "series_instance_uid": series.uid,
        "sop_instance_uid": uid,
        "sop_class_uid": instance.sop_class_uid if instance else None,
        "modality": series.modality,
        "series_number": series.number,
        "instance_number": instance.number if instance else None,
        "number_of_instances": series.count,
        "imaging_study": study.reference,
        "patient": study.subject,
    }


def studies(read: Iterable[object]) -> Iterator[WantedStudy]:
    """Read a manifest's lines back, one study at a time.

    Raises
    ------
    SelectorUnusable
        A line is not one that `lines` writes, or its address is not of what it names.
    """
    parsed = (_parsed(number, line) for number, line in enumerate(read, 1))
    for (uid, reference, subject), of_study in groupby(parsed, key=lambda one: one[0]):
        series = (
            _merged([found for _, found in same])
            for _, same in groupby(of_study, key=lambda one: (one[1].uid, one[1].addresses))
        )
        yield WantedStudy(uid, reference, subject, tuple(series))


def _merged(parts: list[WantedSeries]) -> WantedSeries:
    first = parts[0]
    listed = {one.uid: one for part in parts for one in part.instances}
    return WantedSeries(
        first.uid,
        first.addresses,
        first.number,
        first.modality,
        first.count,
        tuple(listed.values()),
    )


_Study = tuple[str, str | None, str | None]


def _parsed(number: int, line: object) -> tuple[_Study, WantedSeries]:
    if not isinstance(line, dict):
        raise SelectorUnusable(f"line {number} is not a JSON object")
    try:
        study, series, instance = (_uid(line, name) for name in _UIDS)
    except StudyNotRetrievable:
        raise SelectorUnusable(f"line {number}: a UID is illegal") from None
    url = line.get("url")
    if study is None or (series is None and instance is not None) or not isinstance(url, str):
        raise SelectorUnusable(f"line {number} is not one of a manifest")
    path = path_of(study, series, instance)
    base = service_base(url.removesuffix(path)) if url.endswith(path) else None
    if base is None:
        raise SelectorUnusable(f"line {number}: its url is not that of what it names")
    found = None
    if instance is not None:
        found = WantedInstance(
            instance, _number(line, "instance_number"), _text(line, "sop_class_uid")
        )
    return (study, _text(line, "imaging_study"), _text(line, "patient")), WantedSeries(
        series,
        (base,),
        _number(line, "series_number"),
        _text(line, "modality"),
        _number(line, "number_of_instances"),
        (found,) if found else (),
    )


_UIDS = ("study_instance_uid", "series_instance_uid", "sop_instance_uid")


def _uid(line: Line, name: str) -> str | None:
    return None if line.get(name) is None else legal_uid(line[name])


def _text(line: Line, name: str) -> str | None:
    value = line.get(name)
    return value if isinstance(value, str) else None


def _number(line: Line, name: str) -> int | None:
    value = line.get(name)
    return value if isinstance(value, int) and value >= 0 else None
