"""The audit: who did what to whom, apart from the logs, in a file that is only added to.

A line is a JSON object. It names a patient by a keyed hash alone, whose key is in the ledger.
"""

import os
import pwd
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from flute_sync.erase_errors import AuditUnwritable
from flute_sync.settings import Settings

_MODE: Final = 0o600


class EraseSettings(Settings):
    """``[erase]``: how it is accounted for that a patient was erased."""

    audit_file: Path = Path("/var/lib/flute-sync/audit.jsonl")
    """Where each erasure is written down, a line of JSON when it begins and one when it ends; made
    with mode 0600, never shortened. Who cannot write it cannot erase."""


@dataclass(frozen=True)
class Audit:
    """Adds lines to the file."""

    settings: EraseSettings
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def write(self, action: str, said: Mapping[str, Any]) -> None:
        """Add a line, durable when this returns.

        Raises
        ------
        AuditUnwritable
            It cannot be written.
        """
        line = {
            "at": self.clock().isoformat(timespec="milliseconds"),
            "action": action,
            "who": who(),
            **said,
        }
        path = self.settings.audit_file
        flags = os.O_APPEND | os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            file = os.open(path, flags, _MODE)
            try:
                left = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
                while left:  # a disk that is nearly full takes a part
                    left = left[os.write(file, left) :]
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise AuditUnwritable(f"{path}: {error.strerror}") from error


def who() -> str:
    """Return who runs the program, as the operating system knows it, and for whom by sudo."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    asked = os.environ.get("SUDO_USER")
    return f"{name} for {asked}" if asked else name
