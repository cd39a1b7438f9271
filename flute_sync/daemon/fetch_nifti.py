"""NIfTI of a series: made by dcm2niix from files that were verified, which stay as they are.

It runs as a process of its own, which sees the files of one series and writes into a folder of
ours, so that a file at which it dies costs that series' NIfTI alone. What it says is not kept: it
may name the patient.

References
----------
Li, Morgan, Ashburner, Smith, Rorden: "The first step for neuroimaging data analysis: DICOM to
NIfTI conversion", J Neurosci Methods 2016; BIDS 1.10, "MRI" for the sidecar and ``.bval``
"""

import hashlib
import re
import subprocess
import time
from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Final

from flute_sync.command_errors import LibraryAbsent
from flute_sync.daemon.fetch_folder import Folder, Kept, StudyFolder
from flute_sync.daemon.fetch_patience import Patience
from flute_sync.fetch_errors import NotConverted
from flute_sync.retrieval import WITHOUT_PIXELS

LONGEST: Final = timedelta(minutes=30)
_TICK_SECONDS: Final = 0.1
_OPTIONS: Final = (
    *("-b", "y", "-ba", "y"),  # a sidecar, without dates and identity
    *("-c", ""),  # the image's comments, which are free text, stay out
    *("-z", "i", "-w", "1", "-d", "0"),
    *("-g", "i"),  # nobody's own defaults
)
_ENDINGS: Final = (".nii.gz", ".json", ".bval", ".bvec")


class Converter:
    """Runs dcm2niix; for several threads.

    Raises
    ------
    LibraryAbsent
        The extra is not installed.
    """

    def __init__(self, folder: Folder, patience: Patience, longest: timedelta = LONGEST) -> None:
        try:
            self._program = str(import_module("dcm2niix").bin)
        except ImportError:
            raise LibraryAbsent("dcm2niix, by the extra flute-sync[nifti]") from None
        self._folder, self._patience, self._longest = folder, patience, longest

    def convert(self, into: StudyFolder, images: Sequence[Kept]) -> bool:
        """Make the NIfTI of a series that is complete; tell whether anything was to be done.

        Parameters
        ----------
        images
            The files of one series.

        Raises
        ------
        NotConverted
            There is none. What was there of the series before is left.
        Ended, FolderUnusable
        """
        images = [one for one in images if _has_pixels(one)]
        if not images:
            return False
        series_uid = images[0].series_instance_uid
        source = _source(images)
        made = [one for one in into.files(series_uid, *_ENDINGS) if one.source == source]
        if made and all(into.has(one.file) for one in made):
            return False
        stem = images[0].file.partition("/")[0]
        with self._folder.scratch() as scratch:
            found = self._made(scratch, [into.path / one.file for one in images], stem)
            into.keep(
                [(self._folder.adopt(file), _kept(file, images[0], source)) for file in found]
            )
        return True

    def _made(self, scratch: Path, images: Sequence[Path], stem: str) -> list[Path]:
        given, out = scratch / "in", scratch / "out"
        given.mkdir()
        out.mkdir()
        for number, image in enumerate(images):
            (given / str(number)).symlink_to(image.absolute())
        self._run([self._program, *_OPTIONS, "-f", stem, "-o", str(out), str(given)], scratch)
        name = re.compile(rf"{re.escape(stem)}[A-Za-z0-9_.-]*")
        found = [
            file
            for file in sorted(out.iterdir())
            if name.fullmatch(file.name)
            and file.name.endswith(_ENDINGS)
            and file.is_file()
            and not file.is_symlink()
        ]
        if not any(file.name.endswith(_ENDINGS[0]) for file in found):
            raise NotConverted("dcm2niix made no volume")
        return found

    def _run(self, command: Sequence[str], home: Path) -> None:
        until = time.monotonic() + self._longest.total_seconds()
        quiet = subprocess.DEVNULL
        environment = {"HOME": str(home), "LC_ALL": "C"}
        with subprocess.Popen(  # noqa: S603 - names of ours alone, and no shell
            command, stdin=quiet, stdout=quiet, stderr=quiet, env=environment, cwd=home
        ) as process:
            try:
                while process.poll() is None:
                    self._patience.check()
                    if time.monotonic() > until:
                        raise NotConverted("dcm2niix took too long")
                    time.sleep(_TICK_SECONDS)
            finally:
                process.kill()
        if process.returncode != 0:
            raise NotConverted(f"dcm2niix ended with {process.returncode}")


def _has_pixels(one: Kept) -> bool:
    return not (one.sop_class_uid or "").startswith(WITHOUT_PIXELS)


def _source(images: Sequence[Kept]) -> str:
    """Say by one checksum what a volume is made of."""
    digest = hashlib.sha256()
    for one in sorted(one.sha256 for one in images):
        digest.update(one.encode())
    return digest.hexdigest()


def _kept(file: Path, of: Kept, source: str) -> Kept:
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return Kept(
        file=file.name,
        sha256=sha256,
        size_bytes=0,
        modified_ns=0,
        sop_instance_uid="",
        series_instance_uid=of.series_instance_uid,
        study_instance_uid=of.study_instance_uid,
        modality=of.modality,
        source=source,
    )
