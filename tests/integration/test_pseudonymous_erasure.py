"""A patient of a pseudonymous node withdraws, by his pseudonym or by the hospital's number."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from flute_sync.daemon.audit import Audit, EraseSettings
from flute_sync.daemon.config import Config
from flute_sync.daemon.erase_plan import Planner
from flute_sync.daemon.erasing import Eraser
from flute_sync.daemon.pauses import ArchivePauses
from flute_sync.daemon.pipeline import Pipeline
from flute_sync.erase_errors import EraseUnknown
from flute_sync.fhir.client import FhirClient
from flute_sync.intake import Delivery
from flute_sync.ledger import Ledger
from flute_sync.pseudonym import Kind, PseudonymKey
from flute_sync.pseudonym_settings import PseudonymSettings
from flute_sync.sandbox.server import Sandbox
from flute_sync.study import PatientAttributes, PatientId, StudyInstanceUID
from tests.contract.fhir_site import new_uid
from tests.contract.ledger_site import HEADER, received
from tests.tap import Tap

SYSTEM, HOSPITAL = "urn:test:pseudonyms", "urn:test:hospital"
KEY = PseudonymKey(b"a key of the site's own, long enough to be one")
NUMBER = "GEHEIM0042"
PSEUDONYM = KEY.pseudonym(Kind.PATIENT, HOSPITAL, NUMBER)


class Node:
    def __init__(self, folder: Path, tap: Tap) -> None:
        key = folder / "pseudonym.key"
        key.write_bytes(KEY.secret)
        key.chmod(0o400)
        self.config = Config.model_validate(
            {
                "fhir": {"base_url": tap.url},
                "ledger": {"url": f"sqlite:///{folder / 'ledger.db'}"},
                "stow_rs": {"mode": "index"},
                "study": {"quiet_period": "0s"},
                "select": {"modalities": ["MR"]},
                "patient": {"default_system": HOSPITAL, "policy": "create"},
                "pseudonyms": {"mode": "hmac", "key_file": str(key), "system": SYSTEM},
            }
        )
        self.client = FhirClient(self.config.fhir)
        self.client.capabilities()
        self.ledger = Ledger.open(self.config.ledger, self.config.study, create=True)
        self.ledger.bind_target(self.config.fhir.base_url)
        self.pipeline = Pipeline.build(self.config, self.ledger, self.client, {}, ArchivePauses([]))
        self.planner = Planner(self.config, self.ledger, self.client)
        self.eraser = Eraser(self.planner, Audit(EraseSettings(audit_file=folder / "audit")))

    def deliver(self, modality: str = "MR") -> tuple[StudyInstanceUID, frozenset[str]]:
        uid = StudyInstanceUID(new_uid())
        said = HEADER.__class__(
            HEADER.sop_class_uid,
            PatientAttributes(id=PatientId(NUMBER)),
            series=replace(HEADER.series, modality=modality),
        )
        items = received([1], study=uid, said=said)
        refused = self.ledger.deliver(Delivery("test", "a", datetime.now(UTC), items))
        while (claimed := self.ledger.claim("test")) is not None:
            self.ledger.settle(claimed, self.pipeline.step(claimed))
        return uid, refused

    def close(self) -> None:
        self.client.close()
        self.ledger.close()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "sandbox") as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, tap: Tap) -> Iterator[Node]:
    made = Node(tmp_path, tap)
    yield made
    made.close()


def studies(sandbox: Sandbox) -> list[Any]:
    found = httpx.get(f"{sandbox.fhir_url}/ImagingStudy", timeout=60).json()
    return list(found.get("entry", []))


@pytest.mark.parametrize("asked", [f"{HOSPITAL}|{NUMBER}", f"{SYSTEM}|{PSEUDONYM}", "Patient"])
def test_he_is_erased_and_not_taken_again(
    asked: str, node: Node, sandbox: Sandbox, tap: Tap
) -> None:
    uid, refused = node.deliver()
    assert not refused
    (study,) = studies(sandbox)
    subject = study["resource"]["subject"]["reference"]
    person = node.planner.person(subject if asked == "Patient" else asked)
    assert person.references == {subject}
    result = node.eraser.erase(person, "he withdrew")
    assert result.remains == []
    assert studies(sandbox) == []
    assert node.deliver()[1]  # known by the number of the hospital: nothing is recorded
    assert studies(sandbox) == []
    assert node.ledger.standings([uid]) == {}
    assert NUMBER.encode() not in tap.said
    assert PSEUDONYM.encode() in tap.said


@pytest.mark.parametrize("asked", [f"{HOSPITAL}|GEHEIM0043", f"{HOSPITAL}|a\tb", "urn:other|1"])
def test_who_is_not_known_is_not_erased(asked: str, node: Node, tap: Tap) -> None:
    node.deliver()
    with pytest.raises(EraseUnknown):
        node.planner.person(asked)
    assert b"GEHEIM" not in tap.said


def test_who_only_looks_binds_the_ledger_to_nothing(node: Node, sandbox: Sandbox) -> None:
    other = node.config.model_copy(update={"pseudonyms": PseudonymSettings()})
    with pytest.raises(EraseUnknown):
        Planner(other, node.ledger, node.client).person(f"{HOSPITAL}|{NUMBER}")
    node.deliver()
    assert len(studies(sandbox)) == 1  # it goes on under its own key


@pytest.mark.parametrize("asked", [f"{SYSTEM}|{PSEUDONYM}", "Patient"])
def test_what_was_never_written_of_him_goes_too(
    asked: str, node: Node, sandbox: Sandbox, tmp_path: Path
) -> None:
    uid, _ = node.deliver("OT")  # out of scope: the ledger knows it by no pseudonym
    assert studies(sandbox) == []
    assert NUMBER in ledger_file(tmp_path)
    patient = {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": PSEUDONYM}],
    }
    made = httpx.post(f"{sandbox.fhir_url}/Patient", json=patient, timeout=60).json()
    person = node.planner.person(f"Patient/{made['id']}" if asked == "Patient" else asked)
    assert node.eraser.erase(person, "he withdrew").studies == 1
    assert node.ledger.standings([uid]) == {}
    assert NUMBER not in ledger_file(tmp_path)
    assert node.deliver()[1]


def ledger_file(folder: Path) -> str:
    return "".join(one.read_bytes().decode("latin-1") for one in folder.glob("ledger.db*"))
