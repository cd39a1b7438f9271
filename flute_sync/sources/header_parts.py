"""Codes, persons, identifiers with their issuers, references: what attributes are made of.

References
----------
PS3.3 8.8, 10.1, 10.14, 10.15 and C.17.6.2.1 (2026b).
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Final, TypeVar

from flute_sync.dicom_errors import HeaderError
from flute_sync.sources import header_tags as tags
from flute_sync.sources.header_elements import (
    CODE_INCOMPLETE,
    SEVERAL_VALUES,
    VALUE_UNUSABLE,
    WRONG_TYPE,
    Elements,
)
from flute_sync.study import Accession, Code, Issuer, PatientId, Person, Plane, Reference
from flute_sync.valuerep import Unusable, clean_text, parse_decimal

_T = TypeVar("_T", bound=Hashable)

_FARTHEST_COSINE: Final = 0.75
"""Of the angle between an image's normal and an axis of the body, some 41 degrees."""


def unique(found: Iterable[_T | None]) -> tuple[_T, ...]:
    """Drop absent values and repetitions; the order stays."""
    return tuple(dict.fromkeys(value for value in found if value is not None))


def scheme_uids(of: Elements) -> dict[str, str]:
    """Read which UID each coding scheme designator stands for, (0008,0110)."""
    found = {}
    for item in of.items.get(tags.CODING_SCHEME_IDENTIFICATION_SEQUENCE, ()):
        scheme, uid = item.text(tags.CODING_SCHEME_DESIGNATOR), _code_uid(item)
        if scheme and uid:
            found[scheme] = uid
    return found


def codes(items: Iterable[Elements], schemes: Mapping[str, str]) -> tuple[Code, ...]:
    """Read the codes of a code sequence."""
    return unique(_code(item, schemes) for item in items)


def _code(item: Elements, schemes: Mapping[str, str]) -> Code | None:
    scheme = item.text(tags.CODING_SCHEME_DESIGNATOR) or ""
    value = item.text(tags.CODE_VALUE) or item.text(tags.LONG_CODE_VALUE)
    urn = item.text(tags.URN_CODE_VALUE)
    if not (value and scheme) and not urn:
        item.remark(tags.CODE_VALUE, CODE_INCOMPLETE)
        return None
    return Code(
        value=(value if value and scheme else None) or urn or "",
        scheme=scheme,
        meaning=item.description(tags.CODE_MEANING),
        scheme_uid=_code_uid(item) or schemes.get(scheme),
    )


def _code_uid(item: Elements) -> str | None:
    uid = item.text(tags.CODING_SCHEME_UID)
    return uid.rstrip("\0 ") if uid else None


def person_name(text: str | None) -> str | None:
    """Return a PN without the delimiters that end it and say nothing."""
    if text is None:
        return None
    groups = [(clean_text(group) or "").rstrip("^") for group in text.split("=")]
    return "=".join(groups).rstrip("=") or None


def persons(
    of: Elements, names: int, identification: int, schemes: Mapping[str, str]
) -> tuple[Person, ...]:
    """Read persons from their names and the items that identify them.

    The two belong together by order, and only where there are as many of one as of the other.
    """
    named = [person_name(name) for name in of.texts(names)]
    coded = [
        next(
            iter(codes(item.items.get(tags.PERSON_IDENTIFICATION_CODE_SEQUENCE, ()), schemes)), None
        )
        for item in of.items.get(identification, ())
    ]
    if len(named) == len(coded):
        pairs = list(zip(named, coded, strict=True))
    else:
        pairs = [(name, None) for name in named] + [(None, code) for code in coded]
    return unique(Person(name, code) if name or code else None for name, code in pairs)


def patient_id(of: Elements) -> PatientId | None:
    """Read a Patient ID with its issuer; None, with a remark, if either cannot be relied on."""
    try:
        value = of.identifier(tags.PATIENT_ID)
        namespace = of.identifier(tags.ISSUER_OF_PATIENT_ID)
        issuer = _issuer(of, tags.ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE, namespace)
    except Unusable:
        return None
    return PatientId(value, issuer) if value else None


def accessions(of: Iterable[Elements]) -> tuple[Accession, ...]:
    """Read the accession numbers of a study and of the requests behind it.

    A number that is stated with and without an issuer is one, with the issuer.
    """
    found = unique(
        Accession(*stated)
        for elements in of
        if (stated := _issued(elements, tags.ACCESSION_NUMBER, _ACCESSION_ISSUER))
    )
    issued = {accession.value for accession in found if accession.issuer}
    return tuple(a for a in found if a.issuer or a.value not in issued)


def admission(of: Elements) -> tuple[str, Issuer | None] | None:
    """Read the Admission ID and who gave it out."""
    return _issued(of, tags.ADMISSION_ID, tags.ISSUER_OF_ADMISSION_ID_SEQUENCE)


_ACCESSION_ISSUER = tags.ISSUER_OF_ACCESSION_NUMBER_SEQUENCE


def _issued(of: Elements, tag: int, issuer: int) -> tuple[str, Issuer | None] | None:
    try:
        value = of.identifier(tag)
        return (value, _issuer(of, issuer, None)) if value else None
    except Unusable:
        return None


def _issuer(of: Elements, sequence: int, namespace: str | None) -> Issuer | None:
    items = of.items.get(sequence, ())
    if len(items) > 1 or sequence in of.spoilt:
        of.remark(sequence, SEVERAL_VALUES if items else WRONG_TYPE)
        raise Unusable("not one issuer")
    universal_id = universal_id_type = None
    for item in items:
        namespace = namespace or item.identifier(tags.LOCAL_NAMESPACE_ENTITY_ID)
        universal_id = item.identifier(tags.UNIVERSAL_ENTITY_ID)
        universal_id_type = item.identifier(tags.UNIVERSAL_ENTITY_ID_TYPE)
    if not namespace and not universal_id:
        return None
    return Issuer(namespace, universal_id, universal_id_type)


def references(of: Elements) -> Iterator[Reference]:
    """Yield the instances that a Key Object Selection points at; broken ones are remarked upon."""
    for study in of.items.get(tags.CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, ()):
        for series in study.items.get(tags.REFERENCED_SERIES_SEQUENCE, ()):
            for sop in series.items.get(tags.REFERENCED_SOP_SEQUENCE, ()):
                try:
                    yield Reference(
                        study.uid(tags.STUDY_INSTANCE_UID),
                        series.uid(tags.SERIES_INSTANCE_UID),
                        sop.uid(tags.REFERENCED_SOP_INSTANCE_UID),
                    )
                except HeaderError:
                    sop.remark(tags.REFERENCED_SOP_INSTANCE_UID, VALUE_UNUSABLE)


def diffusion_b_values(of: Elements) -> tuple[float, ...]:
    """Read the different b-values, in ascending order; a negative one is none."""
    found = numbers(of, tags.DIFFUSION_B_VALUE)
    return tuple(sorted({value for value in found if value >= 0}))


def plane(of: Elements) -> Plane | None:
    """Tell the plane of an image from the direction cosines of its rows and columns.

    References
    ----------
    PS3.3 C.7.6.2.1.1 (2026b).
    """
    cosines = numbers(of, tags.IMAGE_ORIENTATION_PATIENT)
    if len(cosines) != 6:
        return None
    (a, b, c), (d, e, f) = cosines[:3], cosines[3:]
    normal = (abs(b * f - c * e), abs(c * d - a * f), abs(a * e - b * d))
    nearest = max(range(3), key=normal.__getitem__)
    if normal[nearest] <= _FARTHEST_COSINE:
        return None
    return (Plane.SAGITTAL, Plane.CORONAL, Plane.AXIAL)[nearest]


def numbers(of: Elements, tag: int) -> tuple[float, ...]:
    """Read all numbers of an element; none where one of them is no number."""
    try:
        found = tuple(map(parse_decimal, of.texts(tag)))
    except Unusable:
        of.remark(tag, VALUE_UNUSABLE)
        return ()
    return tuple(number for number in found if number is not None)
