"""The report on a request for storage commitment: N-EVENT-REPORT, here or on a new association.

References
----------
PS3.4 J.3.3 (2026b), PS3.7 10.1.1 and D.3.3.4 (2026b).
"""

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from struct import pack
from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dsutils import encode
from pynetdicom.pdu import P_DATA_TF

from flute_sync.archive_errors import (
    ArchiveServerError,
    ArchiveUnauthorized,
    ArchiveUnavailable,
)
from flute_sync.dimse_errors import CommitmentUnreported
from flute_sync.sources.commitment_lookup import FailureReason
from flute_sync.sources.dimse_association import DimseAssociation
from flute_sync.sources.dimse_connection import encoded_command
from flute_sync.sources.dimse_dataset import TRANSFER_SYNTAXES
from flute_sync.sources.dimse_peer import DimsePeerSettings

SOP_CLASS_UID: Final = "1.2.840.10008.1.20.1"
SOP_INSTANCE_UID: Final = "1.2.840.10008.1.20.1.1"
_ALL_HELD: Final = 1
_SOME_FAILED: Final = 2
_N_EVENT_REPORT: Final = 0x0100
_MESSAGE_ID: Final = 1
_LARGEST_ANSWER_BYTES: Final = 1 << 20
_LONGEST_ANSWER: Final = timedelta(seconds=30)
_LEAVING: Final = timedelta(seconds=1)
"""How long a sender gets to go away before it counts as waiting for its report."""


@dataclass(frozen=True)
class Report:
    """What is told: of each instance whether the archive holds it, or why not."""

    transaction_uid: str
    asked: Mapping[str, str]
    verdicts: Mapping[str, FailureReason | None]

    @property
    def held(self) -> list[str]:
        """The instances that are committed."""
        return [uid for uid, reason in self.verdicts.items() if reason is None]

    @property
    def failed(self) -> dict[str, FailureReason]:
        """The others, with the reason."""
        return {uid: reason for uid, reason in self.verdicts.items() if reason is not None}

    @property
    def event_type(self) -> int:
        """Event Type ID: 1 where all are held, 2 where some are not."""
        return _SOME_FAILED if self.failed else _ALL_HELD

    def dataset(self) -> Dataset:
        """Write the Event Information; a sequence that would be empty is left out."""
        told = Dataset()
        told.TransactionUID = self.transaction_uid
        if self.held:
            told.ReferencedSOPSequence = list(self._references(self.held))
        if self.failed:
            told.FailedSOPSequence = list(self._references(self.failed))
            for item in told.FailedSOPSequence:
                item.FailureReason = int(self.failed[item.ReferencedSOPInstanceUID])
        return told

    def _references(self, uids: Iterable[str]) -> Iterable[Dataset]:
        for uid in uids:
            item = Dataset()
            item.ReferencedSOPClassUID = self.asked[uid]
            item.ReferencedSOPInstanceUID = uid
            yield item


class Answered:
    """An association on which a request was made, and whether its answer has gone out.

    A report must not overtake the answer to the request.
    """

    def __init__(self, association: Any) -> None:
        self.association = association
        self._is_out = threading.Event()
        self._is_closed = threading.Event()
        association.bind(evt.EVT_PDU_SENT, self._sent)
        association.bind(evt.EVT_CONN_CLOSE, self._closed)

    def forget(self) -> None:
        """Wait for nothing."""
        self.association.unbind(evt.EVT_PDU_SENT, self._sent)
        self.association.unbind(evt.EVT_CONN_CLOSE, self._closed)

    def _sent(self, event: evt.Event) -> None:
        if isinstance(event.pdu, P_DATA_TF):
            self._is_out.set()

    def _closed(self, _event: evt.Event) -> None:
        self._is_closed.set()

    def wait(self) -> bool:
        """Wait until the answer is out; tell whether the association is still of use."""
        is_out = self._is_out.wait(_LONGEST_ANSWER.total_seconds())
        # Most senders go now, and would wait in vain for us to notice while we report to them.
        is_closed = self._is_closed.wait(_LEAVING.total_seconds())
        return is_out and not is_closed and bool(self.association.is_established)


def report_there(answered: Answered, report: Report) -> None:
    """Report on the association of the request, while that is open.

    Raises
    ------
    CommitmentUnreported
        When the sender did not take the report.
    """
    if not answered.wait():
        raise CommitmentUnreported("the sender has gone, and its address is not known")
    with answered.association.asking:
        _send(answered.association, report)


def report_anew(peer: DimsePeerSettings, report: Report) -> None:
    """Report on an association of our own, in the role of the SCP; raises as `report_there`."""
    try:
        association = DimseAssociation(peer, {SOP_CLASS_UID: TRANSFER_SYNTAXES}, as_scp=True)
        try:
            answer = _asked(association, peer, report)
            association.release()
        except BaseException:
            association.abort()
            raise
    except (ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized) as error:
        raise CommitmentUnreported(f"the sender: {error.detail}") from error
    _judge(answer)


def _asked(association: DimseAssociation, peer: DimsePeerSettings, report: Report) -> int | None:
    context = association.accepted.get(SOP_CLASS_UID)
    if context is None:
        raise CommitmentUnreported("the sender takes no reports")
    implicit, big = (context.transfer_syntax == one for one in TRANSFER_SYNTAXES[1:])
    data = encode(report.dataset(), implicit, not big)
    command = encoded_command(
        {
            0x0002: SOP_CLASS_UID.encode() + b"\0" * (len(SOP_CLASS_UID) % 2),
            0x0100: pack("<H", _N_EVENT_REPORT),
            0x0110: pack("<H", _MESSAGE_ID),
            0x0800: pack("<H", 1),
            0x1000: SOP_INSTANCE_UID.encode() + b"\0" * (len(SOP_INSTANCE_UID) % 2),
            0x1002: pack("<H", report.event_type),
        }
    )
    association.send(context.context_id, command, data)
    deadline = time.monotonic() + peer.answer_timeout.total_seconds()
    told = association.receive(deadline, _LARGEST_ANSWER_BYTES).command
    is_answer = told.get(0x0100) == _N_EVENT_REPORT | 0x8000 and told.get(0x0120) == _MESSAGE_ID
    return told.get(0x0900) if is_answer else None


def _send(association: Any, report: Report) -> None:
    try:
        status, _ = association.send_n_event_report(
            report.dataset(),
            report.event_type,
            SOP_CLASS_UID,
            SOP_INSTANCE_UID,
        )
    except (RuntimeError, ValueError) as error:
        raise CommitmentUnreported("the association is of no use") from error
    _judge(status.get("Status"))


def _judge(answer: int | None) -> None:
    if answer is None:
        raise CommitmentUnreported("the sender did not answer")
    if answer != 0:
        raise CommitmentUnreported(f"the sender answered {answer:04X}")
