"""A study in two archives that number the patient by themselves: proven by FHIR, or held."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from flute_sync.daemon.pauses import Pause
from flute_sync.daemon.watch import PatientAlarm
from flute_sync.fhir.patient_watch import PatientWatch
from flute_sync.sandbox.server import Sandbox
from flute_sync.study import Code, Header, KeyObjects, PatientAttributes, PatientId, Reference
from flute_sync.task import State
from flute_sync.terminology import KEY_OBJECT_SELECTION, REJECTED_FOR_PATIENT_SAFETY
from tests.contract.fhir_rest import created, new_patient, reference, update
from tests.contract.ledger_site import STUDY, received
from tests.integration.two_archives import SYSTEM, Daemon, images, resource

COPY = "urn:test:copies"
Open = Callable[..., Daemon]


@pytest.fixture
def fhir(tmp_path: Path) -> Iterator[httpx.Client]:
    with (
        Sandbox(tmp_path) as sandbox,
        httpx.Client(base_url=sandbox.fhir_url, timeout=60) as client,
    ):
        yield client


@pytest.fixture
def daemon(tmp_path: Path, fhir: httpx.Client) -> Iterator[Open]:
    """Open a site of which the second archive has numbers of its own."""
    with ExitStack() as opened:

        def open_(**more: Any) -> Daemon:
            made = Daemon(tmp_path, str(fhir.base_url).rstrip("/"), {"second": COPY}, **more)
            opened.callback(made.close)
            made.first.received, made.second.received = images("17"), images("4711")
            return made

        yield open_


def numbers(*values: str) -> list[dict[str, str]]:
    """Identifiers, those of four digits of the second archive."""
    return [{"system": COPY if len(one) > 3 else SYSTEM, "value": one} for one in values]


def person(fhir: httpx.Client, *values: str, **elements: Any) -> Any:
    return created(fhir, new_patient(SYSTEM, **{"identifier": numbers(*values), **elements}))


def subject(fhir: httpx.Client) -> str | None:
    found = resource(fhir)
    return None if found is None else found["subject"].get("reference")


@pytest.mark.parametrize("order", ["12", "21", "1221"])
def test_numbers_of_one_patient_are_one_study_with_the_endpoints_of_both(
    daemon: Open, fhir: httpx.Client, order: str
) -> None:
    patient, site = person(fhir, "17", "4711"), daemon()
    shelves = {"1": site.first, "2": site.second}
    said = site.read(*(shelves[one] for one in order))
    found = resource(fhir)
    assert found is not None
    assert "patient-ids-joined" in said
    assert found["subject"]["reference"] == reference(patient)
    assert len(found["endpoint"]) == 4
    site.read(site.second, site.first)
    assert resource(fhir) == found


def test_numbers_that_a_merge_made_one_patients_are_one_study(
    daemon: Open, fhir: httpx.Client
) -> None:
    left, site = person(fhir, "17"), daemon()
    link = {"type": "replaced-by", "other": {"reference": reference(left)}}
    person(fhir, "4711", active=False, link=[link])
    assert site.read(site.first, site.second).startswith(State.COMPLETED)
    assert subject(fhir) == reference(left)


def test_numbers_of_two_patients_are_held_until_they_are_one_patients(
    daemon: Open, fhir: httpx.Client
) -> None:
    """Each way to make them one wakes the study, whichever Patient it touches."""
    site = daemon()
    mine, theirs = person(fhir, "17"), person(fhir, "4711")
    alarm = PatientAlarm(
        site.ledger,
        PatientWatch(site.client),
        Pause("fhir"),
        lambda: site.config.identifier_system,
    )

    def watched() -> str:
        alarm.step(datetime.now(UTC), lambda: False)
        return site.work()

    site.deliver_all()
    assert "PATIENT-CONFLICT" in site.work()
    assert resource(fhir) is None
    assert "PATIENT-CONFLICT" in watched()
    update(fhir, {**theirs, "identifier": numbers("4712")})
    assert "PATIENT-CONFLICT" in site.read(site.first)  # one of them is nobody's now
    assert resource(fhir) is None
    link = {"type": "replaced-by", "other": {"reference": reference(mine)}}
    update(fhir, {**theirs, "identifier": numbers("4711"), "active": False, "link": [link]})
    assert watched().startswith(State.COMPLETED)
    assert subject(fhir) == reference(mine)


def test_a_patient_who_gets_the_second_number_later_ends_the_hold(
    daemon: Open, fhir: httpx.Client
) -> None:
    site, mine = daemon(), person(fhir, "17")
    alarm = PatientAlarm(
        site.ledger,
        PatientWatch(site.client),
        Pause("fhir"),
        lambda: site.config.identifier_system,
    )
    alarm.step(datetime.now(UTC), lambda: False)
    site.deliver_all()
    assert "PATIENT-CONFLICT" in site.work()
    assert resource(fhir) is None
    update(fhir, {**mine, "identifier": numbers("17", "4711")})
    alarm.step(datetime.now(UTC), lambda: False)
    assert site.work().startswith(State.COMPLETED)
    assert subject(fhir) == reference(mine)


@pytest.mark.parametrize("policy", ["lookup", "logical", "create"])
def test_whom_nobody_knows_is_neither_made_nor_stated(
    daemon: Open, fhir: httpx.Client, policy: str
) -> None:
    site = daemon(policy=policy)
    site.deliver_all()
    code = "PATIENT-ABSENT" if policy == "lookup" else "PATIENT-CONFLICT"
    assert code in site.work()
    assert resource(fhir) is None
    assert fhir.get("/Patient").json().get("entry", []) == []
    person(fhir, "17", "4711")
    assert site.read(site.first).startswith(State.COMPLETED)


@pytest.mark.parametrize("about", [{"sex": "F"}, {"birth_date": date(1960, 1, 2)}])
@pytest.mark.parametrize("contradicts", ["first", "second"])
def test_what_either_archive_says_of_the_person_must_hold(
    daemon: Open, fhir: httpx.Client, contradicts: str, about: dict[str, Any]
) -> None:
    site = daemon()
    person(fhir, "17", "4711")
    shelf, value = {"first": (site.first, "17"), "second": (site.second, "4711")}[contradicts]
    shelf.received = images(value, **about)
    site.deliver_all()
    assert "PATIENT-CONTRADICTED" in site.work()
    assert resource(fhir) is None
    shelf.received = images(value)
    assert site.read(shelf).startswith(State.COMPLETED)


def test_a_correction_in_one_archive_holds_and_in_both_moves_when_confirmed(
    daemon: Open, fhir: httpx.Client
) -> None:
    site, was, now = daemon(), person(fhir, "17", "4711"), person(fhir, "18", "4712")
    site.read(site.first, site.second)
    before = resource(fhir)
    site.second.received = images("4712")
    assert "PATIENT-CONFLICT" in site.read(site.second)
    site.ledger.replay(STUDY)
    assert "PATIENT-CONFLICT" in site.work()  # which nobody can confirm
    assert resource(fhir) == before
    site.first.received = images("18")
    assert "PATIENT-CHANGED" in site.read(site.first)
    assert resource(fhir) == before
    assert subject(fhir) == reference(was)
    site.ledger.replay(STUDY)
    assert site.work().startswith(State.COMPLETED)
    assert subject(fhir) == reference(now)


def test_what_stands_in_fhir_stays_when_its_numbers_become_two_patients(
    daemon: Open, fhir: httpx.Client
) -> None:
    site, mine = daemon(), person(fhir, "17", "4711")
    site.read(site.first, site.second)
    before = resource(fhir)
    update(fhir, {**mine, "identifier": numbers("17")})
    person(fhir, "4711")
    assert "PATIENT-CONFLICT" in site.read(site.first)
    assert resource(fhir) == before


def test_numbers_that_became_another_patients_together_are_followed(
    daemon: Open, fhir: httpx.Client
) -> None:
    site, mine = daemon(), person(fhir, "17", "4711")
    site.read(site.first, site.second)
    update(fhir, {**mine, "identifier": numbers("18")})
    again = person(fhir, "17", "4711")
    assert site.read(site.first).startswith(State.COMPLETED)
    assert subject(fhir) == reference(again)


def test_a_number_that_came_with_the_move_of_its_patient_is_a_persons_matter(
    daemon: Open, fhir: httpx.Client
) -> None:
    """Neither side alone says that it is the same person as before."""
    site, mine = daemon(), person(fhir, "17")
    site.read(site.first)
    before = resource(fhir)
    update(fhir, {**mine, "identifier": numbers("18")})
    person(fhir, "17", "4711")
    assert "PATIENT-CHANGED" in site.read(site.second)
    assert resource(fhir) == before


def test_a_note_that_only_the_other_archive_has_is_not_passed_over(
    daemon: Open, fhir: httpx.Client
) -> None:
    """It names the patient by the other number: whether it counts is not known."""
    site = daemon()
    person(fhir, "17", "4711")
    taken = tuple(
        Reference(STUDY, one.series_instance_uid, one.instance.sop_instance_uid)
        for one in images("17")
    )
    (note,) = received([90])
    title = Code(REJECTED_FOR_PATIENT_SAFETY, "DCM")
    said = Header(
        KEY_OBJECT_SELECTION,
        PatientAttributes(id=PatientId("4711")),
        key_objects=KeyObjects(title, taken),
    )
    site.second.received = (
        *images("4711"),
        note._replace(instance=note.instance._replace(header=said)),
    )
    site.deliver_all()
    assert "PATIENT-CONFLICT" in site.work()
    assert resource(fhir) is None
    site.second.received = images("4711")
    assert site.read(site.second).startswith(State.COMPLETED)
