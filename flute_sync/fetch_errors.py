"""What can go wrong when images are fetched to disk."""

from flute_sync.errors import OperatorError, PermanentError, TransientError


class SelectorUnusable(PermanentError):
    """What to fetch cannot be told from this."""

    code = "FETCH-SELECTOR"
    hint = "Name a query, an ImagingStudy, a study's UID, or a file that flute-sync wrote."


class StudyNotRetrievable(PermanentError):
    """The ImagingStudy does not say how to retrieve its images."""

    code = "FETCH-STUDY"
    hint = "Its UIDs must be legal, and it needs an active Endpoint for WADO-RS on this server."


class EndpointUnknown(OperatorError):
    """The Endpoint leads to an address that the settings do not know."""

    code = "FETCH-ENDPOINT"
    hint = "Name its archive in the settings, or trust it: fetch.endpoints or --any-endpoint."


class InstanceTruncated(TransientError):
    """An instance or picture came incomplete; nothing of it was kept."""

    code = "FETCH-TRUNCATED"
    hint = "Run the command again; if it stays, the archive's own copy is damaged."


class AnswerMalformed(TransientError):
    """The archive's answer is not what WADO-RS returns."""

    code = "FETCH-ANSWER"
    hint = "Compare the archive's DICOMweb conformance statement with docs/fetch.md."


class WrongInstance(PermanentError):
    """The archive returned another instance than was asked for; it was not kept."""

    code = "FETCH-WRONG-INSTANCE"
    hint = "Report it to the archive's vendor; `flute-sync reconcile` tells whether FHIR is stale."


class InstanceAbsent(PermanentError):
    """The archive does not hold an instance that FHIR lists."""

    code = "FETCH-ABSENT"
    hint = "Run `flute-sync reconcile --repair`: the ImagingStudy says more than the archive has."


class CountMismatch(PermanentError):
    """The archive returned another number of instances than the ImagingStudy states."""

    code = "FETCH-COUNT"
    hint = "Run `flute-sync reconcile --repair`, then fetch again."


class InstanceTooLarge(PermanentError):
    """An instance is larger than the settings allow."""

    code = "FETCH-TOO-LARGE"
    hint = "Raise fetch.max_instance_bytes if the instance is real."


class NotRendered(PermanentError):
    """The archive makes no picture of an instance."""

    code = "FETCH-NOT-RENDERED"
    hint = "Fetch it without --rendered: the archive cannot draw what it holds."


class NotConverted(PermanentError):
    """No NIfTI could be made of a series; its DICOM files are there."""

    code = "FETCH-NIFTI"
    hint = "Run dcm2niix on the series' folder by hand: it says what it misses."


class FolderUnusable(OperatorError):
    """The folder cannot be written to."""

    code = "FETCH-FOLDER"
    hint = "Mend what is said, such as space or permissions; the same command then goes on."


class FolderBusy(OperatorError):
    """Another fetch works in this folder."""

    code = "FETCH-BUSY"
    hint = "Wait until it has ended, or name another folder."
