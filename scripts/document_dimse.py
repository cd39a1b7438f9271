"""The table of DIMSE statuses: what each error is answered with."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from flute_sync.errors import FluteSyncError
from scripts.markdown import table

MET: Final = ("ARCHIVE", "AUTH", "DICOM", "DIMSE", "LEDGER", "PATIENT-ERASED")
"""Codes that a DICOM application can meet."""
NEVER_ANSWERED: Final = frozenset(
    {"DIMSE-COMMITMENT-UNREPORTED", "DIMSE-INTERRUPTED", "DIMSE-PROTOCOL", "DIMSE-TOO-SLOW"}
)
"""Codes of what ends an association, or comes after one."""
MEANINGS: Final = {
    0x0106: "Failure: invalid attribute value",
    0x0110: "Failure: processing failure",
    0x0111: "Failure: duplicate SOP instance",
    0x0112: "Failure: no such SOP instance",
    0x0115: "Failure: invalid argument value",
    0x0117: "Failure: invalid SOP instance",
    0x0120: "Failure: missing attribute",
    0x0121: "Failure: missing attribute value",
    0x0122: "Refused: SOP class not supported",
    0x0123: "Failure: no such action",
    0x0124: "Refused: not authorized; do not send it again",
    0x0212: "Failure: mistyped argument",
    0x0213: "Refused: resource limitation",
    0xA700: "Refused: out of resources; try again later",
    0xA900: "Error: data set does not match SOP class",
    0xC000: "Error: cannot understand",
}


def statuses_block(errors: Iterable[type[FluteSyncError]]) -> str:
    """The statuses in order, each with the errors that it is the answer to."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for error in errors:
        if error.code.startswith(MET) and error.code not in NEVER_ANSWERED:
            found[error.dimse_status].append(f"`{error.code}`")
    return table(
        "status, meaning, errors",
        ((f"{one:04X}H", MEANINGS[one], ", ".join(found[one])) for one in sorted(found)),
    )
