"""One patient, judged: what each of his studies is linked to, given what stands on the server."""

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property

from flute_sync.bundle import Resource, version_of
from flute_sync.fhir.candidates import Evidence
from flute_sync.fhir_elements import own_reference, study_uid
from flute_sync.flute_variables import Kind
from flute_sync.ledger import HeldLink, LinkedStudy, LinkRow, PatientLinks
from flute_sync.link_elements import links_of
from flute_sync.study import StudyInstanceUID
from flute_sync.supporting_info import (
    Case,
    Decision,
    Link,
    LinkSettings,
    StudyLinks,
    display,
    judge,
)
from flute_sync.task import State


@dataclass(frozen=True)
class PatientCase:
    """What is known of a patient, and the judgement.

    Parameters
    ----------
    own, own_uid
        The study that is about to be written, as it will be without a change of its links, and
        its UID; None where none is.
    """

    evidence: Evidence
    known: PatientLinks
    settings: LinkSettings
    base_url: str
    own_uid: str | None = None
    own: Resource | None = None

    @cached_property
    def studies(self) -> Mapping[str, Resource]:
        """Study Instance UID -> its ImagingStudy, ours where there are several."""
        found: dict[str, Resource] = {}
        for one in self.evidence.of_type("ImagingStudy"):
            uid = study_uid(one)
            if uid is not None and (uid not in found or self._is_ours(uid, one)):
                found[uid] = one
        if self.own_uid is not None and self.own is not None:
            found[self.own_uid] = self.own
        return found

    def _is_ours(self, uid: str, resource: Resource) -> bool:
        known = self.known.studies.get(StudyInstanceUID(uid))
        return known is not None and known.resource_id == resource.get("id")

    @cached_property
    def judged(self) -> Mapping[str, StudyLinks]:
        """Study Instance UID -> what it is linked to, and what it is refused."""
        patient = self.evidence.patient
        if patient is None:
            return {}
        decisions = tuple(
            Decision(one.study_instance_uid, one.reference, one.verb, one.why)
            for one in self.known.decisions
        )
        case = Case(
            patient=patient,
            patient_references=frozenset(self.evidence.references),
            studies=tuple(self.studies.values()),
            candidates=self.evidence.candidates,
            reports=self.evidence.of_type("DiagnosticReport"),
            requests=self.evidence.of_type("ServiceRequest"),
            decisions=decisions,
            foreign=self.foreign,
            base_url=self.base_url,
            settings=self.settings,
        )
        return judge(case)

    @cached_property
    def foreign(self) -> frozenset[tuple[str, str]]:
        """Study and resource of each link that is not ours to take away."""
        return frozenset(
            (uid, reference)
            for uid, resource in self.studies.items()
            for reference in links_of(resource, self.base_url).keys() - self._ours(uid)
        )

    def _ours(self, uid: str) -> frozenset[str]:
        """Return what a study was linked to by us, where its writer would take it away again."""
        known = self.known.studies.get(StudyInstanceUID(uid))
        if known is None or (known.state is State.CANCELLED and uid != self.own_uid):
            return frozenset()
        return ours(known)

    def gained(self, uid: str) -> frozenset[str]:
        """Return what a study is going to be linked to that it was not."""
        had = self._ours(uid)
        return frozenset(
            one.reference
            for one in self.judged[uid].links
            if one.reference not in had and (uid, one.reference) not in self.foreign
        )

    @cached_property
    def gains(self) -> frozenset[str]:
        """Return what any of his studies that are known here is going to be linked to."""
        return frozenset().union(
            *(self.gained(uid) for uid in self.known.studies if uid in self.judged)
        )

    def rows(
        self, uid: str, held: Iterable[HeldLink] = (), *, in_the_end: bool = False
    ) -> tuple[LinkRow, ...]:
        """Return what is judged of a study.

        Parameters
        ----------
        held
            Which of `gains` studies of other patients have.
        in_the_end
            Whether links count as taken although another study must give them up first.
        """
        said, gained = self.judged[uid], self.gained(uid)
        elsewhere = {one.reference: _named(one) for one in held if one.reference in gained}
        links = [self._taken(uid, link, elsewhere, in_the_end=in_the_end) for link in said.links]
        return (*links, *(self._refused[link] for link in said.refused))

    @cached_property
    def _refused(self) -> Mapping[Link, LinkRow]:
        """What is refused, as the ledger keeps it: most of it is said of many studies alike."""
        links = {link for said in self.judged.values() for link in said.refused}
        return {link: _row(link) for link in links}

    def _taken(self, uid: str, link: Link, held: Mapping[str, str], *, in_the_end: bool) -> LinkRow:
        if (uid, link.reference) in self.foreign:
            return _row(link, taken=True)
        holder = None if in_the_end else self._holder(uid, link) or held.get(link.reference)
        if holder is None:
            return _row(link, taken=True, ours=True)
        return _row(link, reason=f"{link.reason}; it waits until {holder} gives it up")

    def _holder(self, uid: str, link: Link) -> str | None:
        """Return the ImagingStudy that still bears a link which it is going to lose."""
        if link.kind is Kind.FAMILY_HISTORY:
            return None
        losers = (other for other in self._losers.get(link.reference, ()) if other != uid)
        loser = next(losers, None)
        return loser and (own_reference(self.studies[loser]) or "another study")

    @cached_property
    def _losers(self) -> Mapping[str, list[str]]:
        """Which studies still bear a link on the server that they are going to lose."""
        found: dict[str, list[str]] = {}
        for uid, borne in self._borne.items():
            said = self.judged[uid].links if uid in self.judged else ()
            for reference in borne - {one.reference for one in said}:
                found.setdefault(reference, []).append(uid)
        return found

    def standing(self, uid: StudyInstanceUID) -> tuple[LinkRow, ...]:
        """Return what was judged last of a study, without links that somebody took from it."""
        known = self.known.studies[uid]
        resource = self.studies.get(uid)
        if resource is None or not self._is_ours(uid, resource) or known.state is State.CANCELLED:
            return known.rows
        there = links_of(resource, self.base_url)
        return tuple(row for row in known.rows if not row.ours or row.reference in there)

    @cached_property
    def _borne(self) -> Mapping[str, Set[str]]:
        """What each study is linked to on the server; the own one will say what is judged."""
        return {
            uid: links_of(resource, self.base_url).keys()
            for uid, resource in self.studies.items()
            if uid != self.own_uid
        }

    def display(self, reference: str, uid: str) -> str | None:
        """Return the words that a link of a study carries; None where it shall carry none."""
        if not self.settings.display:
            return None
        for link in self.judged[uid].links:
            if link.reference == reference:
                return display(link, self.studies[uid])
        return None

    def decided(self, references: Collection[str]) -> tuple[str, ...]:
        """Return what people decided on some links of the study to be written, in words."""
        return tuple(
            f"A person decided to {one.verb} {one.reference}: {one.why}"
            for one in self.known.decisions
            if one.study_instance_uid == self.own_uid and one.reference in references
        )

    def versioned(self, references: Collection[str]) -> tuple[str, ...]:
        """Return references with the versions that were judged; who is gone is left out."""
        found = ((one, self.evidence.resources.get(one)) for one in sorted(references))
        return tuple(_versioned(one, resource) for one, resource in found if resource is not None)

    def changed(self, held: Collection[HeldLink] = ()) -> list[StudyInstanceUID]:
        """Return the other studies of which something else is true now than was judged last.

        Parameters
        ----------
        held
            Which of `gains` studies of other patients have.
        """
        return [
            uid
            for uid, known in self.known.studies.items()
            if uid != self.own_uid
            and uid in self.judged
            and known.resource_id is not None
            and known.state is not State.CANCELLED
            and _by_reference(self.rows(uid, held)) != _by_reference(known.rows)
        ]


def ours(study: LinkedStudy) -> frozenset[str]:
    """Return what we linked a study to."""
    return frozenset(row.reference for row in study.rows if row.ours)


def _by_reference(rows: Iterable[LinkRow]) -> dict[str, LinkRow]:
    return {row.reference: row for row in rows}


def _named(held: HeldLink) -> str:
    return "another study" if held.resource_id is None else f"ImagingStudy/{held.resource_id}"


def _row(
    link: Link, *, taken: bool = False, ours: bool = False, reason: str | None = None
) -> LinkRow:
    return LinkRow(
        reference=link.reference,
        kind=link.kind.value,
        rule=link.rule,
        verdict=link.verdict.value,
        reason=reason or link.reason,
        waived=tuple(rule.value for rule in link.waived),
        low=link.when.low.isoformat() if link.when else None,
        high=link.when.high.isoformat() if link.when else None,
        taken=taken,
        ours=ours,
    )


def _versioned(reference: str, resource: Resource) -> str:
    version = version_of(resource)
    return reference if version is None else f"{reference}/_history/{version}"
