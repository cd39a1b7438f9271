"""The real services do what the other tests rely on."""

import uuid
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import httpx
import pydicom
import pytest
import sqlalchemy
from dicomweb_client import DICOMwebClient
from pydicom.data import get_testdata_file

from tests.services.hapi import Hapi
from tests.services.orthanc import Orthanc
from tests.services.postgres import Postgres
from tests.services.process import PORTS, free_port

FLUTE = "http://hl7.eu/fhir/ig/flute/StructureDefinition/"
SUPPORTING_INFO = FLUTE + "resource-supportingInfo"


def test_no_port_is_given_twice_nor_one_that_clients_may_have() -> None:
    given = [free_port() for _ in range(100)]
    assert len(set(given)) == len(given)
    assert set(given) <= set(PORTS)


@pytest.fixture
def instance() -> pydicom.Dataset:
    path = get_testdata_file("MR_small.dcm")
    assert isinstance(path, str)
    dataset = pydicom.dcmread(path)
    dataset.StudyInstanceUID = pydicom.uid.generate_uid()
    return dataset


def test_orthanc_stores_and_finds(orthanc: Orthanc, instance: pydicom.Dataset) -> None:
    client = DICOMwebClient(orthanc.dicomweb_url)
    client.store_instances([instance])
    found = client.search_for_studies(search_filters={"StudyInstanceUID": _uid(instance)})
    assert [study["0020000D"]["Value"] for study in found] == [[_uid(instance)]]


def test_orthanc_keeps_its_studies_and_ports_when_restarted(
    new_orthanc: Callable[..., Orthanc], instance: pydicom.Dataset
) -> None:
    server = new_orthanc()
    client = DICOMwebClient(server.dicomweb_url)
    client.store_instances([instance])
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.base_url + "/system", timeout=60)
    server.start()
    assert client.search_for_studies(search_filters={"StudyInstanceUID": _uid(instance)})
    server.stop()


def test_orthanc_can_ask_for_a_password(new_orthanc: Callable[..., Orthanc]) -> None:
    server = new_orthanc(credentials=("flute", "secret"))
    url = server.dicomweb_url + "/studies"
    assert httpx.get(url, timeout=60).status_code == 401
    assert httpx.get(url, auth=("flute", "secret"), timeout=60).status_code == 200
    server.stop()


@pytest.mark.parametrize(("overwrite", "kept"), [(False, "first"), (True, "second")])
def test_orthanc_can_overwrite(
    new_orthanc: Callable[..., Orthanc], instance: pydicom.Dataset, overwrite: bool, kept: str
) -> None:
    server = new_orthanc(overwrite_instances=overwrite)
    client = DICOMwebClient(server.dicomweb_url)
    for description in ("first", "second"):
        instance.StudyDescription = description
        client.store_instances([instance])
    metadata = client.retrieve_study_metadata(_uid(instance))
    assert metadata[0]["00081030"]["Value"] == [kept]
    server.stop()


def test_dcmtk_stores_into_orthanc(
    orthanc: Orthanc,
    dcmtk: Callable[..., CompletedProcess[str]],
    instance: pydicom.Dataset,
    tmp_path: Any,
) -> None:
    file = tmp_path / "one.dcm"
    instance.save_as(file)
    sent = dcmtk("storescu", "-aec", orthanc.aet, "127.0.0.1", str(orthanc.dicom_port), str(file))
    assert (sent.returncode, sent.stderr) == (0, "")
    studies = httpx.get(
        f"{orthanc.dicomweb_url}/studies?StudyInstanceUID={_uid(instance)}", timeout=60
    )
    assert len(studies.json()) == 1


def test_hapi_creates_and_reads(hapi: Hapi) -> None:
    patient = {"resourceType": "Patient", "identifier": [{"system": "urn:x", "value": _new()}]}
    created = _post(hapi, "Patient", patient)
    assert created.status_code == 201
    path = "/Patient/" + created.json()["id"]
    assert httpx.get(hapi.base_url + path, timeout=60).json()["identifier"] == patient["identifier"]


def test_hapi_finds_a_good_study_valid(hapi: Hapi) -> None:
    study = _study(_subject(hapi), supporting=[{"valueReference": {"reference": _psa(hapi)}}])
    assert _errors(hapi, study) == []


@pytest.mark.parametrize(
    ("extension", "why"),
    [
        ({"valueString": "a biopsy"}, "allows for the types [Reference] but found type string"),
        (
            {"extension": [{"url": "http://example.org/x", "valueString": "nested"}]},
            "Extension.extension: max allowed = 0",
        ),
        ({"valueReference": {"reference": "Observation/absent"}}, "Unable to resolve resource"),
        ({"valueReference": {"reference": "SUBJECT"}}, "Invalid Resource target type"),
    ],
)
def test_hapi_finds_a_bad_link_invalid(hapi: Hapi, extension: dict[str, Any], why: str) -> None:
    subject = _subject(hapi)
    if extension.get("valueReference") == {"reference": "SUBJECT"}:
        extension = {"valueReference": {"reference": subject}}
    assert why in " ".join(_errors(hapi, _study(subject, supporting=[extension])))


def test_hapi_answers_a_stale_if_match_with_409(hapi: Hapi) -> None:
    assert _stale_update(hapi).status_code == 409


def test_strict_hapi_answers_a_stale_if_match_with_412(strict_hapi: Hapi) -> None:
    assert _stale_update(strict_hapi).status_code == 412


def test_strict_hapi_refuses_an_invalid_study(strict_hapi: Hapi) -> None:
    subject = _subject(strict_hapi)
    assert _post(strict_hapi, "ImagingStudy", _study(subject)).status_code == 201
    bad = _study(subject, supporting=[{"valueString": "a biopsy"}])
    assert _post(strict_hapi, "ImagingStudy", bad).status_code == 422


def test_postgresql_gives_databases_that_know_nothing_of_each_other(postgresql: Postgres) -> None:
    one, other = (sqlalchemy.create_engine(postgresql.new_database()) for _ in range(2))
    with one.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE seen (answer integer)"))
        connection.execute(sqlalchemy.text("INSERT INTO seen VALUES (42)"))
    with one.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT answer FROM seen")).scalar() == 42
    assert sqlalchemy.inspect(one).get_table_names() == ["seen"]
    assert sqlalchemy.inspect(other).get_table_names() == []
    one.dispose()
    other.dispose()


def _uid(dataset: pydicom.Dataset) -> str:
    return str(dataset.StudyInstanceUID)


def _new() -> str:
    return uuid.uuid4().hex


def _post(server: Hapi, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.base_url}/{path}", json=body, timeout=120)


def _subject(server: Hapi) -> str:
    created = _post(server, "Patient", {"resourceType": "Patient"}).json()
    return f"Patient/{created['id']}"


def _psa(server: Hapi) -> str:
    display = "Prostate specific Ag [Mass/volume] in Serum or Plasma"
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2857-1", "display": display}]},
        "subject": {"reference": _subject(server)},
        "valueQuantity": {
            "value": 4.5,
            "unit": "ng/mL",
            "system": "http://unitsofmeasure.org",
            "code": "ng/mL",
        },
    }
    return f"Observation/{_post(server, 'Observation', observation).json()['id']}"


def _study(subject: str, supporting: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    study: dict[str, Any] = {
        "resourceType": "ImagingStudy",
        "meta": {"profile": [FLUTE + "imagingStudy-eu-flute"]},
        "identifier": [
            {"system": "urn:dicom:uid", "value": f"urn:oid:{pydicom.uid.generate_uid()}"}
        ],
        "status": "available",
        "subject": {"reference": subject},
    }
    if supporting:
        study["extension"] = [{"url": SUPPORTING_INFO, **link} for link in supporting]
    return study


def _errors(server: Hapi, resource: dict[str, Any]) -> list[str]:
    outcome = _post(server, f"{resource['resourceType']}/$validate", resource).json()
    issues = outcome["issue"]
    return [one["diagnostics"] for one in issues if one["severity"] in {"error", "fatal"}]


def _stale_update(server: Hapi) -> httpx.Response:
    resource = _post(server, "Patient", {"resourceType": "Patient"}).json()
    url = f"{server.base_url}/Patient/{resource['id']}"
    for sex in ("male", "female"):
        answer = httpx.put(
            url, json={**resource, "gender": sex}, headers={"If-Match": 'W/"1"'}, timeout=60
        )
    return answer
