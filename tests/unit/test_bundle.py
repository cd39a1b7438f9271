"""Bundles: what is sent, and how answers are read."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.provenance import Provenance
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.bundle import (
    Entry,
    Result,
    bundle,
    etag,
    full_url,
    last_updated,
    located,
    oldest_first,
    provenance,
    results,
    search_url,
    version_of,
    version_of_etag,
    witnessed,
)
from flute_sync.fhir_errors import FhirServerError

NOW = datetime(2026, 11, 22, 10, 0, 0, 1000, tzinfo=timezone(timedelta(hours=1)))
STUDY = {"resourceType": "ImagingStudy", "status": "available", "subject": {"display": "x"}}


def test_preconditions_stand_in_the_request():
    entries = [
        Entry("POST", "ImagingStudy", STUDY, full_url("ImagingStudy", "1.2"), "identifier=a%7Cb"),
        Entry("PUT", "ImagingStudy/7", {**STUDY, "id": "7"}, if_match="3"),
        Entry("PUT", "ImagingStudy/is-x", {**STUDY, "id": "is-x"}, if_none_match="*"),
        Entry("GET", search_url("Patient", [("identifier", "urn:x|a&b")])),
    ]
    written = bundle("transaction", entries)
    Bundle.model_validate(written)
    assert [entry["request"] for entry in written["entry"]] == [
        {"method": "POST", "url": "ImagingStudy", "ifNoneExist": "identifier=a%7Cb"},
        {"method": "PUT", "url": "ImagingStudy/7", "ifMatch": 'W/"3"'},
        {"method": "PUT", "url": "ImagingStudy/is-x", "ifNoneMatch": "*"},
        {"method": "GET", "url": "Patient?identifier=urn%3Ax%7Ca%26b"},
    ]
    assert written["entry"][0]["fullUrl"].startswith("urn:uuid:")


def test_full_urls_are_the_same_for_the_same_thing():
    assert full_url("ImagingStudy", "1.2") == full_url("ImagingStudy", "1.2")
    assert full_url("ImagingStudy", "1.2") != full_url("ImagingStudy", "1.3")
    assert full_url("ImagingStudy", "1.2") != full_url("Patient", "1.2")


@pytest.mark.parametrize(
    ("entry", "target", "activity"),
    [
        (Entry("POST", "ImagingStudy", STUDY, "urn:uuid:1"), "urn:uuid:1", "CREATE"),
        (Entry("PUT", "ImagingStudy/7", STUDY, if_match="1"), "ImagingStudy/7", "UPDATE"),
        (
            Entry("PUT", "ImagingStudy/is-x", STUDY, if_none_match="*"),
            "ImagingStudy/is-x",
            "CREATE",
        ),
    ],
)
def test_a_write_is_witnessed(entry, target, activity):
    first, witness = witnessed(entry, NOW, {"display": "flute-sync"})
    assert first is entry
    assert witness.resource is not None
    Provenance.model_validate(witness.resource)
    assert witness.resource["target"] == [{"reference": target}]
    assert witness.resource["activity"]["coding"][0]["code"] == activity
    assert witness.resource["recorded"] == "2026-11-22T10:00:00.001+01:00"
    assert witness.full_url not in {None, entry.full_url}


def test_provenance_names_who_wrote():
    agent = {"identifier": {"system": "urn:site", "value": "flute-sync"}}
    assert provenance("ImagingStudy/1", "CREATE", NOW, agent)["agent"][0]["who"] == agent


def answered(*entries):
    return {"resourceType": "Bundle", "type": "transaction-response", "entry": list(entries)}


def test_answers_are_read_in_order():
    answer = answered(
        {
            "response": {
                "status": "201 Created",
                "location": "ImagingStudy/9/_history/1",
                "etag": "1",
            }
        },
        {"response": {"status": "200", "location": "http://x/fhir/Patient/a", "etag": 'W/"4"'}},
        {"resource": STUDY, "response": {"status": "200 OK"}},
        {"response": {"status": "404 Not Found", "outcome": {"resourceType": "OperationOutcome"}}},
    )
    assert results(answer, 4) == (
        Result(201, "9", "1"),
        Result(200, "a", "4"),
        Result(200, None, None, STUDY),
        Result(404, None, None, {"resourceType": "OperationOutcome"}),
    )


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"resourceType": "Bundle", "type": "searchset", "entry": [{}]},
        {"resourceType": "Bundle", "type": "batch-response"},
        answered(),
        answered({}, {}),
        answered({"response": {}}),
        answered({"response": {"status": "OK"}}),
        answered({"response": "200"}),
        answered(7),
    ],
)
def test_nonsense_is_a_server_error(answer):
    with pytest.raises(FhirServerError):
        results(answer, 1)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("ImagingStudy/9", ("ImagingStudy", "9", None)),
        ("ImagingStudy/9/_history/2", ("ImagingStudy", "9", "2")),
        ("https://x/fhir/ImagingStudy/9/_history/2", ("ImagingStudy", "9", "2")),
        ("https://x/fhir/ImagingStudy/9/", ("ImagingStudy", "9", None)),
        ("", (None, None, None)),
        ("nonsense", (None, None, None)),
        ("ImagingStudy/" + "x" * 65, (None, None, None)),
    ],
)
def test_places_are_read_from_locations(location, expected):
    assert located(location) == expected


@given(st.from_regex(r"[A-Za-z0-9\-.]{1,64}", fullmatch=True))
def test_an_etag_holds_its_version(version):
    assert version_of_etag(etag(version)) == version
    assert version_of_etag(f'"{version}"') == version


@pytest.mark.parametrize("text", ["", 'W/""', 'W/"a b"', "*", 'W/"1", W/"2"'])
def test_no_version_is_read_from_other_texts(text):
    assert version_of_etag(text) is None


def aged(resource_id, at):
    return {"id": resource_id, "meta": {"lastUpdated": at}}


def test_the_oldest_is_first_whatever_the_zone():
    resources = [
        {"id": "none"},
        aged("d", "nonsense"),
        aged("c", "2026-01-01T10:00:00+01:00"),
        aged("b", "2026-01-01T09:30:00Z"),
        aged("a", "2026-01-01T09:30:00.000Z"),
    ]
    assert [one["id"] for one in oldest_first(resources)] == ["c", "a", "b", "d", "none"]


@pytest.mark.parametrize("meta", [None, "x", {}, {"lastUpdated": 7}, {"lastUpdated": "2026-01-01"}])
def test_no_time_is_read_from_nonsense(meta):
    assert last_updated({"meta": meta}) is None
    assert version_of({"meta": meta}) is None


def test_times_are_utc():
    assert last_updated(aged("1", "2026-01-01T10:00:00+01:00")) == datetime(
        2026, 1, 1, 9, tzinfo=UTC
    )
