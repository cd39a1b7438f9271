"""Judging the patients of a server, on the sandbox and on HAPI, and writing the result back."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from flute_sync.command_errors import PatientsUnknown
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.daemon.cohort_judging import Judging, Question
from flute_sync.daemon.cohort_reading import BATCH, CohortReader
from flute_sync.daemon.config import Config, load
from flute_sync.exports.spool import Spool
from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.fhir_errors import FhirResultAmbiguous, FhirServerError, FhirUnavailable
from tests import criteria_cases
from tests.contract.fhir_rest import JSON, created, put_entry, search, transaction
from tests.histories import Resource, biopsy, pi_rads, psa, study

CASES = json.loads(criteria_cases.FILE.read_text(encoding="utf-8"))
VALID = {"dates", "same-day", "partial", "period", "age", "untrusted", "status", "modality",
         "body-site", "several", "code"}  # fmt: skip
"""Kinds of cases that a server takes, since they are valid FHIR."""
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@pytest.fixture
def config(fhir_url: str, tmp_path: Path) -> Config:
    """Settings of a site that no other test uses."""
    file = tmp_path / "site.toml"
    file.write_text(
        f'[fhir]\nbase_url = "{fhir_url}"\n[site]\nsystem = "{uuid.uuid4().urn}"\n[stow_rs]\n'
        f'[archive]\ndicomweb_url = "http://127.0.0.1:9/dicom-web"\n[sync]\nworkers = 3\n'
    )
    return load(file)


class Asked(Judging):
    """A judging that was done, and what it said by biopsy."""

    def __init__(self, question: Question) -> None:
        with Spool() as spool:
            super().__init__(question, spool)
            self.read(lambda done, total: None)
            results = [one for found in self.results() for one in found.results]
        self.said = {
            one.biopsy.name: (one.verdict.value, one.study.name if one.study else None)
            for one in results
        }


@pytest.fixture
def judge(config: Config) -> Callable[..., Asked]:
    """Ask the server."""

    def asked(**whom: Any) -> Asked:
        return Asked(Question(None, config, CriteriaSettings(), **whom))

    return asked


def said(asked: Asked) -> dict[str, tuple[str, str | None]]:
    return asked.said


def put(fhir: httpx.Client, *resources: Resource) -> None:
    answer = transaction(fhir, *(put_entry(one) for one in resources))
    assert answer.status_code == 200, answer.text


def person(name: str, **elements: Any) -> Resource:
    return {"resourceType": "Patient", "id": name, **elements}


def test_the_cases_on_a_server(fhir: httpx.Client, judge: Callable[..., Asked]) -> None:
    """Those that are valid FHIR, each under patients of its own."""
    mark = uuid.uuid4().hex[:8]
    wanted: dict[str, tuple[str, str | None]] = {}
    patients: list[str] = []
    for number, case in enumerate(CASES):
        if case["kind"] not in VALID or case["settings"]:
            continue
        prefix = f"{mark}-{number}-"
        text = json.dumps(case["bundle"]).replace("Patient/p", f"Patient/{prefix}p")
        people = [person(f"{prefix}{name}") for name in ("p1", "p2")]
        rest: list[Resource] = []
        for entry in json.loads(text)["entry"]:
            one = {**entry["resource"], "id": prefix + entry["resource"]["id"]}
            (people if one["resourceType"] == "Patient" else rest).append(one)
        put(fhir, *{one["id"]: one for one in people}.values())
        put(fhir, *rest)
        patients += [f"Patient/{one['id']}" for one in people]
        for one in case["expected"]:
            mri = one["study"] and one["study"].replace("/", f"/{prefix}")
            wanted[one["biopsy"].replace("/", f"/{prefix}")] = (one["verdict"], mri)
    assert len(wanted) > BATCH
    judging = judge(listed=tuple(dict.fromkeys(patients)))
    assert said(judging) == wanted
    assert judging.tally.absent == 0


def test_all_patients_a_group_and_those_who_are_not_there(
    fhir: httpx.Client, judge: Callable[..., Asked]
) -> None:
    mark = uuid.uuid4().hex[:8]
    link = [{"type": "replaced-by", "other": {"reference": f"Patient/{mark}-a"}}]
    put(fhir, person(f"{mark}-a"), person(f"{mark}-b"))
    put(fhir, person(f"{mark}-old", active=False, link=link))
    put(
        fhir,
        biopsy(f"{mark}-b1", "2024-06-10", subject={"reference": f"Patient/{mark}-a"}),
        study(f"{mark}-m1", "2024-06-01", subject=f"Patient/{mark}-old"),
        biopsy(f"{mark}-b2", "2024-06-10", subject={"reference": f"Patient/{mark}-b"}),
        psa(f"{mark}-o1", "2024-05-01", 5.1, subject={"reference": f"Patient/{mark}-a"}),
        pi_rads(f"{mark}-o2", "2024-06-02", subject={"reference": f"Patient/{mark}-a"}),
    )
    first = {f"Procedure/{mark}-b1": ("included", f"ImagingStudy/{mark}-m1")}
    both = first | {f"Procedure/{mark}-b2": ("excluded", None)}
    assert both.items() <= said(judge()).items()
    member = [{"entity": {"reference": f"Patient/{mark}-old"}}]
    group = {"resourceType": "Group", "type": "person", "actual": True, "member": member}
    name = f"Group/{created(fhir, group)['id']}"
    judging = judge(group=name)
    assert said(judging) == first
    assert judging.included == [f"Patient/{mark}-a"]
    assert sum(judging.tally.resources.values()) == 3
    listed = judge(listed=(f"Patient/{mark}-b", "Patient/never-was", "urn:uuid:not-there"))
    assert said(listed) == {f"Procedure/{mark}-b2": ("excluded", None)}
    assert listed.tally.absent == 2
    with pytest.raises(PatientsUnknown):
        judge(group="Group/never-was")
    other = {"entity": {"reference": f"Patient/{mark}-b"}}
    outer = created(fhir, group | {"member": [other, {"entity": {"reference": name}}]})
    assert said(judge(group=f"Group/{outer['id']}")) == both


def test_a_subject_that_is_an_identifier_alone(
    fhir: httpx.Client, judge: Callable[..., Asked]
) -> None:
    mark = uuid.uuid4().hex[:8]
    known, shared = ({"system": f"urn:hospital:{mark}", "value": one} for one in ("1|2", "3"))
    put(fhir, person(f"{mark}-a", identifier=[known]))
    put(fhir, *(person(f"{mark}-{name}", identifier=[shared]) for name in ("b", "c")))
    for name, day in (("a", "2024-06-10"), ("b", "2024-06-11")):
        put(fhir, biopsy(f"{mark}-b{name}", day, subject={"reference": f"Patient/{mark}-{name}"}))
    for name, identifier in (("m1", known), ("m2", shared)):
        logical = {"subject": {"type": "Patient", "identifier": identifier}}
        put(fhir, study(f"{mark}-{name}", "2024-06-01") | logical)
    expected = {
        f"Procedure/{mark}-ba": ("included", f"ImagingStudy/{mark}-m1"),
        f"Procedure/{mark}-bb": ("excluded", None),
    }
    for_two = judge(listed=(f"Patient/{mark}-a", f"Patient/{mark}-b"))
    assert said(for_two) == expected
    assert for_two.tally.without_patient >= 1
    assert expected.items() <= said(judge()).items()


def test_a_server_that_cannot_be_asked_for_such_subjects_is_read_all_the_same() -> None:
    asked: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.content)
        empty = {"resourceType": "Bundle", "type": "searchset", "total": 0}
        return httpx.Response(400 if b"missing" in request.content else 200, json=empty)

    settings = FhirSettings(base_url="http://fhir.example/fhir")
    with FhirClient(settings, transport=httpx.MockTransport(answer)) as client, Spool() as spool:
        CohortReader(client, workers=1).load(spool, lambda done, total: None, None)
        assert list(spool.people()) == []
    assert b"missing" in asked[-1]


def test_the_result_is_written_once(
    fhir: httpx.Client, config: Config, judge: Callable[..., Asked]
) -> None:
    mark = uuid.uuid4().hex[:8]
    put(fhir, person(f"{mark}-a"))
    put(fhir, biopsy(f"{mark}-b1", "2024-06-10", subject={"reference": f"Patient/{mark}-a"}))
    who = (f"Patient/{mark}-a",)
    before = judge(listed=who).write(NOW)
    assert [outcome for _, outcome in before] == ["created", "created"]
    assert [outcome for _, outcome in judge(listed=who).write(NOW + timedelta(days=1))] == [
        "unchanged", "unchanged"]  # fmt: skip
    put(fhir, study(f"{mark}-m1", "2024-06-01", subject=f"Patient/{mark}-a"))
    after = judge(listed=who).write(NOW)
    assert after == [(name, "updated") for name, _ in before]
    group, report = (fhir.get(f"/{name}").json() for name, _ in after)
    assert [one["entity"]["reference"] for one in group["member"]] == list(who)
    counts = {
        one["code"].get("text", "all"): one["count"] for one in report["group"][0]["population"]
    }
    assert (counts["all"], counts["included"], counts["excluded"]) == (1, 1, 0)
    for one in (group, report):
        validated(fhir, one)
        assert one["meta"]["versionId"] == "2"
    created(fhir, {name: value for name, value in group.items() if name not in ("id", "meta")})
    with pytest.raises(FhirResultAmbiguous):
        judge(listed=who).write(NOW)
    key = f"{config.identifier_system}|{group['identifier'][0]['value']}"
    assert len(search(fhir, "MeasureReport", identifier=key)["entry"]) == 1


def validated(fhir: httpx.Client, resource: Resource) -> None:
    """Ask the server's own validator, where it has one."""
    kind = resource["resourceType"]
    answer = fhir.post(f"/{kind}/$validate", json=resource, headers=JSON, timeout=120)
    if answer.status_code in (404, 405):
        return  # the sandbox validates nothing
    issues = answer.json()["issue"]
    assert [one for one in issues if one["severity"] in ("fatal", "error")] == []


def test_a_server_that_is_down_for_a_moment_is_asked_again(fhir_url: str) -> None:
    """By a transport that fails now and then."""
    calls = 0
    waits: list[float] = []

    class Shaky(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal calls
            calls += 1
            if calls % 3 == 2:
                return httpx.Response(503, headers={"Retry-After": "7"})
            return super().handle_request(request)

    with FhirClient(FhirSettings(base_url=fhir_url), transport=Shaky()) as client, Spool() as spool:
        reader = CohortReader(client, workers=1, wait=waits.append)
        reader.load(spool, lambda done, total: None, ["Patient/never-was"])
    assert waits
    assert {*waits} == {7.0}


@pytest.mark.parametrize("after_last", [None, 1])
def test_the_list_of_patients_goes_on_where_it_failed(after_last: int | None) -> None:
    """By a transport with three pages, of which each fails at first; the last may lead back."""
    waits: list[float] = []
    failed: set[str] = set()
    read: list[int] = []
    base = "http://fhir.example/fhir"

    def answer(request: httpx.Request) -> httpx.Response:
        path = str(request.url).removeprefix(base)
        if b"_summary" in request.content:
            return httpx.Response(200, json={"resourceType": "Bundle", "total": 3})
        if not path.startswith(("/Patient/_search", "?page")):
            return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset"})
        if path not in failed:
            failed.add(path)
            return httpx.Response(503)
        number = int(path.partition("=")[2] or 0)
        entry = {"resource": person(f"p{number}"), "search": {"mode": "match"}}
        follows = number + 1 if number < 2 else after_last
        link = [{"relation": "next", "url": f"{base}?page={follows}"}] if follows else []
        page = {"resourceType": "Bundle", "type": "searchset", "entry": [entry], "link": link}
        return httpx.Response(200, json=page)

    transport = httpx.MockTransport(answer)
    with FhirClient(FhirSettings(base_url=base), transport=transport) as client, Spool() as spool:
        reader = CohortReader(client, workers=1, wait=waits.append)
        if after_last is None:
            reader.load(spool, lambda done, total: read.append(done), None)
            assert [one.patient for one in spool.people()] == [f"Patient/p{n}" for n in range(3)]
            assert read == [1, 2, 3]
        else:
            with pytest.raises(FhirServerError, match="circle"):
                reader.load(spool, lambda done, total: None, None)
    assert len(waits) == 3


def test_a_server_that_stays_away_ends_it() -> None:
    waits: list[float] = []
    settings = FhirSettings(base_url="http://127.0.0.1:9/fhir")
    with FhirClient(settings) as client, Spool() as spool:
        reader = CohortReader(client, workers=1, wait=waits.append)
        with pytest.raises(FhirUnavailable):
            reader.load(spool, lambda done, total: None, None)
    assert waits == [1, 2, 4, 8]
