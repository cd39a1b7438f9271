"""The links of a study: judged over all studies of its patient, written by its own writer.

What the judgement changes for other studies of the patient they write themselves: they are made
ready, and judge again. A link that moves is first lost by one study, then gained by the other: the
judgement sees to that within a patient, the ledger between patients.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from flute_sync.bundle import Account, Resource
from flute_sync.daemon.patient_case import PatientCase, ours
from flute_sync.fhir.candidates import Candidates, Evidence
from flute_sync.fhir.imaging_studies import Written
from flute_sync.fhir_elements import local_reference, study_uid
from flute_sync.ledger import Claim, Ledger, LinkNews, LinkRow, PatientLinks
from flute_sync.link_elements import link_element, links_of, with_links, without_links
from flute_sync.ownership import merge
from flute_sync.study import StudyInstanceUID
from flute_sync.supporting_info import Case, LinkSettings, rule_set, rules_version
from flute_sync.terminology import DICOM_UID, OID


@dataclass(frozen=True)
class Plan:
    """What a study is going to be linked to.

    Parameters
    ----------
    resource
        The study with its links.
    dropped
        Links of ours that go.
    account
        Why they change; None where they do not.
    news
        For the ledger, once it is written.
    """

    resource: Resource
    dropped: frozenset[str] = frozenset()
    account: Account | None = None
    news: LinkNews | None = None

    @property
    def size(self) -> int:
        """How many links of ours it has."""
        return 0 if self.news is None else sum(row.ours for row in self.news.rows)


@dataclass(frozen=True)
class Difference:
    """What becomes of the links of one study: rows with a change, each before and after."""

    study_instance_uid: StudyInstanceUID
    changes: tuple[tuple[LinkRow | None, LinkRow | None], ...]


@dataclass(frozen=True)
class Linker:
    """Judges links."""

    ledger: Ledger
    candidates: Candidates
    settings: LinkSettings
    base_url: str

    def plan(
        self,
        claim: Claim,
        resource: Resource,
        current: Resource | None,
        *,
        last_digest: str | None = None,
    ) -> Plan:
        """Judge the links of a study that is about to be written.

        Which of them are going to be ours is kept in the ledger first: after a crash they are
        known.

        Parameters
        ----------
        resource
            As the mapping makes it.
        current
            As the server holds it; None where it does not.
        last_digest
            Of our last write to it.

        Raises
        ------
        FluteSyncError
            When the FHIR server or the ledger does not do its part.
        """
        uid = claim.study_instance_uid
        patient = local_reference(resource.get("subject"), self.base_url)
        future = _named(merge(current or {}, resource, last_digest), uid)
        # A patient may have hundreds of studies: what is known of all is read where it matters.
        if not self._can_have(future) and not self.ledger.links.concern(claim, patient):
            return Plan(resource)
        # The epoch must be older than what is read from the server.
        known = self.ledger.links.of_patient([patient] if patient else [], [uid])
        resource = without_links(resource, ours(known.studies[uid]), self.base_url)
        if patient is None or not patient.startswith("Patient/"):
            return self._none(resource, current, known, uid)
        case = self._case(patient, known, uid, future)
        if case.evidence.patient is None:
            return self._none(resource, current, known, uid)
        return self._planned(claim, resource, current or {}, case)

    def _can_have(self, study: Resource) -> bool:
        """Tell whether a study can have links, or lets others have some."""
        if not self.settings.enabled:
            return False
        (imaging,) = Case({}, frozenset(), (study,), settings=self.settings).imaging.values()
        return imaging.why_never is None or imaging.is_mr

    def _case(
        self,
        patient: str,
        known: PatientLinks,
        uid: StudyInstanceUID | None = None,
        future: Resource | None = None,
    ) -> PatientCase:
        ids = [one.resource_id for one in known.studies.values() if one.resource_id is not None]
        evidence = self.candidates.of(patient, ids)
        whole = self._whole(patient, known, evidence)
        return PatientCase(evidence, whole, self.settings, self.base_url, uid, future)

    def _whole(self, patient: str, known: PatientLinks, evidence: Evidence) -> PatientLinks:
        """Add what the ledger knows of studies that the server says are his."""
        found = {study_uid(one) for one in evidence.of_type("ImagingStudy")}
        uids = {StudyInstanceUID(one) for one in found if one is not None} | known.studies.keys()
        if uids == known.studies.keys() and evidence.references == {patient}:
            return known
        merged = sorted(evidence.references - {patient})
        more = self.ledger.links.of_patient([patient, *merged], sorted(uids))
        return PatientLinks(known.epoch, more.studies, more.decisions)

    def _planned(
        self, claim: Claim, resource: Resource, current: Resource, case: PatientCase
    ) -> Plan:
        uid = claim.study_instance_uid
        gained = [row for row in case.rows(uid) if row.ours and row.reference in case.gained(uid)]
        beside = case.known.studies.keys()
        held = self.ledger.links.plan(claim, gained, case.gains, beside) if case.gains else ()
        rows = case.rows(uid, held)
        wanted = {row.reference: case.display(row.reference, uid) for row in rows if row.ours}
        dropped = ours(case.known.studies[uid]) - wanted.keys()
        elements = [link_element(*one) for one in sorted(wanted.items())]
        news = LinkNews(
            patient_reference=local_reference(resource.get("subject"), self.base_url),
            epoch=case.known.epoch,
            rows=rows,
            others=tuple(case.changed(held)),
            awaited=tuple(one for one in held if one.reference in case.gained(uid)),
        )
        account = self._account(case, wanted, dropped, current)
        return Plan(with_links(resource, elements), dropped, account, news)

    def _account(
        self,
        case: PatientCase,
        wanted: Mapping[str, str | None],
        dropped: frozenset[str],
        current: Resource,
    ) -> Account | None:
        there = links_of(current, self.base_url)
        added = wanted.keys() - there.keys()
        removed = dropped & there.keys()
        changed = [one for one, words in wanted.items() if one in there and there[one] != words]
        if not (added or removed or changed):
            return None
        reason = (
            f"Links to clinical variables: {len(added)} added, {len(removed)} removed,"
            f" {len(changed)} in other words"
        )
        decided = case.decided({*added, *removed, *changed})
        return self._said(reason, case.versioned({*wanted, *removed}), decided)

    def _said(
        self, reason: str, sources: tuple[str, ...] = (), decided: tuple[str, ...] = ()
    ) -> Account:
        """Account for a change: the rules as an URI, and in words; then what people decided."""
        words = f"{reason}; rules {rules_version(self.settings)}."
        addresses = tuple(f"{self.base_url}/{one}" for one in sources)
        return Account((words, *decided), rule_set(self.settings), addresses)

    def _none(
        self, resource: Resource, current: Resource | None, known: PatientLinks, uid: str
    ) -> Plan:
        """Take all links of ours from a study of nobody whom the server knows."""
        dropped = ours(known.studies[StudyInstanceUID(uid)])
        removed = dropped & links_of(current or {}, self.base_url).keys()
        reason = f"Links to clinical variables: {len(removed)} removed, the patient is not known"
        account = self._said(reason) if removed else None
        return Plan(resource, dropped, account, LinkNews(None, known.epoch, ()))

    def review(self, patient: str) -> list[Difference]:
        """Tell what a judgement by the settings in force changes for the studies of a patient.

        Nothing is written.

        Parameters
        ----------
        patient
            ``Patient/ID``.

        Raises
        ------
        FluteSyncError
            When the FHIR server or the ledger does not do its part.
        """
        if not patient.startswith("Patient/"):
            return []
        known = self.ledger.links.of_patient([patient])
        case = self._case(patient, known)
        found = [
            Difference(uid, _changes(case.standing(uid), after))
            for uid, study in case.known.studies.items()
            if study.resource_id is not None and (after := self._after(case, uid)) is not None
        ]
        return [one for one in found if one.changes]

    def _after(self, case: PatientCase, uid: StudyInstanceUID) -> tuple[LinkRow, ...] | None:
        """Return what a study is linked to in the end; None where that is not to be told."""
        if case.evidence.patient is None:
            return ()  # nobody's study has no links
        return case.rows(uid, in_the_end=True) if uid in case.judged else None


def _named(study: Resource, uid: str) -> Resource:
    """Return a study that bears its own UID alone."""
    return {**study, "identifier": [{"system": DICOM_UID, "value": f"{OID}{uid}"}]}


def news_of(plan: Plan, written: Written) -> LinkNews | None:
    """Return what the ledger keeps of a plan that was written."""
    if plan.news is None:
        return None
    return replace(plan.news, changed=written.outcome != "unchanged")


def _changes(
    before: tuple[LinkRow, ...], after: tuple[LinkRow, ...]
) -> tuple[tuple[LinkRow | None, LinkRow | None], ...]:
    """Pair what was linked with what will be; what is refused now as then is no change."""
    was = {row.reference: row for row in before}
    will = {row.reference: row for row in after}
    pairs = [(was.get(one), will.get(one)) for one in sorted(was.keys() | will.keys())]
    return tuple(pair for pair in pairs if _says(pair[0]) != _says(pair[1]))


def _says(row: LinkRow | None) -> object:
    return (row.rule, row.verdict) if row is not None and row.taken else None
