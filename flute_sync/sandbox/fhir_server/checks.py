"""Is a resource one of FHIR R4 in its structure? Profiles are not checked."""

from functools import cache
from typing import Any, Final

from fhir.resources.R4B import get_fhir_model_class
from pydantic import BaseModel, ValidationError

from flute_sync.sandbox.fhir_server.outcome import FhirError
from flute_sync.sandbox.fhir_server.parameters import Resource, split_reference

_OTHER_IN_R4B: Final = frozenset({"Evidence", "EvidenceVariable"})
_SHOWN: Final = 5


def check_type(resource_type: str) -> None:
    """Refuse a type that the server does not know.

    Raises
    ------
    FhirError
        404.
    """
    if resource_type not in _OTHER_IN_R4B and _model(resource_type) is None:
        raise FhirError(404, "not-supported", "unknown resource type")


def check_resource(resource: Any, resource_type: str) -> Resource:
    """Return a body that is a resource of this type, with its structure as R4B defines it.

    EvidenceVariable and Evidence, which differ between R4 and R4B, are taken as they are.

    Raises
    ------
    FhirError
        400 when it is not a resource of the type, 422 when its structure is wrong.
    """
    if not isinstance(resource, dict) or resource.get("resourceType") != resource_type:
        raise FhirError(400, "structure", f"the body is not a resource of type {resource_type}")
    check_type(resource_type)
    model = None if resource_type in _OTHER_IN_R4B else _model(resource_type)
    if model is not None:
        try:
            model.model_validate(resource)
        except ValidationError as error:
            raise FhirError(422, "structure", _places(error)) from error
        _check_closed_sets(model, resource)
    return resource


def _check_closed_sets(model: type[BaseModel], resource: Resource) -> None:
    """Refuse a root element with a code, or a reference to a type, that R4 does not allow."""
    for name, field in model.model_fields.items():
        known, element = field.json_schema_extra, resource.get(field.alias or name)
        if not isinstance(known, dict) or element is None:
            continue
        codes, types = known.get("enum_values"), known.get("enum_reference_types")
        # The models cut a long list short, and end it with "+".
        known_codes = codes if isinstance(codes, list) and "+" not in codes else None
        if known_codes is not None and isinstance(element, str) and element not in known_codes:
            raise FhirError(422, "code-invalid", f"{field.alias or name}: not one of its codes")
        for one in element if isinstance(element, list) else [element]:
            kind = _referenced_type(one)
            if isinstance(types, list) and kind and not {kind, "Resource"} & set(types):
                raise FhirError(422, "structure", f"{field.alias or name}: not one of its types")


def _referenced_type(element: Any) -> str:
    reference = element.get("reference", "") if isinstance(element, dict) else ""
    return split_reference(reference)[0]


def _places(error: ValidationError) -> str:
    """Name the elements that are wrong, never their values."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    places = (".".join(map(str, one["loc"])) or "the resource" for one in found[:_SHOWN])
    return "wrong structure at " + ", ".join(places)


@cache
def _model(resource_type: str) -> type[BaseModel] | None:
    try:
        found: type[BaseModel] = get_fhir_model_class(resource_type)
    except ValueError:
        return None
    return found if "id" in found.model_fields and "meta" in found.model_fields else None
