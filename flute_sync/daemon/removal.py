"""When a study that its archive finds no more is believed to be gone.

One look that finds nothing may be a moment's gap, and an archive that finds hardly anything is
more likely broken than emptied: restored from an old backup, or asked without permission.
"""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import Field

from flute_sync.events import Event, fields
from flute_sync.intake import Cursor
from flute_sync.ledger import Absence, Claim, Ledger
from flute_sync.settings import PositiveDuration, Settings

log = logging.getLogger(__name__)

SOURCE: Final = "removals"
INTERVAL: Final = timedelta(seconds=30)
"""How often it is counted what the archives miss."""

UNWRITTEN_PERIOD: Final = timedelta(hours=1)
"""The longest period for a study that came to us or an archive, but that FHIR does not know."""

_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


class RemovalSettings(Settings):
    """``[removal]``: when a study that an archive finds no more is believed to be gone."""

    confirmations: Annotated[int, Field(ge=1, le=100)] = 3
    """Looks that must not have found it."""

    period: PositiveDuration = timedelta(hours=24)
    """The time over which these looks are spread, at least."""

    most_at_once: Annotated[int, Field(ge=1)] = 20
    """Studies that may be missing at once, however small the archive is; see ``share``."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Of the studies of an archive, how many may be missing at once. Where more are, and more than
    ``most_at_once``, none of them is believed to be gone until the archive has them again or a
    person says ``flute-sync removals --confirm ARCHIVE``."""

    def next_look(self, now: datetime, period: timedelta) -> datetime:
        """Return when to look again."""
        return now + period / max(self.confirmations - 1, 1)


@dataclass(frozen=True, slots=True)
class Missed:
    """What one archive misses: more than ``limit`` at once is not believed.

    ``confirmed_at``: a person said that what was missing until then is gone.
    """

    archive: str
    held: int
    missing: int
    limit: int
    since: datetime | None
    confirmed_at: datetime | None

    @property
    def is_doubted(self) -> bool:
        """Whether so much is missing that none of it is believed."""
        return self.missing > self.limit


def missed(ledger: Ledger, settings: RemovalSettings, archive: str) -> Missed:
    """Count what one archive misses.

    Raises
    ------
    FluteSyncError
        When the ledger does not do its part.
    """
    confirmed_at = _confirmed_at(ledger, archive)
    found = ledger.missing(archive, confirmed_at or _EVER)
    limit = max(settings.most_at_once, int(settings.share * (found.held + found.missing)))
    return Missed(archive, found.held, found.missing, limit, found.since, confirmed_at)


def _confirmed_at(ledger: Ledger, archive: str) -> datetime | None:
    said = ledger.cursor(SOURCE, archive)
    return datetime.fromisoformat(said) if said else None


def confirm(ledger: Ledger, archive: str, now: datetime) -> None:
    """Believe that what an archive misses now is gone; it still has to be looked for in vain.

    Raises
    ------
    FluteSyncError
        When the ledger does not do its part.
    """
    ledger.set_cursor(Cursor(SOURCE, archive, now.astimezone(UTC).isoformat()))
    ledger.look_for_missing(archive)


@dataclass
class Brake:
    """Keeps an eye on how much each archive misses, and says it when it is too much."""

    ledger: Ledger
    settings: Callable[[], RemovalSettings]
    archives: Collection[str]
    _seen: dict[str, tuple[datetime, Missed]] = field(default_factory=dict)
    _doubted: dict[str, Missed] = field(default_factory=dict)

    def step(self, now: datetime, _stop: Callable[[], bool]) -> None:
        """Count for all archives.

        Raises
        ------
        FluteSyncError
            When the ledger does not do its part.
        """
        for archive in self.archives:
            self.look(archive, now)

    def look(self, archive: str, now: datetime) -> Missed:
        """Return what an archive misses, as counted a moment ago; a word of a person counts."""
        at, found = self._seen.get(archive, (None, None))
        is_recent = at is not None and at <= now < at + INTERVAL / 3
        if found is not None and found.is_doubted:
            is_recent &= found.confirmed_at == _confirmed_at(self.ledger, archive)
        if found is None or not is_recent:
            found = missed(self.ledger, self.settings(), archive)
            self._seen[archive] = now, found
            self._say(found)
        return found

    def warnings(self) -> Iterable[str]:
        """Say of each doubted archive that it is."""
        return [_sentence(found) for found in list(self._doubted.values())]

    def _say(self, found: Missed) -> None:
        was = self._doubted.pop(found.archive, None)
        if found.is_doubted:
            self._doubted[found.archive] = found
        if found.is_doubted and was is None:
            log.error(
                "%s; none of them is believed to be gone.",
                _sentence(found),
                extra=fields(Event.ARCHIVE_DOUBTED, archive=found.archive, studies=found.missing),
            )
        elif was is not None and not found.is_doubted:
            log.info(
                "What the archive misses is believed again.",
                extra=fields(Event.ARCHIVE_TRUSTED, archive=found.archive, studies=found.missing),
            )


def _sentence(found: Missed) -> str:
    return (
        f"{found.archive} misses {found.missing} studies at once,"
        f" of {found.held + found.missing}: more than {found.limit}"
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to make of absences: believed, or to be looked at again, perhaps because of doubt."""

    believed: bool
    next_look: datetime
    doubted: bool = False


def judge(
    claim: Claim,
    absences: Collection[Absence],
    settings: RemovalSettings,
    brake: Brake,
    now: datetime,
    *,
    was_held: bool,
) -> Verdict:
    """Judge archives that do not find a study.

    Parameters
    ----------
    was_held
        Whether they held something of it; else somebody only said that they do.
    """
    period = settings.period if claim.fhir else min(settings.period, UNWRITTEN_PERIOD)
    next_look = settings.next_look(now, period)
    accepted = bool(was_held or claim.unverified or claim.absences or claim.has_notes)
    if claim.fhir is None and not accepted:
        return Verdict(True, next_look)  # nobody was told anything of it
    if not all(
        absence.confirmations >= settings.confirmations and now - absence.since >= period
        for absence in absences
    ):
        return Verdict(False, next_look)
    is_known = was_held or claim.fhir is not None
    doubted = is_known and any(
        _is_doubted(brake.look(absence.archive, now), absence) for absence in absences
    )
    return Verdict(not doubted, next_look, doubted)


def _is_doubted(found: Missed, absence: Absence) -> bool:
    covered = found.confirmed_at is not None and absence.since <= found.confirmed_at
    return found.is_doubted and not covered
