"""The archive as we read it: WADO-RS metadata, or QIDO-RS where a server has no metadata.

References
----------
PS3.18 10.4.1.1.2 (metadata), 10.6 (search) and F (DICOM JSON) (2026b).
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import httpx
from pydantic import Field

from flute_sync.archive_errors import (
    ArchiveAnswerTooLarge,
    ArchiveCapabilityMissing,
    ArchiveRefused,
    ArchiveServerError,
    ArchiveUnavailable,
)
from flute_sync.dicom_errors import HeaderUidInvalid
from flute_sync.errors import FluteSyncError, TransientError
from flute_sync.intake import Received, Refused
from flute_sync.settings import HttpUrl
from flute_sync.sources import header_tags as tags
from flute_sync.sources.dicom_json import uid_in
from flute_sync.sources.peer import Json, Peer, PeerSettings
from flute_sync.sources.search import Search, StudyRow
from flute_sync.sources.study_reading import ABSENT, Reading, Service, gather
from flute_sync.study import StudyInstanceUID
from flute_sync.valuerep import ILLEGAL, uid_problem

_OTHER_WAY: Final = (
    ArchiveRefused,
    ArchiveAnswerTooLarge,
    ArchiveServerError,
    ArchiveUnavailable,
)
"""Failures that may concern only the way a study is read."""


class ArchiveSettings(PeerSettings):
    """``[archive]``: the PACS from which metadata is read and to which uploads are forwarded."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$")] = "pacs"
    """The archive's name in the log and in the identifier of its Endpoint; keep it."""

    dicomweb_url: HttpUrl = "http://127.0.0.1:8042/dicom-web"
    """The DICOMweb address that is read from and forwarded to."""

    public_url: HttpUrl | None = None
    """The address that Endpoint tells to others, where it is not ``dicomweb_url``."""

    metadata: Literal["auto", "wado-rs", "qido-rs"] = "auto"
    """How a study is read: ``auto`` tries WADO-RS for the study, then by series, then QIDO-RS."""

    page_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    """How many rows of a search are asked for at once; fewer may come."""

    @property
    def endpoint_url(self) -> str:
        """The address that others should use."""
        return (self.public_url or self.dicomweb_url).rstrip("/")


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What an archive holds of a study.

    ``row`` is what its study search said just before, None where it has none or did not find the
    study; ``started_at`` is when reading began. ``service`` tells how.
    """

    received: tuple[Received, ...]
    refused: tuple[Refused, ...]
    row: StudyRow | None
    started_at: datetime
    service: Service

    @property
    def series_count(self) -> int | None:
        """Number of Study Related Series (0020,1206), where stated."""
        return self.row.series_count if self.row else None

    @property
    def instance_count(self) -> int | None:
        """Number of Study Related Instances (0020,1208), where stated."""
        return self.row.instance_count if self.row else None

    @property
    def fingerprint(self) -> str | None:
        """What a poller would say of the study as it was just before the read."""
        return self.row.fingerprint if self.row else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an archive offers; ``metadata`` is None while it holds no study to try it on."""

    search: bool
    metadata: bool | None


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
        self._reading = Reading(self._peer, self.search, settings.metadata)

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
        _check(study_instance_uid)
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
        _check(study_instance_uid)
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

    def _looked_up(
        self, study_instance_uid: StudyInstanceUID, at: datetime
    ) -> tuple[StudyRow | None, bool]:
        try:
            return self.search.study(study_instance_uid, at), True
        except ArchiveRefused:
            return None, False


def _check(study_instance_uid: StudyInstanceUID) -> None:
    if uid_problem(study_instance_uid) == ILLEGAL:
        raise HeaderUidInvalid(tag=tags.tag_text(tags.STUDY_INSTANCE_UID))


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
