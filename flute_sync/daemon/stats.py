"""What this process counted since it started; monitors read it, nothing depends on it."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flute_sync.events import Event


@dataclass
class Stats:
    """Counters shared by all threads; names are those of ``docs/metrics.md``."""

    steps: Counter[str] = field(default_factory=Counter)
    step_seconds: float = 0.0
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    uploads: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    stores: Counter[str] = field(default_factory=Counter)
    clinical_changes: Counter[str] = field(default_factory=Counter)
    swept: Counter[str] = field(default_factory=Counter)
    looked_at: datetime | None = None
    swept_at: datetime | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def step(self, event: Event, seconds: float) -> None:
        """Count one step of one study by what came of it."""
        with self._lock:
            self.steps[event.value] += 1
            self.step_seconds += seconds

    def request(self, interaction: str, status: str) -> None:
        """Count one request to the FHIR server."""
        with self._lock:
            self.requests[interaction, status] += 1

    def upload(self, status: int) -> None:
        """Count one answered upload."""
        with self._lock:
            self.uploads[str(status)] += 1

    def notice(self, status: int) -> None:
        """Count one answered notice."""
        with self._lock:
            self.notices[str(status)] += 1

    def clinical(self, resource_type: str, count: int) -> None:
        """Count changes of clinical data that concerned somebody."""
        with self._lock:
            self.clinical_changes[resource_type] += count

    def looked(self, now: datetime) -> None:
        """Note that clinical data were looked at, all of them."""
        self.looked_at = now

    def patient_swept(self, outcome: Literal["same", "differs", "failed"]) -> None:
        """Count one patient whose links the sweep judged."""
        with self._lock:
            self.swept[outcome] += 1

    def sweep_ended(self, now: datetime) -> None:
        """Note that the links of all patients were judged."""
        self.swept_at = now

    def store(self, status: int) -> None:
        """Count one answered C-STORE request."""
        with self._lock:
            self.stores[f"{status:04X}"] += 1


def counted(application: ASGIApp, count: Callable[[int], None]) -> ASGIApp:
    """Wrap an application so that its answers to POST are counted by their status."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        posted = scope["type"] == "http" and scope["method"] == "POST"
        await application(scope, receive, watched if posted else send)

    return wrapped
