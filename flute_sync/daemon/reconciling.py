"""Reconcile: everything is compared, what does not fit is told, and mended where that is asked for.

It is mended as everything else is written: by a notice to the ledger and the pipeline's step. So
a wrong patient is not moved but held, and a study that seems gone is looked for again first.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Final

from flute_sync.bundle import Resource, oldest_first
from flute_sync.daemon.backlog import Backlog, patiently
from flute_sync.daemon.comparing import Comparison
from flute_sync.daemon.supervisor import Pulse
from flute_sync.daemon.workshop import Workshop
from flute_sync.fhir.endpoints import codes, switch_off
from flute_sync.fhir.survey import identifier_values
from flute_sync.fhir_errors import FhirConflict
from flute_sync.intake import Delivery, Notice, Noticed
from flute_sync.ledger import Scratch
from flute_sync.reconciliation import NOTES, PERSONS, Case, Finding, Kind, Scene, compare
from flute_sync.sources.listing import Choice
from flute_sync.study import StudyInstanceUID

SOURCE: Final = "reconcile"
PART: Final = 100
"""Studies that are compared, and mended, together."""
MOST_TOLD: Final = 10_000
"""Findings that are told one by one; all are counted."""
MOST_ENDPOINTS: Final = 1000
LOOK: Final = timedelta(milliseconds=200)


@dataclass(frozen=True, slots=True)
class Told:
    """A finding, and whether it was mended; None where that was not tried."""

    finding: Finding
    mended: bool | None = None


@dataclass
class Result:
    """What a reconciliation found.

    ``compared`` counts studies, ``found`` findings by kind, ``mended`` those of them that are gone
    now.
    """

    compared: int = 0
    found: Counter[Kind] = field(default_factory=Counter)
    mended: Counter[Kind] = field(default_factory=Counter)
    told: list[Told] = field(default_factory=list)

    @property
    def remaining(self) -> int:
        """Faults that are still there."""
        faults = sum(count for kind, count in self.found.items() if kind not in NOTES)
        return faults - sum(count for kind, count in self.mended.items() if kind not in NOTES)

    @property
    def omitted(self) -> int:
        """Findings that are counted and not told one by one."""
        return self.found.total() - len(self.told)

    def tell(self, finding: Finding, *, mended: bool | None) -> None:
        """Keep a finding."""
        self.found[finding.kind] += 1
        if mended:
            self.mended[finding.kind] += 1
        if len(self.told) < MOST_TOLD:
            self.told.append(Told(finding, mended))


class Reconciliation:
    """One run; `run` is a part of a `Workshop`.

    Parameters
    ----------
    archives
        Names of those to compare.
    repair
        Whether what is found is mended.
    tell
        Told how many of how many studies were compared, and what is waited for.
    """

    def __init__(
        self,
        shop: Workshop,
        archives: tuple[str, ...],
        choice: Choice,
        *,
        repair: bool,
        tell: Callable[[int, int | None, str | None], None],
    ) -> None:
        self.result = Result()
        self._shop, self._archives, self._choice = shop, archives, choice
        self._repair, self._tell = repair, tell
        self._comparison = Comparison(shop, archives, choice)
        self._total: int | None = None
        self._backlog = Backlog(shop.ledger, lambda _uid, _standing: None)
        entries = shop.config.every_archive
        self._scene = Scene(
            archives=frozenset(archives),
            sources=frozenset(url for entry in entries if (url := entry.published_url)),
            since=choice.since,
            until=choice.until,
        )

    def run(self, pulse: Pulse) -> None:
        """List, compare, and mend.

        Raises
        ------
        FluteSyncError
            One side cannot be listed to its end, or a server is down.
        """
        with Scratch() as scratch:
            self._comparison.gather(scratch, pulse.asked, self._listing)
            if pulse.stopping:
                return
            self._scene = replace(self._scene, broken=self._broken())
            self._total = scratch.keys()
            cases = self._comparison.cases(scratch)
            while part := list(islice(cases, PART)):
                self._take(part, pulse)
                self.result.compared += len(part)
                self._tell(self.result.compared, self._total, None)
                if pulse.asked():
                    return
        self._endpoints()

    def _listing(self, side: str) -> None:
        self._tell(0, None, f"the list of {side}")

    # -- studies -----------------------------------------------------------------------------

    def _take(self, part: list[Case], pulse: Pulse) -> None:
        found = [
            finding
            for case in self._comparison.judged(part)
            for finding in compare(case, self._scene)
        ]
        confirmed = list(self._confirmed(found))
        if not self._repair:
            for _, finding in confirmed:
                self.result.tell(finding, mended=None)
            return
        touched = self._mend(confirmed, pulse)
        for case, finding in confirmed:
            uid = case.study_instance_uid
            rest: tuple[Finding, ...] = (finding,)
            if uid in touched:
                rest = compare(self._comparison.again(uid), self._scene)
            if not rest:
                self.result.tell(finding, mended=True)
            for one in rest:
                self.result.tell(one, mended=False if one.is_fault else None)

    def _confirmed(self, found: Iterable[Finding]) -> Iterator[tuple[Case, Finding]]:
        """Look again: what the lists say may have been true one after the other only."""
        found = list(found)
        missing = {
            finding.study_instance_uid
            for finding in found
            if finding.kind is Kind.MISSING and finding.study_instance_uid is not None
        }
        unknown = missing - self._comparison.known(missing)
        for finding in found:
            uid = finding.study_instance_uid
            if uid is None:
                continue
            if finding.kind in NOTES or uid in unknown:
                yield Case(uid), finding
                continue
            case = self._comparison.again(uid)
            for one in compare(case, self._scene):
                yield case, one

    # -- mending -----------------------------------------------------------------------------

    def _mend(
        self, confirmed: list[tuple[Case, Finding]], pulse: Pulse
    ) -> frozenset[StudyInstanceUID]:
        """Notice what can be mended, and wait until the workers have been at it."""
        noticed: dict[str, dict[StudyInstanceUID, Noticed]] = {}
        for case, finding in confirmed:
            notice = Notice.GONE if finding.kind is Kind.EXTRA else Notice.CHANGED
            for archive in self._concerned(case, finding):
                uid = case.study_instance_uid
                noticed.setdefault(archive, {})[uid] = Noticed(uid, notice)
        if any("Endpoint" in reason for _, one in confirmed for reason in one.reasons):
            self._shop.pipeline.endpoints.forget()
        for archive, notices in noticed.items():
            now = datetime.now(UTC)
            delivery = Delivery(SOURCE, archive, now, noticed=tuple(notices.values()), at_once=True)
            patiently(pulse, partial(self._shop.ledger.deliver, delivery))
            self._backlog.add(notices)
        while len(self._backlog) and not pulse.stopping:
            patiently(pulse, self._backlog.look)
            down = self._shop.waiting_for(datetime.now(UTC))
            self._tell(self.result.compared, self._total, down)
            pulse.wait(LOOK)
        return frozenset(uid for notices in noticed.values() for uid in notices)

    def _concerned(self, case: Case, finding: Finding) -> tuple[str, ...]:
        """Name the archives of which a notice mends a finding."""
        if finding.kind in PERSONS or finding.kind is Kind.ON_HOLD:
            return ()
        if finding.kind is Kind.EXTRA:
            held = case.known.archives if case.known is not None else {}
            return tuple(name for name in self._archives if name in held)
        listed = case.listed or self._comparison.again(case.study_instance_uid).listed
        return tuple(one.archive for one in listed)

    # -- Endpoints ---------------------------------------------------------------------------

    def _broken(self) -> frozenset[str]:
        """Return the ids of Endpoints that are referred to and are not there."""
        seen = sorted(self._comparison.endpoints)[:MOST_ENDPOINTS]
        return frozenset(one for one in seen if not self._comparison.survey.is_there(one))

    def _endpoints(self) -> None:
        """Find the Endpoints of ours that belong to no archive of the site."""
        system = self._shop.config.identifier_system
        entries = self._shop.config.every_archive
        names = [entry.name for entry in entries if entry.published_url]
        wanted = {f"{name}-{code}" for name in names for code in codes()}
        kept: set[str] = set()
        for one in oldest_first(self._comparison.survey.endpoints(system)):
            values = {value for value in identifier_values(one) if _is_ours(value)}
            if not values:
                continue
            if values & wanted and not values & kept:
                kept |= values
            elif not self._is_used_by_others(str(one["id"])):
                finding = Finding(Kind.ORPHANED_ENDPOINT, None, f"Endpoint/{one['id']}")
                mended = self._switched_off(one) if self._repair else None
                self.result.tell(finding, mended=mended)

    def _is_used_by_others(self, endpoint_id: str) -> bool:
        """Tell whether a study that is not ours refers to it: then it may serve another service."""
        for page in self._comparison.survey.users(endpoint_id):
            uids = {uid for uid in page if uid is not None}
            if len(uids) < len(page) or uids - self._comparison.known(uids):
                return True
        return False

    def _switched_off(self, endpoint: Resource) -> bool:
        try:
            switch_off(self._shop.fhir, endpoint)
        except FhirConflict:
            return False
        return True


def _is_ours(value: str) -> bool:
    return any(value.endswith(f"-{code}") for code in codes())
