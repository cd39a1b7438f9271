"""The data sets of N-CREATE, N-SET and N-ACTION: read by the rules of headers, with bounds.

What is wrong with an attribute is said with the status that PS3.7 gives it, never with its value.

References
----------
PS3.7 C.4.2 and C.5 (2026b), PS3.5 7 (2026b).
"""

from collections.abc import Iterable
from typing import Final

from flute_sync.dicom_errors import HeaderError
from flute_sync.dimse_errors import (
    AttributeEmpty,
    AttributeInvalid,
    AttributeMissing,
    DataSetUnreadable,
)
from flute_sync.sources.dimse_tags import VR
from flute_sync.sources.header_decode import Decoder
from flute_sync.sources.header_elements import Elements
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.header_tags import SPECIFIC_CHARACTER_SET, tag_text
from flute_sync.sources.header_walk import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Walker,
    sniff,
)

TRANSFER_SYNTAXES: Final = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
)
"""What these messages may be written in, the best first; a deflated one could be a bomb."""

_ENCODINGS: Final = dict(
    zip(TRANSFER_SYNTAXES, (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG), strict=True)
)
_BOUNDS: Final = {"max_header_bytes": 4 << 20, "max_elements": 100_000, "max_depth": 16}


def read_elements(
    data: bytes,
    transfer_syntax_uid: str,
    wanted: frozenset[int],
    wanted_in_items: frozenset[int],
    settings: HeaderSettings,
) -> Elements:
    """Read the wanted elements of a data set.

    Parameters
    ----------
    settings
        Of which the habits count; the bounds are narrower here.

    Raises
    ------
    DataSetUnreadable
        When it is none, or too large.
    """
    bounded = settings.model_copy(update=_BOUNDS)
    encoding = sniff(_ENCODINGS.get(transfer_syntax_uid, EXPLICIT_LITTLE), data[:6], 0)
    walker = Walker(encoding, wanted | {SPECIFIC_CHARACTER_SET}, bounded)
    in_items = wanted_in_items | {SPECIFIC_CHARACTER_SET}
    try:
        walker.finish(data, walker.walk(data))
        return Decoder(encoding, bounded, VR, in_items).decode(walker.elements)
    except HeaderError as error:
        raise DataSetUnreadable(error.tag or "") from error


def uid(of: Elements, tag: int) -> str:
    """Return a UID that must be there.

    Raises
    ------
    AttributeMissing, AttributeEmpty, AttributeInvalid
        When it is not, or is none.
    """
    try:
        found = of.optional_uid(tag)
    except HeaderError:
        raise AttributeInvalid(tag_text(tag)) from None
    if found is None:
        raise _absent(of, tag)
    return found


def chosen(of: Elements, tag: int, values: Iterable[str]) -> str:
    """Return a value that must be one of those defined; raises as `uid`."""
    found = texts(of, tag)
    if len(found) > 1 or found[0] not in values:
        raise AttributeInvalid(tag_text(tag))
    return found[0]


def texts(of: Elements, tag: int) -> tuple[str, ...]:
    """Return the values of an element that must have one; raises as `uid`."""
    found = tuple(filter(None, of.texts(tag)))
    if not found:
        raise _absent(of, tag)
    return found


def items(of: Elements, tag: int) -> tuple[Elements, ...]:
    """Return the items of a sequence that must have one; raises as `uid`."""
    if tag in of.spoilt:
        raise AttributeInvalid(tag_text(tag))
    found = of.items.get(tag)
    if found is None:
        raise AttributeMissing(tag_text(tag))
    if not found:
        raise AttributeEmpty(tag_text(tag))
    return found


def _absent(of: Elements, tag: int) -> AttributeEmpty | AttributeMissing | AttributeInvalid:
    if tag in of.spoilt:
        return AttributeInvalid(tag_text(tag))
    return (AttributeEmpty if tag in of.empty else AttributeMissing)(tag_text(tag))
