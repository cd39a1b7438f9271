"""Storage Commitment Push Model as SCP: commit to what the archive really holds, and nothing else.

A request is answered when it is understood. Then the archive is asked for each instance, and the
sender is told in a report. Requests live in memory: one that a restart ends is asked again by its
sender, as PS3.4 has it do.

References
----------
PS3.4 J (2026b), PS3.3 C.14 (2026b).
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple

from pynetdicom import evt

from flute_sync.dimse_errors import (
    ActionUnknown,
    ArgumentInvalid,
    AttributeEmpty,
    AttributeInvalid,
    AttributeMissing,
    CommitmentBusy,
    CommitmentInstanceUnknown,
)
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.sources import dimse_tags as dimse
from flute_sync.sources import header_tags as tags
from flute_sync.sources.commitment_lookup import FailureReason, InstanceSearch, judge
from flute_sync.sources.commitment_report import (
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    Answered,
    Report,
    report_anew,
    report_there,
)
from flute_sync.sources.commitment_settings import CommitmentSettings
from flute_sync.sources.dimse_dataset import items, read_elements, uid
from flute_sync.sources.dimse_peer import DimsePeerSettings
from flute_sync.sources.dimse_services import Operation, Request, Told
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.store_session import printable_ae_title

log = logging.getLogger(__name__)

SOURCE: Final = "storage_commitment"
_REQUEST_COMMITMENT: Final = 1
_LONGEST_PAUSE: Final = timedelta(minutes=10)
_BEAT: Final = timedelta(seconds=1)
_WORKERS: Final = 4  # a sender that is switched off is called for minutes: others must not wait


class _Pending(NamedTuple):
    transaction_uid: str
    asked: Mapping[str, str]
    sender: str
    answered: Answered


class StorageCommitment:
    """Takes requests, and tells their senders what the archive holds.

    Parameters
    ----------
    search
        Of the archive that is behind.
    ae_title
        Our own.
    """

    name = SOURCE
    sop_class_uid = SOP_CLASS_UID

    def __init__(
        self,
        settings: CommitmentSettings,
        search: InstanceSearch,
        ae_title: str,
        header: HeaderSettings,
    ) -> None:
        self._settings = settings
        self._search = search
        self._ae_title = ae_title
        self._header = header
        self._waiting: queue.Queue[_Pending] = queue.Queue(settings.max_requests)
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name="storage-commitment", daemon=True)
            for _ in range(_WORKERS)
        ]

    @property
    def operations(self) -> Mapping[evt.EventType, Operation]:
        """N-ACTION."""
        return {evt.EVT_N_ACTION: self.act}

    def start(self) -> None:
        """Begin to ask the archive."""
        for thread in self._threads:
            thread.start()

    def alive(self) -> bool:
        """Whether requests are still worked on."""
        return all(thread.is_alive() for thread in self._threads)

    def stop(self, grace: timedelta) -> None:
        """End after the requests in hand, or in the middle of them."""
        self._stopping.set()
        deadline = time.monotonic() + grace.total_seconds()
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def act(self, request: Request) -> Told:
        """Take a request.

        Raises
        ------
        CommitmentInstanceUnknown, ActionUnknown, ArgumentInvalid, DataSetUnreadable
            When it is none.
        CommitmentBusy
            When it is too much.
        """
        if request.sop_instance_uid != SOP_INSTANCE_UID:
            raise CommitmentInstanceUnknown
        if request.action_type != _REQUEST_COMMITMENT:
            raise ActionUnknown
        transaction_uid, asked = self._read(request)
        if len(asked) > self._settings.max_instances:
            raise CommitmentBusy("more instances than store_scp.commitment.max_instances")
        answered = Answered(request.association)
        pending = _Pending(transaction_uid, asked, request.calling_ae_title, answered)
        try:
            self._waiting.put_nowait(pending)
        except queue.Full:
            answered.forget()
            raise CommitmentBusy from None
        return Told("storage commitment was asked", instances=len(asked))

    def _read(self, request: Request) -> tuple[str, dict[str, str]]:
        elements = read_elements(
            request.data,
            request.transfer_syntax,
            dimse.COMMITMENT,
            dimse.COMMITMENT_IN_ITEMS,
            self._header,
        )
        try:
            transaction_uid = uid(elements, dimse.TRANSACTION_UID)
            asked = {
                uid(item, tags.REFERENCED_SOP_INSTANCE_UID): uid(
                    item, dimse.REFERENCED_SOP_CLASS_UID
                )
                for item in items(elements, tags.REFERENCED_SOP_SEQUENCE)
            }
        except (AttributeMissing, AttributeEmpty, AttributeInvalid) as error:
            raise ArgumentInvalid(error.detail) from error
        return transaction_uid, asked

    # -- in threads of its own -------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                pending = self._waiting.get(timeout=_BEAT.total_seconds())
            except queue.Empty:
                continue
            try:
                self._serve(pending)
            except Exception:
                log.exception("A request for storage commitment failed.")

    def _serve(self, pending: _Pending) -> None:
        report = Report(pending.transaction_uid, pending.asked, self._verdicts(pending))
        if not self._stopping.is_set():
            self._tell(pending, report)

    def _verdicts(self, pending: _Pending) -> dict[str, FailureReason | None]:
        verdicts: dict[str, FailureReason | None] = {}

        def ask() -> None:
            judge(self._search, pending.asked, verdicts, self._stopping.is_set)

        if (error := self._tried(ask)) is not None:
            log.warning(
                error.sentence,
                extra=fields(Event.SOURCE_FAILED, source=SOURCE, code=error.code, hint=error.hint),
            )
        unknown = dict.fromkeys(pending.asked, FailureReason.PROCESSING_FAILURE)
        return {**unknown, **verdicts}

    def _tell(self, pending: _Pending, report: Report) -> None:
        peer = self._settings.peer(pending.sender, self._ae_title)
        if peer is None:
            error = _tried_once(lambda: report_there(pending.answered, report))
        else:
            error = self._tried(lambda: _report(peer, pending.answered, report))
        about: dict[str, Any] = {
            "source": SOURCE,
            "calling_ae_title": printable_ae_title(pending.sender),
            "instances": len(report.held),
            "failed": len(report.failed),
        }
        if error is None:
            log.info(
                "storage commitment was reported", extra=fields(Event.COMMITMENT_REPORTED, **about)
            )
            return
        about |= {"code": error.code, "hint": error.hint}
        log.warning(error.sentence, extra=fields(Event.COMMITMENT_UNREPORTED, **about))

    def _tried(self, work: Callable[[], None]) -> FluteSyncError | None:
        """Try until it succeeds or the attempts are used up; return the last error."""
        pause = self._settings.pause
        for attempt in range(1, self._settings.attempts + 1):
            error = _tried_once(work)
            if error is None or attempt == self._settings.attempts:
                return error
            if self._stopping.wait(pause.total_seconds()):
                return error
            pause = min(pause * 2, _LONGEST_PAUSE)
        return None


def _tried_once(work: Callable[[], None]) -> FluteSyncError | None:
    try:
        work()
    except FluteSyncError as error:
        return error
    return None


def _report(peer: DimsePeerSettings, answered: Answered, report: Report) -> None:
    """Tell a sender on an association of ours, or where it still listens on its own."""
    error = _tried_once(lambda: report_anew(peer, report))
    if error is not None and _tried_once(lambda: report_there(answered, report)) is not None:
        raise error
