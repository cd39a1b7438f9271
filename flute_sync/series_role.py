"""What each series of an MR examination is for: T2, diffusion, ADC, dynamic contrast, ...

Told by coded and numeric attributes alone. Descriptions and protocol names are not asked: they
differ from site to site and language to language, people change them, de-identification empties
them, and a role that is wrong does more harm than one that is unknown. Where the attributes do
not say, or say different things, the role is None.

References
----------
PS3.3 C.8.3.1 and C.8.13.3 to C.8.13.5 (2026b).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from flute_sync.study import (
    Header,
    Plane,
    Series,
    SeriesAttributes,
    SeriesInstanceUID,
    Study,
    distinct,
)


class Role(StrEnum):
    """What a series of an MR examination is for."""

    T2 = "T2"
    DWI = "DWI"
    ADC = "ADC"
    DCE = "DCE"
    T1 = "T1"
    CALCULATED_B = "calculated-b"  # diffusion images of a b-value that was not acquired
    SUBTRACTION = "subtraction"
    LOCALIZER = "localizer"
    DERIVED = "derived"  # computed in any other way: projections, reformats, maps


@dataclass(frozen=True, slots=True)
class SeriesRole:
    """What is told of one series.

    ``b_values`` are in s/mm2, in ascending order, of DWI and calculated images only. ``plane`` is
    None where it is not stated or where the series has several. ``told_by`` are the attributes
    that decided, as ``"(gggg,eeee)"``.
    """

    role: Role | None = None
    plane: Plane | None = None
    b_values: tuple[float, ...] = ()
    contrast_agent: bool = False
    told_by: tuple[str, ...] = ()


_Told = tuple[Role | None, tuple[str, ...]]

_IMAGE_TYPE: Final = "(0008,0008)"
_ACQUISITION_CONTRAST: Final = "(0008,9209)"
_B_VALUE: Final = "(0018,9087)"
_SEQUENCE: Final = "(0018,0020)"
_REPETITION_TIME: Final = "(0018,0080)"
_ECHO_TIME: Final = "(0018,0081)"
_ORIENTATION: Final = "(0020,0037)"
_TEMPORAL_POSITIONS: Final = "(0020,0105)"
_CONTRAST_AGENT: Final = "(0018,0010)"

_COMPUTED: Final = frozenset({
    "CPR", "CSA MPR", "MAX_IP", "MIN IP", "MIN_IP", "MIP", "MPR", "PROJECTION IMAGE",
    "REFORMATTED", "VOLUME_RENDER",
    "DIFFUSION_ANISO", "EXP", "FA", "FIELD_MAP", "T1 MAP", "T1_MAP", "T2 MAP", "T2_MAP",
    "T2_STAR_MAP", "TENSOR",
})  # fmt: skip
_BY_IMAGE_TYPE: Final = (  # the first that is met decides
    (Role.LOCALIZER, frozenset({"LOCALIZER"})),
    (Role.ADC, frozenset({"ADC", "ADC_UNSPECIFIED"})),
    (Role.CALCULATED_B, frozenset({"CALC_BVALUE"})),
    (Role.SUBTRACTION, frozenset({"SUB", "SUBTRACT", "SUBTRACTED", "SUBTRACTION"})),
    (Role.DERIVED, _COMPUTED),
    (Role.DWI, frozenset({"DIFFUSION", "DIFFUSION_ATTNTD", "DIFFUSION_ISO", "TRACEW"})),
)
_DYNAMIC: Final = frozenset({"DYNAMIC", "PERFUSION"})
_WEIGHTED: Final = {"T1": Role.T1, "T2": Role.T2}
_SPIN_ECHO: Final = frozenset({"SE"})
_OTHER_THAN_SPIN_ECHO: Final = frozenset({"EP", "GR", "IR"})

SHORTEST_T2_ECHO_MS: Final = 60.0
SHORTEST_T2_REPETITION_MS: Final = 1000.0
LONGEST_T1_ECHO_MS: Final = 30.0
LONGEST_T1_REPETITION_MS: Final = 1000.0
LONGEST_SPOILED_ECHO_MS: Final = 10.0
LONGEST_SPOILED_REPETITION_MS: Final = 20.0
"""Bounds within which a sequence is weighted one way only; what lies outside is not told."""
FEWEST_PHASES: Final = 3
"""Series alike in everything but time, one of them after contrast, that make a dynamic one."""


def roles(study: Study) -> dict[SeriesInstanceUID, SeriesRole]:
    """Tell the role of each series of a study, by Series Instance UID.

    Some scanners write each phase of a dynamic examination as its own series: the series of a
    study are therefore also seen together.
    """
    found = {series.series_instance_uid: role_of(series) for series in study.series}
    for phases in _phases(study, found):
        for uid in phases:
            told_by = (*found[uid].told_by, _CONTRAST_AGENT)
            found[uid] = replace(found[uid], role=Role.DCE, told_by=told_by)
    return found


def role_of(series: Series) -> SeriesRole:
    """Tell the role of one series, by itself."""
    told = _with_b_zero([(header, _role(header)) for header in series.headers])
    planes = distinct(series.headers, lambda header: header.series.plane)
    role, told_by = _together({one for _, one in told}, len(planes))
    return SeriesRole(
        role=role,
        plane=next(iter(planes)) if len(planes) == 1 else None,
        b_values=_b_values(told, role),
        contrast_agent=any(header.series.contrast_agent for header in series.headers),
        told_by=told_by,
    )


def _with_b_zero(told: list[tuple[Header, _Told]]) -> list[tuple[Header, _Told]]:
    """Count images without diffusion weighting to the weighted ones of their series."""
    if not any(role is Role.DWI for _, (role, _) in told):
        return told
    return [
        (header, (Role.DWI, (_B_VALUE,)) if _is_b_zero(header, role) else (role, by))
        for header, (role, by) in told
    ]


def _is_b_zero(header: Header, role: Role | None) -> bool:
    return role in (None, Role.T1, Role.T2) and set(_stated_b_values(header.series)) == {0.0}


def _together(told: set[_Told], planes: int) -> _Told:
    """Say one thing of a series whose images may say several."""
    stated = {role for role, _ in told}
    if planes > 1 and stated <= {None, Role.T1, Role.T2}:
        return Role.LOCALIZER, (_ORIENTATION,)
    acquired = stated - {Role.CALCULATED_B} if Role.DWI in stated else stated
    if len(acquired) != 1:
        return None, ()
    (role,) = acquired
    return role, tuple(sorted({tag for one, tags in told if one == role for tag in tags}))


def _b_values(told: Iterable[tuple[Header, _Told]], role: Role | None) -> tuple[float, ...]:
    """Collect the b-values of a diffusion series; calculated ones are not among the acquired."""
    if role not in (Role.DWI, Role.CALCULATED_B):
        return ()
    of_role = (header for header, (one, _) in told if one is role)
    return tuple(sorted({value for header in of_role for value in _stated_b_values(header.series)}))


def _stated_b_values(series: SeriesAttributes) -> Iterator[float]:
    if series.diffusion_b_value is not None:
        yield series.diffusion_b_value
    yield from series.diffusion_b_values


def _role(header: Header) -> _Told:
    """Tell what one image is."""
    series = header.series
    if series.modality != "MR" or not series.image_type:
        return None, ()
    stated = {value.upper() for value in series.image_type}
    for role, values in _BY_IMAGE_TYPE:
        if stated & values:
            return role, (_IMAGE_TYPE,)
    if series.acquisition_contrast == "DIFFUSION":
        return Role.DWI, (_ACQUISITION_CONTRAST,)
    if any(b_value > 0 for b_value in _stated_b_values(series)):
        return Role.DWI, (_B_VALUE,)
    if series.image_type[0].upper() == "DERIVED":
        return Role.DERIVED, (_IMAGE_TYPE,)
    return _dynamic(series, stated) or _weighted(series)


def _dynamic(series: SeriesAttributes, stated: set[str]) -> _Told | None:
    """Tell a dynamic series; an echo-planar one shows perfusion by T2*, not by T1."""
    sequence = set(series.scanning_sequence)
    if sequence and ("GR" not in sequence or "EP" in sequence):
        return None
    if stated & _DYNAMIC:
        return Role.DCE, (_IMAGE_TYPE,)
    if series.acquisition_contrast == "PERFUSION":
        return Role.DCE, (_ACQUISITION_CONTRAST,)
    if (series.temporal_positions or 0) > 1 and sequence:
        return Role.DCE, (_SEQUENCE, _TEMPORAL_POSITIONS)
    return None


def _weighted(series: SeriesAttributes) -> _Told:
    """Tell T1 from T2: by what is stated, else by sequence and times where those leave no doubt."""
    if series.acquisition_contrast in _WEIGHTED:
        return _WEIGHTED[series.acquisition_contrast], (_ACQUISITION_CONTRAST,)
    sequence, echo, repetition = (
        set(series.scanning_sequence),
        series.echo_time,
        series.repetition_time,
    )
    if echo is None or repetition is None:
        return None, ()
    if sequence & _SPIN_ECHO and not sequence & _OTHER_THAN_SPIN_ECHO:
        role = _spin_echo(echo, repetition)
    elif "GR" in sequence and not sequence & {"EP", "SE"} and "SP" in series.sequence_variant:
        short = echo <= LONGEST_SPOILED_ECHO_MS and repetition <= LONGEST_SPOILED_REPETITION_MS
        role = Role.T1 if short else None
    else:
        role = None
    return (role, (_SEQUENCE, _REPETITION_TIME, _ECHO_TIME)) if role else (None, ())


def _spin_echo(echo: float, repetition: float) -> Role | None:
    if echo >= SHORTEST_T2_ECHO_MS and repetition >= SHORTEST_T2_REPETITION_MS:
        return Role.T2
    if echo <= LONGEST_T1_ECHO_MS and repetition <= LONGEST_T1_REPETITION_MS:
        return Role.T1
    return None


def _phases(
    study: Study, found: dict[SeriesInstanceUID, SeriesRole]
) -> Iterator[list[SeriesInstanceUID]]:
    """Yield the T1 series that are phases of one dynamic examination."""
    alike: dict[object, list[SeriesInstanceUID]] = {}
    for series in study.series:
        uid = series.series_instance_uid
        if found[uid].role is Role.T1 and len(series.headers) == 1:
            of = next(iter(series.headers)).series
            key = (
                of.scanning_sequence, of.sequence_name, of.repetition_time, of.echo_time,
                of.plane, series.size,
            )  # fmt: skip
            alike.setdefault(key, []).append(uid)
    for uids in alike.values():
        if len(uids) >= FEWEST_PHASES and any(found[uid].contrast_agent for uid in uids):
            yield uids
