"""Series and their instances, element by element."""

from dataclasses import replace

import pytest

from flute_sync.imaging_study import ImagingStudySettings, map_study
from flute_sync.study import Code, Instance, SOPInstanceUID
from tests.studies import (
    EU_STRICT,
    KO,
    MR,
    PATIENT,
    ROOT,
    SC,
    SR,
    STUDY,
    context,
    header,
    moment,
    mpmri,
    series_of,
    study_of,
)

DEFAULT = ImagingStudySettings()


def resource(study, settings=DEFAULT, **told):
    return map_study(study, context(**told), settings).resource


def remarks(study, settings=DEFAULT, **told):
    mapped = map_study(study, context(**told), settings)
    return {one.code: one.count for one in mapped.remarks}


def single(study_attributes=STUDY, patient=PATIENT, sop_class=MR, count=1, **series):
    one = header(sop_class, study=study_attributes, patient=patient, **series)
    return study_of(series_of(1, one, count))


def series_element(*headers, settings=DEFAULT, **told):
    """The one series whose instances have these headers, one each."""
    instances = tuple(
        Instance(SOPInstanceUID(f"{ROOT}.1.{index}"), index, one)
        for index, one in enumerate(headers, 1)
    )
    study = study_of(replace(series_of(1, headers[0]), instances=instances))
    return resource(study, settings, **told)["series"][0]


def test_a_series_start_is_its_own_or_its_first_acquisition():
    first, second = header(acquired=moment(9, 7)), header(acquired=moment(9, 3))
    assert series_element(first, second)["started"] == "2023-03-01T09:03:00+01:00"
    assert "started" not in series_element(header(content=moment(9, 7)))


@pytest.mark.parametrize(
    ("stated", "sop_class", "code", "remark"),
    [
        ("MR", SC, "MR", None),
        ("mr", SC, "MR", None),
        (None, MR, "MR", "modality-derived"),
        ("", SR, "SR", "modality-derived"),
        ("m?r", KO, "KO", "modality-derived"),
        ("a value too long for CS", SC, None, "modality-missing"),
        (None, SC, None, "modality-missing"),
        ("XQ", MR, "XQ", "modality-undefined"),
    ],
)
def test_a_modality_is_stated_derived_or_unknown_and_never_invented(
    stated, sop_class, code, remark
):
    study = single(sop_class=sop_class, modality=stated)
    modality = resource(study)["series"][0]["modality"]
    assert modality.get("code") == code
    assert ("extension" in modality) is (code is None)
    assert ("display" in modality) is (code in {"MR", "SR", "KO"})
    assert {remark} - {None} <= remarks(study).keys()


def test_the_study_lists_acquisition_modalities_only():
    codes = [one["code"] for one in resource(mpmri())["modality"]]
    assert codes == ["MR"]
    assert "modality" not in resource(single(sop_class=SR, modality="SR"))


@pytest.mark.parametrize(
    ("attributes", "site"),
    [
        ({"body_part": "PROSTATE"}, ("41216001", "Prostate")),
        ({"body_part": "prostate "}, ("41216001", "Prostate")),
        ({"body_part": "PELVIS"}, ("816092008", "Pelvis")),
        ({"body_part": "UNTERBAUCH"}, (None, "UNTERBAUCH")),
        ({"anatomic_regions": (Code("T-92000", "SRT", "Prostate"),)}, ("41216001", "Prostate")),
        (
            {"anatomic_regions": (Code("T-92000", "SRT", "P"),), "body_part": "PELVIS"},
            ("41216001", "P"),
        ),
        (
            {"anatomic_regions": (Code("X", "99SITE", "odd"),), "body_part": "PELVIS"},
            ("816092008", "Pelvis"),
        ),
        ({"anatomic_regions": (Code("X", "99SITE", "odd"),)}, (None, "odd")),
    ],
)
def test_a_body_site_is_coded_where_it_can_be(attributes, site):
    found = series_element(header(**attributes))["bodySite"]
    assert (found.get("code"), found["display"]) == site


def test_the_coded_body_site_wins_then_the_majority():
    pelvis, prostate = header(body_part="PELVIS"), header(body_part="PROSTATE")
    coded = header(anatomic_regions=(Code("41216001", "SCT", "Prostate"),))
    assert series_element(pelvis, pelvis, coded)["bodySite"]["code"] == "41216001"
    assert series_element(pelvis, prostate, pelvis)["bodySite"]["code"] == "816092008"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([{"laterality": "R"}], "24028007"),
        ([{"laterality": "L"}, {}], "7771000"),
        ([{"laterality": "B"}], "51440002"),
        ([{"laterality": "U"}], None),
        ([{"image_laterality": "L"}, {"image_laterality": "L"}], "7771000"),
        ([{"image_laterality": "L"}, {"image_laterality": "R"}], None),
        ([{"image_laterality": "L"}, {}], None),
    ],
)
def test_laterality_is_the_series_own_or_uniform(headers, code):
    found = series_element(*(header(**one) for one in headers))
    assert found.get("laterality", {}).get("code") == code


def test_numbers_out_of_range_are_absent():
    assert "number" not in series_element(header(number=-1))
    assert series_element(header(number=2**31 - 1))["number"] == 2**31 - 1
    one = header()
    instances = tuple(
        Instance(SOPInstanceUID(f"{ROOT}.1.{index}"), number, one)
        for index, number in enumerate((2**31, -1, None, 0), 1)
    )
    study = study_of(replace(series_of(1, one), instances=instances))
    listed = resource(study)["series"][0]["instance"]
    assert [entry.get("number", "absent") for entry in listed] == [0, "absent", "absent", "absent"]


def test_an_instance_that_comes_twice_is_listed_where_it_was_first():
    first = series_of(1, header(number=1), 2)
    second = replace(series_of(2, header(number=2)), instances=first.instances[1:])
    study = study_of(second, first)
    found = resource(study)
    assert [one["uid"] for one in found["series"]] == [first.series_instance_uid]
    assert found["numberOfInstances"] == 2
    assert remarks(study)["sop-instance-uid-repeated"] == 1


def test_frames_are_told_in_eu_strict_only():
    study = single(count=1)
    framed = study_of(series_of(1, header(number_of_frames=40)))
    extension = resource(framed, EU_STRICT)["series"][0]["instance"][0]["extension"]
    assert extension[0]["valueInteger"] == 40
    assert "extension" not in resource(framed)["series"][0]["instance"][0]
    assert "extension" not in resource(study, EU_STRICT)["series"][0]["instance"][0]
