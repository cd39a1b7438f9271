"""A-ASSOCIATE-RQ as senders write it, put so that pynetdicom reads it.

pynetdicom aborts where it meets an item that it does not know, which PS3.8 has it skip, and where
a title is padded with NUL, as some modalities do.

References
----------
PS3.8 9.3.1 ("Unrecognized items shall be ignored and skipped") and 9.3.2, PS3.7 D.3.3 (2026b).
"""

from struct import pack, unpack_from
from typing import Final

from flute_sync.sources.store_session import printable_ae_title

ASSOCIATE_RQ: Final = 0x01
_ITEMS: Final = frozenset({0x10, 0x20, 0x50})
_USER_INFORMATION: Final = 0x50
_SUB_ITEMS: Final = frozenset(range(0x51, 0x59))
_FIXED_BYTES: Final = 74
_TITLES: Final = (slice(10, 26), slice(26, 42))
_HEAD_BYTES: Final = 4


def readable(request: bytes) -> bytes:
    """Return a whole A-ASSOCIATE-RQ without what is not known, and with titles that are titles.

    What is cut off or of wrong lengths stays as it is.
    """
    if len(request) < _FIXED_BYTES:
        return request
    fixed = bytearray(request[:_FIXED_BYTES])
    for place in _TITLES:
        fixed[place] = _title(bytes(fixed[place]))
    items = _known(request[_FIXED_BYTES:], _ITEMS)
    return b"".join((fixed[:2], pack(">L", len(fixed) + len(items) - 6), fixed[6:], items))


def _title(encoded: bytes) -> bytes:
    text = encoded.split(b"\0")[0].decode("latin-1")
    return printable_ae_title(text).encode().ljust(len(encoded))


def _known(data: bytes, kinds: frozenset[int]) -> bytes:
    kept = []
    pos = 0
    while pos < len(data):
        if len(data) - pos < _HEAD_BYTES:
            return data
        kind, length = unpack_from(">BxH", data, pos)
        body = data[pos + _HEAD_BYTES : pos + _HEAD_BYTES + length]
        if len(body) < length:
            return data
        pos += _HEAD_BYTES + length
        if kind in kinds:
            if kind == _USER_INFORMATION:
                body = _known(body, _SUB_ITEMS)
            kept.append(pack(">BxH", kind, len(body)) + body)
    return b"".join(kept)
