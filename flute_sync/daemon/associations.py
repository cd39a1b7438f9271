"""What listens for DICOM associations, with all that it serves."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

from flute_sync.daemon.config import Config
from flute_sync.daemon.stats import Stats
from flute_sync.intake import Intake
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.dimse_acceptor import Acceptor
from flute_sync.sources.dimse_services import NormalizedService, NormalizedServices
from flute_sync.sources.header import HeaderReader
from flute_sync.sources.ian import InstanceAvailability
from flute_sync.sources.mpps import PerformedSteps
from flute_sync.sources.storage_commitment import StorageCommitment
from flute_sync.sources.store_forward import ForwardSink
from flute_sync.sources.store_index import IndexSink
from flute_sync.sources.store_pacs import PacsOutlets
from flute_sync.sources.store_sink import Sink
from flute_sync.sources.store_stow import StowOutlets


class Associations:
    """The listener, and what works behind it."""

    def __init__(self, config: Config, intake: Intake, stats: Stats) -> None:
        self._config = config
        self._intake = intake
        settings = config.store_scp
        self._behind = config.archive_named(settings.archive) or ArchiveSettings()
        self._open = ExitStack()
        self._headers = HeaderReader(config.header)
        self._commitment = self._storage_commitment() if self._commits else None
        services = tuple(self._services())
        self._outlets: StowOutlets | None = None
        self._acceptor = Acceptor(
            settings,
            self._sink(),
            (NormalizedServices(services),) if services else (),
            count=stats.store,
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._acceptor.port

    def start(self) -> None:
        """Return when associations are taken; raises as `Acceptor.start`."""
        if self._commitment is not None:
            self._commitment.start()
        self._acceptor.start()

    def alive(self) -> bool:
        """Tell whether all of it runs."""
        parts = (self._acceptor, self._outlets, self._commitment)
        return all(part.alive() for part in parts if part is not None)

    def reload(self) -> None:
        """Read the certificates again; raises as `Acceptor.reload`."""
        self._acceptor.reload()

    def stop(self, grace: timedelta) -> None:
        """End what is open, then what is behind it."""
        self._acceptor.stop(grace)
        if self._commitment is not None:
            self._commitment.stop(timedelta(seconds=5))
        self._open.close()

    def _sink(self) -> Sink:
        settings = self._config.store_scp
        if settings.mode == "index":
            final = self._config.archive_named(settings.archive) is None
            return IndexSink(self._intake, self._headers, self._behind.name, final=final)
        if settings.way == "c-store" and settings.pacs is not None:
            outlet = PacsOutlets(settings.pacs)
            return ForwardSink(self._intake, self._headers, self._behind.name, outlet)
        self._outlets = StowOutlets(self._behind, settings.answer_timeout)
        self._open.callback(self._outlets.close)
        return ForwardSink(self._intake, self._headers, self._behind.name, self._outlets)

    def _services(self) -> Iterator[NormalizedService]:
        config, settings = self._config, self._config.store_scp
        archives = {
            entry.name: frozenset(entry.retrieve_ae_titles) for entry in config.every_archive
        }
        if settings.ian and archives:
            yield InstanceAvailability(self._intake, archives, config.header)
        if settings.mpps:
            yield PerformedSteps(self._intake, self._behind.name, tuple(archives), config.header)
        if self._commitment is not None:
            yield self._commitment

    @property
    def _commits(self) -> bool:
        behind = self._config.archive_named(self._config.store_scp.archive)
        can_be_asked = behind is not None and not behind.is_read_by_find
        return self._config.store_scp.storage_commitment and can_be_asked

    def _storage_commitment(self) -> StorageCommitment:
        archive = Archive(self._behind)
        self._open.callback(archive.close)
        settings = self._config.store_scp
        return StorageCommitment(
            settings.commitment, archive.search, settings.ae_title, self._config.header
        )
