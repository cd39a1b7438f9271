"""By what is known again what was erased: keyed hashes, under a key that never leaves the ledger.

Who has the ledger can test a guess, as who may use the command can; nobody reads a patient out of
it, and a hash says nothing anywhere else.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal

from flute_sync.ledger.columns import dump_patient_id
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.rows import chunks
from flute_sync.ledger.values import PatientMarks
from flute_sync.ledger_errors import LedgerCorrupt

Kind = Literal["study", "patient", "key", "stated"]
AGREEMENT: Final = 0x45524153
"""What records news agrees on it; what erases, alone: nothing of both is at work at once."""

_MARK_BYTES: Final = 16
_SECRET: Final = "SELECT secret FROM erasure_key"  # noqa: S105  the statement, not the secret
_FOUND: Final = "SELECT mark FROM erased_mark WHERE mark IN (?)"
_LIKE: Final = (
    "INSERT INTO erased_mark (mark, erasure_id)"
    " SELECT CAST(? AS {binary}), erasure_id FROM erased_mark WHERE mark = ?"
    " ON CONFLICT (mark) DO NOTHING"
)


@dataclass(slots=True)
class Marks:
    """The marks of this ledger; the key is read once, since it never changes.

    Parameters
    ----------
    numbering
        How the settings read Patient IDs. What a header states is his under the same alone: under
        others the same number may be somebody else's, and is known by whose it is.
    """

    numbering: str = ""
    _secret: bytes | None = None

    def of(self, driver: Driver, kind: Kind, text: str) -> bytes:
        """Return the mark of something."""
        if self._secret is None:
            rows = driver.rows(_SECRET)
            if not rows:
                raise LedgerCorrupt("it has lost the key of what was erased")
            self._secret = bytes(rows[0][0])
        about = f"{kind} {self.numbering}" if kind == "stated" else kind
        said = f"{about} {text}".encode()
        return blake2b(said, key=self._secret, digest_size=_MARK_BYTES).digest()

    def of_patient(self, driver: Driver, patient: PatientMarks) -> list[bytes]:
        """Return the marks of a patient himself, without those of his studies."""
        stated = (dump_patient_id(one) for one in patient.stated)
        said: list[tuple[Kind, Iterable[str]]] = [
            ("patient", patient.references),
            ("key", patient.keys),
            ("stated", stated),
        ]
        return [self.of(driver, kind, text) for kind, texts in said for text in texts]

    def of_studies(self, driver: Driver, uids: Iterable[str]) -> dict[str, bytes]:
        """Return the marks of studies, by UID."""
        return {uid: self.of(driver, "study", uid) for uid in uids}

    def erased(self, driver: Driver, uids: Iterable[str]) -> frozenset[str]:
        """Return which of these studies were erased."""
        marks = self.of_studies(driver, uids)
        found = known(driver, marks.values())
        return frozenset(uid for uid, mark in marks.items() if mark in found)


def known(driver: Driver, marks: Collection[bytes]) -> frozenset[bytes]:
    """Return which of these marks are of what was erased."""
    return frozenset(
        bytes(mark) for part in chunks([*marks]) for (mark,) in driver.rows(_FOUND, [*part])
    )


def mark_as(driver: Driver, new: bytes, of: bytes) -> None:
    """Let something be known as erased together with something else that is."""
    binary = "BLOB" if not driver.for_update else "BYTEA"
    driver.run(_LIKE.format(binary=binary), [(new, of)])
