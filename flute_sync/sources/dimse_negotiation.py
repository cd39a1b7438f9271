"""The negotiation of a DICOM association that we request.

pynetdicom writes the request; the answer, which may be anything, is read here.

References
----------
PS3.8 9.3.2 to 9.3.4 (2026b).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from struct import Struct
from typing import Final, NamedTuple

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context, build_role

from flute_sync.archive_errors import (
    ArchiveAssociationRejected,
    ArchiveServerError,
    ArchiveUnavailable,
)
from flute_sync.errors import FluteSyncError
from flute_sync.sources.dimse_peer import DimsePeerSettings

_APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
_ACCEPTED, _REJECTED, _ABORTED = 2, 3, 7
_ITEM: Final = Struct(">BxH")
_FIXED_FIELDS_BYTES: Final = 68  # of A-ASSOCIATE-AC, before its items
_CONTEXT_ITEM, _TRANSFER_SYNTAX_ITEM, _USER_ITEM, _LENGTH_ITEM = 0x21, 0x40, 0x50, 0x51
_PERMANENT: Final = 1
_REASONS: Final = {
    (1, 1): "no reason given",
    (1, 2): "application context not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
"""By source and reason, PS3.8 Table 9-21."""

Proposals = Mapping[str, Sequence[str]]
"""Transfer syntaxes by abstract syntax, a presentation context for each."""


class Context(NamedTuple):
    """An accepted presentation context."""

    context_id: int
    transfer_syntax: str


def association_request(
    settings: DimsePeerSettings,
    proposed: Iterable[tuple[str, Sequence[str]]],
    largest_pdu_bytes: int,
    *,
    as_scp: bool = False,
) -> bytes:
    """Write an A-ASSOCIATE-RQ; its presentation contexts are 1, 3, 5 and so on.

    Parameters
    ----------
    proposed
        The abstract syntax of each context, and its transfer syntaxes.
    largest_pdu_bytes
        What the peer may send at once.
    as_scp
        Whether to propose that we are the SCP, PS3.7 D.3.3.4.
    """
    proposed = list(proposed)
    primitive = A_ASSOCIATE()
    primitive.application_context_name = _APPLICATION_CONTEXT
    primitive.calling_ae_title = settings.calling_ae_title
    primitive.called_ae_title = settings.ae_title
    contexts = [build_context(abstract, list(syntaxes)) for abstract, syntaxes in proposed]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    length = MaximumLengthNotification()
    length.maximum_length_received = largest_pdu_bytes
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = PYNETDICOM_IMPLEMENTATION_UID
    roles = [build_role(abstract, scp_role=True) for abstract, _ in proposed if as_scp]
    primitive.user_information = [length, implementation, *roles]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return pdu.encode()


def negotiated(agreed: Mapping[int, str], proposals: Proposals) -> dict[str, Context]:
    """Return the accepted contexts by abstract syntax, of those that were proposed in order."""
    ids = zip(range(1, 256, 2), proposals.items(), strict=False)
    return {
        abstract_syntax: Context(context_id, agreed[context_id])
        for context_id, (abstract_syntax, offered) in ids
        if agreed.get(context_id) in offered
    }


def acceptance(kind: int, body: bytes) -> tuple[dict[int, str], int]:
    """Read which contexts a peer accepts with which transfer syntax, and its largest P-DATA-TF.

    Parameters
    ----------
    kind, body
        Of the PDU that answers a request.

    Returns
    -------
    dict of int to str, int
        The size is 0 where the peer takes any.

    Raises
    ------
    ArchiveAssociationRejected
        When the peer does not want us.
    ArchiveUnavailable, ArchiveServerError
        When it does not want us now, or does not speak DICOM.
    """
    if kind != _ACCEPTED:
        raise _refusal(kind, body)
    return dict(_accepted(body)), _largest(body)


def _refusal(kind: int, body: bytes) -> FluteSyncError:
    if kind == _REJECTED and len(body) >= 4:
        result, source, reason = body[1:4]
        said = _REASONS.get((source, reason), f"source {source}, reason {reason}")
        error = ArchiveAssociationRejected if result == _PERMANENT else ArchiveUnavailable
        return error(f"association rejected, {said}")
    if kind == _ABORTED:
        return ArchiveUnavailable("it aborted the association")
    return ArchiveServerError("it does not speak DICOM")


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    pos = 0
    while pos + _ITEM.size <= len(data):
        kind, length = _ITEM.unpack_from(data, pos)
        pos += _ITEM.size
        yield kind, data[pos : pos + length]
        pos += length


def _accepted(body: bytes) -> Iterator[tuple[int, str]]:
    """Yield the accepted contexts with their transfer syntaxes, PS3.8 9.3.3.2."""
    for kind, item in _items(body[_FIXED_FIELDS_BYTES:]):
        if kind == _CONTEXT_ITEM and len(item) >= 4 and item[2] == 0:
            for inner, name in _items(item[4:]):
                if inner == _TRANSFER_SYNTAX_ITEM:
                    yield item[0], name.decode("ascii", "replace").rstrip(" \0")


def _largest(body: bytes) -> int:
    for kind, item in _items(body[_FIXED_FIELDS_BYTES:]):
        if kind == _USER_ITEM:
            for inner, length in _items(item):
                if inner == _LENGTH_ITEM and len(length) == 4:
                    return int.from_bytes(length, "big")
    return 0
