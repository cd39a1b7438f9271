"""Senders and listeners of DICOM messages, for tests."""

import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from struct import pack
from typing import Any, Final, Self

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

from flute_sync.sources.dimse_acceptor import Acceptor
from flute_sync.sources.dimse_commands import C_STORE_RQ
from flute_sync.sources.dimse_policy import Service
from flute_sync.sources.header import HeaderReader
from flute_sync.sources.store_index import IndexSink
from flute_sync.sources.store_settings import StoreScpSettings
from tests.headers import pydicom_reads
from tests.intake import MemoryIntake

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
VERIFICATION: Final = "1.2.840.10008.1.1"
RELEASE_RQ: Final = b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"
ABORT: Final = 7


def pdu(*values: tuple[int, int, bytes]) -> bytes:
    """Write one P-DATA-TF: context ID, message control header and fragment of each value."""
    body = b"".join(
        pack(">LBB", len(data) + 2, context_id, control) + data
        for context_id, control, data in values
    )
    return pack(">BxL", 4, len(body)) + body


def command_set(
    field: int,
    sop_class_uid: str,
    sop_instance_uid: str = "",
    *,
    message_id: int = 1,
    has_data: bool = False,
) -> bytes:
    """Write the command of a request."""
    body = _uid(0x0002, sop_class_uid)
    body += pack("<HHLH", 0, 0x0100, 2, field) + pack("<HHLH", 0, 0x0110, 2, message_id)
    body += pack("<HHLH", 0, 0x0800, 2, 1 if has_data else 0x0101)
    if sop_instance_uid:
        body += _uid(0x1000, sop_instance_uid)
    return pack("<HHLL", 0, 0, 4, len(body)) + body


def message(
    context_id: int,
    sop_class_uid: str,
    sop_instance_uid: str,
    data: bytes | None,
    most: int = 16000,
) -> bytes:
    """Write a C-STORE request, its data set in fragments of at most so many bytes."""
    has_data = data is not None
    command = command_set(C_STORE_RQ, sop_class_uid, sop_instance_uid, has_data=has_data)
    written = pdu((context_id, 3, command))
    rest = data or b""
    for start in range(0, len(rest), most):
        control = 2 if start + most >= len(rest) else 0
        written += pdu((context_id, control, rest[start : start + most]))
    return written


def data_set(
    syntax: str = EXPLICIT,
    *,
    sop_class: str = CT,
    instance: str = "1.2.3",
    pixels: bytes = b"\0" * 64,
) -> bytes:
    """Encode a small image as DIMSE carries it; private encodings are explicit little endian."""
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = UID(sop_class), UID(instance)
    header.StudyDate, header.Modality = "20240102", "CT"
    header.StudyInstanceUID, header.SeriesInstanceUID = UID("1.2"), UID("1.2.1")
    header.InstanceNumber = 1
    header.add_new("PixelData", "OW", pixels)
    known = ExplicitVRLittleEndian if UID(syntax).is_private else UID(syntax)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = known.is_little_endian, known.is_implicit_VR
    write_dataset(buffer, header)
    if not known.is_deflated:
        return buffer.getvalue()
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(buffer.getvalue()) + deflater.flush()


def bare(file: bytes) -> tuple[str, bytes]:
    """Cut a file into its transfer syntax and its data set."""
    length = int.from_bytes(file[140:144], "little")
    if file[128:138] != b"DICM\2\0\0\0UL":
        return IMPLICIT, file
    syntax = pydicom_reads(file).file_meta.get("TransferSyntaxUID")
    return str(syntax or IMPLICIT), file[144 + length :]


def _uid(element: int, uid: str) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return pack("<HHL", 0, element, len(value)) + value


@contextmanager
def listening(
    intake: MemoryIntake, services: tuple[Service, ...] = (), **settings: Any
) -> Iterator[Acceptor]:
    """Listen in mode index, and end with the block."""
    sink = IndexSink(intake, HeaderReader(), "pacs")
    acceptor = Acceptor(StoreScpSettings(**{"port": 0, **settings}), sink, services)
    acceptor.start()
    try:
        yield acceptor
    finally:
        acceptor.stop(timedelta(seconds=2))


def status_of(response: bytes) -> int:
    """Find the status in a response."""
    return int.from_bytes(response.split(pack("<HHL", 0, 0x900, 2))[1][:2], "little")


class RawSender:
    """An association of which every byte is ours."""

    def __init__(
        self,
        port: int,
        contexts: tuple[tuple[str, str], ...] = ((CT, EXPLICIT), (VERIFICATION, IMPLICIT)),
        request: bytes | None = None,
        **stated: Any,
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(request or association_request(contexts, **stated))
        self.kind, self.answer = self.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def read(self) -> tuple[int, bytes]:
        """Read one PDU: its type and what it holds; type 0 at the end of the connection."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        return head[0], self._exactly(int.from_bytes(head[2:6], "big"))

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def status(self) -> int:
        """Read a response and return its status."""
        kind, body = self.read()
        assert kind == 4, f"a PDU of type {kind}"
        return status_of(body)

    def _exactly(self, size: int) -> bytes:
        read = b""
        while len(read) < size:
            try:
                piece = self.socket.recv(size - len(read))
            except ConnectionResetError:
                piece = b""
            if not piece:
                break
            read += piece
        return read


def association_request(
    contexts: tuple[tuple[str, str], ...],
    *,
    calling: str = "RAW",
    called: str = "FLUTE_SYNC",
    application: str = "1.2.840.10008.3.1.1.1",
) -> bytes:
    """Write an A-ASSOCIATE-RQ; presentation contexts are 1, 3, 5 and so on."""
    request = A_ASSOCIATE()
    request.application_context_name = UID(application)
    request.calling_ae_title, request.called_ae_title = calling, called
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = UID("1.2.3.4")
    request.user_information = [length, implementation]
    proposed = []
    for number, (abstract, transfer) in enumerate(contexts):
        context = build_context(abstract, transfer)
        context.context_id = 2 * number + 1
        proposed.append(context)
    request.presentation_context_definition_list = proposed
    encoded = A_ASSOCIATE_RQ()
    encoded.from_primitive(request)
    return encoded.encode()
