"""What a read found: the resource that was asked for, or why there is none.

References
----------
FHIR R4 http.html#read
"""

from flute_sync.bundle import Resource, Result
from flute_sync.fhir.outcome import failure
from flute_sync.fhir_errors import FhirGone, FhirServerError


def checked(body: Resource | None, resource_type: str, resource_id: str) -> Resource:
    """Return a resource after making sure that it is the one asked for.

    Raises
    ------
    FhirServerError
        It is another one.
    """
    if body is None or body.get("resourceType") != resource_type or body.get("id") != resource_id:
        raise FhirServerError(f"a read of {resource_type} was answered with something else")
    return body


def read_result(result: Result, resource_type: str, resource_id: str) -> Resource | None:
    """Return what a read within a batch found; None when the server never had it.

    Raises
    ------
    FhirGone
        It was deleted.
    """
    if result.status == 404:
        return None
    if result.status == 410:
        raise FhirGone()
    if result.status != 200:
        raise failure(result.status, {}, result.resource, "read")
    return checked(result.resource, resource_type, resource_id)
