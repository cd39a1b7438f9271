"""``flute-sync pseudonym``: the pseudonyms of identifiers, for those who send clinical data."""

import csv
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import click

from flute_sync.command_errors import InputMalformed, InputUnreadable
from flute_sync.console.opening import load_config
from flute_sync.console.output import config_option, json_option, show_json
from flute_sync.daemon.config import Config
from flute_sync.daemon.pseudonymity import read_pseudonyms
from flute_sync.pseudonym import Kind, Pseudonyms
from flute_sync.settings_errors import ConfigurationError
from flute_sync.valuerep import Unusable

COLUMNS: Final = ("id", "pseudonym", "shift_days")
Row = tuple[str, str, int | None]


@click.command()
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in Kind]),
    default=Kind.PATIENT.value,
    show_default=True,
    help="What the identifiers name.",
)
@click.option("--system", help="Their identifier system.  [default: that of the settings]")
@config_option
@json_option
def pseudonym(kind: str, system: str | None, config_path: Path | None, as_json: bool) -> None:
    """Write the pseudonyms of identifiers, and by how many days the dates of each patient go.

    Identifiers are read from standard input, one a line, never from the command line, which others
    can see. Without --json the answer is CSV. It tells who is behind each pseudonym: keep it as
    the identifiers themselves, and do not keep it for longer than it takes to send the data.
    """
    config = load_config(config_path)
    pseudonyms = read_pseudonyms(config.pseudonyms)
    if pseudonyms is None:
        raise ConfigurationError('pseudonyms.mode is not "hmac": there are no pseudonyms')
    chosen = Kind(kind)
    system = _system(config, chosen) if system is None else system
    rows = _rows(pseudonyms, chosen, system, _lines())
    if as_json:
        said = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        show_json({"key_id": pseudonyms.key.id, "kind": kind, "system": system, "pseudonyms": said})
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)


def _system(config: Config, kind: Kind) -> str:
    """Return the system in which the service takes identifiers that name no issuer."""
    settings = config.imaging_study
    if kind is Kind.PATIENT:
        if config.patient.default_system is None:
            raise click.UsageError("patient.default_system is not set: say --system")
        return config.patient.default_system
    stated = {
        Kind.ACCESSION: settings.accession_default_system,
        Kind.ADMISSION: settings.encounter_system,
        Kind.STUDY_ID: settings.study_id_system,
    }
    return stated.get(kind) or ""


def _lines() -> Iterator[tuple[int, str]]:
    """Yield the lines of standard input that hold something, with their numbers."""
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise InputUnreadable(f"line {number} is not text in UTF-8") from None
        if text.strip(" \0"):
            yield number, text


def _rows(
    pseudonyms: Pseudonyms, kind: Kind, system: str, lines: Iterable[tuple[int, str]]
) -> Iterator[Row]:
    for number, text in lines:
        try:
            found = pseudonyms.key.pseudonym(kind, system, text)
        except Unusable:
            raise InputMalformed(f"line {number} is no identifier") from None
        days = pseudonyms.days(found) if kind is Kind.PATIENT else None
        yield text.strip(" \0"), found, days
