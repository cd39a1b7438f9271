"""Which patients are concerned by what changes of clinical data, and by what is gone.

Each type of which the judgement of links depends is followed by `_lastUpdated`, narrowed by code
where all that matters has one; and by its history where the server tells it, which shows also what
was deleted, and what does not bear its code any more.

References
----------
FHIR R4 http.html#history, search.html#lastUpdated; observation.html, procedure.html,
familymemberhistory.html, diagnosticreport.html, servicerequest.html, imagingstudy.html
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from flute_sync.bundle import Resource, search_url, version_of
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.patient_watch import merged
from flute_sync.fhir.watch import Pages, Seen, Watch, history, updated
from flute_sync.fhir_elements import local_reference, members, names_type, own_reference
from flute_sync.flute_variables import CODES, kind_of

_OVERLAP: Final = timedelta(minutes=5)
_NAMING: Final = ("derivedFrom", "partOf", "focus", "imagingStudy")
_ELEMENTS: Final[Mapping[str, str]] = {
    "Observation": "subject,code,derivedFrom,partOf,focus",
    "Procedure": "subject,code",
    "FamilyMemberHistory": "patient,condition",
    "DiagnosticReport": "subject,imagingStudy,result",
    "ServiceRequest": "subject",
    "ImagingStudy": "subject",
}
_FOLLOWED: Final = ("Observation", "Procedure", "FamilyMemberHistory", "DiagnosticReport")
"""Types of which the history is followed too: what is gone of the others is a matter of the sweep,
and what is gone of ImagingStudies one of reconciliation."""
_IDS: Final = 100


@dataclass(frozen=True, slots=True)
class Touched:
    """What some changed resources concern.

    Parameters
    ----------
    resources
        ``Type/id`` of what changed, and of what a report or a panel that changed lists: who was
        judged by it is concerned, whomever it names now.
    patients
        ``Patient/id`` of those whom a resource names now that may be linked.
    bystanders
        ``Patient/id`` of those who are concerned only if they have studies already.
    studies
        Id and version of ImagingStudies: who is named by them is concerned unless that version is
        our own -> ``Patient/id``.
    """

    resources: frozenset[str]
    patients: frozenset[str]
    bystanders: frozenset[str]
    studies: Mapping[tuple[str, str | None], str]

    def __bool__(self) -> bool:
        """Whether anything is concerned at all."""
        return bool(self.resources or self.patients or self.bystanders or self.studies)


class ClinicalWatch:
    """Follows all types of clinical data; for one thread."""

    def __init__(self, client: FhirClient, overlap: timedelta = _OVERLAP) -> None:
        self._client = client
        self._overlap = overlap
        self._watches: dict[str, Watch] = {}
        self._seen: dict[str, Seen] = {}

    def feeds(self, *, histories: bool) -> list[str]:
        """Return what can be followed, each the ``source`` of a cursor.

        Parameters
        ----------
        histories
            Whether to follow these too.
        """
        client = self._client
        kinds = [one for one in _ELEMENTS if client.types is None or one in client.types]
        past = [one for one in _FOLLOWED if histories and one in client.histories]
        return [f"clinical/{one}" for one in kinds] + [f"history/{one}" for one in past]

    def look(self, feed: str, cursor: str | None) -> Iterator[tuple[Touched, str]]:
        """Yield what changed since the cursor, page by page, with where the feed stands after it.

        Parameters
        ----------
        feed
            One of `feeds`.
        cursor
            The last one that was acted upon; None to begin now.
        """
        if feed not in self._watches:
            self._watches[feed] = self._watch(feed)
        for news in self._watches[feed].look(cursor):
            yield touched(news.resources, self._client.base_url), news.cursor

    def _watch(self, feed: str) -> Watch:
        way, _, kind = feed.partition("/")
        pages: Pages
        if way == "history":
            pages = history(self._client, kind)
        else:
            pages = updated(self._client, kind, [*_narrowed(kind), ("_elements", _ELEMENTS[kind])])
        # What one way has said the other one need not say again.
        seen = self._seen.setdefault(kind, {})
        return Watch(self._client, pages, self._overlap, seen)

    def merged(self, references: Collection[str]) -> frozenset[str]:
        """Return those of some patients who were replaced by another one."""
        ids = sorted(one.partition("/")[2] for one in references)
        found: set[str] = set()
        for start in range(0, len(ids), _IDS):
            named = ("_id", ",".join(ids[start : start + _IDS]))
            asked = [named, ("_elements", "link"), ("_count", str(_IDS))]
            for page in self._client.pages("Patient", asked):
                found |= merged(page)
        return frozenset(found) & frozenset(references)


def criteria(types: Collection[str] | None) -> tuple[str, ...]:
    """Return searches for what concerns links most often, of those types that a server has."""
    return tuple(
        search_url(one, _narrowed(one)) for one in _FOLLOWED if types is None or one in types
    )


def touched(resources: Sequence[Resource], base_url: str) -> Touched:
    """Sort out whom changed resources concern."""
    changed, patients, bystanders = set[str](), set[str](), set[str]()
    studies: dict[tuple[str, str | None], str] = {}
    for one in resources:
        named = local_reference(one.get("subject", one.get("patient")), base_url)
        patient = named if named is not None and named.startswith("Patient/") else None
        if one["resourceType"] == "ImagingStudy":
            if patient is not None:
                studies[str(one["id"]), version_of(one)] = patient
            continue
        listed = [*members(one.get("result")), *members(one.get("hasMember"))]
        results = (local_reference(each, base_url) for each in listed)
        changed |= {each for each in (own_reference(one), *results) if each is not None}
        if patient is not None and one["resourceType"] == "ServiceRequest":
            bystanders.add(patient)
        elif patient is not None and _matters(one):
            patients.add(patient)
    return Touched(frozenset(changed), frozenset(patients), frozenset(bystanders), studies)


def _matters(resource: Resource) -> bool:
    """Tell whether a resource is a FLUTE variable, or names a study."""
    return kind_of(resource) is not None or any(
        names_type(each, "ImagingStudy") for name in _NAMING for each in members(resource.get(name))
    )


def _narrowed(kind: str) -> list[tuple[str, str]]:
    codes = [f"{code.system}|{code.code}" for of, code in CODES.values() if of == kind]
    return [("code", ",".join(codes))] if codes else []
