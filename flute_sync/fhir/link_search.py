"""The search of studies by their links: whether a server knows it, and has indexed what was there.

A search parameter that is new finds what is written from now on. What was there before is found
once the server has indexed it anew: HAPI has the operation ``$reindex`` for that.

References
----------
FHIR R4 search.html#handling, searchparameter.html; HAPI FHIR 8, "Search Parameter Reindexing"
"""

import time
from typing import Final

from flute_sync.errors import FluteSyncError, TransientError
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.uniqueness import Pause
from flute_sync.fhir_errors import FhirRejected
from flute_sync.own_resources import search_of_links

_NOBODY: Final = "Observation/flute-sync-asks-for-nothing"
_PAUSE_SECONDS: Final = 1.0
REINDEX: Final = "reindex"


def is_usable(client: FhirClient) -> bool:
    """Tell whether the server knows the search; one that ignores it finds studies of nobody.

    Raises
    ------
    FluteSyncError
        The server fails or refuses us.
    """
    asked = [*search_of_links(_NOBODY), ("_count", "1")]
    try:
        return next(client.pages("ImagingStudy", asked), []) == []
    except FhirRejected:
        return False


def becomes_usable(client: FhirClient, *, looks: int, pause: Pause = time.sleep) -> bool:
    """Look again once a second, until the server knows the search: HAPI needs some seconds.

    Raises
    ------
    FluteSyncError
        As `is_usable`.
    """
    for look in range(looks):
        if look:
            pause(_PAUSE_SECONDS)
        if is_usable(client):
            return True
    return False


def reindex(client: FhirClient) -> FluteSyncError | None:
    """Ask the server to index the studies that are there; return why it does not, or None.

    Raises
    ------
    TransientError
        The server is down.
    """
    about = {
        "resourceType": "Parameters",
        "parameter": [{"name": "url", "valueString": "ImagingStudy?"}],
    }
    try:
        client.operate(REINDEX, about)
    except TransientError:
        raise
    except FluteSyncError as error:
        return error
    return None
