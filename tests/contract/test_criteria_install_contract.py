"""The criteria on a FHIR server: put there once, followed, and nothing of others touched."""

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.daemon.config import Config
from flute_sync.daemon.criteria_files import artefacts
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.installing import Installed, Installer
from flute_sync.link_settings import LinkSettings
from tests.contract.fhir_rest import created, found, reference
from tests.own_criteria import PSA


@pytest.fixture
def config(system: str, tmp_path: Path) -> Config:
    """Of a site that no other test has, with a criterion of its own."""
    file = tmp_path / "psa.toml"
    file.write_text(PSA, encoding="utf-8")
    site = system.rpartition(":")[2]
    return Config.model_validate(
        {
            "fhir": {"base_url": f"https://{site}.example/fhir/"},
            "site": {"system": system},
            "stow_rs": {"enabled": True},
            "criteria": {"files": [str(file)]},
        }
    )


def install(client: FhirClient, config: Config, **options: Any) -> list[Installed]:
    installer = Installer(client, client.capabilities(), **options)
    return [installer.install(one) for one in artefacts(config)]


def test_once_and_again_and_a_dry_run(client, fhir, config):
    told = install(client, config, dry_run=True)
    assert [(one.definition.kind, one.outcome, one.reference) for one in told] == [
        ("Library", "created", None), *[("EvidenceVariable", "created", None)] * 3
    ]  # fmt: skip
    assert all(found(fhir, one.definition.kind, url=one.definition.resource["url"]) == []
               for one in told)  # fmt: skip
    first = install(client, config)
    assert {one.outcome for one in first} == {"created"}
    again = install(client, config)
    assert {one.outcome for one in again} == {"unchanged"}
    assert [one.reference for one in again] == [one.reference for one in first]
    library, by_cql, by_fhirpath, psa = (fhir.get(f"/{one.reference}").json() for one in first)
    assert {one["url"].partition("/fhir/")[0] for one in (library, by_cql, by_fhirpath, psa)} == {
        config.fhir.base_url.removesuffix("/fhir/")
    }
    assert by_cql["extension"][0]["valueCanonical"] == f"{library['url']}|{library['version']}"
    assert [one["exclude"] for one in psa["characteristic"]] == [True, False]


def test_what_is_set_now_is_told_first_and_then_followed(client, fhir, config):
    first = install(client, config)
    criteria = CriteriaSettings(same_day="include", files=config.criteria.files)
    other = config.model_copy(update={"criteria": criteria})
    told = install(client, other, dry_run=True)
    assert [(one.outcome, one.changes) for one in told] == [
        ("updated", ("content",)),
        ("unchanged", ()),
        ("updated", ("characteristic",)),
        ("unchanged", ()),
    ]
    assert fhir.get(f"/{first[0].reference}").json()["meta"]["versionId"] == "1"
    assert [one.outcome for one in install(client, other)] == [one.outcome for one in told]
    content = fhir.get(f"/{first[0].reference}").json()["content"]
    texts = {one["contentType"]: base64.b64decode(one["data"]) for one in content}
    assert b"\"Same Day\" String default 'include'" in texts["text/cql"]
    elm = orjson.loads(texts["application/elm+json"])["library"]["parameters"]["def"]
    assert [one["default"]["value"] for one in elm if one["name"] == "Same Day"] == ["include"]
    assert {one.outcome for one in install(client, other)} == {"unchanged"}


def test_what_somebody_else_put_there_is_left_alone(client, fhir, config):
    theirs = []
    for one in artefacts(config):
        resource = {name: one.resource[name] for name in one.resource if name != "identifier"}
        theirs.append(created(fhir, resource | {"title": "theirs", "status": "draft"}))
    told = install(client, config)
    assert [(one.outcome, one.reference) for one in told] == [
        ("foreign", reference(one)) for one in theirs
    ]
    now = [fhir.get(f"/{reference(one)}").json() for one in theirs]
    assert {(one["title"], one["meta"]["versionId"]) for one in now} == {("theirs", "1")}


def test_procedures_of_the_site_are_in_both_forms(config):
    links = LinkSettings(prostate_procedures=("urn:site|PMR'1",), untrusted_dates=True)
    library, _, by_fhirpath, _ = artefacts(config.model_copy(update={"links": links}))
    cql = base64.b64decode(library.resource["content"][0]["data"]).decode()
    assert r"""default List<String>{'urn:site|PMR\'1'}""" in cql
    assert '"Untrusted Dates" Boolean default true' in cql
    (excluded, _) = by_fhirpath.resource["characteristic"]
    assert (
        r"(system = 'urn:site' and code = 'PMR\'1')"
        in (excluded["definitionExpression"]["expression"])
    )
