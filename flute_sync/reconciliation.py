"""Archive, ledger and FHIR server compared, one study at a time: what does not fit.

Nothing is asked here: three values come in, findings come out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from flute_sync.fhir_errors import FhirGone
from flute_sync.patient_errors import PatientChanged
from flute_sync.study import StudyInstanceUID
from flute_sync.task import State


class Kind(StrEnum):
    """What a finding is."""

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "different"
    GONE = "gone"
    WRONG_PATIENT = "wrong-patient"
    DUPLICATE = "duplicate"
    ORPHANED_ENDPOINT = "orphaned-endpoint"
    ON_HOLD = "on-hold"
    PENDING = "pending"


NOTES: Final = frozenset({Kind.ON_HOLD, Kind.PENDING})
"""What is told and is no fault: work that is known to be owed, or that waits for a person."""

MEANINGS: Final[Mapping[Kind, str]] = {
    Kind.MISSING: "An archive holds the study; the FHIR server has no ImagingStudy of it.",
    Kind.EXTRA: "The FHIR server has an ImagingStudy of ours; no archive holds the study.",
    Kind.DIFFERENT: "The ImagingStudy may not say what the archives hold.",
    Kind.GONE: "The ImagingStudy that was written is gone from the FHIR server.",
    Kind.WRONG_PATIENT: "The subject is not the Patient whom the archive names.",
    Kind.DUPLICATE: "Several ImagingStudies are of one study.",
    Kind.ORPHANED_ENDPOINT: "An Endpoint of this site belongs to none of its archives.",
    Kind.ON_HOLD: "The study waits for a person, or for its Patient.",
    Kind.PENDING: "Work on the study is owed; the service does it.",
}
HINTS: Final[Mapping[Kind, str]] = {
    Kind.MISSING: "`--repair` reads it from the archive and writes it.",
    Kind.EXTRA: "`--repair` asks again, if the ledger has it; it becomes `unknown` once confirmed.",
    Kind.DIFFERENT: "`--repair` reads it again and writes what differs.",
    Kind.GONE: "`--repair` looks again; `flute-sync retry UID` creates what was deleted.",
    Kind.WRONG_PATIENT: "It is not moved unasked: look, then `flute-sync retry UID`.",
    Kind.DUPLICATE: "Keep one on the FHIR server and mark the others entered-in-error.",
    Kind.ORPHANED_ENDPOINT: "`--repair` sets its status to `off`.",
    Kind.ON_HOLD: "`flute-sync study UID` tells why.",
    Kind.PENDING: "Start the service, or use `--repair`.",
}
PERSONS: Final = frozenset({Kind.DUPLICATE})
"""What no work of ours can mend."""

_TAKEN_BACK: Final = frozenset({"unknown", "entered-in-error", "cancelled"})
_OWED: Final = frozenset({State.RECEIVED, State.READY, State.IN_PROGRESS, State.FAILED})


@dataclass(frozen=True, slots=True)
class Listed:
    """What one archive lists of a study.

    ``patients`` are digests of the Patient IDs that it states.
    """

    archive: str
    series: int | None
    instances: int | None
    fingerprint: str | None
    patients: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Held:
    """What the ledger keeps of what one archive said when it was last read or compared."""

    series: int | None
    instances: int | None
    fingerprint: str | None
    is_absent: bool


@dataclass(frozen=True, slots=True)
class Known:
    """One study as the ledger knows it, without its instances."""

    study_instance_uid: StudyInstanceUID
    state: State
    code: str | None
    series: int
    instances: int
    resource_id: str | None
    version_id: str | None
    patient_reference: str | None
    archives: Mapping[str, Held]


@dataclass(frozen=True, slots=True)
class Said:
    """What one ImagingStudy says.

    ``subject`` is ``Patient/id`` where it is literal and of this server, ``endpoints`` are ids,
    ``source`` is `meta.source` as it was written.
    """

    resource_id: str
    version_id: str | None
    status: str | None
    subject: str | None
    series: int | None
    instances: int | None
    started: date | None
    endpoints: tuple[str, ...]
    source: str | None

    @property
    def reference(self) -> str:
        """The relative reference."""
        return f"ImagingStudy/{self.resource_id}"


@dataclass(frozen=True, slots=True)
class Scene:
    """What holds for all studies that are compared.

    ``archives`` are those that were listed, ``sources`` the `meta.source` of what this site
    writes. Only what started between ``since`` and ``until`` can be extra. ``broken`` are ids of
    Endpoints that are referred to and do not exist.
    """

    archives: frozenset[str]
    sources: frozenset[str]
    since: date | None = None
    until: date | None = None
    broken: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Case:
    """All that is known of one study.

    ``is_of_another``: the subject is certainly not the Patient whom the archive names.
    """

    study_instance_uid: StudyInstanceUID
    listed: tuple[Listed, ...] = ()
    known: Known | None = None
    said: tuple[Said, ...] = ()
    is_of_another: bool = False

    @property
    def current(self) -> Said | None:
        """The ImagingStudy that counts: the one the ledger knows, else the only one."""
        known_id = self.known.resource_id if self.known is not None else None
        own = [one for one in self.said if one.resource_id == known_id]
        return next(iter(own or self.said), None)


@dataclass(frozen=True, slots=True)
class Finding:
    """What does not fit. ``reasons`` say in which respect, ``reference`` which resource it is."""

    kind: Kind
    study_instance_uid: StudyInstanceUID | None
    reference: str | None = None
    reasons: tuple[str, ...] = ()
    code: str | None = None

    @property
    def is_fault(self) -> bool:
        """Whether somebody has to do something."""
        return self.kind not in NOTES


def compare(case: Case, scene: Scene) -> tuple[Finding, ...]:
    """Return what does not fit in one study; nothing where all is well."""
    return tuple(_findings(case, scene))


def _findings(case: Case, scene: Scene) -> Iterator[Finding]:
    uid = case.study_instance_uid
    valid = [one for one in case.said if one.status != "entered-in-error"]
    if len(valid) > 1:
        references = tuple(sorted(one.reference for one in valid))
        yield Finding(Kind.DUPLICATE, uid, references[0], references[1:])
    elif not case.listed:
        yield from _unlisted(case, scene)
    elif case.known is None:
        current = case.current
        kind = Kind.MISSING if current is None else Kind.DIFFERENT
        reference = current.reference if current is not None else None
        yield Finding(kind, uid, reference, ("not in the ledger",))
    else:
        yield from _listed(case, case.known, scene)


def _unlisted(case: Case, scene: Scene) -> Iterator[Finding]:
    """No archive has it: then FHIR should not say that one does."""
    current = case.current
    if current is None or current.status in _TAKEN_BACK or not _is_within(current, scene):
        return
    known = case.known
    is_ours = current.source in scene.sources
    if known is not None and known.resource_id is not None:
        # What other archives hold, which were not listed now, is not for us to judge.
        elsewhere = known.archives.keys() - scene.archives
        is_ours = not any(not known.archives[name].is_absent for name in elsewhere)
    if not is_ours:
        return
    yield Finding(
        Kind.EXTRA,
        case.study_instance_uid,
        current.reference,
        _why_extra(known),
        known.code if known is not None else None,
    )


def _why_extra(known: Known | None) -> tuple[str, ...]:
    if known is None:
        return ("not in the ledger",)
    is_absent = any(one.is_absent for one in known.archives.values())
    return ("absence is being confirmed",) if is_absent else ()


def _is_within(said: Said, scene: Scene) -> bool:
    if scene.since is None and scene.until is None:
        return True
    started = said.started
    return started is not None and ((scene.since or started) <= started <= (scene.until or started))


def _listed(case: Case, known: Known, scene: Scene) -> Iterator[Finding]:
    uid, current = case.study_instance_uid, case.current
    reference = current.reference if current is not None else None
    is_moved = case.is_of_another or known.code == PatientChanged.code
    if is_moved and current is not None and known.state not in _OWED:
        yield Finding(Kind.WRONG_PATIENT, uid, reference, code=known.code)
    elif known.state in _OWED:
        yield Finding(Kind.PENDING, uid, reference, (known.state.value,), known.code)
    elif known.state is State.ON_HOLD and known.code == FhirGone.code:
        yield Finding(Kind.GONE, uid, f"ImagingStudy/{known.resource_id}", code=known.code)
    elif known.state is State.ON_HOLD:
        yield Finding(Kind.ON_HOLD, uid, reference, code=known.code)
    elif known.state is State.COMPLETED and current is None:
        yield Finding(Kind.GONE, uid, f"ImagingStudy/{known.resource_id}")
    elif known.state is State.COMPLETED and current is not None:
        reasons = tuple(_differences(case, known, current, scene))
        if reasons:
            yield Finding(Kind.DIFFERENT, uid, reference, reasons)


def _differences(case: Case, known: Known, current: Said, scene: Scene) -> Iterator[str]:
    """Say in which respect an ImagingStudy may not be what would be written now."""
    if any(_has_changed(one, known.archives.get(one.archive)) for one in case.listed):
        yield "the archive changed"
    listed = {one.archive for one in case.listed}
    believed = {name for name, held in known.archives.items() if not held.is_absent}
    if (believed & scene.archives) - listed:
        yield "one of its archives lists it no more"
    if current.resource_id != known.resource_id:
        yield "another ImagingStudy than was written"
    elif current.version_id != known.version_id:
        yield "written by others since"
        if current.status in _TAKEN_BACK:
            yield f"status {current.status}"
        stated = max((one.instances or 0 for one in case.listed), default=0)
        if (current.instances or 0) < stated:
            yield "fewer instances than the archive states"
    if scene.broken.intersection(current.endpoints):
        yield "refers to an Endpoint that does not exist"


def _has_changed(listed: Listed, held: Held | None) -> bool:
    if held is None or held.is_absent:
        return True
    if listed.instances is None:
        return False  # nothing tells: its fingerprint changes with time
    if held.fingerprint is not None and listed.fingerprint is not None:
        return held.fingerprint != listed.fingerprint
    return (listed.series, listed.instances) != (held.series, held.instances)
