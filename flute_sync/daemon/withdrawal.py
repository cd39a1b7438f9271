"""What becomes of a study that archives hold no more: the part of a step that judges absence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from flute_sync.daemon.linking import Linker, news_of
from flute_sync.daemon.outcomes import left_out, vanishing, withdrawn
from flute_sync.daemon.reading import Found as Read
from flute_sync.daemon.reading import Reader
from flute_sync.daemon.removal import Brake, RemovalSettings, judge
from flute_sync.fhir.imaging_studies import ImagingStudies
from flute_sync.ledger import Claim, Settlement
from flute_sync.ownership import withdrawn_from
from flute_sync.rejection import Status, standing
from flute_sync.study import Study

_TAKEN_BACK: Final = frozenset({Status.ENTERED_IN_ERROR, Status.CANCELLED})


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a study for the step to say; None where nothing is, or not yet.

    ``believed``: what archives do not find is not in ``study`` any more. Otherwise it is to be
    looked for again.
    """

    study: Study | None
    believed: bool
    next_look: datetime
    doubted: bool = False


@dataclass(frozen=True, slots=True)
class Removals:
    """Judges absences, and writes what follows where nothing is left.

    Parameters
    ----------
    linker
        Judges which links it keeps: a newer study may have taken some.
    endpoints
        Makes the references of the Endpoints of all archives.
    """

    reader: Reader
    studies: ImagingStudies
    linker: Linker
    endpoints: Callable[[], Mapping[str, tuple[str, ...]]]
    settings: RemovalSettings
    brake: Brake

    def judge(self, claim: Claim, read: Read, now: datetime) -> Left:
        """Judge what was read.

        An archive that never held anything of the study is missing nothing of it.

        Raises
        ------
        FluteSyncError
            When the ledger does not do its part.
        """
        study = read.study
        lost = [absence for absence in read.absences if absence.archive in study.archives]
        if not lost and (study.series or study.steps or not read.absences):
            return Left(study, believed=True, next_look=now)
        is_gone = {absence.archive for absence in lost} >= study.archives
        if lost and is_gone and (explained := self._explained(claim, study)) is not None:
            return Left(explained, believed=True, next_look=now)
        absences = lost or read.absences
        verdict = judge(claim, absences, self.settings, self.brake, now, was_held=bool(lost))
        if not verdict.believed:
            left = None if is_gone else study
            return Left(left, False, verdict.next_look, verdict.doubted)
        rest = self.reader.believe(claim, lost) if lost else study
        return Left(rest if rest.series else None, True, verdict.next_look)

    def _explained(self, claim: Claim, study: Study) -> Study | None:
        """Return the study where its absence is no riddle: it was taken back, or has moved."""
        state = standing(study)
        if state.status in _TAKEN_BACK or state.retention_expired:
            return study
        return replace(study, moved=True) if self.reader.ledger.has_moved(claim) else None

    def settle(self, claim: Claim, study: Study, left: Left) -> Settlement:
        """End the step of a study of which nothing is left, or perhaps nothing.

        Raises
        ------
        FluteSyncError
            When the FHIR server does not do its part.
        """
        if not left.believed:
            return vanishing(left.next_look, doubted=left.doubted)
        if claim.has_notes:  # nobody keeps them any more
            self.reader.ledger.keep_notes(claim, ())
        row = claim.fhir
        if row is None:
            return left_out("no archive holds it and FHIR never knew it", prune=True)
        current = self.studies.find(study.study_instance_uid, known_id=row.resource_id).study
        if current is None or not isinstance(current.get("subject"), dict):
            return left_out("no archive holds it and FHIR holds it no more", prune=True)
        status = str(current.get("status"))
        if status in _TAKEN_BACK:
            return withdrawn(status, None, row)
        ours = {reference for of in self.endpoints().values() for reference in of}
        said = withdrawn_from(current, ours, Status.UNKNOWN.value)
        plan = self.linker.plan(claim, said, current, last_digest=row.digest)
        written = self.studies.write(
            study.study_instance_uid,
            plan.resource,
            current,
            last_digest=row.digest,
            known_id=row.resource_id,
            dropped=plan.dropped,
            account=plan.account,
        )
        # What is ours among it is what was written before: the digest of that stays.
        kept = replace(row, version_id=written.version_id)
        settlement = withdrawn(Status.UNKNOWN.value, written, kept)
        return replace(settlement, links=news_of(plan, written))
