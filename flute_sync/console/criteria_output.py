"""How results of a criterion are told: as text, JSON, CSV and Parquet, each as it is judged.

What goes to standard output is told when all were judged: nobody is to take a part for all.
"""

import csv
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import click
import orjson

from flute_sync.cohort import MEANINGS, Tally
from flute_sync.command_errors import InputUnreadable, LibraryAbsent, SpoolFailed
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.eligibility import CRITERION, Eligibility, Judged, Result
from flute_sync.fhir_dates import Interval

COLUMNS: Final = (
    "patient", "biopsy", "verdict", "ground", "reason", "study",
    "biopsy_from", "biopsy_to", "study_from", "study_to",
)  # fmt: skip
_ROWS: Final = 10_000
_BLOCK_BYTES: Final = 1024 * 1024

Say = Callable[[str], object]
"""Takes a piece of what is said on standard output."""


class Sink(Protocol):
    """Takes the results, patient after patient, and then the counts of all."""

    def take(self, judged: Judged) -> None:
        """Tell of one patient."""

    def end(self, tally: Tally) -> None:
        """Tell of all."""


class TextSink:
    """For people.

    Parameters
    ----------
    results
        Whether each result is told; the counts always are.
    """

    def __init__(self, say: Say, *, results: bool) -> None:
        self._say = say
        self._results = results

    def take(self, judged: Judged) -> None:
        """Tell of one patient."""
        for one in judged.results if self._results else ():
            self._line(f"{one.verdict:<8}  {one.patient}  {one.biopsy.name}  {one.reason}")

    def end(self, tally: Tally) -> None:
        """Tell of all."""
        self._line(
            f"{tally.patients:,} patients, {tally.with_biopsy:,} with a biopsy, "
            f"{tally.with_mri:,} with an MRI of the prostate, {tally.with_both:,} with both"
        )
        self._line(f"{tally.biopsies:,} biopsies")
        for verdict in Eligibility:
            self._line(f"{tally.verdicts[verdict]:>10,}  {verdict}")
            for ground, meaning in MEANINGS.items():
                if count := tally.grounds[verdict, ground]:
                    self._line(f"{count:>14,}  {ground}: {meaning}")
        if tally.without_patient:
            click.echo(f"{tally.without_patient:,} studies or biopsies name no patient", err=True)
        if tally.absent:
            click.echo(f"{tally.absent:,} patients asked for are not there", err=True)
        if tally.files_not_read:
            click.echo(
                f"{tally.files_not_read:,} other files of the folder were not read", err=True
            )
        if tally.pages_missing:
            click.echo(
                f"{tally.pages_missing:,} next pages of searches are not among the files: "
                "who has an MRI on them may be excluded",
                err=True,
            )

    def _line(self, text: str) -> None:
        self._say(f"{text}\n")


class JsonSink:
    """The documented shape, written as a stream."""

    def __init__(self, say: Say, settings: CriteriaSettings, criterion: str = CRITERION) -> None:
        self._say = say
        self._settings = settings
        self._separator = f'{{\n  "criterion": "{criterion}",\n  "results": ['
        self._is_first = True

    def take(self, judged: Judged) -> None:
        """Tell of one patient."""
        for one in judged.results:
            self._say(f"{self._separator}\n    {orjson.dumps(as_dict(one)).decode()}")
            self._separator, self._is_first = ",", False

    def end(self, tally: Tally) -> None:
        """Tell of all."""
        close = f"{self._separator}]" if self._is_first else "\n  ]"
        counts = tally.as_dict() | {"settings": self._settings.rules}
        summary = orjson.dumps(counts, option=orjson.OPT_INDENT_2).decode()
        self._say(f'{close},\n  "summary": {summary.replace(chr(10), chr(10) + "  ")}\n}}\n')


class CsvSink:
    """A line for each biopsy (RFC 4180)."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._row(COLUMNS)

    def take(self, judged: Judged) -> None:
        """Tell of one patient."""
        for one in judged.results:
            self._row(columns(one).values())

    def end(self, tally: Tally) -> None:
        """Tell nothing: the counts are in the other forms."""

    def _row(self, values: Any) -> None:
        line = io.StringIO()
        csv.writer(line).writerow(values)
        self._say(line.getvalue())


class ParquetSink:
    """A row for each biopsy, days as dates (Apache Parquet, by the extra ``parquet``).

    Raises
    ------
    LibraryAbsent
        pyarrow is not installed.
    """

    def __init__(self, file: BinaryIO) -> None:
        try:
            self._arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        except ImportError:
            raise LibraryAbsent("pyarrow, by the extra flute-sync[parquet]") from None
        text, day = self._arrow.string(), self._arrow.date32()
        types = {name: day if name.endswith(("_from", "_to")) else text for name in COLUMNS}
        self._schema = self._arrow.schema(list(types.items()))
        self._writer = parquet.ParquetWriter(file, self._schema)
        self._rows: list[dict[str, object]] = []

    def take(self, judged: Judged) -> None:
        """Tell of one patient."""
        self._rows += map(columns, judged.results)
        if len(self._rows) >= _ROWS:
            self._flush()

    def end(self, tally: Tally) -> None:
        """Write the rest; the counts are in the other forms."""
        self._flush()

    def close(self) -> None:
        """End the file, whole or not, while it can be written."""
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


def as_dict(result: Result) -> dict[str, str | None]:
    """Return the documented shape of one result."""
    return {
        "patient": result.patient,
        "biopsy": result.biopsy.name,
        "verdict": result.verdict.value,
        "reason": result.reason,
        "study": result.study.name if result.study else None,
    }


def columns(result: Result) -> dict[str, object]:
    """Return a row of a table; an end that is not known is None."""
    study = result.study.day if result.study else None
    told = as_dict(result) | {"ground": result.ground.value}
    days = (*_ends(result.biopsy.day), *_ends(study))
    return {name: told[name] for name in COLUMNS[:6]} | dict(zip(COLUMNS[6:], days, strict=True))


def _ends(interval: Interval | None) -> tuple[date | None, date | None]:
    if interval is None:
        return None, None
    low = None if interval.low == date.min else interval.low
    return low, None if interval.high == date.max else interval.high


class Answer:
    """What is to be said on standard output, kept until `tell`.

    The file holds patient data. It has no name, so that nothing of it is left.
    """

    def __init__(self) -> None:
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `__exit__`
        except OSError as error:
            raise SpoolFailed(type(error).__name__) from error

    def __enter__(self) -> "Answer":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def say(self, text: str) -> None:
        """Keep a piece.

        Raises
        ------
        SpoolFailed
            The disk does not take it.
        """
        try:
            self._file.write(text.encode())
        except OSError as error:
            raise SpoolFailed(type(error).__name__) from error

    def tell(self) -> None:
        """Say all of it."""
        self._file.seek(0)
        while block := self._file.read(_BLOCK_BYTES):
            click.echo(block, nl=False)


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Open a file that this user alone may read, and put it in place when it is whole.

    Raises
    ------
    InputUnreadable
        It cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        opened = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(opened, "wb") as file:
                yield file
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputUnreadable(f"{path.name} cannot be written: {error.strerror}") from error
