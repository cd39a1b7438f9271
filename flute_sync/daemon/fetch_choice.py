"""Which instances of a series are wanted, where their headers decide it.

FHIR lists neither b-values nor frames: the archive's metadata are read for that, not its pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from flute_sync.daemon.fetch_patience import Patience
from flute_sync.daemon.fetch_places import Places
from flute_sync.daemon.fetch_report import Report
from flute_sync.fetch_errors import CountMismatch
from flute_sync.intake import Received
from flute_sync.retrieval import WantedInstance, WantedSeries, WantedStudy, path_of
from flute_sync.series_role import Role, roles
from flute_sync.study import Instance, Series, SeriesInstanceUID, Study, StudyInstanceUID

Filter = Callable[[Sequence[Received]], Sequence[Received]]
"""Keeps the wanted instances of one series."""

_SAME_B_VALUE: Final = 0.5  # s/mm2: scanners write 799.9 for 800
_MR: Final = "MR"


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a study is wanted.

    Parameters
    ----------
    modalities
        Of series; all where none is named.
    series_roles
        Of MR series; all series where none is named.
    filters
        Of the instances of a series, by their headers.
    picture
        The media type of rendered pictures, None for DICOM files.
    nifti
        Whether NIfTI is made of each series besides.
    """

    modalities: frozenset[str] = frozenset()
    series_roles: frozenset[Role] = frozenset()
    filters: tuple[Filter, ...] = ()
    picture: str | None = None
    nifti: bool = False

    @property
    def needs_headers(self) -> bool:
        """Whether metadata decide."""
        return bool(self.filters or self.picture)


class Headers(Protocol):
    """Reads what an archive says of the instances of a series, or of a study."""

    def of(self, study: WantedStudy, series: WantedSeries) -> Sequence[Received]:
        """Return it; raises what the archive's failure is."""


class ArchiveHeaders:
    """Reads metadata by WADO-RS, as patiently as the run is.

    Parameters
    ----------
    report
        Is told what FHIR counts and the metadata do not tell of.
    decide
        Whether nothing is fetched but what the metadata tell of, so that no more is counted later.
    """

    def __init__(self, places: Places, patience: Patience, report: Report, *, decide: bool) -> None:
        self._places, self._patience = places, patience
        self._report, self._decide = report, decide
        self._short: set[tuple[str, str | None]] = set()

    def of(self, study: WantedStudy, series: WantedSeries) -> Sequence[Received]:
        """Return what is said of instances that are of this study and series.

        Raises
        ------
        EndpointUnknown, ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized, ArchiveRefused
        """
        found = self._places.of(series.addresses)
        path = path_of(study.uid, series.uid)
        read = self._patience.tried(
            lambda failures: list(found[failures % len(found)].headers(path))
        )
        of_it = [
            one
            for one in read
            if one.study_instance_uid == study.uid and series.uid in (None, one.series_instance_uid)
        ]
        if not series.instances and (self._decide or series.uid is None):
            self._count(study, series, len({one.instance.sop_instance_uid for one in of_it}))
        return of_it

    def _count(self, study: WantedStudy, series: WantedSeries, told: int) -> None:
        missing = (series.count or 0) - told
        if missing > 0 and (study.uid, series.uid) not in self._short:
            self._short.add((study.uid, series.uid))
            said = CountMismatch(f"{told} of {series.count} instances in the metadata")
            self._report.add(known=missing)
            self._report.miss(said, study.uid, series.uid, files=missing)


def by_b_value(wanted: frozenset[float]) -> Filter:
    """Return a filter that keeps instances of these b-values, in s/mm2.

    They are as a header states them: in (0018,9087), in the private elements of vendors, or for
    the frames of an Enhanced MR image, which is kept whole where one of its frames has one.
    """

    def kept(instances: Sequence[Received]) -> Sequence[Received]:
        return [one for one in instances if _near(one, wanted)]

    return kept


def _near(one: Received, wanted: frozenset[float]) -> bool:
    series = one.instance.header.series
    single = series.diffusion_b_value
    stated = series.diffusion_b_values if single is None else (single, *series.diffusion_b_values)
    return any(abs(found - each) <= _SAME_B_VALUE for found in stated for each in wanted)


def of_modalities(headers: Headers, study: WantedStudy, wanted: frozenset[str]) -> WantedStudy:
    """Keep the series of these modalities; all where none is named.

    A study that FHIR does not tell by series becomes its series. Raises as ``headers`` does.
    """
    if not wanted:
        return study
    told = (
        one
        for series in study.series
        for one in ((series,) if series.uid is not None else _by_series(headers, study, series))
    )
    return replace(study, series=tuple(one for one in told if one.modality in wanted))


def _by_series(headers: Headers, study: WantedStudy, whole: WantedSeries) -> Iterator[WantedSeries]:
    found: dict[SeriesInstanceUID, dict[str, Instance]] = {}
    for one in headers.of(study, whole):
        instances = found.setdefault(one.series_instance_uid, {})
        instances[str(one.instance.sop_instance_uid)] = one.instance
    for uid, of_series in found.items():
        yield _named(whole, uid, tuple(of_series.values()))


def of_roles(headers: Headers, study: WantedStudy, wanted: frozenset[Role]) -> WantedStudy:
    """Keep the MR series that are for one of these purposes; all series where none is named.

    The roles are told by all MR series together, as `series_role.roles` does. A study that FHIR
    does not tell by series becomes its series. Raises as ``headers`` does.
    """
    if not wanted:
        return study
    known: dict[SeriesInstanceUID, tuple[WantedSeries, dict[str, Instance]]] = {}
    for series in study.series:
        if series.modality in (None, _MR):
            for one in headers.of(study, series):
                _, instances = known.setdefault(one.series_instance_uid, (series, {}))
                instances[str(one.instance.sop_instance_uid)] = one.instance
    told = roles(
        Study(
            StudyInstanceUID(study.uid),
            tuple(Series(uid, tuple(found.values())) for uid, (_, found) in known.items()),
        )
    )
    kept = (
        _named(series, uid, tuple(found.values()))
        for uid, (series, found) in known.items()
        if told[uid].role in wanted
    )
    return replace(study, series=tuple(kept))


def _named(
    series: WantedSeries, uid: SeriesInstanceUID, instances: Sequence[Instance]
) -> WantedSeries:
    """Return a series of a study that FHIR does not tell by series."""
    if series.uid is not None:
        return series
    said = instances[0].header.series
    return replace(
        series, uid=str(uid), number=said.number, modality=said.modality, count=len(instances)
    )


def split(
    headers: Headers, study: WantedStudy, series: WantedSeries, choice: Choice
) -> list[tuple[WantedSeries, dict[str, int]]]:
    """Read a series' metadata and return what of it is wanted, with the frames of each instance.

    A study that FHIR does not tell by series becomes its series. Raises as ``headers`` does.
    """
    by_series: dict[str, list[Received]] = {}
    listed = {one.uid for one in series.instances}
    for one in headers.of(study, series):
        if not listed or one.instance.sop_instance_uid in listed:
            by_series.setdefault(str(one.series_instance_uid), []).append(one)
    if not by_series and listed and not choice.filters:
        return [(series, {})]
    narrowed = [_narrowed(series, uid, found, choice) for uid, found in by_series.items()]
    return [one for one in narrowed if one[0].instances]


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
