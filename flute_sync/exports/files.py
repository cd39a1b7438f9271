"""Which files an export has, and how they are cut into pieces of bounded size.

References
----------
FHIR Bulk Data Access 2.0.0, export, "Response - Complete Status"; FHIR R4 bundle.html, json.html.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import orjson

from flute_sync.command_errors import InputMalformed, InputUnreadable

LINES: Final = frozenset({".ndjson", ".jsonl"})
"""Suffixes of files with a resource a line; all others are read as JSON texts."""
_SUFFIXES: Final = LINES | {".json"}
_PACKED: Final = frozenset({".gz", ".zip", ".bz2", ".xz", ".zst"})
_LARGEST_MANIFEST_BYTES: Final = 64 * 1024 * 1024
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


class Files(NamedTuple):
    """The files of an export, sorted, and how many others lie there that are not read."""

    read: list[Path]
    others: int


def files(path: Path) -> Files:
    """Return a file, or the ``.json``, ``.ndjson`` and ``.jsonl`` files of a folder.

    Raises
    ------
    InputUnreadable
        There is nothing to read, or not all can be looked at.
    InputMalformed
        A file is compressed: who has an MRI in it would be excluded.
    """
    try:
        is_folder = path.is_dir()
        inside = _inside(path) if is_folder else [_file(path)]
        packed = [one for one in inside if _is_packed(one) and not one.with_suffix("").exists()]
        found = [one for one in inside if not is_folder or one.suffix.lower() in _SUFFIXES]
        read = [_file(one) for one in found if not is_folder or not _is_manifest(one)]
    except OSError as error:
        raise InputUnreadable(error.strerror or "") from error
    if packed:
        raise InputMalformed(f"{packed[0].name} is compressed; unpack it first")
    if not read:
        raise InputUnreadable("the folder holds no .json, .ndjson or .jsonl file")
    return Files(read, len(inside) - len(found))


def _inside(folder: Path) -> list[Path]:
    """Return the files of a folder and its folders, and the links to folders, but nothing hidden.

    `Path.rglob` would pass over in silence what may not be looked into.
    """
    found: list[Path] = []
    for where, folders, names in os.walk(folder, onerror=_refuse):
        links = [one for one in folders if Path(where, one).is_symlink()]
        found += [Path(where, one) for one in names + links if not one.startswith(".")]
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise error


def _file(path: Path) -> Path:
    if not path.exists():
        raise InputUnreadable(f"{path.name}: no such file or folder")
    if not path.is_file():
        raise InputUnreadable(
            f"{path.name} is neither a file nor a folder; save what it says first"
        )
    return path


def _is_manifest(path: Path) -> bool:
    """Tell whether this is what a bulk export says of itself: names of files, and no resource."""
    if path.name != "manifest.json" or path.stat().st_size > _LARGEST_MANIFEST_BYTES:
        return False
    try:
        found = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and {"transactionTime", "output"} <= found.keys()


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
