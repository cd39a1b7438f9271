"""What each series is for, told from headers as scanners of several vendors write them."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from flute_sync.sandbox.studies import SyntheticPatient, prostate_mpmri, prostate_trus
from flute_sync.series_role import Role, SeriesRole, role_of, roles
from flute_sync.sources.dicom_json import JsonReader
from flute_sync.sources.header import HeaderReader
from flute_sync.study import Instance, Plane, Series, SeriesInstanceUID, Study, StudyInstanceUID
from tests.headers import as_json, example, item, part10
from tests.studies import header, series_of

READER = HeaderReader()
SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL, SAGITTAL, CORONAL = (
    ["1", "0", "0", "0", "1", "0"],
    ["0", "1", "0", "0", "0", "-1"],
    ["1", "0", "0", "0", "0", "-1"],
)
PLAIN: dict[str, Any] = {
    "NumberOfFrames": None,
    "DiffusionBValue": None,
    "ContrastBolusAgent": None,
    "NumberOfTemporalPositions": None,
    "ImageOrientationPatient": AXIAL,
}


def image(number: int = 1, private: Iterable[tuple[int, str, Any]] = (), **said: Any) -> Instance:
    """Read an image as a file and as JSON; both must say the same."""
    dataset: Dataset = example(**{**PLAIN, "SOPInstanceUID": f"1.2.3.1.1.{number}", **said})
    for tag, vr, value in private:
        dataset.add_new(tag, vr, value)
    received = READER.read(part10(dataset))
    assert JsonReader().received(as_json(dataset)) == received
    assert received.instance.header.remarks == ()
    return received.instance


def one(*images: Instance) -> SeriesRole:
    return role_of(Series(SeriesInstanceUID("1.2.3.1"), images))


def sequence(*scanning: str, tr: str, te: str, **said: Any) -> dict[str, Any]:
    return {
        "ScanningSequence": list(scanning),
        "RepetitionTime": tr,
        "EchoTime": te,
        "SequenceName": None,
        **said,
    }


TSE = sequence("SE", tr="4000", te="101")
EPI = sequence("EP", tr="5000", te="70")
VIBE = sequence("GR", tr="4.1", te="1.4", ContrastBolusAgent="Gd", SequenceVariant="SP")


def siemens(b_value: str) -> list[tuple[int, str, Any]]:
    return [(0x0019_0010, "LO", "SIEMENS MR HEADER"), (0x0019_100C, "IS", b_value)]


def ge(b_value: str) -> list[tuple[int, str, Any]]:
    return [(0x0043_0010, "LO", "GEMS_PARM_01"), (0x0043_1039, "IS", [b_value, "8", "0", "0"])]


def philips(b_value: float) -> list[tuple[int, str, Any]]:
    return [(0x2001_0010, "LO", "Philips Imaging DD 001"), (0x2001_1003, "FL", b_value)]


def test_siemens():
    assert one(image(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "NORM"], **TSE)) == SeriesRole(
        Role.T2, Plane.AXIAL, told_by=("(0018,0020)", "(0018,0080)", "(0018,0081)")
    )
    trace = ["ORIGINAL", "PRIMARY", "DIFFUSION", "TRACEW", "ND", "NORM"]
    weighted = [
        image(number, siemens(str(b)), ImageType=trace, **EPI)
        for number, b in enumerate([800, 50, 800], 1)
    ]
    assert one(*weighted) == SeriesRole(
        Role.DWI, Plane.AXIAL, (50.0, 800.0), told_by=("(0008,0008)",)
    )
    adc = one(image(ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND", "NORM"], **EPI))
    assert (adc.role, adc.b_values) == (Role.ADC, ())
    calculated = ["DERIVED", "PRIMARY", "DIFFUSION", "CALC_BVALUE", "TRACEW", "ND"]
    high_b = one(image(private=siemens("2000"), ImageType=calculated, **EPI))
    assert (high_b.role, high_b.b_values) == (Role.CALCULATED_B, (2000.0,))
    dynamic = image(
        ImageType=["ORIGINAL", "PRIMARY", "M", "ND"], NumberOfTemporalPositions=40, **VIBE
    )
    assert one(dynamic).role is Role.DCE
    assert one(dynamic).contrast_agent
    late = image(ImageType=["ORIGINAL", "PRIMARY", "M", "ND"], **VIBE)
    assert one(late).role is Role.T1
    assert one(late).contrast_agent
    difference = image(ImageType=["DERIVED", "PRIMARY", "M", "ND", "SUB"], **VIBE)
    assert one(difference).role is Role.SUBTRACTION
    projection = image(ImageType=["DERIVED", "PRIMARY", "PROJECTION IMAGE", "MIP"], **VIBE)
    assert one(projection).role is Role.DERIVED


def test_what_was_calculated_is_not_among_the_b_values_that_were_acquired():
    acquired = image(1, siemens("50"), ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION"], **EPI)
    calculated = ["DERIVED", "PRIMARY", "DIFFUSION", "CALC_BVALUE"]
    added = image(2, siemens("1400"), ImageType=calculated, **EPI)
    assert one(acquired, added).role is Role.DWI
    assert one(acquired, added).b_values == (50.0,)


def test_ge():
    other = ["ORIGINAL", "PRIMARY", "OTHER"]
    echo = sequence("EP", "SE", tr="5000", te="70")
    weighted = one(
        image(1, ge("0"), ImageType=other, **echo),
        image(2, ge("1000001400"), ImageType=other, **echo),
    )
    assert weighted == SeriesRole(Role.DWI, Plane.AXIAL, (0.0, 1400.0), told_by=("(0018,9087)",))
    assert one(image(private=ge("0"), ImageType=other, **TSE)).role is Role.T2
    dynamic = sequence("GR", tr="4.1", te="1.4", NumberOfTemporalPositions=30)
    assert one(image(ImageType=other, **dynamic)).role is Role.DCE


def test_b_zero_alone_is_no_diffusion():
    """Philips states a b-value of 0 in whatever it acquires."""
    told = one(image(private=philips(0.0), ImageType=["ORIGINAL", "PRIMARY", "M_SE"], **TSE))
    assert told.role is Role.T2
    assert told.b_values == ()


def test_an_image_of_b_zero_belongs_to_the_series_it_is_in():
    said: dict[str, Any] = {"ImageType": ["ORIGINAL", "PRIMARY", "M_SE", "M", "SE"], **EPI}
    told = one(image(1, philips(0.0), **said), image(2, philips(1000.0), **said))
    assert (told.role, told.b_values) == (Role.DWI, (0.0, 1000.0))


def test_philips():
    magnitude = ["ORIGINAL", "PRIMARY", "M_SE", "M", "SE"]
    weighted = one(image(private=philips(800.0), ImageType=magnitude, **EPI))
    assert (weighted.role, weighted.b_values) == (Role.DWI, (800.0,))
    coefficient = ["ORIGINAL", "PRIMARY", "ADC_UNSPECIFIED", "ADC", "UNSPECIFIED"]
    assert one(image(private=philips(0.0), ImageType=coefficient, **EPI)).role is Role.ADC
    spoiled = ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"]
    assert one(image(ImageType=spoiled, NumberOfTemporalPositions=12, **VIBE)).role is Role.DCE


@pytest.mark.parametrize(
    "private",
    [
        [(0x0019_100C, "IS", "800")],
        [(0x0019_0010, "LO", "SOMEBODY ELSE"), (0x0019_100C, "IS", "800")],
        [(0x0019_0011, "LO", "SIEMENS MR HEADER"), (0x0019_100C, "IS", "800")],
        [(0x0043_0010, "LO", "GEMS_PARM_01"), (0x0043_1039, "LO", "many")],
        [(0x0043_0010, "LO", "GEMS_PARM_01"), (0x0043_1039, "IS", "")],
        [(0x0019_0010, "LO", "SOMEBODY ELSE"), (0x0019_100C, "OB", b"\x01\x02\x03\x04")],
        [(0x2001_0010, "LO", "Philips Imaging DD 001"), (0x2001_1003, "FL", float("nan"))],
        [(0x2001_0010, "LO", "Philips Imaging DD 001"), (0x2001_1003, "FL", -1.0)],
        [(0x2001_0010, "LO", "Philips Imaging DD 001"), (0x2001_1003, "LO", "800 ")],
    ],
)
def test_private_elements_count_only_where_they_are_what_they_seem(
    private: list[tuple[int, str, Any]],
):
    told = image(private=private, ImageType=["ORIGINAL", "PRIMARY", "M"], **EPI)
    assert told.header.series.diffusion_b_value is None
    assert one(told).role is None


@pytest.mark.parametrize("block", [0x11, 0x1F])
def test_private_block_may_stand_anywhere(block: int):
    private = [
        (0x0019_0000 | block, "LO", "SIEMENS MR HEADER"),
        (0x0019_000C | block << 8, "IS", "800"),
    ]
    assert image(private=private, **EPI).header.series.diffusion_b_value == 800.0


@pytest.mark.parametrize(
    ("private", "expected"),
    [
        ([(0x0019_0010, "LO", "SIEMENS MR HEADER"), (0x0019_100C, "UN", b"800 ")], 800.0),
        (
            [
                (0x2001_0010, "LO", "Philips Imaging DD 001"),
                (0x2001_1003, "UN", b"\x00\x00\x48\x44"),
            ],
            800.0,
        ),
    ],
)
def test_private_elements_that_lost_their_vr_on_the_way(
    private: list[tuple[int, str, Any]], expected: float
):
    assert image(private=private, **EPI).header.series.diffusion_b_value == expected


def test_the_standard_element_is_believed_first():
    told = image(private=siemens("50"), DiffusionBValue=900.0, **EPI)
    assert told.header.series.diffusion_b_value == 900.0


def frame(b_value: float | None) -> Dataset:
    if b_value is None:
        return item(MRDiffusionSequence=[item(DiffusionDirectionality="NONE")])
    return item(
        MREchoSequence=[item(EffectiveEchoTime=70.0)],
        MRDiffusionSequence=[item(DiffusionBValue=b_value, DiffusionDirectionality="ISOTROPIC")],
    )


def enhanced(**said: Any) -> Instance:
    absent = ("ScanningSequence", "EchoTime", "RepetitionTime", "SequenceName")
    defaults: dict[str, Any] = {"SOPClassUID": ENHANCED_MR, "NumberOfFrames": 3}
    merged: dict[str, Any] = {**dict.fromkeys(absent), **defaults, **said}
    return image(**merged)


DIFFUSION = ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]
FRAMES = [frame(b) for b in (0.0, 1000.0, None, 1000.0)]


def test_enhanced_diffusion_states_its_b_values_in_the_frames():
    told = one(
        enhanced(
            ImageType=DIFFUSION,
            AcquisitionContrast="DIFFUSION",
            SharedFunctionalGroupsSequence=[item(MREchoSequence=[item(EffectiveEchoTime=70.0)])],
            PerFrameFunctionalGroupsSequence=FRAMES,
        )
    )
    assert (told.role, told.b_values) == (Role.DWI, (0.0, 1000.0))


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", SYNTAXES)
@given(piece=st.integers(1, 300))
def test_frames_are_read_as_they_come(syntax: str, undefined: bool, piece: int):
    """However they are written and cut, and without waiting for the pixels."""
    dataset = example(
        **PLAIN
        | {
            "SOPClassUID": ENHANCED_MR,
            "ImageType": DIFFUSION,
            "NumberOfFrames": 4,
            "BitsAllocated": 8,
            "PixelRepresentation": 0,
            "PerFrameFunctionalGroupsSequence": [frame(b) for b in (0.0, 1000.0, None)],
            "PixelData": b"\0" * 50_000,
        }
    )
    if undefined:
        dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
        for groups in dataset.PerFrameFunctionalGroupsSequence:
            groups.is_undefined_length_sequence_item = True
            groups["MRDiffusionSequence"].is_undefined_length = True
    data = part10(dataset, syntax)
    parser = READER.parser()
    needless = [parser.feed(data[at : at + piece]) for at in range(0, len(data), piece)]
    series = parser.finish().instance.header.series
    assert series.diffusion_b_values == (0.0, 1000.0)
    if syntax != DeflatedExplicitVRLittleEndian:
        assert needless.index(True) * piece < len(data) - 49_000


@given(st.integers(12, 4000), st.binary(max_size=64))
def test_broken_frames_leave_the_header_as_it_is(at: int, rubbish: bytes):
    dataset = example(
        **PLAIN
        | {
            "SOPClassUID": ENHANCED_MR,
            "ImageType": DIFFUSION,
            "PerFrameFunctionalGroupsSequence": [frame(b) for b in range(20)],
        }
    )
    data = part10(dataset)
    begin = data.index(b"\x00\x52\x30\x92")
    broken = data[: begin + at] + rubbish
    found = READER.read(broken).instance.header
    assert found.series.image_type == tuple(DIFFUSION)
    if not rubbish:
        assert set(found.series.diffusion_b_values) <= {*map(float, range(20))}


def test_frames_that_share_their_b_value():
    shared = [frame(800.0)]
    told = enhanced(ImageType=DIFFUSION, SharedFunctionalGroupsSequence=shared)
    assert told.header.series.diffusion_b_value == 800.0
    assert told.header.series.diffusion_b_values == ()


@pytest.mark.parametrize(
    ("image_type", "contrast", "role"),
    [
        (["ORIGINAL", "PRIMARY", "T2", "NONE"], "T2", Role.T2),
        (["ORIGINAL", "PRIMARY", "T1", "NONE"], "T1", Role.T1),
        (["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], "DIFFUSION", Role.ADC),
        (["ORIGINAL", "PRIMARY", "PERFUSION", "NONE"], "T1", Role.DCE),
        (["ORIGINAL", "PRIMARY", "DYNAMIC", "NONE"], "UNKNOWN", Role.DCE),
        (["DERIVED", "PRIMARY", "PERFUSION", "SUBTRACTION"], "T1", Role.SUBTRACTION),
        (["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"], "T2", Role.LOCALIZER),
        (["ORIGINAL", "PRIMARY", "PROTON_DENSITY", "NONE"], "PROTON_DENSITY", None),
        (["ORIGINAL", "PRIMARY", "MIXED", "NONE"], "MIXED", None),
    ],
)
def test_enhanced_mr(image_type: list[str], contrast: str, role: Role | None):
    assert one(enhanced(ImageType=image_type, AcquisitionContrast=contrast)).role is role


def test_a_scout_cuts_in_several_planes():
    said: dict[str, Any] = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]}
    survey = [
        image(number, ImageOrientationPatient=plane, **said, **sequence("GR", tr="8", te="3"))
        for number, plane in enumerate([AXIAL, SAGITTAL, CORONAL], 1)
    ]
    assert one(*survey) == SeriesRole(Role.LOCALIZER, told_by=("(0020,0037)",))


@pytest.mark.parametrize(
    ("cosines", "plane"),
    [
        (AXIAL, Plane.AXIAL),
        (SAGITTAL, Plane.SAGITTAL),
        (CORONAL, Plane.CORONAL),
        (["1", "0", "0", "0", "0.94", "-0.34"], Plane.AXIAL),  # tilted to the prostate, 20 degrees
        (["1", "0", "0", "0", "0.7071", "-0.7071"], None),
        (["1", "0", "0"], None),
        (["0", "0", "0", "0", "0", "0"], None),
        (None, None),
    ],
)
def test_plane(cosines: list[str] | None, plane: Plane | None):
    assert one(image(ImageOrientationPatient=cosines)).plane is plane


@pytest.mark.parametrize(
    "said",
    [
        sequence("SE", tr="2000", te="40"),  # between the two weightings
        sequence("SE", "IR", tr="4000", te="101"),
        sequence("GR", tr="500", te="20"),
        sequence("GR", tr="4.1", te="1.8", SequenceVariant=["SS", "SK"]),  # balanced, not T1
        sequence("EP", "GR", tr="2000", te="30", NumberOfTemporalPositions=60),  # T2* perfusion
        {**TSE, "EchoTime": None},
        {**TSE, "ImageType": None},
    ],
)
def test_unknown_where_attributes_do_not_say(said: dict[str, Any]):
    assert one(image(**{"SeriesDescription": "t2_tse_tra ADC DWI dce", **said})).role is None


def test_images_that_say_different_things_make_no_role():
    adc = image(1, ImageType=["DERIVED", "PRIMARY", "ADC"], **EPI)
    assert one(adc, image(2, **TSE)).role is None


def phases(*contrast: bool, description: str = "dyn") -> Study:
    attributes: dict[str, Any] = {
        "modality": "MR",
        "image_type": ("ORIGINAL", "PRIMARY", "M"),
        "scanning_sequence": ("GR",),
        "sequence_variant": ("SP",),
        "repetition_time": 4.1,
        "echo_time": 1.4,
    }
    return Study(
        StudyInstanceUID("1.2.3"),
        tuple(
            series_of(
                number,
                header(
                    "1.2.840.10008.5.1.4.1.1.4",
                    number=number,
                    description=f"{description} {number}",
                    contrast_agent=given,
                    **attributes,
                ),
                2,
            )
            for number, given in enumerate(contrast, 1)
        ),
    )


def test_phases_that_are_series_of_their_own():
    dynamic = roles(phases(False, True, True, True))
    assert {role.role for role in dynamic.values()} == {Role.DCE}
    assert {role.role for role in roles(phases(False, True)).values()} == {Role.T1}
    assert {role.role for role in roles(phases(False, False, False)).values()} == {Role.T1}


def test_synthetic_studies():
    patient = SyntheticPatient()
    for studies, expected in (
        (
            prostate_mpmri(patient, slices=2, size=8),
            [
                (Role.T2, Plane.AXIAL, ()),
                (Role.T2, Plane.SAGITTAL, ()),
                (Role.T2, Plane.CORONAL, ()),
                (Role.DWI, Plane.AXIAL, (50.0, 800.0, 1400.0)),
                (Role.ADC, Plane.AXIAL, ()),
                (Role.DCE, Plane.AXIAL, ()),
            ],
        ),
        (prostate_trus(patient, frames=1, cores=1, size=8), [(None, None, ())] * 2),
    ):
        members: dict[SeriesInstanceUID, list[Instance]] = {}
        for dataset in studies:
            received = READER.read(part10(dataset))
            members.setdefault(received.series_instance_uid, []).append(received.instance)
        series = tuple(Series(uid, tuple(images)) for uid, images in members.items())
        told = roles(Study(StudyInstanceUID("1.2.3"), series)).values()
        assert [(role.role, role.plane, role.b_values) for role in told] == expected


@given(st.permutations(range(6)), st.lists(st.sampled_from([0, 50, 800, 1400]), min_size=6))
def test_neither_order_nor_repetition_matters(order: list[int], b_values: list[int]):
    images = [
        Instance(
            sop_instance_uid,  # type: ignore[arg-type]
            None,
            header(
                "1.2.840.10008.5.1.4.1.1.4",
                modality="MR",
                image_type=("ORIGINAL", "PRIMARY", "DIFFUSION"),
                diffusion_b_value=float(b_values[number]),
            ),
        )
        for number, sop_instance_uid in enumerate("abcdef")
    ]
    shuffled = [images[number] for number in order]
    assert one(*images) == one(*shuffled) == one(*images, *shuffled)
    assert one(*images).b_values == tuple(sorted({float(b) for b in b_values[:6]}))
