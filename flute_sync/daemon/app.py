"""The composition root: sources, ledger, FHIR and workers of one site are joined here."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.types import ASGIApp

from flute_sync.daemon.archive_access import access
from flute_sync.daemon.capabilities import required
from flute_sync.daemon.config import Config
from flute_sync.daemon.hints import INTERVAL as HINTS_INTERVAL
from flute_sync.daemon.hints import SubscriptionKeeper
from flute_sync.daemon.http_server import HttpServer, Listener
from flute_sync.daemon.link_sweep import LinkSweep
from flute_sync.daemon.link_watch import LinkAlarm
from flute_sync.daemon.listening import listener, receivers
from flute_sync.daemon.pauses import FHIR_PAUSES, ArchivePauses, Pause
from flute_sync.daemon.periodic import Periodic
from flute_sync.daemon.pipeline import Pipeline
from flute_sync.daemon.polling import pollers
from flute_sync.daemon.removal import INTERVAL, Brake
from flute_sync.daemon.sd_notify import SystemdNotifier, watchdog_interval
from flute_sync.daemon.servers import Servers, associations
from flute_sync.daemon.stats import Stats
from flute_sync.daemon.supervisor import Part, Supervisor
from flute_sync.daemon.watch import GROUP_INTERVAL, GroupAlarm, PatientAlarm
from flute_sync.daemon.workers import Workers
from flute_sync.errors import EXIT_OK, EXIT_SOFTWARE, FluteSyncError, TransientError
from flute_sync.events import Event, fields
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.clinical_watch import ClinicalWatch
from flute_sync.fhir.patient_watch import PatientWatch
from flute_sync.fhir.subscriptions import Subscriptions
from flute_sync.fhir_errors import FhirCapabilityMissing
from flute_sync.ledger import ANY_SOURCES, Ledger
from flute_sync.sources.poller import Poller

log = logging.getLogger(__name__)

GRACE = timedelta(seconds=25)
"""How long uploads and steps in hand may take to end; below systemd's TimeoutStopSec."""

CAPABILITY_INTERVAL = timedelta(seconds=10)
"""How soon a FHIR server that was down at the start is asked what it can do."""

RELOADED = frozenset(
    {"site", "select", "patient", "imaging_study", "links", "removal", "retry", "log"}
)
"""Sections that take effect on SIGHUP; the others hold connections, ports or files."""


@dataclass(frozen=True)
class Readiness:
    """Whether the daemon can take work; a FHIR server that is down is a warning only."""

    ready: bool
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Daemon:
    """One site's service.

    Parameters
    ----------
    config
        The settings at start.
    console
        Builds the console's HTTP application for this daemon; the daemon does not know it.
    read_settings
        Reads the settings again, for SIGHUP.
    """

    def __init__(
        self,
        config: Config,
        console: Callable[["Daemon"], ASGIApp],
        read_settings: Callable[[], Config],
    ) -> None:
        self._config = config
        self._read_settings = read_settings
        self._open = ExitStack()
        self.stats = Stats()
        self.fhir_pause = Pause("fhir")
        self.archive_pauses = ArchivePauses(entry.name for entry in config.every_archive)
        self._notifier = SystemdNotifier.from_environment()
        self._console = console
        self._capable = False
        self._hinted = threading.Event()

    @property
    def config(self) -> Config:
        """The settings in force."""
        return self._config

    @property
    def pauses(self) -> tuple[Pause, ...]:
        """The targets of the work."""
        return self.fhir_pause, *self.archive_pauses

    def run(self) -> int:
        """Run until told to stop; return the exit code.

        Raises
        ------
        FluteSyncError
            When the daemon cannot start.
        """
        log.info("flute-sync starts.", extra=fields(Event.DAEMON_STARTING))
        with self._open:
            self._start()
            supervisor = self._supervise()
            well = supervisor.watch()
            code = self._stop(supervisor, well=well)
        log.info("flute-sync has stopped.", extra=fields(Event.DAEMON_STOPPED, status=code))
        return code

    def readiness(self) -> Readiness:
        """Tell whether ledger and listeners are up."""
        problems = []
        try:
            self.ledger.status(datetime.now(UTC))
            self.ledger.try_again()
        except FluteSyncError as error:
            problems.append(f"{error.code}: {error.sentence}")
        if not self._server.alive():
            problems.append("a listener is down")
        warnings = [
            f"{pause.target}: {pause.error.code}: {pause.error.sentence}"
            for pause in self.pauses
            if pause.error is not None
        ]
        warnings += self._brake.warnings()
        return Readiness(not problems, tuple(problems), tuple(warnings))

    def describe(self) -> str:
        """One sentence about the work, for systemd's STATUS."""
        try:
            counts = self.ledger.status(datetime.now(UTC)).counts
        except FluteSyncError as error:
            return error.sentence
        total = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        paused = [pause.target for pause in self.pauses if pause.error is not None]
        waiting = f" Waiting for {' and '.join(paused)}." if paused else ""
        return f"Studies: {total or 'none'}.{waiting} {self._workers.sentence}"

    def _start(self) -> None:
        config = self._config
        names = [one.name for one in config.every_archive]
        self.ledger = Ledger.open(
            config.ledger,
            config.study,
            create=True,
            archives=names,
            numbering=config.numbering,
        )
        self._open.callback(self.ledger.close)
        self.ledger.bind_target(config.fhir.base_url)
        self._fhir = self._open.enter_context(
            FhirClient(config.fhir, on_request=self.count_request)
        )
        self._archives = access(config.every_archive, config.header, self._open)
        self._brake = Brake(self.ledger, lambda: self._config.removal, tuple(self._archives))
        self._probe()
        self._pipeline = self._build_pipeline(config)
        self._workers = Workers(
            ledger=self.ledger,
            pipeline=lambda: self._pipeline,
            fhir_pause=self.fhir_pause,
            archive_pauses=self.archive_pauses,
            stats=self.stats,
        )
        self.ledger.recover_intents()
        self.ledger.rejudge(self._pipeline.rules)
        http = [
            *receivers(config, self.ledger, self.stats, self._hinted.set),
            *self._console_listener(),
        ]
        self._server = Servers(HttpServer(http), associations(config, self.ledger, self.stats))
        self._server.start()
        self._warn()

    def count_request(self, interaction: str, status: int | None) -> None:
        """Count one request to the FHIR server; None: it was not answered."""
        self.stats.request(interaction, "error" if status is None else str(status))

    def _probe(self) -> None:
        """Refuse a FHIR server that answers and lacks a must-have.

        One that is down may come, and credentials may be renewed: uploads need neither.
        """
        try:
            self._require_capabilities()
        except FhirCapabilityMissing:
            raise
        except (TransientError, *FHIR_PAUSES) as error:
            self.fhir_pause.begin(error, datetime.now(UTC))

    def _require_capabilities(self) -> None:
        required(self._fhir, self._config)
        self._capable = True

    def _look_at_capabilities(self, now: datetime, _stop: Callable[[], bool]) -> None:
        """Make up for a server that was down at the start."""
        if self._capable or self.fhir_pause.remaining(now):
            return
        try:
            self._require_capabilities()
        except FHIR_PAUSES as error:
            self.fhir_pause.begin(error, now)
            raise

    def _build_pipeline(self, config: Config) -> Pipeline:
        readers = {name: one.reader for name, one in self._archives.items()}
        return Pipeline.build(
            config, self.ledger, self._fhir, readers, self.archive_pauses, self._brake
        )

    def _console_listener(self) -> Iterator[Listener]:
        if self._config.console.enabled:
            yield listener("console", self._console(self), self._config.console)

    def _warn(self) -> None:
        if self._config.site.system is None:
            log.warning(
                "site.system is not set; Endpoints get a system made from fhir.base_url.",
                extra=fields(Event.SETTINGS_WARNING, setting="site.system"),
            )
        if self._pipeline.persons.in_force == ANY_SOURCES:
            log.warning(
                "This ledger may hold identified and pseudonymised studies; say which it shall.",
                extra=fields(Event.SETTINGS_WARNING, setting="pseudonyms.sources"),
            )

    def _supervise(self) -> Supervisor:
        supervisor = Supervisor(
            notifier=self._notifier,
            describe=self.describe,
            reload=self._reload,
            watchdog=watchdog_interval(),
            alive=lambda: self._server.alive() and self.ledger.alive(),
        )
        supervisor.install_signals()
        for number in range(self._config.sync.workers):
            supervisor.start(Part(f"worker-{number + 1}", self._workers.run))
        for periodic in self._periodics():
            name = " ".join(filter(None, (periodic.name, periodic.archive)))
            supervisor.start(Part(name, periodic.run))
        log.info("flute-sync can take work.", extra=fields(Event.DAEMON_READY))
        self._notifier.ready(self.describe())
        return supervisor

    def _periodics(self) -> Iterator[Periodic]:
        lease = self._config.ledger.lease
        yield Periodic("leases", lambda: lease / 4, self._keep_leases, longest_wait=lease / 4)
        alarm = PatientAlarm(
            self.ledger,
            PatientWatch(self._fhir),
            self.fhir_pause,
            lambda: self._config.identifier_system,
        )
        yield Periodic("patient_watch", lambda: self._config.patient.watch_interval, alarm.step)
        yield Periodic("capabilities", lambda: CAPABILITY_INTERVAL, self._look_at_capabilities)
        yield Periodic("removals", lambda: INTERVAL, self._brake.step)
        yield from self._link_periodics()
        group = GroupAlarm(
            self.ledger,
            lambda: self._pipeline.subjects,
            self.fhir_pause,
            lambda: self._config.identifier_system,
        )
        yield Periodic("group_watch", lambda: GROUP_INTERVAL, group.step)
        for name, archive in self._archives.items():
            for poller in pollers(archive, self.ledger, self._config.site.zone, self._open):
                yield _repeated(poller, name)

    def _link_periodics(self) -> Iterator[Periodic]:
        watch = LinkAlarm(
            self.ledger,
            ClinicalWatch(self._fhir),
            lambda: self._config.links,
            lambda: self._pipeline.subjects.patients,
            self.fhir_pause,
            self.stats,
            self._hinted,
        )
        yield Periodic("link_watch", lambda: watch.interval, watch.step)
        sweep = LinkSweep(
            self.ledger,
            lambda: self._pipeline.linker,
            lambda: self._config.links,
            lambda: self._config.site.zone,
            self.fhir_pause,
            self.stats,
        )
        yield Periodic("link_sweep", lambda: sweep.interval, sweep.step)
        keeper = SubscriptionKeeper(
            self._config.subscription,
            lambda: self._config.links,
            Subscriptions(self._fhir),
            self.fhir_pause,
        )
        yield Periodic("subscription", lambda: HINTS_INTERVAL, keeper.step)

    def _keep_leases(self, _now: datetime, _stop: Callable[[], bool]) -> None:
        self._workers.renew()
        recovered = self.ledger.recover_intents()
        if recovered:
            log.warning(
                "Uploads that did not end are looked up in the archive.",
                extra=fields(Event.INTENT_RECOVERED, studies=recovered),
            )

    def _reload(self) -> None:
        """Take over what can be; whatever is wrong with the settings, work goes on."""
        try:
            self._take_over(self._read_settings())
            self._server.reload()
        except FluteSyncError as error:
            log.error(
                "%s; what was in force stays.",
                error.sentence,
                extra=fields(Event.SETTINGS_WARNING, code=error.code, hint=error.hint),
            )
            return
        log.info("The settings were read again.", extra=fields(Event.DAEMON_RELOADED))

    def _take_over(self, fresh: Config) -> None:
        for name in sorted(type(fresh).model_fields.keys() - RELOADED):
            if getattr(fresh, name) != getattr(self._config, name):
                log.warning(
                    "A changed section takes effect at the next start.",
                    extra=fields(Event.SETTINGS_WARNING, setting=name),
                )
        kept = {name: getattr(self._config, name) for name in type(fresh).model_fields}
        kept |= {name: getattr(fresh, name) for name in RELOADED}
        self._config = self._config.model_copy(update=kept)
        self.ledger.erasures.read_as(self._config.numbering)
        self._pipeline = self._build_pipeline(self._config)
        self.ledger.rejudge(self._pipeline.rules)

    def _stop(self, supervisor: Supervisor, *, well: bool) -> int:
        log.info("flute-sync stops.", extra=fields(Event.DAEMON_STOPPING))
        self._notifier.stopping()
        supervisor.stop()
        self._server.stop(GRACE)
        supervisor.join(GRACE)  # a step that takes longer is handed back below
        try:
            self._workers.release()
        except FluteSyncError as error:
            # The leases run out by themselves.
            log.warning(error.sentence, extra=fields(Event.LEDGER_FAILED, code=error.code))
        return EXIT_OK if well else EXIT_SOFTWARE


def _repeated(poller: Poller, archive: str) -> Periodic:
    return Periodic(poller.name, lambda: poller.interval, poller.step, archive)
