"""What archives, ledger and FHIR server say of every study, brought together study by study.

Each is listed once, to a scratch file that sorts; memory does not grow with the archive. What
looks wrong is looked at again before it is said: the lists were made one after the other, while
the service may have been at work.
"""

import hashlib
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, date, datetime
from typing import Any, Final

from flute_sync.daemon.workshop import Workshop
from flute_sync.fhir.patients import PATIENT, Patients
from flute_sync.fhir.survey import Survey, identifier_values
from flute_sync.identity import PatientKey
from flute_sync.ledger import Scratch
from flute_sync.patient_errors import IdentityError
from flute_sync.reconciliation import Case, Held, Known, Listed, Said
from flute_sync.sources.listing import Choice
from flute_sync.sources.poller import Stop
from flute_sync.sources.search import PATIENT_ID, StudyRow, text
from flute_sync.study import Issuer, PatientId, Study, StudyInstanceUID
from flute_sync.task import State
from flute_sync.valuerep import Unusable

_ISSUER: Final = "00100021"
_CENSUS: Final = 1000
_ARCHIVE, _LEDGER, _FHIR = "archive", "ledger", "fhir"


class Comparison:
    """Lists everything, and looks again at single studies.

    Parameters
    ----------
    archives
        Names of those to list.
    """

    def __init__(self, shop: Workshop, archives: tuple[str, ...], choice: Choice) -> None:
        self.survey = Survey(shop.fhir)
        self.endpoints: set[str] = set()
        """Ids of all Endpoints that were seen to be referred to."""
        self._shop, self._archives, self._choice = shop, archives, choice
        self._salt = secrets.token_bytes(16)
        lookup = shop.config.patient.model_copy(update={"policy": "lookup"})
        self._patients = Patients(shop.fhir, lookup)

    def gather(self, scratch: Scratch, stop: Stop, say: Callable[[str], None]) -> None:
        """List all three sides; the ledger last, so that it knows of what was listed.

        Parameters
        ----------
        say
            Told of which side the list is being read.

        Raises
        ------
        FluteSyncError
            One of them cannot be listed to its end: nothing can be concluded then.
        """
        for name in self._archives:
            pages = self._shop.listing(name).pages(self._choice, None, datetime.now(UTC), stop)
            for page in pages:
                say(name)
                erased = self._shop.ledger.erasures.studies(
                    [row.study_instance_uid for row in page.rows]
                )
                rows = (row for row in page.rows if row.study_instance_uid not in erased)
                scratch.put(_ARCHIVE, (self._archive_fact(name, row) for row in rows))
        for studies in self.survey.studies():
            say("the FHIR server")
            self.endpoints.update(one for _, said in studies for one in said.endpoints)
            scratch.put(_FHIR, ((uid, _from_said(said)) for uid, said in studies))
            if stop():
                return
        known, after = self._shop.ledger.census(0, _CENSUS)
        while known and not stop():
            scratch.put(_LEDGER, ((one.study_instance_uid, _from_known(one)) for one in known))
            known, after = self._shop.ledger.census(after, _CENSUS)

    def cases(self, scratch: Scratch) -> Iterator[Case]:
        """Yield every study that any side knows, in the order of UIDs."""
        for uid, facts in scratch.by_key():
            yield _case(StudyInstanceUID(uid), facts)

    def again(self, uid: StudyInstanceUID) -> Case:
        """Ask all three sides of one study."""
        rows = [(name, self._shop.archives[name].reader.counts(uid)) for name in self._archives]
        listed = tuple(self._listed(name, row) for name, row in rows if row is not None)
        known = self._shop.ledger.known([uid])
        case = Case(uid, listed, known[0] if known else None, self.survey.of_study(uid))
        return self.judged([case])[0]

    def known(self, uids: Collection[StudyInstanceUID]) -> set[StudyInstanceUID]:
        """Return which of these the ledger knows now."""
        return {one.study_instance_uid for one in self._shop.ledger.known(sorted(uids))}

    # -- patients ----------------------------------------------------------------------------

    def judged(self, cases: Iterable[Case]) -> list[Case]:
        """Say of each study whether its subject is certainly another than the archive names."""
        cases = list(cases)
        concerned = [case for case in cases if _names_somebody(case)]
        ids = {_id(case.current.subject) for case in concerned if case.current}
        patients = self.survey.patients({one for one in ids if one})
        wrong = {
            case.study_instance_uid for case in concerned if self._is_of_another(case, patients)
        }
        return [_marked(case) if case.study_instance_uid in wrong else case for case in cases]

    def _is_of_another(self, case: Case, patients: dict[str, dict[str, Any]]) -> bool:
        subject = case.current.subject if case.current is not None else None
        expected = case.known.patient_reference if case.known is not None else None
        if subject is None:
            return False
        if expected is not None and expected != subject:
            return self._survivor(expected) != self._survivor(subject)
        patient = patients.get(_id(subject) or "")
        stated = {one for listed in case.listed for one in listed.patients}
        if patient is None or not stated:
            return False
        borne = {self._digest(value) for value in identifier_values(patient)}
        return not stated & borne and self._resolves_elsewhere(case, subject)

    def _survivor(self, reference: str) -> str | None:
        return self._patients.survivor(_id(reference) or "")

    def _resolves_elsewhere(self, case: Case, subject: str) -> bool:
        """Resolve the identifier that the archive states; True where that is somebody else."""
        pipeline = self._shop.pipeline
        for listed in case.listed:
            row = self._shop.archives[listed.archive].reader.counts(case.study_instance_uid)
            stated = _stated(row)
            of_archive = pipeline.patients.get(listed.archive, pipeline.config.patient)
            if stated is None or (stated.issuer is None and of_archive.systems):
                continue  # whose number it is can only be told from its instances
            study = Study(
                case.study_instance_uid, patient_ids={listed.archive: frozenset({stated})}
            )
            try:
                identity = pipeline.identity(study, pipeline.config.patient)
                found = self._patients.resolve(identity).reference.get("reference")
            except IdentityError:
                continue
            if found is not None and self._survivor(str(found)) != self._survivor(subject):
                return True
        return False

    def _digest(self, value: str) -> str:
        return hashlib.blake2b(value.encode(), key=self._salt, digest_size=8).hexdigest()

    # -- facts -------------------------------------------------------------------------------

    def _archive_fact(self, name: str, row: StudyRow) -> tuple[str, Any]:
        listed = self._listed(name, row)
        patients = sorted(listed.patients)
        value = [name, listed.series, listed.instances, listed.fingerprint, patients]
        return row.study_instance_uid, value

    def _listed(self, name: str, row: StudyRow) -> Listed:
        numbers = {number for one in row.attributes if (number := text(one, PATIENT_ID))}
        stated = {known for one in numbers for known in self._known_as(name, one)}
        return Listed(
            name,
            row.series_count,
            row.instance_count,
            row.fingerprint,
            frozenset(map(self._digest, stated)),
        )

    def _known_as(self, archive: str, number: str) -> Iterator[str]:
        """Yield as what the FHIR server may know a number of an archive, whoever issued it."""
        pipeline = self._shop.pipeline
        settings = pipeline.patients.get(archive, pipeline.config.patient)
        for system in {settings.default_system or "", *settings.systems.values()}:
            try:
                yield pipeline.persons.key(PatientKey(system, number)).value
            except Unusable:
                yield number  # it matches nothing: the study is looked at by itself


def _names_somebody(case: Case) -> bool:
    return bool(case.listed and case.known and case.current and case.current.subject)


def _marked(case: Case) -> Case:
    return Case(case.study_instance_uid, case.listed, case.known, case.said, is_of_another=True)


def _id(reference: str | None) -> str | None:
    return reference.removeprefix(f"{PATIENT}/") if reference else None


def _stated(row: StudyRow | None) -> PatientId | None:
    """Return the one Patient ID that an archive states; None where it is none or several."""
    if row is None:
        return None
    ids = {(text(one, PATIENT_ID), text(one, _ISSUER)) for one in row.attributes}
    if len(ids) != 1:
        return None
    ((value, issuer),) = ids
    return PatientId(value, Issuer(issuer) if issuer else None) if value else None


def _case(uid: StudyInstanceUID, facts: list[tuple[str, Any]]) -> Case:
    listed: dict[str, Listed] = {}
    known = None
    said = []
    for kind, value in facts:
        if kind == _ARCHIVE:
            name, series, instances, fingerprint, patients = value
            if name in listed:  # filed under several patients: its rows came apart
                fingerprint, patients = None, [*patients, *listed[name].patients]
            listed[name] = Listed(name, series, instances, fingerprint, frozenset(patients))
        elif kind == _LEDGER:
            known = _to_known(uid, value)
        else:
            said.append(_to_said(value))
    return Case(uid, tuple(listed.values()), known, tuple(said))


def _from_known(known: Known) -> list[Any]:
    archives = {
        name: [held.series, held.instances, held.fingerprint, held.is_absent]
        for name, held in known.archives.items()
    }
    return [
        known.state.value,
        known.code,
        known.series,
        known.instances,
        known.resource_id,
        known.version_id,
        known.patient_reference,
        archives,
    ]


def _to_known(uid: StudyInstanceUID, value: list[Any]) -> Known:
    state, code, series, instances, resource_id, version_id, patient, archives = value
    return Known(
        study_instance_uid=uid,
        state=State(state),
        code=code,
        series=series,
        instances=instances,
        resource_id=resource_id,
        version_id=version_id,
        patient_reference=patient,
        archives={name: Held(*held) for name, held in archives.items()},
    )


def _from_said(said: Said) -> list[Any]:
    return [
        said.resource_id,
        said.version_id,
        said.status,
        said.subject,
        said.series,
        said.instances,
        said.started and said.started.isoformat(),
        said.endpoints,
        said.source,
    ]


def _to_said(value: list[Any]) -> Said:
    resource_id, version_id, status, subject, series, instances, started, endpoints, source = value
    return Said(
        resource_id=resource_id,
        version_id=version_id,
        status=status,
        subject=subject,
        series=series,
        instances=instances,
        started=date.fromisoformat(started) if started else None,
        endpoints=tuple(endpoints),
        source=source,
    )
