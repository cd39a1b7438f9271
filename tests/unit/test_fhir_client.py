"""The FHIR client against a scripted server: every status, every lie."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from flute_sync.bundle import Entry
from flute_sync.errors import FluteSyncError
from flute_sync.fhir.capability import capabilities
from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.fhir.endpoints import Endpoints
from flute_sync.fhir.imaging_studies import ImagingStudies
from flute_sync.fhir.patient_watch import PatientWatch
from flute_sync.fhir.patients import Patients
from flute_sync.fhir_errors import (
    FhirAmbiguous,
    FhirBusy,
    FhirCapabilityMissing,
    FhirConflict,
    FhirGone,
    FhirRejected,
    FhirServerError,
    FhirUnauthorized,
    FhirUnavailable,
)
from flute_sync.identity import Identity, PatientKey, PatientSettings
from flute_sync.settings_errors import ConfigurationError

BASE = "http://fhir.example/fhir"
UID = "1.2.3"
SECRET = "Rossi-4711"
Handler = Callable[[httpx.Request], httpx.Response]


def client_of(handler: Handler, **settings: Any) -> FhirClient:
    return FhirClient(
        FhirSettings(base_url=BASE, **settings), transport=httpx.MockTransport(handler)
    )


def always(status: int, body: Any = None, **headers: str) -> Handler:
    return lambda _request: httpx.Response(status, json=body, headers=headers)


def searchset(*resources: Any, link: Any = None, mode: str | None = "match") -> Any:
    search = {"search": {"mode": mode}} if mode else {}
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "link": link or [],
        "entry": [{"resource": one, **search} for one in resources],
    }


def study(study_id="7", uid=UID, version="1", **elements):
    return {
        "resourceType": "ImagingStudy",
        "id": study_id,
        "meta": {"versionId": version, "lastUpdated": "2026-01-01T00:00:00Z"},
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "status": "available",
        **elements,
    }


def outcome(*issues: Any) -> Any:
    return {"resourceType": "OperationOutcome", "issue": list(issues)}


# -- statuses ---------------------------------------------------------------------------------

CALLS: dict[str, Callable[[FhirClient], Any]] = {
    "read": lambda client: client.read("ImagingStudy", "7"),
    "search": lambda client: client.search("Patient", [("identifier", "a|b")]),
    "create": lambda client: client.create({"resourceType": "ImagingStudy"}),
    "conditional": lambda client: client.create(
        {"resourceType": "ImagingStudy"}, if_none_exist="identifier=a"
    ),
    "update": lambda client: client.update(study(), if_match="1"),
    "delete": lambda client: client.delete("ImagingStudy", "7", if_match="1"),
    "batch": lambda client: client.batch([Entry("GET", "ImagingStudy/7")]),
    "transaction": lambda client: client.transaction([Entry("GET", "ImagingStudy/7")]),
    "capabilities": lambda client: client.capabilities(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, ConfigurationError),
        (400, FhirRejected),
        (401, FhirUnauthorized),
        (403, FhirUnauthorized),
        (405, FhirCapabilityMissing),
        (408, FhirServerError),
        (409, FhirConflict),
        (413, FhirRejected),
        (415, FhirCapabilityMissing),
        (418, FhirRejected),
        (422, FhirRejected),
        (429, FhirBusy),
        (500, FhirServerError),
        (501, FhirCapabilityMissing),
        (502, FhirUnavailable),
        (503, FhirBusy),
        (504, FhirServerError),
        (599, FhirServerError),
    ],
)
def test_every_status_is_one_error(call, status, error):
    with client_of(always(status, {"x": SECRET})) as client, pytest.raises(FluteSyncError) as got:
        CALLS[call](client)
    assert type(got.value) is error
    assert SECRET not in str(got.value)


@pytest.mark.parametrize(
    ("call", "status", "error"),
    [
        ("conditional", 412, FhirAmbiguous),
        ("create", 412, FhirConflict),
        ("update", 412, FhirConflict),
        ("update", 404, FhirConflict),
        ("update", 410, FhirGone),
        ("read", 410, FhirGone),
        ("search", 404, FhirServerError),
        ("create", 404, FhirServerError),
        ("capabilities", 404, FhirCapabilityMissing),
    ],
)
def test_statuses_that_mean_one_thing_here_and_another_there(call, status, error):
    with client_of(always(status)) as client, pytest.raises(FluteSyncError) as got:
        CALLS[call](client)
    assert type(got.value) is error


def test_what_is_absent_or_already_deleted_is_no_error():
    with client_of(always(404, outcome())) as client:
        assert client.read("ImagingStudy", "7") is None
        client.delete("ImagingStudy", "7", if_match="1")
    with client_of(always(410, outcome())) as client:
        client.delete("ImagingStudy", "7", if_match="1")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("said", "date", "expected"),
    [
        ("120", None, timedelta(seconds=120)),
        ("0", None, timedelta(0)),
        ("Sun, 22 Nov 2026 12:00:30 GMT", "Sun, 22 Nov 2026 12:00:00 GMT", timedelta(seconds=30)),
        ("Sun, 22 Nov 2026 11:00:00 GMT", "Sun, 22 Nov 2026 12:00:00 GMT", timedelta(0)),
        ("99999999999999999999", None, timedelta(days=1)),
        ("-5", None, None),
        ("soon", None, None),
        ("", None, None),
        ("²", None, None),
    ],
)
def test_retry_after_is_honoured(status, said, date, expected):
    headers = {"Retry-After": said.encode("utf-8")} | ({"Date": date.encode()} if date else {})
    answer = lambda _request: httpx.Response(status, headers=headers)  # noqa: E731
    with client_of(answer) as client, pytest.raises(FhirBusy) as got:
        CALLS["read"](client)
    assert got.value.retry_after == expected


def test_retry_after_as_a_date_without_a_date_of_the_answer():
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    handler = always(503, None, **{"Retry-After": at})
    with client_of(handler) as client, pytest.raises(FhirBusy) as got:
        CALLS["read"](client)
    assert got.value.retry_after is not None
    assert timedelta(seconds=90) < got.value.retry_after <= timedelta(seconds=100)


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("x"),
        httpx.ConnectTimeout("x"),
        httpx.ReadTimeout("x"),
        httpx.PoolTimeout("x"),
        httpx.RemoteProtocolError(SECRET),
        httpx.ReadError("x"),
        httpx.ProxyError("x"),
        httpx.TooManyRedirects("x"),
    ],
)
def test_no_answer_is_unavailable(error):
    counted = []

    def fail(_request):
        raise error

    client = FhirClient(
        FhirSettings(base_url=BASE),
        transport=httpx.MockTransport(fail),
        on_request=lambda interaction, status: counted.append((interaction, status)),
    )
    with client, pytest.raises(FhirUnavailable) as got:
        CALLS["read"](client)
    assert SECRET not in str(got.value)
    assert "fhir.example" not in str(got.value)
    assert counted == [("read", None)]


def test_outcomes_are_redacted():
    body = outcome(
        {"severity": "error", "code": "invalid", "diagnostics": SECRET, "expression": ["A.b[0].c"]},
        {"severity": "error", "code": SECRET, "expression": [f"A.where(value='{SECRET}')"]},
        {"severity": "fatal", "code": "required", "details": {"text": SECRET}},
        {"severity": "error", "code": "value"},
        {"severity": "information", "code": "informational"},
        "nonsense",
    )
    with client_of(always(422, body)) as client, pytest.raises(FhirRejected) as got:
        CALLS["create"](client)
    assert got.value.detail == (
        "HTTP 422 on create (invalid at A.b[0].c, error, required, and 1 more)"
    )


# -- lies and noise ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"<html>proxy login</html>",
        b'{"resourceType": "ImagingStudy", "id": "7"',
        b"[]",
        b"null",
        b"{}",
        b'{"resourceType": 7}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("call", ["read", "search", "create", "update", "batch", "capabilities"])
def test_a_body_that_is_no_fhir_is_a_server_error(call, body):
    answer = lambda _request: httpx.Response(200, content=body)  # noqa: E731
    with client_of(answer) as client, pytest.raises(FhirServerError):
        CALLS[call](client)


@pytest.mark.parametrize("status", [200, 404])
def test_a_404_page_of_a_proxy_is_not_an_absent_resource(status):
    answer = lambda _request: httpx.Response(status, text="<html>not found</html>")  # noqa: E731
    with client_of(answer) as client, pytest.raises(FhirServerError):
        CALLS["read"](client)


@pytest.mark.parametrize(
    "body",
    [
        study("8"),
        {**study(), "resourceType": "Patient"},
        searchset(study()),
    ],
)
def test_another_resource_than_asked_for_is_a_server_error(body):
    with client_of(always(200, body)) as client, pytest.raises(FhirServerError):
        CALLS["read"](client)


def test_an_answer_without_end_is_cut():
    def endless(_request):
        return httpx.Response(200, content=(b" " * 65536 for _ in range(10_000)))

    with client_of(endless, largest_answer_bytes=1_000_000) as client:
        with pytest.raises(FhirServerError) as got:
            CALLS["read"](client)
        assert "largest_answer_bytes" in got.value.detail


def test_an_answer_that_drips_is_cut():
    def dripping(_request):
        return httpx.Response(200, content=(b" " for _ in range(10_000_000)))

    with client_of(dripping, answer_timeout="10ms") as client, pytest.raises(FhirUnavailable):
        CALLS["read"](client)


@pytest.mark.parametrize(
    "location", [f"{BASE}/Patient/9/_history/1", "ImagingStudy/9", f"{BASE}/ImagingStudy/9"]
)
def test_a_write_must_be_answered_with_its_own_place(location):
    handler = always(200, None, Location=location, ETag='W/"2"')
    with client_of(handler) as client, pytest.raises(FhirServerError):
        CALLS["update"](client)


def test_places_and_versions_are_read_wherever_they_stand():
    for headers, body in (
        ({"Location": f"{BASE}/ImagingStudy/9/_history/3"}, None),
        ({"Location": "ImagingStudy/9", "ETag": 'W/"3"'}, None),
        ({"Content-Location": f"{BASE}/ImagingStudy/9", "ETag": '"3"'}, None),
        ({}, study("9", version="3")),
    ):
        with client_of(always(201, body, **headers)) as client:
            result = CALLS["create"](client)
        assert (result.status, result.id, result.version) == (201, "9", "3")


# -- searching --------------------------------------------------------------------------------


def test_no_identifier_is_in_a_url_and_caches_are_bypassed():
    seen: list[httpx.Request] = []

    def record(request):
        seen.append(request)
        return httpx.Response(200, json=searchset())

    with client_of(record) as client:
        client.search("Patient", [("identifier", f"sys|{SECRET}")])
    assert [(one.method, str(one.url)) for one in seen] == [("POST", f"{BASE}/Patient/_search")]
    assert seen[0].headers["cache-control"] == "no-cache"
    assert seen[0].content == f"identifier=sys%7C{SECRET}".encode()


def test_only_matches_of_the_right_type_count():
    body = searchset(study("1"))
    body["entry"] += [
        {"resource": study("2"), "search": {"mode": "include"}},
        {"resource": outcome(), "search": {"mode": "outcome"}},
        {"resource": {**study("3"), "resourceType": "Patient"}, "search": {"mode": "match"}},
        {"resource": study("no/id"), "search": {"mode": "match"}},
        {"search": {"mode": "match"}},
        "nonsense",
    ]
    with client_of(always(200, body)) as client:
        assert [one["id"] for one in client.search("ImagingStudy", [])] == ["1"]


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/fhir?page=2",
        "https://fhir.example/fhir?page=2",
        "http://fhir.example:8080/fhir?page=2",
        "http://fhir.example/other?page=2",
        "http://fhir.example/fhir/../admin",
        "http://user@fhir.example/fhir?page=2",
        "http://fhir.example.evil.example/fhir",
        "//evil.example/fhir",
        "http://fhir.example/fhirx?page=2",
        "http://[::1",
    ],
)
def test_a_next_page_elsewhere_is_not_followed(url):
    requests = []

    def handler(request):
        requests.append(str(request.url))
        return httpx.Response(200, json=searchset(study(), link=[{"relation": "next", "url": url}]))

    with client_of(handler) as client, pytest.raises(FhirServerError):
        client.search("ImagingStudy", [])
    assert requests == [f"{BASE}/ImagingStudy/_search"]


@pytest.mark.parametrize(
    "form", ["{base}?page={n}", "{base}/ImagingStudy?page={n}", "?page={n}", "/fhir?page={n}"]
)
def test_next_pages_of_the_server_are_followed(form):
    def handler(request):
        number = int(request.url.params.get("page", "0"))
        link = [{"relation": "next", "url": form.format(base=BASE, n=number + 1)}]
        return httpx.Response(
            200, json=searchset(study(str(number)), link=link if number < 3 else [])
        )

    with client_of(handler) as client:
        assert [one["id"] for one in client.search("ImagingStudy", [])] == ["0", "1", "2", "3"]


def test_what_stands_on_two_pages_is_one_resource_as_it_was_read_last():
    """A resource that is written between two pages moves from the one to the other."""

    def handler(request):
        again = "page" in request.url.params
        link = [] if again else [{"relation": "next", "url": f"{BASE}?page=2"}]
        twice = [study(version="2" if again else "1")] * 2
        return httpx.Response(200, json=searchset(*twice, link=link))

    with client_of(handler) as client:
        found = client.search("ImagingStudy", [])
    assert [(one["id"], one["meta"]["versionId"]) for one in found] == [("7", "2")]


def test_a_study_that_is_told_twice_is_not_two():
    def handler(request):
        told = searchset(study(), study())
        answers = [told for _ in json.loads(request.content)["entry"]]
        entry = [{"response": {"status": "200"}, "resource": one} for one in answers]
        bundle = {"resourceType": "Bundle", "type": "batch-response", "entry": entry}
        return httpx.Response(200, json=bundle if str(request.url) == BASE else told)

    with client_of(handler) as client:
        found = ImagingStudies(client).find(UID, patients=[("sys", "1")])
    assert found.study is not None
    assert found.study["id"] == "7"


def test_pages_in_a_circle_end():
    link = [{"relation": "next", "url": f"{BASE}?page=2"}]
    handler = always(200, searchset(study(), link=link))
    with client_of(handler) as client, pytest.raises(FhirServerError):
        client.search("ImagingStudy", [])


def test_a_search_that_finds_everything_ends():
    def handler(request):
        number = int(request.url.params.get("page", "0"))
        link = [{"relation": "next", "url": f"{BASE}?page={number + 1}"}]
        return httpx.Response(200, json=searchset(*[study(str(n)) for n in range(500)], link=link))

    with client_of(handler) as client, pytest.raises(FhirServerError):
        client.search("ImagingStudy", [])


@pytest.mark.parametrize(
    "body",
    [
        study(),
        {"resourceType": "Bundle", "type": "batch-response"},
        {"resourceType": "Bundle", "type": "searchset", "entry": {}},
    ],
)
def test_an_answer_that_is_no_searchset_is_a_server_error(body):
    with client_of(always(200, body)) as client, pytest.raises(FhirServerError):
        CALLS["search"](client)


# -- bundles ----------------------------------------------------------------------------------


def response(kind: str, *entries: Any) -> Any:
    return {"resourceType": "Bundle", "type": f"{kind}-response", "entry": list(entries)}


@pytest.mark.parametrize(
    "body",
    [
        response("batch"),
        response("batch", {"response": {"status": "200"}}, {"response": {"status": "200"}}),
        response("batch", {"resource": study()}),
        response("batch", {"response": {"status": "fine"}}),
        response("batch", None),
        searchset(study()),
    ],
)
def test_a_bundle_not_answered_entry_by_entry_is_a_server_error(body):
    with client_of(always(200, body)) as client, pytest.raises(FhirServerError):
        CALLS["batch"](client)


@pytest.mark.parametrize(
    ("status", "error"), [("409 Conflict", FhirConflict), ("412", FhirAmbiguous)]
)
def test_a_transaction_must_succeed_whole(status, error):
    body = response("transaction", {"response": {"status": status, "outcome": outcome()}})
    entry = Entry("POST", "ImagingStudy", study(), if_none_exist="identifier=a")
    with client_of(always(200, body)) as client, pytest.raises(error):
        client.transaction([entry])


# -- a server that lies about whom it found ---------------------------------------------------


def test_a_server_that_ignores_the_filter_finds_no_patient():
    stranger = {
        "resourceType": "Patient",
        "id": "1",
        "identifier": [{"system": "urn:x", "value": "another"}],
    }
    identity = Identity(PatientKey("urn:x", SECRET))
    logical = PatientSettings(policy="logical")
    with client_of(always(200, searchset(stranger))) as client:
        subject = Patients(client, logical).resolve(identity)
    assert "reference" not in subject.reference


def test_a_server_that_ignores_the_filter_gets_no_study():
    methods = []

    def handler(request):
        methods.append((request.method, request.url.path))
        return httpx.Response(200, json=searchset(study(uid="9.9")))

    with client_of(handler) as client, pytest.raises(FhirServerError):
        ImagingStudies(client).find(UID)
    assert methods == [("POST", "/fhir/ImagingStudy/_search")]


def test_a_conditional_create_that_matched_another_study_writes_nothing():
    writes = []

    def handler(request):
        if request.method == "GET":
            return httpx.Response(200, json=study("5", uid="9.9"))
        writes.append(request.method)
        return httpx.Response(200, headers={"Location": f"{BASE}/ImagingStudy/5/_history/1"})

    with client_of(handler) as client, pytest.raises(FhirAmbiguous):
        ImagingStudies(client).write(UID, study(), None)
    assert writes == ["POST"]


def test_a_study_that_others_change_all_the_time_is_a_conflict_in_the_end():
    tries = []

    def handler(request):
        if request.method == "PUT":
            tries.append(request.headers["if-match"])
            return httpx.Response(412)
        return httpx.Response(200, json=study("5", version=str(len(tries) + 1)))

    waits: list[float] = []
    with client_of(handler) as client, pytest.raises(FhirConflict):
        ImagingStudies(client, pause=waits.append).write(
            UID, study(status="unknown"), study("5"), known_id="5"
        )
    assert tries == ['W/"1"', 'W/"2"', 'W/"3"', 'W/"4"', 'W/"5"']
    assert len(waits) == 4
    assert sum(waits) < 2


def test_our_duplicate_stays_if_somebody_has_written_to_it():
    """Deleting it would lose what he wrote; two remain, and the next look-up says so."""
    deleted = []

    def handler(request):
        if request.method == "DELETE":
            deleted.append(request.url.path)
        if request.method == "GET":
            return httpx.Response(200, json=study("9", version="2"))
        if request.url.path.endswith("_search"):
            older = study("5")
            younger = study("9", version="2")
            younger["meta"]["lastUpdated"] = "2026-01-02T00:00:00Z"
            return httpx.Response(200, json=searchset(older, younger))
        return httpx.Response(201, headers={"Location": f"{BASE}/ImagingStudy/9/_history/1"})

    with client_of(handler) as client:
        row = ImagingStudies(client, pause=lambda _s: None).write(UID, study(), None)
    assert row.resource_id == "9"
    assert deleted == []


def test_the_last_that_still_looks_gives_way():
    """Ours is the oldest, but nobody removes the other: then ours goes, and one remains."""
    here = {"5": study("5"), "9": study("9")}
    here["9"]["meta"]["lastUpdated"] = "2026-01-02T00:00:00Z"
    waits: list[float] = []

    def handler(request):
        last = request.url.path.rsplit("/", 1)[-1]
        if request.method == "DELETE":
            del here[last]
            return httpx.Response(204)
        if last == "_search":
            return httpx.Response(200, json=searchset(*here.values()))
        if request.method == "GET":
            return httpx.Response(200, json=here[last])
        return httpx.Response(201, headers={"Location": f"{BASE}/ImagingStudy/5/_history/1"})

    with client_of(handler) as client:
        row = ImagingStudies(client, pause=waits.append).write(UID, study(), None)
    assert here.keys() == {"9"}
    assert row.resource_id == "9"
    assert len(waits) == 4


def test_a_create_without_a_place_is_a_server_error():
    with client_of(always(201)) as client, pytest.raises(FhirServerError):
        ImagingStudies(client).write(UID, study(), None)


def test_a_resource_without_a_version_is_not_written_blindly():
    writes = []

    def handler(request):
        writes.append(request.method)
        return httpx.Response(200)

    there = study("5", status="registered")
    there["meta"] = {}
    with client_of(handler) as client, pytest.raises(FhirServerError):
        ImagingStudies(client).write(UID, study(), there, known_id="5")
    assert writes == []


def test_a_foreign_endpoint_is_never_overwritten():
    methods = []

    def handler(request):
        methods.append(request.method + request.url.path)
        if request.url.path.endswith("_search"):
            foreign = {
                "resourceType": "Endpoint",
                "id": "1",
                "identifier": [{"system": "urn:other", "value": "pacs-dicom-wado-rs"}],
                "address": "http://elsewhere",
            }
            return httpx.Response(200, json=searchset(foreign))
        return httpx.Response(201, headers={"Location": f"{BASE}/Endpoint/2/_history/1"})

    with client_of(handler) as client, pytest.raises(FhirConflict):
        Endpoints(client, "urn:site", pause=lambda _s: None).references("pacs", "http://pacs/rs")
    assert not any(one.startswith("PUT") for one in methods)


def test_into_whom_a_patient_was_merged():
    def merged(patient_id, successor):
        link = {"type": "replaced-by", "other": {"reference": successor}}
        return {"resourceType": "Patient", "id": patient_id, "link": [link]}

    there = {
        "1": merged("1", f"{BASE}/Patient/2"),
        "2": merged("2", "Patient/3"),
        "3": {"resourceType": "Patient", "id": "3"},
        "8": merged("8", "Patient/9"),
        "c": merged("c", "Patient/d"),
        "d": merged("d", "Patient/c"),
    }

    def handler(request):
        found = there.get(request.url.path.rpartition("/")[2])
        return httpx.Response(200 if found else 410, json=found or outcome())

    with client_of(handler) as client:
        patients = Patients(client, PatientSettings())
        reached = {one: patients.survivor(one) for one in (*there, "gone")}
    assert reached == {
        "1": "3",
        "2": "3",
        "3": "3",
        "8": None,
        "c": None,
        "d": None,
        "gone": None,
    }


# -- the watch --------------------------------------------------------------------------------


def person(number, minute, version="1"):
    return {
        "resourceType": "Patient",
        "id": str(number),
        "meta": {"versionId": version, "lastUpdated": f"2026-01-01T10:{minute:02}:00+02:00"},
        "identifier": [{"system": "urn:x", "value": str(number)}, {"value": "none"}],
    }


def test_the_watch_starts_at_the_servers_time_and_looks_back_a_little():
    forms = []

    def handler(request):
        if request.method == "GET":
            body = {"resourceType": "CapabilityStatement"}
            return httpx.Response(200, json=body, headers={"Date": "Thu, 01 Jan 2026 08:00:00 GMT"})
        forms.append(dict(httpx.QueryParams(request.content.decode())))
        return httpx.Response(200, json=searchset(person(2, 9), person(1, 5)))

    with client_of(handler) as client:
        watch = PatientWatch(client)
        (start,) = watch.look(None)
        assert start.cursor == "2026-01-01T08:00:00.000Z"
        first = list(watch.look(start.cursor))
        second = list(watch.look(first[-1].cursor))
    assert [page.keys for page in first] == [{"urn:x|1", "urn:x|2"}, frozenset()]
    assert first[-1].cursor == "2026-01-01T08:09:00.000Z"
    assert not any(page.keys for page in second)
    assert [form["_lastUpdated"] for form in forms] == [
        "ge2026-01-01T07:58:00.000Z",
        "ge2026-01-01T08:07:00.000Z",
    ]


def test_what_could_not_be_acted_upon_is_said_again():
    with client_of(always(200, searchset(person(1, 5)))) as client:
        watch = PatientWatch(client)
        for arrivals in watch.look("2026-01-01T08:00:00.000Z"):
            assert arrivals.keys == {"urn:x|1"}
            break  # as when the ledger is busy
        again = list(watch.look("2026-01-01T08:00:00.000Z"))
    assert again[0].keys == {"urn:x|1"}


# -- groups -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        always(404),
        always(410),
        always(200, {"resourceType": "Group", "id": "g", "type": "device", "actual": True}),
        always(200, {"resourceType": "Group", "id": "g", "type": "person", "actual": False}),
    ],
)
def test_a_group_that_names_nobody_needs_a_person(answer):
    with client_of(answer) as client, pytest.raises(ConfigurationError):
        Patients(client, PatientSettings()).members("Group/g")


def test_a_large_group_is_read_whole():
    members: list[Any] = [{"entity": {"reference": f"Patient/{n}"}} for n in range(50_000)]
    members += [{"entity": {"reference": "Group/2"}}, {"entity": {}}, None]
    members += [{"entity": {"reference": f"{BASE}/Patient/abs/_history/2"}}]
    group = {"resourceType": "Group", "id": "g", "type": "person", "actual": True}
    body = json.dumps({**group, "member": members}).encode()
    answer = lambda _request: httpx.Response(200, content=body)  # noqa: E731
    with client_of(answer) as client:
        found = Patients(client, PatientSettings()).members("Group/g")
    assert len(found) == 50_001
    assert "abs" in found


# -- capability -------------------------------------------------------------------------------


def statement(**flags: Any) -> Any:
    codes = [{"code": code} for code in ("read", "create", "update", "search-type")]
    resources = [
        {"type": kind, "interaction": codes, "conditionalCreate": True, **flags}
        for kind in ("ImagingStudy", "Patient", "Endpoint")
    ]
    return {
        "resourceType": "CapabilityStatement",
        "fhirVersion": "4.0.1",
        "rest": [
            {"mode": "client"},
            {"mode": "server", "resource": resources, "interaction": [{"code": "transaction"}]},
        ],
    }


def test_a_server_with_all_that_is_needed_passes():
    found = capabilities(statement())
    found.require(create_patients=True, transactions=True)
    found.require(client_ids=True)
    assert found.bundles


@pytest.mark.parametrize(
    ("change", "needs", "named"),
    [
        ({"fhirVersion": "4.3.0"}, {}, "4.0.1"),
        ({"fhirVersion": "5.0.0"}, {}, "4.0.1"),
        ({"fhirVersion": None}, {}, "4.0.1"),
        ({"rest": []}, {}, "create of ImagingStudy"),
        ({"rest": "nonsense"}, {}, "search-type of Patient"),
    ],
)
def test_a_server_that_lacks_something_is_refused_by_name(change, needs, named):
    with pytest.raises(FhirCapabilityMissing) as got:
        capabilities({**statement(), **change}).require(**needs)
    assert named in got.value.detail


@pytest.mark.parametrize(
    ("flags", "needs"),
    [
        ({"conditionalCreate": False}, {}),
        ({"versioning": "no-version"}, {}),
        ({"updateCreate": False}, {"client_ids": True}),
        ({"interaction": [{"code": "read"}]}, {"create_patients": True}),
        ({"searchParam": [{"name": "_id"}]}, {}),
    ],
)
def test_flags_that_matter(flags, needs):
    with pytest.raises(FhirCapabilityMissing):
        capabilities(statement(**flags)).require(**needs)


def test_what_is_not_needed_is_not_asked_for():
    capabilities(statement(updateCreate=False)).require()
    capabilities(statement(conditionalCreate=False)).require(client_ids=True)
    without = statement()
    without["rest"][1]["interaction"] = []
    found = capabilities(without)
    found.require()
    assert not found.bundles
    with pytest.raises(FhirCapabilityMissing):
        found.require(transactions=True)
