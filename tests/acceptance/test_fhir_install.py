"""``flute-sync fhir install``: studies are then found by what they are linked to."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import DEFAULT_WHEN
from tests.acceptance.clinic import Clinic, send
from tests.acceptance.conftest import Upload, create_patient
from tests.acceptance.site import Site, eventually, running
from tests.own_criteria import PSA
from tests.services.hapi import Hapi

KINDS = ["StructureDefinition", "SearchParameter", "Device"]


@pytest.fixture
def clinic(hapi: Hapi) -> Clinic:
    return Clinic(hapi.base_url)


@pytest.fixture
def site(
    clinic: Clinic, sandbox: Sandbox, make_site: Callable[[str, str | None], Site]
) -> Iterator[Site]:
    made = make_site(clinic.base_url, sandbox.dicomweb_url)
    with running(made):
        yield made


def found(clinic: Clinic, reference: str) -> set[str]:
    """Return the studies that are linked to a resource, as anybody would ask for them."""
    answer = httpx.get(
        f"{clinic.base_url}/ImagingStudy",
        params={"supporting-info": reference},
        headers={"Cache-Control": "no-cache"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return {one["resource"]["id"] for one in answer.json().get("entry", [])}


def test_linked_studies_are_found_after_it_and_again_writes_nothing(
    site: Site, clinic: Clinic
) -> None:
    upload = Upload(slices=1)
    subject = create_patient(clinic.base_url, upload.patient)
    psa = clinic.psa(subject, DEFAULT_WHEN.date())
    send(site, upload)
    assert set(clinic.links(upload.uid)) == {psa}
    looked = site.ask("fhir", "install", "--dry-run")
    assert (looked["dry_run"], [one["type"] for one in looked["resources"]]) == (True, KINDS)
    # Another test may install what is not of one site alone, at the same time.
    assert outcome_of_device(looked) == "created"
    done = site.ask("fhir", "install", "--reindex")
    assert outcome_of_device(done) == "created"
    assert {one["outcome"] for one in done["resources"]} <= {"created", "unchanged", "foreign"}
    told = {"reindex": "requested", "code": None, "sentence": None, "hint": None}
    assert done["search"] | told == done["search"]
    study = clinic.study(upload.uid)["id"]
    eventually(lambda: found(clinic, psa) == {study}, within=180, every=1, what="indexed")
    again = site.ask("fhir", "install")
    assert again["search"]["usable"]
    assert {one["outcome"] for one in again["resources"]} <= {"unchanged", "foreign"}
    assert again["search"]["reindex"] == "not-needed"
    assert [one["reference"] for one in again["resources"]] == [
        one["reference"] for one in done["resources"]
    ]
    (said,) = clinic.provenances(upload.uid)
    named = said["agent"][0]["who"]["identifier"]
    (device,) = [one for one in done["resources"] if one["type"] == "Device"]
    assert named in device["resource"]["identifier"]
    for one in done["resources"]:
        if one["type"] != "StructureDefinition":
            assert clinic.faults(one["resource"]) == []
    words = site.run("fhir", "install").stdout
    assert "supporting-info=Observation/ID works" in words


def outcome_of_device(told: dict[str, Any]) -> str:
    (found,) = [one["outcome"] for one in told["resources"] if one["type"] == "Device"]
    return str(found)


def test_the_definition_of_the_extension_is_valid(clinic: Clinic, site: Site) -> None:
    """Its context is left out: to judge that, HAPI's validator loads FHIR's packages."""
    (extension,) = [
        one["resource"]
        for one in site.ask("fhir", "install", "--dry-run")["resources"]
        if one["type"] == "StructureDefinition"
    ]
    assert extension["context"] == [{"type": "element", "expression": "ImagingStudy"}]
    anywhere = [{"type": "fhirpath", "expression": "ImagingStudy"}]
    assert clinic.faults(extension | {"context": anywhere}) == []


def test_the_criteria_are_published_as_the_standard_wants_them(
    site: Site, clinic: Clinic, tmp_path: Path
) -> None:
    file = tmp_path / "psa.toml"
    file.write_text(PSA, encoding="utf-8")
    site.settings["criteria"] = {
        "files": [str(file)],
        "canonical": f"https://{uuid.uuid4()}.example",
    }
    looked = site.ask("fhir", "install", "--criteria", "--dry-run")
    kinds = [*KINDS, "Library", *["EvidenceVariable"] * 3]
    assert [one["type"] for one in looked["resources"]] == kinds
    done = site.ask("fhir", "install", "--criteria")
    ours = done["resources"][len(KINDS) :]
    assert [one["outcome"] for one in ours] == ["created"] * 4
    for one in ours:
        assert clinic.faults(one["resource"]) == []
    again = site.run("fhir", "install", "--criteria").stdout
    assert again.count("there already") == len(kinds)
    file.write_text(PSA.replace("3.0", "4.0"), encoding="utf-8")
    said = site.run("fhir", "install", "--criteria", "--dry-run").stdout
    assert "would be updated: description, characteristic (EvidenceVariable/" in said
    file.write_text(PSA.replace("exists(", "exist("), encoding="utf-8")
    refused = site.ask("fhir", "install", "--criteria", code=78)
    assert refused["error"]["code"] == "CRITERION-MALFORMED"


def test_a_server_that_cannot_be_reached_is_told(
    make_site: Callable[[str, str | None], Site],
) -> None:
    site = make_site("http://127.0.0.1:9/fhir", "http://127.0.0.1:9/dicom-web")
    refused = site.ask("fhir", "install", code=69)
    assert refused["error"]["code"] == "FHIR-UNAVAILABLE"
