"""Our own definitions on a FHIR server, and the search by links that they bring."""

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.installing import Installed, Installer
from flute_sync.fhir.link_search import becomes_usable, reindex
from flute_sync.own_resources import Definition, agent, definitions
from flute_sync.terminology import FLUTE_SUPPORTING_INFO
from tests.contract.fhir_rest import (
    JSON,
    created,
    found,
    new_observation,
    new_study,
    reference,
    search,
    update,
)

SITE = "urn:test:site"


@pytest.fixture
def site(system: str) -> str:
    """The identifier system of a site that no other test has."""
    return system


def install(client: FhirClient, site: str, **options: Any) -> dict[str, Installed]:
    installer = Installer(client, client.capabilities(), **options)
    return {one.kind: installer.install(one) for one in definitions(site)}


def linked(patient: dict[str, Any], system: str, value: str, *targets: str) -> dict[str, Any]:
    links = [
        {"url": FLUTE_SUPPORTING_INFO, "valueReference": {"reference": one}} for one in targets
    ]
    return new_study(reference(patient), system, value, extension=links)


def eventually(done: Callable[[], bool], seconds: float = 180) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def test_studies_are_found_by_what_they_are_linked_to(client, fhir, patient, system, site):
    """Also those that were written before, once the server has indexed them."""
    psa, score, lone = (
        reference(created(fhir, new_observation(reference(patient)))) for _ in range(3)
    )
    before = reference(created(fhir, linked(patient, system, "before", psa)))
    outcomes = {kind: one.outcome for kind, one in install(client, site).items()}
    assert outcomes["SearchParameter"] in {"created", "unchanged"}
    assert becomes_usable(client, looks=60)
    assert reindex(client) is None
    after = reference(created(fhir, linked(patient, system, "after", psa, score)))
    assert eventually(
        lambda: set(found(fhir, "ImagingStudy", supporting__info=psa)) == {before, after}
    )
    assert found(fhir, "ImagingStudy", supporting__info=score) == [after]
    assert found(fhir, "ImagingStudy", supporting__info=lone) == []
    several = found(fhir, "ImagingStudy", supporting__info=f"{score},{lone}")
    assert several == [after]
    with_links = search(
        fhir, "ImagingStudy", _id=after.partition("/")[2], _include="ImagingStudy:supporting-info"
    )
    included = {
        reference(one["resource"])
        for one in with_links["entry"]
        if one["search"]["mode"] == "include"
    }
    assert included == {psa, score}


def test_a_linked_resource_may_still_be_deleted(client, fhir, patient, system, site):
    """HAPI does so where it is told to: the documentation of the command says how."""
    install(client, site)
    assert becomes_usable(client, looks=60)
    psa = reference(created(fhir, new_observation(reference(patient))))
    study = created(fhir, linked(patient, system, "held", psa))
    assert found(fhir, "ImagingStudy", supporting__info=psa) == [reference(study)]
    assert fhir.delete(f"/{psa}").status_code in {200, 204}
    assert fhir.get(f"/{psa}").status_code == 410
    del study["extension"]
    version = f'W/"{study["meta"]["versionId"]}"'
    assert update(fhir, study, **{"If-Match": version}).status_code == 200
    assert found(fhir, "ImagingStudy", supporting__info=psa) == []


def test_again_writes_nothing_and_a_dry_run_neither(client, fhir, site):
    told = install(client, site, dry_run=True)
    assert (told["Device"].outcome, told["Device"].reference) == ("created", None)
    assert found(fhir, "Device", identifier=f"{site}|flute-sync") == []
    first = install(client, site)
    versions = {one.reference: _version(fhir, one.reference) for one in first.values()}
    again = install(client, site)
    assert {one.outcome for one in again.values()} <= {"unchanged", "foreign"}
    assert [one.reference for one in again.values()] == [one.reference for one in first.values()]
    assert {one: _version(fhir, one) for one in versions} == versions


def test_the_device_is_the_one_that_provenances_name_and_follows_the_version(client, fhir, site):
    (device,) = [one for one in definitions(site) if one.kind == "Device"]
    installer = Installer(client, client.capabilities())
    older = replace(device, resource=device.resource | {"version": [{"value": "0.0.1"}]})
    first = installer.install(older)
    assert first.outcome == "created"
    theirs = fhir.get(f"/{first.reference}").json()
    theirs["identifier"].append({"system": "urn:test:assets", "value": site})
    theirs["note"] = [{"text": "runs on the server in the cellar"}]
    assert fhir.put(f"/{first.reference}", json=theirs, headers=JSON).status_code == 200
    told = Installer(client, client.capabilities(), dry_run=True).install(device)
    assert (told.outcome, told.reference) == ("updated", first.reference)
    second = installer.install(device)
    assert (second.outcome, second.reference) == ("updated", first.reference)
    now = fhir.get(f"/{first.reference}").json()
    assert now["version"] == device.resource["version"]
    assert (now["identifier"], now["note"]) == (theirs["identifier"], theirs["note"])
    assert installer.install(device).outcome == "unchanged"
    named = agent(site)["identifier"]
    by_name = f"{named['system']}|{named['value']}"
    assert found(fhir, "Device", identifier=by_name) == [first.reference]
    assert agent(site)["display"].endswith(now["version"][0]["value"])


@pytest.mark.parametrize(
    "place",
    ["http://hl7.eu/fhir/ig/flute/StructureDefinition/", "https://flute.com/StructureDefinition/"],
)
def test_an_extension_of_somebody_else_is_left_alone(client, fhir, site, place):
    """Under the guide's canonical, and under an earlier one."""
    (extension,) = [one for one in definitions(site) if one.kind == "StructureDefinition"]
    name = f"x{uuid.uuid4().hex[:8]}"
    ours = _renamed(extension, f"http://hl7.eu/fhir/ig/flute/StructureDefinition/{name}")
    theirs = {key: value for key, value in ours.resource.items() if key != "identifier"}
    there = created(fhir, theirs | {"url": place + name, "status": "retired", "version": "0.0.9"})
    installed = Installer(client, client.capabilities()).install(ours)
    assert (installed.outcome, installed.reference) == ("foreign", reference(there))
    assert fhir.get(f"/{reference(there)}").json()["meta"]["versionId"] == "1"


def test_an_absent_extension_is_defined(client, fhir, site):
    (extension,) = [one for one in definitions(site) if one.kind == "StructureDefinition"]
    url = f"http://hl7.eu/fhir/ig/flute/StructureDefinition/x{uuid.uuid4().hex[:8]}"
    ours = _renamed(extension, url)
    installer = Installer(client, client.capabilities())
    assert installer.install(ours).outcome == "created"
    assert installer.install(ours).outcome == "unchanged"
    assert len(found(fhir, "StructureDefinition", url=url)) == 1


def _renamed(definition: Definition, url: str) -> Definition:
    """Return the extension under another canonical and name, so that tests do not meet."""
    name = "N" + url.rpartition("/")[2]
    identifier = [{"system": "urn:ietf:rfc:3986", "value": uuid.uuid4().urn}]
    resource = definition.resource | {"url": url, "name": name, "identifier": identifier}
    return Definition(resource, [("url", url)], [("name", name)])


def _version(fhir: httpx.Client, at: str | None) -> str:
    version: str = fhir.get(f"/{at}").json()["meta"]["versionId"]
    return version
