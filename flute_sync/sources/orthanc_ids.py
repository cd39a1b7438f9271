"""Which studies Orthanc's own ids belong to, with as few questions as possible.

An id is a digest of the DICOM identifiers above and of the thing itself, so an answer stays true:
after a deletion, a new upload or a restart.
"""

import logging
import re
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeVar

import httpx

from flute_sync.archive_errors import ArchiveRefused, ArchiveServerError
from flute_sync.dicom_errors import HeaderUidInvalid
from flute_sync.events import Event, fields
from flute_sync.sources.peer import Json, Peer
from flute_sync.sources.poller import Stop
from flute_sync.sources.presence import Digests, digest
from flute_sync.study import StudyInstanceUID
from flute_sync.valuerep import ILLEGAL, uid_problem

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_NEWS: Final = frozenset({"NewInstance", "NewSeries", "NewStudy"})
_REMEMBERED: Final = 10_000
_FEW: Final = 100
_PAGE: Final = 500


class Change(NamedTuple):
    """One row of the change feed; ``date`` is Orthanc's text, to the second."""

    seq: int
    kind: str
    resource_type: str
    orthanc_id: str
    date: str = ""


class OrthancIds:
    """Looks ids up and remembers which series belongs to which study."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._study_of_series: dict[str, str] = {}
        self._uids: dict[str, StudyInstanceUID | None] = {}
        self._digests: dict[int, int] = {}

    def studies(self, changes: Iterable[Change], stop: Stop) -> dict[StudyInstanceUID, int] | None:
        """Return the studies of which changes tell news, each with the number of the newest.

        What is gone meanwhile is left out. None when told to stop.

        Parameters
        ----------
        changes
            In the order of the feed.
        """
        news: dict[str, dict[str, int]] = {"Instance": {}, "Series": {}, "Study": {}}
        for change in changes:
            if change.kind in _NEWS and change.resource_type in news:
                news[change.resource_type][change.orthanc_id] = change.seq
        instances, studies = news["Instance"], news["Study"]
        for series_id, seq in news["Series"].items():
            if stop():
                return None
            self._resolve_series(series_id, seq, instances, studies)
        while instances:
            if stop():
                return None
            instance_id, seq = instances.popitem()
            found = self._get("instances", instance_id)
            if found is not None:
                self._resolve_series(_text(found, "ParentSeries"), seq, instances, studies)
        return self._named(studies)

    def listed(self, stop: Stop) -> Digests | None:
        """Return all studies that Orthanc holds; None when told to stop.

        Of each, digests of its id and its UID are remembered.
        """
        present = {digest(study_id): study_id for study_id in self._present()}
        if len(present.keys() - self._digests.keys()) > _FEW:
            self._walk(stop)
        for key in present.keys() - self._digests.keys():
            if stop():
                return None
            self._digests[key] = digest(self._uid(present[key]) or "")
        self._digests = {key: self._digests[key] for key in present}
        listed = Digests()
        for value in self._digests.values():
            listed.add_digest(value)
        return listed

    def _present(self) -> list[str]:
        found = self._peer.value("/studies")
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise ArchiveServerError("Orthanc does not list its studies")
        return found

    def _walk(self, stop: Stop) -> None:
        """Learn the UIDs of all studies, many at a time."""
        since = 0
        while not stop():
            count = 0
            for study in self._peer.objects(f"/studies?expand&since={since}&limit={_PAGE}"):
                count += 1
                self._digests[digest(_text(study, "ID"))] = digest(_usable_uid(study) or "")
            if count < _PAGE:
                return
            since += count

    def _resolve_series(
        self, series_id: str, seq: int, instances: dict[str, int], studies: dict[str, int]
    ) -> None:
        """Credit a series and those of ``instances`` that are its own to its study."""
        study_id = self._study_of_series.get(series_id)
        if study_id is None or instances:
            series = self._get("series", series_id)
            if series is None:
                return
            study_id = _text(series, "ParentStudy")
            _remember(self._study_of_series, series_id, study_id)
            own = series.get("Instances")
            for instance_id in map(str, own if isinstance(own, list) else ()):
                seq = max(seq, instances.pop(instance_id, 0))
        studies[study_id] = max(seq, studies.get(study_id, 0))

    def _named(self, studies: dict[str, int]) -> dict[StudyInstanceUID, int]:
        named: dict[StudyInstanceUID, int] = {}
        for study_id, seq in studies.items():
            uid = self._uid(study_id)
            if uid is not None:  # two Orthanc studies have one UID where two patients share it
                named[uid] = max(seq, named.get(uid, 0))
        return named

    def _uid(self, study_id: str) -> StudyInstanceUID | None:
        if study_id not in self._uids:
            study = self._get("studies", study_id)
            if study is None:
                return None
            _remember(self._uids, study_id, _usable_uid(study))
        return self._uids[study_id]

    def _get(self, folder: str, orthanc_id: str) -> Json | None:
        if not _ID.fullmatch(orthanc_id):
            raise ArchiveServerError("an id is not one of Orthanc's")
        try:
            return self._peer.object(f"/{folder}/{orthanc_id}")
        except ArchiveRefused as refusal:
            if refusal.status != httpx.codes.NOT_FOUND:
                raise
            return None


def _usable_uid(study: Json) -> StudyInstanceUID | None:
    tags = study.get("MainDicomTags")
    uid = tags.get("StudyInstanceUID") if isinstance(tags, dict) else None
    if isinstance(uid, str) and uid_problem(uid) != ILLEGAL:
        return StudyInstanceUID(uid)
    log.warning(
        "A study of the archive has no usable UID and cannot be read.",
        extra=fields(Event.STUDY_REMARK, code=HeaderUidInvalid.code, studies=1),
    )
    return None


def _text(found: Json, key: str) -> str:
    value = found.get(key)
    if not isinstance(value, str):
        raise ArchiveServerError("Orthanc does not say what a resource belongs to")
    return value


def _remember(known: dict[str, _T], key: str, value: _T) -> None:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value
