"""Which of the studies that an archive is believed to hold it does not list."""

import logging
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

from flute_sync.events import Event, fields
from flute_sync.intake import Intake
from flute_sync.sources.poller import Stop
from flute_sync.study import StudyInstanceUID

log = logging.getLogger(__name__)

_HELD_PAGE: Final = 1000
_FEW: Final = 100
_DOUBTED_SHARE: Final = 10


class Digests:
    """UIDs of which only digests are kept: eight bytes for each."""

    def __init__(self, uids: Iterable[str] = ()) -> None:
        self._found = array("Q", map(digest, uids))
        self._sorted = False

    def add(self, uid: str) -> None:
        """Add a UID."""
        self._found.append(digest(uid))
        self._sorted = False

    def add_digest(self, value: int) -> None:
        """Add a UID of which only the digest is known."""
        self._found.append(value)
        self._sorted = False

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, uid: str) -> bool:
        if not self._sorted:
            self._found, self._sorted = array("Q", sorted(self._found)), True
        wanted = digest(uid)
        place = bisect_left(self._found, wanted)
        return place < len(self._found) and self._found[place] == wanted


def digest(uid: str) -> int:
    """Return eight bytes that stand for a UID."""
    return int.from_bytes(blake2b(uid.encode(), digest_size=8).digest())


def held(intake: Intake, archive: str, stop: Stop = lambda: False) -> Iterator[StudyInstanceUID]:
    """Yield all studies that an archive is believed to hold."""
    after: StudyInstanceUID | None = None
    while not stop():
        page = intake.held(archive, after, _HELD_PAGE)
        yield from page
        if len(page) < _HELD_PAGE:
            return
        after = page[-1]


def not_listed(
    intake: Intake, archive: str, source: str, before: Digests, listed: Digests
) -> list[StudyInstanceUID]:
    """Return what is held and not listed, of what was held before the listing began.

    Where that is most of it, the list is hardly to be believed: it is said, and a tenth is
    returned, enough for the archive to be seen as missing studies, too few to burden it.
    """
    missing = [uid for uid in held(intake, archive) if uid in before and uid not in listed]
    if missing and (not len(listed) or 2 * len(missing) > len(before)):
        log.warning(
            "The archive lists far less than it held; see that its list is complete. Only some of"
            " the studies that it does not list are looked into.",
            extra=fields(
                Event.SWEEP_DOUBTFUL,
                source=source,
                archive=archive,
                studies=len(listed),
                failed=len(missing),
            ),
        )
        return missing[: max(_FEW, len(before) // _DOUBTED_SHARE)]
    return missing
