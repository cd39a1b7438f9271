"""Links that somebody stated: by reference, by request, by encounter.

References
----------
FHIR R4 observation.html (derivedFrom, partOf, focus, hasMember, basedOn, encounter),
diagnosticreport.html (imagingStudy, result), procedure.html (report, reasonReference).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from flute_sync.flute_variables import Kind, Resource
from flute_sync.link_case import (
    Candidate,
    Case,
    Imaging,
    own_reference,
    references,
    stated_uid,
)
from flute_sync.terminology import IDENTIFIER_TYPE

WITH_ITS_STUDY: Final = frozenset({Kind.PI_RADS, Kind.VOLUME})
"""Kinds that are read off the images: a common request or encounter is enough for them."""
_ELEMENTS: Final = ("derivedFrom", "partOf", "focus")
_WITHDRAWN: Final = frozenset({"entered-in-error", "cancelled"})


class Stated(NamedTuple):
    """A study that is named for a candidate, and the words for it."""

    study: Imaging
    reason: str


class StatedLinks:
    """Finds what is stated about the candidates of one patient."""

    def __init__(self, case: Case, candidates: tuple[Candidate, ...]) -> None:
        self._case = case
        self._by_reference = {
            reference: one
            for one in case.imaging
            if (reference := own_reference(one.resource)) is not None
        }
        self._by_uid = {one.uid: one for one in case.imaging}
        self._reports = self._studies_of_reports()
        self._explicit = self._closure(candidates)

    def explicit(self, candidate: Candidate) -> tuple[Stated, ...]:
        """Return the studies that a candidate, a report or a panel names explicitly."""
        return tuple(self._explicit.get(candidate.reference, ()))

    def by_request(self, candidate: Candidate) -> tuple[Stated, ...]:
        """Return the MRIs that were made for the candidate's own request or accession number."""
        if candidate.kind not in WITH_ITS_STUDY:
            return ()
        wanted = self._requests(candidate.resource)
        return tuple(
            Stated(study, f"both are based on {name}")
            for study in self._case.mris
            for name in self._common(wanted, self._requests(study.resource))
        )[:2]

    def by_encounter(self, candidate: Candidate) -> tuple[Stated, ...]:
        """Return the MRIs of the candidate's encounter, of the same day."""
        if candidate.kind not in WITH_ITS_STUDY or candidate.day is None:
            return ()
        encounter = self._case.local(candidate.resource.get("encounter"))
        return tuple(
            Stated(study, "both belong to one encounter, of one day")
            for study in self._case.mris
            if encounter is not None
            and self._case.local(study.resource.get("encounter")) == encounter
            and study.day is not None
            and candidate.day.low == candidate.day.high == study.day.low == study.day.high
        )

    # -- explicit ----------------------------------------------------------------------------

    def _closure(self, candidates: tuple[Candidate, ...]) -> Mapping[str, list[Stated]]:
        """Collect what is named, and let a panel's members follow it."""
        found: dict[str, list[Stated]] = defaultdict(list)
        members: dict[str, list[str]] = defaultdict(list)
        observed = [*self._case.candidates, *(one.resource for one in candidates)]
        for resource in observed:
            name = own_reference(resource)
            if name is None or resource.get("status") in _WITHDRAWN:
                continue
            found[name] = list(dict.fromkeys(self._named_by(resource)))
            members[name] = [
                member
                for one in references(resource.get("hasMember"))
                if (member := self._case.local(one)) is not None
            ]
        for report, studies in self._reports.items():
            for name in self._results(report):
                found[name] += [Stated(one, "its report is of this study") for one in studies]
        waiting = [name for name, stated in found.items() if stated and members[name]]
        while waiting:
            panel = waiting.pop()
            for member in members[panel]:
                more = [
                    Stated(one.study, "it is part of a panel that names this study")
                    for one in found[panel]
                ]
                fresh = [one for one in more if one.study not in _studies(found[member])]
                found[member] += fresh
                if fresh and members[member]:
                    waiting.append(member)
        return found

    def _named_by(self, resource: Resource) -> Iterator[Stated]:
        for element in _ELEMENTS:
            for reference in references(resource.get(element)):
                study = self._study(reference)
                if study is not None:
                    yield Stated(study, f"{element} names this study")
        for element in ("report", "reasonReference"):
            for reference in references(resource.get(element)):
                for study in self._reports.get(self._case.local(reference) or "", ()):
                    yield Stated(study, f"{element} names a report of this study")

    def _study(self, reference: Mapping[str, Any]) -> Imaging | None:
        uid = stated_uid(reference)
        if uid is not None:
            return self._by_uid.get(uid)
        name = self._case.local(reference)
        return self._by_reference.get(name) if name else None

    def _studies_of_reports(self) -> dict[str, list[Imaging]]:
        found: dict[str, list[Imaging]] = {}
        for report in self._case.reports:
            name = own_reference(report)
            if name is None or report.get("status") in _WITHDRAWN:
                continue
            named = (self._study(one) for one in references(report.get("imagingStudy")))
            studies = [study for study in named if study is not None]
            if studies:
                found[name] = studies
        return found

    def _results(self, report: str) -> Iterator[str]:
        for one in self._case.reports:
            if own_reference(one) == report:
                for reference in references(one.get("result")):
                    name = self._case.local(reference)
                    if name is not None:
                        yield name

    # -- requests ----------------------------------------------------------------------------

    def _requests(self, resource: Resource) -> dict[tuple[str | None, str], str]:
        """Return what a resource is based on: a literal request, or an accession number."""
        found: dict[tuple[str | None, str], str] = {}
        for reference in references(resource.get("basedOn")):
            name = self._case.local(reference)
            if name is not None and name.startswith("ServiceRequest/"):
                found["reference", name] = name
            for identifier in references(reference.get("identifier")):
                value = identifier.get("value")
                if isinstance(value, str) and _is_accession(identifier):
                    found[identifier.get("system"), value] = "one accession number"
        return found

    def _common(
        self,
        wanted: Mapping[tuple[str | None, str], str],
        stated: Mapping[tuple[str | None, str], str],
    ) -> Iterator[str]:
        """Yield what both are based on; a number without a system only where it is one study's."""
        for key, name in wanted.items():
            if key[0] is not None and key in stated:
                yield name
                return
        for (system, value), name in wanted.items():
            holders = [
                study
                for study in self._case.mris
                if any(
                    number == value and scheme != "reference"
                    for scheme, number in self._requests(study.resource)
                )
            ]
            same = any(
                number == value and (system is None or scheme is None) and scheme != "reference"
                for scheme, number in stated
            )
            if same and len(holders) == 1:
                yield name
                return


def _studies(stated: list[Stated]) -> list[Imaging]:
    return [one.study for one in stated]


def _is_accession(identifier: Mapping[str, Any]) -> bool:
    """Tell an accession number; an identifier of no type is taken for one in ``basedOn``."""
    kind = identifier.get("type")
    codings = kind.get("coding") if isinstance(kind, Mapping) else None
    if not isinstance(codings, list):
        return True
    return any(
        isinstance(one, Mapping)
        and (one.get("system"), one.get("code")) in ((IDENTIFIER_TYPE, "ACSN"), (None, "ACSN"))
        for one in codings
    )
