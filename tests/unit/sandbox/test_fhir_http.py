"""The sandbox's FHIR server over HTTP: what the contract suite leaves open between servers."""

import pytest

JSON = {"Content-Type": "application/fhir+json"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 400),
        ("GET", "", 400),
        ("GET", "/?_getpages=none&_getpagesoffset=0", 410),
        ("GET", "/?_getpages=none&_getpagesoffset=x", 400),
        ("POST", "/ImagingStudy/$validate", 404),
        ("GET", "/Patient/$everything", 404),
        ("PATCH", "/Patient/1", 405),
        ("GET", "/a/b/c/d/e", 404),
        ("GET", "/Nonsense", 404),
    ],
)
def test_what_is_not_answered(fhir, method, path, status):
    response = fhir.request(method, path, headers=JSON)
    assert response.status_code == status
    assert response.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize("path", ["/Patient", "/"])
def test_other_media_types_are_refused(fhir, path):
    response = fhir.post(path, content=b"<Patient/>", headers={"Content-Type": "application/xml"})
    assert response.status_code == 415
    assert fhir.post("/Patient/_search", json={}).status_code == 415


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b'{"resourceType": 3}', b"\xff", b"{}"])
def test_bodies_that_are_no_resource(fhir, content):
    for path in ("/Patient", "/"):
        assert fhir.post(path, content=content, headers=JSON).status_code == 400


def test_a_deep_body_is_refused_not_a_crash(fhir):
    deep = b'{"resourceType":"Patient","extension":' + b"[" * 5000 + b"]" * 5000 + b"}"
    assert fhir.post("/Patient", content=deep, headers=JSON).status_code in (400, 422)


def test_a_bundle_with_foreign_shapes_is_refused(fhir):
    for entry in ([3], {"request": 3}, [{"request": {"method": "POST", "url": 3}}]):
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entry}
        assert fhir.post("/", json=bundle, headers=JSON).status_code in (400, 422)


def test_head_answers_as_get_does(fhir):
    body = fhir.post("/Patient", json={"resourceType": "Patient"}, headers=JSON).json()
    response = fhir.head(f"/Patient/{body['id']}")
    assert response.status_code == 200
    assert response.headers["etag"] == 'W/"1"'
    assert response.content == b""
