"""Create a resource once, although conditional creates are not race-safe on every server.

After a create the server is asked again. Where another resource of the same thing has appeared,
the younger of the two is deleted by its maker, at once: marked as an error it would make every
later conditional create ambiguous for ever.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from flute_sync.bundle import Resource, Result, oldest_first, version_of
from flute_sync.events import Event, fields
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir_errors import FhirServerError

log = logging.getLogger(__name__)

Look = Callable[[], list[Resource]]
Pause = Callable[[float], None]
_LOOKS: Final = 5
_PAUSE_SECONDS: Final = 0.2


def others_than_ours(
    client: FhirClient, created: Result, resource_type: str, look: Look, pause: Pause = time.sleep
) -> list[Resource]:
    """Look again after a create; return what stands instead of ours, nothing where ours stays.

    The oldest stays, and its maker gives the others' makers a moment to remove theirs. One that
    is not removed has no maker who looks: then ours goes, as the last that still can.

    Parameters
    ----------
    created
        What our create was answered with.
    look
        Searches all resources of the same thing.

    Raises
    ------
    FhirServerError
        The create was answered without saying where the resource is.
    """
    ours = created.id
    if ours is None:
        raise FhirServerError(f"a create of {resource_type} was answered without a location")
    for attempt in range(_LOOKS):
        if attempt:
            pause(_PAUSE_SECONDS)
        found = look()
        others = [other for other in found if other["id"] != ours]
        if not others:
            return []
        if oldest_first(found)[0]["id"] != ours:
            break
    if _remove(client, resource_type, ours, created.version or "1"):
        return oldest_first(others)
    return []


def _remove(client: FhirClient, resource_type: str, resource_id: str, version: str) -> bool:
    """Delete our duplicate, unless somebody has written to it meanwhile."""
    current = client.read(resource_type, resource_id)
    if current is None:
        return True
    if version_of(current) != version:
        return False
    client.delete(resource_type, resource_id, if_match=version)
    log.warning(
        "a duplicate that we had just created was deleted",
        extra=fields(
            Event.FHIR_DUPLICATE_REMOVED,
            resource_type=resource_type,
            reference=f"{resource_type}/{resource_id}",
        ),
    )
    return True
