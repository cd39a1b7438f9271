"""What one archive holds now: it replaces what that archive was said to hold before the read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from flute_sync.archive_errors import ArchiveForeignInstance
from flute_sync.completeness import StudySettings
from flute_sync.erase_errors import PatientErased
from flute_sync.events import Event
from flute_sync.intake import Received, Stated
from flute_sync.ledger import instances, trail
from flute_sync.ledger import stated as statements
from flute_sync.ledger.columns import (
    HeaderStore,
    Stored,
    load_header,
    pack_uid,
    with_issuers,
)
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.instances import Held
from flute_sync.ledger.marks import Marks, known
from flute_sync.ledger.places import Places, kind_of
from flute_sync.ledger.precedence import Precedence
from flute_sync.ledger.raising import look_again, uids_of
from flute_sync.ledger.record import OWN_READ
from flute_sync.ledger.rows import (
    ArchiveRow,
    StudyRow,
    lock_studies,
    study_archives,
    write_studies,
    write_study_archives,
)
from flute_sync.ledger.values import Claim, PatientMarks, Snapshot
from flute_sync.ledger.work import lock_held
from flute_sync.study import Header, identity_of

_TEXTS: Final = "SELECT text FROM header WHERE study_id = ? AND header IN (?)"
_COUNTS: Final = (
    "UPDATE study SET series_count = ?, instance_count = ?, last_series = ?, last_header = ?,"
    " stated_series = ?, stated_instances = ?, pruned = ? WHERE id = ?"
)
_MOVED: Final = "A series of this study is now in another study; the archive decides."


@dataclass(slots=True)
class SnapshotWriter:
    """Writes one snapshot; each transaction makes its own.

    The study's generation stays, so that who holds the claim can settle it.
    """

    connection: Connection
    headers: HeaderStore
    settings: StudySettings
    archive_id: int
    events_kept: int
    marks: Marks
    order: Sequence[str] = ()
    _added: list[Held] = field(default_factory=list)
    _changed: list[Held] = field(default_factory=list)
    _removed: list[Held] = field(default_factory=list)
    _is_doubtful: bool = False
    _newer: set[int] = field(default_factory=set)
    _bereft: int = 0
    _driver: Driver = field(init=False)
    _precedence: Precedence = field(init=False)

    def __post_init__(self) -> None:
        self._driver = Driver(self.connection)
        self._precedence = Precedence(self._driver, self.order)

    @property
    def _bit(self) -> int:
        return 1 << (self.archive_id - 1)

    def write(self, claim: Claim, snapshot: Snapshot) -> None:
        """Replace what the archive held.

        Raises
        ------
        LeaseLost
        ArchiveForeignInstance
            When it lists instances of another study.
        PatientErased
            When it names an erased patient; nothing of it is kept.
        """
        study = _held_study(self.connection, claim)
        self._refuse_erased(claim, snapshot)
        listed = self._listed(study, snapshot)
        stated = _stated(study, snapshot)
        known = instances.all_known(self._driver, study.id)
        places = Places(self._driver, self.headers)
        places.look_up([(study, {kind_of(item): item for item in listed.values()}.values())])
        for uid, item in listed.items():
            self._keep(study, uid, item, known.get(uid), places, snapshot.generation)
        stays = self._drop_unlisted(study, known, listed, stated, snapshot)
        places.write()
        if _is_told(snapshot):
            statements.replace_all(self._driver, study, self.archive_id, stated, places)
        instances.add(self._driver, self._added)
        instances.change(self._driver, self._changed)
        instances.remove(self._driver, self._removed)
        study.instance_count = len(known) + len(self._added) - len(self._removed)
        study.series_count = instances.forget_unused(self._driver, study.id)
        statements.recount(self._driver, study)
        is_back = self._stand(study, snapshot, listed.values(), stated, stays=stays)
        self._ask_the_next(study, max(snapshot.started_at, study.received_at))
        _write_counts(self._driver, study)
        write_studies(self._driver, [study])
        moved = uids_of(self._driver, sorted(places.moved_from(all_are_new=is_back)))
        look_again(
            self._driver, moved, snapshot.started_at, self.settings, _MOVED, self.events_kept
        )

    def _refuse_erased(self, claim: Claim, snapshot: Snapshot) -> None:
        stated = stated_in(snapshot)
        if known(self._driver, self.marks.of_patient(self._driver, stated)):
            raise PatientErased(study_instance_uid=claim.study_instance_uid)

    def _listed(self, study: StudyRow, snapshot: Snapshot) -> dict[bytes, Received]:
        """Return what is listed, by packed UID; of a repeated UID the first series counts."""
        listed: dict[bytes, Received] = {}
        for item in sorted(snapshot.received, key=lambda item: item.series_instance_uid):
            if item.study_instance_uid != study.study_instance_uid:
                raise ArchiveForeignInstance(study_instance_uid=study.study_instance_uid)
            listed.setdefault(pack_uid(item.instance.sop_instance_uid), item)
        repeated = len(snapshot.received) - len(listed)
        if repeated:
            sentence = f"{snapshot.archive} lists {repeated} SOP Instance UIDs more than once."
            entry = trail.Entry(study.id, snapshot.started_at, Event.STUDY_REMARK, sentence)
            trail.append(self._driver, [entry], kept=self.events_kept)
        return listed

    def _keep(
        self,
        study: StudyRow,
        uid: bytes,
        item: Received,
        held: Held | None,
        places: Places,
        generation: int,
    ) -> None:
        number = item.instance.number
        if held is None:
            place = places.make(study, item)
            self._added.append(Held(study.id, uid, *place, number, generation, self._bit))
            return
        kept = held._replace(archives=held.archives | self._bit)
        differs = (places.find(study, item), number) != ((held.series, held.header), held.number)
        if differs and not held.archives & self._precedence.before(self.archive_id):
            if held.generation > generation:
                self._is_doubtful = True  # it came during the read: which is newer is not known
                self._newer.add(held.header)
            else:
                series, header = places.make(study, item)
                kept = kept._replace(series=series, header=header, number=number)
        if kept != held:
            self._changed.append(kept)

    def _drop_unlisted(
        self,
        study: StudyRow,
        known: dict[bytes, Held],
        listed: dict[bytes, Received],
        stated: Sequence[Stated],
        snapshot: Snapshot,
    ) -> bool:
        """Drop what the archive does not list; return whether some stays, being newer."""
        own = [held for held in known.values() if held.archives & self._bit]
        confirmed = statements.confirmed(self._driver, study, stated, own)
        stays = False
        for held in own:
            if held.sop_instance_uid in listed or held.series in confirmed:
                continue
            if held.generation > snapshot.generation:
                self._newer.add(held.header)
                stays = True
            elif _is_told(snapshot):
                self._let_go(held)
        return stays

    def _let_go(self, held: Held) -> None:
        kept = held._replace(archives=held.archives & ~self._bit)
        (self._changed if kept.archives else self._removed).append(kept)
        if kept.archives and not held.archives & self._precedence.before(self.archive_id):
            self._bereft |= 1 << (self._precedence.first(kept.archives) - 1)

    def _stand(
        self,
        study: StudyRow,
        snapshot: Snapshot,
        listed: Iterable[Received],
        stated: Sequence[Stated],
        *,
        stays: bool,
    ) -> bool:
        """Write how the archive stands to the study; return whether it had been missing it."""
        headers = [*(item.instance.header for item in listed), *(one.header for one in stated)]
        is_held = bool(headers) or stays
        row = _archive_row(self.connection, study.id, self.archive_id)
        _settle_debts(row, snapshot.generation)
        row.series_count, row.instance_count = snapshot.series_count, snapshot.instance_count
        _keep_fingerprint(row, snapshot.fingerprint)
        if _is_told(snapshot):
            said = self._said(study, headers)
            named = frozenset(one.identity for one in said)
            row.patient_ids = with_issuers(named, row.patient_ids) if snapshot.of_rows else named
            row.patients = frozenset(one.person for one in said)
        was_missing = row.absences > 0
        if self._is_doubtful or (snapshot.absent and is_held):
            row.read_owed = study.generation
        if snapshot.absent and not is_held:
            row.absent_since = row.absent_since or snapshot.started_at
            row.absences += 0 if snapshot.believed and row.absences else 1
            row.fingerprints = {}  # whoever names it again has news
        else:
            row.absent_since, row.absences = None, 0
        write_study_archives(self._driver, [row])
        return was_missing and is_held

    def _said(self, study: StudyRow, headers: Iterable[Header]) -> list[Stored]:
        """Return what the archive says: in what it listed, and in what came during the read."""
        different = {id(header): header for header in headers}.values()
        newer = self._driver.rows(_TEXTS, study.id, sorted(self._newer)) if self._newer else []
        return [
            *(self.headers.store(header) for header in different),
            *(self.headers.store(load_header(text)) for (text,) in newer),
        ]

    def _ask_the_next(self, study: StudyRow, at: datetime) -> None:
        """Let archives be read whose word counts now for what this one held before them."""
        if not self._bereft:
            return
        study.news(at, self.settings)
        rows = study_archives(self._driver, [study.id]).values()
        for row in rows:
            if self._bereft >> (row.archive_id - 1) & 1:
                row.read_owed, row.changed = study.generation, True
        write_study_archives(self._driver, rows)


def stated_in(snapshot: Snapshot) -> PatientMarks:
    """Return whom a snapshot names."""
    headers = {id(one.instance.header): one.instance.header for one in snapshot.received}
    headers |= {id(one.header): one.header for one in snapshot.stated}
    stated = {identity_of(header) for header in headers.values()}
    return PatientMarks(stated=frozenset(one for one in stated if one is not None and one.value))


def verify(
    connection: Connection,
    claim: Claim,
    archive_id: int,
    series_count: int | None,
    instance_count: int | None,
    fingerprint: str | None,
) -> None:
    """Note that what an archive counts was compared with what is known, and is equal.

    Raises
    ------
    LeaseLost
    """
    lock_held(connection, claim)
    row = _archive_row(connection, claim.study_id, archive_id)
    if row.unverified is not None and row.unverified <= claim.generation:
        row.unverified = None
    row.series_count, row.instance_count = series_count, instance_count
    _keep_fingerprint(row, fingerprint)
    row.absent_since, row.absences = None, 0
    write_study_archives(Driver(connection), [row])


def _is_told(snapshot: Snapshot) -> bool:
    """Tell whether it says what the archive holds; an absence is only counted at first."""
    return snapshot.believed or not snapshot.absent


def _stated(study: StudyRow, snapshot: Snapshot) -> list[Stated]:
    """Return the series without instances; of one that is repeated the first statement counts."""
    found: dict[str, Stated] = {}
    for one in snapshot.stated:
        if one.study_instance_uid != study.study_instance_uid:
            raise ArchiveForeignInstance(study_instance_uid=study.study_instance_uid)
        found.setdefault(one.series_instance_uid, one)
    listed = {item.series_instance_uid for item in snapshot.received}
    return [one for uid, one in found.items() if uid not in listed]


def _held_study(connection: Connection, claim: Claim) -> StudyRow:
    row = lock_held(connection, claim)
    uid = claim.study_instance_uid
    return lock_studies(Driver(connection), [uid], row.received_at)[uid]


def _archive_row(connection: Connection, study_id: int, archive_id: int) -> ArchiveRow:
    key = study_id, archive_id
    row = study_archives(Driver(connection), [study_id]).get(key, ArchiveRow(*key))
    row.changed = True
    return row


def _settle_debts(row: ArchiveRow, generation: int) -> None:
    if row.read_owed is not None and row.read_owed <= generation:
        row.read_owed = None
    if row.unverified is not None and row.unverified <= generation:
        row.unverified = None


def _keep_fingerprint(row: ArchiveRow, fingerprint: str | None) -> None:
    others = {source: kept for source, kept in row.fingerprints.items() if source != OWN_READ}
    row.fingerprints = others if fingerprint is None else others | {OWN_READ: fingerprint}


def _write_counts(driver: Driver, study: StudyRow) -> None:
    study.pruned = study.pruned and not (study.instance_count or study.stated_series)
    counts = (
        study.series_count,
        study.instance_count,
        study.last_series,
        study.last_header,
        study.stated_series,
        study.stated_instances,
        study.pruned,
    )
    driver.run(_COUNTS, [(*counts, study.id)])
