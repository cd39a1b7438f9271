"""Bringing the ledger up to what the archive holds, before anything is said in FHIR."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from flute_sync.archive_errors import (
    ArchiveCapabilityMissing,
    ArchiveIncomplete,
    ArchiveStudyAbsent,
)
from flute_sync.daemon.agreement import agrees, held_instances
from flute_sync.daemon.pauses import ArchivePauses
from flute_sync.events import Event, fields
from flute_sync.ledger import Absence, Claim, Ledger, Snapshot
from flute_sync.rejection import notes_on_others
from flute_sync.sources.reading import ArchiveReader
from flute_sync.study import Study, StudyInstanceUID

log = logging.getLogger(__name__)

INDEXING_ATTEMPTS = 6
"""How often an archive that shows less than it accepted is asked again before it is believed."""


@dataclass(frozen=True, slots=True)
class Found:
    """A study as the ledger knows it now, and the archives that do not find it."""

    study: Study
    absences: tuple[Absence, ...] = ()


@dataclass(frozen=True)
class Reader:
    """Reads from the archives what a step needs.

    Parameters
    ----------
    archives
        By name; empty where nothing is behind us (``index`` without an archive).
    """

    ledger: Ledger
    archives: Mapping[str, ArchiveReader]
    pauses: ArchivePauses

    def study(self, claim: Claim) -> Found:
        """Return the study, after the archives were read or compared where that is owed.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized
            When an archive cannot be asked.
        ArchiveIncomplete, ArchiveStudyAbsent
            When an archive does not show yet what it accepted.
        """
        owed = {*claim.reads_owed, *(absence.archive for absence in claim.absences)}
        absences = {absence.archive: absence for absence in claim.absences}
        for name in sorted(owed & self.archives.keys()):
            self._read(claim, self.archives[name], absences)
        study = self.ledger.load(claim)
        unread = sorted((set(claim.unverified) - owed) & self.archives.keys())
        read = [
            name for name in unread if self._compare(claim, study, self.archives[name], absences)
        ]
        study = self.ledger.load(claim) if read else study
        if not absences and study.series:
            self._keep_notes(claim, study)
        return Found(study, tuple(absences.values()))

    def believe(self, claim: Claim, absences: Collection[Absence]) -> Study:
        """Take from the ledger what archives hold no more, and return what is left."""
        for absence in absences:
            gone = Snapshot(
                absence.archive, absence.since, claim.generation, absent=True, believed=True
            )
            self.ledger.snapshot(claim, gone)
        return self.ledger.load(claim)

    def _keep_notes(self, claim: Claim, study: Study) -> None:
        """Let other studies know what this one's rejection notes say of them."""
        notes = notes_on_others(study)
        if notes or claim.has_notes:
            self.ledger.keep_notes(claim, notes)

    def _compare(
        self, claim: Claim, study: Study, archive: ArchiveReader, absences: dict[str, Absence]
    ) -> bool:
        """Compare with the archive; return True when it had to be read."""
        try:
            with self.pauses.asking(archive.name):
                row = archive.counts(study.study_instance_uid)
        except ArchiveCapabilityMissing:
            row = None  # it has no study search: only reading tells
        else:
            if row is None and claim.attempts < INDEXING_ATTEMPTS:
                raise ArchiveStudyAbsent(study_instance_uid=claim.study_instance_uid)
        if row is not None and agrees(study, archive.name, row):
            self.ledger.verified(
                claim, archive.name, row.series_count, row.instance_count, row.fingerprint
            )
            return False
        stated = row.instance_count if row is not None else None
        missing = stated is not None and stated < held_instances(study, archive.name)
        if missing and claim.attempts < INDEXING_ATTEMPTS:
            raise ArchiveIncomplete(study_instance_uid=claim.study_instance_uid)
        self._read(claim, archive, absences)
        return True

    def _read(self, claim: Claim, archive: ArchiveReader, absences: dict[str, Absence]) -> None:
        started_at = datetime.now(UTC)
        with self.pauses.asking(archive.name):
            found = archive.read(StudyInstanceUID(claim.study_instance_uid))
        before = absences.pop(archive.name, Absence(archive.name, started_at, 0))
        if found is None:
            absences[archive.name] = replace(before, confirmations=before.confirmations + 1)
            self.ledger.snapshot(
                claim, Snapshot(archive.name, started_at, claim.generation, absent=True)
            )
            return
        for refused in found.refused:
            log.warning(
                "An instance of the archive cannot be used and is left out.",
                extra=fields(
                    Event.STUDY_REMARK,
                    study_instance_uid=claim.study_instance_uid,
                    archive=archive.name,
                    code=refused.code,
                    tag=refused.tag,
                ),
            )
        self.ledger.snapshot(
            claim,
            Snapshot(
                archive=archive.name,
                started_at=found.started_at,
                generation=claim.generation,
                received=found.received,
                stated=found.stated,
                series_count=found.series_count,
                instance_count=found.instance_count,
                fingerprint=found.fingerprint,
                of_rows=found.service != "wado-rs",
            ),
        )
