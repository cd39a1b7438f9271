"""Secrets come from files only: an absolute one, or a systemd credential."""

import os
from pathlib import Path
from threading import Lock
from typing import Final

from flute_sync.settings import SecretFile
from flute_sync.settings_errors import SecretUnreadable

_LARGEST_BYTES: Final = 64 * 1024
_CREDENTIAL: Final = "credential:"


def secret_path(secret: SecretFile) -> Path:
    """Return the file that a setting names.

    Raises
    ------
    SecretUnreadable
        When a systemd credential is named and the process was given none.

    References
    ----------
    systemd.exec(5), LoadCredential=
    """
    if not secret.startswith(_CREDENTIAL):
        return Path(secret)
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise SecretUnreadable(f"{secret}: systemd passed no credentials to this process")
    return Path(directory) / secret.removeprefix(_CREDENTIAL)


def read_secret(secret: SecretFile) -> str:
    """Read a secret; line ends after it are not part of it.

    Raises
    ------
    SecretUnreadable
        When the file is absent, not readable, empty, too large or not text.
    """
    try:
        with secret_path(secret).open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise SecretUnreadable(f"{secret}: {error.strerror or 'cannot be read'}") from None
    if len(data) > _LARGEST_BYTES:
        raise SecretUnreadable(f"{secret}: larger than {_LARGEST_BYTES} bytes")
    try:
        text = data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretUnreadable(f"{secret}: not UTF-8 text") from None
    if not text:
        raise SecretUnreadable(f"{secret}: empty")
    return text


class Secret:
    """A secret that is read again when its file changes; it never shows itself."""

    def __init__(self, secret: SecretFile) -> None:
        self._secret = secret
        self._lock = Lock()
        self._seen: tuple[int, int, int] | None = None
        self._text = ""

    def __repr__(self) -> str:
        return f"Secret({self._secret!r})"

    @property
    def name(self) -> SecretFile:
        """The setting that names the file."""
        return self._secret

    def read(self) -> str:
        """Return the secret as its file holds it now.

        Raises
        ------
        SecretUnreadable
            As `read_secret`.
        """
        try:
            stat = secret_path(self._secret).stat()
        except OSError as error:
            raise SecretUnreadable(f"{self._secret}: {error.strerror}") from None
        now = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        with self._lock:
            if now != self._seen:
                self._text = read_secret(self._secret)
                self._seen = now
            return self._text
