"""What Prometheus reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flute_sync.daemon.app import Daemon
from flute_sync.errors import FluteSyncError


@dataclass(frozen=True, slots=True)
class Name:
    """A metric: its name as Prometheus shows it, its type, its labels and what it means."""

    name: str
    kind: Literal["gauge", "counter"]
    meaning: str
    labels: tuple[str, ...] = ()

    def family(self) -> GaugeMetricFamily | CounterMetricFamily:
        """Start an empty family of this metric."""
        if self.kind == "gauge":
            return GaugeMetricFamily(self.name, self.meaning, labels=self.labels)
        return CounterMetricFamily(
            self.name.removesuffix("_total"), self.meaning, labels=self.labels
        )


LEDGER_UP: Final = Name("flute_sync_ledger_up", "gauge", "1 when the ledger can be read.")
STUDIES: Final = Name("flute_sync_studies", "gauge", "Studies by state.", ("state",))
OLDEST: Final = Name(
    "flute_sync_oldest_unsynced_seconds",
    "gauge",
    "Age of the oldest study that FHIR still owes; 0 when there is none.",
)
PAUSED: Final = Name(
    "flute_sync_target_paused", "gauge", "1 while a target is down or refuses us.", ("target",)
)
STEPS: Final = Name(
    "flute_sync_steps_total", "counter", "Steps taken, by what came of them.", ("event",)
)
STEP_SECONDS: Final = Name("flute_sync_step_seconds_total", "counter", "Time spent in steps.")
REQUESTS: Final = Name(
    "flute_sync_fhir_requests_total",
    "counter",
    "Requests to the FHIR server, by HTTP status; `error` where none came.",
    ("method", "status"),
)
UPLOADS: Final = Name(
    "flute_sync_uploads_total", "counter", "STOW-RS uploads, by HTTP status.", ("status",)
)
NOTICES: Final = Name(
    "flute_sync_notices_total", "counter", "Notices pushed to us, by HTTP status.", ("status",)
)
STORES: Final = Name(
    "flute_sync_stores_total",
    "counter",
    "C-STORE requests answered, by DIMSE status (hexadecimal).",
    ("status",),
)
CLINICAL: Final = Name(
    "flute_sync_clinical_changes_total",
    "counter",
    "Changed clinical resources that concerned somebody, by type.",
    ("type",),
)
WATCHED: Final = Name(
    "flute_sync_clinical_watch_age_seconds",
    "gauge",
    "How long ago clinical data were looked at, all types of them; absent before that.",
)
SWEPT: Final = Name(
    "flute_sync_link_sweep_patients_total",
    "counter",
    "Patients whose links the sweep judged: `same`, `differs` or `failed`.",
    ("outcome",),
)
SWEEP_AGE: Final = Name(
    "flute_sync_link_sweep_age_seconds",
    "gauge",
    "How long ago the sweep of links came to its end; absent before that.",
)
METRICS: Final = (
    LEDGER_UP,
    STUDIES,
    OLDEST,
    PAUSED,
    STEPS,
    STEP_SECONDS,
    REQUESTS,
    UPLOADS,
    NOTICES,
    STORES,
    CLINICAL,
    WATCHED,
    SWEPT,
    SWEEP_AGE,
)


class Metrics(Collector):
    """Collects from the one read model and from the process's counters, when asked.

    Parameters
    ----------
    daemon
        The running daemon.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def collect(self) -> Iterator[Metric]:
        """Yield every metric once; a ledger that cannot be read shows as ``..._up 0``."""
        try:
            ledger = list(self._ledger())
        except FluteSyncError:
            ledger = []
        up = LEDGER_UP.family()
        up.add_metric([], 1 if ledger else 0)
        yield up
        yield from ledger
        yield self._paused()
        yield from self._counters()
        yield from self._links()

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand: registering must not read the ledger."""
        return iter(())

    def _ledger(self) -> Iterator[Metric]:
        status = self._daemon.ledger.status(datetime.now(UTC))
        studies = STUDIES.family()
        for state, count in status.counts.items():
            studies.add_metric([state], count)
        yield studies
        lag = OLDEST.family()
        age = status.oldest_unsynced
        lag.add_metric([], age.total_seconds() if age is not None else 0.0)
        yield lag

    def _paused(self) -> Metric:
        paused = PAUSED.family()
        for pause in self._daemon.pauses:
            paused.add_metric([pause.target], 0 if pause.error is None else 1)
        return paused

    def _counters(self) -> Iterator[Metric]:
        stats = self._daemon.stats
        steps = STEPS.family()
        for event, count in sorted(stats.steps.items()):
            steps.add_metric([event], count)
        yield steps
        seconds = STEP_SECONDS.family()
        seconds.add_metric([], stats.step_seconds)
        yield seconds
        requests = REQUESTS.family()
        for (method, code), count in sorted(stats.requests.items()):
            requests.add_metric([method, code], count)
        yield requests
        uploads = UPLOADS.family()
        for status, count in sorted(stats.uploads.items()):
            uploads.add_metric([status], count)
        yield uploads
        notices = NOTICES.family()
        for status, count in sorted(stats.notices.items()):
            notices.add_metric([status], count)
        yield notices
        stores = STORES.family()
        for status, count in sorted(stats.stores.items()):
            stores.add_metric([status], count)
        yield stores

    def _links(self) -> Iterator[Metric]:
        stats, now = self._daemon.stats, datetime.now(UTC)
        changes = CLINICAL.family()
        for kind, count in sorted(stats.clinical_changes.items()):
            changes.add_metric([kind], count)
        yield changes
        swept = SWEPT.family()
        for outcome, count in sorted(stats.swept.items()):
            swept.add_metric([outcome], count)
        yield swept
        for name, at in ((WATCHED, stats.looked_at), (SWEEP_AGE, stats.swept_at)):
            age = name.family()
            if at is not None:
                age.add_metric([], (now - at).total_seconds())
            yield age
