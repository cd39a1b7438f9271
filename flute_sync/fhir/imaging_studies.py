"""The ImagingStudy of a study: found in whatever form it is there, written without harm.

Requests: a new study takes one batch (look-up), one create, one search (duplicates); a changed
one takes one read and one update; an unchanged one the read alone.
"""

import logging
import random
import time
from base64 import b32encode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, Literal

from flute_sync.bundle import (
    Account,
    Entry,
    Resource,
    Result,
    full_url,
    version_of,
    witnessed,
)
from flute_sync.events import Event, fields
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.moves import REASON, Mover
from flute_sync.fhir.queries import identifier_search, study_criteria, study_search
from flute_sync.fhir.questions import Question, Read, Search, ask
from flute_sync.fhir.uniqueness import Pause, others_than_ours
from flute_sync.fhir_errors import FhirAmbiguous, FhirConflict, FhirGone, FhirServerError
from flute_sync.link_elements import without_links
from flute_sync.ownership import bears, bears_uid, digest, merge, same

log = logging.getLogger(__name__)

IMAGING_STUDY: Final = "ImagingStudy"
_MOST_TRIES: Final = 5
Key = tuple[str, str]
"""An identifier: system and value."""
Witness = Literal["witnessed", "unwitnessed"]


@dataclass(frozen=True, slots=True)
class Found:
    """What one look-up found.

    ``patients`` bear one of the keys asked for, ``service_requests`` one of the orders.
    """

    study: Resource | None
    patients: tuple[Resource, ...] = ()
    service_requests: tuple[Resource, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What a write came to; ``digest`` belongs into the ledger, for the next write.

    ``moved``: the subject became another one, with or without a Provenance of that; ``linked``
    the same for links that changed.
    """

    outcome: Literal["created", "updated", "unchanged"]
    resource_id: str
    version_id: str | None
    digest: str
    adopted: bool = False
    moved: Witness | None = None
    linked: Witness | None = None


@dataclass(frozen=True, slots=True)
class _Write:
    """What `ImagingStudies.write` was asked for."""

    uid: str
    ours: Resource
    last_digest: str | None
    known_id: str | None
    moved: bool
    dropped: Collection[str]
    account: Account | None

    @property
    def whole_account(self) -> Account | None:
        """The account of links, and of a move."""
        if not self.moved:
            return self.account
        account = self.account or Account()
        return replace(account, reasons=(REASON, *account.reasons))


def hash_id(study_instance_uid: str) -> str:
    """Return the id of our own choosing, from which nobody can read the UID."""
    hashed = sha256(study_instance_uid.encode("ascii")).digest()
    return "is-" + b32encode(hashed).decode("ascii").rstrip("=").lower()[:40]


class ImagingStudies:
    """Reads and writes the ImagingStudy of a study.

    Parameters
    ----------
    id_strategy
        ``server``: conditional create; ``hash``: an id of our own choosing.
    agent
        Who writes, as a FHIR Reference; with it, every write carries a Provenance.
    mover
        Who writes, for moves to another patient and for links: they carry one wherever the server
        takes it.
    """

    def __init__(
        self,
        client: FhirClient,
        *,
        id_strategy: Literal["server", "hash"] = "server",
        agent: Mapping[str, Any] | None = None,
        mover: Mapping[str, Any] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: Pause = time.sleep,
    ) -> None:
        self._client = client
        self._hash = id_strategy == "hash"
        self._agent = agent
        self._mover = agent or mover
        self._clock = clock
        self._pause = pause

    def find(
        self,
        study_instance_uid: str,
        *,
        known_id: str | None = None,
        patients: Sequence[Key] = (),
        orders: Sequence[Key] = (),
        recreate: bool = False,
    ) -> Found:
        """Look up a study, and in the same request Patients and ServiceRequests.

        Parameters
        ----------
        known_id
            The ImagingStudy's id as the ledger knows it.
        patients, orders
            Identifiers to look for.
        recreate
            Whether a person said that a deleted ImagingStudy shall be created anew.

        Raises
        ------
        FhirAmbiguous
            Several ImagingStudies are of this study and none is clearly ours.
        FhirGone
            It was deleted.
        """
        uid = study_instance_uid
        questions: list[Question] = [Read(IMAGING_STUDY, known_id)] if known_id else _by_uid(uid)
        if patients:
            questions.append(Search("Patient", identifier_search(patients)))
        if orders:
            questions.append(Search("ServiceRequest", identifier_search(orders)))
        try:
            answers = ask(self._client, questions)
        except FhirGone:
            if not recreate:
                raise
            return self.find(uid, patients=patients, orders=orders)
        studies = answers.pop(0)
        study = self._choose(uid, studies, known_id) or (self._search(uid) if known_id else None)
        people = answers.pop(0) if patients else []
        requests = answers.pop(0) if orders else []
        return Found(study, _bearing(people, patients), _bearing(requests, orders))

    def _search(self, uid: str) -> Resource | None:
        return self._choose(uid, ask(self._client, _by_uid(uid))[0], None)

    def _of_study(self, uid: str) -> list[Resource]:
        found = self._client.search(IMAGING_STUDY, study_search(uid))
        return [study for study in found if bears_uid(study, uid)]

    def _choose(self, uid: str, found: list[Resource], known_id: str | None) -> Resource | None:
        """Return the one ImagingStudy that is of the study."""
        studies = [study for study in found if bears_uid(study, uid)]
        if found and not studies:
            if known_id:
                raise FhirAmbiguous("the ImagingStudy we wrote is now of another study")
            raise FhirServerError("a search by identifier finds what does not bear it")
        if len(studies) > 1:
            mine = [study for study in studies if study["id"] in {known_id, hash_id(uid)}]
            valid = [study for study in studies if study.get("status") != "entered-in-error"]
            studies = mine if len(mine) == 1 else valid
        if len(studies) > 1:
            raise FhirAmbiguous(f"{len(studies)} of them", study_instance_uid=uid)
        return studies[0] if studies else None

    def write(
        self,
        study_instance_uid: str,
        ours: Resource,
        found: Resource | None,
        *,
        last_digest: str | None = None,
        known_id: str | None = None,
        moved: bool = False,
        dropped: Collection[str] = (),
        account: Account | None = None,
    ) -> Written:
        """Bring the server to what ``ours`` says, and nothing where it says it already.

        Parameters
        ----------
        ours
            The resource as the mapping makes it, without id.
        found
            What `find` found.
        last_digest
            `Written.digest` of our last write.
        known_id
            The id of our last write; another one found now is taken over.
        moved
            Whether it goes to another patient.
        dropped
            Links of ours that go, ``Type/id``.
        account
            Why its links are what they are, where they change.

        Raises
        ------
        FhirConflict
            Others write to it all the time, or gave it another subject: that must be judged anew.
        FhirAmbiguous, FhirRejected
            It cannot be written.
        """
        what = _Write(study_instance_uid, ours, last_digest, known_id, moved, dropped, account)
        current = found
        for attempt in range(_MOST_TRIES):
            if current is not found:
                _refuse_another_subject(current, found or ours)
            try:
                if current is not None:
                    return self._update(what, current)
                created = self._create(what)
                if isinstance(created, Written):
                    return self._accounted(created, what)
                current = created
            except FhirConflict:
                if attempt + 1 == _MOST_TRIES:
                    raise
                self._pause(random.uniform(0, 0.05) * 2**attempt)
                current = self._again(study_instance_uid, current)
        raise FhirConflict("created and deleted again by others")

    def _again(self, uid: str, current: Resource | None) -> Resource | None:
        known = None if current is None else str(current["id"])
        return self.find(uid, known_id=known).study

    def _update(self, what: _Write, current: Resource) -> Written:
        resource_id, version = str(current["id"]), version_of(current)
        adopted = what.known_id != resource_id
        left = without_links(current, what.dropped, self._client.base_url)
        merged = merge(left, what.ours, None if adopted else what.last_digest)
        if adopted:
            reference = f"{IMAGING_STUDY}/{resource_id}"
            about = fields(Event.FHIR_ADOPTED, study_instance_uid=what.uid, reference=reference)
            log.info("an existing ImagingStudy is taken over", extra=about)
        written = Written("unchanged", resource_id, version, digest(what.ours), adopted)
        if same(current, merged):
            return written
        if version is None:
            raise FhirServerError("an ImagingStudy has no meta.versionId")
        account = what.whole_account
        if account is None or self._mover is None:
            result = self._put(merged, version)
            return replace(written, outcome="updated", version_id=result.version)
        mover = Mover(self._client, self._mover, self._clock(), account)
        result, is_witnessed = mover.put(merged, version)
        how: Witness = "witnessed" if is_witnessed else "unwitnessed"
        return replace(
            written,
            outcome="updated",
            version_id=result.version,
            moved=how if what.moved else None,
            linked=how if what.account is not None else None,
        )

    def _accounted(self, created: Written, what: _Write) -> Written:
        """Account for the links of a study that was created; a Provenance of all is there."""
        if what.account is None or self._mover is None:
            return created
        if self._agent is not None:
            return replace(created, linked="witnessed")
        version = f"/_history/{created.version_id}" if created.version_id else ""
        target = f"{IMAGING_STUDY}/{created.resource_id}{version}"
        mover = Mover(self._client, self._mover, self._clock(), what.account)
        return replace(created, linked="witnessed" if mover.created(target) else "unwitnessed")

    def _put(
        self, resource: Resource, version: str | None, account: Account | None = None
    ) -> Result:
        if self._agent is None:
            return self._client.update(resource, if_match=version)
        entry = Entry(
            "PUT",
            f"{IMAGING_STUDY}/{resource['id']}",
            resource,
            if_match=version,
            if_none_match="*" if version is None else None,
        )
        said = witnessed(entry, self._clock(), self._agent, account or Account())
        return self._client.transaction(said)[0]

    def _create(self, what: _Write) -> Written | Resource | None:
        """Create the study; return what exists instead, None if that has gone again."""
        uid, ours = what.uid, what.ours
        if self._hash:
            chosen = hash_id(uid)
            result = self._put({**ours, "id": chosen}, None, what.account)
            return Written("created", chosen, result.version, digest(ours))
        result = self._post(what)
        if result.status != 201:
            # Nothing was written: 200 means that one exists (FHIR R4 http.html#ccreate).
            return self.find(uid, known_id=result.id).study
        others = others_than_ours(
            self._client, result, IMAGING_STUDY, lambda: self._of_study(uid), self._pause
        )
        if others:
            return self._choose(uid, others, None)
        return Written("created", str(result.id), result.version, digest(ours))

    def _post(self, what: _Write) -> Result:
        uid, ours = what.uid, what.ours
        criteria = study_criteria(uid)
        if self._agent is None:
            return self._client.create(ours, if_none_exist=criteria)
        entry = Entry(
            "POST", IMAGING_STUDY, ours, full_url(IMAGING_STUDY, uid), if_none_exist=criteria
        )
        said = witnessed(entry, self._clock(), self._agent, what.account or Account())
        return self._client.transaction(said)[0]


def _refuse_another_subject(current: Resource | None, judged: Resource) -> None:
    """Refuse to write over a subject that nobody compared with the patient of the study."""
    if current is not None and current.get("subject") != judged.get("subject"):
        raise FhirConflict("its subject is another than was found")


def _by_uid(uid: str) -> list[Question]:
    return [Search(IMAGING_STUDY, study_search(uid))]


def _bearing(resources: Sequence[Resource], keys: Sequence[Key]) -> tuple[Resource, ...]:
    return tuple(found for found in resources if any(bears(found, *key) for key in keys))


def literal_order(
    service_requests: Sequence[Resource], key: Key, patient_reference: str
) -> str | None:
    """Return the reference of the one ServiceRequest of a patient that bears a number."""
    found = [
        f"ServiceRequest/{request['id']}"
        for request in service_requests
        if bears(request, *key) and _subject(request) == patient_reference
    ]
    return found[0] if len(found) == 1 else None


def _subject(resource: Mapping[str, Any]) -> str | None:
    subject = resource.get("subject")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    return reference if isinstance(reference, str) else None
