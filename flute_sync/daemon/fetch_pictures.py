"""Rendered pictures of a series: one for each instance, or for each frame of it.

References
----------
PS3.18 10.4.1.1.3 and 10.4.1.1.4 (2026b)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from flute_sync.archive_errors import ArchiveRefused
from flute_sync.daemon.fetch_folder import Kept, StudyFolder
from flute_sync.daemon.fetch_parts import IncomingPicture
from flute_sync.daemon.fetch_series import ABSENT, Tools
from flute_sync.errors import FluteSyncError
from flute_sync.fetch_errors import InstanceAbsent, NotRendered
from flute_sync.retrieval import WITHOUT_PIXELS, WantedInstance, WantedSeries, WantedStudy, path_of
from flute_sync.sources.wado_rs import WadoRs

ENDINGS: Final = {"image/jpeg": "jpg", "image/png": "png"}


@dataclass
class PictureFetch:
    """The work on one series.

    Parameters
    ----------
    frames
        Of each SOP Instance UID, how many; an instance that is not there has one.
    essence
        The media type asked for.
    """

    tools: Tools
    study: WantedStudy
    series: WantedSeries
    into: StudyFolder
    frames: dict[str, int]
    essence: str
    kept_bytes: int = 0

    def run(self, places: Sequence[WadoRs]) -> None:
        """Bring all pictures to disk, and report what did not come; raises as `SeriesFetch.run`."""
        for instance in self.series.instances:
            if (instance.sop_class_uid or "").startswith(WITHOUT_PIXELS):
                self.tools.report.add(known=-1)
                continue
            count = self.frames.get(instance.uid, 1)
            self.tools.report.add(known=count - 1)
            for frame in range(1, count + 1) if count > 1 else (None,):
                self._frame(places, instance, frame)

    def _frame(self, places: Sequence[WadoRs], instance: WantedInstance, frame: int | None) -> None:
        file = self._file(instance, frame)
        if self.into.has(file, again=self.tools.verify) is not None:
            self.tools.report.add(already=1)
            return
        try:
            act = partial(self._fetch, instance, frame, file)
            self.tools.tried(places, act, lambda: self.kept_bytes)
        except FluteSyncError as error:
            self.tools.report.miss(error, self.study.uid, self.series.uid, instance.uid)

    def _fetch(self, instance: WantedInstance, frame: int | None, file: str, place: WadoRs) -> None:
        path = path_of(self.study.uid, self.series.uid, instance.uid)
        path += "/rendered" if frame is None else f"/frames/{frame}/rendered"
        try:
            with (
                place.picture(path, self.essence) as chunks,
                IncomingPicture(
                    self.tools.folder.open, self.tools.largest_bytes, self.essence
                ) as incoming,
            ):
                for chunk in chunks:
                    self.tools.patience.check()
                    incoming.feed(chunk)
                incoming.end()
                picture = incoming.written()
                self.into.keep([(picture, self._kept(instance, frame, file, incoming.sha256))])
        except ArchiveRefused as error:
            kind = InstanceAbsent if error.status in ABSENT else NotRendered
            raise kind(f"{place.name}: HTTP {error.status}") from error
        self.kept_bytes += incoming.size_bytes
        self.tools.report.add(fetched=1, bytes=incoming.size_bytes)

    def _file(self, instance: WantedInstance, frame: int | None) -> str:
        names, series = self.tools.names, self.series
        folder = names.series(series.uid or "", series.number, series.modality)
        stem = names.instance(instance.uid, instance.number)
        suffix = "" if frame is None else f"_f{frame:05d}"
        return f"{folder}/{stem}{suffix}.{ENDINGS[self.essence]}"

    def _kept(self, instance: WantedInstance, frame: int | None, file: str, sha256: str) -> Kept:
        return Kept(
            file=file,
            sha256=sha256,
            size_bytes=0,
            modified_ns=0,
            sop_instance_uid=instance.uid,
            series_instance_uid=self.series.uid or "",
            study_instance_uid=self.study.uid,
            sop_class_uid=instance.sop_class_uid,
            modality=self.series.modality,
            frame=frame,
        )
