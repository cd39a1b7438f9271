"""Study, Series, Instance: frozen values, identity by UID (PS3.3 A.1.2, 2026b).

Most of what a header says is the same for hundreds of instances. It is therefore one value,
`Header`, that instances share: everything but the SOP Instance UID, the instance number and the
two UIDs above it. What a study "is" is then a fold over its instances' headers, whatever the
order or the repetition in which they came, and a removed instance takes its part of it away.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from functools import cached_property
from typing import Final, NamedTuple, NewType, TypeVar

from flute_sync.valuerep import Moment as Moment

StudyInstanceUID = NewType("StudyInstanceUID", str)
SeriesInstanceUID = NewType("SeriesInstanceUID", str)
SOPInstanceUID = NewType("SOPInstanceUID", str)

_T = TypeVar("_T", bound=Hashable)

EXTRACTION_VERSION = 2
"""Raised when `Header` learns new attributes, so that a later release can read again."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value (PS3.3 8.8, 2026b): value, scheme designator, meaning, scheme UID."""

    value: str
    scheme: str
    meaning: str | None = None
    scheme_uid: str | None = None


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who gave out an identifier (PS3.3 10.14 and 10.15, 2026b).

    ``namespace`` is the local name, (0010,0021) or (0040,0031); ``universal_id`` with its
    ``universal_id_type`` (DNS, ISO, URI, UUID, ...) is (0040,0032) and (0040,0033).
    """

    namespace: str | None = None
    universal_id: str | None = None
    universal_id_type: str | None = None


@dataclass(frozen=True, slots=True)
class PatientId:
    """A patient identifier as DICOM states it; pad spaces are gone, nothing else is."""

    value: str
    issuer: Issuer | None = None


@dataclass(frozen=True, slots=True)
class Accession:
    """An accession number (0008,0050) and who gave it out (0008,0051)."""

    value: str
    issuer: Issuer | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """A person: name as DICOM writes it (PN) and, where coded, an identifying code."""

    name: str | None = None
    code: Code | None = None


@dataclass(frozen=True, slots=True)
class PatientAttributes:
    """Patient module, identification and demographics (PS3.3 C.7.1.1, 2026b)."""

    id: PatientId | None = None
    other_ids: tuple[PatientId, ...] = ()
    name: str | None = None
    birth_date: date | None = None
    sex: str | None = None
    identity_removed: bool | None = None
    dates_modified: str | None = None  # (0028,0303): UNMODIFIED, MODIFIED, REMOVED
    deidentification: tuple[Code, ...] = ()  # (0012,0064), CID 7050


@dataclass(frozen=True, slots=True)
class StudyAttributes:
    """General Study module and the requests behind it (PS3.3 C.7.2.1 and 10.6, 2026b)."""

    started: Moment | None = None
    study_id: str | None = None
    accessions: tuple[Accession, ...] = ()
    description: str | None = None
    procedure_codes: tuple[Code, ...] = ()
    reason_codes: tuple[Code, ...] = ()
    reason_text: str | None = None
    admission_id: str | None = None
    admission_issuer: Issuer | None = None
    referring: tuple[Person, ...] = ()
    reading: tuple[Person, ...] = ()


class Plane(StrEnum):
    """The plane of an image: that of the body's planes to which it is nearest."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"


@dataclass(frozen=True, slots=True)
class SeriesAttributes:
    """General Series module and what roles and links need (PS3.3 C.7.3.1, 2026b).

    ``acquired`` and ``content`` are only kept where the study or the series has no date of its
    own: they differ from instance to instance and serve as fallback for ``started`` alone.
    """

    number: int | None = None
    modality: str | None = None
    description: str | None = None
    started: Moment | None = None
    acquired: Moment | None = None
    content: Moment | None = None
    body_part: str | None = None
    anatomic_regions: tuple[Code, ...] = ()
    laterality: str | None = None  # (0020,0060), of the series
    image_laterality: str | None = None  # (0020,0062), only where the series states none
    protocol_name: str | None = None
    performing: tuple[Person, ...] = ()
    operators: tuple[Person, ...] = ()
    location: str | None = None  # (0008,1040) Institutional Department, else (0040,0243)
    manufacturer: str | None = None
    model_name: str | None = None
    station_name: str | None = None
    device_serial: str | None = None
    image_type: tuple[str, ...] = ()
    scanning_sequence: tuple[str, ...] = ()
    sequence_variant: tuple[str, ...] = ()
    sequence_name: str | None = None
    diffusion_b_value: float | None = None
    diffusion_b_values: tuple[float, ...] = ()
    acquisition_contrast: str | None = None  # (0008,9209)
    plane: Plane | None = None  # of (0020,0037)
    repetition_time: float | None = None
    echo_time: float | None = None
    contrast_agent: bool = False
    temporal_positions: int | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance that a Key Object Selection points at (PS3.3 C.17.6.2.1, 2026b)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class KeyObjects:
    """A Key Object Selection document: its title code and what it selects (PS3.3 A.35.4)."""

    title: Code | None = None
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class Remark:
    """Something in a header that was left out or kept with a doubt: what, and which tag.

    ``tag`` is ``"(gggg,eeee)"``; the value itself is never kept.
    """

    code: str
    tag: str


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says, without the instance's own UIDs and number."""

    sop_class_uid: str
    patient: PatientAttributes = PatientAttributes()
    study: StudyAttributes = StudyAttributes()
    series: SeriesAttributes = SeriesAttributes()
    title: str | None = None
    number_of_frames: int | None = None
    key_objects: KeyObjects | None = None
    remarks: tuple[Remark, ...] = ()


PATIENT_ID_TAG: Final = "(0010,0020)"
_IDENTIFYING_TAGS: Final = frozenset({PATIENT_ID_TAG, "(0010,0021)", "(0010,0024)"})


def identity_of(header: Header) -> PatientId | None:
    """Return the patient that a header names, None where it names none.

    An identifier that is stated but cannot be read has an empty value: it may name anybody.
    """
    stated = header.patient.id
    if stated is None and any(remark.tag in _IDENTIFYING_TAGS for remark in header.remarks):
        return PatientId("")
    return stated


def person_of(header: Header) -> PatientAttributes:
    """Return what a header says of a patient that a wrong one would contradict: no names."""
    said = header.patient
    return PatientAttributes(
        id=identity_of(header),
        birth_date=said.birth_date,
        sex=said.sex,
        identity_removed=said.identity_removed,
    )


def may_be_same(one: PatientId | None, other: PatientId | None) -> bool:
    """Tell whether two identifiers may be of one patient; what names nobody is like itself only."""
    if one is None or other is None:
        return one is other
    issuers = {one.issuer, other.issuer} - {None}
    return one.value == other.value and len(issuers) < 2


class Instance(NamedTuple):
    """One SOP instance: its UID, its number in the series, and what its header says."""

    sop_instance_uid: SOPInstanceUID
    number: int | None
    header: Header


class StepStatus(StrEnum):
    """Performed Procedure Step Status (0040,0252), PS3.3 C.4.14 (2026b)."""

    IN_PROGRESS = "IN PROGRESS"
    DISCONTINUED = "DISCONTINUED"
    COMPLETED = "COMPLETED"


class Step(NamedTuple):
    """A performed procedure step of a study, and the archive for which it was told."""

    sop_instance_uid: str
    status: StepStatus
    header: Header
    archive: str | None = None


@dataclass(frozen=True)
class Series:
    """The known instances of one series, unique by UID.

    ``stated`` is what archives say of the series alone that tell no instances, and
    ``instance_count`` how many instances they say it has, (0020,1209).
    """

    series_instance_uid: SeriesInstanceUID
    instances: tuple[Instance, ...]
    archives: frozenset[str] = frozenset()
    stated: Header | None = None
    instance_count: int | None = None

    @property
    def is_stated_only(self) -> bool:
        """Whether none of its instances is known, though an archive says that it is there."""
        return not self.instances and self.stated is not None

    @property
    def size(self) -> int:
        """How many instances it has: those that are known, or more where that is stated."""
        return max(len(self.instances), self.instance_count or 0)

    @cached_property
    def headers(self) -> Counter[Header]:
        """How many instances share each header."""
        if self.stated is not None and not self.instances:
            return Counter({self.stated: max(self.instance_count or 1, 1)})
        headers = [instance[2] for instance in self.instances]
        objects = dict(zip(map(id, headers), headers, strict=True))
        counts = Counter(map(id, headers))
        return _tally((header, counts[key]) for key, header in objects.items())


@dataclass(frozen=True)
class Study:
    """A study as the ledger knows it: all its series, and what the archives count.

    ``series_count`` and ``instance_count`` are what an archive states, (0020,1206) and
    (0020,1208); they may exceed what is known here. ``archives`` names who holds the study.
    ``vanished`` is set when no archive holds it any more and none said why, ``moved`` when all of
    it is known under other studies. ``notes_elsewhere`` are rejection notes that other studies
    keep, as far as they name instances of this one. ``patient_ids`` are all the identities that
    each archive states in it, None for instances that state none; whatever was read last.
    ``patients`` are the same with birth date and sex: see `person_of`.
    """

    study_instance_uid: StudyInstanceUID
    series: tuple[Series, ...] = ()
    series_count: int | None = None
    instance_count: int | None = None
    archives: frozenset[str] = frozenset()
    calling_ae_titles: frozenset[str] = frozenset()
    vanished: bool = False
    moved: bool = False
    notes_elsewhere: tuple[KeyObjects, ...] = ()
    steps: tuple[Step, ...] = ()
    patient_ids: Mapping[str, frozenset[PatientId | None]] = field(default_factory=dict)
    patients: Mapping[str, frozenset[PatientAttributes]] = field(default_factory=dict)

    @cached_property
    def headers(self) -> Counter[Header]:
        """How many instances of the study share each header."""
        return _tally(item for series in self.series for item in series.headers.items())

    @cached_property
    def evidence(self) -> Counter[Header]:
        """What is said of patient and study: by instances, or by the steps before there are any."""
        return self.headers or _tally((step.header, 1) for step in self.steps)

    def instances(self) -> Iterator[tuple[SeriesInstanceUID, Instance]]:
        """Yield each instance with the UID of its series."""
        for series in self.series:
            for instance in series.instances:
                yield series.series_instance_uid, instance


def _tally(counted: Iterable[tuple[Header, int]]) -> Counter[Header]:
    """Add up headers. Hashing one is dear, so it is done once for each object."""
    counts: dict[int, int] = {}
    objects: dict[int, Header] = {}
    for header, count in counted:
        key = id(header)
        counts[key] = counts.get(key, 0) + count
        objects[key] = header
    tally = Counter({header: counts[key] for key, header in objects.items()})
    if len(tally) < len(objects):  # some are equal without being the same
        tally.clear()
        for key, header in objects.items():
            tally[header] += counts[key]
    return tally


def prevalent(
    headers: Mapping[Header, int],
    value: Callable[[Header], _T | None],
    *,
    key: Callable[[_T], object] = repr,
) -> _T | None:
    """Choose the value that most instances state; the least by ``key`` where several tie.

    Absent values do not vote, so one instance without a value never empties an element, and the
    answer does not depend on the order in which instances came.
    """
    if len(headers) == 1:
        return value(next(iter(headers)))
    votes: dict[_T, int] = {}
    for header, count in headers.items():
        chosen = value(header)
        if chosen is not None:
            votes[chosen] = votes.get(chosen, 0) + count
    if len(votes) <= 1:
        return next(iter(votes), None)
    return min(votes, key=lambda candidate: (-votes[candidate], key(candidate)))


def distinct(headers: Iterable[Header], value: Callable[[Header], _T | None]) -> frozenset[_T]:
    """Collect the different values that headers state; absent ones are none."""
    return frozenset(found for header in headers if (found := value(header)) is not None)


def union(headers: Iterable[Header], value: Callable[[Header], Iterable[_T]]) -> frozenset[_T]:
    """Collect the members of multi-valued attributes over all headers."""
    return frozenset(member for header in headers for member in value(header))
