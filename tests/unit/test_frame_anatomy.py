"""The part of the body that only the frames of an enhanced image state."""

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

from flute_sync.sources.dicom_json import JsonReader
from flute_sync.sources.header import HeaderReader
from flute_sync.study import Code, SeriesAttributes
from tests.headers import as_json, code, example, item, part10, pydicom_reads

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
KNEE = Code("T-D9200", "SRT", "Knie Größe")
READER = HeaderReader()


def anatomy(side: str | None = "R", region: Code | None = KNEE) -> Dataset:
    """The Frame Anatomy Macro, with codes beside the region's that are not the region."""
    regions = []
    if region is not None:
        regions = [code(region.value, region.scheme, region.meaning or "")]
        regions[0].AnatomicRegionModifierSequence = [code("G-A100", "SRT", "Right")]
    frame = item(AnatomicRegionSequence=regions, FrameLaterality=side)
    frame.PrimaryAnatomicStructureSequence = [code("T-11700", "SRT", "Patella")]
    return item(FrameAnatomySequence=[frame])


def enhanced(**changes: Any) -> Dataset:
    shared = anatomy()
    shared.ReferencedImageSequence = [item(PurposeOfReferenceCodeSequence=[code("X", "DCM", "x")])]
    stated: dict[str, Any] = {
        "SOPClassUID": ENHANCED_MR,
        "AnatomicRegionSequence": None,
        "BodyPartExamined": None,
        "DiffusionBValue": None,
        "SharedFunctionalGroupsSequence": [shared],
        "PerFrameFunctionalGroupsSequence": [anatomy("L", Code("T-A0100", "SRT", "Brain"))] * 3,
        "BitsAllocated": 8,
        "PixelRepresentation": 0,
        "PixelData": b"\0" * 50_000,
    }
    return example(**stated | changes)


def read(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> SeriesAttributes:
    """Read it as a file and as metadata, which must say the same."""
    data = part10(dataset, syntax)
    found = READER.read(data).instance.header
    told = JsonReader().received(as_json(pydicom_reads(data))).instance.header
    assert (found.series, found.remarks) == (told.series, told.remarks)
    return found.series


@pytest.mark.parametrize("sop_class_uid", [ENHANCED_MR, ENHANCED_CT])
@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_what_all_frames_show_is_what_the_series_shows(syntax: str, sop_class_uid: str):
    series = read(enhanced(SOPClassUID=sop_class_uid), syntax)
    assert series.anatomic_regions == (KNEE,)
    assert series.image_laterality == "R"


@pytest.mark.parametrize("diffusion", [False, True])
@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("piece", [7, 1000])
def test_in_pieces_and_without_waiting_for_the_pixels(piece: int, undefined: bool, diffusion: bool):
    kind = ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]
    dataset = enhanced(**{"ImageType": kind} if diffusion else {})
    groups = dataset.SharedFunctionalGroupsSequence[0]
    groups.MRDiffusionSequence = [item(DiffusionBValue=800.0)]
    if undefined:
        for sequence in (dataset["SharedFunctionalGroupsSequence"], groups["FrameAnatomySequence"]):
            sequence.is_undefined_length = True
            sequence.value[0].is_undefined_length_sequence_item = True
    data = part10(dataset)
    parser = READER.parser()
    needless = [parser.feed(data[at : at + piece]) for at in range(0, len(data), piece)]
    series = parser.finish().instance.header.series
    assert (series.anatomic_regions, series.image_laterality) == ((KNEE,), "R")
    assert series.diffusion_b_value == (800.0 if diffusion else None)
    assert needless.index(True) * piece < len(data) - 49_000


def test_what_the_header_itself_states_comes_first():
    part = read(enhanced(BodyPartExamined="PROSTATE", Laterality="L"))
    assert (part.anatomic_regions, part.body_part) == ((), "PROSTATE")
    assert (part.laterality, part.image_laterality) == ("L", None)
    region = read(enhanced(AnatomicRegionSequence=[code("41216001", "SCT", "Prostate")]))
    assert [one.value for one in region.anatomic_regions] == ["41216001"]
    assert region.image_laterality == "R"


@pytest.mark.parametrize(
    "shared",
    [
        [],
        [item()],
        [item(FrameAnatomySequence=[])],
        [anatomy(None, None)],
        [item(PixelMeasuresSequence=[item(SliceThickness="3")])],
    ],
    ids=range(5),
)
def test_frames_that_do_not_share_it_say_nothing(shared: list[Dataset]):
    series = read(enhanced(SharedFunctionalGroupsSequence=shared))
    assert (series.anatomic_regions, series.image_laterality) == ((), None)


def test_an_image_of_another_kind_has_no_frames_to_ask():
    series = read(enhanced(SOPClassUID="1.2.840.10008.5.1.4.1.1.4"))
    assert (series.anatomic_regions, series.image_laterality) == ((), None)


@given(st.integers(12, 900), st.binary(max_size=64))
def test_broken_frames_leave_the_header_as_it_is(at: int, rubbish: bytes):
    data = part10(enhanced())
    begin = data.index(b"\x00\x52\x29\x92")
    found = READER.read(data[: begin + at] + rubbish).instance.header
    assert found.series.modality == "MR"
    if not rubbish:
        assert {one.value for one in found.series.anatomic_regions} <= {KNEE.value}
