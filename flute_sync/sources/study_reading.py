"""The ways to read all instances of a study, and what is made of the answers.

References
----------
PS3.18 10.4.1.1.2 (metadata), 10.6 (search) and F (DICOM JSON) (2026b).
"""

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Final, Literal, NamedTuple

from flute_sync.archive_errors import ArchiveForeignInstance, ArchiveRefused
from flute_sync.dicom_errors import HeaderError, HeaderUidInvalid
from flute_sync.intake import Received, Refused
from flute_sync.sources import header_tags as tags
from flute_sync.sources.dicom_json import JsonReader, uid_in
from flute_sync.sources.peer import Json, Peer
from flute_sync.sources.search import Search, StudyRow
from flute_sync.study import SeriesInstanceUID, SOPInstanceUID, StudyInstanceUID
from flute_sync.valuerep import ILLEGAL, uid_problem

Service = Literal["wado-rs", "qido-rs", "c-find", "c-find series"]
"""How a study was read; ``c-find series``: of some series no instances."""

Attributes = tuple[Json, ...]
"""What is said of one instance, then what is said of its series and study.

A series whose UID cannot be asked for stands for an instance, and is refused as one.
"""

ABSENT: Final = frozenset({404, 410})
_WANTED: Final = tuple(f"{tag:08X}" for tag in sorted(tags.WANTED))


def require_legal(study_instance_uid: StudyInstanceUID) -> None:
    """Refuse a UID that no archive can be asked for.

    Raises
    ------
    HeaderUidInvalid
    """
    if uid_problem(study_instance_uid) == ILLEGAL:
        raise HeaderUidInvalid(tag=tags.tag_text(tags.STUDY_INSTANCE_UID))


class Way(NamedTuple):
    """A way to read a study; nothing is asked for before ``read()`` is iterated."""

    service: Service
    read: Callable[[], Iterator[Attributes]]


class Reading:
    """Reads studies of one archive in the ways that the settings allow."""

    def __init__(
        self, peer: Peer, search: Search, metadata: Literal["auto", "wado-rs", "qido-rs"]
    ) -> None:
        self._peer = peer
        self._search = search
        self._allowed = metadata

    def ways(self, uid: StudyInstanceUID, row: StudyRow | None) -> Iterator[Way]:
        """Yield the ways to read a study, the best first; most need what its search said."""
        if self._allowed != "qido-rs":
            yield Way("wado-rs", lambda: self._metadata(f"/studies/{uid}"))
            if row is not None:
                yield Way("wado-rs", lambda: self._by_series(uid))
        if self._allowed != "wado-rs" and row is not None:
            yield Way("qido-rs", lambda: self._by_search(row))

    def _metadata(self, path: str) -> Iterator[Attributes]:
        return ((instance,) for instance in self._peer.objects(f"{path}/metadata"))

    def _by_series(self, uid: StudyInstanceUID) -> Iterator[Attributes]:
        answered = False
        for series in self._search.series(uid):
            series_uid = uid_in(series, tags.SERIES_INSTANCE_UID)
            if series_uid is None:
                yield (series,)
                continue
            try:
                yield from self._metadata(f"/studies/{uid}/series/{series_uid}")
            except ArchiveRefused as refusal:
                # A series may go while we read; but a server without metadata has none at all.
                if not answered or refusal.status not in ABSENT:
                    raise
            answered = True

    def _by_search(self, row: StudyRow) -> Iterator[Attributes]:
        uid = row.study_instance_uid
        studies = of_every_patient(row)
        for series in self._search.series(uid):
            series_uid = uid_in(series, tags.SERIES_INSTANCE_UID)
            if series_uid is None:
                yield series, next(studies)
                continue
            for instance in self._search.instances(uid, series_uid, _WANTED):
                yield instance, series, next(studies)


def of_every_patient(row: StudyRow) -> Iterator[Json]:
    """Yield the rows of a study in turn, for ever.

    Where it is filed under several patients nothing tells which parts are whose: each of them must
    be seen, so that the study is held.
    """
    return cycle(row.attributes)


def gather(
    uid: StudyInstanceUID, instances: Iterator[Attributes]
) -> tuple[tuple[Received, ...], tuple[Refused, ...]]:
    """Make instances of what an archive says, each one once.

    One that cannot be used is refused alone. Those of other studies, which a server returns that
    does not heed what was asked, are left out and said once; where there is nothing else, nothing
    was read.
    """
    received: dict[tuple[SeriesInstanceUID, SOPInstanceUID], Received] = {}
    refused: list[Refused] = []
    foreign, reader = False, JsonReader()
    for attributes in instances:
        try:
            one = reader.received(*attributes)
        except HeaderError as error:
            if error.study_instance_uid in (uid, None):
                refused.append(Refused(uid, error.code, error.tag))
            else:
                foreign = True
            continue
        if one.study_instance_uid != uid:
            foreign = True
            continue
        received.setdefault((one.series_instance_uid, one.instance.sop_instance_uid), one)
    if foreign and (received or refused):
        refused.append(Refused(uid, ArchiveForeignInstance.code, "(0020,000D)"))
    return tuple(received.values()), tuple(refused)
