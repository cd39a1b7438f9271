"""What a fetch came to: counts, and each instance that did not come, with its reason."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any, Final

from flute_sync.errors import (
    EXIT_CONFIG,
    EXIT_DATA,
    EXIT_OK,
    EXIT_TRANSIENT,
    FluteSyncError,
    OperatorError,
    PermanentError,
)

_MOST_TOLD: Final = 10_000


@dataclass(frozen=True, slots=True)
class Missed:
    """Something that did not come; what is None stands for all of it."""

    study_instance_uid: str | None
    series_instance_uid: str | None
    sop_instance_uid: str | None
    code: str
    sentence: str
    hint: str


@dataclass
class Report:
    """Counts of one run; for several threads.

    ``known`` are files that are to come as far as was planned, ``already`` those that were there,
    ``unlisted`` instances that the archive returned and FHIR does not list; ``converted`` are
    series of which NIfTI was made.
    """

    studies: int = 0
    series: int = 0
    known: int = 0
    fetched: int = 0
    already: int = 0
    unlisted: int = 0
    converted: int = 0
    bytes: int = 0
    finished: bool = False
    error: FluteSyncError | None = None
    failed: Counter[str] = field(default_factory=Counter)
    missed: list[Missed] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock, repr=False)
    _exit_codes: set[int] = field(default_factory=set, repr=False)

    def add(self, **counts: int) -> None:
        """Raise counts."""
        with self._lock:
            for name, more in counts.items():
                setattr(self, name, getattr(self, name) + more)

    def miss(
        self,
        error: FluteSyncError,
        study_uid: str | None,
        series_uid: str | None = None,
        uid: str | None = None,
        files: int = 1,
    ) -> None:
        """Note what did not come; the error itself, and all that hangs on it, is let go."""
        missed = Missed(study_uid, series_uid, uid, error.code, error.sentence, error.hint)
        with self._lock:
            self.failed[error.code] += files
            known = (OperatorError, PermanentError)
            self._exit_codes.add(error.exit_code if isinstance(error, known) else EXIT_TRANSIENT)
            if len(self.missed) < _MOST_TOLD:
                self.missed.append(missed)

    @property
    def done(self) -> int:
        """How many files are settled."""
        return self.fetched + self.already + sum(self.failed.values())

    @property
    def exit_code(self) -> int:
        """What the worst of it means for whoever ran it; an interruption is not told here."""
        if self.error is not None:
            return self.error.exit_code
        worst = (EXIT_CONFIG, EXIT_DATA, EXIT_TRANSIENT)
        return next((code for code in worst if code in self._exit_codes), EXIT_OK)

    def as_dict(self) -> dict[str, Any]:
        """Return the documented shape."""
        error = self.error
        return {
            "finished": self.finished,
            "studies": self.studies,
            "series": self.series,
            "fetched": self.fetched,
            "already": self.already,
            "unlisted": self.unlisted,
            "converted": self.converted,
            "bytes": self.bytes,
            "failed": dict(self.failed),
            "missed": [asdict(one) for one in self.missed],
            "omitted": max(0, sum(self.failed.values()) - len(self.missed)),
            "error": error and {"code": error.code, "sentence": error.sentence, "hint": error.hint},
        }
