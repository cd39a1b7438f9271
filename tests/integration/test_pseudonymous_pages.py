"""A pseudonymous site: whom a person searches for by name is not told to the FHIR server."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flute_sync.pseudonym import Kind, PseudonymKey
from flute_sync.sandbox.server import Sandbox
from tests.contract.fhir_rest import create, created, new_patient
from tests.contract.ledger_site import Site as LedgerSite
from tests.pages import Pages, form_token
from tests.tap import Tap

KEY = "a key of the site's own, long enough to be one"
HOSPITAL, OTHER, PSEUDONYMS = "urn:test:hospital", "urn:test:other", "urn:test:pseudonyms"
NUMBER = "GEHEIM 0042"


def pseudonym(system: str) -> str:
    return PseudonymKey(KEY.encode()).pseudonym(Kind.PATIENT, system, NUMBER)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def pages(tap: Tap, tmp_path: Path) -> Iterator[Pages]:
    key = tmp_path / "pseudonym.key"
    key.write_text(KEY)
    key.chmod(0o400)
    ledger = LedgerSite(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.open()
    settings = {
        "fhir": {"base_url": tap.url},
        "patient": {"default_system": HOSPITAL, "systems": {"OTHER": OTHER}},
        "pseudonyms": {"mode": "hmac", "key_file": str(key), "system": PSEUDONYMS},
    }
    pages = Pages(settings, ledger.ledger)
    yield pages
    pages.close()
    ledger.close()


@pytest.fixture(scope="module")
def studies(sandbox: Sandbox) -> dict[str, str]:
    """The ids of a study of each of two people, by the system of their number."""
    made = {}
    with httpx.Client(base_url=sandbox.fhir_url, timeout=60) as fhir:
        for system in (HOSPITAL, OTHER):
            patient = created(fhir, new_patient(PSEUDONYMS, pseudonym(system)))
            study = {
                "resourceType": "ImagingStudy",
                "status": "available",
                "subject": {"reference": f"Patient/{patient['id']}"},
            }
            made[system] = str(created(fhir, study)["id"])
        create(fhir, new_patient(PSEUDONYMS, "SOMEBODY ELSE"))
    return made


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (NUMBER, {HOSPITAL, OTHER}),
        (f" {HOSPITAL}|{NUMBER} ", {HOSPITAL}),
        (f"{OTHER}|{NUMBER}", {OTHER}),
        (f"urn:test:mistyped|{NUMBER}", set()),
        (pseudonym(HOSPITAL), {HOSPITAL}),
        (f"{PSEUDONYMS}|{pseudonym(OTHER)}", {OTHER}),
        (f"{HOSPITAL}|", set()),
        (f"{NUMBER}\x01", set()),
    ],
)
def test_a_number_of_the_hospital_finds_its_studies_and_stays_in_it(
    asked: str, found: set[str], pages: Pages, studies: dict[str, str], tap: Tap
) -> None:
    browser = pages.client(follow_redirects=True)
    form = {"form_token": form_token(browser.get("/studies").text), "patient": asked}
    answer = browser.post("/studies", data=form)
    assert answer.status_code == 200
    assert {one for one in studies if f'href="/studies/{studies[one]}"' in answer.text} == found
    said = tap.said.decode()
    assert "GEHEIM" not in said
    assert "0042" not in said
