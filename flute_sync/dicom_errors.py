"""What can go wrong in reading a DICOM header."""

from flute_sync.errors import PermanentError


class HeaderError(PermanentError):
    """The DICOM header cannot be read.

    Parameters
    ----------
    tag
        The data element at fault, as ``"(gggg,eeee)"``.
    sop_class_uid, sop_instance_uid
        The instance concerned, where the header said it before the fault.
    """

    code = "DICOM-UNREADABLE"
    hint = "Send the object again; if it stays so, the sender writes illegal DICOM."
    http_status = 409

    def __init__(
        self,
        detail: str = "",
        *,
        tag: str | None = None,
        study_instance_uid: str | None = None,
        sop_class_uid: str | None = None,
        sop_instance_uid: str | None = None,
    ) -> None:
        self.tag = tag
        self.sop_class_uid = sop_class_uid
        self.sop_instance_uid = sop_instance_uid
        stated = " ".join(part for part in (tag, detail) if part)
        super().__init__(stated, study_instance_uid=study_instance_uid)


class HeaderUidMissing(HeaderError):
    """The DICOM header lacks a UID without which the object cannot be placed."""

    code = "DICOM-UID-MISSING"


class HeaderUidInvalid(HeaderError):
    """The DICOM header has a UID that no DICOMweb address can carry."""

    code = "DICOM-UID-INVALID"


class HeaderTruncated(HeaderError):
    """The DICOM header ends in the middle of an element."""

    code = "DICOM-TRUNCATED"
    hint = "Send the object again; it was cut off on its way or on the sender's disk."


class HeaderTooLarge(HeaderError):
    """The DICOM header is larger than the settings allow."""

    code = "DICOM-HEADER-TOO-LARGE"
