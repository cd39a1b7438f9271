"""Pictures of series: fetched from the archive for who is admitted, and kept for a while."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Lock
from typing import Final

from flute_sync.archive_errors import ArchiveRefused, ArchiveUnauthorized, ArchiveUnavailable
from flute_sync.console_errors import PageAbsent
from flute_sync.errors import FluteSyncError
from flute_sync.sources.rendered import Picture, Renderer

_MOST_BYTES: Final = 32 * 1024 * 1024
_MOST_PLANS: Final = 128
_KEPT: Final = timedelta(minutes=10).total_seconds()
_REST: Final = timedelta(seconds=5).total_seconds()


@dataclass(frozen=True, slots=True)
class Plan:
    """Which pictures the page of a study shows.

    ``series`` names the series of each instance; ``archives`` are tried in their order.
    """

    study_uid: str
    series: Mapping[str, str]
    archives: tuple[str, ...]
    made: float = field(default_factory=time.monotonic)


class Plans:
    """Plans of studies that were looked at lately, by the id of the ImagingStudy."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept: OrderedDict[str, Plan] = OrderedDict()
        self._clock = clock

    def keep(self, resource_id: str, plan: Plan) -> None:
        """Keep a plan; the oldest goes where there are too many."""
        self._kept.pop(resource_id, None)
        self._kept[resource_id] = plan
        while len(self._kept) > _MOST_PLANS:
            self._kept.popitem(last=False)

    def of(self, resource_id: str) -> Plan | None:
        """Return a plan; None where the study is to be read again."""
        plan = self._kept.get(resource_id)
        return plan if plan is not None and self._clock() - plan.made < _KEPT else None


class Pictures:
    """Gets pictures; safe to use from several threads.

    Parameters
    ----------
    renderers
        The archives of the settings, by name.
    failed
        Is told what an archive as a whole fails at; it is then left alone for a moment.
    most_bytes
        How much is kept in memory.
    """

    def __init__(
        self,
        renderers: Mapping[str, Renderer],
        failed: Callable[[FluteSyncError], None],
        *,
        most_bytes: int = _MOST_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._renderers = renderers
        self._failed = failed
        self._resting: dict[str, tuple[float, FluteSyncError]] = {}
        self._most_bytes = most_bytes
        self._clock = clock
        self._lock = Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[float, Picture]] = OrderedDict()
        self._bytes = 0

    def get(self, plan: Plan, instance: str) -> Picture:
        """Return the picture of an instance of a plan.

        Raises
        ------
        PageAbsent
            The plan does not name the instance, or no archive has a picture of it.
        FluteSyncError
            An archive may have one, and cannot say.
        """
        series = plan.series.get(instance)
        if series is None:
            raise PageAbsent()
        key = (plan.study_uid, instance)
        kept = self._known(key)
        if kept is not None:
            return kept
        picture = self._fetched(plan.archives, plan.study_uid, series, instance)
        self._keep(key, picture)
        return picture

    def _fetched(self, archives: Sequence[str], study: str, series: str, instance: str) -> Picture:
        failure: FluteSyncError = PageAbsent("no archive has a picture of it")
        for name in (name for name in archives if name in self._renderers):
            until, known = self._resting.get(name, (0.0, failure))
            if self._clock() < until:
                failure = known
                continue
            try:
                return self._renderers[name].picture(study, series, instance)
            except ArchiveRefused:
                continue
            except (ArchiveUnavailable, ArchiveUnauthorized) as error:
                # A page asks for up to 200, and people wait for each that waits for a dead archive.
                self._resting[name] = (self._clock() + _REST, error)
                self._failed(error)
                failure = error
            except FluteSyncError as error:
                failure = error
        raise failure.with_traceback(None)  # that it does not grow, where it is told again

    def _known(self, key: tuple[str, str]) -> Picture | None:
        with self._lock:
            at, picture = self._kept.get(key, (0.0, None))
            return picture if self._clock() - at < _KEPT else None

    def _keep(self, key: tuple[str, str], picture: Picture) -> None:
        with self._lock:
            _, before = self._kept.pop(key, (0.0, None))
            self._bytes += len(picture.data) - (len(before.data) if before else 0)
            self._kept[key] = (self._clock(), picture)
            while self._bytes > self._most_bytes:
                _, (_, oldest) = self._kept.popitem(last=False)
                self._bytes -= len(oldest.data)
