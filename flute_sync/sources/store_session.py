"""The C-STORE requests of one association: judged, handed to the sink, counted and told.

Both data paths use it, so that they answer alike.

References
----------
PS3.4 B.2 and PS3.7 9.1.1 (2026b).
"""

import logging
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from flute_sync.dimse_errors import DataSetAbsent, InstanceUidInvalid, SopClassMismatch
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.sources.store_sink import Caller, Door, Incoming, Sink, StoreCommand, is_stored
from flute_sync.valuerep import uid_problem

log = logging.getLogger(__name__)

SOURCE: Final = "store_scp"
_NOT_IN_AE_TITLES: Final = re.compile(r"[^ -\[\]-~]")
_LONGEST_COMMENT: Final = 64  # LO, PS3.7 C.4.2 and PS3.5 6.2


class Answer(NamedTuple):
    """The status of a C-STORE response, and (0000,0902) where there is something to say."""

    status: int
    comment: str = ""


def printable_ae_title(title: str) -> str:
    """Return an AE title as it may be logged and kept: of its own characters only."""
    return _NOT_IN_AE_TITLES.sub("?", title.strip(" \0"))[:16]


def answer_to(error: FluteSyncError) -> Answer:
    """Return what a sender is told of an error; the code and the message hold no patient data."""
    return Answer(error.dimse_status, f"{error.code}: {error.message()}"[:_LONGEST_COMMENT])


class StoreSession:
    """Takes the instances of one association.

    Parameters
    ----------
    count
        Told the status of each answer.
    """

    def __init__(self, sink: Sink, caller: Caller, count: Callable[[int], None]) -> None:
        self.caller = caller
        self._door: Door = sink.open(caller)
        self._count = count
        self._began = time.monotonic()
        self._bytes = 0
        self._stored = 0
        self._refused: Counter[str] = Counter()

    def begin(self, command: StoreCommand, *, has_data: bool) -> "Storing":
        """Start with a request; what is wrong with it is said in its answer."""
        return Storing(self, self._door, command, has_data=has_data)

    def answered(self, answer: Answer, error: FluteSyncError | None, size: int) -> None:
        """Count an answer; the first refusal of a kind is logged, all are summed up at the end."""
        self._count(answer.status)
        self._bytes += size
        if is_stored(answer.status):
            self._stored += 1
            return
        code = error.code if error is not None else f"{answer.status:04X}"
        self._refused[code] += 1
        if self._refused[code] == 1:
            self._log_refusal(answer, error)

    def interrupted(self, error: FluteSyncError) -> None:
        """Tell that the association ended in the middle of an instance."""
        log.warning(
            error.sentence,
            extra=fields(
                Event.STORE_INTERRUPTED,
                source=SOURCE,
                calling_ae_title=self.caller.calling_ae_title,
                code=error.code,
                hint=error.hint,
            ),
        )

    def close(self) -> None:
        """End with the association."""
        self._door.close()
        refused = self._refused.total()
        if not (self._stored or refused):
            return
        log.info(
            "instances were stored by C-STORE" if self._stored else "no instance was stored",
            extra=fields(
                Event.STORE_ACCEPTED if self._stored else Event.STORE_REFUSED,
                source=SOURCE,
                calling_ae_title=self.caller.calling_ae_title,
                instances=self._stored,
                failed=refused,
                bytes=self._bytes,
                duration_seconds=round(time.monotonic() - self._began, 3),
            ),
        )

    def _log_refusal(self, answer: Answer, error: FluteSyncError | None) -> None:
        log.warning(
            "an instance was refused" if error is None else error.sentence,
            extra=fields(
                Event.STORE_REFUSED,
                source=SOURCE,
                calling_ae_title=self.caller.calling_ae_title,
                study_instance_uid=None if error is None else error.study_instance_uid,
                status=f"{answer.status:04X}",
                code=None if error is None else error.code,
                hint=None if error is None else error.hint,
            ),
        )


class Storing:
    """One instance on its way; once it is refused the rest of it is let by."""

    def __init__(
        self, session: StoreSession, door: Door, command: StoreCommand, *, has_data: bool
    ) -> None:
        self._session = session
        self._bytes = 0
        self._has_enough = False
        self._error: FluteSyncError | None = None
        self._incoming: Incoming | None = None
        try:
            _judge(command, has_data=has_data)
            self._incoming = door.begin(command)
        except FluteSyncError as error:
            self._error = error

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next piece of the data set."""
        self._bytes += len(data)
        if self._incoming is not None and not self._has_enough:
            try:
                self._has_enough = bool(self._incoming.feed(bytes(data)))
            except FluteSyncError as error:
                self._error, self._incoming = error, None

    def finish(self) -> Answer:
        """Return the answer once all has come."""
        answer = Answer(0)
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            try:
                answer = Answer(incoming.finish())
            except FluteSyncError as error:
                self._error = error
        if self._error is not None:
            answer = answer_to(self._error)
        self._session.answered(answer, self._error, self._bytes)
        return answer

    def abandon(self, error: FluteSyncError) -> None:
        """Forget the instance: the association ended in its middle."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.abandon()
        self._session.interrupted(error)


def _judge(command: StoreCommand, *, has_data: bool) -> None:
    if command.sop_class_uid != command.abstract_syntax:
        raise SopClassMismatch
    if uid_problem(command.sop_instance_uid) == "illegal":
        raise InstanceUidInvalid
    if not has_data:
        raise DataSetAbsent
