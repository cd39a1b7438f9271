"""Structured reports as they stand in WADO-RS metadata: who answers for them, and their content.

A report is a tree of content items, each with a coded name and a value. Codes are compared as
SNOMED CT, LOINC and so on mean them: retired SNOMED designators are converted for the few codes
that are asked for.

References
----------
PS3.3 C.17.2 and C.17.3, PS3.18 F (2026b); HL7 DICOM SR to FHIR Resource Mapping 1.0.0, Document
IE: the Preliminary Flag says whether an Observation is preliminary or final.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

from flute_sync.valuerep import ILLEGAL, uid_problem

Json = Mapping[str, Any]

REPORTS: Final = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced SR
        "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
        "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
        "1.2.840.10008.5.1.4.1.1.88.35",  # Extensible SR
    }
)
MOST_ITEMS: Final = 20_000
MOST_LEVELS: Final = 32

_SNOMED_RT: Final = frozenset({"SRT", "SNM3", "99SDM"})
_FROM_SNOMED_RT: Final = {
    "G-C0E3": "363698007",  # Finding Site
    "G-C171": "272741003",  # Laterality
    "G-D705": "118565006",  # Volume
    "T-92000": "41216001",  # Prostate
}


class Unreadable(ValueError):
    """A report whose structure cannot be followed; the text is never part of the message."""


class Concept(NamedTuple):
    """A code and the designator of its scheme."""

    value: str
    scheme: str


@dataclass(frozen=True, slots=True)
class Item:
    """One content item.

    ``path`` numbers the item as the children of the tree are numbered, from 1, joined by full
    stops; the root's is ``"1"`` (PS3.3 C.17.3.2.5). ``unit`` is the code of a UCUM unit.
    """

    path: str
    value_type: str = ""
    relationship: str = ""
    name: Concept | None = None
    code: Concept | None = None
    number: Decimal | None = None
    unit: str | None = None
    children: tuple["Item", ...] = ()

    def modifiers(self, name: Concept) -> Iterator["Item"]:
        """Yield the children of that name."""
        return (child for child in self.children if child.name == name)


@dataclass(frozen=True, slots=True)
class Document:
    """A report.

    ``studies`` are those whose instances are its evidence, ``predecessors`` the reports that it
    replaces, by SOP Instance UID. ``is_settled``: it is complete, and not marked as preliminary.
    Whether somebody verified it is another question: reports of measurements seldom are.
    """

    sop_instance_uid: str
    study_instance_uid: str
    root: Item
    is_settled: bool = False
    studies: frozenset[str] = frozenset()
    predecessors: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Budget:
    items: int = field(default=MOST_ITEMS)


def document_of(metadata: Json) -> Document:
    """Read a report from the metadata of its instance.

    Raises
    ------
    Unreadable
        When a UID is absent or no UID, or the tree is larger or deeper than any report is.
    """
    return Document(
        sop_instance_uid=_uid(metadata, "00080018"),
        study_instance_uid=_uid(metadata, "0020000D"),
        root=_item(metadata, "1", MOST_LEVELS, _Budget()),
        is_settled=_text(metadata, "0040A491") == "COMPLETE"
        and _text(metadata, "0040A496") != "PRELIMINARY",
        studies=frozenset(
            _uid(study, "0020000D")
            for tag in ("0040A375", "0040A385")  # Current Requested, and Pertinent Other Evidence
            for study in _sequence(metadata, tag)
        ),
        predecessors=frozenset(
            _uid(instance, "00081155")
            for study in _sequence(metadata, "0040A360")
            for series in _sequence(study, "00081115")
            for instance in _sequence(series, "00081199")
        ),
    )


def every(item: Item) -> Iterator[tuple[Item, tuple[Item, ...]]]:
    """Yield each item of a tree with those above it, the nearest first."""
    pending: list[tuple[Item, tuple[Item, ...]]] = [(item, ())]
    while pending:
        here, above = pending.pop()
        yield here, above
        pending.extend((child, (here, *above)) for child in reversed(here.children))


def _item(element: Json, path: str, levels: int, budget: _Budget) -> Item:
    budget.items -= 1
    if levels == 0 or budget.items < 0:
        raise Unreadable("larger than any report is")
    measured = next(_sequence(element, "0040A300"), {})
    return Item(
        path=path,
        value_type=_text(element, "0040A040"),
        relationship=_text(element, "0040A010"),
        name=_concept(element, "0040A043"),
        code=_concept(element, "0040A168"),
        number=_number(measured),
        unit=_unit(measured),
        children=tuple(
            _item(child, f"{path}.{number}", levels - 1, budget)
            for number, child in enumerate(_sequence(element, "0040A730"), 1)
        ),
    )


def _concept(element: Json, tag: str) -> Concept | None:
    coded = next(_sequence(element, tag), None)
    if coded is None:
        return None
    value = _text(coded, "00080100") or _text(coded, "00080119") or _text(coded, "00080120")
    scheme = _text(coded, "00080102")
    if scheme in _SNOMED_RT and value in _FROM_SNOMED_RT:
        return Concept(_FROM_SNOMED_RT[value], "SCT")
    return Concept(value, scheme) if value else None


def _unit(measured: Json) -> str | None:
    unit = _concept(measured, "004008EA")
    return unit.value if unit is not None and unit.scheme == "UCUM" else None


def _number(measured: Json) -> Decimal | None:
    values = _values(measured, "0040A30A")
    if len(values) != 1 or isinstance(values[0], bool):
        return None
    try:
        number = Decimal(str(values[0]).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _uid(element: Json, tag: str) -> str:
    uid = _text(element, tag)
    if uid_problem(uid) == ILLEGAL:
        raise Unreadable("a UID is absent or is none")
    return uid


def _text(element: Json, tag: str) -> str:
    values = _values(element, tag)
    return values[0].strip(" \0") if values and isinstance(values[0], str) else ""


def _sequence(element: Json, tag: str) -> Iterator[Json]:
    return (item for item in _values(element, tag) if isinstance(item, Mapping))


def _values(element: Json, tag: str) -> list[Any]:
    attribute = element.get(tag)
    values = attribute.get("Value") if isinstance(attribute, Mapping) else None
    return values if isinstance(values, list) else []
