"""What can go wrong with the FHIR server, and with saying a study in FHIR."""

from flute_sync.errors import OperatorError, PermanentError, TransientError


class FhirUnavailable(TransientError):
    """The FHIR server does not answer."""

    code = "FHIR-UNAVAILABLE"
    hint = "Start the FHIR server or mend the network; all studies wait and go on by themselves."


class FhirBusy(TransientError):
    """The FHIR server asks to come back later."""

    code = "FHIR-BUSY"


class FhirConflict(TransientError):
    """The resource was changed by somebody else in the same moment."""

    code = "FHIR-CONFLICT"


class FhirServerError(TransientError):
    """The FHIR server failed on this request."""

    code = "FHIR-SERVER-ERROR"
    hint = "Look into the FHIR server's own log at this time; flute-sync tries again by itself."


class MappingError(PermanentError):
    """The study cannot be said as an ImagingStudyFlute."""

    code = "MAPPING-INVALID"
    hint = "Report this with the study's UID: nothing invalid was sent."


class FhirRejected(PermanentError):
    """The FHIR server refuses the resource."""

    code = "FHIR-REJECTED"
    hint = "Look into the FHIR server's log for the reason, then `flute-sync retry UID`."


class FhirAmbiguous(PermanentError):
    """The FHIR server holds more than one ImagingStudy of this study."""

    code = "FHIR-AMBIGUOUS"
    hint = "Remove the surplus ImagingStudy on the FHIR server, then `flute-sync retry UID`."


class FhirResultAmbiguous(PermanentError):
    """The FHIR server holds a result of ours more than once."""

    code = "FHIR-RESULT-AMBIGUOUS"
    hint = "Remove the surplus Group or MeasureReport with our identifier, then run it again."


class FhirGone(PermanentError):
    """The resource was deleted on the FHIR server."""

    code = "FHIR-GONE"
    hint = "If the deletion was a mistake, `flute-sync retry UID` creates it anew."


class FhirUnauthorized(OperatorError):
    """The FHIR server refuses our credentials."""

    code = "FHIR-UNAUTHORIZED"
    hint = "Renew the credentials in [fhir.auth]; work goes on by itself."


class FhirCapabilityMissing(OperatorError):
    """The FHIR server lacks what flute-sync needs."""

    code = "FHIR-CAPABILITY"
    hint = "Use a FHIR R4 (4.0.1) server with create, update, search and transaction."


class FhirInstallRefused(OperatorError):
    """The FHIR server does not take one of our definitions."""

    code = "FHIR-INSTALL-REFUSED"
    hint = (
        "Give the credentials the scopes that docs/commands.md names, or let the server's"
        " administrator store what `flute-sync fhir install --dry-run --json` shows."
    )


class FhirInstallClash(OperatorError):
    """The FHIR server has another search parameter `supporting-info` of ImagingStudy."""

    code = "FHIR-INSTALL-CLASH"
    hint = "Retire that SearchParameter if nobody needs it; flute-sync changes nothing of others."
