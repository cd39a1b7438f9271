"""The versions that a server keeps of a resource, and having them removed for good.

References
----------
FHIR R4 http.html#history; HAPI FHIR's operation ``$expunge``, which the standard does not have.
"""

from dataclasses import dataclass
from typing import Final

from flute_sync.bundle import Resource
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.queries import past
from flute_sync.fhir_errors import (
    FhirCapabilityMissing,
    FhirConflict,
    FhirGone,
    FhirRejected,
    FhirServerError,
    FhirUnauthorized,
)

_MOST_PAGES: Final = 1000
_MOST_ROUNDS: Final = 50
_AT_ONCE: Final = 1000
_NOT_OFFERED: Final = (FhirCapabilityMissing, FhirConflict, FhirRejected, FhirUnauthorized)


@dataclass(frozen=True, slots=True)
class Past:
    """How many versions a server tells of, and the oldest that is no deletion."""

    versions: int
    oldest: Resource | None


def past_of(client: FhirClient, reference: str) -> Past | None:
    """Return what a server tells of a resource's past; None where it knows of none.

    Parameters
    ----------
    reference
        ``Type/id``.

    Raises
    ------
    FhirCapabilityMissing
        It tells no history.
    """
    kind = reference.partition("/")[0]
    # HAPI remembers for a minute how many versions there are, unless it is asked since when.
    url: str | None = f"{reference}/_history?_count=100&_since=1970-01-01T00:00:00Z"
    versions, oldest, seen = 0, None, set[str]()
    while url is not None:
        if url in seen or len(seen) > _MOST_PAGES:
            raise FhirServerError("the pages of a history do not end")
        seen.add(url)
        try:
            answer = client.wire.send("history", "GET", url, accept=frozenset({404}))
        except (FhirGone, FhirRejected) as error:
            raise FhirCapabilityMissing(error.detail) from error
        if answer.status == 404:
            return None if versions == 0 else Past(versions, oldest)
        page = past(answer.body, kind, client.base_url)
        versions += len(page.matches)
        oldest = next((one for one in reversed(page.matches) if len(one) > 3), oldest)
        url = page.next_url
    return Past(versions, oldest) if versions else None


def expunge(client: FhirClient, reference: str) -> bool:
    """Have all versions of a deleted resource removed; tell whether the server did it.

    Parameters
    ----------
    reference
        ``Type/id``.
    """
    asked = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "limit", "valueInteger": _AT_ONCE},
            {"name": "expungeDeletedResources", "valueBoolean": True},
            {"name": "expungePreviousVersions", "valueBoolean": True},
        ],
    }
    before: int | None = None
    for _ in range(_MOST_ROUNDS):
        left = past_of(client, reference)
        if left is None:
            return client.read(*reference.split("/")) is None
        if left.versions == before:
            return False  # it said yes, and did nothing
        before = left.versions
        try:
            client.wire.send("operation", "POST", f"{reference}/$expunge", resource=asked)
        except _NOT_OFFERED:
            return False
    return False
