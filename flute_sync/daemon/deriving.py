"""``[derived]``: variables that the structured reports of a study state, as Observations.

Off by default. The reports are read from the archive in the step of their study, which alone
writes what they state; the ordinary rules link it, since each Observation names its study.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from flute_sync.archive_errors import ArchiveAnswerTooLarge, ArchiveRefused
from flute_sync.bundle import Resource
from flute_sync.daemon.derived_settings import DerivedSettings
from flute_sync.daemon.pauses import ArchivePauses
from flute_sync.fhir.derived_observations import IN_ERROR, DerivedObservations
from flute_sync.fhir_errors import FhirAmbiguous, FhirCapabilityMissing, FhirRejected
from flute_sync.rejection import standing
from flute_sync.sources.reading import ArchiveReader
from flute_sync.sr_document import REPORTS, Document, Unreadable, document_of
from flute_sync.sr_variables import Silence, Stated, observation, stated_by
from flute_sync.study import SeriesInstanceUID, SOPInstanceUID, Study

_UNREAD: Final = "Reports are not all readable, so that what they state stays as it was"
_REFUSED: Final = "The FHIR server refuses an Observation of its reports"


@dataclass(frozen=True)
class Derived:
    """What became of the reports of a study: Observations that changed, and what was not taken."""

    changed: int = 0
    silences: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """A sentence for the trail; nothing where there is nothing to say."""
        said = []
        if self.changed:
            said.append(f" {self.changed} Observations of its reports were written.")
        said += [f" {silence}." for silence in self.silences]
        return "".join(said)


@dataclass(frozen=True)
class Deriver:
    """Keeps true what the reports of a study state.

    Parameters
    ----------
    archives
        By name.
    """

    settings: DerivedSettings
    archives: Mapping[str, ArchiveReader]
    pauses: ArchivePauses
    observations: DerivedObservations

    def keep_true(self, study: Study, resource: Resource, reference: str) -> Derived:
        """Read the reports of a study, and write what they state.

        Parameters
        ----------
        resource
            The ImagingStudy as the mapping makes it.
        reference
            ``ImagingStudy/ID`` of it on the server.

        Raises
        ------
        FluteSyncError
            When archive or FHIR server are not to be had. What they refuse keeps no study back.
        """
        if not self.settings.enabled:
            return Derived()
        subject = str(resource.get("subject", {}).get("reference", ""))
        if not subject.startswith("Patient/"):
            return Derived()
        found = () if resource["status"] == IN_ERROR else self._stated(study)
        if found is None:
            return Derived(silences=(_UNREAD,))
        started = resource.get("started")
        wanted = [
            observation(one, study=reference, subject=subject, effective=started)
            for one in found
            if isinstance(one, Stated)
        ]
        try:
            changed = self.observations.keep_true(reference, wanted)
        except (FhirAmbiguous, FhirCapabilityMissing, FhirRejected):
            return Derived(silences=(_REFUSED,))
        silences = (one for one in found if isinstance(one, Silence))
        return Derived(changed, tuple(f"No {one.kind}: {one.reason}" for one in silences))

    def _stated(self, study: Study) -> tuple[Stated | Silence, ...] | None:
        """Return what the reports state; None where one of them cannot be read."""
        reports = list(_reports(standing(study).study))
        if len(reports) > self.settings.max_reports:
            return None
        documents = []
        for report in reports:
            document = self._read(study, *report)
            if document is None:
                return None
            documents.append(document)
        return stated_by(study.study_instance_uid, documents)

    def _read(
        self, study: Study, holders: frozenset[str], series: SeriesInstanceUID, sop: SOPInstanceUID
    ) -> Document | None:
        """Read a report from the first archive that gives it out."""
        for name in (one for one in self.archives if one in holders):
            try:
                with self.pauses.asking(name):
                    found = self.archives[name].content(study.study_instance_uid, series, sop)
                document = None if found is None else document_of(found)
            except (ArchiveRefused, ArchiveAnswerTooLarge, Unreadable):
                continue
            if document is not None and document.sop_instance_uid == sop:
                return document
        return None


def _reports(
    study: Study,
) -> Iterator[tuple[frozenset[str], SeriesInstanceUID, SOPInstanceUID]]:
    for series in study.series:
        for sop_instance_uid, _, header in series.instances:
            if header.sop_class_uid in REPORTS:
                yield series.archives, series.series_instance_uid, sop_instance_uid
