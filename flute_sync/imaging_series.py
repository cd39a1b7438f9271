"""Series and its instances -> ``ImagingStudy.series``.

References
----------
PS3.3 C.7.3.1 "General Series Module" (2026b); FHIR R4 imagingstudy-mappings.html#dicom.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, TypeGuard

from flute_sync.body_part import body_part
from flute_sync.coding import coding, identifier
from flute_sync.mapping import Context, FhirJson, ImagingStudySettings, Remarks
from flute_sync.started import Started
from flute_sync.study import (
    Header,
    Instance,
    Person,
    Series,
    SOPInstanceUID,
    distinct,
    prevalent,
    union,
)
from flute_sync.terminology import (
    DATA_ABSENT_REASON,
    DCM,
    EU_INSTANCE_DESCRIPTION,
    EU_NUMBER_OF_FRAMES,
    LATERALITY,
    MODALITY,
    OID,
    PARTICIPATION_TYPE,
    SNOMED_CT,
    URI,
    modality_of_sop_class,
)
from flute_sync.valuerep import LARGEST_INTEGER, clean_text, fhir_datetime, human_names

_CODE_STRING: Final = re.compile(r"[A-Z0-9_]+( [A-Z0-9_]+)*", re.ASCII)
_LONGEST_CODE_STRING: Final = 16
_NUMBER: Final = itemgetter(1)
_NUMBER_AND_UID: Final = itemgetter(1, 0)


@dataclass(frozen=True, slots=True)
class SeriesScope:
    """What all series of one mapping share.

    ``endpoints`` gives the references of a series' own archives, none where those of the study
    serve. ``seen`` collects SOP Instance UIDs: one that comes again is listed where it was first.
    """

    settings: ImagingStudySettings
    context: Context
    remarks: Remarks
    started: Started
    endpoints: Callable[[Series], Sequence[str]]
    seen: set[SOPInstanceUID]


def in_order(series: Iterable[Series]) -> list[Series]:
    """Sort series by number and UID, those without a number last."""

    def key(one: Series) -> tuple[bool, int, str]:
        number = _number(one)
        return number is None, number or 0, one.series_instance_uid

    return sorted(series, key=key)


def _number(series: Series) -> int | None:
    number = prevalent(series.headers, lambda header: header.series.number)
    return number if _is_number(number) else None


def series_element(series: Series, scope: SeriesScope) -> FhirJson | None:
    """Write one series, or None where each of its instances was listed in one before it."""
    count, entries = _listed(series, scope)
    if not (entries or count or series.is_stated_only):
        return None
    headers, settings = series.headers, scope.settings
    moment = scope.started.of_series(headers)
    description = prevalent(headers, lambda header: header.series.description)
    elements: FhirJson = {
        "uid": series.series_instance_uid,
        "number": _number(series),
        "modality": _modality(series, scope.remarks),
        "description": clean_text(description or "") if settings.free_text else None,
        "numberOfInstances": count,
        "endpoint": [{"reference": reference} for reference in scope.endpoints(series)],
        "bodySite": _body_site(series, scope),
        "laterality": _laterality(series, scope.remarks),
        "started": fhir_datetime(moment, scope.context.zone) if moment else None,
        "performer": _performers(series) if settings.performer else [],
        "instance": entries,
    }
    return {name: value for name, value in elements.items() if value not in (None, [])}


# -- instances -------------------------------------------------------------------------------


def _listed(series: Series, scope: SeriesScope) -> tuple[int | None, list[FhirJson]]:
    """Return how many instances there are, None where nobody says it, and their entries."""
    if series.is_stated_only:
        scope.remarks.add("series-without-instances", "(0020,1209)")
        return series.instance_count, []
    count, entries = _instances(series, scope) if series.instances else (0, [])
    return max(count, series.instance_count or 0) if count else 0, entries


def _instances(series: Series, scope: SeriesScope) -> tuple[int, list[FhirJson]]:
    numbers = set(map(_NUMBER, series.instances))
    numbered = None not in numbers and all(map(_is_number, (min(numbers), max(numbers))))
    listed = sorted(series.instances, key=_NUMBER_AND_UID if numbered else _number_and_uid)
    uids = {uid for uid, _, _ in listed}
    if len(uids) < len(listed) or not scope.seen.isdisjoint(uids):
        listed = _first_time(listed, scope)
    scope.seen.update(uids)
    if scope.settings.instances == "none":
        return len(listed), []
    entries: list[FhirJson] = []
    templates: dict[int, tuple[FhirJson, FhirJson]] = {}
    for uid, number, header in listed:
        with_number, without = templates.get(id(header)) or templates.setdefault(
            id(header), _templates(header, scope.settings)
        )
        if numbered or _is_number(number):
            entry = with_number.copy()
            entry["number"] = number
        else:
            entry = without.copy()
        entry["uid"] = uid
        entries.append(entry)
    return len(listed), entries


def _is_number(number: int | None) -> TypeGuard[int]:
    """Tell whether FHIR's unsignedInt can hold it."""
    return number is not None and 0 <= number <= LARGEST_INTEGER


def _number_and_uid(instance: Instance) -> tuple[bool, int, str]:
    uid, number, _ = instance
    return (False, number, uid) if _is_number(number) else (True, 0, uid)


def _first_time(instances: Sequence[Instance], scope: SeriesScope) -> list[Instance]:
    seen = set(scope.seen)
    first = []
    for instance in instances:
        if instance.sop_instance_uid not in seen:
            seen.add(instance.sop_instance_uid)
            first.append(instance)
    scope.remarks.add("sop-instance-uid-repeated", "(0008,0018)", len(instances) - len(first))
    return first


def _templates(header: Header, settings: ImagingStudySettings) -> tuple[FhirJson, FhirJson]:
    """Write what all instances with this header say, with and without a number.

    What lies within is shared by all of them: a resource is read, merged and written, not edited.
    """
    title = _title(header, settings)
    shared: FhirJson = {"sopClass": {"system": URI, "code": OID + header.sop_class_uid}}
    if title is not None:
        shared["title"] = title
    if settings.eu_strict and (extension := _eu_extensions(title, header.number_of_frames)):
        shared["extension"] = extension
    return {"uid": "", "number": 0, **shared}, {"uid": "", **shared}


def _title(header: Header, settings: ImagingStudySettings) -> str | None:
    image_type = clean_text("\\".join(header.series.image_type))
    if header.title and settings.free_text:
        return clean_text(header.title) or image_type
    return image_type


def _eu_extensions(title: str | None, frames: int | None) -> list[FhirJson]:
    extensions: list[FhirJson] = []
    if title is not None:
        extensions.append({"url": EU_INSTANCE_DESCRIPTION, "valueString": title})
    if frames is not None:
        extensions.append({"url": EU_NUMBER_OF_FRAMES, "valueInteger": frames})
    return extensions


# -- coded elements --------------------------------------------------------------------------


def _modality(series: Series, remarks: Remarks) -> FhirJson:
    stated = distinct(series.headers, lambda header: _code_string(header.series.modality))
    if len(stated) > 1:
        remarks.add("modality-conflict", "(0008,0060)")
    code = prevalent(series.headers, lambda header: _code_string(header.series.modality))
    if code is None:
        code = prevalent(series.headers, lambda h: modality_of_sop_class(h.sop_class_uid))
        remarks.add("modality-missing" if code is None else "modality-derived", "(0008,0060)")
    if code is None:
        return {"extension": [{"url": DATA_ABSENT_REASON, "valueCode": "unknown"}]}
    if code not in MODALITY:
        remarks.add("modality-undefined", "(0008,0060)")
        return {"system": DCM, "code": code}
    return {"system": DCM, "code": code, "display": MODALITY[code]}


def _code_string(text: str | None) -> str | None:
    """Return what can be a modality; one in small letters is taken where it is defined."""
    text = (text or "").strip()
    if text.upper() in MODALITY:
        return text.upper()
    legal = len(text) <= _LONGEST_CODE_STRING and _CODE_STRING.fullmatch(text)
    return text if legal else None


def _body_site(series: Series, scope: SeriesScope) -> FhirJson | None:
    headers, remarks = series.headers, scope.remarks
    regions = union(headers, lambda header: header.series.anatomic_regions)
    if len({(region.scheme, region.value) for region in regions}) > 1:
        remarks.add("body-site-conflict", "(0008,2218)")
    region = prevalent(headers, lambda header: next(iter(header.series.anatomic_regions), None))
    coded = coding(region, scope.settings.coding_schemes) if region else None
    if coded is not None:
        return coded
    if len(distinct(headers, lambda header: header.series.body_part)) > 1:
        remarks.add("body-site-conflict", "(0018,0015)")
    text = clean_text(prevalent(headers, lambda header: header.series.body_part) or "")
    if text and (concept := body_part(text)):
        return {"system": SNOMED_CT, "code": concept.code, "display": concept.meaning}
    label = text or clean_text((region.meaning if region else None) or "")
    if label is None or not scope.settings.free_text:
        return None
    remarks.add("body-site-uncoded", "(0018,0015)")
    return {"display": label}


def _laterality(series: Series, remarks: Remarks) -> FhirJson | None:
    """Return the series' side, else the one that all its instances state."""
    stated = prevalent(series.headers, lambda header: header.series.laterality)
    if stated is None:
        sides = distinct(series.headers, lambda header: header.series.image_laterality)
        if len(sides) > 1:
            remarks.add("laterality-conflict", "(0020,0062)")
        whole = all(header.series.image_laterality for header in series.headers)
        stated = next(iter(sides)) if len(sides) == 1 and whole else None
    if stated is None or stated not in LATERALITY:
        return None
    code, display = LATERALITY[stated]
    return {"system": SNOMED_CT, "code": code, "display": display}


# -- people and devices ----------------------------------------------------------------------


def _performers(series: Series) -> list[FhirJson]:
    performing = union(series.headers, lambda header: header.series.performing)
    operators = union(series.headers, lambda header: header.series.operators)
    performers = [
        {"function": _function(function), "actor": actor}
        for function, people in (("PRF", performing), ("SPRF", operators - performing))
        for actor in practitioners(people)
    ]
    if device := _device(series):
        performers.append({"function": _function("DEV"), "actor": device})
    return performers


def _function(code: str) -> FhirJson:
    return {"coding": [{"system": PARTICIPATION_TYPE, "code": code}]}


def practitioners(people: Iterable[Person]) -> list[FhirJson]:
    """Write people as logical references to Practitioners, in an order of their own."""
    references = []
    for person in sorted(people, key=repr):
        reference: FhirJson = {"type": "Practitioner"}
        if person.code and (coded := coding(person.code, {})):
            reference["identifier"] = identifier(coded["code"], coded["system"])
        if name := _spoken(person.name):
            reference["display"] = name
        if len(reference) > 1:
            references.append(reference)
    return references


def _spoken(person_name: str | None) -> str | None:
    names = human_names(person_name or "")
    if not names:
        return None
    words: list[str] = []
    for part in ("prefix", "given", "family", "suffix"):
        value = names[0].get(part, [])
        words += [value] if isinstance(value, str) else [str(word) for word in value]  # type: ignore[attr-defined]
    return clean_text(" ".join(words))


def _device(series: Series) -> FhirJson | None:
    headers = series.headers
    maker = prevalent(headers, lambda header: header.series.manufacturer)
    model = prevalent(headers, lambda header: header.series.model_name)
    serial = clean_text(prevalent(headers, lambda header: header.series.device_serial) or "")
    reference: FhirJson = {"type": "Device"}
    if serial:
        reference["identifier"] = identifier(serial, None, "SNO")
    if display := clean_text(f"{maker or ''} {model or ''}"):
        reference["display"] = display
    return reference if len(reference) > 1 else None
