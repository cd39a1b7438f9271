"""The command ``flute-sync``: its verbs, its exit codes, and how an error looks.

Exit codes: 0 done; 1 reconcile has findings, or erase leaves something; 2 wrong usage; 65 the input
cannot be used; 69 a service is unreachable; 70 a defect; 78 a person must change something; 130
interrupted.
"""

import errno
import gc
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Final

import click

from flute_sync import __version__
from flute_sync.command_errors import OutputFailed
from flute_sync.console.output import EXIT_FINDINGS as EXIT_FINDINGS
from flute_sync.console.output import EXIT_INTERRUPTED, show_error
from flute_sync.errors import FluteSyncError

EXIT_BROKEN_PIPE: Final = 141

VERBS: Final = {
    "run": "run",
    "check": "check",
    "status": "status",
    "study": "study",
    "retry": "study",
    "link": "link",
    "relink": "relink",
    "removals": "removals",
    "erase": "erase",
    "import": "import_studies",
    "reconcile": "reconcile",
    "fetch": "fetch",
    "convert": "convert",
    "pseudonym": "pseudonym",
    "fhir": "fhir",
    "criteria": "criteria",
    "ledger": "ledger",
    "console-user": "console_user",
    "demo": "demo",
    "sandbox": "sandbox",
}
"""Each verb and the module that has it. Modules are imported when a verb is used: the service
needs nothing of the sandbox."""


class Verbs(click.Group):
    """The group of all verbs, each imported on its first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the verbs in the order of the documentation."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a verb and return it."""
        if cmd_name not in VERBS:
            return None
        module = _loaded(f"flute_sync.console.verbs.{VERBS[cmd_name]}")
        commands = (one for one in vars(module).values() if isinstance(one, click.Command))
        return next((one for one in commands if one.name == cmd_name), None)


def _loaded(name: str) -> ModuleType:
    """Import a module; all that it brings stays, so that no collection need look at it, ever."""
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flute-sync")
def cli() -> None:
    """Keep one FHIR ImagingStudy per DICOM study true to the archive."""


def main() -> None:
    """Run the command and exit with a documented code."""
    sys.exit(_run())


def _run() -> int:
    try:
        code = cli(standalone_mode=False)
    except click.exceptions.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except FluteSyncError as error:
        show_error(error, as_json="--json" in sys.argv)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return _unwritten(OutputFailed(os.strerror(errno.ENOSPC)))
    return code if isinstance(code, int) else 0


def _unwritten(error: OutputFailed) -> int:
    """Say that standard output is full; what is left for it goes nowhere, or Python tries again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    show_error(error, as_json=False)
    return error.exit_code
