"""Erasing a patient: what is his, that it is not taken again, and all rows of it.

First it is made durable that nothing is taken any more. From then on no step of his studies begins,
and what arrives of them is not recorded; the steps in hand are waited for. His rows go last.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from flute_sync.erase_errors import PatientErased
from flute_sync.events import Event
from flute_sync.ledger import forgetting, trail
from flute_sync.ledger.columns import from_stored, load_identities, maybe_from_stored, to_stored
from flute_sync.ledger.database import Database
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.marks import AGREEMENT, Marks, known, mark_as
from flute_sync.ledger.rows import chunks
from flute_sync.ledger.values import Erasure, HeldStudy, PatientMarks
from flute_sync.study import PatientId, StudyInstanceUID
from flute_sync.task import State

_STUDIES: Final = (
    "SELECT study.id, study_instance_uid, state, next_attempt_at, resource_id, digest,"
    " series_count + stated_series, instance_count + stated_instances FROM study"
    " LEFT JOIN fhir_study ON fhir_study.study_id = study.id"
)
_BY: Final = (
    "patient_reference IN (?)",
    "identity IN (?)",
    "waiting_for IN (?)",
    "confirmed_identity IN (?)",
    "study.id IN (SELECT study_id FROM identity_key WHERE key IN (?))",
)
_HELD: Final = "SELECT study_instance_uid FROM study WHERE state = 'on-hold' AND code = ?"
_HIS: Final = "SELECT mark FROM erased_mark WHERE mark IN (?) AND erasure_id IN (?)"
_LINKS: Final = "SELECT study_id, reference FROM link WHERE ours AND study_id IN (?)"
_NAMING: Final = (
    "SELECT study_instance_uid, archive.name, patient_ids FROM study_archive"
    " JOIN study ON study.id = study_id JOIN archive ON archive.id = archive_id"
    " WHERE patient_ids LIKE ? ESCAPE '!'"
)
_STATED: Final = (
    "SELECT DISTINCT archive.name, patient_ids FROM study_archive"
    " JOIN archive ON archive.id = archive_id"
)
_ERASURES: Final = (
    "SELECT DISTINCT erasure.id, begun_at, finished_at FROM erasure"
    " JOIN erased_mark ON erasure_id = erasure.id WHERE mark IN (?) ORDER BY erasure.id"
)
_ITEMS: Final = "SELECT reference FROM erasure_item WHERE erasure_id = ? ORDER BY reference"
_BEGIN: Final = "INSERT INTO erasure (begun_at) VALUES (?) RETURNING id"
_AGAIN: Final = "UPDATE erasure SET finished_at = NULL WHERE id = ?"
_MARK: Final = (
    "INSERT INTO erased_mark (mark, erasure_id) VALUES (?, ?) ON CONFLICT (mark) DO NOTHING"
)
_ADD: Final = (
    "INSERT INTO erasure_item (erasure_id, reference) VALUES (?, ?)"
    " ON CONFLICT (erasure_id, reference) DO NOTHING"
)
_DROP: Final = "DELETE FROM erasure_item WHERE reference = ?"
_FINISH: Final = "UPDATE erasure SET finished_at = ? WHERE id = ?"
_LIFT: Final = "DELETE FROM erasure WHERE id IN (?)"


@dataclass(frozen=True, slots=True)
class ErasureBook:
    """The part of the ledger that knows of erasures; of one process, for any thread.

    Every method raises what those of `Ledger` raise where the database does not do its part.
    """

    database: Database
    clock: Callable[[], datetime]
    marks: Marks
    events_kept: int

    # -- who is erased -------------------------------------------------------------------------

    def studies(self, uids: Collection[str]) -> frozenset[str]:
        """Return which of these studies were erased."""
        with self.database.read() as connection:
            return self.marks.erased(Driver(connection), uids)

    def covers(self, patient: PatientMarks) -> bool:
        """Tell whether a patient, or one of the studies, was erased."""
        with self.database.read() as connection:
            driver = Driver(connection)
            if self.marks.erased(driver, patient.studies):
                return True
            return bool(known(driver, self.marks.of_patient(driver, patient)))

    def read_as(self, numbering: str) -> None:
        """Let Patient IDs be read under other settings: `flute_sync.erasure.numbering`."""
        self.marks.numbering = numbering

    def mark(self, text: str) -> str:
        """Return what the audit calls something by: nobody else can tell what it means."""
        with self.database.read() as connection:
            return self.marks.of(Driver(connection), "patient", text).hex()

    # -- what is his ---------------------------------------------------------------------------

    def held(
        self,
        references: Collection[str],
        keys: Collection[str],
        uids: Collection[StudyInstanceUID] = (),
    ) -> list[HeldStudy]:
        """Return the studies of a patient, by whatever of him they are known.

        Parameters
        ----------
        references
            ``Patient/ID``.
        keys
            Keyed hashes of his identifiers, as `Settlement.identity` and `Settlement.waiting_for`.
        uids
            Further studies of his.
        """
        with self.database.read() as connection:
            driver, found = Driver(connection), dict[int, tuple[object, ...]]()
            wanted = [(_BY[0], references), *((by, keys) for by in _BY[1:])]
            wanted.append(("study_instance_uid IN (?)", uids))
            for by, values in wanted:
                for part in chunks(sorted(set(values))):
                    rows = driver.rows(f"{_STUDIES} WHERE {by}", [*part])
                    found |= {row[0]: row[1:] for row in rows}
            links: dict[int, list[str]] = {}
            for ids in chunks([*found]):
                for study_id, reference in driver.rows(_LINKS, [*ids]):
                    links.setdefault(study_id, []).append(reference)
        return [self._held(row, links.get(study_id, ())) for study_id, row in found.items()]

    def _held(self, row: tuple[object, ...], links: Iterable[str]) -> HeldStudy:
        uid, state, until, resource_id, digest, series, instances = row
        in_hand = state == State.IN_PROGRESS and int(str(until)) > (to_stored(self.clock()) or 0)
        return HeldStudy(
            StudyInstanceUID(str(uid)),
            None if resource_id is None else str(resource_id),
            None if digest is None else str(digest),
            int(str(series)),
            int(str(instances)),
            in_hand,
            tuple(sorted(links)),
        )

    def turned_out(self, patient: PatientMarks) -> frozenset[StudyInstanceUID]:
        """Return the studies that are held since they turned out to be of an erased patient."""
        with self.database.read() as connection:
            driver = Driver(connection)
            numbers = [one.id for one in self._of(driver, self.marks.of_patient(driver, patient))]
            held = [uid for (uid,) in driver.rows(_HELD, PatientErased.code)]
            marks = self.marks.of_studies(driver, held) if numbers else {}
            his = {
                bytes(mark)
                for part in chunks([*marks.values()])
                for (mark,) in driver.rows(_HIS, [*part], numbers)
            }
        return frozenset(StudyInstanceUID(uid) for uid, mark in marks.items() if mark in his)

    def naming(self, value: str) -> dict[StudyInstanceUID, set[tuple[str, PatientId]]]:
        """Return the studies of which an archive states a Patient ID, with archive and identity."""
        found: dict[StudyInstanceUID, set[tuple[str, PatientId]]] = {}
        with self.database.read() as connection:
            pattern = f"%{_escaped(value)}%"
            for uid, archive, stated in Driver(connection).rows(_NAMING, pattern):
                for one in load_identities(stated):
                    if one is not None and one.value == value:
                        found.setdefault(uid, set()).add((archive, one))
        return found

    def stated(self) -> set[tuple[str, PatientId]]:
        """Return all identities that archives state of any study, with the archive."""
        with self.database.read() as connection:
            return {
                (archive, one)
                for archive, stated in Driver(connection).rows(_STATED)
                for one in load_identities(stated)
                if one is not None
            }

    # -- the erasure ---------------------------------------------------------------------------

    def of(self, patient: PatientMarks) -> list[Erasure]:
        """Return the erasures of a patient: one, or those of several who are now known as one."""
        with self.database.read() as connection:
            driver = Driver(connection)
            return self._of(driver, self.marks.of_patient(driver, patient))

    def _of(self, driver: Driver, marks: Collection[bytes]) -> list[Erasure]:
        rows = {row for part in chunks([*marks]) for row in driver.rows(_ERASURES, [*part])}
        return [
            Erasure(
                number,
                from_stored(begun),
                maybe_from_stored(finished),
                tuple(one for (one,) in driver.rows(_ITEMS, number)),
            )
            for number, begun, finished in sorted(rows)
        ]

    def begin(self, patient: PatientMarks, items: Iterable[str]) -> int:
        """Make durable that nothing of a patient is taken any more; return the erasure's number.

        Parameters
        ----------
        items
            ``Type/id`` of what is going to be deleted on the FHIR server.
        """

        def work(connection: Connection) -> int:
            driver = Driver(connection)
            driver.agree(AGREEMENT, alone=True)
            marks = self.marks.of_patient(driver, patient)
            earlier = self._of(driver, marks)
            number = earlier[0].id if earlier else self._new(driver)
            driver.changed(_AGAIN, number)
            marks += self.marks.of_studies(driver, patient.studies).values()
            driver.run(_MARK, [(mark, number) for mark in marks])
            driver.run(_ADD, [(number, one) for one in sorted(set(items))])
            return number

        return self.database.transact(work)

    def _new(self, driver: Driver) -> int:
        ((number,),) = driver.rows(_BEGIN, to_stored(self.clock()))
        return int(number)

    def add(self, uid: StudyInstanceUID, patient: PatientMarks) -> None:
        """Let a study be known as erased, since it is of an erased patient."""

        def work(connection: Connection) -> None:
            driver = Driver(connection)
            new = self.marks.of(driver, "study", uid)
            for mark in known(driver, self.marks.of_patient(driver, patient)):
                mark_as(driver, new, mark)

        self.database.transact(work)

    def done_with(self, items: Iterable[str]) -> None:
        """Note that nothing is left to do about some resources on the FHIR server."""
        gone = [(one,) for one in items]
        self.database.transact(lambda c: Driver(c).run(_DROP, gone))

    def forget(
        self,
        number: int,
        uids: Collection[StudyInstanceUID],
        references: Collection[str],
        gone: Collection[str] = (),
    ) -> int:
        """Delete all rows of a patient; return how many studies it was.

        Parameters
        ----------
        number
            Of the erasure, which knows his studies from now on.
        references
            ``Patient/ID`` of him.
        gone
            ``Type/id`` of resources that were deleted.

        Raises
        ------
        LedgerBusy
            A worker holds one of them.
        """

        def work(connection: Connection) -> int:
            driver = Driver(connection)
            driver.agree(AGREEMENT, alone=True)
            marks = self.marks.of_studies(driver, uids).values()
            driver.run(_MARK, [(mark, number) for mark in marks])
            count = forgetting.forget(driver, uids, self.clock())
            forgetting.forget_patient(driver, references, gone)
            return count

        return self.database.transact(work)

    def finish(self, patient: PatientMarks, sentence: str) -> None:
        """End the erasures of a patient; what remains on the FHIR server stays listed with them."""

        def work(connection: Connection) -> None:
            driver, now = Driver(connection), self.clock()
            for erasure in self._of(driver, self.marks.of_patient(driver, patient)):
                driver.changed(_FINISH, to_stored(now), erasure.id)
            entry = trail.Entry(None, now, Event.PATIENT_ERASED, sentence)
            trail.append(driver, [entry], kept=self.events_kept)

        self.database.transact(work)

    def lift(self, numbers: Collection[int]) -> None:
        """Let patients be taken again; how they were erased is forgotten."""

        def work(connection: Connection) -> None:
            driver = Driver(connection)
            driver.agree(AGREEMENT, alone=True)
            driver.changed(_LIFT, [*numbers])
            sentence = "An erased patient is taken again, since a person said so."
            entry = trail.Entry(None, self.clock(), Event.PATIENT_ALLOWED, sentence)
            trail.append(driver, [entry], kept=self.events_kept)

        self.database.transact(work)

    def clean(self) -> bool:
        """Leave nothing of deleted rows in the database's files; tell whether that was done.

        PostgreSQL's own VACUUM does it, in its time.
        """
        return self.database.rewrite()


def _escaped(text: str) -> str:
    stored = text.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(f"!{one}" if one in "!%_" else one for one in stored)
