"""What an ImagingStudy tells of retrieving its images, manifests of it, and names of files."""

import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.fetch_errors import SelectorUnusable, StudyNotRetrievable
from flute_sync.retrieval import (
    WantedInstance,
    WantedSeries,
    WantedStudy,
    legal_uid,
    path_of,
    service_base,
    wanted_study,
)
from flute_sync.retrieval_manifest import lines, studies
from flute_sync.retrieval_names import Names

BASE = "https://pacs.example/dicom-web"
HOSTILE = [
    "",
    "..",
    "../../etc/passwd",
    "1.2/../..",
    "1.2.3\n",
    "1..2",
    "１.2",
    "1." * 40 + "1",
    None,
    7,
]


def endpoint(address=BASE, code="dicom-wado-rs", status="active"):
    return {"status": status, "connectionType": {"code": code}, "address": address}


def series(uid="1.2.3.1", instances=2, **more):
    listed = [
        {"uid": f"{uid}.{number}", "number": number, "sopClass": {"code": "urn:oid:1.2.840"}}
        for number in range(1, instances + 1)
    ]
    return {
        "uid": uid,
        "number": 3,
        "modality": {"code": "MR"},
        "numberOfInstances": instances,
        "instance": listed,
        **more,
    }


def study(*of_it, **more):
    return {
        "resourceType": "ImagingStudy",
        "id": "17",
        "status": "available",
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}],
        "subject": {"reference": "Patient/1"},
        "endpoint": [{"reference": "Endpoint/1"}],
        "series": list(of_it),
        **more,
    }


def read(resource, *endpoints):
    return wanted_study(resource, lambda _references: endpoints or (endpoint(),))


def test_uids_counts_and_addresses_are_read() -> None:
    found = read(study(series(), series("1.2.3.2", 1, modality={"code": "../x"})))
    assert (found.uid, found.reference, found.subject) == ("1.2.3", "ImagingStudy/17", "Patient/1")
    first, second = found.series
    assert first.addresses == (BASE,)
    assert first.instances[0] == WantedInstance("1.2.3.1.1", 1, "1.2.840")
    assert (first.number, first.modality, first.expected) == (3, "MR", 2)
    assert second.modality is None


@pytest.mark.parametrize(
    ("subject", "whose"),
    [
        ({"reference": "Patient/1/_history/2"}, "Patient/1"),
        ({"reference": "https://fhir.example/r4/Patient/1"}, "Patient/1"),
        ({"reference": "https://fhir.example/r4/Patient/1/_history/2"}, "Patient/1"),
        ({"reference": "https://other.example/Patient/1"}, "https://other.example/Patient/1"),
        ({"reference": "#p"}, None),
        ({"reference": "#p", "identifier": {"system": "urn:s", "value": "7"}}, "urn:s|7"),
    ],
)
def test_a_patient_has_one_name_and_shares_it_with_nobody(subject, whose) -> None:
    base_url = "https://fhir.example/r4"
    found = wanted_study(study(series(), subject=subject), lambda _: (endpoint(),), base_url)
    assert found.subject == whose


def test_a_series_that_is_listed_twice_is_one() -> None:
    again = {"uid": "1.2.3.1.9", "number": 9, "sopClass": {"code": "urn:oid:1.2.840"}}
    listed = series(), series("1.2.3.2", 1), series(instance=[again], numberOfInstances=1)
    first, second = read(study(*listed)).series
    assert {one.uid for one in first.instances} == {"1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.9"}
    assert (first.expected, second.expected) == (3, 1)
    assert read(study(series(), series())).series == read(study(series())).series
    (counted,) = read(study(series(), series(instance=[], numberOfInstances=5))).series
    assert (counted.instances, counted.expected) == ((), 5)
    (unknown,) = read(study(*[series(instance=[], numberOfInstances=None)] * 2)).series
    assert unknown.expected is None


@pytest.mark.parametrize("address", [f"{BASE}/studies", f"{BASE}/studies/", f"{BASE}/"])
def test_an_endpoint_that_names_the_studies_leads_to_the_service(address) -> None:
    (one,) = read(study(series()), endpoint(address=address)).series
    assert one.addresses == (BASE,)


def test_a_list_shorter_than_the_count_is_no_list() -> None:
    (one,) = read(study(series(numberOfInstances=5))).series
    assert (one.instances, one.expected) == ((), 5)
    (one,) = read(study(series(numberOfInstances=1))).series
    assert one.expected == 2
    (whole,) = read(study(numberOfInstances=9)).series
    assert (whole.uid, whole.expected) == (None, 9)
    assert read(study(numberOfInstances=0)).series == ()


@pytest.mark.parametrize(
    ("more", "count"),
    [
        ({"numberOfSeries": 3}, None),
        ({"numberOfInstances": 5}, 5),
        ({"numberOfSeries": 3, "numberOfInstances": 9}, 9),
        ({"numberOfSeries": 3, "numberOfInstances": 1}, 4),
    ],
)
def test_a_study_that_has_more_than_it_lists_is_asked_for_as_a_whole(more, count) -> None:
    both = series(), series("1.2.3.2")
    assert read(study(*both, **more)).series == (WantedSeries(None, (BASE,), count=count),)
    only_of_series = study(*both, **more) | {"endpoint": []}
    for one in only_of_series["series"]:
        one["endpoint"] = [{"reference": "Endpoint/1"}]
    assert read(only_of_series).series == (WantedSeries(None, (BASE,), count=count),)
    equal = read(study(*both, numberOfSeries=2, numberOfInstances=4))
    assert equal == read(study(*both)) == read(study(*both, numberOfSeries=1, numberOfInstances=3))
    assert [one.uid for one in equal.series] == ["1.2.3.1", "1.2.3.2"]


def test_what_no_series_counts_is_held_to_the_count_of_the_study() -> None:
    uncounted = {"uid": "1.2.3.1", "modality": {"code": "MR"}}
    (whole,) = read(study(uncounted, numberOfSeries=1, numberOfInstances=9)).series
    assert (whole.uid, whole.count) == (None, 9)


@pytest.mark.parametrize("uid", HOSTILE)
def test_a_uid_that_is_none_is_refused_wherever_it_stands(uid) -> None:
    with pytest.raises(StudyNotRetrievable):
        legal_uid(uid)
    with pytest.raises(StudyNotRetrievable):
        read(study(series() | {"uid": uid}))
    with pytest.raises(StudyNotRetrievable):
        read(study(series(instance=[{"uid": uid}])))
    identifier = [{"system": "urn:dicom:uid", "value": uid}]
    with pytest.raises(StudyNotRetrievable):
        read(study(series(), identifier=identifier))


@pytest.mark.parametrize(
    "found",
    [
        endpoint(code="dicom-qido-rs"),
        endpoint(status="off"),
        endpoint(address="ftp://pacs.example"),
        endpoint(address="https://user:secret@pacs.example"),
        {},
    ],
)
def test_without_a_usable_endpoint_there_is_no_address(found) -> None:
    with pytest.raises(StudyNotRetrievable, match="no active Endpoint"):
        read(study(series()), found)


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled"])
def test_what_was_withdrawn_is_not_fetched(status) -> None:
    with pytest.raises(StudyNotRetrievable, match=status):
        read(study(series(), status=status))


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("HTTPS://Pacs.Example:443/dicom-web/", BASE),
        ("http://127.0.0.1:8042/dicom-web", "http://127.0.0.1:8042/dicom-web"),
        ("http://[::1]:80/x", "http://[::1]/x"),
        ("https://pacs.example/a/../b", None),
        ("https://pacs.example/a/%2e%2E/b", None),
        ("https://pacs.example/a?b", None),
        ("https://pacs.example/a b", None),
        ("https://pacs.example:x/", None),
        ("file:///etc/passwd", None),
    ],
)
def test_an_address_is_compared_in_one_form(address, base) -> None:
    assert service_base(address) == base


# -- manifests -------------------------------------------------------------------------------

parts = st.integers(1, 10**9 - 1)
uids = st.builds("1.{}.{}".format, parts, parts)
instances = st.builds(
    WantedInstance, uids, st.none() | st.integers(0, 9999), st.none() | st.just("1.2.840")
)


@st.composite
def wanted(draw):
    found = []
    for uid in draw(st.lists(uids, min_size=1, max_size=4, unique=True)):
        listed = draw(st.lists(instances, max_size=4, unique_by=lambda one: one.uid))
        count = draw(st.integers(len(listed), 9)) if listed else draw(st.none() | st.integers(1, 9))
        number, modality = draw(st.none() | st.integers(0, 99)), draw(st.sampled_from(["MR", None]))
        found.append(WantedSeries(uid, (BASE,), number, modality, count, tuple(listed)))
    subject = draw(st.none() | st.just("Patient/1"))
    return WantedStudy(
        draw(uids), draw(st.none() | st.just("ImagingStudy/1")), subject, tuple(found)
    )


@given(st.lists(wanted(), max_size=3, unique_by=lambda one: one.uid))
def test_a_manifest_says_again_what_it_was_told(told) -> None:
    written = [line for one in told for line in lines(one)]
    assert list(studies(written)) == told


def test_a_line_has_the_address_of_what_it_names() -> None:
    first, second = lines(read(study(series())))
    assert first["url"] == f"{BASE}/studies/1.2.3/series/1.2.3.1/instances/1.2.3.1.1"
    assert second["number_of_instances"] == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"url": f"{BASE}/studies/1.2.3/series/1.2.3.1/instances/9.9"},
        {"url": None},
        {"url": "ftp://x/studies/1.2.3/series/1.2.3.1/instances/1.2.3.1.1"},
        {"study_instance_uid": None},
        {"sop_instance_uid": "../x"},
    ],
)
def test_a_line_that_was_tampered_with_is_refused(changed) -> None:
    line = next(lines(read(study(series())))) | changed
    with pytest.raises(SelectorUnusable, match="line 1"):
        list(studies([line]))
    with pytest.raises(SelectorUnusable):
        list(studies(["no object"]))


# -- names -----------------------------------------------------------------------------------

texts = (
    st.none() | st.text() | st.sampled_from(["Patient/..", "Patient/a/../..", "../..", "Patient/1"])
)
SAFE = re.compile(r"[A-Za-z0-9._-]+")


@given(
    texts,
    uids,
    uids,
    st.none() | st.integers(0, 2**31),
    texts,
    st.sampled_from(["pseudonym", "uid"]),
)
def test_no_name_leads_out_of_the_folder(subject, study_uid, uid, number, modality, naming) -> None:
    names = Names(naming, b"key")
    path = "/".join(
        [
            names.study(subject, study_uid),
            names.series(uid, number, modality),
            names.instance(uid, number),
        ]
    )
    parts = PurePosixPath(path).parts
    assert len(parts) == 4
    assert all(SAFE.fullmatch(part) and set(part) != {"."} for part in parts)


def test_pseudonyms_tell_nothing_and_stay_the_same() -> None:
    one, same, other = (Names("pseudonym", key) for key in (b"a", b"a", b"b"))
    name = one.study("Patient/1", "1.2.3")
    assert name == same.study("Patient/1", "1.2.3") != other.study("Patient/1", "1.2.3")
    assert name.split("/")[0] == one.study("Patient/1", "1.2.4").split("/")[0]
    assert "1.2.3" not in name
    assert Names("uid", b"").study("Patient/1", "1.2.3") == "sub-1/ses-1.2.3"
    assert path_of("1.2.3") == "/studies/1.2.3"
