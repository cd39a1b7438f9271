"""The archives of a site, each with the sources that watch it and the identifiers it gives out."""

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from flute_sync.identity import PatientSettings
from flute_sync.settings import Settings, TimeZone, Uri
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.change_feed_settings import ChangeFeedSettings
from flute_sync.sources.find_settings import FindScuSettings
from flute_sync.sources.orthanc_settings import OrthancChangesSettings
from flute_sync.sources.poller_settings import QidoRsSettings
from flute_sync.sources.sweep_settings import SweepSettings


class ArchiveEntry(ArchiveSettings):
    """``[archive]``: the PACS that is read, watched and forwarded to.

    A site with several has ``[[archives]]`` instead, each with these settings and a name of its
    own. A study that is in two of them is one ImagingStudy with the Endpoints of both.
    """

    timezone: TimeZone | None = None
    """Zone of this archive's DICOM times without (0008,0201); none: ``site.timezone``."""

    patient_default_system: Uri | None = None
    """Identifier system of this archive's Patient IDs that name no issuer; none:
    ``patient.default_system``."""

    patient_systems: Mapping[str, Uri] = {}
    """Issuers of Patient IDs that mean something else in this archive than ``patient.systems``
    says."""

    retrieve_ae_titles: tuple[str, ...] = ()
    """AE titles under which this archive's images are retrieved, by which notifications name it."""

    qido_rs: QidoRsSettings | None = None
    """This archive's own ``[qido_rs]``; none: the one of all archives."""

    find_scu: FindScuSettings | None = None
    """This archive's own ``[find_scu]``."""

    orthanc_changes: OrthancChangesSettings | None = None
    """This archive's own ``[orthanc_changes]``."""

    change_feed: ChangeFeedSettings | None = None
    """This archive's own ``[change_feed]``; none: the one of all archives."""

    @property
    def zone(self) -> ZoneInfo | None:
        """The time zone as a value."""
        return ZoneInfo(self.timezone) if self.timezone else None

    def patient_settings(self, site: PatientSettings) -> PatientSettings:
        """Return how the patients of this archive are identified."""
        return site.model_copy(
            update={
                "default_system": self.patient_default_system or site.default_system,
                "systems": {**site.systems, **self.patient_systems},
            }
        )

    def watched_by(self, shared: Mapping[str, Settings]) -> "ArchiveEntry":
        """Return the entry with the pollers of all archives where it states none of its own."""
        own = {name: getattr(self, name) or shared[name] for name in POLLERS}
        return self.model_copy(update=own)

    @property
    def is_watched(self) -> bool:
        """Whether any poller of its own is enabled."""
        watched = any(getattr(getattr(self, name), "enabled", False) for name in POLLERS)
        return watched or self.sweep is not None

    @property
    def sweep(self) -> SweepSettings | None:
        """How the whole archive is looked at, where that is wanted, or may be."""
        own = (self.qido_rs, self.find_scu, self.orthanc_changes)
        sweeps = (one.sweep for one in own if one is not None)
        wanted = next((sweep for sweep in sweeps if sweep.enabled), None)
        if wanted is None and self.orthanc_changes is not None and self.orthanc_changes.enabled:
            return self.orthanc_changes.sweep  # its feed asks for one where it does not tell all
        return wanted

    @property
    def is_read_by_find(self) -> bool:
        """Whether studies are read by C-FIND, not by DICOMweb."""
        return self.metadata == "c-find" or (self.metadata == "auto" and self._is_known_by_find)

    @property
    def _is_known_by_find(self) -> bool:
        """Whether where it is was told for C-FIND alone."""
        pollers = [name for name in POLLERS if getattr(getattr(self, name), "enabled", False)]
        return pollers == ["find_scu"] and "dicomweb_url" not in self.model_fields_set

    @property
    def published_url(self) -> str | None:
        """The DICOMweb address that an Endpoint tells; None where none was stated."""
        stated = self.model_fields_set & {"dicomweb_url", "public_url"}
        return self.endpoint_url if stated or not self.is_read_by_find else None


POLLERS = ("qido_rs", "find_scu", "orthanc_changes", "change_feed")
"""Sections of sources that watch one archive; each may stand alone or in an archive's table."""

ADDRESSED = ("find_scu", "orthanc_changes")
"""Those of them with an address of their own, which can serve one archive only."""
