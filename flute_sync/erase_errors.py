"""What can go wrong when a patient is erased, and with what arrives of him afterwards."""

from flute_sync.errors import OperatorError, PermanentError, TransientError


class PatientErased(PermanentError):
    """The study, or its patient, was erased here and is not taken again."""

    code = "PATIENT-ERASED"
    hint = (
        "Where the patient consents again, `flute-sync erase --allow-again --patient PATIENT`;"
        " what was written of the study goes by `flute-sync erase --patient PATIENT`, again."
    )
    dimse_status = 0x0124  # Refused: Not authorized, PS3.7 annex C


class EraseUnknown(PermanentError):
    """Nobody knows this patient: neither the FHIR server nor the ledger."""

    code = "ERASE-UNKNOWN"
    hint = "Check the id of the Patient, or name an identifier as SYSTEM|VALUE."


class EraseAmbiguous(PermanentError):
    """More than one Patient has this identifier."""

    code = "ERASE-AMBIGUOUS"
    hint = "Find out who is meant and name him as Patient/ID; `--dry-run` shows what is his."


class EraseUnconfirmed(PermanentError):
    """Nothing was erased, since nobody confirmed it."""

    code = "ERASE-UNCONFIRMED"
    hint = "Answer with yes, or say --yes where no terminal is there to be asked."


class EraseUnfinished(PermanentError):
    """An erasure of this patient has not come to its end."""

    code = "ERASE-UNFINISHED"
    hint = "Run `flute-sync erase --patient PATIENT` again until it says that nothing remains."


class EraseInHand(TransientError):
    """A step of one of the patient's studies does not end."""

    code = "ERASE-IN-HAND"
    hint = "Nothing is taken any more. Run the same command again once the FHIR server answers."


class AuditUnwritable(OperatorError):
    """The audit cannot be written, so that nothing is erased."""

    code = "ERASE-AUDIT"
    hint = "Let the user who runs the command write erase.audit_file and the folder it is in."
