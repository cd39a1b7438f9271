"""What this process counted since it started; monitors read it, nothing depends on it."""

import threading
from collections import Counter
from dataclasses import dataclass, field

from flute_sync.events import Event


@dataclass
class Stats:
    """Counters shared by all threads; names are those of ``docs/metrics.md``."""

    steps: Counter[str] = field(default_factory=Counter)
    step_seconds: float = 0.0
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    uploads: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def step(self, event: Event, seconds: float) -> None:
        """Count one step of one study by what came of it."""
        with self._lock:
            self.steps[event.value] += 1
            self.step_seconds += seconds

    def request(self, method: str, status: str) -> None:
        """Count one request to the FHIR server."""
        with self._lock:
            self.requests[method, status] += 1
