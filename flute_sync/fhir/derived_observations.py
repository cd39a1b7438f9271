"""Observations that say what a structured report of a study states: created once, kept true.

They are known by a tag of ours and by an identifier that names report and content item. What a
report states no more is marked as entered in error, never deleted: somebody may have used it.

References
----------
FHIR R4 observation.html, http.html#ccreate and http.html#cond-update.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from flute_sync.bundle import Account, Resource, version_of
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.moves import Mover
from flute_sync.fhir.queries import criteria, token
from flute_sync.fhir_elements import local_reference, members
from flute_sync.fhir_errors import FhirServerError
from flute_sync.terminology import FLUTE_SYNC_TAG

OBSERVATION: Final = "Observation"
IN_ERROR: Final = "entered-in-error"
_TAG: Final = {"system": FLUTE_SYNC_TAG, "code": "derived"}
_SETTLED: Final = frozenset({"final", "amended", "corrected"})
_ACCOUNT: Final = Account(("What a structured report of the study states, or states no more.",))


@dataclass(frozen=True)
class DerivedObservations:
    """Reads and writes them; the step of their study is the only writer.

    Parameters
    ----------
    agent
        Who writes, as a FHIR Reference.
    """

    client: FhirClient
    agent: Mapping[str, Any]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def keep_true(self, study: str, wanted: Iterable[Resource]) -> int:
        """Let those of a study say what is wanted, and nothing else; return how many changed.

        Parameters
        ----------
        study
            ``ImagingStudy/ID``.

        Raises
        ------
        FluteSyncError
            When the FHIR server does not do its part.
        """
        there = {_identifier(one): one for one in self._of(study)}
        changed = 0
        for ours in wanted:
            current = there.pop(_identifier(ours), None)
            if current is None:
                changed += self._create(ours)
            else:
                changed += self._update(current, _merged(current, ours))
        for gone in there.values():
            changed += self._update(gone, {**gone, "status": IN_ERROR})
        return changed

    def _of(self, study: str) -> list[Resource]:
        base_url = self.client.base_url
        found = self.client.search(OBSERVATION, [("derived-from", study)])
        return [
            one
            for one in found
            if _is_ours(one)
            and study in (local_reference(each, base_url) for each in members(one["derivedFrom"]))
        ]

    def _create(self, ours: Resource) -> bool:
        key = _identifier(ours)
        tagged = {**ours, "meta": {**ours.get("meta", {}), "tag": [_TAG]}}
        once = criteria([("identifier", token(*key))])
        result = self.client.create(tagged, if_none_exist=once)
        if result.status != 201:
            return False  # somebody else holds this identifier: it is not ours to change
        version = f"/_history/{result.version}" if result.version else ""
        self._mover().created(f"{OBSERVATION}/{result.id}{version}")
        return True

    def _update(self, current: Resource, wanted: Resource) -> bool:
        if wanted == current:
            return False
        version = version_of(current)
        if version is None:
            raise FhirServerError("an Observation has no meta.versionId")
        self._mover().put(wanted, version)
        return True

    def _mover(self) -> Mover:
        return Mover(self.client, self.agent, self.clock(), _ACCOUNT)


def _identifier(observation: Resource) -> tuple[str, str]:
    first = next(iter(members(observation.get("identifier"))), {})
    return str(first.get("system", "")), str(first.get("value", ""))


def _is_ours(observation: Resource) -> bool:
    meta = observation.get("meta")
    tags = members(meta.get("tag")) if isinstance(meta, dict) else []
    return any({**_TAG, **one} == one for one in tags)


def _merged(current: Resource, ours: Resource) -> Resource:
    """Lay ours over what is there; what was settled and says something else now is amended."""
    merged = {**current, **ours, "meta": current["meta"]}
    if ours["status"] == "final" and current.get("status") in _SETTLED:
        same_value = all(current.get(name) == ours[name] for name in ours if _is_value(name))
        merged["status"] = current["status"] if same_value else "amended"
    return merged


def _is_value(name: str) -> bool:
    return name.startswith("value")
