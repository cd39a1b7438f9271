"""One series brought to disk: asked for as a whole, and what is still missing one by one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from flute_sync.archive_errors import ArchiveRefused
from flute_sync.daemon.fetch_folder import Folder, Kept, StudyFolder, Writing
from flute_sync.daemon.fetch_parts import IncomingInstance
from flute_sync.daemon.fetch_patience import Patience
from flute_sync.daemon.fetch_report import Report
from flute_sync.dicom_errors import HeaderError
from flute_sync.errors import FluteSyncError, PermanentError, TransientError
from flute_sync.fetch_errors import (
    CountMismatch,
    InstanceAbsent,
    InstanceTruncated,
    WrongInstance,
)
from flute_sync.intake import Received
from flute_sync.retrieval import WantedInstance, WantedSeries, WantedStudy, path_of
from flute_sync.retrieval_names import Names
from flute_sync.sources.header import HeaderReader
from flute_sync.sources.multipart import PartEnd, PartHead, Piece
from flute_sync.sources.wado_rs import WadoRs
from flute_sync.study import SeriesAttributes

ABSENT: Final = frozenset({404, 410})
_BATCH: Final = 64


@dataclass(frozen=True)
class Tools:
    """What all series of one run share.

    Parameters
    ----------
    verify
        Whether files that are there are read again.
    """

    folder: Folder
    names: Names
    report: Report
    reader: HeaderReader
    patience: Patience
    largest_bytes: int
    verify: bool = False

    def tried(
        self,
        places: Sequence[WadoRs],
        act: Callable[[WadoRs], None],
        gained: Callable[[], int],
    ) -> None:
        """Do something at the first place, and where it fails, at the next; as `Patience.tried`."""
        self.patience.tried(lambda failures: act(places[failures % len(places)]), gained)


@dataclass
class SeriesFetch:
    """The work on one series.

    Parameters
    ----------
    pending
        By SOP Instance UID, what is not on the disk yet; empty where FHIR lists no instances.
    is_complete
        Whether all that is to come is there, as far as that is known.
    """

    tools: Tools
    study: WantedStudy
    series: WantedSeries
    into: StudyFolder
    pending: dict[str, WantedInstance] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    verified: list[tuple[Writing, Kept]] = field(default_factory=list)
    folders: dict[str, str] = field(default_factory=dict)
    kept_bytes: int = 0
    is_complete: bool = True

    def run(self, places: Sequence[WadoRs]) -> None:
        """Bring it to disk, and report what did not come.

        Raises
        ------
        Ended, FolderUnusable
        """
        series, report = self.series, self.tools.report
        if not series.instances:
            self._run_counted(places)
            return
        self.pending = {one.uid: one for one in series.instances if not self._is_there(one)}
        report.add(already=len(series.instances) - len(self.pending))
        if self._is_worth_asking_for_whole():
            with suppress(PermanentError, TransientError):  # then they are asked for one by one
                self.tools.tried(places, self._whole, self._gained)
        for instance in tuple(self.pending.values()):
            try:
                self.tools.tried(places, partial(self._single, instance), self._gained)
            except FluteSyncError as error:
                self._miss(error, instance.uid)

    def files(self) -> list[Kept]:
        """Return what of it is on the disk."""
        uids = {one.uid for one in self.series.instances} or self.seen
        of_it = self.into.files(self.series.uid, ".dcm")
        return [one for one in of_it if one.sop_instance_uid in uids]

    def _gained(self) -> int:
        return self.kept_bytes

    # -- what FHIR lists -------------------------------------------------------------------------

    def _is_there(self, instance: WantedInstance) -> bool:
        file = self._file(instance, self.series.uid or "")
        return self.into.has(file, again=self.tools.verify) is not None

    def _is_worth_asking_for_whole(self) -> bool:
        """Tell whether more than half of what would come is wanted."""
        size = max(self.series.count or 0, len(self.series.instances))
        return len(self.pending) * 2 > size and len(self.pending) > 1

    def _whole(self, place: WadoRs) -> None:
        if self._is_worth_asking_for_whole():
            path = path_of(self.study.uid, self.series.uid)
            self._retrieve(place, path, self._listed, strict=False)

    def _listed(self, received: Received) -> WantedInstance | None:
        uid = str(received.instance.sop_instance_uid)
        if uid not in self.pending and uid not in self.seen:
            self.seen.add(uid)
            is_listed = any(one.uid == uid for one in self.series.instances)
            self.tools.report.add(unlisted=not is_listed)
        return self.pending.get(uid)

    def _single(self, instance: WantedInstance, place: WadoRs) -> None:
        def asked_for(received: Received) -> WantedInstance | None:
            if received.instance.sop_instance_uid != instance.uid:
                raise WrongInstance("its SOP Instance UID is another")
            return self.pending.get(instance.uid)

        path = path_of(self.study.uid, self.series.uid, instance.uid)
        try:
            self._retrieve(place, path, asked_for)
        except ArchiveRefused as error:
            if error.status in ABSENT:
                raise InstanceAbsent(f"{place.name}: HTTP {error.status}") from error
            raise
        if instance.uid in self.pending:
            raise InstanceTruncated("the answer has no part")

    # -- what FHIR only counts -------------------------------------------------------------------

    def _run_counted(self, places: Sequence[WadoRs]) -> None:
        expected = self.series.count
        there = self.into.of_series(self.series.uid, again=self.tools.verify)
        self.seen = set(there)
        if expected is not None and len(there) == expected:
            self.tools.report.add(already=expected)
            return
        self.tools.report.add(already=len(there))
        try:
            self.tools.tried(places, self._all, self._gained)
        except FluteSyncError as error:
            self._miss(error, None, max(1, (expected or 0) - len(self.seen)))
            return
        if expected is not None and len(self.seen) != expected:
            said = CountMismatch(f"{len(self.seen)} of {expected} instances")
            self._miss(said, None, max(1, expected - len(self.seen)))

    def _all(self, place: WadoRs) -> None:
        self._retrieve(place, path_of(self.study.uid, self.series.uid), self._counted)

    def _counted(self, received: Received) -> WantedInstance | None:
        instance = received.instance
        uid = str(instance.sop_instance_uid)
        if uid in self.seen:
            return None
        self.seen.add(uid)
        return WantedInstance(uid, instance.number)

    # -- parts -----------------------------------------------------------------------------------

    def _retrieve(
        self,
        place: WadoRs,
        path: str,
        which: Callable[[Received], WantedInstance | None],
        *,
        strict: bool = True,
    ) -> None:
        """Take the parts of an answer that are whole and wanted.

        Parameters
        ----------
        which
            Tells what a part is to be kept as, if at all.
        strict
            Whether a part that cannot be used is an error, or passed over for now.
        """
        try:
            with closing(place.instances(path)) as pieces:
                for piece in pieces:
                    if isinstance(piece, PartHead):
                        with self._incoming(piece) as incoming:
                            self._pour(pieces, incoming)
                            try:
                                self._keep(incoming, which)
                            except (HeaderError, InstanceTruncated, WrongInstance):
                                if strict:
                                    raise
                        self._settle(only_if_many=True)
        finally:
            self._settle()

    def _incoming(self, head: PartHead) -> IncomingInstance[Writing]:
        tools = self.tools
        return IncomingInstance(tools.folder.open, tools.largest_bytes, _length(head), tools.reader)

    def _pour(self, pieces: Iterator[Piece], incoming: IncomingInstance[Writing]) -> None:
        for piece in pieces:
            if isinstance(piece, PartEnd):
                return
            if isinstance(piece, bytes):
                self.tools.patience.check()
                incoming.feed(piece)

    def _keep(
        self,
        incoming: IncomingInstance[Writing],
        which: Callable[[Received], WantedInstance | None],
    ) -> None:
        received = incoming.received()
        if received.study_instance_uid != self.study.uid:
            raise WrongInstance("its Study Instance UID is another")
        if self.series.uid not in (None, received.series_instance_uid):
            raise WrongInstance("its Series Instance UID is another")
        wanted = which(received)
        if wanted is not None:
            file = incoming.written()
            self.verified.append((file, self._kept(wanted, incoming, received)))
            self.pending.pop(wanted.uid, None)
            self.kept_bytes += incoming.size_bytes

    def _settle(self, *, only_if_many: bool = False) -> None:
        """Give many files their names at once."""
        if only_if_many and len(self.verified) < _BATCH:
            return
        verified, self.verified = self.verified, []
        try:
            self.into.keep(verified)
        finally:
            for file, _ in verified:
                file.drop()
        size_bytes = sum(kept.size_bytes for _, kept in verified)
        self.tools.report.add(fetched=len(verified), bytes=size_bytes)

    def _kept(
        self, wanted: WantedInstance, incoming: IncomingInstance[Writing], received: Received
    ) -> Kept:
        header = received.instance.header
        series_uid = str(received.series_instance_uid)
        return Kept(
            file=self._file(wanted, series_uid, header.series),
            sha256=incoming.sha256,
            size_bytes=incoming.size_bytes,
            modified_ns=0,
            sop_instance_uid=wanted.uid,
            series_instance_uid=series_uid,
            study_instance_uid=self.study.uid,
            sop_class_uid=header.sop_class_uid,
            modality=header.series.modality,
            b_value=header.series.diffusion_b_value,
        )

    def _file(
        self, wanted: WantedInstance, series_uid: str, header: SeriesAttributes | None = None
    ) -> str:
        """Name a file by what FHIR says of its series, by the header where FHIR knows none."""
        names, known = self.tools.names, self.series
        folder = self.folders.get(series_uid)
        if folder is None:
            said = header if known.uid is None and header is not None else known
            folder = names.series(series_uid, said.number, said.modality)
            self.folders[series_uid] = folder
        return f"{folder}/{names.instance(wanted.uid, wanted.number)}.dcm"

    def _miss(self, error: FluteSyncError, uid: str | None, files: int = 1) -> None:
        self.is_complete = False
        self.tools.report.miss(error, self.study.uid, self.series.uid, uid, files)


def _length(head: PartHead) -> int | None:
    stated = head.headers.get(b"content-length", b"").strip()
    return int(stated) if stated.isdigit() and len(stated) < 16 else None
