"""Two Endpoints per archive, written once: where a reader finds the images and how to search them.

References
----------
FHIR R4 endpoint.html; PS3.18 10.4 and 10.6 (2026b)
"""

import contextlib
import logging
import time
from threading import Lock
from typing import Any, Final

from flute_sync.bundle import Resource, oldest_first, version_of
from flute_sync.events import Event, fields
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.queries import criteria, identifier_search
from flute_sync.fhir.uniqueness import Pause, others_than_ours
from flute_sync.fhir_errors import FhirConflict, FhirServerError
from flute_sync.ownership import bears
from flute_sync.terminology import DCM, ENDPOINT_CONNECTION_TYPE

log = logging.getLogger(__name__)

ENDPOINT: Final = "Endpoint"
_TYPES: Final = (("dicom-wado-rs", "DICOM WADO-RS"), ("dicom-qido-rs", "DICOM QIDO-RS"))
_MOST_TRIES: Final = 5


def endpoint(system: str, archive: str, address: str, code: str, text: str) -> Resource:
    """Return the Endpoint of one service of an archive.

    Parameters
    ----------
    system
        The site's own identifier system.
    address
        DICOMweb service base, without ``/studies``.
    code, text
        Connection type, and what people call it.
    """
    return {
        "resourceType": ENDPOINT,
        "identifier": [{"system": system, "value": f"{archive}-{code}"}],
        "status": "active",
        "connectionType": {"system": ENDPOINT_CONNECTION_TYPE, "code": code},
        "name": f"{archive} {text}",
        "payloadType": [
            {
                "coding": [{"system": DCM, "code": "113014", "display": "Study"}],
                "text": text,
            }
        ],
        "payloadMimeType": ["application/dicom"],
        "address": address.rstrip("/"),
    }


class Endpoints:
    """Keeps the Endpoints of archives true, and remembers their references.

    Parameters
    ----------
    system
        The site's own identifier system, under which the Endpoints are ours.
    """

    def __init__(self, client: FhirClient, system: str, *, pause: Pause = time.sleep) -> None:
        self._client = client
        self._system = system
        self._pause = pause
        self._lock = Lock()
        self._references: dict[tuple[str, str], tuple[str, ...]] = {}

    def forget(self) -> None:
        """Look at the server again next time: it was down, restored or replaced."""
        with self._lock:
            self._references.clear()

    def references(self, archive: str, address: str) -> tuple[str, ...]:
        """Return the references of an archive's Endpoints, WADO-RS first; write what is absent.

        An Endpoint with another identifier is not ours, whatever its address: it is left alone.

        Raises
        ------
        FluteSyncError
            As `FhirClient` does.
        """
        with self._lock:
            known = self._references.get((archive, address))
            if known is None:
                known = self._ensure(archive, address)
                self._references[archive, address] = known
            return known

    def _ensure(self, archive: str, address: str) -> tuple[str, ...]:
        wanted = [endpoint(self._system, archive, address, *kind) for kind in _TYPES]
        there = self._client.search(ENDPOINT, identifier_search(_key(one) for one in wanted))
        return tuple(f"{ENDPOINT}/{self._one(one, there)['id']}" for one in wanted)

    def _one(self, wanted: Resource, there: list[Resource]) -> Resource:
        for _ in range(_MOST_TRIES):
            current = _oldest(there, _key(wanted))
            if current is not None and not _outdated(current, wanted):
                return current
            with contextlib.suppress(FhirConflict):  # another daemon of the site is at it too
                if current is None:
                    self._create(wanted)
                else:
                    self._follow(current, wanted)
            there = self._look(_key(wanted))
        raise FhirConflict("an Endpoint is changed by others all the time")

    def _look(self, key: tuple[str, str]) -> list[Resource]:
        found = self._client.search(ENDPOINT, identifier_search([key]))
        return [one for one in found if bears(one, *key)]

    def _create(self, wanted: Resource) -> None:
        key = _key(wanted)
        result = self._client.create(wanted, if_none_exist=criteria(identifier_search([key])))
        if result.status == 201:
            others = others_than_ours(
                self._client, result, ENDPOINT, lambda: self._look(key), self._pause
            )
            if not others:
                _say("an Endpoint was created", str(result.id))

    def _follow(self, current: Resource, wanted: Resource) -> None:
        version = version_of(current)
        if version is None:
            raise FhirServerError("an Endpoint has no meta.versionId")
        changed = {**current, **{name: wanted[name] for name in _OURS}}
        self._client.update(changed, if_match=version)
        _say("an Endpoint follows a changed address", str(current["id"]))


_OURS: Final = ("status", "address")


def codes() -> tuple[str, ...]:
    """Return the connection types of an archive's Endpoints."""
    return tuple(code for code, _ in _TYPES)


def switch_off(client: FhirClient, endpoint: Resource) -> None:
    """Say that an Endpoint serves no more; it stays, since others may refer to it.

    Raises
    ------
    FhirConflict
        Somebody else writes to it at this moment.
    """
    version = version_of(endpoint)
    if version is None:
        raise FhirServerError("an Endpoint has no meta.versionId")
    client.update({**endpoint, "status": "off"}, if_match=version)
    _say("an Endpoint was switched off", str(endpoint["id"]))


def _outdated(current: Resource, wanted: Resource) -> bool:
    return any(current.get(name) != wanted[name] for name in _OURS)


def _key(resource: Resource) -> tuple[str, str]:
    identifier: dict[str, Any] = resource["identifier"][0]
    return identifier["system"], identifier["value"]


def _oldest(found: list[Resource], key: tuple[str, str]) -> Resource | None:
    return next(iter(oldest_first(one for one in found if bears(one, *key))), None)


def _say(sentence: str, resource_id: str) -> None:
    about = fields(Event.FHIR_ENDPOINT_WRITTEN, reference=f"{ENDPOINT}/{resource_id}")
    log.info(sentence, extra=about)
