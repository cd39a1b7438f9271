"""What a power cut may have taken of files that nobody waited for.

To wait until each file is on the disk takes longer than to fetch it. So the disk is told to write
everything now and then, while the fetch goes on, and it is noted up to when that was done. What
came after is doubtful once the machine has started anew: then it is read and compared with its
checksum. The death of a process takes nothing that it had written.

References
----------
sync(2), random(4) for ``boot_id``: Linux man-pages 6.9
"""

import contextlib
import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Final

import orjson

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_EVERY_SECONDS: Final = 60.0
_MARGIN_NS: Final = 1_000_000_000  # the clock of files is coarser than ours
_SYNCFS: Final = getattr(ctypes.CDLL(None), "syncfs", None)


class Flushing:
    """Keeps note of it, beside the files of one disk; ``with`` goes on with it.

    Parameters
    ----------
    note
        A file of ours.
    write
        Writes it; what it raises ends the note-keeping, and not the fetch.
    """

    def __init__(self, note: Path, write: Callable[[Path, bytes], None]) -> None:
        self._note, self._write = note, write
        self._boot = _boot_id()
        self._stop = Event()
        self._thread = Thread(target=self._work, name="flush", daemon=True)

    def doubtful_since(self) -> int | None:
        """Return from when on files (ns) may not be what was written, None where all are."""
        try:
            told = orjson.loads(self._note.read_bytes())
            boot, until = str(told["boot"]), int(told["until_ns"])
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):  # it was itself cut off
            return 0
        return None if boot == self._boot != "" else until

    def settle(self) -> None:
        """Note that nothing is doubtful by now; raises `OSError`."""
        self._write(self._note, self._told(time.time_ns()))

    def __enter__(self) -> "Flushing":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _work(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            begun = time.time_ns()
            with contextlib.suppress(OSError):
                if _flushed(self._note.parent):
                    self._write(self._note, self._told(begun))

    def _told(self, until_ns: int) -> bytes:
        return orjson.dumps({"boot": self._boot, "until_ns": until_ns - _MARGIN_NS})


def _flushed(folder: Path) -> bool:
    """Wait until all of the disk that a folder is on is written."""
    if _SYNCFS is None:
        return False
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return bool(_SYNCFS(handle) == 0)
    finally:
        os.close(handle)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
