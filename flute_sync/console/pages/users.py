"""Users of the console and their passwords: one ``name:hash`` a line, hashes by argon2id.

References
----------
RFC 9106; RFC 8265 4.2 (passwords are compared in NFC).
"""

import re
import secrets
import unicodedata
from collections.abc import Mapping
from typing import Final

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from flute_sync.console_errors import UsersUnusable
from flute_sync.settings import SecretFile
from flute_sync.transport.secret import Secret

NAME: Final = re.compile(r"[^\s:#\x00-\x1f\x7f][^:\x00-\x1f\x7f]{0,63}")
SHORTEST: Final = 8
LONGEST: Final = 256
_HASHER: Final = PasswordHasher()
_MOST_KIB: Final = 1 << 20


class Users:
    """The users of one file, which is read again when it changes.

    Methods raise `SecretUnreadable` where the file cannot be read, `UsersUnusable` where a line of
    it is none of ours.
    """

    def __init__(self, file: SecretFile) -> None:
        self._file = Secret(file)
        self._read: tuple[str, Mapping[str, str]] = ("", {})
        # Verified where there is no such user, so that the time tells nothing.
        self._nobody = _HASHER.hash(secrets.token_hex(16))

    def hashes(self) -> Mapping[str, str]:
        """Return the hash of each user."""
        text = self._file.read()
        if text != self._read[0]:
            self._read = (text, parsed(text))
        return self._read[1]

    def verified(self, name: str, password: str) -> str | None:
        """Return the hash that a password fits; None where there is none. Takes its time."""
        known = self.hashes().get(name)
        fits = _fits(known or self._nobody, password)
        return known if known is not None and fits else None


def _fits(hashed: str, password: str) -> bool:
    try:
        return _HASHER.verify(hashed, unicodedata.normalize("NFC", password))
    except (VerificationError, InvalidHashError):
        return False


def hash_of(password: str) -> str:
    """Hash a password."""
    return _HASHER.hash(unicodedata.normalize("NFC", password))


def parsed(text: str) -> dict[str, str]:
    """Read a file of users.

    Raises
    ------
    UsersUnusable
        A line is none of ours; it is named by its number alone.
    """
    users: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, hashed = line.strip().partition(":")
        if not NAME.fullmatch(name) or name in users or not _is_usable(hashed):
            raise UsersUnusable(f"line {number}")
        users[name] = hashed
    return users


def _is_usable(hashed: str) -> bool:
    try:
        parameters = extract_parameters(hashed)
    except InvalidHashError:
        return False
    return parameters.memory_cost <= _MOST_KIB


def written(users: Mapping[str, str]) -> str:
    """Write a file of users."""
    head = "# Users of flute-sync's console; written by flute-sync console-user\n"
    return head + "".join(f"{name}:{hashed}\n" for name, hashed in sorted(users.items()))
