"""Secrets come from files only: an absolute one, or a systemd credential."""

import os
import stat
from pathlib import Path
from threading import Lock
from typing import Final

from flute_sync.pseudonym import PseudonymKey
from flute_sync.settings import SecretFile
from flute_sync.settings_errors import PseudonymKeyUnusable, SecretUnreadable

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
    return _text(secret, private=False)


def read_pseudonym_key(secret: SecretFile) -> PseudonymKey:
    """Read the key of pseudonyms: the bytes of the file, without line ends after them.

    Raises
    ------
    SecretUnreadable
        As `read_secret`.
    PseudonymKeyUnusable
        When others can read or write the file, or the key is too short.
    """
    return PseudonymKey(_text(secret, private=True).encode("utf-8"))


def _text(secret: SecretFile, *, private: bool) -> str:
    try:
        with secret_path(secret).open("rb") as file:
            is_open = os.fstat(file.fileno()).st_mode & (stat.S_IROTH | stat.S_IWOTH)
            data = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise SecretUnreadable(f"{secret}: {error.strerror or 'cannot be read'}") from None
    if private and is_open:
        raise PseudonymKeyUnusable(f"{secret}: all users of this machine have access to it")
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
            found = secret_path(self._secret).stat()
        except OSError as error:
            raise SecretUnreadable(f"{self._secret}: {error.strerror}") from None
        now = (found.st_mtime_ns, found.st_size, found.st_ino)
        with self._lock:
            if now != self._seen:
                self._text = read_secret(self._secret)
                self._seen = now
            return self._text
