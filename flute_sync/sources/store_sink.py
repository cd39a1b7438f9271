"""Where instances go that come by C-STORE: the seam between the network and what is done with them.

Whoever reads the network opens a `Door` for each association and begins an `Incoming` for each
C-STORE request. All calls block; those of one association never overlap.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

_WARNINGS: Final = frozenset({0x0001, 0x0107, 0x0116})


def is_stored(status: int) -> bool:
    """Tell whether a status says that the instance is stored, be it with a warning.

    References
    ----------
    PS3.7 annex C, PS3.4 B.2.3 (2026b)
    """
    return status == 0 or status & 0xF000 == 0xB000 or status in _WARNINGS


class Context(NamedTuple):
    """An accepted presentation context, PS3.8 9.3.3.2 (2026b)."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Caller:
    """The other side of an association, as negotiated."""

    calling_ae_title: str
    called_ae_title: str
    contexts: tuple[Context, ...]


@dataclass(frozen=True, slots=True)
class StoreCommand:
    """What a C-STORE request says beside its data set, PS3.7 9.3.1.1 (2026b)."""

    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax: str
    transfer_syntax: str
    priority: int = 0
    move_originator_ae_title: str | None = None
    move_originator_message_id: int | None = None


class Incoming(Protocol):
    """One instance on its way; not used again after `finish`, `abandon` or an error."""

    def feed(self, data: bytes) -> bool | None:
        """Take the next piece of the encoded data set.

        Returns
        -------
        bool or None
            True where what follows is needless: it is received, and not fed.

        Raises
        ------
        FluteSyncError
            When the instance cannot be taken: what is left of it is not fed.
        """

    def finish(self) -> int:
        """Return the status to answer once all has come: 0x0000 only after a durable commit.

        Raises
        ------
        FluteSyncError
            When the instance cannot be taken.
        """

    def abandon(self) -> None:
        """Forget the instance: the association ended in its middle."""


class Door(Protocol):
    """Takes the instances of one association."""

    def begin(self, command: StoreCommand) -> Incoming:
        """Start to take an instance.

        Raises
        ------
        FluteSyncError
            When it cannot be taken.
        """

    def close(self) -> None:
        """End with the association, however that ended."""


class Sink(Protocol):
    """Takes what is sent by C-STORE."""

    def acceptable(self, proposed: Sequence[Context]) -> Collection[Context]:
        """Return which of the contexts that a sender proposes for storage can be taken."""

    def open(self, caller: Caller) -> Door:
        """Open a door for an association that was accepted; asks nobody."""
