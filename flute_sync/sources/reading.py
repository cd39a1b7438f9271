"""What reading a study brings, and what every archive offers that can be read."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from flute_sync.intake import Received, Refused, Stated
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.peer import Json
from flute_sync.sources.search import StudyRow
from flute_sync.sources.study_reading import Service
from flute_sync.study import SeriesInstanceUID, SOPInstanceUID, StudyInstanceUID


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What an archive holds of a study.

    ``row`` is what its study search said just before, None where it has none or did not find the
    study; ``started_at`` is when reading began. ``service`` tells how. ``stated`` are the series of
    which it tells no instances.
    """

    received: tuple[Received, ...]
    refused: tuple[Refused, ...]
    row: StudyRow | None
    started_at: datetime
    service: Service
    stated: tuple[Stated, ...] = ()

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


class ArchiveReader(Protocol):
    """Reads one archive; safe to use from several threads."""

    settings: ArchiveSettings

    @property
    def name(self) -> str:
        """The archive's name."""

    def probe(self) -> Verdict:
        """Try what the settings use, on one study.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized
            As every method.
        ArchiveCapabilityMissing
            When the archive lacks a service without which it cannot be read as the settings say.
        """

    def counts(self, study_instance_uid: StudyInstanceUID) -> StudyRow | None:
        """Look up what the archive says of a study; None when it does not find it.

        Raises
        ------
        ArchiveCapabilityMissing
            When it has no study search.
        """

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
            When nothing can be asked about the UID.
        """

    def content(
        self,
        study_instance_uid: StudyInstanceUID,
        series_instance_uid: SeriesInstanceUID,
        sop_instance_uid: SOPInstanceUID,
    ) -> Json | None:
        """Return all that the metadata of one instance say, such as what a report states.

        None where the archive does not hold it, or tells no metadata. Raises as `read`.
        """

    def close(self) -> None:
        """Close the connections."""
