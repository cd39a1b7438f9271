"""Entries of a DICOM change feed, and where a reader of it stands.

References
----------
https://learn.microsoft.com/azure/healthcare-apis/dicom/change-feed-overview (object model).
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from flute_sync.archive_errors import ArchiveServerError
from flute_sync.sources.peer import Json
from flute_sync.study import StudyInstanceUID
from flute_sync.valuerep import ILLEGAL, uid_problem

KNOWN_ACTIONS: Final = frozenset({"create", "update", "delete"})
_LARGEST: Final = 2**63 - 1


class Position(NamedTuple):
    """The newest entry that was delivered: its number, and when it was made, where that is told."""

    sequence: int = 0
    at: datetime | None = None

    @classmethod
    def parse(cls, value: str) -> "Position":
        """Read a cursor."""
        sequence, _, at = value.partition(" ")
        return cls(int(sequence), datetime.fromisoformat(at) if at else None)

    def after(self, entries: "Iterable[Entry]") -> "Position":
        """Return where a reader stands that has read these too."""
        both = [self, *(entry.position for entry in entries)]
        times = [position.at for position in both if position.at is not None]
        return Position(max(position.sequence for position in both), max(times, default=None))

    def __str__(self) -> str:
        return f"{self.sequence} {self.at.isoformat() if self.at else ''}".rstrip()


class Entry(NamedTuple):
    """One change of one instance; no UID of its study where it is not usable."""

    sequence: int
    at: datetime | None
    study_instance_uid: StudyInstanceUID | None
    action: str

    @property
    def position(self) -> Position:
        """Where a reader stands that has read it."""
        return Position(self.sequence, self.at)

    def contradicts(self, position: Position) -> bool:
        """Tell whether it has the number of what was read last, and was made after it."""
        if self.sequence != position.sequence or self.at is None or position.at is None:
            return False
        return self.at > position.at


def parsed(row: Json, name: str) -> Entry:
    """Read an entry; the case of names and actions is not looked at.

    Raises
    ------
    ArchiveServerError
        When it has no number, by which it could be told from others.
    """
    found = {key.lower(): value for key, value in row.items()}
    sequence, uid = found.get("sequence"), found.get("studyinstanceuid")
    if isinstance(sequence, str) and sequence.isdecimal():
        sequence = int(sequence)
    if type(sequence) is not int or not 0 <= sequence <= _LARGEST:
        raise ArchiveServerError(f"{name}: its answer is not a change feed")
    usable = isinstance(uid, str) and uid_problem(uid) != ILLEGAL
    return Entry(
        sequence,
        _time(found.get("timestamp")),
        StudyInstanceUID(str(uid)) if usable else None,
        str(found.get("action", "")).lower(),
    )


def _time(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
