"""Our tables against pydicom's, which are made from the standard."""

from typing import Any

import pytest
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.codedict import codes

from flute_sync.body_part import ANATOMICAL_REGIONS, BODY_PART, body_part
from flute_sync.terminology import (
    ACQUISITION_MODALITY,
    MODALITY,
    SNOMED_RT_TO_CT,
    modality_of_sop_class,
)

STORAGE = "1.2.840.10008.5.1.4.1.1."


def test_modalities_are_those_of_cid_29_and_33():
    assert {c.value: c.meaning for c in codes.cid29.concepts.values()} == ACQUISITION_MODALITY
    assert {c.value: c.meaning for c in codes.cid33.concepts.values()} == MODALITY


def test_every_body_part_is_a_concept_of_dicom():
    snomed: Any = concepts["SCT"]
    known = {(code, meaning) for found in snomed.values() for code, (meaning, _) in found.items()}
    assert set(map(tuple, BODY_PART.values())) <= known
    assert all(len(term) <= 16 for term in BODY_PART)


@pytest.mark.parametrize(
    ("text", "code"),
    [("PROSTATE", "41216001"), ("pelvis", "816092008"), ("Whole-Body", "38266002"), ("X", None)],
)
def test_a_body_part_is_found_by_its_defined_term(text, code):
    concept = body_part(text)
    assert (concept.code if concept else None) == code


def test_regions_are_those_of_known_body_parts():
    assert {region.code for region in ANATOMICAL_REGIONS["41216001"]} == {"63337009"}
    assert {region.code for region in ANATOMICAL_REGIONS["416775004"]} == {"63337009", "67734004"}


@pytest.mark.parametrize(("old", "new"), [("T-92000", "41216001"), ("T-D1100", "69536005")])
def test_snomed_rt_becomes_snomed_ct(old, new):
    assert SNOMED_RT_TO_CT[old] == new


@pytest.mark.parametrize(
    ("tail", "modality"),
    [
        ("4", "MR"),
        ("4.1", "MR"),
        ("4.4", "MR"),
        ("3.1", "US"),
        ("66.4", "SEG"),
        ("66.1", "REG"),
        ("66", None),
        ("88.34", "SR"),
        ("88.59", "KO"),
        ("11.1", "PR"),
        ("104.1", "DOC"),
        ("7", None),
        ("9.1.1", "ECG"),
        ("9.2.1", None),
    ],
)
def test_a_sop_class_tells_its_modality_or_nothing(tail, modality):
    assert modality_of_sop_class(STORAGE + tail) == modality


@pytest.mark.parametrize("uid", ["", "1.2.3", "1.2.840.10008.5.1.4.1.10"])
def test_a_private_sop_class_tells_nothing(uid):
    assert modality_of_sop_class(uid) is None
