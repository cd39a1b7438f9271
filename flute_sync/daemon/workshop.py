"""What a command needs that works on studies itself: ledger, servers, workers, and an end.

It is the service without sources and listeners. Leases let both work side by side.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

from flute_sync.daemon.archive_access import access
from flute_sync.daemon.capabilities import required
from flute_sync.daemon.config import Config
from flute_sync.daemon.pauses import ArchivePauses, Pause
from flute_sync.daemon.periodic import Periodic
from flute_sync.daemon.pipeline import Pipeline
from flute_sync.daemon.sd_notify import SystemdNotifier
from flute_sync.daemon.stats import Stats
from flute_sync.daemon.supervisor import Part, Pulse, Supervisor
from flute_sync.daemon.workers import Workers
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.ledger import Ledger
from flute_sync.sources.listing import Listing
from flute_sync.sources.poller import Stop

log = logging.getLogger(__name__)

GRACE: Final = timedelta(seconds=25)
"""How long steps in hand may take to end."""


class Workshop:
    """Open while the ``with`` block lasts.

    Parameters
    ----------
    create
        Whether a ledger is made where there is none.
    client
        Opens the FHIR server.

    Raises
    ------
    FluteSyncError
        On entering: the ledger cannot be opened, or belongs to another FHIR server.
    """

    def __init__(
        self,
        config: Config,
        *,
        create: bool,
        client: Callable[[FhirSettings], FhirClient] = FhirClient,
    ) -> None:
        self.config = config
        self.fhir_pause = Pause("fhir")
        self.archive_pauses = ArchivePauses(entry.name for entry in config.every_archive)
        self._create, self._client = create, client
        self._opened = ExitStack()
        self._error: FluteSyncError | None = None
        self._is_finished = False

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._open(opened)
            self._opened = opened.pop_all()
        return self

    def _open(self, opened: ExitStack) -> None:
        config = self.config
        self.ledger = Ledger.open(
            config.ledger,
            config.study,
            create=self._create,
            archives=[entry.name for entry in config.every_archive],
            numbering=config.numbering,
        )
        opened.callback(self.ledger.close)
        self.ledger.bind_target(config.fhir.base_url)
        self.fhir = opened.enter_context(self._client(config.fhir))
        self.archives = access(config.every_archive, config.header, opened)
        readers = {name: one.reader for name, one in self.archives.items()}
        self.pipeline = Pipeline.build(config, self.ledger, self.fhir, readers, self.archive_pauses)
        self._workers = Workers(
            ledger=self.ledger,
            pipeline=lambda: self.pipeline,
            fhir_pause=self.fhir_pause,
            archive_pauses=self.archive_pauses,
            stats=Stats(),
        )

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._opened.close()

    def listing(self, archive: str) -> Listing:
        """Return the list of an archive's studies."""
        return self.archives[archive].listing

    def require_fhir(self) -> None:
        """Make sure that the FHIR server answers and can do what is needed.

        Raises
        ------
        FluteSyncError
            It does not, or cannot.
        """
        required(self.fhir, self.config)

    def waiting_for(self, now: datetime) -> str | None:
        """Say which server is down, where one is."""
        down = [
            f"{pause.target}: {pause.error.code}: {pause.error.sentence}"
            for pause in (self.fhir_pause, *self.archive_pauses)
            if pause.error is not None and pause.remaining(now)
        ]
        return "; ".join(down) or None

    def run(
        self,
        part: Callable[[Pulse], None],
        *,
        workers: int,
        beside: Iterable[Callable[[Pulse], None]] = (),
    ) -> bool:
        """Do ``part`` beside so many workers, until it is done or a signal ends it.

        Parameters
        ----------
        beside
            What else is done meanwhile, each until its pulse says stop.

        Returns whether it came to its end.

        Raises
        ------
        FluteSyncError
            What ended the part; or a defect did.
        """
        supervisor = Supervisor(
            notifier=SystemdNotifier.from_environment(),
            describe=lambda: self._workers.sentence,
            reload=lambda: None,
        )
        supervisor.install_signals()
        for number in range(workers):
            supervisor.start(Part(f"worker-{number + 1}", self._workers.run))
        lease = self.config.ledger.lease / 4
        leases = Periodic("leases", lambda: lease, self._keep_leases, longest_wait=lease)
        supervisor.start(Part("leases", leases.run))
        for number, other in enumerate(beside):
            supervisor.start(Part(f"beside-{number + 1}", other))
        supervisor.start(Part("command", lambda pulse: self._do(part, pulse, supervisor)))
        well = supervisor.watch()
        supervisor.join(GRACE)
        self._release()
        if self._error is not None:
            raise self._error
        if not well:
            raise FluteSyncError("a part of the command died")
        return self._is_finished

    def _do(self, part: Callable[[Pulse], None], pulse: Pulse, supervisor: Supervisor) -> None:
        try:
            part(pulse)
            self._is_finished = not pulse.stopping
        except FluteSyncError as error:
            self._error = error
        supervisor.stop()

    def _keep_leases(self, _now: datetime, _stop: Stop) -> None:
        self._workers.renew()

    def _release(self) -> None:
        try:
            self._workers.release()
        except FluteSyncError as error:
            # The leases run out by themselves.
            log.warning(error.sentence, extra=fields(Event.LEDGER_FAILED, code=error.code))
