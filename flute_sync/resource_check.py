"""Nothing leaves unvalidated: an ImagingStudy against R4's model and our own stricter rules.

The model (fhir.resources) costs some 0.1 ms an instance, and instances of a series are alike. It
therefore sees one of each series, while every instance passes the checks written here, which also
know what the model lets pass: UIDs, status and modality codes, repeated SOP Instance UIDs.

References
----------
FHIR R4 imagingstudy.html, datatypes.html#string, datatypes.html#id; PS3.5 9.1 (2026b).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fhir.resources.R4B.imagingstudy import ImagingStudy
from pydantic import ValidationError

from flute_sync.errors import MappingError
from flute_sync.mapping import FhirJson
from flute_sync.terminology import DCM, OID, URI
from flute_sync.valuerep import LARGEST_INTEGER

_UIDS: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]+)*\n)*", re.ASCII)
_LONGEST_UID: Final = 64
_CODE: Final = re.compile(r"[^\s]+( [^\s]+)*")
_STATUS: Final = frozenset({"registered", "available", "cancelled", "entered-in-error", "unknown"})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
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
    _check_uids([one.get("uid") for one in series], "ImagingStudy.series.uid")
    _check_instances(series)
    sample = _sample(resource)
    _check_texts(sample, "ImagingStudy")
    _check_codings(sample, "ImagingStudy")
    try:
        ImagingStudy.model_validate(sample)
    except ValidationError as error:
        path = _path(error.errors(include_input=False, include_url=False)[0]["loc"])
        raise MappingError(f"{path} is not valid R4") from None  # its text would quote the value


def _sample(resource: FhirJson) -> FhirJson:
    """Take the resource with one instance of each series: the one that says most."""
    if "series" not in resource:
        return resource
    series = [
        {**one, "instance": [max(one["instance"], key=len)]} if one.get("instance") else one
        for one in resource["series"]
    ]
    return {**resource, "series": series}


def _check_instances(series: list[FhirJson]) -> None:
    where = "ImagingStudy.series.instance"
    instances = [instance for one in series for instance in one.get("instance", ())]
    if not {key for instance in instances for key in instance} <= _INSTANCE_KEYS:
        raise MappingError(f"{where} has an element that is not ours")
    _check_uids([instance.get("uid") for instance in instances], f"{where}.uid")
    sop_classes = {tuple(instance["sopClass"].items()) for instance in instances}
    for sop_class in map(dict, sop_classes):
        if sop_class.keys() != {"system", "code"} or sop_class["system"] != URI:
            raise MappingError(f"{where}.sopClass is not a SOP Class UID as URI")
        _check_uids([sop_class["code"].removeprefix(OID)], f"{where}.sopClass.code")
    numbers = {instance.get("number", 0) for instance in instances}
    if not all(type(n) is int and 0 <= n <= LARGEST_INTEGER for n in numbers):
        raise MappingError(f"{where}.number is not an unsignedInt")
    for title in {instance["title"] for instance in instances if "title" in instance}:
        _check_text(title, f"{where}.title")


def _check_uids(uids: list[str], where: str) -> None:
    if not all(isinstance(uid, str) for uid in uids):
        raise MappingError(f"{where} is missing")
    if _UIDS.fullmatch("".join(uid + "\n" for uid in uids)) is None:
        raise MappingError(f"{where} is not a UID")
    if uids and max(map(len, uids)) > _LONGEST_UID:
        raise MappingError(f"{where} is longer than a UID")
    if len(set(uids)) != len(uids):
        raise MappingError(f"{where} comes twice")


def _walk(element: Any, where: str) -> Iterator[tuple[str, Any]]:
    yield where, element
    if isinstance(element, Mapping):
        for key, value in element.items():
            yield from _walk(value, f"{where}.{key}")
    elif isinstance(element, list | tuple):
        for index, value in enumerate(element):
            yield from _walk(value, f"{where}[{index}]")


def _check_texts(resource: FhirJson, root: str) -> None:
    for where, value in _walk(resource, root):
        if isinstance(value, str):
            _check_text(value, where)
        elif isinstance(value, dict | list) and not value:
            raise MappingError(f"{where} is empty")
        elif value is None:
            raise MappingError(f"{where} is null")


def _check_text(text: str, where: str) -> None:
    if not text or text != text.strip():
        raise MappingError(f"{where} is empty or padded")
    if _CONTROL.search(text):
        raise MappingError(f"{where} has control characters")


def _check_codings(resource: FhirJson, root: str) -> None:
    for where, value in _walk(resource, root):
        if not isinstance(value, Mapping) or "code" not in value:
            continue
        if not isinstance(value["code"], str) or _CODE.fullmatch(value["code"]) is None:
            raise MappingError(f"{where}.code is not a code")
        if "system" not in value:
            raise MappingError(f"{where} has a code without a system")
    for modality in resource.get("modality", ()):
        if modality.get("system") != DCM:
            raise MappingError(f"{root}.modality is not of DICOM's list")


def _path(location: tuple[int | str, ...]) -> str:
    path = "ImagingStudy"
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path
