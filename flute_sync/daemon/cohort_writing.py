"""Writes the result for a cohort to the FHIR server: once, however often it is said."""

from typing import Literal

from flute_sync.bundle import version_of
from flute_sync.cohort_resources import Resource, says_the_same
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.queries import criteria, identifier_search
from flute_sync.fhir_errors import FhirConflict, FhirResultAmbiguous

Outcome = Literal["created", "updated", "unchanged"]
_ATTEMPTS = 3
_MAY_BE_ABSENT = ("member", "subject", "period")


def write(client: FhirClient, resource: Resource) -> tuple[str, Outcome]:
    """Create a resource, or update the one with its identifier where it says something else.

    Returns its reference, and what was done.

    Raises
    ------
    FhirResultAmbiguous
        There are several.
    FhirConflict
        Somebody else writes it all the time.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return _write(client, resource)
        except FhirConflict:
            continue
    return _write(client, resource)


def _write(client: FhirClient, resource: Resource) -> tuple[str, Outcome]:
    kind, (key,) = resource["resourceType"], resource["identifier"]
    search = identifier_search([(key["system"], key["value"])])
    known = [one for one in client.search(kind, search) if key in one.get("identifier", [])]
    if not known:
        done = client.create(resource, if_none_exist=criteria(search))
        if done.status == 201:
            return f"{kind}/{done.id}", "created"
        raise FhirConflict("it was created in this moment")
    if len(known) > 1:
        raise FhirResultAmbiguous(kind)
    (one,) = known
    name = f"{kind}/{one['id']}"
    if says_the_same(one, resource):
        return name, "unchanged"
    kept = {element: one[element] for element in one if element not in _MAY_BE_ABSENT}
    client.update({**kept, **resource}, if_match=version_of(one))
    return name, "updated"
