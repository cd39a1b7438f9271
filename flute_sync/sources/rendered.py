"""Small pictures of images, rendered by the archive.

References
----------
PS3.18 10.4.1.1.3 (rendered resources), 8.3.5.1.3 (viewport) (2026b).
"""

from datetime import timedelta
from typing import Final, NamedTuple

import httpx

from flute_sync.archive_errors import ArchiveRefused, ArchiveServerError
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.peer import Peer
from flute_sync.valuerep import ILLEGAL, uid_problem

_MOST_BYTES: Final = 4 * 1024 * 1024
_CONNECT: Final = timedelta(seconds=5)
_LONGEST: Final = timedelta(seconds=15)
_SIDE: Final = 192
_KINDS: Final = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"))


class Picture(NamedTuple):
    """A picture, and what its first bytes say that it is."""

    data: bytes
    media_type: str


class Renderer:
    """Asks one archive for pictures, with its credentials; safe to use from several threads."""

    def __init__(
        self, settings: ArchiveSettings, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        patience = {
            "max_answer_bytes": _MOST_BYTES,
            "longest_answer": _LONGEST,
            "connect_timeout": min(_CONNECT, settings.connect_timeout),
            "read_timeout": min(_LONGEST, settings.read_timeout),
        }
        self.name = settings.name
        self._peer = Peer(
            settings.model_copy(update=patience),
            settings.dicomweb_url,
            name="archive",
            accept="image/jpeg",
            transport=transport,
        )

    def close(self) -> None:
        """Close the connections."""
        self._peer.close()

    def picture(self, study: str, series: str, instance: str) -> Picture:
        """Return a small picture of an instance, by its UIDs.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized, ArchiveAnswerTooLarge
            There may be one.
        ArchiveRefused
            There is none.
        """
        if any(uid_problem(uid) == ILLEGAL for uid in (study, series, instance)):
            raise ArchiveRefused("no address can be made of a UID", status=404)
        where = f"/studies/{study}/series/{series}/instances/{instance}/rendered"
        data = self._peer.body(f"{where}?viewport={_SIDE},{_SIDE}")
        for begin, media_type in _KINDS:
            if data.startswith(begin):
                return Picture(data, media_type)
        raise ArchiveServerError("archive: its picture is neither JPEG nor PNG")
