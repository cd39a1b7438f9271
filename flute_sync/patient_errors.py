"""Why it can be uncertain which patient is meant."""

from flute_sync.errors import PermanentError


class IdentityError(PermanentError):
    """Which patient is meant is not certain."""

    code = "PATIENT-UNCERTAIN"
    hint = "Correct the patient identifiers in the archive, then `flute-sync retry UID`."


class PatientIdMissing(IdentityError):
    """The study has no Patient ID."""

    code = "PATIENT-ID-MISSING"


class PatientIdUnusable(IdentityError):
    """A Patient ID, or who gave it out, is stated in a way that cannot be read."""

    code = "PATIENT-ID-UNUSABLE"
    hint = "Correct (0010,0020), (0010,0021) or (0010,0024) in the archive: one value, legal text."


class PatientIssuerUnknown(IdentityError):
    """The issuer of the Patient ID is not in patient.systems."""

    code = "PATIENT-ISSUER-UNKNOWN"
    hint = "Add the issuer to patient.systems; a foreign number must never match a local one."


class PatientSystemUnknown(IdentityError):
    """The Patient ID names no issuer and no patient.default_system is set."""

    code = "PATIENT-SYSTEM-UNKNOWN"
    hint = "Set patient.default_system to the identifier system of this archive."


class PatientConflict(IdentityError):
    """The instances of the study name more than one patient."""

    code = "PATIENT-CONFLICT"
    hint = (
        "Correct the study in the archive; where archives number one person by themselves, give"
        " one Patient on the FHIR server all the numbers. Nothing is guessed."
    )


class PatientStepConflict(PatientConflict):
    """A modality's procedure step names another patient than the images do."""

    code = "PATIENT-STEP-CONFLICT"
    hint = "If the archive is right, `flute-sync retry UID` confirms it; else correct it there."


class PatientAbsent(IdentityError):
    """The FHIR server does not hold the patient yet."""

    code = "PATIENT-ABSENT"
    hint = "Create the Patient with this identifier; the study goes on by itself then."


class PatientGone(IdentityError):
    """The Patient of a study that is in FHIR is not there any more."""

    code = "PATIENT-GONE"
    hint = "Restore the Patient, or create one with this identifier; the study goes on by itself."


class PatientAmbiguous(IdentityError):
    """More than one Patient has the identifier."""

    code = "PATIENT-AMBIGUOUS"
    hint = "Merge the Patients on the FHIR server (link replaced-by)."


class PatientContradicted(IdentityError):
    """Birth date or sex of the study and of the Patient contradict each other."""

    code = "PATIENT-CONTRADICTED"
    hint = "Find out which side is wrong and correct it there, then `flute-sync retry UID`."


class PatientInactive(IdentityError):
    """The Patient is inactive and no survivor can be reached."""

    code = "PATIENT-INACTIVE"
    hint = "Repair the Patient's replaced-by link on the FHIR server."


class PatientChanged(IdentityError):
    """The archive now names another patient for a study that is already in FHIR."""

    code = "PATIENT-CHANGED"
    hint = "Confirm the correction in the archive, then `flute-sync retry UID`."


class SourceRefused(IdentityError):
    """Identified and pseudonymised studies must not meet on one FHIR server."""

    code = "PATIENT-SOURCE"
    hint = "Send the study to a node of its kind; docs/pseudonyms.md tells how they are told apart."


class StudyIdentified(SourceRefused):
    """The study is identified, and this FHIR server holds pseudonymised ones."""

    code = "PATIENT-IDENTIFIED"
    hint = "De-identify it in the archive, or see pseudonyms.sources and .unmarked."


class StudyPseudonymised(SourceRefused):
    """The study is de-identified, and this FHIR server holds identified ones."""

    code = "PATIENT-PSEUDONYMISED"
    hint = "Keep it in an archive of its own with a node of its own, or see pseudonyms.sources."


class StudyPartlyIdentified(SourceRefused):
    """Some instances of the study are de-identified, others are not."""

    code = "PATIENT-PARTLY-IDENTIFIED"
    hint = "Correct (0012,0062) of its instances in the archive, then `flute-sync retry UID`."
