"""What can go wrong with a DICOM association and the messages on it.

References
----------
PS3.4 B.2.3, PS3.7 9.1.1.1.9 and PS3.8 9.2 (2026b).
"""

from flute_sync.errors import PermanentError, TransientError


class StoreInterrupted(TransientError):
    """The sender went away in the middle of an instance."""

    code = "DIMSE-INTERRUPTED"
    hint = "Look at the sender and the network between; nothing of the instance was recorded."


class StoreTooSlow(TransientError):
    """The sender sent nothing for too long."""

    code = "DIMSE-TOO-SLOW"
    hint = "Look at the network, or raise store_scp.network_timeout or store_scp.idle_timeout."


class ProtocolViolated(PermanentError):
    """The sender does not speak DICOM as PS3.7 and PS3.8 say."""

    code = "DIMSE-PROTOCOL"
    hint = "Mend the sender, or look for what else connects to this port."

    def __init__(self, detail: str = "", *, reason: int = 0) -> None:
        super().__init__(detail)
        self.reason = reason  # of the A-ABORT, PS3.8 table 9-26


class InstanceMismatch(PermanentError):
    """The data set is not the instance that the command names."""

    code = "DIMSE-MISMATCH"
    hint = "Mend the sender: SOP class and instance UID must agree (PS3.7 9.1.1)."
    dimse_status = 0xA900  # Data Set does not match SOP Class, PS3.4 B.2.3


class SopClassMismatch(PermanentError):
    """The SOP class of the command is not the one of its presentation context."""

    code = "DIMSE-SOP-CLASS"
    hint = "Mend the sender: each SOP class needs a presentation context of its own."
    dimse_status = 0x0122  # SOP class not supported, PS3.7 annex C


class InstanceUidInvalid(PermanentError):
    """The command names its instance by no UID."""

    code = "DIMSE-UID-INVALID"
    hint = "Mend the sender: Affected SOP Instance UID must be a UID (PS3.5 9)."
    dimse_status = 0x0117  # Invalid SOP instance, PS3.7 annex C


class DataSetAbsent(PermanentError):
    """The C-STORE request has no data set."""

    code = "DIMSE-NO-DATA"
    hint = "Mend the sender: a C-STORE request carries the instance (PS3.7 9.3.1.1)."
    dimse_status = 0x0212  # Mistyped argument, PS3.7 annex C


class DataSetUnreadable(PermanentError):
    """The data set of the message cannot be read."""

    code = "DIMSE-DATA-SET"
    hint = "Mend the sender: it writes illegal DICOM, or more than this service takes."
    dimse_status = 0x0110  # Processing failure, PS3.7 annex C


class AttributeMissing(PermanentError):
    """A required attribute is missing."""

    code = "DIMSE-ATTRIBUTE-MISSING"
    hint = "Mend the sender: docs/conformance.md names the attributes that are required."
    dimse_status = 0x0120  # Missing attribute, PS3.7 annex C


class AttributeEmpty(PermanentError):
    """A required attribute has no value."""

    code = "DIMSE-ATTRIBUTE-EMPTY"
    hint = "Mend the sender: docs/conformance.md names the attributes that are required."
    dimse_status = 0x0121  # Missing attribute value, PS3.7 annex C


class AttributeInvalid(PermanentError):
    """An attribute has a value that it may not have."""

    code = "DIMSE-ATTRIBUTE-INVALID"
    hint = "Mend the sender: docs/conformance.md names the values that are read."
    dimse_status = 0x0106  # Invalid attribute value, PS3.7 annex C


class StepUnknown(PermanentError):
    """The performed procedure step was never created here."""

    code = "DIMSE-STEP-UNKNOWN"
    hint = "Let the modality send its steps here from their N-CREATE on."
    dimse_status = 0x0112  # No such SOP instance, PS3.7 annex C


class StepDuplicate(PermanentError):
    """The performed procedure step exists already."""

    code = "DIMSE-STEP-DUPLICATE"
    hint = "Nothing to do if the modality repeated itself; otherwise it reuses a UID."
    dimse_status = 0x0111  # Duplicate SOP instance, PS3.7 annex C


class StepEnded(PermanentError):
    """The performed procedure step is completed or discontinued and may not change."""

    code = "DIMSE-STEP-ENDED"
    hint = "Nothing to do if the modality repeated itself; a step ends once (PS3.4 F.7.2.2)."
    dimse_status = 0x0110  # Processing failure, PS3.4 F.7.2.2
    error_id = 0xA710  # the object may no longer be updated


class ArgumentInvalid(PermanentError):
    """The request for storage commitment cannot be understood."""

    code = "DIMSE-ARGUMENT"
    hint = "Mend the sender: a request names a transaction and instances (PS3.4 J.3.2)."
    dimse_status = 0x0115  # Invalid argument value, PS3.7 annex C


class ActionUnknown(PermanentError):
    """The action is none of storage commitment."""

    code = "DIMSE-ACTION"
    hint = "Mend the sender: Action Type ID is 1 (PS3.4 J.3.2)."
    dimse_status = 0x0123  # No such action, PS3.7 annex C


class CommitmentInstanceUnknown(PermanentError):
    """Storage commitment was asked of another SOP instance than its well-known one."""

    code = "DIMSE-COMMITMENT-INSTANCE"
    hint = "Mend the sender: the instance is 1.2.840.10008.1.20.1.1 (PS3.4 J.3.5)."
    dimse_status = 0x0112  # No such SOP instance, PS3.7 annex C


class CommitmentBusy(TransientError):
    """Too many requests for storage commitment wait."""

    code = "DIMSE-COMMITMENT-BUSY"
    hint = "The sender asks again; look whether the archive answers, or why it is slow."
    dimse_status = 0x0213  # Resource limitation, PS3.7 annex C


class CommitmentUnreported(TransientError):
    """The report on a storage commitment could not be delivered."""

    code = "DIMSE-COMMITMENT-UNREPORTED"
    hint = "Set the sender's address in store_scp.commitment.peers, and see that it listens."
