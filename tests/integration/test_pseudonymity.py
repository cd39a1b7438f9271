"""What a node may tell of persons: bound to its ledger, and one kind of studies for good."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flute_sync.daemon.config import Config
from flute_sync.daemon.pseudonymity import Pseudonymity
from flute_sync.identity import Identity, PatientKey
from flute_sync.intake import Delivery
from flute_sync.ledger import Ledger
from flute_sync.ledger_errors import LedgerPseudonymsChanged
from flute_sync.patient_errors import StudyIdentified, StudyPartlyIdentified, StudyPseudonymised
from flute_sync.pseudonymous import Source
from flute_sync.study import PatientAttributes, PatientId, Study
from tests.contract.ledger_site import received
from tests.studies import header, series_of, study_of

SYSTEM = "urn:test:pseudonyms"
REMOVED = PatientAttributes(id=PatientId("P1"), identity_removed=True)
NAMED = PatientAttributes(id=PatientId("P1"))


def of(*patients: PatientAttributes) -> Study:
    return study_of(*(series_of(n, header(patient=one)) for n, one in enumerate(patients, 1)))


class Node:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "pseudonym.key"
        self.give_key("a key of the site's own, long enough to be one")
        config = self.config()
        self.ledger = Ledger.open(config.ledger, config.study, create=True, archives=("pacs",))

    def give_key(self, text: str) -> None:
        self.key.unlink(missing_ok=True)
        with open(os.open(self.key, os.O_CREAT | os.O_WRONLY, 0o400), "w") as file:
            file.write(text)

    def config(self, **pseudonyms: Any) -> Config:
        return Config.model_validate(
            {
                "fhir": {"base_url": "http://fhir.example/r4"},
                "ledger": {"url": f"sqlite:///{self.folder / 'ledger.db'}"},
                "stow_rs": {"mode": "index"},
                "patient": {"default_system": "urn:hospital"},
                "pseudonyms": pseudonyms,
            }
        )

    def bound(self, **pseudonyms: Any) -> Pseudonymity:
        return Pseudonymity.bind(self.config(**pseudonyms), self.ledger)

    def keyed(self, **more: Any) -> Pseudonymity:
        said = {"mode": "hmac", "key_file": str(self.key), "system": SYSTEM}
        return self.bound(**(said | more))

    def take(self) -> None:
        """Let the ledger know of a study."""
        self.ledger.deliver(Delivery("test", "pacs", datetime.now(UTC), received([1])))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.ledger.close()


def test_the_first_study_that_is_written_decides(node: Node) -> None:
    node.take()
    persons = node.bound()
    assert persons.admit(of(NAMED)) is Source.IDENTIFIED
    kind = persons.admit(of(REMOVED))
    assert kind is Source.PSEUDONYMISED  # nothing is written yet
    persons.settle(kind)
    with pytest.raises(StudyIdentified):
        persons.admit(of(NAMED))
    with pytest.raises(StudyIdentified):  # it was admitted a moment before
        persons.settle(Source.IDENTIFIED)
    again = node.bound()
    with pytest.raises(StudyIdentified):
        again.admit(of(NAMED))
    with pytest.raises(LedgerPseudonymsChanged):
        node.bound(sources="identified")


def test_two_processes_decide_alike(node: Node) -> None:
    node.take()
    one, other = node.bound(), node.bound()
    one.settle(Source.IDENTIFIED)
    with pytest.raises(StudyPseudonymised):
        other.settle(Source.PSEUDONYMISED)


def test_what_the_settings_state_holds_from_the_first_study_on(node: Node) -> None:
    persons = node.bound(sources="pseudonymised")
    with pytest.raises(StudyIdentified):
        persons.admit(of(NAMED))
    with pytest.raises(StudyPartlyIdentified):
        persons.admit(of(NAMED, REMOVED))
    assert node.bound(sources="pseudonymised", unmarked="pseudonymised").admit(of(NAMED))


def test_another_key_is_refused_while_the_node_runs_too(node: Node) -> None:
    node.keyed()
    node.take()
    node.keyed(birth_date="none", largest_shift=70)
    node.give_key("another key of this site, long enough to be one")
    with pytest.raises(LedgerPseudonymsChanged) as raised:
        node.keyed()
    assert "another key" in raised.value.sentence
    assert "long enough" not in raised.value.sentence


@pytest.mark.parametrize(
    "more",
    [{"dates": "shifted-here"}, {"system": "urn:test:others"}, {"mode": "off"}],
    ids=["dates", "system", "off"],
)
def test_what_would_tell_of_persons_in_another_way_is_refused(
    node: Node, more: dict[str, Any]
) -> None:
    node.keyed()
    node.take()
    with pytest.raises(LedgerPseudonymsChanged):
        node.keyed(**more)


@pytest.mark.parametrize(
    ("identifiers", "doubted"),
    [
        (["own"], False),
        (["own", "another"], True),
        (["another"], True),
        ([], True),
    ],
)
def test_the_dates_of_who_was_merged_are_doubted(
    node: Node, identifiers: list[str], doubted: bool
) -> None:
    persons = node.keyed(dates="shifted-here")
    who = Identity(PatientKey(SYSTEM, "own"))
    stated = [{"system": SYSTEM, "value": one} for one in identifiers]
    patient = {"identifier": [*stated, {"system": "urn:project", "value": "7"}, None]}
    assert persons.doubts_dates(who, patient) is doubted
    assert persons.doubts_dates(who, None) is False
    assert node.bound().doubts_dates(who, patient) is False  # where nothing is shifted
