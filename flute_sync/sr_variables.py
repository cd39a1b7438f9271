"""PI-RADS score and prostate volume of a study, as its structured reports state them.

By codes alone: of TID 1500 reports and of the prostate templates, TID 4300. A value is taken
only where nothing leaves room for another one; otherwise a refusal says why there is none.

References
----------
PS3.16 TID 1410, 1411, 1419, 1500, 1501 and 4300, CID 6325 and 6328 (2026b); PI-RADS v2.1: the
score of a study is that of its highest lesion.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

from flute_sync.flute_variables import CODES, Kind
from flute_sync.sr_document import Concept, Document, Item, every
from flute_sync.terminology import SNOMED_CT, UCUM, URI

_PROSTATE: Final = Concept("41216001", "SCT")
_FINDING_SITE: Final = Concept("363698007", "SCT")
_FINDING: Final = Concept("121071", "DCM")
_TIME_POINT: Final = frozenset(
    {
        Concept("C2348792", "UMLS"),  # Time Point
        Concept("126070", "DCM"),  # Subject Time Point Identifier
        Concept("126071", "DCM"),  # Protocol Time Point Identifier
        Concept("126072", "DCM"),  # Time Point Type
        Concept("126073", "DCM"),  # Time Point Order
    }
)
_MEASUREMENT_GROUP: Final = Concept("125007", "DCM")
_OVERALL_FINDING: Final = Concept("130554", "DCM")
_LOCALIZED_FINDING: Final = Concept("130555", "DCM")

_OVERALL: Final[Mapping[Concept, int | None]] = {
    Concept("RID50289", "RADLEX"): 1,
    Concept("RID50290", "RADLEX"): 2,
    Concept("RID50291", "RADLEX"): 3,
    Concept("RID50292", "RADLEX"): 4,
    Concept("RID50293", "RADLEX"): 5,
    Concept("RID50322", "RADLEX"): None,  # X: inadequate or absent
}
"""CID 6325: the assessment of the study."""
_LESION: Final[Mapping[Concept, int | None]] = {
    Concept("RID50296", "RADLEX"): 1,
    Concept("RID50297", "RADLEX"): 2,
    Concept("RID50298", "RADLEX"): 3,
    Concept("RID50299", "RADLEX"): 4,
    Concept("RID50300", "RADLEX"): 5,
    Concept("RID50323", "RADLEX"): None,
}
"""CID 6328: the assessment of one lesion."""
_SCORES: Final = frozenset(map(Decimal, range(1, 6)))
_VOLUMES: Final = frozenset(
    {
        Concept("118565006", "SCT"),  # Volume
        Concept("121216", "DCM"),  # estimated from one 2D region, from more, ...
        Concept("121217", "DCM"),
        Concept("121218", "DCM"),
        Concept("121221", "DCM"),  # of an ellipsoid
    }
)
_VOLUME_OF_PROSTATE: Final = Concept("1297142007", "SCT")
_SCORE: Final = Concept("719178004", "SCT")
_CUBIC_CENTIMETRES: Final[Mapping[str, Decimal]] = {
    "cm3": Decimal(1),
    "mL": Decimal(1),
    "ml": Decimal(1),
    "mm3": Decimal("0.001"),
    "dm3": Decimal(1000),
    "L": Decimal(1000),
    "l": Decimal(1000),
}
SMALLEST_VOLUME: Final = Decimal(1)
LARGEST_VOLUME: Final = Decimal(1000)
"""In cm3. What lies outside is no prostate, or is in another unit than is said."""


@dataclass(frozen=True, slots=True)
class Stated:
    """A value that a report states: a score, or a volume in cm3, and where it stands."""

    kind: Kind
    value: Decimal
    sop_instance_uid: str
    path: str
    is_settled: bool

    @property
    def identifier(self) -> str:
        """What names this value for good: report and content item, as an URI."""
        return f"urn:oid:{self.sop_instance_uid}#{self.path}"


@dataclass(frozen=True, slots=True)
class Silence:
    """Why a study has no value of a kind although its reports speak of it."""

    kind: Kind
    reason: str


def stated_by(
    study_instance_uid: str, documents: Iterable[Document]
) -> tuple[Stated | Silence, ...]:
    """Tell the score and the volume of a study, or why there is none.

    A report that another one replaces says nothing any more, nor does one whose evidence is of
    other studies too. Where several reports agree, a settled one counts before the others.

    Returns
    -------
    tuple
        At most one for each kind; none of a kind that no report speaks of.
    """
    every_document = list(documents)
    replaced = {uid for one in every_document for uid in one.predecessors}
    said = [one for one in every_document if one.sop_instance_uid not in replaced]
    found = (
        _one(kind, [_of_document(kind, study_instance_uid, one) for one in said])
        for kind in (Kind.PI_RADS, Kind.VOLUME)
    )
    return tuple(one for one in found if one is not None)


def observation(
    stated: Stated, *, study: str, subject: str, effective: str | None
) -> dict[str, Any]:
    """Write a value as the Observation of its FLUTE profile.

    Parameters
    ----------
    study
        Reference of the ImagingStudy.
    subject
        Reference of its Patient: the report is one of the study, and the study is his.
    effective
        When the study began, as FHIR writes it.
    """
    _, code = CODES[stated.kind]
    written: dict[str, Any] = {
        "resourceType": "Observation",
        "identifier": [{"system": URI, "value": stated.identifier}],
        "status": "final" if stated.is_settled else "preliminary",
        "code": {"coding": [code._asdict()]},
        "subject": {"reference": subject, "type": "Patient"},
        "derivedFrom": [{"reference": study, "type": "ImagingStudy"}],
    }
    if effective is not None:
        written["effectiveDateTime"] = effective
    if stated.kind is Kind.PI_RADS:
        return written | {"valueInteger": int(stated.value)}
    tenths = stated.value.quantize(Decimal("0.1"), ROUND_HALF_UP)
    quantity = {"value": float(tenths), "unit": "cc", "system": UCUM, "code": "cm3"}
    site = {"system": SNOMED_CT, "code": _PROSTATE.value, "display": _SITE_DISPLAY}
    return written | {"valueQuantity": quantity, "bodySite": {"coding": [site]}}


_SITE_DISPLAY: Final = "Prostatic structure (body structure)"


def _one(kind: Kind, said: list[list[Stated] | Silence]) -> Stated | Silence | None:
    """Let several reports say one thing."""
    values = [one for some in said if isinstance(some, list) for one in some]
    if silence := next((one for one in said if isinstance(one, Silence)), None):
        return silence
    if len({one.value for one in values}) > 1:
        return Silence(kind, "reports of the study differ")
    return min(values, key=lambda one: (not one.is_settled, one.identifier), default=None)


def _of_document(kind: Kind, study: str, document: Document) -> list[Stated] | Silence:
    items = list(_scores(document) if kind is Kind.PI_RADS else _volumes(document))
    if not items:
        return []
    if document.study_instance_uid != study or not document.studies <= {study}:
        return Silence(kind, "the report speaks of other studies too")
    values = {value for _, value in items}
    if None in values:
        return Silence(kind, _UNUSABLE[kind])
    if len(values) > 1:
        return Silence(kind, "the report states several values")
    path, value = items[0]
    settled = document.is_settled
    return [Stated(kind, Decimal(value or 0), document.sop_instance_uid, path, settled)]


_UNUSABLE: Final = {
    Kind.PI_RADS: "the report says PI-RADS X, or states no score from 1 to 5",
    Kind.VOLUME: "the report states a volume that none of a prostate can be",
}


def _scores(document: Document) -> Iterator[tuple[str, Decimal | None]]:
    """Yield the assessments of the study; the highest of its lesions where there is none of it."""
    items = [item for item, above in every(document.root) if not _is_of_another_time(above)]
    if found := [(one.path, _score(one, _OVERALL)) for one in items if _is_score(one)]:
        yield from found
        return
    lesions = [(one.path, _score(one, _LESION)) for one in items if one.code in _LESION]
    if any(score is None for _, score in lesions):
        yield from lesions
    elif lesions:
        yield max(lesions, key=lambda one: one[1] or 0)


def _is_score(item: Item) -> bool:
    return item.code in _OVERALL or (item.value_type == "NUM" and item.name == _SCORE)


def _score(item: Item, codes: Mapping[Concept, int | None]) -> Decimal | None:
    if item.code is not None:
        score = codes.get(item.code)
        return None if score is None else Decimal(score)
    return item.number if item.number in _SCORES else None


def _volumes(document: Document) -> Iterator[tuple[str, Decimal | None]]:
    for item, above in every(document.root):
        if (
            item.value_type == "NUM"
            and not _is_of_another_time(above)
            and _of_prostate(item, above)
        ):
            yield item.path, _cubic_centimetres(item)


def _cubic_centimetres(item: Item) -> Decimal | None:
    factor = _CUBIC_CENTIMETRES.get(item.unit or "")
    if item.number is None or factor is None:
        return None
    volume = item.number * factor
    return volume if SMALLEST_VOLUME <= volume <= LARGEST_VOLUME else None


def _of_prostate(item: Item, above: tuple[Item, ...]) -> bool:
    """Tell whether a number is the volume of the whole prostate, and of nothing in it."""
    if item.name == _VOLUME_OF_PROSTATE:
        return True
    if item.name not in _VOLUMES:
        return False
    sites = list(item.modifiers(_FINDING_SITE))
    group = next((one for one in above if one.name == _MEASUREMENT_GROUP), None)
    if group is not None:
        sites += group.modifiers(_FINDING_SITE)
        found = list(group.modifiers(_FINDING))
        if any(one.code != _PROSTATE for one in found):
            return False
        sites += found
    if any(one.name == _LOCALIZED_FINDING for one in above):
        return False
    if not sites:
        return any(one.name == _OVERALL_FINDING for one in above)
    # A part of it, such as its left half, is named by what modifies the site.
    return all(one.code == _PROSTATE and not one.children for one in sites)


def _is_of_another_time(above: tuple[Item, ...]) -> bool:
    """Tell whether a group says that it is of a time point, which may be an earlier one."""
    return any(child.name in _TIME_POINT for one in above for child in one.children)
