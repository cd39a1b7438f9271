"""Merging: ours wins, what is foreign stays, what was ours goes, and nothing is written twice."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.ownership import bears, bears_uid, digest, merge, same, withdrawn_from

UID = "1.2.3"
SOURCE = "http://pacs.example/dicom-web"


def series(uid, *, instances=("1",), **elements):
    found = [{"uid": f"{uid}.{one}", "sopClass": {"code": "x"}} for one in instances]
    return {"uid": uid, "modality": {"code": "MR"}, "instance": found, **elements}


def ours(**elements):
    return {
        "resourceType": "ImagingStudy",
        "meta": {"source": SOURCE, "profile": ["http://profile"]},
        "identifier": [
            {"system": "urn:dicom:uid", "value": f"urn:oid:{UID}"},
            {"value": UID},
        ],
        "status": "available",
        "subject": {"reference": "Patient/1", "type": "Patient"},
        "series": [series("1.2.3.1")],
        **elements,
    }


def stored(resource, version="1", **elements):
    """As a server gives it back: with its own meta, narrative, and HAPI's suffix of the source."""
    there = copy.deepcopy(resource)
    meta = there.setdefault("meta", {})
    meta |= {"versionId": version, "lastUpdated": "2026-01-01T00:00:00Z"}
    if "source" in meta:
        meta["source"] = meta["source"].partition("#")[0] + "#AbCdEf"
    return {"id": "17", "text": {"status": "generated", "div": "<div/>"}, **there, **elements}


# -- whose study ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ({"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}, True),
        ({"system": "urn:dicom:uid", "value": "1.2.3"}, True),
        ({"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"}, True),
        ({"value": "1.2.3"}, True),
        ({"value": "urn:oid:1.2.3"}, True),
        ({"system": "urn:dicom:uid", "value": "urn:oid:1.2.34"}, False),
        ({"system": "urn:other", "value": "1.2.3"}, False),
        ({"system": "urn:dicom:uid", "value": 7}, False),
        ({"system": "urn:dicom:uid"}, False),
        ({"system": {}, "value": "1.2.3"}, False),
        ("1.2.3", False),
    ],
)
def test_a_study_is_known_in_every_form_of_its_uid(identifier, expected):
    assert bears_uid({"identifier": [identifier]}, UID) is expected


@pytest.mark.parametrize("identifier", [None, "x", {"system": "a", "value": "b"}, [], [None]])
def test_malformed_identifiers_bear_nothing(identifier):
    assert not bears({"identifier": identifier}, "a", "b")
    assert not bears_uid({"identifier": identifier}, UID)


def test_an_identifier_is_borne_exactly():
    resource = {"identifier": [{"system": "a", "value": "B"}]}
    assert bears(resource, "a", "B")
    assert not bears(resource, "a", "b")
    assert not bears({"identifier": [{"value": "B"}]}, "a", "B")


# -- the merge, case by case --------------------------------------------------------------------


def test_our_own_as_stored_is_unchanged():
    there = stored(ours())
    assert same(there, merge(there, ours(), digest(ours())))
    assert same(there, merge(there, ours(), None))


@pytest.mark.parametrize("element", ["description", "started", "status"])
def test_our_values_win(element):
    there = stored(ours(**{element: "theirs"}))
    merged = merge(there, ours(**{element: "ours"}), digest(ours(**{element: "was"})))
    assert merged[element] == "ours"
    assert not same(there, merged)


def test_our_value_that_we_state_no_more_goes():
    before = ours(description="Prostate")
    merged = merge(stored(before), ours(), digest(before))
    assert "description" not in merged


def test_a_value_that_we_never_stated_stays():
    there = stored(ours(description="by hand", reasonReference=[{"reference": "Condition/1"}]))
    merged = merge(there, ours(), digest(ours()))
    assert merged["description"] == "by hand"
    assert merged["reasonReference"] == [{"reference": "Condition/1"}]
    assert same(there, merged)


def test_a_value_of_ours_that_another_changed_stays_when_we_state_it_no_more():
    before = ours(description="Prostate")
    there = stored(ours(description="Prostate, seen"))
    assert merge(there, ours(), digest(before))["description"] == "Prostate, seen"


def test_without_a_digest_nothing_but_our_series_goes():
    there = stored(ours(description="x", series=[series("1.2.3.1"), series("1.2.3.2")]))
    merged = merge(there, ours(), None)
    assert merged["description"] == "x"
    assert [one["uid"] for one in merged["series"]] == ["1.2.3.1"]
    foreign = copy.deepcopy(there)
    foreign["meta"]["source"] = "http://other"
    kept = merge(foreign, ours(), None)
    assert [one["uid"] for one in kept["series"]] == ["1.2.3.1", "1.2.3.2"]
    assert kept["meta"]["source"] == SOURCE


def test_a_broken_digest_is_none():
    there = stored(ours(description="x"))
    for text in ("", "%%%", "AAA", "é"):
        assert merge(there, ours(), text)["description"] == "x"


def test_members_of_lists_are_kept_dropped_and_added():
    before = ours(endpoint=[{"reference": "Endpoint/a"}, {"reference": "Endpoint/b"}])
    there = stored(before)
    there["endpoint"].insert(1, {"reference": "Endpoint/theirs"})
    now = ours(endpoint=[{"reference": "Endpoint/b"}, {"reference": "Endpoint/c"}])
    merged = merge(there, now, digest(before))
    assert [one["reference"] for one in merged["endpoint"]] == [
        "Endpoint/theirs",
        "Endpoint/b",
        "Endpoint/c",
    ]


def test_identifiers_in_another_form_become_ours_and_foreign_ones_stay():
    there = stored(
        {
            "resourceType": "ImagingStudy",
            "identifier": [
                {"system": "urn:dicom:uid", "value": UID, "assigner": {"display": "them"}},
                {"system": "urn:acc", "value": "A1"},
            ],
        }
    )
    merged = merge(there, ours())
    assert merged["identifier"] == [
        {
            "system": "urn:dicom:uid",
            "value": f"urn:oid:{UID}",
            "assigner": {"display": "them"},
        },
        {"system": "urn:acc", "value": "A1"},
        {"value": UID},
    ]


def test_a_modality_in_a_wrong_system_is_not_said_twice():
    there = stored(ours(modality=[{"system": "DCM", "code": "MR"}]))
    now = ours(modality=[{"system": "http://dicom", "code": "MR"}])
    assert merge(there, now)["modality"] == [{"system": "http://dicom", "code": "MR"}]


def test_supporting_info_of_others_stays():
    url = "http://hl7.eu/fhir/ig/flute/StructureDefinition/resource-supportingInfo"
    mine = {"url": url, "valueReference": {"reference": "Observation/1"}}
    theirs = {"url": url, "valueReference": {"reference": "Observation/2"}}
    there = stored(ours(extension=[mine, theirs]))
    assert merge(there, ours(), digest(ours(extension=[mine])))["extension"] == [theirs]


def test_meta_of_others_stays():
    there = stored(ours())
    there["meta"] |= {"tag": [{"system": "t", "code": "x"}], "security": [{"code": "R"}]}
    there["meta"]["profile"].append("http://theirs")
    merged = merge(there, ours(), digest(ours()))
    assert merged["meta"] == {
        "source": SOURCE + "#AbCdEf",
        "profile": ["http://profile", "http://theirs"],
        "tag": [{"system": "t", "code": "x"}],
        "security": [{"code": "R"}],
    }
    assert same(there, merged)


def test_series_of_ours_go_and_foreign_ones_stay():
    before = ours(series=[series("1.2.3.1"), series("1.2.3.2")])
    there = stored(before)
    there["series"].insert(0, series("1.2.3.9"))
    merged = merge(there, ours(), digest(before))
    assert [one["uid"] for one in merged["series"]] == ["1.2.3.9", "1.2.3.1"]


def test_what_others_added_to_our_series_and_instances_stays():
    before = ours(series=[series("1.2.3.1", description="old")])
    there = stored(before)
    there["series"][0] |= {
        "performer": [{"actor": {"display": "x"}}],
        "extension": [{"url": "u", "valueString": "v"}],
    }
    there["series"][0]["instance"][0]["extension"] = [{"url": "i", "valueInteger": 1}]
    now = ours(series=[series("1.2.3.1", instances=("1", "2"), description="new")])
    (merged,) = merge(there, now, digest(before))["series"]
    assert merged["description"] == "new"
    assert merged["performer"] == [{"actor": {"display": "x"}}]
    assert merged["extension"] == [{"url": "u", "valueString": "v"}]
    assert merged["instance"][0]["extension"] == [{"url": "i", "valueInteger": 1}]
    assert [one["uid"] for one in merged["instance"]] == ["1.2.3.1.1", "1.2.3.1.2"]


def test_instances_of_a_series_as_we_wrote_it_are_replaced():
    before = ours(series=[series("1.2.3.1", instances=("1", "2"), bodySite={"code": "a"})])
    (merged,) = merge(stored(before), ours(), digest(before))["series"]
    assert merged == series("1.2.3.1")


def test_a_logical_subject_becomes_literal():
    before = ours(subject={"type": "Patient", "identifier": {"system": "s", "value": "v"}})
    merged = merge(stored(before), ours(), digest(before))
    assert merged["subject"] == {"reference": "Patient/1", "type": "Patient"}


def test_the_display_that_another_gave_the_same_subject_stays():
    there = stored(ours())
    there["subject"]["display"] = "Mr X"
    merged = merge(there, ours(), digest(ours()))
    assert merged["subject"] == {"reference": "Patient/1", "type": "Patient", "display": "Mr X"}


@pytest.mark.parametrize(
    "nonsense",
    [
        {"meta": "x"},
        {"series": "x"},
        {"series": [None, 7, {"uid": {}}]},
        {"identifier": [[1], {"system": {}}, None]},
        {"identifier": {"system": "a"}},
        {"extension": [{"url": 1, "valueReference": 7}]},
        {"subject": "Patient/1"},
        {"endpoint": [{"reference": []}]},
        {"series": [{"uid": "1.2.3.1", "instance": "x"}]},
        {"series": [{"uid": "1.2.3.1", "instance": ["1.2.3.1.1", None]}]},
    ],
)
def test_nonsense_of_a_server_is_survived(nonsense):
    merged = merge({"id": "17", **nonsense}, ours(), digest(ours()))
    assert merged["id"] == "17"
    assert merged["status"] == "available"
    assert merged["subject"]["reference"] == "Patient/1"


def test_order_and_narrative_do_not_count_but_values_do():
    there = stored(ours(series=[series("1.2.3.1"), series("1.2.3.2")]))
    turned = copy.deepcopy(there)
    turned["series"].reverse()
    turned["identifier"].reverse()
    turned["text"] = {"status": "empty", "div": "<div>other</div>"}
    assert same(there, turned)
    turned["series"][0]["instance"][0]["sopClass"]["code"] = "y"
    assert not same(there, turned)


def test_a_digest_holds_no_value_and_little_space():
    text = digest(ours(description="Secret"))
    assert "Secret" not in text
    assert len(digest(ours(series=[series(f"1.2.3.{n}") for n in range(10)]))) < 260


# -- laws -----------------------------------------------------------------------------------------

words = st.sampled_from(["a", "b", "c", "d"])
codings = st.lists(
    st.fixed_dictionaries({"system": words, "code": words}),
    max_size=3,
    unique_by=lambda one: (one["system"], one["code"]),
)
instance_lists = st.lists(words, min_size=1, max_size=3, unique=True)
series_lists = st.lists(
    st.builds(
        lambda uid, instances, extra: series(f"1.2.3.{uid}", instances=instances, **extra),
        words,
        instance_lists,
        st.dictionaries(st.sampled_from(["description", "laterality"]), words, max_size=2),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one["uid"],
)
statements = st.builds(
    lambda scalars, reasons, many: ours(
        **scalars, **({"procedureCode": reasons} if reasons else {}), series=many
    ),
    st.dictionaries(st.sampled_from(["description", "started", "status"]), words, max_size=3),
    codings,
    series_lists,
)
additions = st.fixed_dictionaries(
    {},
    optional={
        "note": st.just([{"text": "theirs"}]),
        "extension": st.just([{"url": "theirs", "valueString": "x"}]),
        "contained": st.just([{"resourceType": "Basic"}]),
        "interpreter": st.just([{"reference": "Practitioner/1"}]),
    },
)


@given(before=statements, now=statements)
def test_untouched_resources_become_exactly_what_we_state(before, now):
    merged = merge(stored(before), now, digest(before))
    assert same(stored(now), {**merged, "text": None})


@given(before=statements, now=statements, theirs=additions, known=st.booleans())
def test_a_merge_is_idempotent_and_survives_the_server(before, now, theirs, known):
    there = stored({**before, **theirs})
    merged = merge(there, now, digest(before) if known else None)
    back = stored(json.loads(json.dumps(merged)), version="2")
    assert same(back, merged)
    assert same(back, merge(back, now, digest(now)))


@given(before=statements, now=statements, theirs=additions, foreign=series_lists)
def test_nothing_foreign_is_ever_lost(before, now, theirs, foreign):
    there = stored({**before, **theirs})
    strange = [{**one, "uid": "9." + one["uid"]} for one in foreign]
    there["series"] = strange + there["series"]
    there["identifier"].append({"system": "urn:other", "value": "1"})
    merged = merge(there, now, digest(before))
    for _ in range(2):
        for name, value in theirs.items():
            assert merged[name] == value
        assert all(one in merged["series"] for one in strange)
        assert {"system": "urn:other", "value": "1"} in merged["identifier"]
        merged = merge(stored(merged, version="2"), before, digest(now))


def test_an_instance_that_left_the_archive_goes_also_from_a_series_that_others_touched():
    before = ours(series=[series("1.2.3.1", instances=("1", "2"))])
    there = copy.deepcopy(before)
    there["series"][0]["performer"] = [{"actor": {"display": "MR 2"}}]
    now = ours(series=[series("1.2.3.1", instances=("1",))])
    (merged,) = merge(there, now, digest(before))["series"]
    assert [one["uid"] for one in merged["instance"]] == ["1.2.3.1.1"]
    assert merged["performer"] == [{"actor": {"display": "MR 2"}}]


def test_a_study_that_is_gone_keeps_what_it_told_but_not_its_address():
    current = {
        "resourceType": "ImagingStudy",
        "status": "available",
        "started": "2024-03-01",
        "endpoint": [{"reference": "Endpoint/ours"}, {"reference": "Endpoint/theirs"}],
        "series": [{"uid": "1.2", "endpoint": [{"reference": "Endpoint/ours"}]}],
    }
    left = withdrawn_from(current, {"Endpoint/ours"}, "unknown")
    assert left == {
        "resourceType": "ImagingStudy",
        "status": "unknown",
        "started": "2024-03-01",
        "endpoint": [{"reference": "Endpoint/theirs"}],
        "series": [{"uid": "1.2"}],
    }
    assert withdrawn_from(left, {"Endpoint/ours"}, "unknown") == left
