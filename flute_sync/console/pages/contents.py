"""What the page of one study shows, from its ImagingStudy and from what was judged of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from urllib.parse import quote

from flute_sync.console.pages.elements import code, number, said, text
from flute_sync.console.pages.timeline import Mark, Timeline, timeline
from flute_sync.daemon.console_settings import Viewer
from flute_sync.fhir_dates import Interval, date_time
from flute_sync.fhir_elements import members
from flute_sync.ledger import LinkRow
from flute_sync.link_elements import links_of
from flute_sync.valuerep import ILLEGAL, uid_problem

MOST_SERIES: Final = 200
_MOST_MARKS: Final = 60
_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WITHOUT_PICTURE: Final = frozenset(
    {"SR", "KO", "PR", "DOC", "PLAN", "REG", "FID", "RWV", "RTSTRUCT", "RTPLAN", "RTRECORD", "AU"}
)

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SeriesView:
    """A series; ``instance`` is the one that stands for it in a picture."""

    uid: str
    number: int | None
    modality: str
    description: str
    body_site: str
    started: str
    instances: int | None
    instance: str | None
    url: str | None


def is_legal(uid: object) -> bool:
    """Tell whether a UID can stand in an address."""
    return isinstance(uid, str) and uid_problem(uid) != ILLEGAL


def series_of(study: Resource, study_url: str | None) -> list[SeriesView]:
    """Return the first series of an ImagingStudy.

    Parameters
    ----------
    study_url
        The DICOMweb address of the study; None where none is known.
    """
    found: list[SeriesView] = []
    for element in members(study.get("series")):
        if len(found) == MOST_SERIES:
            break
        uid, modality = element.get("uid"), code(element.get("modality"))
        legal = is_legal(uid)
        found.append(
            SeriesView(
                uid=text(uid, 64),
                number=number(element.get("number")),
                modality=modality,
                description=text(element.get("description")),
                body_site=said(element.get("bodySite")),
                started=text(element.get("started"), 40),
                instances=number(element.get("numberOfInstances")),
                instance=_middle(element) if legal and modality not in _WITHOUT_PICTURE else None,
                url=f"{study_url}/series/{uid}" if legal and study_url else None,
            )
        )
    return found


def _middle(series: Resource) -> str | None:
    uids = [str(one["uid"]) for one in members(series.get("instance")) if is_legal(one.get("uid"))]
    return uids[len(uids) // 2] if uids else None


def viewer_links(
    viewers: Sequence[Viewer], study_uid: str, dicomweb_url: str | None
) -> list[dict[str, str]]:
    """Return where viewers show a study; without one that needs an address nobody knows."""
    values = {"{study_uid}": study_uid, "{dicomweb_url}": dicomweb_url}
    links = []
    for viewer in viewers:
        url: str | None = viewer.url
        for placeholder, value in values.items():
            if url is not None and placeholder in url:
                url = None if value is None else url.replace(placeholder, quote(value, safe=""))
        if url is not None:
            links.append({"name": viewer.name, "url": url})
    return links


def foreign_links(
    study: Resource, base_url: str, judged: Sequence[LinkRow]
) -> list[tuple[str, str]]:
    """Return links that stand in the resource and of which the ledger knows nothing."""
    known = {row.reference for row in judged}
    stated = links_of(study, base_url).items()
    return [(text(one), text(display)) for one, display in stated if one not in known]


def drawing(study: Resource, taken: Sequence[LinkRow]) -> Timeline | None:
    """Return the study and its dated links on a line of time; None where no link has a date."""
    dated = [(interval, row) for row in taken if (interval := _interval(row)) is not None]
    if not dated:
        return None
    marks = []
    started = date_time(study.get("started"))
    if started is not None:
        shown = f"Study {text(study.get('started'), 40)}"
        day = str(started)
        marks.append(Mark("This study", day, started.low, started.high, shown, "study"))
    dated.sort(key=lambda pair: (pair[0].low, pair[0].high, pair[1].reference))
    for interval, row in dated[:_MOST_MARKS]:
        title = f"{row.kind} {row.reference}, {interval}: {row.rule}, {row.verdict}"
        label = in_words(row.kind)
        marks.append(Mark(label, f"{interval} {row.rule}", interval.low, interval.high, title))
    return timeline(marks)


def in_words(kind: str) -> str:
    """Return the kind of a variable as people say it: ``PR_ProstateVolume``, Prostate Volume."""
    return _WORD.sub(" ", text(kind.removeprefix("PR_"), 40))


def _interval(row: LinkRow) -> Interval | None:
    if row.low is None or row.high is None:
        return None
    try:
        return Interval(date.fromisoformat(row.low), date.fromisoformat(row.high))
    except ValueError:
        return None
