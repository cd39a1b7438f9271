"""Which instances of a series are wanted, where their headers decide it.

FHIR lists neither b-values nor frames: the archive's metadata are read for that, not its pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from flute_sync.intake import Received
from flute_sync.retrieval import WantedInstance, WantedSeries, WantedStudy, path_of
from flute_sync.sources.wado_rs import WadoRs

Filter = Callable[[Sequence[Received]], Sequence[Received]]
"""Keeps the wanted instances of one series."""

_SAME_B_VALUE = 0.5  # s/mm2: scanners write 799.9 for 800


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a study is wanted.

    Parameters
    ----------
    modalities
        Of series; all where none is named.
    filters
        Of the instances of a series, by their headers.
    picture
        The media type of rendered pictures, None for DICOM files.
    """

    modalities: frozenset[str] = frozenset()
    filters: tuple[Filter, ...] = ()
    picture: str | None = None

    @property
    def needs_headers(self) -> bool:
        """Whether metadata decide."""
        return bool(self.filters or self.picture)


def by_b_value(wanted: frozenset[float]) -> Filter:
    """Return a filter that keeps instances of these Diffusion b-values, in s/mm2 (0018,9087)."""

    def kept(instances: Sequence[Received]) -> Sequence[Received]:
        return [one for one in instances if _near(one, wanted)]

    return kept


def _near(one: Received, wanted: frozenset[float]) -> bool:
    found = one.instance.header.series.diffusion_b_value
    return found is not None and any(abs(found - each) <= _SAME_B_VALUE for each in wanted)


def split(
    place: WadoRs, study: WantedStudy, series: WantedSeries, choice: Choice
) -> list[tuple[WantedSeries, dict[str, int]]]:
    """Read a series' metadata and return what of it is wanted, with the frames of each instance.

    A study that FHIR does not tell by series becomes its series.

    Raises
    ------
    ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized, ArchiveRefused
    """
    by_series: dict[str, list[Received]] = {}
    listed = {one.uid for one in series.instances}
    for one in _of_it(place, study, series):
        if not listed or one.instance.sop_instance_uid in listed:
            by_series.setdefault(str(one.series_instance_uid), []).append(one)
    if not by_series and listed and not choice.filters:
        return [(series, {})]
    narrowed = [_narrowed(series, uid, found, choice) for uid, found in by_series.items()]
    return [one for one in narrowed if one[0].instances]


def _of_it(place: WadoRs, study: WantedStudy, series: WantedSeries) -> Iterator[Received]:
    for one in place.headers(path_of(study.uid, series.uid)):
        here = series.uid in (None, one.series_instance_uid)
        if here and one.study_instance_uid == study.uid:
            yield one


def _narrowed(
    series: WantedSeries, uid: str, found: Sequence[Received], choice: Choice
) -> tuple[WantedSeries, dict[str, int]]:
    first, size = found[0].instance.header.series, len(found)
    for each in choice.filters:
        found = each(found)
    listed = {one.uid: one for one in series.instances}
    wanted = [listed.get(one.instance.sop_instance_uid) or _wanted(one) for one in found]
    if not choice.filters and listed:
        wanted = list(series.instances)  # what the archive does not tell of is missed, not passed
    known = series.uid is not None
    narrowed = replace(
        series,
        uid=uid,
        number=series.number if known else first.number,
        modality=series.modality if known else first.modality,
        count=max(series.count or 0, size) if known else size,
        instances=tuple(wanted),
    )
    return narrowed, {
        str(one.instance.sop_instance_uid): one.instance.header.number_of_frames or 1
        for one in found
    }


def _wanted(one: Received) -> WantedInstance:
    uid, number, header = one.instance
    return WantedInstance(str(uid), number, header.sop_class_uid)
