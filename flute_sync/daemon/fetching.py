"""Images brought to disk: studies are planned one after the other, series fetched side by side.

No more is planned than is soon fetched, so that memory does not grow with the cohort.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from queue import Empty, Full, Queue
from threading import Lock, Thread
from typing import Final

from flute_sync.daemon.config import Config
from flute_sync.daemon.fetch_choice import ArchiveHeaders, Choice, of_modalities, of_roles, split
from flute_sync.daemon.fetch_folder import Folder, StudyFolder
from flute_sync.daemon.fetch_nifti import Converter
from flute_sync.daemon.fetch_patience import Ended, Patience
from flute_sync.daemon.fetch_pictures import PictureFetch
from flute_sync.daemon.fetch_places import Places
from flute_sync.daemon.fetch_report import Report
from flute_sync.daemon.fetch_selectors import Refused
from flute_sync.daemon.fetch_series import SeriesFetch, Tools
from flute_sync.errors import FluteSyncError, OperatorError, PermanentError, TransientError
from flute_sync.fetch_errors import EndpointUnknown, FolderUnusable, NotConverted
from flute_sync.retrieval import WantedSeries, WantedStudy, expected
from flute_sync.retrieval_names import Names
from flute_sync.sources.header import HeaderReader
from flute_sync.transport.secret import Secret

_TICK_SECONDS: Final = 0.2
_GRACE_SECONDS: Final = 5.0
Job = tuple[WantedStudy, WantedSeries, StudyFolder]


class Fetch:
    """One run.

    Parameters
    ----------
    tell
        Shows how far it is; called in the thread of `run`.
    """

    def __init__(
        self,
        config: Config,
        folder: Folder,
        places: Places,
        choice: Choice,
        *,
        verify: bool = False,
        tell: Callable[["Fetch"], None] = lambda _fetch: None,
    ) -> None:
        self.report = Report()
        self.patience = Patience(config.retry, config.fetch.attempts)
        self.is_planned = False
        self._config, self._folder, self._places, self._choice = config, folder, places, choice
        self._headers = ArchiveHeaders(
            places, self.patience, self.report, decide=choice.needs_headers
        )
        self._converter = Converter(folder, self.patience) if choice.nifti else None
        self._tell = tell
        self._lock = Lock()
        self._jobs: Queue[Job | None] = Queue(2 * config.fetch.connections)
        self._threads: list[Thread] = []
        self._tools = Tools(
            folder=folder,
            names=Names(config.fetch.names, _key(config, folder)),
            report=self.report,
            reader=HeaderReader(config.header),
            patience=self.patience,
            largest_bytes=config.fetch.max_instance_bytes,
            verify=verify,
        )

    def run(self, studies: Callable[[], Iterable[WantedStudy | Refused]]) -> None:
        """Fetch these studies; what it came to is in ``report``.

        Ctrl-C ends it within seconds: what is whole is kept, what is not is dropped.
        """
        for number in range(self._config.fetch.connections):
            self._threads.append(Thread(target=self._work, name=f"fetch-{number}", daemon=True))
            self._threads[-1].start()
        try:
            self._plan(studies())
            self.report.finished = not self.patience.is_over
        except KeyboardInterrupt:
            self.patience.stop()
        except FluteSyncError as error:
            self._end(error)
        except Ended as end:
            self._end(end.error)
        self._join()
        try:
            self._folder.write_checksums()
        except FolderUnusable as error:
            self._end(error)

    # -- planning --------------------------------------------------------------------------------

    def _plan(self, studies: Iterable[WantedStudy | Refused]) -> None:
        for study in self._chosen(studies):
            into = self._folder.study(self._tools.names.study(study.subject, study.uid))
            for series in study.series:
                self.report.add(known=series.expected or 0)
                if not self._put((study, series, into)):
                    return
        self.is_planned = True
        for _ in self._threads:
            self._put(None)
        while alive := [thread for thread in self._threads if thread.is_alive()]:
            self._tell(self)
            alive[0].join(_TICK_SECONDS)
            if self.patience.is_over:
                return

    def _chosen(self, studies: Iterable[WantedStudy | Refused]) -> Iterator[WantedStudy]:
        """Yield each study with the series that are wanted of it."""
        for one in studies:
            if isinstance(one, tuple):
                self.report.miss(one[1], one[1].study_instance_uid)
                continue
            self.report.add(studies=1)
            try:
                study = of_modalities(self._headers, one, self._choice.modalities)
                yield of_roles(self._headers, study, self._choice.series_roles)
            except (EndpointUnknown, PermanentError, TransientError) as error:
                self.report.miss(error, one.uid, files=expected(one))

    def _put(self, job: Job | None) -> bool:
        while not self.patience.is_over:
            self._tell(self)
            try:
                self._jobs.put(job, timeout=_TICK_SECONDS)
                return True
            except Full:
                continue
        return False

    def _join(self) -> None:
        """Wait for the threads to end; one that hangs in a read dies with the process."""
        if not self.report.finished:
            self.patience.stop()
        until = time.monotonic() + _GRACE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._tell(self)

    # -- work ------------------------------------------------------------------------------------

    def _work(self) -> None:
        is_well = False
        try:
            for study, series, into in self._taken():
                self._series(study, series, into)
            is_well = True
        except Ended as end:
            is_well = True
            self._end(end.error)
        except OperatorError as error:
            is_well = True
            self._end(error)
        finally:
            if not is_well:
                self._end(FluteSyncError("a thread of the fetch died"))

    def _taken(self) -> Iterator[Job]:
        while not self.patience.is_over:
            try:
                job = self._jobs.get(timeout=_TICK_SECONDS)
            except Empty:
                continue
            if job is None:
                return
            yield job

    def _series(self, study: WantedStudy, series: WantedSeries, into: StudyFolder) -> None:
        try:
            places = self._places.of(series.addresses)
            parts = self._split(study, series)
        except (EndpointUnknown, PermanentError, TransientError) as error:
            self.report.miss(error, study.uid, series.uid, files=series.expected or 1)
            return
        for part, frames in parts:
            self.report.add(series=1)
            if self._choice.picture is not None:
                essence = self._choice.picture
                PictureFetch(self._tools, study, part, into, frames, essence).run(places)
            else:
                fetch = SeriesFetch(self._tools, study, part, into)
                fetch.run(places)
                self._convert(fetch)

    def _convert(self, fetch: SeriesFetch) -> None:
        if self._converter is None or not fetch.is_complete:
            return
        files = sorted(fetch.files(), key=lambda one: one.series_instance_uid)
        for uid, of_series in groupby(files, key=lambda one: one.series_instance_uid):
            try:
                made = self._converter.convert(fetch.into, list(of_series))
                self.report.add(converted=made)
            except NotConverted as error:
                self.report.add(known=1)
                self.report.miss(error, fetch.study.uid, uid)

    def _split(
        self, study: WantedStudy, series: WantedSeries
    ) -> list[tuple[WantedSeries, dict[str, int]]]:
        if not self._choice.needs_headers:
            return [(series, {})]
        found = split(self._headers, study, series, self._choice)
        wanted = sum(len(part.instances) for part, _ in found)
        self.report.add(known=wanted - (series.expected or 0))
        return found

    def _end(self, error: FluteSyncError | None) -> None:
        with self._lock:
            if error is not None and self.report.error is None:
                self.report.error = error
        self.patience.stop()


def _key(config: Config, folder: Folder) -> bytes:
    if config.fetch.key_file is None:
        return folder.key()
    return Secret(config.fetch.key_file).read().strip().encode()
