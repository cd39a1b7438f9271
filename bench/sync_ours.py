"""Our side of the sync bench: the ledger, the pipeline and the workers as the daemon runs them."""

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from flute_sync.daemon.config import Config
from flute_sync.daemon.pauses import ArchivePauses, Pause
from flute_sync.daemon.pipeline import Pipeline
from flute_sync.daemon.stats import Stats
from flute_sync.daemon.supervisor import Pulse
from flute_sync.daemon.workers import Workers
from flute_sync.events import Event
from flute_sync.fhir.client import FhirClient
from flute_sync.intake import Delivery, Received
from flute_sync.ledger import Ledger
from flute_sync.study import Instance, SeriesInstanceUID, SOPInstanceUID, StudyInstanceUID
from tests.studies import PATIENT, header, moment

SYSTEM: Final = "urn:oid:1.2.826.0.1.3680043.8.498.1"
RESOURCE_OF_PATIENT: Final = {
    "resourceType": "Patient",
    "identifier": [{"system": SYSTEM, "value": PATIENT.id.value if PATIENT.id else ""}],
    "birthDate": str(PATIENT.birth_date),
    "gender": "male",
}
DELIVERY_INSTANCES: Final = 1000
LONGEST: Final = timedelta(minutes=10)


def study_uid(number: int) -> StudyInstanceUID:
    """Return a UID of which the one of every other study differs in as many digits."""
    return StudyInstanceUID(f"1.2.826.0.1.3680043.8.498.{1_000_000_000 + number}")


def instances_of(number: int, series: int, instances: range) -> list[Received]:
    """Return instances of a study, as they come from a scanner."""
    study = study_uid(number)
    made = []
    for one in range(1, series + 1):
        shared = header(
            number=one,
            modality="MR",
            description=f"series {one}",
            started=moment(9, one),
            body_part="PROSTATE",
            image_type=("ORIGINAL", "PRIMARY", "M", "ND"),
        )
        uid = f"{study}.{one}"
        made += [
            Received(
                study,
                SeriesInstanceUID(uid),
                Instance(SOPInstanceUID(f"{uid}.{index}"), index, shared),
            )
            for index in instances
        ]
    return made


class Tally(Stats):
    """Counts steps and says when enough were taken, or one came out otherwise than expected."""

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()
        self._expected = Event.STUDY_SYNCED
        self._left = 0

    def expect(self, event: Event, count: int) -> None:
        """Start to count."""
        self.over.clear()
        self._expected, self._left = event, count

    def step(self, event: Event, seconds: float) -> None:
        """Count one."""
        super().step(event, seconds)
        with self._lock:
            self._left -= event is self._expected
            if not self._left or event is not self._expected:
                self.over.set()

    def wait(self) -> None:
        """Wait for the last step.

        Raises
        ------
        AssertionError
            When not every step came out as expected.
        """
        self.over.wait(LONGEST.total_seconds())
        if self._left:
            raise AssertionError(f"not every study came out as expected: {self.steps}")


class Ours:
    """Ledger, pipeline and workers of one process, without sources."""

    def __init__(
        self, base_url: str, folder: Path, workers: int, transport: httpx.BaseTransport | None
    ) -> None:
        config = Config.model_validate(
            {
                "fhir": {"base_url": base_url},
                "ledger": {"url": f"sqlite:///{folder / 'ledger.db'}"},
                "stow_rs": {"mode": "index"},
                "study": {"quiet_period": "0s"},
                "patient": {"default_system": SYSTEM, "systems": {"SYNTH-HOSP": SYSTEM}},
                "site": {"timezone": "Europe/Rome"},
            }
        )
        self.tally = Tally()
        self._threads = workers
        self.config = config
        self.ledger = Ledger.open(config.ledger, config.study, create=True)
        self.ledger.bind_target(base_url)
        self._client = FhirClient(config.fhir, transport=transport, on_request=self._count)
        self._client.capabilities()
        pauses = ArchivePauses([])
        pipeline = Pipeline.build(config, self.ledger, self._client, {}, pauses)
        self._workers = Workers(
            ledger=self.ledger,
            owner="bench",
            pipeline=lambda: pipeline,
            fhir_pause=Pause("fhir"),
            archive_pauses=pauses,
            stats=self.tally,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._client.close()
        self.ledger.close()

    def _count(self, interaction: str, status: int | None) -> None:
        self.tally.request(interaction, str(status))

    def deliver(self, received: list[Received]) -> None:
        """Fill the ledger with some of one study."""
        for start in range(0, len(received), DELIVERY_INSTANCES):
            some = tuple(received[start : start + DELIVERY_INSTANCES])
            self.ledger.deliver(Delivery("bench", "bench", datetime.now(UTC), some))

    def ask_again(self, number: int) -> None:
        """Let a study be looked at again although nothing is new."""
        self.ledger.replay(study_uid(number))

    def work_off(self, studies: int, event: Event = Event.STUDY_SYNCED) -> float:
        """Work until that many steps had that outcome; return the seconds."""
        self.tally.expect(event, studies)
        stopping = threading.Event()
        threads = [
            threading.Thread(target=self._workers.run, args=(Pulse(stopping),))
            for _ in range(self._threads)
        ]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        try:
            self.tally.wait()
            return time.perf_counter() - started
        finally:
            stopping.set()
            for thread in threads:
                thread.join()

    def requests(self) -> int:
        """Return how many requests were sent since the last time this was asked."""
        count = sum(self.tally.requests.values())
        self.tally.requests.clear()
        return count
