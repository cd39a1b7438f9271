"""Which files an export has, and how they are cut into pieces of bounded size.

References
----------
FHIR Bulk Data Access 2.0.0, export; FHIR R4 bundle.html, json.html.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from flute_sync.command_errors import InputMalformed, InputUnreadable

LINES: Final = frozenset({".ndjson", ".jsonl"})
"""Suffixes of files with a resource a line; all others are read as JSON texts."""
_SUFFIXES: Final = LINES | {".json"}
_PACKED: Final = frozenset({".gz", ".zip", ".bz2", ".xz", ".zst"})
CUT_BYTES: Final = 1024 * 1024
"""Lines are read in cuts of about this size: of small resources it is some ten thousand."""


class Cut(NamedTuple):
    """The lines of a file that begin from ``start`` on, before ``end``; a JSON file is one cut."""

    path: Path
    start: int
    end: int

    @property
    def bytes(self) -> int:
        """How much it is to read."""
        return self.end - self.start

    @property
    def is_lines(self) -> bool:
        """Whether each line is a resource."""
        return self.path.suffix.lower() in LINES


def files(path: Path) -> list[Path]:
    """Return a file, or the ``.json``, ``.ndjson`` and ``.jsonl`` files of a folder, sorted.

    Raises
    ------
    InputUnreadable
        There is nothing to read.
    InputMalformed
        A file is compressed: who has an MRI in it would be excluded.
    """
    try:
        if path.is_file():
            inside = [path]
        elif path.is_dir():
            inside = sorted(one for one in path.rglob("*") if one.is_file())
        else:
            raise InputUnreadable("no such file or folder")
        packed = [one for one in inside if _is_packed(one) and not one.with_suffix("").exists()]
    except OSError as error:
        raise InputUnreadable(error.strerror or "") from error
    if packed:
        raise InputMalformed(f"{packed[0].name} is compressed; unpack it first")
    found = [one for one in inside if one == path or one.suffix.lower() in _SUFFIXES]
    if not found:
        raise InputUnreadable("the folder holds no .json, .ndjson or .jsonl file")
    return found


def _is_packed(path: Path) -> bool:
    unpacked = Path(path.stem).suffix.lower()
    return path.suffix.lower() in _PACKED and unpacked in _SUFFIXES


def cuts(paths: list[Path], size_bytes: int = CUT_BYTES) -> Iterator[Cut]:
    """Cut files.

    Raises
    ------
    InputUnreadable
        One cannot be looked at.
    """
    for path in paths:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise InputUnreadable(f"{path.name}: {error.strerror}") from error
        whole = Cut(path, 0, size)
        if not whole.is_lines:
            yield whole
            continue
        for start in range(0, size, size_bytes):
            yield Cut(path, start, min(start + size_bytes, size))


def opened(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises
    ------
    InputUnreadable
        It cannot be.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise InputUnreadable(f"{path.name}: {error.strerror}") from error
