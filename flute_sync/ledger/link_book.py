"""What was judged of links, what people decided on them, and whom to judge again."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import Connection, update

from flute_sync.events import Event
from flute_sync.ledger import link_moves, links, trail
from flute_sync.ledger.columns import to_stored
from flute_sync.ledger.database import Database
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.rows import chunks
from flute_sync.ledger.tables import study
from flute_sync.ledger.values import Claim, HeldLink, LinkDecision, LinkRow, PatientLinks
from flute_sync.ledger.work import lock_held, make_ready, raised
from flute_sync.ledger_errors import LinkUndecided, StudyUnknown
from flute_sync.study import StudyInstanceUID
from flute_sync.task import State, TaskEvent

Verb = Literal["add", "remove", "release"]

_DECIDE: Final = (
    "INSERT INTO link_decision (study_id, reference, verb, why, at) VALUES (?, ?, ?, ?, ?)"
)
_PATIENTS: Final = (
    "SELECT DISTINCT patient_reference FROM study WHERE patient_reference IS NOT NULL"
    " AND patient_reference > ? ORDER BY patient_reference LIMIT ?"
)
_JUDGED_FOR: Final = (
    "SELECT DISTINCT patient_reference FROM link JOIN study ON study.id = link.study_id"
    " WHERE reference IN (?) AND patient_reference IS NOT NULL"
)
_WITH_STUDIES: Final = "SELECT DISTINCT patient_reference FROM study WHERE patient_reference IN (?)"
_WRITTEN: Final = "SELECT resource_id, version_id FROM fhir_study WHERE resource_id IN (?)"
_DONE: Final = {"add": "added a link", "remove": "refused a link", "release": "left to the rules"}


@dataclass(frozen=True, slots=True)
class LinkView:
    """What was judged last of one study, and what people decided on it."""

    study_instance_uid: StudyInstanceUID
    rows: tuple[LinkRow, ...]
    decisions: tuple[LinkDecision, ...]


class LinkBook:
    """The part of the ledger that knows of links; of one process, for any thread.

    Every method raises what those of `Ledger` raise where the database does not do its part.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime], events_kept: int) -> None:
        self._database = database
        self._clock = clock
        self._kept = events_kept

    def of_patient(
        self, references: Sequence[str], studies: Collection[StudyInstanceUID] = ()
    ) -> PatientLinks:
        """Return what is known of a patient's links.

        Parameters
        ----------
        references
            ``Patient/ID``; then those who were merged into him.
        studies
            Further studies that are his, whatever is known of them.
        """
        with self._database.read() as connection:
            return links.of_patient(connection, references, studies)

    def concern(self, claim: Claim, patient_reference: str | None) -> bool:
        """Tell whether a study has links, or anybody decided on those of its patient."""
        with self._database.read() as connection:
            return links.concern(connection, claim.study_id, patient_reference)

    def plan(
        self,
        claim: Claim,
        rows: Collection[LinkRow],
        gains: Collection[str] = (),
        beside: Collection[StudyInstanceUID] = (),
    ) -> tuple[HeldLink, ...]:
        """Keep, before they are written, which links are going to be ours.

        Returns those that studies of other patients have, and must give up first.

        Parameters
        ----------
        rows
            Links of this study; what is held is not kept.
        gains
            ``Type/id`` of what other studies of the patient are going to gain; it is asked for too.
        beside
            The studies of the patient: which of them has a link, the judgement knew.

        Raises
        ------
        LeaseLost
        """

        def work(connection: Connection) -> tuple[HeldLink, ...]:
            lock_held(connection, claim)
            driver = Driver(connection)
            return link_moves.take(driver, claim.study_id, rows, gains, beside)

        return self._database.transact(work)

    def view(self, study_instance_uid: StudyInstanceUID) -> LinkView:
        """Return what was judged last of one study.

        Raises
        ------
        StudyUnknown
        """
        with self._database.read() as connection:
            study_id = _known(connection, study_instance_uid)
            driver = Driver(connection)
            rows = links.rows_of(driver, [study_id]).get(study_id, [])
            return LinkView(
                study_instance_uid, tuple(rows), tuple(links.decisions_of(driver, [study_id]))
            )

    def decide(
        self, study_instance_uid: StudyInstanceUID, reference: str, verb: Verb, why: str
    ) -> None:
        """Keep a person's word on a link, and let the study be judged again.

        Raises
        ------
        StudyUnknown
        LinkUndecided
            There is nothing to release.
        """
        self._database.transact(lambda c: self._decide(c, study_instance_uid, reference, verb, why))

    def _decide(
        self, connection: Connection, uid: StudyInstanceUID, reference: str, verb: Verb, why: str
    ) -> None:
        study_id, driver, now = _known(connection, uid), Driver(connection), self._clock()
        decided = {one.reference for one in links.decisions_of(driver, [study_id])}
        if verb == "release" and reference not in decided:
            raise LinkUndecided()
        driver.run(_DECIDE, [(study_id, reference, verb, why, to_stored(now))])
        this = study.c.id == study_id
        connection.execute(
            update(study)
            .where(this, study.c.state == State.IN_PROGRESS.value)
            .values(**raised(now))
        )
        connection.execute(make_ready(TaskEvent.WAKE, now).where(this))
        sentence = f"A person {_DONE[verb]}: {reference}."
        entry = trail.Entry(study_id, now, Event.LINK_DECIDED, sentence)
        trail.append(driver, [entry], kept=self._kept)

    def judge_again(self, references: Collection[str]) -> int:
        """Let the studies of some patients be judged again; return how many are ready for that.

        A step in hand is taken again after it ends: what came meanwhile is not missed.

        Parameters
        ----------
        references
            ``Patient/ID`` of patients of whom something changed.
        """
        return self._database.transact(lambda c: links.touch(c, references, self._clock()))

    def judged_for(self, references: Collection[str]) -> frozenset[str]:
        """Return the patients for whose studies some resources were judged, taken or refused.

        A resource that went to another patient, or is gone, names the one no more who had it.

        Parameters
        ----------
        references
            ``Type/id`` of the resources.
        """
        with self._database.read() as connection:
            driver = Driver(connection)
            return frozenset(
                patient
                for part in chunks(sorted(set(references)))
                for (patient,) in driver.rows(_JUDGED_FOR, [*part])
            )

    def with_studies(self, references: Collection[str]) -> frozenset[str]:
        """Return those of some patients who have studies here.

        Parameters
        ----------
        references
            ``Patient/ID``.
        """
        with self._database.read() as connection:
            driver = Driver(connection)
            return frozenset(
                patient
                for part in chunks(sorted(set(references)))
                for (patient,) in driver.rows(_WITH_STUDIES, [*part])
            )

    def written(self, resource_ids: Collection[str]) -> frozenset[tuple[str, str | None]]:
        """Return the ids of some ImagingStudies with the versions that we wrote last."""
        with self._database.read() as connection:
            driver = Driver(connection)
            return frozenset(
                (resource_id, version)
                for part in chunks(sorted(set(resource_ids)))
                for resource_id, version in driver.rows(_WRITTEN, [*part])
            )

    def patients(self, after: str, limit: int) -> list[str]:
        """Return references of patients who have studies, in order, in portions.

        Parameters
        ----------
        after
            The last one of the portion before; empty to begin.
        """
        with self._database.read() as connection:
            return [one for (one,) in Driver(connection).rows(_PATIENTS, after, limit)]


def _known(connection: Connection, uid: StudyInstanceUID) -> int:
    study_id = links.study_id_of(connection, uid)
    if study_id is None:
        raise StudyUnknown(study_instance_uid=uid)
    return study_id
