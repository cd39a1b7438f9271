"""Does the archive really hold these instances? Asked for storage commitment, by QIDO-RS.

References
----------
PS3.18 10.6 (2026b), PS3.3 C.14.1.1 (2026b).
"""

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Final, Protocol

from flute_sync.archive_errors import ArchiveCapabilityMissing, ArchiveRefused
from flute_sync.sources import header_tags as tags
from flute_sync.sources.dicom_json import uid_in
from flute_sync.sources.peer import Json


class FailureReason(IntEnum):
    """Why an instance is not committed, (0008,1197)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_CONFLICT = 0x0119


class InstanceSearch(Protocol):
    """Searches an archive for instances."""

    def instance(self, sop_instance_uid: str) -> Json | None:
        """Return the row of one instance; None where the archive does not find it."""

    def instances(
        self, study_instance_uid: str, series_instance_uid: str, include: tuple[str, ...]
    ) -> list[Json]:
        """Return the rows of a series."""


_NOBODY: Final = "2.25.1"
_INCLUDE: Final = (f"{tags.SOP_CLASS_UID:08X}",)


def probe(search: InstanceSearch) -> None:
    """Try whether an archive can be asked for an instance; raises as `judge`."""
    _found_by(search, _NOBODY)


def judge(
    search: InstanceSearch,
    asked: Mapping[str, str],
    verdicts: dict[str, FailureReason | None],
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Find out of each instance whether the archive holds it.

    One instance tells the series, and the series all others of it: requests mostly name series.

    Parameters
    ----------
    asked
        SOP Class UIDs by SOP Instance UID.
    verdicts
        What is known so far, by SOP Instance UID, None for what is held; it grows, so that a later
        call goes on where this one failed.

    Raises
    ------
    ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized, ArchiveRefused
        When the archive cannot be asked.
    ArchiveCapabilityMissing
        When it has no instance search.
    """
    held: dict[str, str | None] = {}
    for uid, sop_class_uid in asked.items():
        if is_stopped():
            return
        if uid in verdicts:
            continue
        if uid not in held:
            held.update(_found_by(search, uid))
        verdicts[uid] = _verdict(held, uid, sop_class_uid)


def _verdict(held: Mapping[str, str | None], uid: str, sop_class_uid: str) -> FailureReason | None:
    if uid not in held:
        return FailureReason.NO_SUCH_INSTANCE
    stated = held[uid]
    return FailureReason.CLASS_CONFLICT if stated not in (None, sop_class_uid) else None


def _found_by(search: InstanceSearch, uid: str) -> dict[str, str | None]:
    """Return the SOP classes of an instance and its neighbours, as far as they are found."""
    try:
        row = search.instance(uid)
    except ArchiveRefused as refusal:
        raise ArchiveCapabilityMissing("no instance search") from refusal
    if row is None:
        return {}
    found = _classes([row])
    study, series = uid_in(row, tags.STUDY_INSTANCE_UID), uid_in(row, tags.SERIES_INSTANCE_UID)
    if study is not None and series is not None:
        found |= _classes(search.instances(study, series, _INCLUDE))
    return found


def _classes(rows: Iterable[Json]) -> dict[str, str | None]:
    named = ((uid_in(row, tags.SOP_INSTANCE_UID), row) for row in rows)
    return {uid: uid_in(row, tags.SOP_CLASS_UID) for uid, row in named if uid is not None}
