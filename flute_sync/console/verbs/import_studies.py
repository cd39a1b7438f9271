"""``flute-sync import``: the first filling from an archive of any size."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from flute_sync.command_errors import InputUnreadable
from flute_sync.console import log
from flute_sync.console.opening import load_config
from flute_sync.console.output import (
    EXIT_INTERRUPTED,
    config_option,
    json_option,
    show_error,
    show_json,
)
from flute_sync.console.progress import Display, display
from flute_sync.daemon.config import Config
from flute_sync.daemon.importing import Import, Plan, Progress, Report
from flute_sync.daemon.politeness import Rate, Window
from flute_sync.daemon.workshop import Workshop
from flute_sync.errors import EXIT_OK, EXIT_TRANSIENT, FluteSyncError
from flute_sync.sources.listing import Choice

DATE = click.DateTime(formats=["%Y-%m-%d", "%Y%m%d"])
_Command = TypeVar("_Command", bound=Callable[..., Any])


def date_options(command: _Command) -> _Command:
    """Add ``--from`` and ``--to``."""
    since = click.option("--from", "since", type=DATE, metavar="DATE", help="First Study Date.")
    until = click.option("--to", "until", type=DATE, metavar="DATE", help="Last Study Date.")
    return since(until(command))


def archive_option(command: _Command) -> _Command:
    """Add ``--archive``."""
    return click.option(
        "--archive", metavar="NAME", help="This archive alone.  [default: all of the site]"
    )(command)


@click.command("import")
@click.option("--all", "everything", is_flag=True, help="Everything that the archive holds.")
@date_options
@click.option("--modality", "modalities", multiple=True, metavar="M", help="May be repeated.")
@click.option(
    "--patients",
    type=click.File(encoding="utf-8-sig"),
    metavar="FILE",
    help="A file with a Patient ID a line; - is standard input.",
)
@archive_option
@click.option("--rate", metavar="N/s", help="Most studies read; also N/min, N/h.")
@click.option("--window", metavar="HH:MM-HH:MM", help="Only at these hours, local time.")
@click.option("--restart", is_flag=True, help="Begin anew where an earlier one was interrupted.")
@config_option
@json_option
def import_verb(
    everything: bool,
    since: datetime | None,
    until: datetime | None,
    modalities: tuple[str, ...],
    patients: TextIO | None,
    archive: str | None,
    rate: str | None,
    window: str | None,
    restart: bool,
    config_path: Path | None,
    as_json: bool,
) -> int:
    """Bring what an archive holds into FHIR: everything, or what the options choose.

    Works beside the running service or without it. It may be interrupted at any time: the same
    command goes on where it stopped; after it has ended it looks again and writes what changed.

    Patient IDs come from a file, never from the command line, which other users can see.

    Exits with 0 when nothing failed: studies on hold are told, and wait for a person. 69: some
    failed and will be tried again, or a server cannot be reached. 130: interrupted.
    """
    choice = _choice(since, until, modalities, patients)
    if everything == (choice != Choice()):
        raise click.UsageError("say --all, or choose: --from, --to, --modality, --patients")
    config = load_config(config_path)
    plan = Plan(
        choice,
        archive_names(config, archive),
        _parsed("--rate", rate, Rate.parse),
        _parsed("--window", window, lambda text: Window.parse(text, config.site.zone)),
        restart,
    )
    log.configure(config.log.model_copy(update={"level": "error"}))
    with Workshop(config, create=True) as shop:
        shop.require_fhir()
        report = _run(shop, plan)
    _show(report, plan, as_json=as_json)
    return _exit_code(report)


def _run(shop: Workshop, plan: Plan) -> Report:
    with display("import") as shown:
        importing = Import(shop, plan, shop.listing, lambda progress: _tell(shown, progress))
        error = None
        finished = False
        try:
            finished = shop.run(
                importing.run, workers=shop.config.sync.workers, beside=[importing.count]
            )
        except FluteSyncError as met:
            error = met
    report = importing.report
    report.finished, report.error = finished and not report.unlisted, error
    if report.cause is not None and not report.tally.listed:
        raise report.cause
    return report


def _tell(shown: Display, progress: Progress) -> None:
    shown.show(progress.settled, progress.total, progress.waiting_for)


def choice_of(since: datetime | None, until: datetime | None) -> Choice:
    """Return the choice of some dates.

    Raises
    ------
    click.UsageError
        They are the wrong way round.
    """
    if since is not None and until is not None and since > until:
        raise click.UsageError("--from is after --to")
    return Choice(since and since.date(), until and until.date())


def _choice(
    since: datetime | None,
    until: datetime | None,
    modalities: tuple[str, ...],
    patients: TextIO | None,
) -> Choice:
    dates = choice_of(since, until)
    ids = () if patients is None else _patient_ids(patients)
    return Choice(dates.since, dates.until, frozenset(modalities), ids)


def _patient_ids(file: TextIO) -> tuple[str, ...]:
    try:
        ids = tuple(dict.fromkeys(text for line in file if (text := line.strip())))
    except (OSError, UnicodeDecodeError):
        raise InputUnreadable("the list of patients is not text in UTF-8") from None
    if not ids:
        raise InputUnreadable("the list of patients names nobody")
    return ids


def archive_names(config: Config, name: str | None) -> tuple[str, ...]:
    """Return the archives meant.

    Raises
    ------
    click.UsageError
        There is none, or none of that name.
    """
    names = tuple(entry.name for entry in config.every_archive)
    if not names:
        raise click.UsageError("the settings name no archive to read from")
    if name is not None and name not in names:
        raise click.UsageError(f"--archive: the settings name {', '.join(names)}")
    return names if name is None else (name,)


_T = TypeVar("_T")


def _parsed(option: str, text: str | None, parse: Callable[[str], _T]) -> _T | None:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None


def _exit_code(report: Report) -> int:
    if report.cause is not None:
        return report.cause.exit_code
    if not report.finished:
        return EXIT_INTERRUPTED
    return EXIT_TRANSIENT if report.tally.failed else EXIT_OK


def as_dict(report: Report, plan: Plan) -> dict[str, Any]:
    """Return the documented shape."""
    error = report.cause
    return {
        "archives": list(plan.archives),
        "finished": report.finished,
        "resumed": report.resumed,
        **report.tally.as_dict(),
        "error": None
        if error is None
        else {
            "archive": next(iter(report.unlisted), None) if report.error is None else None,
            "code": error.code,
            "sentence": error.sentence,
            "hint": error.hint,
        },
    }


def _show(report: Report, plan: Plan, *, as_json: bool) -> None:
    if as_json:
        show_json(as_dict(report, plan))
    else:
        _table(report, plan)
    if report.finished:
        return
    if not as_json:
        for name, error in report.unlisted.items():
            click.echo(f"{name}: it was not listed to its end.", err=True)
            show_error(error, as_json=False)
        if report.error is not None:
            show_error(report.error, as_json=False)
    click.echo("Not finished: the same command goes on where this one stopped.", err=True)


def _table(report: Report, plan: Plan) -> None:
    tally = report.tally
    begun = ", since an interruption" if report.resumed else ""
    click.echo(f"{', '.join(plan.archives)}: {tally.listed:,} listed, {tally.new:,} new{begun}")
    click.echo(f"{tally.written:>10,}  written")
    click.echo(f"{tally.unchanged:>10,}  unchanged")
    click.echo(f"{tally.out_of_scope:>10,}  out of scope")
    for what, codes in (("on hold", tally.on_hold), ("failed, tried again", tally.failed)):
        for code, count in sorted(codes.items()):
            click.echo(f"{count:>10,}  {what}: {code}")
    pending = tally.listed - tally.settled
    if pending:
        click.echo(f"{pending:>10,}  not settled yet")
