"""How the log is written: one event a line, allow-listed fields, no patient data.

Only records that carry an `Event` are written. Libraries' own records are not: they print
addresses, identifiers and bodies. Of a library's error the place is told, never its text.
"""

import hashlib
import hmac
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

import orjson

from flute_sync.daemon.config import LogSettings
from flute_sync.daemon.supervisor import whereabouts
from flute_sync.events import Event
from flute_sync.transport.secret import read_secret

JOURNAL: Final = "/run/systemd/journal/socket"
PRIORITY: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
LEVEL: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

Fields = Mapping[str, object]


class EventFilter(logging.Filter):
    """Lets events through, and turns a library's error into one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide about one record."""
        if hasattr(record, "event"):
            return True
        if record.levelno < logging.ERROR:
            return False
        caught = record.exc_info[1] if record.exc_info else None
        record.event = Event.LIBRARY_ERROR.value
        record.fields = {
            "listener": record.name,
            "error": whereabouts(caught) if caught else record.levelname.lower(),
        }
        record.msg, record.args, record.exc_info = "A library reported an error.", (), None
        return True


class EventFormatter(logging.Formatter):
    """Turns a record into pairs, and the pairs into a line.

    Parameters
    ----------
    render
        `as_json` or `as_logfmt`.
    hash_key
        Key of the HMAC under which study UIDs are hidden; None writes them in clear.
    """

    def __init__(self, render: Callable[[Fields], str], hash_key: bytes | None) -> None:
        super().__init__()
        self._render = render
        self._hash_key = hash_key

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one record."""
        return self._render(self.pairs(record))

    def pairs(self, record: logging.LogRecord) -> dict[str, object]:
        """Return what the line says, in order."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        pairs: dict[str, object] = {
            "at": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", ""),
            "sentence": record.getMessage(),
        }
        for name, value in getattr(record, "fields", {}).items():
            if value is not None:
                pairs[name] = self._value(name, value)
        return pairs

    def _value(self, name: str, value: object) -> object:
        if name == "study_instance_uid" and self._hash_key is not None:
            return hmac.new(self._hash_key, str(value).encode(), hashlib.sha256).hexdigest()[:12]
        if isinstance(value, datetime):
            return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        if isinstance(value, float):
            return round(value, 4)
        return value if isinstance(value, int | bool) else str(value)


def as_json(pairs: Fields) -> str:
    """Render as one JSON object."""
    return orjson.dumps(dict(pairs), default=str).decode()


def as_logfmt(pairs: Fields) -> str:
    """Render as logfmt: ``key=value``, quoted where needed."""
    return " ".join(f"{name}={_quoted(value)}" for name, value in pairs.items())


def _quoted(value: object) -> str:
    text = str(value)
    if text and not any(character in ' "=\\' or character < " " for character in text):
        return text
    return orjson.dumps(text).decode()


class JournalHandler(logging.Handler):
    """Writes to journald natively, so that each field can be searched by.

    References
    ----------
    systemd 252, "Native Journal Protocol".
    """

    def __init__(self, formatter: EventFormatter, address: str = JOURNAL) -> None:
        super().__init__()
        self._pairs = formatter.pairs
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        pairs = self._pairs(record)
        entry = {
            "MESSAGE": pairs.pop("sentence"),
            "PRIORITY": PRIORITY.get(record.levelname, 6),
            "SYSLOG_IDENTIFIER": "flute-sync",
        }
        del pairs["at"], pairs["level"]
        entry.update({f"FLUTE_{name.upper()}": value for name, value in pairs.items()})
        lines = (f"{name}={' '.join(str(value).split())}\n" for name, value in entry.items())
        try:
            self._socket.sendto("".join(lines).encode(), self._address)
        except OSError:
            self.handleError(record)


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Take over the process's logging.

    Raises
    ------
    SecretUnreadable
        When ``log.key_file`` cannot be read.
    """
    key = read_secret(settings.key_file).encode() if settings.key_file else None
    handler = _handler(settings, key, stream or sys.stderr)
    handler.addFilter(EventFilter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    logging.getLogger("flute_sync").setLevel(LEVEL[settings.level])
    logging.raiseExceptions = False


def _handler(settings: LogSettings, key: bytes | None, stream: TextIO) -> logging.Handler:
    style = settings.format
    if style == "auto":
        style = "journald" if os.environ.get("JOURNAL_STREAM") else "logfmt"
    if style == "journald":
        return JournalHandler(EventFormatter(as_logfmt, key))
    handler = logging.StreamHandler(stream)
    handler.setFormatter(EventFormatter(as_json if style == "json" else as_logfmt, key))
    return handler
