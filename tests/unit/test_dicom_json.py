"""The DICOM JSON Model as real servers and hostile ones write it (PS3.18 F)."""

import copy
from contextlib import suppress
from datetime import date, time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flute_sync.dicom_errors import HeaderError, HeaderUidInvalid, HeaderUidMissing
from flute_sync.sources import header_tags as tags
from flute_sync.sources.dicom_json import JsonReader, uid_in
from flute_sync.sources.header import HeaderSettings
from flute_sync.study import Header, Moment
from tests.headers import as_json, example

MODEL = as_json(example())
EXPECTED = JsonReader().received(MODEL)


def changed(key: str, element: Any) -> dict[str, Any]:
    """Return the model with one element replaced, or left out where it is None."""
    model = copy.deepcopy(MODEL)
    model.pop(key)
    return model if element is None else model | {key: element}


def header(key: str, element: Any) -> Header:
    return JsonReader().received(changed(key, element)).instance.header


def remarks(found: Header) -> list[tuple[str, str]]:
    return [(remark.code, remark.tag) for remark in found.remarks]


@pytest.mark.parametrize(
    "element",
    [
        "MR",
        ["MR"],
        7,
        True,
        {"vr": "CS", "Value": "MR"},
        {"vr": "CS", "Value": {"0": "MR"}},
        {"vr": "CS", "Value": [7]},
        {"vr": "CS", "Value": [True]},
        {"vr": "CS", "Value": [{"Alphabetic": "MR"}]},
        {"vr": "CS", "Value": [["MR"]]},
        {"vr": "UN", "InlineBinary": "TVI="},
        {"vr": "CS", "BulkDataURI": "http://127.0.0.1/x"},
    ],
)
def test_a_wrong_type_is_absent_with_a_remark(element: Any):
    found = header("00080060", element)
    assert found.series.modality is None
    assert remarks(found) == [("wrong-type", "(0008,0060)")]


@pytest.mark.parametrize(
    "element",
    [None, {}, {"vr": "CS"}, {"vr": "CS", "Value": None}, {"vr": "CS", "Value": []},
     {"vr": "CS", "Value": [None]}, {"vr": "CS", "Value": [""]}],
)  # fmt: skip
def test_nothing_stated_is_no_remark(element: Any):
    found = header("00080060", element)
    assert found.series.modality is None
    assert found.remarks == ()


@pytest.mark.parametrize(
    "element",
    [
        {"Value": ["MR"]},
        {"vr": None, "Value": ["MR"]},
        {"vr": "ZZ", "Value": ["MR"]},
        {"vr": "CS", "Value": ["MR "]},
    ],
)
def test_a_missing_or_odd_vr_does_no_harm(element: Any):
    assert header("00080060", element) == EXPECTED.instance.header


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, 3), ("3", 3), (3.0, 3), (" 3 ", 3), (-1, None), (3.5, None), (2**31, None), (True, None),
     ("x", None), (1e300, None)],
)  # fmt: skip
def test_numbers_may_be_strings(value: Any, expected: int | None):
    found = header("00200011", {"vr": "IS", "Value": [value]})
    assert found.series.number == expected
    assert bool(found.remarks) is (expected is None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Alphabetic": "A^B", "Ideographic": "李^明"}, "A^B=李^明"),
        ({"Phonetic": "み"}, "==み"),
        ({"Alphabetic": None}, None),
        ({}, None),
        ("A^B", "A^B"),
        (None, None),
    ],
)
def test_person_names(value: Any, expected: str | None):
    found = header("00100010", {"vr": "PN", "Value": [value]})
    assert (found.patient.name, found.remarks) == (expected, ())


@pytest.mark.parametrize("value", [7, {"Alphabetic": 7}, {"Alphabetic": {"family": "x"}}, ["A"]])
def test_person_names_of_a_wrong_type(value: Any):
    found = header("00100010", {"vr": "PN", "Value": [value]})
    assert (found.patient.name, remarks(found)) == (None, [("wrong-type", "(0010,0010)")])


@pytest.mark.parametrize("value", [7, 7.0, {"Alphabetic": "7"}])
def test_a_patient_id_that_is_no_string_is_none(value: Any):
    found = header("00100020", {"vr": "LO", "Value": [value]})
    assert found.patient.id is None
    assert ("wrong-type", "(0010,0020)") in remarks(found)


def test_an_issuer_of_a_wrong_type_is_not_no_issuer():
    assert header("00100021", {"vr": "LO", "Value": [7]}).patient.id is None
    assert header("00100024", {"vr": "SQ", "Value": ["x"]}).patient.id is None


@pytest.mark.parametrize("element", [{"vr": "SQ", "Value": ["x"]}, {"vr": "SQ", "Value": {}}, "x"])
def test_a_sequence_of_a_wrong_type(element: Any):
    found = header("00081032", element)
    assert ("wrong-type", "(0008,1032)") in remarks(found)
    assert [code.value for code in found.study.procedure_codes] == ["MRP"]  # the request's


@pytest.mark.parametrize("key", ["0020000D", "0020000E", "00080018", "00080016"])
@pytest.mark.parametrize(
    ("element", "error"),
    [
        (None, HeaderUidMissing),
        ({"vr": "UI"}, HeaderUidMissing),
        ({"vr": "UI", "Value": [7]}, HeaderUidInvalid),
        ({"vr": "UI", "Value": ["1.2", "1.3"]}, HeaderUidInvalid),
        ({"vr": "UI", "Value": ["../../x"]}, HeaderUidInvalid),
        ("1.2", HeaderUidInvalid),
    ],
)
def test_uids(key: str, element: Any, error: type[HeaderError]):
    with pytest.raises(error) as refusal:
        JsonReader().received(changed(key, element))
    assert refusal.value.tag == f"({key[:4]},{key[4:]})"
    known = {
        "0020000D": refusal.value.study_instance_uid,
        "00080018": refusal.value.sop_instance_uid,
        "00080016": refusal.value.sop_class_uid,
    }
    stated = {name: MODEL[name]["Value"][0] for name in known}
    assert known == stated | ({key: None} if key in known else {})


@pytest.mark.parametrize("row", [None, [], "x", 7])
def test_what_is_no_object_is_refused(row: Any):
    with pytest.raises(HeaderError):
        JsonReader().received(row)
    assert uid_in(row, tags.STUDY_INSTANCE_UID) is None


def test_lower_case_keys_are_understood():
    assert JsonReader().received({key.lower(): value for key, value in MODEL.items()}) == EXPECTED


def test_a_key_in_both_cases_counts_in_capitals():
    other = {"vr": "UI", "Value": ["1.2.999"]}
    for model in ({"0020000d": other, **MODEL}, {**MODEL, "0020000d": other}):
        assert JsonReader().received(model) == EXPECTED


def test_values_run_together_are_parted():
    joined = header("00080008", {"vr": "CS", "Value": ["ORIGINAL\\PRIMARY\\M\\ND"]})
    assert joined == EXPECTED.instance.header


def test_deep_nesting():
    nested: dict[str, Any] = {}
    for _ in range(200):
        nested = {"00321064": {"vr": "SQ", "Value": [nested]}}
    with pytest.raises(HeaderError):
        JsonReader().received(MODEL | nested)
    for _ in range(20_000):
        nested = {"00321064": {"vr": "SQ", "Value": [nested]}}
    with pytest.raises(HeaderError):
        JsonReader().received(MODEL | nested)


def test_what_json_has_not():
    for value in ("\ud800", float("nan"), 10**400):
        with suppress(HeaderError):
            JsonReader().received(changed("00081030", {"vr": "LO", "Value": [value]}))


def test_rows_of_series_and_study_fill_what_the_instance_lacks():
    keys = ("00080016", "00080018", "00200013", "0020000D", "0020000E")
    instance = {key: MODEL[key] for key in keys} | {"00080020": {"vr": "DA"}}
    series = {"00080060": {"vr": "CS", "Value": ["CT"]}, "00200013": {"vr": "IS", "Value": [99]}}
    study = MODEL
    received = JsonReader().received(instance, series, study)
    assert received.instance.number == 7
    assert received.instance.header.series.modality == "CT"
    assert received.instance.header.study == EXPECTED.instance.header.study
    alone = JsonReader().received(instance).instance.header
    assert alone.study.started is None


def test_uids_of_rows():
    row = {
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00080018": {"vr": "UI", "Value": ["x"]},
    }
    assert uid_in(row, tags.STUDY_INSTANCE_UID) == "1.2.3"
    assert uid_in(row, tags.SOP_INSTANCE_UID) is None
    assert uid_in(row, tags.SERIES_INSTANCE_UID) is None


def test_settings_reach_the_json_too():
    model = changed("00080020", {"vr": "DA", "Value": ["20240610"]}) | {
        "00080023": {"vr": "DA", "Value": ["20240611"]},
        "00080033": {"vr": "TM", "Value": ["10"]},
    }
    known = HeaderSettings(placeholder_dates=(date(2024, 6, 10),))
    assert JsonReader(known).received(model).instance.header.series.content == Moment(
        date(2024, 6, 11)
    )
    started = JsonReader().received(model).instance.header.study.started
    assert started is not None
    assert started.time == time(9, 15, 30, 123_000)


def another(**changes: Any) -> dict[str, Any]:
    """Return another instance of the same series, changed at some tags."""
    other: dict[str, Any] = orjson.loads(orjson.dumps(MODEL))
    other["00080018"] = {"vr": "UI", "Value": ["1.2.3.1.1.8"]}
    other["00200013"] = {"vr": "IS", "Value": [8]}
    return other | changes


def test_equal_rows_share_one_header():
    reader = JsonReader()
    first, received = reader.received(MODEL), reader.received(another())
    assert received.instance.header is first.instance.header == EXPECTED.instance.header
    assert received.instance[:2] == ("1.2.3.1.1.8", 8)


def test_equal_rows_share_one_header_with_the_same_remarks():
    reader = JsonReader()
    odd = {"00200013": {"vr": "IS", "Value": ["x"]}}
    first, second = reader.received(MODEL | odd), reader.received(another(**odd))
    assert first.instance.header is second.instance.header
    assert first.instance.header.remarks
    assert not reader.received(MODEL).instance.header.remarks


ROWS = (
    MODEL,
    another(),
    changed("00080020", None),  # no Study Date: the moments count
    changed("00080020", None) | {"00080023": {"vr": "DA", "Value": ["20240611"]}},
    changed("00080021", None),
    MODEL | {"00080023": {"vr": "DA", "Value": ["20240612"]}},
    changed("00080016", {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.88.59"]}),
    changed("0008103E", {"vr": "LO", "Value": ["another"]}),
    {key.lower(): value for key, value in MODEL.items()},
)


@given(st.lists(st.sampled_from(ROWS), max_size=12))
def test_what_was_read_before_changes_nothing(rows: list[dict[str, Any]]):
    reader = JsonReader()
    assert [reader.received(row) for row in rows] == [JsonReader().received(row) for row in rows]


def test_what_is_remembered_is_bounded():
    reader = JsonReader()
    texts = [f"{n} {'x' * 900}" for n in range(1400)]
    for text in texts:
        row = MODEL | {"00081030": {"vr": "LO", "Value": [text]}}
        assert reader.received(row).instance.header.study.description == text
    assert sum(len(key) for _, key in reader._shared) <= 1 << 20


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["vr", "Value", *MODEL]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from([*MODEL, "00081190"]), JSON, max_size=6))
def test_any_json_is_read_or_refused(changes: dict[str, Any]):
    model = MODEL | changes
    with suppress(HeaderError):
        received = JsonReader().received(model)
        assert received.study_instance_uid
    uid_in(model, tags.STUDY_INSTANCE_UID)
