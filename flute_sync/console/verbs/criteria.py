"""``flute-sync criteria``: which patients of a cohort are eligible, and why."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from flute_sync.console import log
from flute_sync.console.criteria_html import HtmlSink
from flute_sync.console.criteria_output import (
    Answer,
    CsvSink,
    JsonSink,
    ParquetSink,
    Say,
    Sink,
    TextSink,
    written,
)
from flute_sync.console.opening import load_config
from flute_sync.console.output import config_option, json_option
from flute_sync.console.progress import display
from flute_sync.criteria_evidence import name_of
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.daemon.cohort_judging import Judging, Question, listed
from flute_sync.daemon.criteria_files import criterion_named
from flute_sync.errors import EXIT_OK
from flute_sync.exports.spool import Spool

_MEGABYTE: Final = 1_000_000
_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_PROSTATE: Final = click.Choice(["not-contradicted", "certain"])
_SAME_DAY: Final = click.Choice(["unknown", "include", "exclude"])


def _group(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    name = name_of(value if "/" in value else f"Group/{value}")
    if name is None or not name.startswith("Group/"):
        raise click.BadParameter("it is written Group/ID")
    return name


@click.command()
@click.option(
    "--from", "source", type=click.Path(path_type=Path), help="A Bundle, NDJSON, or a folder."
)
@click.option("--group", metavar="Group/ID", callback=_group, help="The patients of a Group only.")
@click.option("--patients", type=_FILE, help="The patients in this file only, one a line.")
@click.option(
    "--criterion", "named", metavar="FILE", help="A criterion of one's own: its file or its name."
)
@click.option("--prostate", type=_PROSTATE, help="Instead of criteria.prostate.")
@click.option("--same-day", type=_SAME_DAY, help="Instead of criteria.same_day.")
@click.option("--csv", "as_csv", is_flag=True, help="Answer in CSV.")
@click.option("--parquet", type=_FILE, help="Write a Parquet file.")
@click.option("--html", type=_FILE, help="Write a report as one HTML file, pseudonymous.")
@click.option("--references", is_flag=True, help="Show references and dates in the HTML report.")
@click.option("--write", is_flag=True, help="Write a Group and a MeasureReport to the FHIR server.")
@config_option
@json_option
def criteria(
    source: Path | None,
    group: str | None,
    patients: Path | None,
    named: str | None,
    prostate: str | None,
    same_day: str | None,
    as_csv: bool,
    parquet: Path | None,
    html: Path | None,
    references: bool,
    write: bool,
    config_path: Path | None,
    as_json: bool,
) -> int:
    """Judge by the eligibility criterion on images: included, excluded or unknown, and why.

    One result for each completed biopsy: is there an MRI of the prostate within the calendar year
    before it? With --criterion, by a criterion of the site's own instead. Reads the FHIR server, or
    with --from a Bundle (.json), NDJSON files or a folder of them, without a server and without
    settings. Nothing is written unless --write says so.
    """
    _exclude("--group", group, "--patients", patients)
    _exclude("--csv", as_csv, "--json", as_json)
    _exclude("--write", write, "--from", source)
    chosen = {"prostate": prostate, "same_day": same_day}
    question = _question(source, config_path, group, patients, chosen, named)
    with Answer() as answer:
        with ExitStack() as opened:
            judging = Judging(question, opened.enter_context(Spool()))
            _read(judging)
            sinks = list(_sinks(opened, question, parquet, html, references=references))
            sinks.append(_told(answer.say, question, as_csv, as_json, results=not sinks))
            for judged in judging.results():
                for sink in sinks:
                    sink.take(judged)
            for sink in sinks:
                sink.end(judging.tally)
        if not as_json:
            answer.tell()
        if write:
            _write(judging)
        if as_json:  # last: a write that fails is to be the one document
            answer.tell()
    return EXIT_OK


def _write(judging: Judging) -> None:
    for name, outcome in judging.write(datetime.now(UTC)):
        click.echo(f"{name} {outcome}", err=True)


def _exclude(one: str, is_one: object, other: str, is_other: object) -> None:
    if is_one and is_other:
        raise click.UsageError(f"{one} and {other} exclude each other")


def _question(
    source: Path | None,
    config_path: Path | None,
    group: str | None,
    patients: Path | None,
    chosen: dict[str, str | None],
    named: str | None,
) -> Question:
    """Put together what is asked; the settings file may be absent where no server is asked."""
    config = load_config(config_path) if source is None or config_path is not None else None
    if config is not None:
        log.configure(config.log.model_copy(update={"level": "error"}))
    known = (config.criteria if config else CriteriaSettings()).model_dump()
    known |= {name: value for name, value in chosen.items() if value is not None}
    names = listed(patients) if patients is not None else None
    settings = CriteriaSettings.model_validate(known)
    own = criterion_named(named, settings.files) if named is not None else None
    return Question(source, config, settings, group, names, own)


def _read(judging: Judging) -> None:
    if judging.question.source is None:
        with display("criteria", "patients") as shown:
            judging.read(shown.show)
        return
    with display("criteria", "MB") as shown:
        judging.read(lambda done, all_of: shown.show(_megabytes(done), _megabytes(all_of or 0)))


def _megabytes(count: int) -> int:
    return -(-count // _MEGABYTE)


def _told(say: Say, question: Question, as_csv: bool, as_json: bool, *, results: bool) -> Sink:
    """Return what is said on standard output; beside a file the counts are enough."""
    if as_json:
        return JsonSink(say, question.settings, question.criterion[0])
    return CsvSink(say) if as_csv else TextSink(say, results=results)


def _sinks(
    opened: ExitStack,
    question: Question,
    parquet: Path | None,
    html: Path | None,
    *,
    references: bool,
) -> Iterator[Sink]:
    if parquet is not None:
        rows = ParquetSink(opened.enter_context(written(parquet)))
        opened.callback(rows.close)
        yield rows
    if html is not None:
        file = opened.enter_context(written(html))
        yield HtmlSink(
            file,
            question.settings,
            now=datetime.now(UTC),
            references=references,
            criterion=question.criterion,
        )
