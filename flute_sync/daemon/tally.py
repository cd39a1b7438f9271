"""What became of the studies that an import listed."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from flute_sync.ledger import Standing
from flute_sync.task import State


@dataclass
class Tally:
    """What became of the studies that were listed; the last five add up to them.

    ``new`` are those that were news to the ledger. ``on_hold`` and ``failed`` are by code.
    """

    listed: int = 0
    new: int = 0
    written: int = 0
    unchanged: int = 0
    out_of_scope: int = 0
    on_hold: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def settled(self) -> int:
        """How many of them are settled."""
        held, failed = self.on_hold.total(), self.failed.total()
        return self.written + self.unchanged + self.out_of_scope + held + failed

    def count(self, standing: Standing, *, worked_on: bool) -> None:
        """Count a study that is over."""
        match standing.state:
            case State.COMPLETED if worked_on and standing.was_written:
                self.written += 1
            case State.COMPLETED:
                self.unchanged += 1
            case State.CANCELLED:
                self.out_of_scope += 1
            case State.ON_HOLD:
                self.on_hold[standing.code or ""] += 1
            case _:
                self.failed[standing.code or ""] += 1

    def add(self, other: "Tally") -> None:
        """Count what another tally counted."""
        self.listed += other.listed
        self.new += other.new
        self.written += other.written
        self.unchanged += other.unchanged
        self.out_of_scope += other.out_of_scope
        self.on_hold += other.on_hold
        self.failed += other.failed

    def as_dict(self) -> dict[str, Any]:
        """Return the documented shape."""
        return {
            "listed": self.listed,
            "new": self.new,
            "written": self.written,
            "unchanged": self.unchanged,
            "out_of_scope": self.out_of_scope,
            "on_hold": dict(sorted(self.on_hold.items())),
            "failed": dict(sorted(self.failed.items())),
        }
