"""The command ``flute-sync``: its verbs, its exit codes, and how an error looks.

Exit codes: 0 done; 1 the answer is "no" (``check`` found an error); 2 wrong usage; 65 the input
cannot be used; 69 a service is unreachable; 70 a defect; 78 a person must change something.
"""

import sys

import click

from flute_sync import __version__
from flute_sync.console.output import show_error
from flute_sync.console.verbs import check, convert, demo, ledger, run, sandbox, status, study
from flute_sync.errors import FluteSyncError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flute-sync")
def cli() -> None:
    """Keep one FHIR ImagingStudy per DICOM study true to the archive."""


for verb in (
    run.run,
    check.check,
    status.status,
    study.study,
    study.retry,
    convert.convert,
    demo.demo,
    sandbox.sandbox,
    ledger.ledger,
):
    cli.add_command(verb)


def main() -> None:
    """Run the command and exit with a documented code."""
    try:
        code = cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(130)
    except FluteSyncError as error:
        show_error(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    sys.exit(code if isinstance(code, int) else 0)
