"""What erasing a patient comes to: who he is, what goes, what stays and why."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from flute_sync.daemon.config import Config
from flute_sync.daemon.pseudonymity import Pseudonymity
from flute_sync.daemon.subject import wake_key
from flute_sync.erase_errors import EraseAmbiguous, EraseUnknown
from flute_sync.erasure import Fate, cleared, judge_observation, judge_study, meant, stated_as
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.endpoints import codes
from flute_sync.fhir.traces import Person, Trace, Traces
from flute_sync.fhir_elements import study_uid
from flute_sync.fhir_errors import FhirAmbiguous
from flute_sync.identity import PatientKey, PatientSettings
from flute_sync.ledger import HeldStudy, Ledger, PatientMarks
from flute_sync.own_resources import agent
from flute_sync.study import PatientId, StudyInstanceUID
from flute_sync.valuerep import Unusable

SHARED: Final = "somebody else has it, too"
GROUP: Final = "a result of ours names the patient: run `flute-sync criteria` again to renew it"
UNSEARCHED: Final = (
    "the server refused to search these: whether some of his or ours stay is not known"
)
ISSUER: Final = "it states the same Patient ID, but whose number that is is not known"


@dataclass(frozen=True, slots=True)
class Left:
    """What stays, and why: ``what`` is ``Type/id``, or a word for something else."""

    what: str
    reason: str


@dataclass
class Plan:
    """What is his.

    ``deleted`` are ``Type/id`` in groups that go together, ``cleared`` resources of others as they
    are without what is ours. ``left`` is what stays of ours or of him and somebody must look at.
    """

    person: Person
    marks: PatientMarks
    studies: list[HeldStudy] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)
    deleted: list[tuple[str, ...]] = field(default_factory=list)
    cleared: list[tuple[dict[str, object], str]] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    referrers: list[Left] = field(default_factory=list)

    @property
    def references(self) -> list[str]:
        """All that is going to be deleted."""
        return [one for group in self.deleted for one in group]

    @property
    def uids(self) -> frozenset[StudyInstanceUID]:
        """The UIDs of all his studies."""
        return self.marks.studies


@dataclass(frozen=True)
class Planner:
    """Finds out what is his; nothing is changed."""

    config: Config
    ledger: Ledger
    fhir: FhirClient

    @cached_property
    def traces(self) -> Traces:
        """His resources on the FHIR server."""
        return Traces(self.fhir, agent(self.config.identifier_system))

    @cached_property
    def persons(self) -> Pseudonymity:
        """As whom the FHIR server may know a patient."""
        return Pseudonymity.bind(self.config, self.ledger, only_look=True)

    @cached_property
    def _settings(self) -> dict[str, PatientSettings]:
        site = self.config.patient
        return {one.name: one.patient_settings(site) for one in self.config.every_archive}

    # -- who ---------------------------------------------------------------------------------

    def person(self, asked: str) -> Person:
        """Return who is meant by ``Patient/ID`` or ``SYSTEM|VALUE``.

        Where FHIR holds pseudonyms, the identifier may be one, or that of the hospital behind it.

        Raises
        ------
        EraseUnknown
            Nobody knows him.
        EraseAmbiguous
            Several people have the identifier.
        LedgerPseudonymsChanged
            The settings make other pseudonyms than those by which he is known.
        """
        if asked.startswith("Patient/"):
            found = self.traces.person(asked)
            person = Person(found.references | {asked}, found.keys)
            is_there = bool(found.references)
        else:
            system, _, value = asked.partition("|")  # which no URI holds, but numbers may
            key = PatientKey(system, value)
            try:
                known_as = self.persons.key(key)
                person = self.traces.bearing(known_as)
            except Unusable:
                raise EraseUnknown() from None
            except FhirAmbiguous as error:
                raise EraseAmbiguous(error.detail) from error
            is_there = bool(person.references)
            person = replace(person, hidden=frozenset({key} - {known_as}))
        person = replace(person, hidden=person.hidden | self._hidden(person))
        if not (is_there or self._is_known(person)):
            raise EraseUnknown()
        return person

    def _hidden(self, person: Person) -> frozenset[PatientKey]:
        """Return what archives call him, as far as his pseudonyms are made of it.

        Nobody can compute it from a pseudonym: all that archives state is compared with his.
        """
        if self.persons.pseudonymiser is None:
            return frozenset()
        found = {self._meant(archive, stated) for archive, stated in self.ledger.erasures.stated()}
        return frozenset(one for one in found if one and self._known_as(one) in person.keys)

    def _known_as(self, key: PatientKey) -> PatientKey | None:
        try:
            return self.persons.key(key)
        except Unusable:
            return None

    def _is_known(self, person: Person) -> bool:
        marks = self.marks(person)
        return bool(self._held(person, frozenset()) or self.ledger.erasures.of(marks))

    def marks(self, person: Person) -> PatientMarks:
        """Return by what he is known, as far as that tells nobody else."""
        keys = frozenset(key for key in person.keys if not self.traces.others_with(key, person))
        hidden = frozenset(one for one in person.hidden if self.persons.key(one) in keys)
        return PatientMarks(
            references=person.references,
            keys=frozenset(map(str, keys)),
            stated=stated_as(keys | hidden, self.config.every_patient),
        )

    # -- what --------------------------------------------------------------------------------

    def plan(self, person: Person, also: frozenset[StudyInstanceUID] = frozenset()) -> Plan:
        """Return what is his now.

        Parameters
        ----------
        also
            Studies that are known to be his already.
        """
        marks = self.marks(person)
        uncertain: list[Left] = []
        named = self._named(person, marks, uncertain) | also
        named |= self.ledger.erasures.turned_out(marks)
        held = self._held(person, named)
        uids = named | {one.study_instance_uid for one in held}
        resources = self.traces.studies(person, uids, [one.resource_id for one in held])
        theirs = {StudyInstanceUID(uid) for one in resources if (uid := study_uid(one))}
        held = self._held(person, uids | theirs)
        studies = frozenset(uids | theirs | {one.study_instance_uid for one in held})
        marks = PatientMarks(marks.references, marks.keys, marks.stated, studies)
        plan = Plan(person, marks, held, left=uncertain)
        shared = person.keys - {key for key in person.keys if str(key) in marks.keys}
        plan.left += [Left("an identifier of his", SHARED)] * len(shared)
        known = {one.resource_id: one for one in held if one.resource_id is not None}
        begun = frozenset(self.earlier(marks))
        for resource in resources:
            self._judge(plan, resource, known.get(str(resource["id"])), begun)
        self._orphans(plan)
        system = self.config.identifier_system
        plan.left += [Left(one, GROUP) for one in self.traces.naming(person, system)]
        plan.left += [Left(kind, UNSEARCHED) for kind in sorted(self.traces.unsearched)]
        return plan

    def _held(self, person: Person, uids: frozenset[StudyInstanceUID]) -> list[HeldStudy]:
        system = self.config.identifier_system
        keys = [wake_key(str(key), system) for key in person.keys]
        return self.ledger.erasures.held(person.references, keys, uids)

    def _meant(self, archive: str, stated: PatientId) -> PatientKey | None:
        return meant(stated, self._settings.get(archive, self.config.patient))

    def _named(
        self, person: Person, marks: PatientMarks, uncertain: list[Left]
    ) -> frozenset[StudyInstanceUID]:
        """Return the studies whose archives state one of his identifiers."""
        found = set()
        for key in person.keys | person.hidden:
            if str(self.persons.key(key)) not in marks.keys:
                continue
            for uid, stated in self.ledger.erasures.naming(key.value).items():
                says = {self._meant(archive, one) for archive, one in stated}
                if key in says:
                    found.add(uid)
                elif None in says:
                    uncertain.append(Left(f"the study {uid}", ISSUER))
        return frozenset(found)

    def _judge(
        self,
        plan: Plan,
        resource: dict[str, object],
        known: HeldStudy | None,
        begun: frozenset[str],
    ) -> None:
        trace = self.traces.trace(resource)
        sources = self._sources
        was_ours = trace.reference in begun  # of which the ledger has forgotten all else
        judged = judge_study(
            resource,
            last_digest=known.digest if known else None,
            is_known=known is not None or was_ours,
            oldest=trace.past.oldest if trace.past and not was_ours else None,
            sources=sources,
        )
        plan.traces.append(trace)
        group = [*trace.witnesses, *self._observations(plan, trace.observations)]
        if judged.fate is Fate.DELETE:
            group.append(trace.reference)
        elif judged.fate is Fate.CLEAR:
            left = cleared(
                resource,
                links=known.links if known else (),
                endpoints=self._endpoints(),
                sources=sources,
                base_url=self.fhir.base_url,
            )
            plan.cleared.append((left, judged.reason))
        if judged.fate is not Fate.DELETE:
            plan.left.append(Left(trace.reference, judged.reason))
        if group:
            plan.deleted.append(tuple(group))
        plan.referrers += [Left(one, f"refers to {trace.reference}") for one in trace.referrers]

    def _observations(self, plan: Plan, found: Iterable[dict[str, object]]) -> Iterator[str]:
        for one in found:
            name, judged = f"Observation/{one['id']}", judge_observation(one)
            if judged.fate is Fate.DELETE:
                yield name
            else:
                plan.left.append(Left(name, judged.reason))

    def _orphans(self, plan: Plan) -> None:
        """Add what was derived from a study that is not there any more."""
        seen = {f"Observation/{one['id']}" for trace in plan.traces for one in trace.observations}
        derived = self.traces.derived(plan.person)
        orphans = [one for one in derived if f"Observation/{one['id']}" not in seen]
        for name in self._observations(plan, orphans):
            plan.deleted.append((*self.traces.witnesses(name), name))

    @property
    def _sources(self) -> frozenset[str]:
        entries = self.config.every_archive
        return frozenset(url for entry in entries if (url := entry.published_url))

    def _endpoints(self) -> frozenset[str]:
        values = [f"{one.name}-{code}" for one in self.config.every_archive for code in codes()]
        return self.traces.own_endpoints(self.config.identifier_system, values)

    def earlier(self, marks: PatientMarks) -> Iterator[str]:
        """Yield what an earlier run was about to remove and has not seen gone."""
        for erasure in self.ledger.erasures.of(marks):
            yield from erasure.items
