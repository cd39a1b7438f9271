"""Keyed pseudonyms for identifiers, and the days by which the dates of each patient are shifted.

An identifier of a hospital is short: a plain hash of it is found by trying all of them. Only who
has the key can compute or recognise a pseudonym, and nobody can read an identifier out of it.

Scheme 1, for everybody who computes the same elsewhere::

    message(fields) = for each field its length in bytes as 4 bytes, big-endian, then its UTF-8
    mac(fields)     = HMAC-SHA-256(key, message("flute-sync", "1", *fields))
    pseudonym       = Base32(first 20 bytes of mac("pseudonym", kind, system, value))
    shift           = mac("shift", pseudonym) as a number, big-endian; see `ShiftRule`
    key id          = hexadecimal(first 8 bytes of mac("key-id"))

``value`` is the identifier without pad spaces at its ends, otherwise as it is; ``system`` the URI
of its identifier system, empty where none is known.

References
----------
RFC 2104 "HMAC", RFC 4648 6 "Base 32 Encoding"; ENISA, "Pseudonymisation techniques and best
practices" (2019).
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from flute_sync.settings_errors import PseudonymKeyUnusable
from flute_sync.valuerep import Unusable, clean_identifier

SHORTEST_KEY_BYTES: Final = 32
_FEWEST_VALUES: Final = 8
_PSEUDONYM_BYTES: Final = 20  # 160 bits: 32 characters of Base32, without padding
_KEY_ID_BYTES: Final = 8
_DAYS_A_WEEK: Final = 7
_PSEUDONYM: Final = re.compile(r"[A-Z2-7]{32}")


class Kind(StrEnum):
    """What an identifier names: equal numbers of different kinds have different pseudonyms."""

    PATIENT = "patient"
    ACCESSION = "accession"
    ADMISSION = "admission"
    STUDY_ID = "study-id"
    REQUESTED_PROCEDURE = "requested-procedure"
    ORDER = "order"


@dataclass(frozen=True, slots=True)
class PseudonymKey:
    """The secret of a site; it never shows itself.

    Raises
    ------
    PseudonymKeyUnusable
        It is too short, or made of too few different bytes to be by chance.
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) < SHORTEST_KEY_BYTES:
            raise PseudonymKeyUnusable(f"shorter than {SHORTEST_KEY_BYTES} bytes")
        if len(set(self.secret)) < _FEWEST_VALUES:
            raise PseudonymKeyUnusable("hardly any different bytes")

    @property
    def id(self) -> str:
        """What tells this key from others, without telling it: 16 hexadecimal digits."""
        return self._mac("key-id")[:_KEY_ID_BYTES].hex()

    def pseudonym(self, kind: Kind, system: str, value: str) -> str:
        """Return the pseudonym of an identifier: 32 characters, A to Z and 2 to 7.

        Parameters
        ----------
        system
            Its identifier system; empty where none is known.

        Raises
        ------
        Unusable
            The identifier is empty, or holds what no identifier can.
        """
        cleaned = clean_identifier(value)
        if cleaned is None:
            raise Unusable("empty")
        mac = self._mac("pseudonym", kind.value, system, cleaned)
        return base64.b32encode(mac[:_PSEUDONYM_BYTES]).decode("ascii")

    def number(self, pseudonym: str) -> int:
        """Return a number that belongs to a pseudonym and cannot be told without the key."""
        return int.from_bytes(self._mac("shift", pseudonym))

    def _mac(self, *fields: str) -> bytes:
        encoded = [one.encode("utf-8") for one in ("flute-sync", "1", *fields)]
        message = b"".join(len(one).to_bytes(4) + one for one in encoded)
        return hmac.new(self.secret, message, hashlib.sha256).digest()


def is_pseudonym(text: str) -> bool:
    """Tell whether a text has the shape of a pseudonym."""
    return _PSEUDONYM.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class ShiftRule:
    """By how many days the dates of a patient go back, never by none.

    Parameters
    ----------
    largest
        The most days.
    whole_weeks
        Whether each date keeps its day of the week.
    """

    largest: int
    whole_weeks: bool = True

    def days(self, key: PseudonymKey, pseudonym: str) -> int:
        """Return what is to be added to each date of a patient: a negative number of days."""
        step = _DAYS_A_WEEK if self.whole_weeks else 1
        return -step * (1 + key.number(pseudonym) % (self.largest // step))


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """How identifiers are replaced at a site.

    Parameters
    ----------
    system
        The identifier system of all pseudonyms.
    shift
        How dates are shifted; None: they stay.
    """

    key: PseudonymKey
    system: str
    shift: ShiftRule | None = None

    def days(self, pseudonym: str) -> int | None:
        """Return the shift of a patient in days; None where dates stay."""
        return None if self.shift is None else self.shift.days(self.key, pseudonym)
