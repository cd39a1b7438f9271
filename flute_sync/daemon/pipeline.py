"""One step for one study: read what is missing, decide, and write only the difference.

Every step may be repeated at any time: it is a function of what the archive, the FHIR server and
the ledger hold now.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from flute_sync.coding import issuer_system
from flute_sync.daemon.archive_entries import ArchiveEntry
from flute_sync.daemon.config import Config
from flute_sync.daemon.deriving import Derived, Deriver
from flute_sync.daemon.linking import Linker, news_of
from flute_sync.daemon.outcomes import forgotten, hold, left_out, synced, vanishing
from flute_sync.daemon.pauses import ArchivePauses
from flute_sync.daemon.pseudonymity import Pseudonymity
from flute_sync.daemon.reading import Reader
from flute_sync.daemon.removal import Brake
from flute_sync.daemon.rules import digest_of
from flute_sync.daemon.subject import Last, Subjects, wake_key
from flute_sync.daemon.withdrawal import Removals
from flute_sync.erase_errors import PatientErased
from flute_sync.fhir.candidates import Candidates
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.derived_observations import DerivedObservations
from flute_sync.fhir.endpoints import Endpoints
from flute_sync.fhir.imaging_studies import (
    IMAGING_STUDY,
    Found,
    ImagingStudies,
    Key,
    literal_order,
)
from flute_sync.fhir.patients import Patients
from flute_sync.fhir_errors import FhirRejected
from flute_sync.identity import Identity, PatientSettings, identify
from flute_sync.imaging_study import Context, map_study
from flute_sync.ledger import Claim, FhirRow, Ledger, PatientMarks, Settlement
from flute_sync.own_resources import agent
from flute_sync.patient import Subject
from flute_sync.patient_errors import (
    IdentityError,
    PatientAbsent,
    PatientConflict,
    PatientIdMissing,
    PatientStepConflict,
)
from flute_sync.rejection import accepted, passes_over
from flute_sync.retry import RetrySettings
from flute_sync.selection import judge, judge_patient
from flute_sync.sources.reading import ArchiveReader
from flute_sync.study import Accession, Study, union
from flute_sync.task import TaskEvent


@dataclass(frozen=True)
class Pipeline:
    """What a step needs; one for all workers.

    ``rules`` is a digest of all that decides about a study besides the study itself: when it
    changes, every study is judged again. ``patients`` tells by archive how its patients are
    identified, ``strangers`` how those of any other archive are.
    """

    config: Config
    rules: str
    reader: Reader
    studies: ImagingStudies
    endpoints: Endpoints
    subjects: Subjects
    archives: Mapping[str, ArchiveReader]
    removals: Removals
    linker: Linker
    deriver: Deriver
    patients: Mapping[str, PatientSettings]
    strangers: PatientSettings
    persons: Pseudonymity

    @classmethod
    def build(
        cls,
        config: Config,
        ledger: Ledger,
        fhir: FhirClient,
        archives: Mapping[str, ArchiveReader],
        pauses: ArchivePauses,
        brake: Brake | None = None,
    ) -> "Pipeline":
        """Put a pipeline together from the settings in force; archives are in their order.

        Parameters
        ----------
        brake
            The one that is kept an eye on; none: one of its own.

        Raises
        ------
        LedgerPseudonymsChanged, SecretUnreadable, PseudonymKeyUnusable
            Persons would be told of in another way than before, or cannot be hidden.
        """
        persons = Pseudonymity.bind(config, ledger)
        system = config.identifier_system
        reader = Reader(ledger, archives, pauses)
        patients = {
            entry.name: entry.patient_settings(config.patient) for entry in config.every_archive
        }
        studies = ImagingStudies(
            fhir,
            id_strategy=config.imaging_study.id_strategy,
            agent=agent(system) if config.fhir.provenance else None,
            mover=agent(system),
        )
        endpoints = Endpoints(fhir, system)
        linker = Linker(ledger, Candidates(fhir), config.links, fhir.base_url)
        return cls(
            config=config,
            rules=digest_of(config, persons.rules),
            reader=reader,
            studies=studies,
            endpoints=endpoints,
            subjects=Subjects(Patients(fhir, config.patient), config.select, fhir.base_url),
            archives=archives,
            removals=Removals(
                reader,
                studies,
                linker,
                lambda: _references(endpoints, config.every_archive),
                config.removal,
                brake or Brake(ledger, lambda: config.removal, tuple(archives)),
            ),
            linker=linker,
            deriver=Deriver(
                config.derived, archives, pauses, DerivedObservations(fhir, agent(system))
            ),
            patients=patients,
            strangers=_of_strangers(config.patient, patients.values()),
            persons=persons,
        )

    @property
    def retry(self) -> RetrySettings:
        """How patiently a study is tried again."""
        return self.config.retry

    def step(self, claim: Claim) -> Settlement:
        """Take the step of one study and say what came of it.

        Raises
        ------
        FluteSyncError
            When the step cannot be finished; the ledger decides when it is tried again.
        """
        try:
            self._refuse_erased(claim)
            settlement = self._step(claim)
        except PatientErased as error:
            # What was written of it is taken away by a person, who alone may say that.
            settlement = forgotten() if claim.fhir is None else hold(error)
        return replace(settlement, rules=self.rules)

    def _refuse_erased(self, claim: Claim) -> None:
        if self.reader.ledger.erasures.studies([claim.study_instance_uid]):
            raise PatientErased()

    def _step(self, claim: Claim) -> Settlement:
        read = self.reader.study(claim)
        left = self.removals.judge(claim, read, datetime.now(UTC))
        if left.study is None:
            return self.removals.settle(claim, read.study, left)
        written = self._keep_true(claim, left.study)
        if left.believed or written.event not in (TaskEvent.SYNC, TaskEvent.HOLD):
            return written
        if written.event is TaskEvent.HOLD:  # what holds it may be gone with what is missing
            return replace(written, event=TaskEvent.FAIL, next_attempt_at=left.next_look)
        return vanishing(left.next_look, doubted=left.doubted, written=written)

    def _keep_true(self, claim: Claim, study: Study) -> Settlement:
        verdict = judge(study, self.config.select)
        # What is in FHIR by the rules in force is kept true, however little is left of it.
        is_kept = claim.patient_reference is not None and claim.rules == self.rules
        if not verdict.wanted and not is_kept:
            return left_out(verdict.reason, prune=bool(self.archives))
        told = accepted(study)
        try:
            self.persons.admit(study)
            identity = self._identify(told)
        except PatientStepConflict as error:
            identity = self._identify(replace(told, steps=()))
            if not self._is_confirmed(claim, identity):  # a person said that the archive is right
                return self._keyed(hold(error, self._key(identity)), identity)
        except PatientIdMissing as error:
            if study.headers or not study.steps:
                return hold(error)
            return left_out("no images yet, and no procedure step names a patient", prune=False)
        except IdentityError as error:
            return hold(error)
        keys = frozenset(map(str, identity.sought))
        erased = self._erased(claim, identity, PatientMarks(keys=keys))
        return self._keyed(erased or self._place(claim, study, identity), identity)

    def _erased(self, claim: Claim, identity: Identity, by: PatientMarks) -> Settlement | None:
        """Take nothing of an erased patient, whatever he was called by until now."""
        erasures = self.reader.ledger.erasures
        if not erasures.covers(by):
            return None
        erasures.add(claim.study_instance_uid, by)
        return forgotten() if claim.fhir is None else hold(PatientErased(), self._key(identity))

    def _identify(self, study: Study) -> Identity:
        return self.identity(study, self.strangers)

    def identity(self, study: Study, settings: PatientSettings) -> Identity:
        """Return whom a study names, as the FHIR server may know him.

        Parameters
        ----------
        settings
            How the patients of archives are identified that have no systems of their own.

        Raises
        ------
        IdentityError
        """
        identity = identify(study, settings, self.patients)
        if identity.also and passes_over(study):
            raise PatientConflict("a rejection note names the patient as not all archives do")
        return self.persons.identity(identity)

    def _key(self, identity: Identity) -> str:
        return wake_key(identity.label, self.config.identifier_system)

    def _keyed(self, settlement: Settlement, identity: Identity) -> Settlement:
        """Keep each of several identifiers: any of them may be what the FHIR server changes."""
        system = self.config.identifier_system
        keys = [wake_key(str(key), system) for key in identity.keys] if identity.also else []
        return replace(settlement, keys=tuple(keys))

    def _is_confirmed(self, claim: Claim, identity: Identity) -> bool:
        """Tell whether a person confirmed this patient; what was not asked is not answered."""
        return claim.confirmed and claim.confirmed_identity == self._key(identity)

    def _place(self, claim: Claim, study: Study, identity: Identity) -> Settlement:
        """Find patient and resource on the FHIR server, and write the difference.

        From here on the study holds nothing that the FHIR server may not know.
        """
        kind = self.persons.admit(study)
        study = self.persons.study(study, identity, self._zone(study))
        waiting_for = self._key(identity)
        keys = [(key.system, key.value) for key in identity.sought]
        orders = self._orders(study)
        found = self.studies.find(
            study.study_instance_uid,
            known_id=claim.fhir.resource_id if claim.fhir else None,
            patients=keys,
            orders=sorted(set(orders.values())),
            recreate=claim.confirmed,
        )
        try:
            last = Last(claim.identity == waiting_for, claim.patient_reference)
            confirmed = self._is_confirmed(claim, identity)
            subject = self.subjects.resolve(identity, found, confirmed=confirmed, last=last)
            self.persons.settle(kind)
        except PatientAbsent as error:
            verdict = judge_patient(None, self.config.select)
            if verdict.wanted:
                return hold(error, waiting_for)
            return left_out(verdict.reason, prune=bool(self.archives), waiting_for=waiting_for)
        except IdentityError as error:
            return hold(error, waiting_for)
        verdict = self.subjects.judge(subject)
        if not verdict.wanted:
            return left_out(verdict.reason, prune=bool(self.archives), waiting_for=waiting_for)
        erased = self._erased(claim, identity, _as(subject))  # by a number that he did not have
        if erased is not None:
            return erased
        written = self._write(claim, study, found, subject, orders, identity)
        # A logical subject becomes literal when the Patient arrives.
        literal = "reference" in subject.reference
        return replace(written, identity=waiting_for, waiting_for=None if literal else waiting_for)

    def _write(
        self,
        claim: Claim,
        study: Study,
        found: Found,
        subject: Subject,
        orders: Mapping[Accession, Key],
        identity: Identity,
    ) -> Settlement:
        context = self._context(study, subject, found, orders, identity)
        mapped = map_study(study, context, self.config.mapping)
        derived = Derived()
        if found.study is not None:
            reference = f"{IMAGING_STUDY}/{found.study['id']}"
            derived = self.deriver.keep_true(study, mapped.resource, reference)
        last_digest = claim.fhir.digest if claim.fhir else None
        plan = self.linker.plan(claim, mapped.resource, found.study, last_digest=last_digest)
        try:
            written = self.studies.write(
                study.study_instance_uid,
                plan.resource,
                found.study,
                last_digest=last_digest,
                known_id=claim.fhir.resource_id if claim.fhir else None,
                moved=self.subjects.moves(found.study, subject),
                dropped=plan.dropped,
                account=plan.account,
            )
        except FhirRejected:
            self.endpoints.forget()  # one of them may be gone: the next attempt looks again
            raise
        if found.study is None:
            reference = f"{IMAGING_STUDY}/{written.resource_id}"
            derived = self.deriver.keep_true(study, mapped.resource, reference)
            if derived.changed:  # now there is something to link it to
                made = FhirRow(written.resource_id, written.version_id, written.digest)
                there = self.studies.find(study.study_instance_uid, known_id=made.resource_id)
                again = replace(found, study=there.study)
                return self._write(
                    replace(claim, fhir=made), study, again, subject, orders, identity
                )
        settlement = synced(study, mapped, written, subject, identity.remarks, plan.size)
        sentence = settlement.sentence + derived.sentence
        return replace(settlement, sentence=sentence, links=news_of(plan, written))

    def _context(
        self,
        study: Study,
        subject: Subject,
        found: Found,
        orders: Mapping[Accession, Key],
        identity: Identity,
    ) -> Context:
        reference = str(subject.reference.get("reference", ""))
        requests = {
            accession: order
            for accession, key in orders.items()
            if (order := literal_order(found.service_requests, key, reference)) is not None
        }
        home = self._home(study)
        return Context(
            subject=subject.reference,
            now=datetime.now(UTC),
            endpoints=_references(self.endpoints, self.config.every_archive),
            source=home.published_url if home is not None else None,
            zone=self._zone(study),
            service_requests=requests,
            status_before=found.study.get("status") if found.study is not None else None,
            pseudonyms=self.config.pseudonyms,
            dates_doubted=self.persons.doubts_dates(identity, subject.patient),
        )

    def _zone(self, study: Study) -> ZoneInfo | None:
        home = self._home(study)
        return home.zone if home is not None and home.zone else self.config.site.zone

    def _home(self, study: Study) -> ArchiveEntry | None:
        """Return the archive that says where the study is and in which zone its times are."""
        entries = self.config.every_archive
        return next(
            (one for one in entries if one.name in study.archives), next(iter(entries), None)
        )

    def _orders(self, study: Study) -> dict[Accession, Key]:
        settings = self.config.imaging_study
        systems, default = settings.accession_systems, settings.accession_default_system
        return {
            accession: (system, accession.value)
            for accession in union(study.evidence, lambda header: header.study.accessions)
            if (system := issuer_system(accession.issuer, systems, default)) is not None
        }


def _as(subject: Subject) -> PatientMarks:
    named = subject.reference.get("reference")
    return PatientMarks(references=frozenset() if named is None else frozenset({str(named)}))


def _of_strangers(site: PatientSettings, own: Iterable[PatientSettings]) -> PatientSettings:
    """Return how patients of an archive are identified that is not, or no more, in the settings.

    Where archives number their patients by themselves, whose numbers its are is not known.
    """
    if all(one == site for one in own):
        return site
    return site.model_copy(update={"default_system": None})


def _references(
    endpoints: Endpoints, entries: Sequence[ArchiveEntry]
) -> dict[str, tuple[str, ...]]:
    return {
        entry.name: endpoints.references(entry.name, address)
        for entry in entries
        if (address := entry.published_url) is not None
    }
