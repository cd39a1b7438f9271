"""What can go wrong in a command that a person runs."""

from flute_sync.errors import EXIT_SOFTWARE, PermanentError


class InputUnreadable(PermanentError):
    """The input cannot be read."""

    code = "INPUT-UNREADABLE"
    hint = "Check the path and its permissions."


class DemoFailed(PermanentError):
    """The demo did not come to its end."""

    code = "DEMO-FAILED"
    hint = "`flute-sync check` tells whether servers answer; its log says what went wrong."
    exit_code = EXIT_SOFTWARE
