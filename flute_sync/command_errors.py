"""What can go wrong in a command that a person runs."""

from flute_sync.errors import EXIT_SOFTWARE, OperatorError, PermanentError, TransientError


class InputUnreadable(PermanentError):
    """The input cannot be read."""

    code = "INPUT-UNREADABLE"
    hint = "Check the path and its permissions."


class DemoFailed(PermanentError):
    """The demo did not come to its end."""

    code = "DEMO-FAILED"
    hint = "`flute-sync check` tells whether servers answer; its log says what went wrong."
    exit_code = EXIT_SOFTWARE


class InputMalformed(PermanentError):
    """The input is not what it should be."""

    code = "INPUT-MALFORMED"
    hint = "Export it again, or correct the place named; nothing of it was judged."


class InputTooLarge(PermanentError):
    """A resource in the input is larger than 64 MiB."""

    code = "INPUT-TOO-LARGE"
    hint = "No such resource is sound; export it again without it."


class PatientsUnknown(PermanentError):
    """Whom to judge cannot be found out."""

    code = "INPUT-PATIENTS"
    hint = "Check the id of the Group, or the file: a line for each patient, Patient/ID or ID."


class SpoolFailed(TransientError):
    """The folder for temporary files cannot be written."""

    code = "INPUT-SPOOL"
    hint = (
        "Free space there, or name another folder in TMPDIR; it needs about a tenth of the input."
    )


class OutputFailed(TransientError):
    """Standard output cannot be written."""

    code = "OUTPUT-FAILED"
    hint = "What was written is not whole. Free space where it goes, and run the command again."


class LibraryAbsent(OperatorError):
    """A library that is optional is not installed."""

    code = "INPUT-LIBRARY"
    hint = "Install flute-sync with the extra named."
