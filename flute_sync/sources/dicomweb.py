"""The archive as we read it: WADO-RS metadata, or QIDO-RS where a server has no metadata.

References
----------
PS3.18 10.4.1.1.2 (metadata), 10.6 (search) and F (DICOM JSON) (2026b).
"""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Final

import httpx

from flute_sync.archive_errors import (
    ArchiveAnswerTooLarge,
    ArchiveCapabilityMissing,
    ArchiveRefused,
    ArchiveServerError,
    ArchiveUnavailable,
)
from flute_sync.errors import FluteSyncError, TransientError
from flute_sync.sources import header_tags as tags
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.dicom_json import uid_in
from flute_sync.sources.peer import Json, Peer
from flute_sync.sources.reading import ReadResult, Verdict
from flute_sync.sources.search import Search, StudyRow
from flute_sync.sources.study_reading import ABSENT, Reading, gather, require_legal
from flute_sync.study import SeriesInstanceUID, SOPInstanceUID, StudyInstanceUID

_OTHER_WAY: Final = (
    ArchiveRefused,
    ArchiveAnswerTooLarge,
    ArchiveServerError,
    ArchiveUnavailable,
)
"""Failures that may concern only the way a study is read."""


class Archive:
    """Reads one archive; safe to use from several threads.

    Parameters
    ----------
    transport
        Replaces the network.
    clock
        Aware, UTC.
    """

    def __init__(
        self,
        settings: ArchiveSettings,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._peer = Peer(
            settings,
            settings.dicomweb_url,
            name="archive",
            accept="application/dicom+json",
            transport=transport,
        )
        self.search = Search(self._peer, settings.page_size)
        allowed = "auto" if settings.metadata == "c-find" else settings.metadata
        self._reading = Reading(self._peer, self.search, allowed)

    @property
    def name(self) -> str:
        """The archive's name."""
        return self.settings.name

    def close(self) -> None:
        """Close the connections."""
        self._peer.close()

    def probe(self) -> Verdict:
        """Try the services on one study.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized
            As every method.
        ArchiveCapabilityMissing
            When the archive lacks a service without which it cannot be read as the settings say.
        """
        try:
            sample = self._first("/studies?limit=1")
        except ArchiveRefused as refusal:
            if self.settings.metadata == "wado-rs":
                return Verdict(search=False, metadata=None)
            raise ArchiveCapabilityMissing("no study search at archive.dicomweb_url") from refusal
        uid = uid_in(sample, tags.STUDY_INSTANCE_UID)
        if uid is None:
            return Verdict(search=True, metadata=None)
        try:
            found = self._first(f"/studies/{uid}/metadata")
            return Verdict(search=True, metadata=found is not None)
        except ArchiveRefused as refusal:
            if self.settings.metadata == "wado-rs":
                raise ArchiveCapabilityMissing("no study metadata") from refusal
            return Verdict(search=True, metadata=False)

    def _first(self, path: str) -> Json | None:
        with closing(self._peer.objects(path)) as found:
            return next(found, None)

    def counts(self, study_instance_uid: StudyInstanceUID) -> StudyRow | None:
        """Look up what the archive says of a study; None when it does not find it.

        Raises
        ------
        ArchiveCapabilityMissing
            When it has no study search.
        """
        require_legal(study_instance_uid)
        try:
            return self.search.study(study_instance_uid, self._clock())
        except ArchiveRefused as refusal:
            raise ArchiveCapabilityMissing("no study search") from refusal

    def read(self, study_instance_uid: StudyInstanceUID) -> ReadResult | None:
        """Read all instances of a study; None when the archive does not hold it.

        An instance that cannot be used is refused alone. Instances of other studies, which a
        server returns that does not heed what was asked, are left out.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError
            Worth another try.
        ArchiveUnauthorized, ArchiveRefused, ArchiveCapabilityMissing, ArchiveAnswerTooLarge
            Not so.
        HeaderUidInvalid
            When no address can be made of the UID.
        """
        require_legal(study_instance_uid)
        started_at = self._clock()
        row, searched = self._looked_up(study_instance_uid, started_at)
        failure: FluteSyncError | None = None  # two that a retry may mend are enough
        for way in self._reading.ways(study_instance_uid, row):
            try:
                received, refused = gather(study_instance_uid, way.read())
            except _OTHER_WAY as error:
                if isinstance(failure, TransientError) or error.retry_after:
                    raise
                failure = error
                continue
            if received or refused:
                return ReadResult(received, refused, row, started_at, way.service)
        _confirm_absence(row, failure, searched=searched)
        return None

    def content(
        self,
        study_instance_uid: StudyInstanceUID,
        series_instance_uid: SeriesInstanceUID,
        sop_instance_uid: SOPInstanceUID,
    ) -> Json | None:
        """Return all that the metadata of one instance say; None where it is not there.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError
            Worth another try.
        ArchiveUnauthorized, ArchiveRefused, ArchiveAnswerTooLarge
            Not so.
        """
        series = f"/studies/{study_instance_uid}/series/{series_instance_uid}"
        try:
            return self._first(f"{series}/instances/{sop_instance_uid}/metadata")
        except ArchiveRefused as refusal:
            if refusal.status in ABSENT:
                return None
            raise

    def _looked_up(
        self, study_instance_uid: StudyInstanceUID, at: datetime
    ) -> tuple[StudyRow | None, bool]:
        try:
            return self.search.study(study_instance_uid, at), True
        except ArchiveRefused:
            return None, False


def _confirm_absence(
    row: StudyRow | None, failure: FluteSyncError | None, *, searched: bool
) -> None:
    """Judge an empty hand: the study is absent, or the archive does not say what it holds."""
    absent = failure is None or (isinstance(failure, ArchiveRefused) and failure.status in ABSENT)
    if row is None and searched and absent:
        return
    if row is None and not searched:
        raise ArchiveCapabilityMissing("neither metadata nor study search answers") from failure
    raise failure or ArchiveServerError("it knows the study and returns nothing of it")
