"""Installing our definitions on servers that refuse, contradict or hold something else."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import orjson
import pytest

from flute_sync.error_tree import every_error
from flute_sync.errors import FluteSyncError
from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.fhir.installing import Installed, Installer
from flute_sync.fhir.link_search import becomes_usable, is_usable, reindex
from flute_sync.fhir_errors import (
    FhirBusy,
    FhirConflict,
    FhirInstallClash,
    FhirInstallRefused,
    FhirServerError,
)
from flute_sync.own_resources import (
    EXTENSION_NAME,
    OLD_SUPPORTING_INFO,
    SEARCH_PARAMETER,
    Definition,
    agent,
    definitions,
)
from flute_sync.terminology import FLUTE_SUPPORTING_INFO

BASE = "http://fhir.example/fhir"
SITE = "urn:x:site"
Resource = dict[str, Any]
EXTENSION, PARAMETER, DEVICE = definitions(SITE)


class Server:
    """A FHIR server that holds what a test puts there, and answers as the test says."""

    def __init__(self, *held: Resource) -> None:
        self.held = list(held)
        self.writes: list[httpx.Request] = []
        self.answers: dict[tuple[str, str], list[int]] = {}
        self.lacks: set[tuple[str, str]] = set()
        self.found: Callable[[Resource], bool] = lambda _resource: True

    def answer(self, method: str, kind: str, *statuses: int) -> None:
        self.answers[method, kind] = list(statuses)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        kind = request.url.path.removeprefix("/fhir/").split("/")[0]
        if kind == "metadata":
            return httpx.Response(200, json=self.statement())
        searches = request.url.path.endswith("/_search")
        method = "SEARCH" if searches else request.method
        if self.answers.get((method, kind)):
            status = self.answers[method, kind].pop(0)
            if status >= 300:
                return httpx.Response(status, json={"resourceType": "OperationOutcome"})
        if searches:
            return httpx.Response(200, json=self.search(kind, request))
        self.writes.append(request)
        return self.write(kind, request)

    def statement(self) -> Resource:
        can = ("read", "create", "update", "search-type")
        kinds = ("StructureDefinition", "SearchParameter", "Device", "ImagingStudy")
        resources = [
            {
                "type": kind,
                "interaction": [{"code": one} for one in can if (kind, one) not in self.lacks],
            }
            for kind in kinds
        ]
        server = {"mode": "server", "resource": resources}
        return {
            "resourceType": "CapabilityStatement",
            "fhirVersion": "4.0.1",
            "rest": [server],
        }

    def search(self, kind: str, request: httpx.Request) -> Resource:
        assert parse_qs(request.content.decode())
        found = [one for one in self.held if one["resourceType"] == kind and self.found(one)]
        entries = [{"resource": one, "search": {"mode": "match"}} for one in found]
        return {"resourceType": "Bundle", "type": "searchset", "entry": entries}

    def write(self, kind: str, request: httpx.Request) -> httpx.Response:
        if kind.startswith("$"):
            return httpx.Response(202)
        body = orjson.loads(request.content)
        number = str(len(self.held) + 1)
        if request.method == "PUT":
            number = body["id"]
            self.held = [one for one in self.held if one["id"] != number]
        self.held.append(body | {"id": number, "meta": {"versionId": "2"}})
        location = f"{BASE}/{kind}/{number}/_history/2"
        status = 201 if request.method == "POST" else 200
        return httpx.Response(status, headers={"Location": location, "ETag": 'W/"2"'})


def on(server: Server) -> FhirClient:
    return FhirClient(FhirSettings(base_url=BASE), transport=httpx.MockTransport(server))


def install(server: Server, definition: Definition, *, dry_run: bool = False) -> Installed:
    with on(server) as client:
        offered = client.capabilities()
        installer = Installer(client, offered, dry_run=dry_run, pause=lambda _seconds: None)
        return installer.install(definition)


def held(resource: Resource, number: str = "7", **elements: Any) -> Resource:
    return {**resource, "id": number, "meta": {"versionId": "1"}, **elements}


def theirs(definition: Definition, **elements: Any) -> Resource:
    kept = {key: value for key, value in definition.resource.items() if key != "identifier"}
    return held(kept, **elements)


def test_each_is_created_once_under_a_condition() -> None:
    server = Server()
    for definition in definitions(SITE):
        assert install(server, definition).outcome == "created"
        assert install(server, definition).outcome == "unchanged"
    assert [request.headers["If-None-Exist"] for request in server.writes] == [
        str(httpx.QueryParams({"url": f"{FLUTE_SUPPORTING_INFO},{OLD_SUPPORTING_INFO}"})),
        str(httpx.QueryParams({"url": SEARCH_PARAMETER})),
        str(httpx.QueryParams({"identifier": f"{SITE}|flute-sync"})),
    ]


@pytest.mark.parametrize("definition", definitions(SITE), ids=lambda one: one.kind)
def test_a_dry_run_writes_nothing(definition: Definition) -> None:
    server = Server()
    told = install(server, definition, dry_run=True)
    assert (told.outcome, told.reference) == ("created", None)
    server = Server(held(definition.resource, status="retired", version="0"))
    assert install(server, definition, dry_run=True).outcome == "updated"
    assert server.writes == []


@pytest.mark.parametrize("definition", definitions(SITE), ids=lambda one: one.kind)
def test_what_we_wrote_earlier_follows_and_keeps_what_others_added(definition: Definition) -> None:
    changed: Resource = {
        "status": "inactive",
        "text": {"status": "generated", "div": "<div/>"},
    }
    server = Server(held(definition.resource, **changed))
    told = install(server, definition)
    assert (told.outcome, told.reference) == ("updated", f"{definition.kind}/7")
    (request,) = server.writes
    assert request.headers["If-Match"] == 'W/"1"'
    sent = orjson.loads(request.content)
    assert sent["text"] == changed["text"]
    assert sent["status"] == definition.resource["status"]
    assert install(server, definition).outcome == "unchanged"


def test_a_write_in_between_is_looked_at_again() -> None:
    server = Server(held(DEVICE.resource, status="inactive"))
    server.answer("PUT", "Device", 409, 412)
    assert install(server, DEVICE).outcome == "updated"
    server = Server(held(DEVICE.resource, status="inactive"))
    server.answer("PUT", "Device", *[409] * 9)
    with pytest.raises(FhirConflict):
        install(server, DEVICE)


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"version": "0.0.9", "status": "retired"},
        {"url": OLD_SUPPORTING_INFO},
        {"url": "https://example.org/flute/StructureDefinition/resource-supportingInfo"},
    ],
)
def test_the_extension_of_others_is_left_alone(elements: Resource) -> None:
    server = Server(theirs(EXTENSION, **elements))
    told = install(server, EXTENSION)
    assert (told.outcome, told.reference) == ("foreign", "StructureDefinition/7")
    assert server.writes == []


def test_an_extension_that_only_has_its_name_is_another() -> None:
    url = "https://example.org/StructureDefinition/resource-supportingInfo"
    server = Server(theirs(EXTENSION, url=url, name=EXTENSION_NAME))
    assert install(server, EXTENSION).outcome == "created"


def test_a_parameter_of_others_with_our_meaning_is_left_alone() -> None:
    expression = f"ImagingStudy.extension('{FLUTE_SUPPORTING_INFO}').value"
    server = Server(theirs(PARAMETER, url="https://example.org/sp", expression=expression))
    assert install(server, PARAMETER).outcome == "foreign"
    assert server.writes == []


def test_a_parameter_of_others_with_another_meaning_is_told() -> None:
    other = {"url": "https://example.org/sp", "expression": "ImagingStudy.reasonReference"}
    server = Server(theirs(PARAMETER, **other))
    told = install(server, PARAMETER)
    assert told.outcome == "refused"
    assert isinstance(told.error, FhirInstallClash)
    assert "SearchParameter/7" in told.error.sentence
    assert server.writes == []
    for harmless in ({"status": "retired"}, {"base": ["Observation"]}, {"code": "other"}):
        assert install(Server(theirs(PARAMETER, **other, **harmless)), PARAMETER).error is None


@pytest.mark.parametrize("status", [400, 401, 403, 405, 422, 501])
def test_a_refusal_has_a_code_and_stops_nothing_else(status: int) -> None:
    server = Server()
    server.answer("POST", "SearchParameter", status)
    told = install(server, PARAMETER)
    assert told.outcome == "refused"
    assert isinstance(told.error, FhirInstallRefused)
    assert f"HTTP {status}" in told.error.sentence
    assert install(server, DEVICE).outcome == "created"


@pytest.mark.parametrize("lacking", ["search-type", "create"])
def test_a_server_without_the_type_is_not_asked(lacking: str) -> None:
    server = Server()
    server.lacks = {("SearchParameter", lacking)}
    told = install(server, PARAMETER)
    assert isinstance(told.error, FhirInstallRefused)
    assert lacking in told.error.sentence
    assert server.writes == []


@pytest.mark.parametrize(("status", "error"), [(503, FhirBusy), (500, FhirServerError)])
def test_a_server_that_is_down_ends_it(status: int, error: type[FluteSyncError]) -> None:
    server = Server()
    server.answer("SEARCH", "Device", status)
    with pytest.raises(error):
        install(server, DEVICE)


def test_a_search_that_is_ignored_or_unknown_is_not_usable() -> None:
    server = Server()
    with on(server) as client:
        assert is_usable(client)
        server.answer("SEARCH", "ImagingStudy", 400)
        assert not is_usable(client)
        server.held = [held({"resourceType": "ImagingStudy"})]
        assert not is_usable(client)


def test_a_search_that_comes_late_is_waited_for() -> None:
    server, pauses = Server(), list[float]()
    server.answer("SEARCH", "ImagingStudy", *[400] * 3)
    with on(server) as client:
        assert becomes_usable(client, looks=5, pause=pauses.append)
        assert len(pauses) == 3
        server.answer("SEARCH", "ImagingStudy", *[400] * 9)
        assert not becomes_usable(client, looks=5, pause=pauses.append)


def test_indexing_is_asked_for_and_a_refusal_is_told() -> None:
    server = Server()
    with on(server) as client:
        assert reindex(client) is None
        (request,) = server.writes
        assert request.url.path == "/fhir/$reindex"
        asked = orjson.loads(request.content)["parameter"]
        assert asked == [{"name": "url", "valueString": "ImagingStudy?"}]
        for status in (400, 403, 404, 405, 501):
            server.answer("POST", "$reindex", status)
            assert reindex(client) is not None
        server.answer("POST", "$reindex", 503)
        with pytest.raises(FhirBusy):
            reindex(client)


def test_the_codes_of_refusals_are_their_own() -> None:
    codes = [error.code for error in every_error()]
    assert codes.count("FHIR-INSTALL-REFUSED") == codes.count("FHIR-INSTALL-CLASH") == 1


def test_what_provenances_name_is_the_device() -> None:
    assert agent(SITE)["identifier"] in DEVICE.resource["identifier"]
    assert agent(SITE)["display"].split()[-1] == DEVICE.resource["version"][0]["value"]
