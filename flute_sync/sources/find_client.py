"""C-FIND as SCU, Study Root: associations for as long as they are needed, and their answers.

References
----------
PS3.4 C.4.1 (2026b); PS3.7 9.1.2, 9.3.2 and C.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from struct import Struct
from threading import BoundedSemaphore
from typing import Final

from flute_sync.archive_errors import (
    ArchiveCapabilityMissing,
    ArchiveQueryRefused,
    ArchiveRefused,
    ArchiveServerError,
    ArchiveUnauthorized,
    ArchiveUnavailable,
)
from flute_sync.errors import FluteSyncError
from flute_sync.sources.dimse_association import DimseAssociation, Message
from flute_sync.sources.dimse_connection import encoded_command
from flute_sync.sources.find_rows import (
    ASKED,
    EXPLICIT_SYNTAX,
    IMPLICIT_SYNTAX,
    REQUIRED,
    Level,
    identifier,
    row_of,
)
from flute_sync.sources.find_settings import FindScuSettings
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.peer import Json

STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
_PROPOSALS: Final = {STUDY_ROOT_FIND: (EXPLICIT_SYNTAX, IMPLICIT_SYNTAX)}
_US: Final = Struct("<H")
_FIND_RQ, _FIND_RSP, _CANCEL_RQ = 0x0020, 0x8020, 0x0FFF
_WITH_DATA, _WITHOUT_DATA = 0x0001, 0x0101
_FIELD, _ANSWERED_ID, _STATUS = 0x0100, 0x0120, 0x0900
_SUCCESS: Final = 0x0000
_PENDING: Final = frozenset({0xFF00, 0xFF01})
_SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
_NOT_AUTHORIZED: Final = 0x0124
_IDENTIFIER_MISMATCH: Final = 0xA9
_CANCELLED: Final = 0xFE00
_MOST_AFTER_CANCEL: Final = 200
_LONGEST_CANCEL: Final = timedelta(seconds=5)

Answers = Callable[[Level, Mapping[int, str]], Generator[Json, None, None]]
"""Asks at a level with matching keys, see `FindSession.answers`."""


class FindClient:
    """Asks one PACS; safe to use from several threads.

    Parameters
    ----------
    header
        Its character set, where an answer names none.

    Raises
    ------
    ConfigurationError, SecretUnreadable
        When our certificates cannot be used.
    """

    def __init__(self, settings: FindScuSettings, header: HeaderSettings | None = None) -> None:
        self.settings = settings
        self.header = header or HeaderSettings()
        self.plain: set[Level] = set()
        """Levels at which the PACS takes required keys only."""
        self._free = BoundedSemaphore(settings.max_associations)
        if settings.tls is not None:
            settings.tls.context()

    @contextmanager
    def session(self) -> Iterator["FindSession"]:
        """Open a session; its association begins with the first query and ends with it."""
        with self._free:
            session = FindSession(self)
            try:
                yield session
            finally:
                session.close()

    def answers(self, level: Level, match: Mapping[int, str]) -> Generator[Json, None, None]:
        """Ask once, over an association of its own; see `FindSession.answers`."""
        with self.session() as session, closing(session.answers(level, match)) as answers:
            yield from answers


class FindSession:
    """Queries of one thread over one association, which is opened again when it has died."""

    def __init__(self, client: FindClient) -> None:
        self._client = client
        self._settings = client.settings
        self._association: DimseAssociation | None = None  # that no query is using
        self._message_id = 0
        self._closed = False

    def close(self) -> None:
        """End the association."""
        self._closed = True
        if self._association is not None:
            self._association.release()
            self._association = None

    def answers(self, level: Level, match: Mapping[int, str]) -> Generator[Json, None, None]:
        """Yield what matches, as it comes.

        The status FF01H, by which a PACS says that it does not support each optional key, is as
        good as FF00H. Where it finds that the keys do not fit (A9xxH), required keys are asked for
        alone, from then on. Whoever stops in the middle cancels the query.

        Parameters
        ----------
        match
            Matching keys by tag, the unique keys of the levels above among them.

        Raises
        ------
        ArchiveQueryRefused
            When it was refused or ended early; what was yielded is some of what matches.
        ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized, ArchiveCapabilityMissing
            As every way to ask.
        ArchiveRefused
            When the PACS finds that the keys do not fit.
        """
        if level not in self._client.plain:
            try:
                yield from self._query(level, ASKED[level], match)
                return
            except ArchiveRefused:
                pass  # for its optional keys, if what follows is taken
        yield from self._query(level, REQUIRED[level], match)
        self._client.plain.add(level)

    def _query(
        self, level: Level, keys: frozenset[int], match: Mapping[int, str]
    ) -> Generator[Json, None, None]:
        deadline = time.monotonic() + self._settings.longest_query.total_seconds()
        association, context_id, implicit = self._taken()
        self._message_id = self._message_id % 0xFFFF + 1
        is_whole = False
        try:
            association.send(
                context_id,
                _request(self._message_id),
                identifier(level, keys, match, implicit=implicit),
            )
            while True:
                message = association.receive(deadline, self._settings.max_answer_bytes)
                status = self._status(message)
                if status not in _PENDING:
                    break
                row = row_of(message.data or b"", implicit=implicit, settings=self._client.header)
                yield row
            is_whole = True
        except GeneratorExit:
            is_whole = self._cancel(association, context_id)
            raise
        finally:
            self._give_back(association, is_whole=is_whole)
        if status != _SUCCESS:
            raise _failure(status)

    def _cancel(self, association: DimseAssociation, context_id: int) -> bool:
        """Ask for no more; return whether the PACS soon heeds it."""
        deadline = time.monotonic() + _LONGEST_CANCEL.total_seconds()
        try:
            association.send(context_id, _cancellation(self._message_id))
            for _ in range(_MOST_AFTER_CANCEL):
                message = association.receive(deadline, self._settings.max_answer_bytes)
                if self._status(message) not in _PENDING:
                    return True
        except (ArchiveUnavailable, ArchiveServerError):
            pass  # it is of no use any more
        return False

    def _taken(self) -> tuple[DimseAssociation, int, bool]:
        association, self._association = self._association, None
        if association is not None and not association.alive():
            association.abort()
            association = None
        if association is None:
            association = DimseAssociation(self._settings, _PROPOSALS)
        context = association.accepted.get(STUDY_ROOT_FIND)
        if context is None:
            association.abort()
            raise ArchiveCapabilityMissing("it takes no queries (C-FIND, Study Root) from us")
        return association, context.context_id, context.transfer_syntax == IMPLICIT_SYNTAX

    def _give_back(self, association: DimseAssociation, *, is_whole: bool) -> None:
        if not is_whole:
            association.abort()
        elif self._closed or self._association is not None:
            association.release()
        else:
            self._association = association

    def _status(self, message: Message) -> int:
        command = message.command
        status = command.get(_STATUS)
        is_answer = command.get(_FIELD) == _FIND_RSP
        if not is_answer or command.get(_ANSWERED_ID) != self._message_id or status is None:
            raise ArchiveServerError("it answers something else than what it was asked")
        return status


def _request(message_id: int) -> bytes:
    return encoded_command(
        {
            0x0002: STUDY_ROOT_FIND.encode() + b"\0" * (len(STUDY_ROOT_FIND) % 2),
            _FIELD: _US.pack(_FIND_RQ),
            0x0110: _US.pack(message_id),
            0x0700: _US.pack(0),
            0x0800: _US.pack(_WITH_DATA),
        }
    )


def _cancellation(message_id: int) -> bytes:
    return encoded_command(
        {
            _FIELD: _US.pack(_CANCEL_RQ),
            _ANSWERED_ID: _US.pack(message_id),
            0x0800: _US.pack(_WITHOUT_DATA),
        }
    )


def _failure(status: int) -> FluteSyncError:
    said = f"C-FIND status {status:04X}H"
    if status == _NOT_AUTHORIZED:
        return ArchiveUnauthorized(said)
    if status == _SOP_CLASS_NOT_SUPPORTED:
        return ArchiveCapabilityMissing(said)
    if status >> 8 == _IDENTIFIER_MISMATCH:
        return ArchiveRefused(said, status=status)
    is_early = status == _CANCELLED or status >> 8 == 0xA7 or status >> 12 in (0xB, 0xC)
    return ArchiveQueryRefused(status) if is_early else ArchiveServerError(said)
