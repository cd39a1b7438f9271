"""Recording a group of deliveries in one transaction, each statement once for all of them.

What is already known changes nothing. What contradicts what is known is not overwritten: its
archive is owed a read, and what the archive says wins.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Final

from flute_sync.completeness import StudySettings
from flute_sync.events import Event
from flute_sync.intake import Notice, Noticed, Received
from flute_sync.ledger import instances, trail
from flute_sync.ledger.arrival import Arrival
from flute_sync.ledger.columns import (
    NOBODY,
    HeaderStore,
    Stored,
    load_header,
    pack_uid,
)
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.marks import Marks
from flute_sync.ledger.places import Kind, Places, kind_of
from flute_sync.ledger.precedence import Precedence
from flute_sync.ledger.rows import (
    ArchiveRow,
    StudyRow,
    chunks,
    lock_studies,
    study_archives,
    write_studies,
    write_study_archives,
)
from flute_sync.ledger.sieve import News, Sieve, Sifted
from flute_sync.ledger.stated import recount
from flute_sync.ledger.steps import Steps
from flute_sync.study import StudyInstanceUID

MOST_CALLERS: Final = 64
"""Calling AE titles kept for one study; nobody honest comes near."""

OWN_READ: Final = ""
"""The source under which what our own read saw is kept among the fingerprints."""

_STUDY_IDS: Final = "SELECT study_instance_uid, id FROM study WHERE study_instance_uid IN (?)"
_STUDY_UIDS: Final = "SELECT study_instance_uid FROM study WHERE id IN (?)"


Told = tuple[StudyInstanceUID, trail.Entry]
"""An event, and the study it is about."""

_SAID: Final = frozenset({Event.STUDY_RECEIVED, Event.STUDY_NOTICED, Event.STUDY_REMARK})
"""What the log repeats of the trail; the rest is said by who delivered it."""

Share = tuple[News, list[Received], dict[Kind, Received]]
"""What one delivery says of one study, and one instance of each kind of it."""


@dataclass(slots=True)
class Recorder:
    """Records one group; each transaction makes its own."""

    driver: Driver
    headers: HeaderStore
    settings: StudySettings
    events_kept: int
    marks: Marks
    order: Sequence[str] = ()
    sifted: Sifted = field(default_factory=lambda: Sifted([]))
    """Of which studies nothing was recorded, since they were erased."""
    _studies: dict[StudyInstanceUID, StudyRow] = field(default_factory=dict)
    _archives: dict[tuple[int, int], ArchiveRow] = field(default_factory=dict)
    _events: list[trail.Entry] = field(default_factory=list)

    def record(self, group: Sequence[News]) -> list[Told]:
        """Record everything, or raise and let the transaction be rolled back.

        Returns what happened to which study, to be said once the transaction is committed.
        """
        self.sifted = Sieve(self.driver, self.marks, self.headers).sift(group)
        group = self.sifted.group
        shares = _by_study(group)
        self._lock(group, shares)
        if shares:
            self._take(shares)
        for news in group:
            for noticed in news.delivery.noticed:
                self._notice(news, noticed)
        self._perform(group)
        write_studies(self.driver, self._studies.values())
        write_study_archives(self.driver, self._archives.values())
        self._refusals(group)
        trail.append(self.driver, self._events, kept=self.events_kept)
        uids = {study.id: uid for uid, study in self._studies.items()}
        return [
            (uids[entry.study_id], entry)
            for entry in self._events
            if entry.study_id in uids and entry.event in _SAID
        ]

    def _lock(self, group: Sequence[News], shares: dict[StudyInstanceUID, list[Share]]) -> None:
        noticed = {item.study_instance_uid for news in group for item in news.delivery.noticed}
        performed = {item.study_instance_uid for news in group for item in news.delivery.performed}
        uids = shares.keys() | noticed | performed
        if not uids:
            return
        self._studies = lock_studies(self.driver, uids, group[0].delivery.at)
        old = [study.id for study in self._studies.values() if not study.is_new]
        self._archives = study_archives(self.driver, old)

    # -- instances ---------------------------------------------------------------------------

    def _take(self, shares: dict[StudyInstanceUID, list[Share]]) -> None:
        places = Places(self.driver, self.headers)
        precedence = Precedence(self.driver, self.order)
        places.look_up(
            (self._studies[uid], kinds.values())
            for uid, parts in shares.items()
            for _, _, kinds in parts
        )
        arrivals = []
        for uid, parts in shares.items():
            study = self._studies[uid]
            arrival = Arrival(self.driver, study, places, precedence)
            packed = [_packed(received) for _, received, _ in parts]
            arrival.look_up(list(chain.from_iterable(packed)))
            for (news, received, kinds), uids in zip(parts, packed, strict=True):
                is_first = study.is_quiet
                final = news.delivery.final
                facts, contradictions = arrival.take(received, uids, news.archive_id, final=final)
                said = [self.headers.store(one.instance.header) for one in kinds.values()]
                self._arrived(study, news, facts, contradictions, said, is_first=is_first)
            study.instance_count += arrival.new_count
            arrivals.append(arrival)
        places.write()
        for arrival in arrivals:
            arrival.write()
            if arrival.study.stated_series:
                recount(self.driver, arrival.study)
        at = next(iter(shares.values()))[0][0].delivery.at
        for arrival in arrivals:
            if arrival.replaced:
                self._replaced(arrival, at)
        self._moved(places, at)

    def _arrived(
        self,
        study: StudyRow,
        news: News,
        facts: int,
        contradictions: int,
        said: Sequence[Stored],
        *,
        is_first: bool,
    ) -> None:
        is_new_caller = self._add_caller(study, news.delivery.calling_ae_title)
        stand = self._archives.get((study.id, news.archive_id))
        is_back = stand is not None and stand.absences > 0
        named, people = {one.identity for one in said}, {one.person for one in said}
        is_named = stand is not None and named <= stand.patient_ids
        is_told = is_named and stand is not None and people <= stand.patients
        if is_told and not (facts or contradictions or is_new_caller or is_back):
            return
        at = news.delivery.at
        self._news(study, at, at_once=news.delivery.at_once)
        archive = self._archive(study, news.archive_id)
        if is_back:  # how much of what it held came back, only a read can tell
            archive.read_owed, archive.changed = study.generation, True
        if news.delivery.under is not None:
            archive.unverified, archive.changed = study.generation, True
        if not is_told:
            archive.patient_ids |= named
            archive.patients, archive.changed = archive.patients | people, True
        is_doubtful = not is_named and len(archive.patient_ids - {NOBODY}) > 1
        if contradictions or is_doubtful:
            archive.read_owed, archive.changed = study.generation, True
        if contradictions:
            sentence = (
                f"{contradictions} known instances came with other values; the archive decides."
            )
            self._events.append(trail.Entry(study.id, at, Event.STUDY_REMARK, sentence))
        if is_first:
            sentence = (
                f"{news.delivery.source} brought {facts} instances from {news.delivery.archive}."
            )
            self._events.append(trail.Entry(study.id, at, Event.STUDY_RECEIVED, sentence))

    def _replaced(self, arrival: Arrival, at: datetime) -> None:
        """Forget what headers said, above all of whom, in place of which others came."""
        study = arrival.study
        instances.forget_unused_headers(self.driver, study.id)
        for archive_id in arrival.replaced:
            archive = self._archive(study, archive_id)
            texts = instances.texts(self.driver, study.id, 1 << (archive_id - 1))
            left = [self.headers.store(load_header(one)) for one in texts]
            archive.patient_ids = frozenset(one.identity for one in left)
            archive.patients, archive.changed = frozenset(one.person for one in left), True
        count = arrival.replaced.total()
        sentence = f"{count} known instances came with other values, which count from now on."
        self._events.append(trail.Entry(study.id, at, Event.STUDY_REMARK, sentence))

    @staticmethod
    def _add_caller(study: StudyRow, title: str | None) -> bool:
        callers = study.calling_ae_titles
        if title is None or title in callers or len(callers) >= MOST_CALLERS:
            return False
        study.calling_ae_titles = sorted({*callers, title})
        return True

    def _moved(self, places: Places, at: datetime) -> None:
        """Look again at other studies that have a series which now arrived in this one."""
        others = places.moved_from()
        if not others:
            return
        uids = [
            uid
            for ids in chunks(sorted(others))
            for (uid,) in self.driver.rows(_STUDY_UIDS, list(ids))
        ]
        rows = lock_studies(self.driver, (uid for uid in uids if uid not in self._studies), at)
        self._studies |= rows
        self._archives |= study_archives(self.driver, [row.id for row in rows.values()])
        for study in (self._studies[uid] for uid in uids):
            self._news(study, at)
            self._owe_reads(study)
            sentence = "A series of this study arrived under another study; the archive decides."
            self._events.append(trail.Entry(study.id, at, Event.STUDY_REMARK, sentence))

    # -- steps, notices, refusals ------------------------------------------------------------

    def _perform(self, group: Sequence[News]) -> None:
        said = [(news, item) for news in group for item in news.delivery.performed]
        if not said:
            return
        steps = Steps.look_up(
            self.driver, self.headers, (item.sop_instance_uid for _, item in said)
        )
        for news, item in said:
            study, at = self._studies[item.study_instance_uid], news.delivery.at
            is_news = steps.take(study.id, news.archive_id, at, item)
            is_new_caller = self._add_caller(study, news.delivery.calling_ae_title)
            if is_news or is_new_caller:
                self._news(study, at, at_once=news.delivery.at_once)
            if is_news:
                sentence = f"A modality says of a procedure step that it is {item.status.value}."
                entry = trail.Entry(study.id, at, Event.STUDY_NOTICED, sentence)
                self._events.append(entry)
        steps.write()

    def _notice(self, news: News, noticed: Noticed) -> None:
        study = self._studies[noticed.study_instance_uid]
        archive = self._archive(study, news.archive_id)
        if not _is_news(archive, news.delivery.source, noticed):
            return
        first, at = study.is_quiet, news.delivery.at
        self._news(study, at, at_once=news.delivery.at_once)
        archive.read_owed, archive.changed = study.generation, True
        if first or noticed.notice is Notice.GONE or news.event is not Event.STUDY_NOTICED:
            sentence = _NOTICES[news.event, noticed.notice].format(
                source=news.delivery.source, archive=news.delivery.archive
            )
            self._events.append(trail.Entry(study.id, at, news.event, sentence))

    def _refusals(self, group: Sequence[News]) -> None:
        refused = Counter(
            (news.delivery.at, item) for news in group for item in news.delivery.refused
        )
        uids = sorted({item.study_instance_uid for _, item in refused})
        ids: dict[str, int] = {}
        for part in chunks(uids):
            ids |= dict(self.driver.rows(_STUDY_IDS, list(part)))
        for (at, item), count in refused.items():
            where = f" ({item.tag})" if item.tag else ""
            sentence = f"{count} instances of {item.study_instance_uid} were refused{where}."
            entry = trail.Entry(
                ids.get(item.study_instance_uid), at, Event.UPLOAD_REFUSED, sentence, item.code
            )
            self._events.append(entry)

    # -- news --------------------------------------------------------------------------------

    def _news(self, study: StudyRow, at: datetime, *, at_once: bool = False) -> None:
        study.news(at, self.settings, at_once=at_once)
        if study.pruned:
            study.pruned = False
            self._owe_reads(study)

    def _owe_reads(self, study: StudyRow) -> None:
        for (study_id, _), archive in self._archives.items():
            if study_id == study.id:
                archive.read_owed, archive.changed = study.generation, True

    def _archive(self, study: StudyRow, archive_id: int) -> ArchiveRow:
        key = study.id, archive_id
        if key not in self._archives:
            self._archives[key] = ArchiveRow(*key, changed=True)
        return self._archives[key]


_NOTICES: Final = {
    (Event.STUDY_NOTICED, Notice.CHANGED): "{source} says that it changed in {archive}.",
    (Event.STUDY_NOTICED, Notice.GONE): "{source} says that it is gone from {archive}.",
    (Event.INTENT_RECOVERED, Notice.CHANGED): (
        "An upload to {archive} ended without a known result; {archive} is asked."
    ),
}


def _by_study(group: Sequence[News]) -> dict[StudyInstanceUID, list[Share]]:
    shares: dict[StudyInstanceUID, list[Share]] = {}
    for news in group:
        own: dict[StudyInstanceUID, list[Received]] = {}
        for received in news.delivery.received:
            own.setdefault(received.study_instance_uid, []).append(received)
        for uid, items in own.items():
            kinds = {kind_of(item): item for item in items}
            shares.setdefault(uid, []).append((news, items, kinds))
    return shares


def _packed(received: list[Received]) -> list[bytes]:
    return [pack_uid(item.instance.sop_instance_uid) for item in received]


def _is_news(archive: ArchiveRow, source: str, noticed: Noticed) -> bool:
    """Tell whether a notice says what is not known, and keep its fingerprint.

    Each source has its own way of taking fingerprints, so that they are kept by source.
    """
    prints = archive.fingerprints
    if noticed.notice is Notice.GONE:
        archive.fingerprints = {}
        return archive.absences == 0
    if noticed.fingerprint is None:
        archive.fingerprints = {}
        return True
    if noticed.fingerprint in (prints.get(source), prints.get(OWN_READ)):
        return False
    archive.fingerprints = prints | {source: noticed.fingerprint}
    return True
