"""The ledger: the daemon's only memory, in SQLite or PostgreSQL."""

import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from flute_sync.completeness import StudySettings
from flute_sync.erase_errors import PatientErased
from flute_sync.intake import Cursor, Delivery, IntentId, Performed
from flute_sync.ledger import ask, holdings, removal, settling, steps, survey, target, work
from flute_sync.ledger.archives import Archives
from flute_sync.ledger.columns import HeaderStore, utc_now
from flute_sync.ledger.database import Database
from flute_sync.ledger.erasures import ErasureBook
from flute_sync.ledger.intake import IntakeWriter, read_cursor, write_cursor
from flute_sync.ledger.link_book import LinkBook
from flute_sync.ledger.marks import Marks
from flute_sync.ledger.migrate import prepare
from flute_sync.ledger.notes import keep, without
from flute_sync.ledger.reading import find_study, load_study
from flute_sync.ledger.regime import Regime
from flute_sync.ledger.settings import LedgerSettings
from flute_sync.ledger.snapshot import SnapshotWriter, stated_in, verify
from flute_sync.ledger.values import Claim, Missing, Settlement, Snapshot
from flute_sync.study import KeyObjects, Study, StudyInstanceUID
from flute_sync.task import State

STUCK_AFTER: Final = timedelta(minutes=2)


class Ledger:
    """The ledger of one process; every method may be called from any thread.

    What writes returns only after a durable commit. Every method raises `LedgerUnavailable`,
    `LedgerBusy` or `LedgerCorrupt` when the database does not do what it should.
    """

    def __init__(
        self,
        database: Database,
        settings: LedgerSettings,
        study: StudySettings,
        clock: Callable[[], datetime],
        archives: Sequence[str] = (),
        numbering: str = "",
    ) -> None:
        self._database = database
        self._settings = settings
        self._study = study
        self._clock = clock
        self._archives = Archives(database, tuple(archives))
        self._headers = HeaderStore()
        self._target_id: int | None = None
        self.links = LinkBook(database, clock, settings.events_per_study)
        """What was judged of links, and decided by people."""
        self._marks = Marks(numbering)
        self.erasures = ErasureBook(database, clock, self._marks, settings.events_per_study)
        """Who was erased, and is not taken again."""
        self.regime = Regime(database)
        """Under which pseudonyms studies are written, and from which kind of sources."""
        self._intake = IntakeWriter(
            database=database,
            archives=self._archives,
            headers=self._headers,
            settings=study,
            events_kept=settings.events_per_study,
            owner=uuid.uuid4().hex,
            lease=settings.lease,
            clock=clock,
            marks=self._marks,
        )

    @classmethod
    def open(
        cls,
        settings: LedgerSettings,
        study: StudySettings,
        *,
        create: bool,
        clock: Callable[[], datetime] = utc_now,
        archives: Sequence[str] = (),
        numbering: str = "",
    ) -> "Ledger":
        """Open the ledger, and make it where there is none and ``create`` allows it.

        Parameters
        ----------
        archives
            The archives as they are configured: where several hold an instance, the first of them
            says what is in its header. Others come after them, by name.
        numbering
            `flute_sync.erasure.numbering`: what an erased patient's header states counts under it.

        Raises
        ------
        LedgerAbsent
            When there is none.
        LedgerSchemaError
            When it has another revision than this version needs.
        LedgerCorrupt
            When the database is damaged or not a ledger.
        LedgerUnauthorized, ConfigurationError
        """
        database = Database(settings, create=create)
        try:
            prepare(database, create=create)
        except BaseException:
            database.close()
            raise
        return cls(database, settings, study, clock, archives, numbering)

    def bind_target(self, base_url: str) -> None:
        """Say which FHIR server this process writes to; needed before anything written settles.

        Raises
        ------
        LedgerTargetChanged
            When resources on another server are known.
        """
        self._target_id = self._database.transact(lambda c: target.bind(c, base_url))

    def close(self) -> None:
        """Finish commits in hand and close all connections; open intents stay for recovery."""
        self._intake.close()
        self._database.close()

    def try_again(self) -> None:
        """Write where the last commit failed: raise what is wrong, as a full disk, if it is."""
        if self._database.trouble is not None:
            self._database.transact(target.touch)

    def alive(self) -> bool:
        """Return whether commits come to an end; no thread of the ledger's own could die."""
        return self._intake.committing_for < STUCK_AFTER

    # -- what sources deliver (flute_sync.intake.Intake) ---------------------------------------

    def deliver(self, delivery: Delivery) -> frozenset[StudyInstanceUID]:
        """Commit a delivery; commits of concurrent senders are grouped.

        Returns the studies of which nothing was taken, since they were erased.

        Raises
        ------
        HeaderError, LedgerRefused
            When this delivery can never be committed.
        """
        return self._intake.deliver(delivery)

    def intend(self, source: str, archive: str, studies: Iterable[StudyInstanceUID]) -> IntentId:
        """Commit that something of these studies is about to be completed towards the archive."""
        return self._intake.intend(source, archive, studies)

    def extend(self, intent: IntentId, studies: Iterable[StudyInstanceUID]) -> None:
        """Add studies to an open intent, before their first part is completed."""
        self._intake.extend(intent, studies)

    def abandon(self, intent: IntentId) -> None:
        """Turn an intent into notices; when this fails, that happens once its lease ends."""
        self._intake.abandon(intent)

    def recover_intents(self) -> int:
        """Renew this process's intents and turn those nobody renews into notices.

        To be called at start and then several times within `LedgerSettings.lease`.
        """
        return self._intake.recover()

    def cursor(self, source: str, archive: str) -> str | None:
        """Return where a source stands, or None when it never ran."""
        with self._database.read() as connection:
            return read_cursor(connection, source, archive)

    def held(
        self, archive: str, after: StudyInstanceUID | None, limit: int
    ) -> tuple[StudyInstanceUID, ...]:
        """Return studies that an archive is believed to hold, in ascending order of their UIDs."""
        with self._database.read() as connection:
            return holdings.held(connection, archive, after, limit)

    def performed_step(self, sop_instance_uid: str) -> tuple[Performed, ...]:
        """Return a step as it stands, for each study that it is of; none where none was told."""
        with self._database.read() as connection:
            return steps.performed_step(connection, sop_instance_uid)

    def set_cursor(self, cursor: Cursor) -> None:
        """Move a source without news."""
        archive_id = self._archives.id_of(cursor.archive)
        self._database.transact(lambda c: write_cursor(c, cursor, archive_id))

    # -- work ----------------------------------------------------------------------------------

    def claim(self, owner: str) -> Claim | None:
        """Take the study that is due longest, or none; also one whose lease ended.

        It writes even when there is none: `next_due` tells for less whether it is worth it.
        """
        now, lease = self._clock(), self._settings.lease
        # A power cut ends who claimed, too: then nothing is lost with the claim.
        return self._database.transact(lambda c: work.claim(c, owner, now, lease), durable=False)

    def next_due(self) -> datetime | None:
        """Return when the next study may be claimed or the next lease ends."""
        with self._database.read() as connection:
            return work.next_due(connection)

    def renew(self, owner: str) -> int:
        """Prolong the leases of this owner; to be called several times within a lease."""
        until = self._clock() + self._settings.lease
        return self._database.transact(lambda c: work.renew(c, owner, until))

    def release(self, owner: str) -> int:
        """Hand back all that this owner holds."""
        return self._database.transact(lambda c: work.release(c, owner, self._clock()))

    def load(self, claim: Claim) -> Study:
        """Return all that is known of a study."""
        with self._database.read() as connection:
            return load_study(connection, claim.study_id, self._archives.order)

    def snapshot(self, claim: Claim, snapshot: Snapshot) -> None:
        """Replace what one archive was said to hold by what it listed.

        Instances that arrived after ``snapshot.generation`` stay.

        Raises
        ------
        LeaseLost
        ArchiveForeignInstance
            When it lists instances of another study.
        PatientErased
            When it names an erased patient.
        """
        archive_id = self._archives.id_of(snapshot.archive)
        kept, order = self._settings.events_per_study, self._archives.order

        def work(connection: Connection) -> None:
            writer = SnapshotWriter(
                connection, self._headers, self._study, archive_id, kept, self._marks, order
            )
            writer.write(claim, snapshot)

        try:
            self._database.transact(work)
        except PatientErased:
            self.erasures.add(claim.study_instance_uid, stated_in(snapshot))
            raise

    def keep_notes(self, claim: Claim, notes: Iterable[KeyObjects]) -> int:
        """Keep what a study's rejection notes say of other studies; those are looked at again.

        Returns for how many of them that is news.

        Raises
        ------
        LeaseLost
        """
        kept = self._settings.events_per_study
        said = list(notes)
        named = {one.study_instance_uid for note in said for one in note.references}
        erased = self.erasures.studies(named) if named else frozenset()
        said = [without(note, erased) for note in said]
        return self._database.transact(
            lambda c: keep(c, claim, said, self._clock(), self._study, kept)
        )

    def has_moved(self, claim: Claim) -> bool:
        """Tell whether all that is known of a study is known under other studies too."""
        with self._database.read() as connection:
            return removal.has_moved(connection, claim.study_id)

    def look_for_missing(self, archive: str) -> int:
        """Look now for what an archive is missing and was not believed about; return how many."""
        archive_id = self._archives.id_of(archive)
        return self._database.transact(lambda c: removal.look_now(c, archive_id, self._clock()))

    def missing(self, archive: str, after: datetime) -> Missing:
        """Count the studies that an archive is missing since later than ``after``."""
        archive_id = self._archives.id_of(archive)
        with self._database.read() as connection:
            return removal.missing(connection, archive_id, after)

    def verified(
        self,
        claim: Claim,
        archive: str,
        series_count: int | None,
        instance_count: int | None,
        fingerprint: str | None = None,
    ) -> None:
        """Note that an archive's counts were compared with what is known, and are equal.

        Raises
        ------
        LeaseLost
        """
        archive_id = self._archives.id_of(archive)
        self._database.transact(
            lambda c: verify(c, claim, archive_id, series_count, instance_count, fingerprint)
        )

    def settle(self, claim: Claim, settlement: Settlement) -> State:
        """End a step and return the state that follows: RECEIVED where news came meanwhile.

        Raises
        ------
        LeaseLost
            When another worker took the study over.
        LedgerTargetChanged
            When the ledger is bound to another server than this process.
        """
        more = self._target_id, self._settings.events_per_study
        return self._database.transact(
            lambda c: settling.Settler(c, self._study, self._clock(), *more).settle(
                claim, settlement
            )
        )

    def wake_patients(self, keys: Collection[str]) -> int:
        """Make ready the studies of some Patients; return how many.

        Parameters
        ----------
        keys
            `Settlement.waiting_for` of studies that wait, `Settlement.patient_reference` of others.
        """
        return self._database.transact(lambda c: work.wake(c, keys, self._clock()))

    def wake_identified(self, keys: Collection[str]) -> int:
        """Make ready the studies written by these identifiers; return how many.

        Parameters
        ----------
        keys
            `Settlement.identity` of studies.
        """
        return self._database.transact(lambda c: work.wake_identified(c, keys, self._clock()))

    def rejudge(self, rules: str) -> int:
        """Make ready the studies that other rules judged; return how many."""
        return self._database.transact(lambda c: work.rejudge(c, rules, self._clock()))

    def replay(self, study_instance_uid: StudyInstanceUID) -> None:
        """Make a study ready because a person asks for it; its archives are read again.

        Raises
        ------
        StudyUnknown
        """
        kept = self._settings.events_per_study
        self._database.transact(lambda c: work.replay(c, study_instance_uid, self._clock(), kept))

    # -- what people and monitors ask ----------------------------------------------------------

    def status(self, now: datetime) -> ask.Status:
        """Return how the work stands."""
        with self._database.read() as connection:
            return ask.status(connection, now)

    def study(self, study_instance_uid: StudyInstanceUID) -> Study:
        """Return all that is known of a study, whoever works on it.

        Raises
        ------
        StudyUnknown
        """
        with self._database.read() as connection:
            return find_study(connection, study_instance_uid, self._archives.order)

    def study_view(self, study_instance_uid: StudyInstanceUID) -> ask.StudyView:
        """Return one study as the ledger sees it.

        Raises
        ------
        StudyUnknown
        """
        with self._database.read() as connection:
            return ask.study_view(connection, study_instance_uid)

    def standings(
        self, studies: Collection[StudyInstanceUID], *, at_rest: bool = False
    ) -> dict[StudyInstanceUID, survey.Standing]:
        """Return how the work on these studies stands, as far as they are known."""
        with self._database.read() as connection:
            return survey.standings(connection, studies, at_rest=at_rest)

    def known(self, studies: Sequence[StudyInstanceUID]) -> list[survey.Known]:
        """Return what is known of these studies, without their instances."""
        with self._database.read() as connection:
            return survey.known(connection, studies)

    def census(self, after: int, limit: int) -> tuple[list[survey.Known], int]:
        """Return all studies in portions: some, and what to call this with for those after them."""
        with self._database.read() as connection:
            return survey.census(connection, after, limit)
