"""Identifiers of C-FIND: the keys that are asked for, and answers as rows of the JSON model.

No sequences are asked for, and only attributes of the level: some archives refuse others.

References
----------
PS3.4 C.6.2.1 (Study Root keys) and C.4.1.1.3, PS3.5 7.1 (2026b).
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from struct import Struct
from typing import Any, Final

from flute_sync.dicom_errors import HeaderError
from flute_sync.sources import header_tags as tags
from flute_sync.sources.header_decode import Decoder
from flute_sync.sources.header_elements import Elements
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.header_walk import EXPLICIT_LITTLE, IMPLICIT_LITTLE, Walker, sniff
from flute_sync.sources.peer import Json

IMPLICIT_SYNTAX: Final = "1.2.840.10008.1.2"
EXPLICIT_SYNTAX: Final = "1.2.840.10008.1.2.1"

QUERY_RETRIEVE_LEVEL: Final = 0x0008_0052
MODALITIES_IN_STUDY: Final = 0x0008_0061
SERIES_COUNT: Final = 0x0020_1206
INSTANCE_COUNT: Final = 0x0020_1208
INSTANCES_OF_SERIES: Final = 0x0020_1209
_VRS: Final[Mapping[int, str]] = {
    **tags.VR,
    QUERY_RETRIEVE_LEVEL: "CS",
    MODALITIES_IN_STUDY: "CS",
    SERIES_COUNT: "IS",
    INSTANCE_COUNT: "IS",
    INSTANCES_OF_SERIES: "IS",
}


class Level(StrEnum):
    """Query/Retrieve Level (0008,0052)."""

    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


REQUIRED: Final[Mapping[Level, frozenset[int]]] = {
    Level.STUDY: frozenset({
        tags.STUDY_DATE, tags.STUDY_TIME, tags.ACCESSION_NUMBER, tags.PATIENT_NAME,
        tags.PATIENT_ID, tags.STUDY_ID, tags.STUDY_INSTANCE_UID,
    }),
    Level.SERIES: frozenset({
        tags.STUDY_INSTANCE_UID, tags.MODALITY, tags.SERIES_NUMBER, tags.SERIES_INSTANCE_UID,
    }),
    Level.IMAGE: frozenset({
        tags.STUDY_INSTANCE_UID, tags.SERIES_INSTANCE_UID, tags.INSTANCE_NUMBER,
        tags.SOP_INSTANCE_UID, tags.SOP_CLASS_UID,
    }),
}  # fmt: skip
"""Unique and required keys, and the SOP class, without which an instance cannot be told of."""

ASKED: Final[Mapping[Level, frozenset[int]]] = {
    Level.STUDY: REQUIRED[Level.STUDY] | {
        MODALITIES_IN_STUDY, SERIES_COUNT, INSTANCE_COUNT, tags.STUDY_DESCRIPTION,
        tags.REFERRING_PHYSICIAN_NAME, tags.ISSUER_OF_PATIENT_ID, tags.PATIENT_BIRTH_DATE,
        tags.TIMEZONE_OFFSET_FROM_UTC,
        tags.PATIENT_SEX,
    },
    Level.SERIES: REQUIRED[Level.SERIES] | {
        INSTANCES_OF_SERIES, tags.SERIES_DATE, tags.SERIES_TIME, tags.SERIES_DESCRIPTION,
        tags.BODY_PART_EXAMINED, tags.LATERALITY, tags.PROTOCOL_NAME, tags.MANUFACTURER,
        tags.MANUFACTURER_MODEL_NAME, tags.STATION_NAME, tags.INSTITUTIONAL_DEPARTMENT_NAME,
        tags.PERFORMING_PHYSICIAN_NAME, tags.OPERATORS_NAME,
    },
    Level.IMAGE: REQUIRED[Level.IMAGE] | {
        tags.NUMBER_OF_FRAMES, tags.IMAGE_TYPE, tags.SCANNING_SEQUENCE, tags.SEQUENCE_NAME,
        tags.REPETITION_TIME, tags.ECHO_TIME, tags.IMAGE_LATERALITY, tags.CONTRAST_BOLUS_AGENT,
        tags.NUMBER_OF_TEMPORAL_POSITIONS,
    },
}  # fmt: skip
"""All keys that are asked for at each level."""

_WANTED: Final = (tags.WANTED & _VRS.keys() - {t for t, vr in _VRS.items() if vr == "SQ"}) | {
    MODALITIES_IN_STUDY,
    SERIES_COUNT,
    INSTANCE_COUNT,
    INSTANCES_OF_SERIES,
}
_EXPLICIT: Final = Struct("<HH2sH")
_IMPLICIT: Final = Struct("<HHL")
_LONGEST_KEY_BYTES: Final = 1024
_UTF_8: Final = "ISO_IR 192"
_NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")


def identifier(
    level: Level, keys: frozenset[int], match: Mapping[int, str], *, implicit: bool
) -> bytes:
    """Write the identifier of a request.

    Parameters
    ----------
    keys
        What shall be returned.
    match
        What is compared, by tag.
    """
    values = {**dict.fromkeys(keys, ""), **match, QUERY_RETRIEVE_LEVEL: level.value}
    if not all(value.isascii() for value in match.values()):
        values[tags.SPECIFIC_CHARACTER_SET] = _UTF_8
    return b"".join(_element(tag, values[tag], implicit=implicit) for tag in sorted(values))


def row_of(data: bytes, *, implicit: bool, settings: HeaderSettings) -> Json:
    """Read an answer; what cannot be read of it is absent.

    Parameters
    ----------
    settings
        Tells the character set where the answer does not.

    Returns
    -------
    Json
        As a row of a QIDO-RS answer (PS3.18 F).
    """
    encoding = sniff(IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE, data[:6], 0)
    walker = Walker(encoding, _WANTED, settings)
    try:
        walker.walk(data)
        elements = Decoder(encoding, settings, _VRS).decode(walker.elements)
    except HeaderError:
        return {}
    return dict(_json(elements))


def _json(elements: Elements) -> Iterator[tuple[str, dict[str, Any]]]:
    for tag, texts in elements.values.items():
        vr = _VRS[tag]
        values = [_value(vr, text.strip("\0")) for text in texts]
        yield f"{tag:08X}", {"vr": vr, "Value": values} if any(values) else {"vr": vr}
    for tag in elements.spoilt:
        # What is stated and cannot be read is not the same as nothing.
        yield f"{tag:08X}", {"vr": _VRS[tag], "InlineBinary": "AA=="}


def _value(vr: str, text: str) -> object:
    if not text:
        return None
    if vr != "PN":
        return text
    groups = zip(_NAME_GROUPS, text.split("="), strict=False)
    return {name: group for name, group in groups if group}


def _element(tag: int, text: str, *, implicit: bool) -> bytes:
    vr = _VRS[tag]
    value = text.encode()[:_LONGEST_KEY_BYTES]
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    group, element = tag >> 16, tag & 0xFFFF
    if implicit:
        return _IMPLICIT.pack(group, element, len(value)) + value
    return _EXPLICIT.pack(group, element, vr.encode(), len(value)) + value
