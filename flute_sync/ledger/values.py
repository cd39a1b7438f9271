"""What passes between the ledger and who works with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from flute_sync.events import Event
from flute_sync.intake import Received, Stated
from flute_sync.study import PatientId, StudyInstanceUID
from flute_sync.task import State, TaskEvent


@dataclass(frozen=True, slots=True)
class FhirRow:
    """The ImagingStudy of a study: id and version there, and the digest of what we wrote or saw."""

    resource_id: str
    version_id: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Absence:
    """An archive that answered, ``confirmations`` times since ``since``, that it has no study."""

    archive: str
    since: datetime
    confirmations: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A study that one worker holds until its lease ends.

    ``reads_owed`` names the archives whose metadata must be read, ``unverified`` those whose
    counts were not compared since an upload was forwarded to them. ``confirmed``: a person asked
    for another attempt and none has come to a conclusion since. ``received_at`` is when the
    newest fact came, ``first_fact_at`` the oldest that FHIR does not have. ``rules`` and
    ``identity`` are what `Settlement` said last. ``has_notes``: its rejection notes speak of other
    studies. ``confirmed_identity`` is the key of the Patient whom the last hold named before the
    person confirmed it: nobody else is confirmed.
    """

    study_id: int
    study_instance_uid: StudyInstanceUID
    owner: str
    generation: int
    attempts: int
    reads_owed: tuple[str, ...]
    unverified: tuple[str, ...]
    absences: tuple[Absence, ...]
    fhir: FhirRow | None
    patient_reference: str | None
    confirmed: bool
    received_at: datetime
    first_fact_at: datetime
    rules: str | None
    identity: str | None = None
    has_notes: bool = False
    confirmed_identity: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one archive held between ``started_at`` and now.

    ``generation`` is the claim's when the read began. ``stated`` are the series of which the
    archive tells no instances. ``of_rows``: it was made of answers to searches, which may leave
    out what a header states; an issuer that was stated with the same Patient ID stays. ``absent``:
    the archive has no such study, which is counted; what it held is kept until that is
    ``believed``.
    """

    archive: str
    started_at: datetime
    generation: int
    received: tuple[Received, ...] = ()
    stated: tuple[Stated, ...] = ()
    series_count: int | None = None
    instance_count: int | None = None
    fingerprint: str | None = None
    absent: bool = False
    believed: bool = False
    of_rows: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """How many studies an archive holds, and how many it is missing without being believed yet.

    ``since`` is when the first of them was missed.
    """

    held: int
    missing: int
    since: datetime | None = None


class LinkRow(NamedTuple):
    """What was judged of one resource for one study.

    ``low`` and ``high`` are the ISO dates between which it took place. ``taken``: the study is
    linked to it; ``ours``: by us, so that we may take the link away again.
    """

    reference: str
    kind: str
    rule: str
    verdict: str
    reason: str
    waived: tuple[str, ...] = ()
    low: str | None = None
    high: str | None = None
    taken: bool = False
    ours: bool = False


@dataclass(frozen=True, slots=True)
class LinkDecision:
    """A person's word on a study and a resource: ``add`` or ``remove``."""

    study_instance_uid: StudyInstanceUID
    reference: str
    verb: Literal["add", "remove"]
    why: str
    at: datetime


@dataclass(frozen=True, slots=True)
class LinkedStudy:
    """A study of a patient, and what was judged of it last; ``resource_id`` is its ImagingStudy."""

    study_instance_uid: StudyInstanceUID
    state: State
    resource_id: str | None
    rows: tuple[LinkRow, ...]


@dataclass(frozen=True, slots=True)
class PatientLinks:
    """What is known of the links of one patient.

    ``epoch`` is raised by whatever may let his studies be judged in another way. ``decisions`` are
    those in force, the oldest first.
    """

    epoch: int
    studies: Mapping[StudyInstanceUID, LinkedStudy]
    decisions: tuple[LinkDecision, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldLink:
    """A link that is not to be taken before a study of another patient gave it up.

    ``resource_id`` is the study's ImagingStudy, None where it is not known (yet).
    """

    reference: str
    study_instance_uid: StudyInstanceUID
    resource_id: str | None


@dataclass(frozen=True, slots=True)
class LinkNews:
    """What a step judged of the links of its study.

    ``epoch`` is what `PatientLinks` said when the step began: where it was raised since, the step
    is taken again. ``changed``: the ImagingStudy says something new. ``others`` are the studies of
    the patient of which something else is true now than was judged last. ``awaited`` are links that
    were refused because studies of other patients had them: where one has them no more, the step is
    taken again too.
    """

    patient_reference: str | None
    epoch: int
    rows: tuple[LinkRow, ...]
    changed: bool = False
    others: tuple[StudyInstanceUID, ...] = ()
    awaited: tuple[HeldLink, ...] = ()


@dataclass(frozen=True, slots=True)
class PatientMarks:
    """By what a patient, and what is his, is known again after he was erased; texts are not kept.

    ``references`` are ``Patient/ID``, ``keys`` identifiers as ``system|value``, ``stated``
    identities as headers state them, ``studies`` Study Instance UIDs.
    """

    references: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    stated: frozenset[PatientId] = frozenset()
    studies: frozenset[StudyInstanceUID] = frozenset()


@dataclass(frozen=True, slots=True)
class HeldStudy:
    """A study of a patient, as the ledger holds it.

    ``links`` are those of ours. ``in_hand``: a worker holds it.
    """

    study_instance_uid: StudyInstanceUID
    resource_id: str | None
    digest: str | None
    series: int
    instances: int
    in_hand: bool
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Erasure:
    """A patient who was erased, or is being. ``items`` are ``Type/id`` on the FHIR server."""

    id: int
    begun_at: datetime
    finished_at: datetime | None
    items: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a step ended.

    ``sentence`` says what was decided and why, without patient data. ``next_attempt_at`` belongs
    to FAIL and may delay HAND_BACK. ``fhir`` and ``patient_reference`` are kept even when news
    came meanwhile, since they were written. ``waiting_for`` is the key of the Patient whose arrival
    ends a HOLD or LEAVE_OUT. ``identity`` is the key of the identifier by which the subject was
    found. Where archives name the patient by several identifiers, both are one key for them all,
    and ``keys`` are those of each.
    ``prune`` drops all that names a patient; only with LEAVE_OUT. ``links`` is what was judged of
    its links, None where nothing was. ``erase`` leaves nothing of the study but that it is not
    taken again.
    """

    event: TaskEvent
    sentence: str
    log_event: Event
    code: str | None = None
    next_attempt_at: datetime | None = None
    fhir: FhirRow | None = None
    patient_reference: str | None = None
    waiting_for: str | None = None
    rules: str | None = None
    prune: bool = False
    identity: str | None = None
    links: LinkNews | None = None
    erase: bool = False
    keys: tuple[str, ...] = ()
