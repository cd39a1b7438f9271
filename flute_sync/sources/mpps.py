"""Modality Performed Procedure Step as SCP: what a modality says that it does for a study.

A step makes a study known before there are images, and says when it came to nothing. It is
answered once it is committed.

References
----------
PS3.4 F.7 (2026b), PS3.3 C.4.13 to C.4.15 (2026b).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from pynetdicom import evt

from flute_sync.dimse_errors import (
    AttributeInvalid,
    InstanceUidInvalid,
    StepDuplicate,
    StepEnded,
    StepUnknown,
)
from flute_sync.intake import Delivery, Intake, Noticed, Performed, StepStatus
from flute_sync.sources import dimse_tags as dimse
from flute_sync.sources import header_tags as tags
from flute_sync.sources.dimse_dataset import chosen, items, read_elements, uid
from flute_sync.sources.dimse_services import Operation, Request, Told
from flute_sync.sources.header_attributes import read_header
from flute_sync.sources.header_elements import Elements
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.study import Header, StudyInstanceUID
from flute_sync.valuerep import uid_problem

SOURCE: Final = "mpps"
SOP_CLASS_UID: Final = "1.2.840.10008.3.1.2.3.3"


class PerformedSteps:
    """Keeps the steps of modalities.

    Parameters
    ----------
    archive
        The name of the one to which modalities send.
    readable
        The archives of the site that can be read.
    """

    name = SOURCE
    sop_class_uid = SOP_CLASS_UID

    def __init__(
        self,
        intake: Intake,
        archive: str,
        readable: Sequence[str],
        header: HeaderSettings,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._intake = intake
        self._archive = archive
        self._readable = readable
        self._header = header
        self._clock = clock

    @property
    def operations(self) -> Mapping[evt.EventType, Operation]:
        """N-CREATE and N-SET."""
        return {evt.EVT_N_CREATE: self.create, evt.EVT_N_SET: self.change}

    def create(self, request: Request) -> Told:
        """Commit a step that begins.

        Raises
        ------
        DataSetUnreadable, AttributeMissing, AttributeEmpty, AttributeInvalid, InstanceUidInvalid
            When it is none.
        StepDuplicate
            When it is known.
        LedgerUnavailable, LedgerBusy
            When nothing is committed.
        """
        step = _step_uid(request)
        elements = self._read(request)
        chosen(elements, dimse.PERFORMED_PROCEDURE_STEP_STATUS, [StepStatus.IN_PROGRESS])
        studies = headers(elements, self._header)
        if self._intake.performed_step(step):
            raise StepDuplicate
        performed = [
            Performed(step, study, StepStatus.IN_PROGRESS, header)
            for study, header in studies.items()
        ]
        self._deliver(request, performed, ())
        return Told("a modality began with a study", studies=len(performed))

    def change(self, request: Request) -> Told:
        """Commit what becomes of a step.

        Raises
        ------
        DataSetUnreadable, AttributeInvalid, InstanceUidInvalid
            When the request is none.
        StepUnknown, StepEnded
            When the step cannot change.
        LedgerUnavailable, LedgerBusy
            When it is not committed.
        """
        step = _step_uid(request)
        elements = self._read(request)
        told = self._intake.performed_step(step)
        if not told:
            raise StepUnknown
        if any(one.status is not StepStatus.IN_PROGRESS for one in told):
            raise StepEnded
        status = _status(elements)
        if status is StepStatus.IN_PROGRESS:
            return Told("a modality goes on with a study", studies=len(told))
        performed = [one._replace(status=status) for one in told]
        to_be_read = status is StepStatus.COMPLETED or _has_series(elements)
        studies = [one.study_instance_uid for one in told] if to_be_read else []
        self._deliver(request, performed, [Noticed(study) for study in studies])
        return Told(f"a modality's step is {status.lower()}", studies=len(told))

    def _read(self, request: Request) -> Elements:
        return read_elements(
            request.data, request.transfer_syntax, dimse.STEP, dimse.STEP_IN_ITEMS, self._header
        )

    def _deliver(
        self, request: Request, performed: Sequence[Performed], noticed: Iterable[Noticed]
    ) -> None:
        noticed = tuple(noticed)
        at = self._clock()
        others = [name for name in self._readable if name != self._archive] if noticed else []
        # The step comes last: until it is committed the modality may repeat its request.
        for archive in (*others, self._archive):
            own = archive == self._archive
            self._intake.deliver(
                Delivery(
                    source=SOURCE,
                    archive=archive,
                    at=at,
                    noticed=noticed if archive in self._readable else (),
                    performed=tuple(performed) if own else (),
                    calling_ae_title=request.calling_ae_title or None,
                )
            )


def headers(elements: Elements, settings: HeaderSettings) -> dict[StudyInstanceUID, Header]:
    """Read what a step says of each study for which it is done.

    Raises
    ------
    AttributeMissing, AttributeEmpty, AttributeInvalid
        When a study is not named.
    """
    requests: dict[StudyInstanceUID, list[Elements]] = {}
    for item in items(elements, dimse.SCHEDULED_STEP_ATTRIBUTES_SEQUENCE):
        study = StudyInstanceUID(uid(item, tags.STUDY_INSTANCE_UID))
        requests.setdefault(study, []).append(item)
    return {study: _header(elements, asked, settings) for study, asked in requests.items()}


def _header(step: Elements, requests: list[Elements], settings: HeaderSettings) -> Header:
    """Read a step as if it were the header of an instance; its start is the study's."""
    values = step.values | {tags.SOP_CLASS_UID: (SOP_CLASS_UID,)}
    for of_study, of_step in (
        (tags.STUDY_DATE, dimse.PERFORMED_PROCEDURE_STEP_START_DATE),
        (tags.STUDY_TIME, dimse.PERFORMED_PROCEDURE_STEP_START_TIME),
    ):
        values[of_study] = step.values.get(of_step, ())
    sequences = step.items | {tags.REQUEST_ATTRIBUTES_SEQUENCE: tuple(requests)}
    return read_header(replace(step, values=values, items=sequences), settings)


def _step_uid(request: Request) -> str:
    if uid_problem(request.sop_instance_uid) == "illegal":
        raise InstanceUidInvalid
    return request.sop_instance_uid


def _status(elements: Elements) -> StepStatus:
    tag = dimse.PERFORMED_PROCEDURE_STEP_STATUS
    found = elements.texts(tag)
    if not found and tag not in elements.spoilt:
        return StepStatus.IN_PROGRESS
    if len(found) != 1 or found[0] not in set(StepStatus):
        raise AttributeInvalid(tags.tag_text(tag))
    return StepStatus(found[0])


def _has_series(elements: Elements) -> bool:
    return bool(elements.items.get(dimse.PERFORMED_SERIES_SEQUENCE))
