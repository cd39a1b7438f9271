"""Services of normalized SOP classes beside storage: notices, steps, commitment.

pynetdicom binds one function to an event; here the SOP class decides who is called. What goes
wrong is answered with the status of its error, never with patient data.

References
----------
PS3.7 10.1 and annex C (2026b).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import evt

from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.sources.dimse_dataset import TRANSFER_SYNTAXES
from flute_sync.sources.dimse_policy import Handler
from flute_sync.sources.store_session import answer_to, printable_ae_title

log = logging.getLogger(__name__)

_UNRECOGNIZED_OPERATION: Final = 0x0211
_PROCESSING_FAILURE: Final = 0x0110
_OF_STORAGE: Final = 0xA000


class Request(NamedTuple):
    """A request of a normalized service.

    ``association`` is pynetdicom's, for what is sent back on it.
    """

    sop_instance_uid: str
    data: bytes
    transfer_syntax: str
    calling_ae_title: str = ""
    action_type: int | None = None
    association: Any = None


class Told(NamedTuple):
    """What a service made of a request, for the log."""

    sentence: str
    studies: int = 0
    instances: int = 0


Operation = Callable[[Request], Told]
"""Does what a request asks for, or raises the `FluteSyncError` with which it is answered."""


class NormalizedService(Protocol):
    """One SOP class and the operations on it."""

    @property
    def name(self) -> str:
        """The source's name."""

    @property
    def sop_class_uid(self) -> str:
        """The SOP class."""

    @property
    def operations(self) -> Mapping[evt.EventType, Operation]:
        """What is served, by pynetdicom's event."""


class NormalizedServices:
    """Several such services on one listener."""

    def __init__(self, services: Sequence[NormalizedService]) -> None:
        self._services = {service.sop_class_uid: service for service in services}

    @property
    def contexts(self) -> frozenset[str]:
        """The SOP classes that are served."""
        return frozenset(self._services)

    @property
    def transfer_syntaxes(self) -> tuple[str, ...]:
        """What requests may be written in."""
        return TRANSFER_SYNTAXES

    @property
    def handlers(self) -> tuple[Handler, ...]:
        """One for each event; the others answer with pynetdicom's failure."""
        events = {event for one in self._services.values() for event in one.operations}
        return tuple(Handler(event, self._serve) for event in events)

    def _serve(self, event: evt.Event) -> tuple[Dataset, Dataset | None]:
        service = self._services.get(str(event.context.abstract_syntax))
        operation = None if service is None else service.operations.get(event.event)
        if service is None or operation is None:
            return _status(_UNRECOGNIZED_OPERATION), None
        request = _request(event)
        about = {
            "source": service.name,
            "calling_ae_title": printable_ae_title(request.calling_ae_title),
        }
        try:
            told = operation(request)
        except FluteSyncError as error:
            about |= {"code": error.code, "hint": error.hint}
            log.warning(error.sentence, extra=fields(Event.NOTICE_REFUSED, **about))
            return _refusal(error), None
        counts = {"studies": told.studies, "instances": told.instances}
        log.info(told.sentence, extra=fields(Event.NOTICE_TAKEN, **about, **counts))
        return _status(0x0000), _given_name(event, request)


def _request(event: evt.Event) -> Request:
    message: Any = event.request
    uid = getattr(message, "AffectedSOPInstanceUID", None)
    uid = uid or getattr(message, "RequestedSOPInstanceUID", None)
    data = None
    for name in ("AttributeList", "ModificationList", "ActionInformation"):
        data = data or getattr(message, name, None)
    return Request(
        sop_instance_uid=str(uid or ""),
        data=b"" if data is None else data.getvalue(),
        transfer_syntax=str(event.context.transfer_syntax),
        calling_ae_title=str(event.assoc.requestor.ae_title).strip(),
        action_type=getattr(message, "ActionTypeID", None),
        association=event.assoc,
    )


def _given_name(event: evt.Event, request: Request) -> Dataset | None:
    """Name what was created where the sender did not, PS3.7 10.1.5.1.4."""
    if event.event is not evt.EVT_N_CREATE or request.sop_instance_uid:
        return None
    answer = Dataset()
    answer.AffectedSOPInstanceUID = generate_uid()
    return answer


def _status(status: int) -> Dataset:
    answer = Dataset()
    answer.Status = status
    return answer


def _refusal(error: FluteSyncError) -> Dataset:
    # What is not of PS3.7 annex C is a status of storage alone, such as "out of resources".
    is_general = error.dimse_status < _OF_STORAGE
    answer = _status(error.dimse_status if is_general else _PROCESSING_FAILURE)
    answer.ErrorComment = answer_to(error).comment
    error_id = getattr(error, "error_id", None)
    if error_id is not None:
        answer.ErrorID = error_id
    return answer
