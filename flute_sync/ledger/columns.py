"""How values are stored, alike in both databases: times, UIDs, headers."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError
from sqlalchemy import BigInteger, Dialect, Text
from sqlalchemy.types import TypeDecorator

from flute_sync.dicom_errors import HeaderError, HeaderUidInvalid
from flute_sync.ledger_errors import LedgerCorrupt
from flute_sync.study import (
    Header,
    PatientAttributes,
    PatientId,
    SOPInstanceUID,
    identity_of,
    person_of,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_UID: Final = re.compile(r"[0-9][0-9.]{0,63}").fullmatch
_DIGEST_BYTES: Final = 16
_REMEMBERED: Final = 1024

_HEADER: Final = TypeAdapter(Header)
_IDENTITY: Final[TypeAdapter[PatientId | None]] = TypeAdapter(PatientId | None)
_PERSON: Final = TypeAdapter(PatientAttributes)
_T = TypeVar("_T")


def utc_now() -> datetime:
    """Return the time of this machine, aware."""
    return datetime.now(UTC)


def to_stored(time: datetime | None) -> int | None:
    """Return a time as it is stored: whole microseconds since 1970-01-01T00:00Z.

    Raises
    ------
    TypeError
        When the time is naive.
    """
    return None if time is None else (time - _EPOCH) // _MICROSECOND


def from_stored(stored: int) -> datetime:
    """Return a stored time, aware, in UTC."""
    return _EPOCH + stored * _MICROSECOND


def maybe_from_stored(stored: int | None) -> datetime | None:
    """Return a stored time, or None where none is stored."""
    return None if stored is None else from_stored(stored)


class UtcTime(TypeDecorator[datetime]):
    """An aware time."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Refuse a naive time: subtraction does."""
        return to_stored(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Return UTC."""
        return maybe_from_stored(value)


class JsonText(TypeDecorator[Any]):
    """A small value as JSON, which both databases keep as text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """Write the value."""
        return json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Read the value; None where an outer join found none."""
        return None if value is None else json.loads(value)


def pack_uid(uid: str) -> bytes:
    """Pack a UID into half its bytes: a digit is its nibble, a full stop is ``a``, the pad ``f``.

    Raises
    ------
    HeaderUidInvalid
        When it is not 1 to 64 digits and full stops.

    References
    ----------
    PS3.5 9.1 (2026b)
    """
    if _UID(uid) is None:
        raise HeaderUidInvalid("(0008,0018)")
    digits = uid.replace(".", "a")
    return bytes.fromhex(digits if len(digits) % 2 == 0 else digits + "f")


def unpack_uid(packed: bytes) -> SOPInstanceUID:
    """Return what was packed."""
    return SOPInstanceUID(packed.hex().rstrip("f").replace("a", "."))


NOBODY: Final = "null"
"""The stored identity of a header that names no patient."""


class Stored(NamedTuple):
    """A header as it is stored: what identifies it within its study, its text, whom it names.

    ``person`` is `person_of` it.
    """

    digest: bytes
    text: str
    identity: str
    person: str


def load_header(text: str) -> Header:
    """Return the header that was stored.

    Raises
    ------
    LedgerCorrupt
        When the text is not what this program wrote.
    """
    try:
        return _HEADER.validate_json(text)
    except ValidationError:
        raise LedgerCorrupt("a stored header cannot be read") from None


def dump_identity(header: Header) -> str:
    """Return whom a header names, as it is stored."""
    return _IDENTITY.dump_json(identity_of(header), exclude_defaults=True).decode()


def dump_patient_id(patient_id: PatientId) -> str:
    """Return an identity as `dump_identity` stores it."""
    return _IDENTITY.dump_json(patient_id, exclude_defaults=True).decode()


def dump_identities(identities: Iterable[str]) -> str:
    """Return stored identities as one text, alike whatever their order."""
    return f"[{','.join(sorted(identities))}]"


def split_identities(text: str) -> frozenset[str]:
    """Return the single identities that were stored as one text."""
    return frozenset(map(_compact, json.loads(text))) if text != "[]" else frozenset()


def with_issuers(stated: Iterable[str], known: Iterable[str]) -> frozenset[str]:
    """Return stored identities, those without issuer with the one that is known of their number."""
    issued: dict[str, set[str]] = {}
    for text in known:
        if (said := json.loads(text)) and said.get("issuer"):
            issued.setdefault(said["value"], set()).add(text)
    found: set[str] = set()
    for text in stated:
        said = json.loads(text)
        is_bare = bool(said) and not said.get("issuer")
        found |= issued.get(said["value"], {text}) if is_bare else {text}
    return frozenset(found)


@lru_cache(maxsize=_REMEMBERED)
def load_identities(text: str) -> frozenset[PatientId | None]:
    """Return the identities that were stored as one text.

    Raises
    ------
    LedgerCorrupt
        When the text is not what this program wrote.
    """
    return _load_all(_IDENTITY, text, "stored patient identities")


@lru_cache(maxsize=_REMEMBERED)
def load_people(text: str) -> frozenset[PatientAttributes]:
    """Return what `Stored.person` was of several headers, stored as one text.

    Raises
    ------
    LedgerCorrupt
        When the text is not what this program wrote.
    """
    return _load_all(_PERSON, text, "what archives state of patients")


def _load_all(kind: TypeAdapter[_T], text: str, what: str) -> frozenset[_T]:
    try:
        return frozenset(map(kind.validate_json, split_identities(text)))
    except ValueError:
        raise LedgerCorrupt(f"{what} cannot be read") from None


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class HeaderStore:
    """Turns headers into what is stored; one that many instances share is turned once.

    Instances that share a `Header` share the object, so the object's identity is the key. The
    object is kept with its entry: a freed one's identity could come back as another header's.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Header, Stored]] = {}

    def store(self, header: Header) -> Stored:
        """Return how a header is stored.

        Raises
        ------
        HeaderError
            When a value is not text that JSON can carry.
        """
        known = self._known.get(id(header))
        if known is not None:
            return known[1]
        try:
            text = _HEADER.dump_json(header, exclude_defaults=True)
        except PydanticSerializationError:
            raise HeaderError("a value is not Unicode text") from None
        digest = blake2b(text, digest_size=_DIGEST_BYTES).digest()
        person = _PERSON.dump_json(person_of(header), exclude_defaults=True)
        stored = Stored(digest, text.decode(), dump_identity(header), person.decode())
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[id(header)] = (header, stored)
        return stored
