"""What of a patient's resources goes when he is erased, and what stays because it is of others.

Only what we made goes whole. A resource that another system made or added to is not ours to
delete: what we added to it is taken out, and it is told.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final

from flute_sync.bundle import Resource
from flute_sync.fhir_elements import members
from flute_sync.identity import PatientKey, PatientSettings, key_of
from flute_sync.link_elements import without_links
from flute_sync.ownership import foreign, knows, stated_by, withdrawn_from
from flute_sync.patient_errors import IdentityError
from flute_sync.study import Issuer, PatientId
from flute_sync.terminology import EU_IMAGING_STUDY, FLUTE_IMAGING_STUDY, FLUTE_SYNC_TAG

_STUDY: Final = frozenset(
    {
        "resourceType", "id", "meta", "text", "identifier", "status", "modality", "subject",
        "encounter", "started", "basedOn", "referrer", "interpreter", "endpoint", "numberOfSeries",
        "numberOfInstances", "procedureCode", "location", "reasonCode", "description", "series",
        "extension",
    }
)  # fmt: skip
_OBSERVATION: Final = frozenset(
    {
        "resourceType", "id", "meta", "text", "identifier", "status", "code", "subject",
        "derivedFrom", "effectiveDateTime", "valueInteger", "valueQuantity", "bodySite",
    }
)  # fmt: skip
"""The elements that we write, where nothing else tells what is ours."""

_PROFILES: Final = frozenset({FLUTE_IMAGING_STUDY, EU_IMAGING_STUDY})


class Fate(StrEnum):
    """What becomes of a resource."""

    DELETE = "delete"
    CLEAR = "clear"  # what is ours is taken out; the rest stays
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Judged:
    """What becomes of a resource, and why it does not go whole."""

    fate: Fate
    reason: str = ""


def judge_study(
    current: Mapping[str, Any],
    *,
    last_digest: str | None,
    is_known: bool,
    oldest: Mapping[str, Any] | None,
    sources: Collection[str],
) -> Judged:
    """Judge an ImagingStudy of the patient.

    Parameters
    ----------
    last_digest
        `ownership.digest` of what we wrote last; None where that is not known.
    is_known
        Whether the ledger has it as written by us.
    oldest
        The oldest version that the server tells; None where it tells none.
    sources
        What our ``meta.source`` may be.
    """
    if not (is_known or stated_by(current, sources)):
        return Judged(Fate.LEAVE, "another system wrote it")
    if oldest is not None and not _is_by_us(oldest, last_digest, sources):
        return Judged(Fate.CLEAR, "another system made it")
    strange = current.keys() - _STUDY if last_digest is None else foreign(current, last_digest)
    if strange:
        return Judged(Fate.CLEAR, f"others added {', '.join(sorted(strange))}")
    return Judged(Fate.DELETE)


def _is_by_us(oldest: Mapping[str, Any], last_digest: str | None, sources: Collection[str]) -> bool:
    if stated_by(oldest, sources):
        return True
    return last_digest is not None and knows(oldest, last_digest)


def judge_observation(current: Mapping[str, Any]) -> Judged:
    """Judge an Observation that bears our tag."""
    strange = current.keys() - _OBSERVATION
    if strange:
        return Judged(Fate.LEAVE, f"others added {', '.join(sorted(strange))}")
    return Judged(Fate.DELETE)


def is_derived(observation: Mapping[str, Any]) -> bool:
    """Tell whether an Observation bears our tag."""
    meta = observation.get("meta")
    tags = members(meta.get("tag")) if isinstance(meta, dict) else []
    return any(one.get("system") == FLUTE_SYNC_TAG for one in tags)


def is_witness(provenance: Mapping[str, Any], agent: Mapping[str, Any]) -> bool:
    """Tell whether a Provenance is ours, and of one resource alone.

    Parameters
    ----------
    agent
        Who writes, as a FHIR Reference.
    """
    ours = agent["identifier"]
    stated = [one.get("who") for one in members(provenance.get("agent"))]
    mine = bool(stated) and all(
        isinstance(one, dict) and one.get("identifier") == ours for one in stated
    )
    return mine and len(members(provenance.get("target"))) == 1


def cleared(
    current: Mapping[str, Any],
    *,
    links: Collection[str],
    endpoints: Collection[str],
    sources: Collection[str],
    base_url: str,
) -> Resource:
    """Return a resource of others without what we added to it.

    Parameters
    ----------
    links
        Links of ours, ``Type/id``.
    endpoints
        References of our Endpoints.
    """
    left = withdrawn_from(current, endpoints, str(current.get("status")))
    left = without_links(left, links, base_url)
    meta = dict(left.get("meta", {}))
    profiles = [one for one in meta.pop("profile", []) if one not in _PROFILES]
    if stated_by(current, sources):
        meta.pop("source", None)
    return left | {"meta": meta | ({"profile": profiles} if profiles else {})}


def stated_as(
    keys: Iterable[PatientKey], settings: Collection[PatientSettings]
) -> frozenset[PatientId]:
    """Return how headers state these identifiers, wherever they come from.

    What means somebody else in one archive is left out: its studies are known by who they are of.

    Parameters
    ----------
    settings
        Of all archives, and the site's own.
    """
    found = set()
    for key in keys:
        names = {name for one in settings for name, system in one.systems.items()}
        stated = [PatientId(key.value), *(PatientId(key.value, Issuer(name)) for name in names)]
        found |= {one for one in stated if {meant(one, each) for each in settings} == {key}}
    return frozenset(found)


def numbering(settings: Iterable[PatientSettings]) -> str:
    """Return a digest of how Patient IDs are read: under the same one they mean the same.

    Parameters
    ----------
    settings
        Of all archives, and the site's own.
    """
    said = {repr((one.default_system, sorted(one.systems.items()))) for one in settings}
    return blake2b("\n".join(sorted(said)).encode(), digest_size=8).hexdigest()


def meant(stated: PatientId, settings: PatientSettings) -> PatientKey | None:
    """Return whom a header means; None where it does not tell."""
    try:
        return key_of(stated, settings)
    except IdentityError:
        return None
