"""The folder that images are fetched into: whole files or none, and what is known of each.

::

    DIR/SHA256SUMS                              of everything, for ``sha256sum --check``
    DIR/sub-<patient>/ses-<study>/instances.jsonl   what was fetched, a line for each file
    DIR/.flute-sync/                            the key of the names, and what is being written

A file has its name only once all of it was verified; the line that says so comes after. What a
line says and the disk does not, or says otherwise, counts as not there. What a power cut may do to
them is told in `fetch_flush`.
"""

import contextlib
import fcntl
import hashlib
import itertools
import os
import secrets
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, Self

import orjson

from flute_sync.daemon.fetch_flush import Flushing
from flute_sync.fetch_errors import FolderBusy, FolderUnusable

_PRIVATE: Final = 0o600
_PRIVATE_FOLDER: Final = 0o700
_KEY_BYTES: Final = 32
_CHUNK_BYTES: Final = 1 << 20
# Larger ones make Linux look for larger pages, which takes longer than to write (measured on 6.18).
_WRITTEN_AT_ONCE_BYTES: Final = 64 << 10
JOURNAL: Final = "instances.jsonl"
CHECKSUMS: Final = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class Kept:
    """One file as it was verified.

    ``file`` is relative to its study's folder. ``source`` says of what files, by their checksums,
    a file was made that is not an instance.
    """

    file: str
    sha256: str
    size_bytes: int
    modified_ns: int
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    sop_class_uid: str | None = None
    modality: str | None = None
    b_value: float | None = None
    frame: int | None = None
    source: str | None = None


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """Say what the disk refuses, without names of files."""
    try:
        yield
    except OSError as error:
        raise FolderUnusable(error.strerror or "") from error


class Folder:
    """The root; open while its ``with`` block lasts, for one process at a time.

    Raises
    ------
    FolderUnusable, FolderBusy
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._own = root / ".flute-sync"
        self._temporary = self._own / "tmp"
        self._numbers = itertools.count()
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opened, _said():
            self.root.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            self._own.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
            lock = opened.enter_context(_private(self._own / "lock", "ab"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderBusy() from None
            shutil.rmtree(self._temporary, ignore_errors=True)  # of a run that was killed
            self._temporary.mkdir(mode=_PRIVATE_FOLDER)
            opened.callback(shutil.rmtree, self._temporary, ignore_errors=True)
            opened.enter_context(self._flushing())
            self._opened = opened.pop_all()
        return self

    def _flushing(self) -> Flushing:
        """Remove what a power cut damaged, and see to it that the next one takes little."""

        def write(file: Path, data: bytes) -> None:
            with written(file, self._temporary) as stream:
                stream.write(data)

        flushing = Flushing(self._own / "flushed", write)
        since = flushing.doubtful_since()
        if since is not None:
            for journal in self.root.glob(f"sub-*/ses-*/{JOURNAL}"):
                for kept in read_journal(journal).values():
                    file = journal.parent / kept.file
                    if kept.modified_ns >= since and _digest(file) != kept.sha256:
                        file.unlink(missing_ok=True)
        flushing.settle()
        return flushing

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def key(self) -> bytes:
        """Return the key of this folder's names, made on the first use.

        Raises
        ------
        FolderUnusable
            It cannot be read, or is not whole: names by it would be no pseudonyms.
        """
        file = self._own / "key"
        with _said():
            if not file.exists():
                with written(file, self._temporary) as stream:
                    stream.write(secrets.token_bytes(_KEY_BYTES))
            key = file.read_bytes()
        if len(key) != _KEY_BYTES:
            raise FolderUnusable("the key of its names, .flute-sync/key, is damaged")
        return key

    def open(self) -> "Writing":
        """Open a file that has no name yet."""
        return Writing(f"{self._temporary}/{next(self._numbers)}")

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a folder that is removed after its use."""
        place = self._temporary / str(next(self._numbers))
        with _said():
            place.mkdir(mode=_PRIVATE_FOLDER)
            try:
                yield place
            finally:
                shutil.rmtree(place, ignore_errors=True)

    def adopt(self, file: Path) -> "Writing":
        """Take a file on that another program wrote into a scratch folder."""
        with _said():
            file.chmod(_PRIVATE)
        adopted = Writing(str(file), "ab")
        adopted.close()
        return adopted

    def study(self, name: str) -> "StudyFolder":
        """Open the folder of a study."""
        return StudyFolder(self.root / name)

    def write_checksums(self) -> None:
        """Write the checksums of all that the folder holds, one study in memory at a time."""
        with written(self.root / CHECKSUMS, self._temporary) as stream:
            for journal in sorted(self.root.glob(f"sub-*/ses-*/{JOURNAL}")):
                where = journal.parent.relative_to(self.root).as_posix()
                for kept in sorted(read_journal(journal).values(), key=lambda one: one.file):
                    stream.write(f"{kept.sha256}  {where}/{kept.file}\n".encode())


class StudyFolder:
    """The files of one study; for several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._place = str(path)
        self._made: set[str] = set()
        with _said():
            self._kept = read_journal(path / JOURNAL)

    def has(self, file: str, *, again: bool = False) -> Kept | None:
        """Return what is known of a file that is there as it was verified.

        Parameters
        ----------
        again
            Read all of it, whatever its size and time say.
        """
        kept = self._kept.get(file)
        if kept is None:
            return None
        place = self.path / file
        with _said():
            try:
                state = place.lstat()
            except FileNotFoundError:
                return None
            if (state.st_size, state.st_mtime_ns) == (kept.size_bytes, kept.modified_ns):
                return kept if not again or _digest(place) == kept.sha256 else None
            return kept if _digest(place) == kept.sha256 else None

    def files(self, series_uid: str | None, *endings: str) -> list[Kept]:
        """Return what is known of a series' files, or the whole study's, with these endings."""
        return [
            one
            for one in tuple(self._kept.values())
            if series_uid in (None, one.series_instance_uid) and one.file.endswith(endings)
        ]

    def of_series(self, series_uid: str | None, *, again: bool = False) -> set[str]:
        """Return the SOP Instance UIDs of a series, or of the whole study, that are there."""
        of_it = self.files(series_uid, ".dcm")
        return {one.sop_instance_uid for one in of_it if self.has(one.file, again=again)}

    def keep(self, verified: Sequence[tuple["Writing", Kept]]) -> None:
        """Give verified files their names, and write down that they are there."""
        if not verified:
            return
        lines = []
        with _said():
            for writing, kept in verified:
                self._make(os.path.dirname(kept.file))
                writing.settle(f"{self._place}/{kept.file}")
                size, modified = writing.size_bytes, writing.modified_ns
                lines.append(replace(kept, size_bytes=size, modified_ns=modified))
            with self._lock, _private(self.path / JOURNAL, "ab") as journal:
                # A line that a crash cut off is ended first, so that these can be read.
                journal.write(b"" if _ends_well(self.path / JOURNAL) else b"\n")
                journal.writelines(orjson.dumps(line) + b"\n" for line in lines)
                self._kept.update((line.file, line) for line in lines)

    def _make(self, series: str) -> None:
        if series not in self._made:
            for folder in (self.path.parent, self.path, self.path / series):
                folder.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
            self._made.add(series)


class Writing:
    """A private file without a name yet; raises `FolderUnusable`."""

    def __init__(self, path: str, mode: str = "xb") -> None:
        self._path = path
        with _said():
            self._stream = _private(path, mode)
        self.size_bytes = self.modified_ns = 0
        self._has_name = False

    def write(self, data: bytes) -> None:
        """Write."""
        view = memoryview(data)
        with _said():
            for start in range(0, len(view), _WRITTEN_AT_ONCE_BYTES):
                self._stream.write(view[start : start + _WRITTEN_AT_ONCE_BYTES])

    def close(self) -> None:
        """State that all is written."""
        with _said(), self._stream as stream:
            stream.flush()
            state = os.fstat(stream.fileno())
            self.size_bytes, self.modified_ns = state.st_size, state.st_mtime_ns

    def settle(self, place: str) -> None:
        """Give it its name."""
        os.replace(self._path, place)
        self._has_name = True

    def drop(self) -> None:
        """Remove it where it has no name."""
        if self._has_name:
            return
        with contextlib.suppress(OSError):  # what was not written need not be flushed
            self._stream.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


@contextlib.contextmanager
def written(path: Path, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """Give a private file that takes its name once it is whole and on the disk.

    Parameters
    ----------
    temporary
        A folder of the same disk in which it is written; none: its own.

    Raises
    ------
    FolderUnusable
    """
    with _said():
        unnamed = (temporary or path.parent) / f".{path.name}.{secrets.token_hex(4)}"
        try:
            with _private(unnamed, "xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            unnamed.replace(path)
        finally:
            unnamed.unlink(missing_ok=True)


def read_journal(path: Path) -> dict[str, Kept]:
    """Read what was kept; a line that is cut off or not ours is passed over."""
    kept: dict[str, Kept] = {}
    try:
        with path.open("rb") as lines:
            for line in lines:
                with contextlib.suppress(orjson.JSONDecodeError, TypeError):
                    one = Kept(**orjson.loads(line))
                    kept[one.file] = one
    except FileNotFoundError:
        pass
    return kept


def _private(path: Path | str, mode: str) -> BinaryIO:
    return open(path, mode, opener=_opener)  # type: ignore[return-value]


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, _PRIVATE)


def _ends_well(path: Path) -> bool:
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        if not end:
            return True
        file.seek(end - 1)
        return file.read(1) == b"\n"


def _digest(path: Path) -> str | None:
    if path.is_symlink() or not path.is_file():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
