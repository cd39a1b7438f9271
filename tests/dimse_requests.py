"""Data sets of notifications, steps and commitment requests, and who sends them."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.presentation import build_context

from flute_sync.sources.dimse_services import Request

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
BIG = "1.2.840.10008.1.2.2"
SYNTAXES = (EXPLICIT, IMPLICIT, BIG)
CT = "1.2.840.10008.5.1.4.1.1.2"
IAN = "1.2.840.10008.5.1.4.33"
MPPS = "1.2.840.10008.3.1.2.3.3"
COMMITMENT = "1.2.840.10008.1.20.1"


def referenced(instance: str, sop_class: str = CT, **more: Any) -> Dataset:
    """Return a reference to an instance."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
    for keyword, value in more.items():
        setattr(item, keyword, value)
    return item


def available(
    instance: str, availability: str = "ONLINE", titles: Sequence[str] = ("PACS",)
) -> Dataset:
    """Return what a notification says of an instance."""
    return referenced(instance, InstanceAvailability=availability, RetrieveAETitle=list(titles))


def notification(study: str, *series: Iterable[Dataset]) -> Dataset:
    """Return an Instance Availability Notification."""
    told = Dataset()
    told.ReferencedPerformedProcedureStepSequence = []
    told.StudyInstanceUID = study
    told.ReferencedSeriesSequence = []
    for number, instances in enumerate(series):
        item = Dataset()
        item.SeriesInstanceUID = f"1.2.9.{number}"
        item.ReferencedSOPSequence = list(instances)
        told.ReferencedSeriesSequence.append(item)
    return told


def step(*studies: str, status: str = "IN PROGRESS") -> Dataset:
    """Return what a modality says of a step that it begins."""
    told = Dataset()
    told.SpecificCharacterSet = "ISO_IR 100"
    told.PatientName, told.PatientID, told.PatientSex = "Müller^Eva", "PX7", "F"
    told.PatientBirthDate = "19700102"
    told.Modality = "MR"
    told.ProcedureCodeSequence = []
    told.PerformedStationAETitle = "MR1"
    told.PerformedProcedureStepStartDate = "20240102"
    told.PerformedProcedureStepStartTime = "101112"
    told.PerformedProcedureStepStatus = status
    told.PerformedProcedureStepID = "S1"
    told.ScheduledStepAttributesSequence = []
    for number, study in enumerate(studies):
        item = Dataset()
        item.StudyInstanceUID = study
        item.AccessionNumber = f"A{number}"
        item.RequestedProcedureDescription = "Prostate"
        told.ScheduledStepAttributesSequence.append(item)
    told.PerformedSeriesSequence = []
    return told


def becomes(status: str, *series: str) -> Dataset:
    """Return what a modality says of a step that ends."""
    told = Dataset()
    told.PerformedProcedureStepStatus = status
    told.PerformedProcedureStepEndDate = "20240102"
    told.PerformedSeriesSequence = []
    for uid in series:
        item = Dataset()
        item.SeriesInstanceUID = uid
        told.PerformedSeriesSequence.append(item)
    return told


def commitment(transaction: str, *references: Dataset) -> Dataset:
    """Return a request for storage commitment."""
    told = Dataset()
    told.TransactionUID = transaction
    told.ReferencedSOPSequence = list(references)
    return told


def request(
    dataset: Dataset | bytes, instance: str = "1.2.3", syntax: str = EXPLICIT, **more: Any
) -> Request:
    """Return a request as a service gets it."""
    if isinstance(dataset, Dataset):
        dataset = encode(dataset, syntax == IMPLICIT, syntax != BIG) or b""
    return Request(instance, dataset, syntax, calling_ae_title="SENDER", **more)


@contextmanager
def associated(
    port: int, sop_class: str, syntax: str = EXPLICIT, ae_title: str = "SENDER", **more: Any
) -> Iterator[Association]:
    """Open an association by pynetdicom."""
    entity = AE(ae_title)
    association = entity.associate(
        "127.0.0.1",
        port,
        contexts=[build_context(sop_class, syntax)],
        ae_title="FLUTE_SYNC",
        **more,
    )
    assert association.is_established
    answers = Answers(association)
    try:
        yield association
    finally:
        answers.wait()
        if association.is_established:
            association.release()


class Answers:
    """Which requests of the other side an association has still to answer.

    pynetdicom lets a release overtake the answer that its other thread is about to send, and then
    stumbles over it.
    """

    def __init__(self, association: Association) -> None:
        self._owed = 0
        self._is_writing = False
        self._changed = threading.Condition()
        association.bind(evt.EVT_DIMSE_RECV, self._received)
        association.bind(evt.EVT_DIMSE_SENT, self._written)
        association.bind(evt.EVT_PDU_SENT, self._sent)
        association.bind(evt.EVT_CONN_CLOSE, self._closed)

    def wait(self) -> None:
        """Wait until all answers have gone out."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._owed <= 0, 60)

    def _received(self, event: evt.Event) -> None:
        if type(event.message).__name__.endswith("_RQ"):
            self._owe(1)

    def _written(self, event: evt.Event) -> None:
        self._is_writing = type(event.message).__name__.endswith("_RSP")

    def _sent(self, event: evt.Event) -> None:
        if self._is_writing and isinstance(event.pdu, P_DATA_TF):
            self._is_writing = False
            self._owe(-1)

    def _closed(self, _event: evt.Event) -> None:
        self._owe(-self._owed)

    def _owe(self, more: int) -> None:
        with self._changed:
            self._owed += more
            self._changed.notify_all()
