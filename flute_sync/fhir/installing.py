"""Puts our own definitions on a FHIR server: what is absent or changed, and nobody else's.

References
----------
FHIR R4 http.html#ccreate, http.html#concurrency
"""

import contextlib
import time
from dataclasses import dataclass
from typing import Final, Literal

from flute_sync.bundle import Resource, oldest_first, version_of
from flute_sync.errors import FluteSyncError, TransientError
from flute_sync.fhir.capability import Capabilities
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.queries import Parameters, criteria, identifier_search
from flute_sync.fhir.uniqueness import Pause, others_than_ours
from flute_sync.fhir_errors import FhirConflict, FhirInstallClash, FhirInstallRefused
from flute_sync.own_resources import Definition
from flute_sync.ownership import bears
from flute_sync.terminology import FLUTE_SUPPORTING_INFO

Outcome = Literal["created", "updated", "unchanged", "foreign", "refused"]
_MOST_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Installed:
    """What became of a definition, or would: ``foreign`` is one of somebody else, left alone.

    Parameters
    ----------
    changes
        The elements that said something else before.
    """

    definition: Definition
    outcome: Outcome
    reference: str | None = None
    error: FluteSyncError | None = None
    changes: tuple[str, ...] = ()


class Installer:
    """Installs definitions, or with ``dry_run`` tells what it would do.

    Parameters
    ----------
    offered
        What the server says that it can do.
    """

    def __init__(
        self,
        client: FhirClient,
        offered: Capabilities,
        *,
        dry_run: bool = False,
        pause: Pause = time.sleep,
    ) -> None:
        self._client = client
        self._offered = offered
        self._dry_run = dry_run
        self._pause = pause

    def install(self, definition: Definition) -> Installed:
        """Bring one definition to the server.

        A refusal is told in what is returned, so that it keeps nothing else from being installed.

        Raises
        ------
        TransientError
            The server is down, or others write to the same resource all the time.
        """
        try:
            self._require(definition.kind, "search-type")
            return self._installed(definition)
        except TransientError:
            raise
        except FhirInstallClash as error:
            return Installed(definition, "refused", error=error)
        except FluteSyncError as error:
            refused = FhirInstallRefused(f"{definition.kind}: {error.sentence}")
            return Installed(definition, "refused", error=refused)

    def _require(self, kind: str, interaction: str) -> None:
        if interaction not in self._offered.interactions.get(kind, frozenset()):
            raise FhirInstallRefused(f"it offers no {interaction} of {kind}")

    def _installed(self, definition: Definition) -> Installed:
        for _ in range(_MOST_TRIES):
            found = self._look(definition)
            ours = [one for one in found if is_ours(one, definition)]
            theirs = [one for one in found if one not in ours and is_rival(one, definition)]
            with contextlib.suppress(FhirConflict):  # somebody else is at it too
                if ours:
                    return self._follow(definition, oldest_first(ours)[0])
                if theirs:
                    return _left_alone(definition, theirs)
                return self._create(definition)
        raise FhirConflict(f"a {definition.kind} is changed by others all the time")

    def _look(self, definition: Definition) -> list[Resource]:
        searches = [_unique(definition), *([definition.others] if definition.others else [])]
        found = [one for by in searches for one in self._client.search(definition.kind, by)]
        return list({str(one["id"]): one for one in found}.values())

    def _follow(self, definition: Definition, current: Resource) -> Installed:
        reference = f"{definition.kind}/{current['id']}"
        changes = outdated(current, definition)
        if not changes:
            return Installed(definition, "unchanged", reference)
        self._require(definition.kind, "update")
        if not self._dry_run:
            version = version_of(current)
            if version is None:
                raise FhirInstallRefused(f"a {definition.kind} has no meta.versionId")
            kept = {"identifier": current["identifier"]} if "identifier" in current else {}
            changed = {**current, **definition.resource, **kept}
            self._client.update(changed, if_match=version)
        return Installed(definition, "updated", reference, changes=changes)

    def _create(self, definition: Definition) -> Installed:
        self._require(definition.kind, "create")
        if self._dry_run:
            return Installed(definition, "created")
        condition = criteria(_unique(definition))
        result = self._client.create(definition.resource, if_none_exist=condition)
        if result.status != 201:
            raise FhirConflict("it came meanwhile")
        others = others_than_ours(
            self._client, result, definition.kind, lambda: self._ours(definition), self._pause
        )
        if others:
            return Installed(definition, "unchanged", f"{definition.kind}/{others[0]['id']}")
        return Installed(definition, "created", f"{definition.kind}/{result.id}")

    def _ours(self, definition: Definition) -> list[Resource]:
        found = self._client.search(definition.kind, _unique(definition))
        return [one for one in found if is_ours(one, definition)]


def _unique(definition: Definition) -> Parameters:
    if definition.unique is not None:
        return definition.unique
    named = definition.resource["identifier"]
    return identifier_search((one["system"], one["value"]) for one in named)


def _left_alone(definition: Definition, theirs: list[Resource]) -> Installed:
    """Tell of what somebody else put there, unless it means something else than ours."""
    their = oldest_first(theirs)[0]
    reference = f"{definition.kind}/{their['id']}"
    if "expression" in definition.resource:
        means_ours = FLUTE_SUPPORTING_INFO in str(their.get("expression", ""))
        if not means_ours:
            raise FhirInstallClash(f"{reference} has its code")
    return Installed(definition, "foreign", reference)


def is_ours(found: Resource, definition: Definition) -> bool:
    """Tell whether a resource is the one that flute-sync put there."""
    wanted = definition.resource
    if "url" in wanted and found.get("url") != wanted["url"]:
        return False
    return all(bears(found, one["system"], one["value"]) for one in wanted.get("identifier", []))


def is_rival(found: Resource, definition: Definition) -> bool:
    """Tell whether a resource of somebody else serves the purpose of ours, or is in its way.

    An extension counts under every canonical of the FLUTE guide, older ones too; what else has a
    canonical, under that.
    """
    wanted, base = definition.resource, found.get("base")
    if definition.kind == "SearchParameter":
        same = found.get("code") == wanted["code"] and found.get("status") != "retired"
        return same and isinstance(base, list) and not set(base).isdisjoint(wanted["base"])
    if definition.kind == "StructureDefinition":
        url = str(found.get("url", ""))
        name = wanted["url"].rpartition("/")[2]
        return url.rpartition("/")[2] == name and "flute" in url.lower()
    return "url" in wanted and found.get("url") == wanted["url"]


def outdated(current: Resource, definition: Definition) -> tuple[str, ...]:
    """Return in which elements a resource of ours says something else; what it says more stays."""
    wanted = definition.resource
    names = (name for name in wanted if name != "identifier")
    return tuple(name for name in names if current.get(name) != wanted[name])
