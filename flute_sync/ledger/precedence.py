"""Which archive's word counts where several hold the same instance and say different things."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from flute_sync.ledger.driver import Driver

_ARCHIVES: Final = "SELECT id, name FROM archive"


@dataclass(slots=True)
class Precedence:
    """The order of the archives: as they are configured, then others by name.

    The header of an instance is that of the first archive that holds it, so that reading archives
    in turn does not change it to and fro. One transaction makes its own.
    """

    driver: Driver
    order: Sequence[str]
    _ids: list[int] = field(default_factory=list)

    def ids(self) -> list[int]:
        """Return the ids of all archives, the first to be believed first."""
        if not self._ids:
            ranks = {name: rank for rank, name in enumerate(self.order)}
            rows = [
                (ranks.get(name, len(ranks)), name, archive_id)
                for archive_id, name in self.driver.rows(_ARCHIVES)
            ]
            self._ids = [archive_id for _, _, archive_id in sorted(rows)]
        return self._ids

    def before(self, archive_id: int) -> int:
        """Return those that come before an archive, as bits of `instance.archives`."""
        ids = self.ids()
        return sum(1 << (other - 1) for other in ids[: ids.index(archive_id)])

    def first(self, archives: int) -> int:
        """Return the id of the first of some archives, given as bits."""
        return next(one for one in self.ids() if archives >> (one - 1) & 1)
