"""Nothing leaves unvalidated: an ImagingStudy against R4's model and our own stricter rules.

The model (fhir.resources) costs some 0.1 ms an element, and instances of a series are alike, as
series often are. It therefore sees one series of each kind with one instance; two are of a kind
when they differ only in elements checked here. Every series and instance passes the checks written
here, which also know what the model lets pass: UIDs, status and modality codes, repeated UIDs.

References
----------
FHIR R4 imagingstudy.html, datatypes.html#string, datatypes.html#id; PS3.5 9.1 (2026b).
"""

import re
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import orjson
from fhir.resources.R4B.imagingstudy import ImagingStudy
from pydantic import ValidationError

from flute_sync.fhir_errors import MappingError
from flute_sync.mapping import FhirJson
from flute_sync.terminology import DCM, OID, URI
from flute_sync.valuerep import LARGEST_INTEGER

_LINE_END_TO_STOP: Final = bytes.maketrans(b"\n", b".")
_LONGEST_UID: Final = 64
_CODE: Final = re.compile(r"[^\s]+( [^\s]+)*")
_STATUS: Final = frozenset({"registered", "available", "cancelled", "entered-in-error", "unknown"})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DATE_TIME: Final = re.compile(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9]"
    r"(T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]+)?([+-][01][0-9]:[0-5][0-9]))?"
)
_CHECKED_HERE: Final = frozenset(
    {"uid", "number", "numberOfInstances", "started", "description", "instance"}
)
_INSTANCE_KEYS: Final = frozenset({"uid", "sopClass", "number", "title", "extension"})


def check(resource: FhirJson) -> None:
    """Refuse an ImagingStudy that is not one.

    Raises
    ------
    MappingError
        Naming the first element at fault, never its value.
    """
    series = resource.get("series", [])
    if resource.get("status") not in _STATUS:
        raise MappingError("ImagingStudy.status is not one of its list")
    _check_series(series)
    _check_instances(series)
    sample = _sample(resource)
    _check_element(sample, "ImagingStudy")
    if any(modality.get("system") != DCM for modality in resource.get("modality", ())):
        raise MappingError("ImagingStudy.modality is not of DICOM's list")
    try:
        ImagingStudy.model_validate(sample)
    except ValidationError as error:
        path = _path(error.errors(include_input=False, include_url=False)[0]["loc"])
        raise MappingError(f"{path} is not valid R4") from None  # its text would quote the value


def _sample(resource: FhirJson) -> FhirJson:
    """Take one series of each kind, with the one instance that says most."""
    kinds: dict[bytes, FhirJson] = {}
    for one in resource.get("series", ()):
        instance: FhirJson = max(one.get("instance", ()), key=len, default={})
        alike = {name: None if name in _CHECKED_HERE else value for name, value in one.items()}
        kind = orjson.dumps([alike, list(instance)])
        if kind not in kinds:
            kinds[kind] = {**one, "instance": [instance]} if instance else one
    return {**resource, "series": list(kinds.values())} if kinds else resource


def _check_series(series: list[FhirJson]) -> None:
    where = "ImagingStudy.series"
    _check_uids([one.get("uid") for one in series], f"{where}.uid")
    _check_numbers([one.get("number", 0) for one in series], f"{where}.number")
    counts = [one["numberOfInstances"] for one in series if "numberOfInstances" in one]
    _check_numbers(counts, f"{where}.numberOfInstances")
    for one in series:
        if "started" in one and _DATE_TIME.fullmatch(one["started"]) is None:
            raise MappingError(f"{where}.started is not a dateTime")
        if "description" in one:
            _check_text(one["description"], f"{where}.description")


def _check_instances(series: list[FhirJson]) -> None:
    where = "ImagingStudy.series.instance"
    instances = [instance for one in series for instance in one.get("instance", ())]
    if not set(chain.from_iterable(instances)) <= _INSTANCE_KEYS:
        raise MappingError(f"{where} has an element that is not ours")
    _check_uids(_of_each(instances, "uid", where), f"{where}.uid")
    sop_classes = _of_each(instances, "sopClass", where)
    for one in dict(zip(map(id, sop_classes), sop_classes, strict=True)).values():
        system, code = one.get("system"), one.get("code")
        if system != URI or not str(code).startswith(OID):
            raise MappingError(f"{where}.sopClass is not a SOP Class UID as URI")
        _check_uids([str(code).removeprefix(OID)], f"{where}.sopClass.code")
    numbers = [instance["number"] for instance in instances if "number" in instance]
    _check_numbers(numbers, f"{where}.number")
    for title in {instance["title"] for instance in instances if "title" in instance}:
        _check_text(title, f"{where}.title")


def _of_each(elements: list[FhirJson], name: str, where: str) -> list[Any]:
    try:
        return list(map(itemgetter(name), elements))
    except KeyError:
        raise MappingError(f"{where}.{name} is missing") from None


def _check_numbers(numbers: list[Any], where: str) -> None:
    ints = not numbers or set(map(type, numbers)) == {int}
    if not ints or not 0 <= min(numbers, default=0) <= max(numbers, default=0) <= LARGEST_INTEGER:
        raise MappingError(f"{where} is not an unsignedInt")


def _check_uids(uids: list[Any], where: str) -> None:
    """Check all at once, at the speed of C: each UID is a line of digits and full stops."""
    if not uids:
        return
    try:
        lines = "\n".join(["", *uids, ""]).encode(errors="replace")
    except TypeError:
        raise MappingError(f"{where} is missing") from None
    components = lines.translate(_LINE_END_TO_STOP)
    whole = lines.count(b"\n") == len(uids) + 1 and b".." not in components
    if not whole or components.translate(None, b"0123456789."):
        raise MappingError(f"{where} is not a UID")
    if max(map(len, uids)) > _LONGEST_UID:
        raise MappingError(f"{where} is longer than a UID")
    if len(set(uids)) != len(uids):
        raise MappingError(f"{where} comes twice")


def _check_element(element: Any, where: str) -> None:
    """Check what holds for every element: FHIR strings, nothing empty, codes with a system."""
    if isinstance(element, str):
        _check_text(element, where)
    elif isinstance(element, dict) and element:
        if "code" in element:
            _check_code(element, where)
        for key, value in element.items():
            _check_element(value, f"{where}.{key}")
    elif isinstance(element, list) and element:
        for index, value in enumerate(element):
            _check_element(value, f"{where}[{index}]")
    elif element is None or isinstance(element, dict | list):
        raise MappingError(f"{where} is empty")


def _check_text(text: str, where: str) -> None:
    if not text or text != text.strip():
        raise MappingError(f"{where} is empty or padded")
    if _CONTROL.search(text):
        raise MappingError(f"{where} has control characters")


def _check_code(coding: FhirJson, where: str) -> None:
    if not isinstance(coding["code"], str) or _CODE.fullmatch(coding["code"]) is None:
        raise MappingError(f"{where}.code is not a code")
    if "system" not in coding:
        raise MappingError(f"{where} has a code without a system")


def _path(location: tuple[int | str, ...]) -> str:
    path = "ImagingStudy"
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path
