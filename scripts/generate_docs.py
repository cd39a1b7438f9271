"""Write the parts of the documentation that the code already knows.

In each page of docs/ the lines between ``<!-- begin NAME ... -->`` and ``<!-- end NAME -->`` are
written by the block of that name; systemd/flute-sync.toml is written whole.
``python scripts/generate_docs.py --check`` only says whether all are current.

What a setting means is the docstring under its attribute, what an error means is its class's.
"""

import ast
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import click

from flute_sync.console.cli import cli
from flute_sync.console.metrics import METRICS
from flute_sync.error_tree import every_error
from flute_sync.errors import FluteSyncError, OperatorError, TransientError
from flute_sync.events import FIELDS, Event
from scripts.document_dimse import statuses_block
from scripts.document_settings import credentials_block, settings_block, settings_file
from scripts.markdown import prose, table

ROOT = Path(__file__).resolve().parent.parent
SETTINGS_FILE = "systemd/flute-sync.toml"
BLOCK = re.compile(r"(<!-- begin ([^:\n]+):[^\n]*-->\n).*?(<!-- end \2 -->)", re.DOTALL)
REFUSED = (
    "CONSOLE",
    "DICOM",
    "ERASE",
    "HTTP",
    "INPUT",
    "OPENID",
    "STOW",
    "STUDY",
    "LEDGER",
    "NOTICE",
    "DIMSE",
    "FETCH",
)
"""Codes of input that is refused at once; other permanent errors hold a study."""
ANSWERED = ("ARCHIVE", "AUTH", "CONSOLE", "DICOM", "HTTP", "LEDGER", "NOTICE", "OPENID", "STOW")
"""Codes that a client of ours can meet in an HTTP answer."""

# -- blocks ----------------------------------------------------------------------------------


def errors() -> list[type[FluteSyncError]]:
    """Return every error of the program, by code."""
    return sorted(every_error(), key=lambda error: error.code)


def errors_block(prefix: str) -> str:
    """The errors whose code begins with a prefix."""
    answered = prefix in ANSWERED
    found = [error for error in errors() if error.code.startswith(f"{prefix}-")]
    return table(
        f"code, kind, what it means, what to do{', HTTP' * answered}, exit",
        (
            (
                f"`{error.code}`",
                kind_of(error),
                prose(error.message()),
                prose(error.hint),
                *([str(error.http_status)] * answered),
                str(error.exit_code),
            )
            for error in found
        ),
    )


def kind_of(error: type[FluteSyncError]) -> str:
    """Say in one word what becomes of what met the error."""
    if issubclass(error, TransientError):
        return "temporary"
    if issubclass(error, OperatorError):
        return "operator"
    return "refused" if error.code.startswith(REFUSED) else "held"


def events_block() -> str:
    """The events."""
    return table("event, meaning", ((f"`{one.value}`", one.meaning) for one in Event))


def fields_block() -> str:
    """The fields of a log line."""
    return textwrap.fill(", ".join(f"`{name}`" for name in sorted(FIELDS)) + ".", 100) + "\n"


def metrics_block() -> str:
    """The metrics."""
    return table(
        "metric, type, labels, meaning",
        (
            (f"`{one.name}`", one.kind, ", ".join(f"`{x}`" for x in one.labels) or "-", one.meaning)
            for one in METRICS
        ),
    )


def verb_block(name: str) -> str:
    """The usage of a verb, as ``--help`` says it."""
    context = click.Context(cli, info_name="flute-sync", terminal_width=96, **cli.context_settings)
    command: click.Command | None = cli
    for part in name.split():
        command = command.get_command(context, part) if isinstance(command, click.Group) else None
        if command is None:
            raise SystemExit(f"docs/commands.md: there is no verb {name!r}")
        context = click.Context(command, info_name=part, parent=context, terminal_width=96)
    assert command is not None
    return f"```text\n{command.get_help(context)}\n```\n"


def modules_block(folder: str) -> str:
    """The modules of a folder, with the first line of what each says of itself."""
    here = ROOT / "flute_sync" / folder.removeprefix("root")
    paths = [path for path in sorted(here.glob("*.py")) if path.name != "__init__.py"]
    subfolders = (
        sorted(path.parent for path in here.glob("*/__init__.py")) if folder != "root" else []
    )
    rows = [(f"`{path.name}`", first_line(path)) for path in paths]
    rows += [(f"`{path.name}/`", first_line(path / "__init__.py")) for path in subfolders]
    return table("module, what it is", iter(rows))


def first_line(path: Path) -> str:
    """Return the first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return prose(text.split("\n\n")[0])


BLOCKS: dict[str, Callable[..., str]] = {
    "settings": settings_block,
    "credentials": credentials_block,
    "errors": errors_block,
    "statuses": lambda: statuses_block(errors()),
    "events": events_block,
    "fields": fields_block,
    "metrics": metrics_block,
    "verb": verb_block,
    "modules": modules_block,
}


# -- pages -----------------------------------------------------------------------------------


def filled(page: str) -> str:
    """Return a page with its blocks written anew."""

    def write(found: re.Match[str]) -> str:
        name, *arguments = found[2].split(maxsplit=1)
        if name not in BLOCKS:
            raise SystemExit(f"there is no block {name!r}")
        return f"{found[1]}{BLOCKS[name](*arguments)}{found[3]}"

    return BLOCK.sub(write, page)


def stale() -> dict[Path, str]:
    """Return what is not current, with the text it should have."""
    wanted = {ROOT / SETTINGS_FILE: settings_file()}
    for path in sorted((ROOT / "docs").glob("*.md")):
        wanted[path] = filled(path.read_text(encoding="utf-8"))
    return {
        path: text
        for path, text in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def main(arguments: list[str]) -> int:
    """Write or check; return an exit code."""
    found = stale()
    if "--check" in arguments:
        for path in found:
            print(f"{path.relative_to(ROOT)} is not current: run python scripts/generate_docs.py")
        return 1 if found else 0
    for path, text in found.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
