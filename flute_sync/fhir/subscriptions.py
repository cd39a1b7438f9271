"""Subscriptions of ours on the FHIR server: made, renewed and ended.

They are known by their endpoint, which is an address of this service. Nothing depends on them: a
server that keeps none, or loses them, is looked at all the same.

References
----------
FHIR R4 subscription.html
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flute_sync.bundle import Resource, version_of
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.clinical_watch import criteria

_TYPE: Final = "Subscription"
_LIVE: Final = frozenset({"requested", "active"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What Subscriptions there shall be.

    Parameters
    ----------
    endpoint
        Where the server reaches us.
    header
        The HTTP header that it shows.
    lifetime
        For how long they are asked for.
    """

    endpoint: str
    header: str
    lifetime: timedelta


class Subscriptions:
    """Keeps one Subscription for each type of clinical data that has something to tell."""

    def __init__(self, client: FhirClient) -> None:
        self._client = client

    @property
    def offered(self) -> bool:
        """Whether the server knows Subscriptions; it is asked before that is known."""
        return self._client.types is None or _TYPE in self._client.types

    def keep(self, wanted: Wanted, now: datetime) -> int:
        """Make what is missing, renew what ends soon or failed, delete what is not needed.

        Returns how many were written.
        """
        there = self._ours(wanted.endpoint)
        needed = criteria(self._client.types)
        self._delete([one for one in there if one.get("criteria") not in needed])
        written = 0
        for one in needed:
            same = [found for found in there if found.get("criteria") == one]
            self._delete(same[1:])
            if same and _is_fit(same[0], wanted, now):
                continue
            resource = _subscription(one, wanted, now)
            if same:
                self._client.update({**resource, "id": same[0]["id"]}, if_match=version_of(same[0]))
            else:
                self._client.create(resource)
            written += 1
        return written

    def end(self, endpoint: str) -> int:
        """Delete those that lead to an address of ours; return how many."""
        there = self._ours(endpoint)
        self._delete(there)
        return len(there)

    def _ours(self, endpoint: str) -> list[Resource]:
        found = self._client.search(_TYPE, [("url", endpoint), ("_count", "100")])
        return [one for one in found if _channel(one).get("endpoint") == endpoint]

    def _delete(self, resources: Collection[Resource]) -> None:
        for one in resources:
            self._client.delete(_TYPE, str(one["id"]), if_match=version_of(one) or "1")


def _is_fit(found: Resource, wanted: Wanted, now: datetime) -> bool:
    end = found.get("end")
    try:
        ends = datetime.fromisoformat(end) if isinstance(end, str) else None
    except ValueError:
        ends = None
    lasts = ends is not None and ends.tzinfo is not None and ends - now > wanted.lifetime / 2
    # A server may keep the header to itself.
    shown = _channel(found).get("header", [wanted.header])
    return lasts and found.get("status") in _LIVE and shown == [wanted.header]


def _channel(resource: Resource) -> dict[str, Any]:
    channel = resource.get("channel")
    return channel if isinstance(channel, dict) else {}


def _subscription(criteria: str, wanted: Wanted, now: datetime) -> Resource:
    end = (now + wanted.lifetime).astimezone(UTC)
    return {
        "resourceType": _TYPE,
        "status": "requested",
        "reason": "flute-sync looks at clinical data when it is told that some changed",
        "criteria": criteria,
        "end": end.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "channel": {
            "type": "rest-hook",
            "endpoint": wanted.endpoint,
            "header": [wanted.header],
        },
    }
