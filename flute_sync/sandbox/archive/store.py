"""The archive's storage: one file per object in a folder, and its index."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from flute_sync.sandbox.archive.headers import Unreadable, read_header, uids_of
from flute_sync.sandbox.archive.index import Index

CANNOT_UNDERSTAND: Final = 0xC000  # PS3.4 B.2.3
PROCESSING_FAILURE: Final = 0x0110  # PS3.7 C.5.1


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of one object sent: its UIDs where readable, its path, or why it failed."""

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    path: str = ""
    failure_reason: int | None = None


class Store:
    """A folder of DICOM files.

    Parameters
    ----------
    folder
        Where files and index live; made when absent, found again on the next start.
    stable_age
        How long a study must rest before the feed calls it stable.
    now
        The clock.
    """

    def __init__(
        self,
        folder: Path,
        stable_age: timedelta = timedelta(seconds=1),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._objects = folder / "objects"
        self._incoming = folder / "incoming"
        shutil.rmtree(self._incoming, ignore_errors=True)  # what a dead process left half sent
        for needed in (self._objects, self._incoming):
            needed.mkdir(parents=True, exist_ok=True)
        self.index = Index(folder / "index.db", stable_age, now)

    def close(self) -> None:
        """Close the index."""
        self.index.close()

    def new_file(self) -> Path:
        """Make an empty file for an object on its way in; ``add`` or the caller removes it."""
        with tempfile.NamedTemporaryFile(dir=self._incoming, delete=False) as file:
            return Path(file.name)

    def add(self, incoming: Path, study_uid: str | None) -> Stored:
        """Take an object in.

        An object that is known already counts as stored, and the first one received is kept.

        Parameters
        ----------
        incoming
            A file from ``new_file``; gone afterwards.
        study_uid
            The study it must belong to, where the request named one.

        References
        ----------
        PS3.18 10.5.3 (2026b).
        """
        try:
            header, transfer_syntax = read_header(incoming)
            uids = uids_of(header)
            if study_uid not in (None, uids.study):
                return Stored(uids.sop_class, uids.instance, "", PROCESSING_FAILURE)
            with self.index.writing():
                public_id = self.index.add(header, uids, transfer_syntax, incoming.stat().st_size)
                if public_id is not None:
                    incoming.rename(self.file(public_id))
        except Unreadable:
            return Stored(failure_reason=CANNOT_UNDERSTAND)
        finally:
            incoming.unlink(missing_ok=True)
        path = f"{uids.study}/series/{uids.series}/instances/{uids.instance}"
        return Stored(uids.sop_class, uids.instance, path)

    def file(self, public_id: str) -> Path:
        """Name the file of an object."""
        return self._objects / f"{public_id}.dcm"

    def delete_study(self, public_id: str) -> bool:
        """Remove a study; False when there is none with this id."""
        instances = self.index.delete_study(public_id)
        for instance in instances or ():
            self.file(instance).unlink(missing_ok=True)
        return instances is not None
