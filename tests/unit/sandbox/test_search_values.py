"""Search values: escapes, references, and what a resource is found by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.sandbox.fhir_server.outcome import FhirError
from flute_sync.sandbox.fhir_server.parameters import Entry, entries, fold, split_reference
from flute_sync.sandbox.fhir_server.search import parse_search, split_escaped, unescape


def escape(value: str) -> str:
    for special in "\\,$|":
        value = value.replace(special, "\\" + special)
    return value


@given(st.lists(st.text(), min_size=1))
def test_escaped_values_come_back_from_a_list(values):
    joined = ",".join(map(escape, values))
    assert [unescape(one) for one in split_escaped(joined, ",")] == values


@given(st.text(), st.text())
def test_an_escaped_token_has_two_parts(system, value):
    parts = split_escaped(f"{escape(system)}|{escape(value)}", "|")
    assert [unescape(one) for one in parts] == [system, value]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("Patient/1", ("Patient", "1")),
        ("Patient/1/_history/3", ("Patient", "1")),
        ("http://other.example/fhir/Patient/1", ("", "http://other.example/fhir/Patient/1")),
        ("urn:uuid:1", ("", "urn:uuid:1")),
        ("1", ("", "1")),
    ],
)
def test_split_reference(reference, expected):
    assert split_reference(reference) == expected


def test_strings_are_found_whatever_case_and_accents():
    assert fold("Müller-ŁÉ") == fold("muller-łe")


def test_entries_of_a_study():
    study = {
        "resourceType": "ImagingStudy",
        "id": "1",
        "meta": {"lastUpdated": "2024-03-01T00:00:00.000+00:00"},
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2"}, {"value": "1.2"}],
        "status": "available",
        "subject": {"reference": "Patient/7"},
        "started": "2024-03-01",
        "series": [
            {"uid": "1.2.3", "instance": [{"uid": "1.2.3.4"}, {"uid": "1.2.3.5"}]},
            {"uid": "1.2.6"},
        ],
    }
    found = set(entries(study, {}))
    assert {
        Entry("_id", value="1"),
        Entry("identifier", "urn:dicom:uid", "urn:oid:1.2"),
        Entry("identifier", "", "1.2"),
        Entry("patient", "Patient", "7"),
        Entry("subject", "Patient", "7"),
        Entry("series", value="1.2.3"),
        Entry("series", value="1.2.6"),
        Entry("instance", value="1.2.3.5"),
        Entry("started", low="2024-03-01T00:00:00.000000", high="2024-03-01T23:59:59.999999"),
    } <= found


def test_a_group_of_a_device_is_not_a_patient():
    study = {"resourceType": "ImagingStudy", "subject": {"reference": "Device/7"}}
    names = {entry.parameter for entry in entries(study, {})}
    assert "subject" in names
    assert "patient" not in names


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nonsense", "1"),
        ("identifier:exact", "1"),
        ("identifier", "a|b|c"),
        ("subject:identifier", "a|b"),
        ("_count", "-1"),
        ("_count", "²"),
        ("_summary", "text"),
        ("_sort", "status'; DROP TABLE resource; --"),
        ("_include", "Patient:link"),
        ("started", "ap2024"),
    ],
)
def test_what_is_not_understood_is_refused_without_being_repeated(name, value):
    with pytest.raises(FhirError) as refusal:
        parse_search("ImagingStudy", [(name, value)], {})
    assert refusal.value.status == 400
    assert value not in refusal.value.diagnostics or value in "1"


def test_empty_values_are_no_filters():
    query, values = parse_search("Patient", [("identifier", ""), ("_format", "json")], {}).sql()
    assert values == ["Patient"]
    assert "entry" not in query
