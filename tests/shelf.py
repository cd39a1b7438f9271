"""An archive for tests of what stands above it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flute_sync.intake import Received, Stated
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.reading import ReadResult, Verdict
from flute_sync.sources.search import StudyRow
from flute_sync.sources.study_reading import Service
from flute_sync.study import StudyInstanceUID


@dataclass
class Shelf:
    """An archive whose content is set by hand; reports by SOP Instance UID."""

    settings: ArchiveSettings
    received: tuple[Received, ...] | None = None
    stated: tuple[Stated, ...] = ()
    service: Service = "wado-rs"
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.settings.name

    def probe(self) -> Verdict:
        return Verdict(search=True, metadata=True)

    def counts(self, study_instance_uid: StudyInstanceUID) -> StudyRow | None:
        raise NotImplementedError("nothing is forwarded to it")

    def read(self, study_instance_uid: StudyInstanceUID) -> ReadResult | None:
        if self.received is None:
            return None
        now = datetime.now(UTC)
        return ReadResult(self.received, (), None, now, self.service, self.stated)

    def content(self, study: str, series: str, sop_instance: str) -> dict[str, Any] | None:
        return self.reports.get(sop_instance)

    def close(self) -> None:
        """Nothing is open."""
