"""What can go wrong with the ledger."""

from flute_sync.errors import OperatorError, PermanentError, TransientError


class LedgerUnavailable(TransientError):
    """The ledger cannot be written."""

    code = "LEDGER-UNAVAILABLE"
    hint = "Free disk space or start the database; senders get 503 meanwhile and lose nothing."


class LedgerBusy(TransientError):
    """The ledger is locked by another process."""

    code = "LEDGER-BUSY"


class LeaseLost(TransientError):
    """Another worker took the study over, or it changed during the step."""

    code = "LEDGER-LEASE-LOST"


class StudyUnknown(PermanentError):
    """The ledger does not know this study."""

    code = "STUDY-UNKNOWN"
    hint = "Check the UID; `flute-sync status` shows what is known."


class LinkUndecided(PermanentError):
    """Nobody decided on this link."""

    code = "LINK-UNDECIDED"
    hint = "`flute-sync study UID --explain` shows which decisions are in force."


class LedgerRefused(PermanentError):
    """The ledger refuses what cannot be."""

    code = "LEDGER-REFUSED"
    hint = "Report this with the study's UID: the values contradict what the ledger holds."


class LedgerSchemaError(OperatorError):
    """The ledger has another schema revision than this version needs."""

    code = "LEDGER-SCHEMA"
    hint = "Stop the service and run `flute-sync ledger upgrade`."


class LedgerTargetChanged(OperatorError):
    """The ledger was written for another FHIR server."""

    code = "LEDGER-TARGET"
    hint = "Restore fhir.base_url, or start a new ledger for the new server."


class LedgerPseudonymsChanged(OperatorError):
    """The ledger was written with other pseudonyms, dates or kinds of sources."""

    code = "LEDGER-PSEUDONYMS"
    hint = "Restore [pseudonyms] and its key, or begin a new ledger and an empty FHIR server."


class LedgerAbsent(OperatorError):
    """There is no ledger yet."""

    code = "LEDGER-ABSENT"
    hint = "`flute-sync run` makes it; where it runs already, check ledger.url."


class LedgerUnauthorized(OperatorError):
    """The ledger's database refuses our credentials or rights."""

    code = "LEDGER-UNAUTHORIZED"
    hint = "Correct user and ledger.password_file, and let the user own the database."


class LedgerCorrupt(OperatorError):
    """The ledger's database is damaged or not a ledger."""

    code = "LEDGER-CORRUPT"
    hint = "Restore it from backup, or set it aside and start: docs/operations.md tells the rest."
