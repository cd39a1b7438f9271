"""DICOM JSON (PS3.18 F) to and from the Native DICOM Model in XML (PS3.19 A.1, 2026b)."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from xml.etree import ElementTree

from flute_sync.archive_errors import ArchiveServerError

Json = dict[str, Any]

_NAMESPACE: Final = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_INTEGERS: Final = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
_DECIMALS: Final = frozenset({"DS", "FD", "FL"})
KEYWORDS: Final[Mapping[str, str]] = {
    "00080005": "SpecificCharacterSet",
    "00081150": "ReferencedSOPClassUID",
    "00081155": "ReferencedSOPInstanceUID",
    "00081190": "RetrieveURL",
    "00081196": "WarningReason",
    "00081197": "FailureReason",
    "00081198": "FailedSOPSequence",
    "00081199": "ReferencedSOPSequence",
    "0008119A": "OtherFailuresSequence",
    "04000550": "ModifiedAttributesSequence",
    "04000561": "OriginalAttributesSequence",
    "04000562": "AttributeModificationDateTime",
    "04000563": "ModifyingSystem",
    "04000564": "SourceOfPreviousValues",
    "04000565": "ReasonForTheAttributeModification",
}
"""Of the Store Instances Response Module (PS3.18 I, 2026b), all that is written here."""

_NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_NAME_PARTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_NOT_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_xml(dataset: Mapping[str, Any]) -> bytes:
    """Write a data set; what XML cannot hold (control characters) is left out."""
    root = ElementTree.Element("NativeDicomModel", {"xmlns": _NAMESPACE, "xml:space": "preserve"})
    _write(root, dataset)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _write(parent: ElementTree.Element, dataset: Mapping[str, Any]) -> None:
    for tag, element in sorted(dataset.items()):
        attributes = {"tag": tag, "vr": str(element.get("vr", "UN"))}
        if tag in KEYWORDS:
            attributes["keyword"] = KEYWORDS[tag]
        attribute = ElementTree.SubElement(parent, "DicomAttribute", attributes)
        if "InlineBinary" in element:
            ElementTree.SubElement(attribute, "InlineBinary").text = _text(element["InlineBinary"])
        elif "BulkDataURI" in element:
            ElementTree.SubElement(attribute, "BulkData", {"uri": _text(element["BulkDataURI"])})
        for number, value in enumerate(element.get("Value", ()), 1):
            _write_value(attribute, attributes["vr"], str(number), value)


def _write_value(parent: ElementTree.Element, vr: str, number: str, value: Any) -> None:
    if value is None:
        return
    place = {"number": number}
    if vr == "SQ":
        _write(ElementTree.SubElement(parent, "Item", place), value)
    elif vr == "PN":
        name = ElementTree.SubElement(parent, "PersonName", place)
        for group in _NAME_GROUPS:
            if group in value:
                parts = ElementTree.SubElement(name, group)
                for part, text in zip(_NAME_PARTS, str(value[group]).split("^"), strict=False):
                    if text:
                        ElementTree.SubElement(parts, part).text = _text(text)
    else:
        ElementTree.SubElement(parent, "Value", place).text = _text(value)


def _text(value: object) -> str:
    return _NOT_XML.sub("", str(value))


def from_xml(document: bytes) -> Json:
    """Read a data set.

    Raises
    ------
    ArchiveServerError
        When it is not the Native DICOM Model, or declares a document type.
    """
    if b"<!DOCTYPE" in document:
        raise ArchiveServerError("its XML declares a document type")
    try:
        root = ElementTree.fromstring(document)  # noqa: S314 - entities need a document type
        if _name(root) != "NativeDicomModel":
            raise ArchiveServerError("its XML is not the Native DICOM Model")
        return _read(root)
    except (ElementTree.ParseError, ValueError, KeyError, RecursionError):
        raise ArchiveServerError("its XML is not the Native DICOM Model") from None


def _read(parent: ElementTree.Element) -> Json:
    return {
        attribute.attrib["tag"].upper(): _read_attribute(attribute)
        for attribute in _children(parent, "DicomAttribute")
    }


def _read_attribute(attribute: ElementTree.Element) -> Json:
    vr = attribute.attrib["vr"]
    element: Json = {"vr": vr}
    values: list[Any] = [_read(item) for item in _children(attribute, "Item")]
    values += [_read_value(vr, value.text or "") for value in _children(attribute, "Value")]
    values += [_read_name(name) for name in _children(attribute, "PersonName")]
    if values:
        element["Value"] = values
    for inline in _children(attribute, "InlineBinary"):
        element["InlineBinary"] = inline.text or ""
    for bulk in _children(attribute, "BulkData"):
        element["BulkDataURI"] = bulk.attrib["uri"]
    return element


def _read_value(vr: str, text: str) -> Any:
    if vr in _INTEGERS:
        return int(text)
    return float(text) if vr in _DECIMALS else text


def _read_name(name: ElementTree.Element) -> dict[str, str]:
    groups = {}
    for group in name:
        parts = {_name(part): part.text or "" for part in group}
        groups[_name(group)] = "^".join(parts.get(part, "") for part in _NAME_PARTS).rstrip("^")
    return groups


def _children(parent: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in parent if _name(child) == name)


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
