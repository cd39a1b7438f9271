"""Which part of the body an ImagingStudy shows."""

from typing import Any

import pytest

from flute_sync.prostate import Prostate, has_modality, prostate
from tests.histories import DCM, KNEE, PELVIS, PROSTATE, SNOMED_CT, SNOMED_CT_OID, Resource, study

YES, POSSIBLE, NO = Prostate.YES, Prostate.POSSIBLE, Prostate.NO


def sct(code: str) -> Resource:
    return {"system": SNOMED_CT, "code": code}


def shown(*series: tuple[str, Resource | None], **elements: Any) -> Prostate:
    made = [
        {"uid": f"1.2.{number}", "modality": {"system": DCM, "code": modality}}
        | ({"bodySite": site} if site else {})
        for number, (modality, site) in enumerate(series)
    ]
    return prostate(study("m", None, series=made) | elements)


@pytest.mark.parametrize(
    ("site", "part"),
    [
        (None, POSSIBLE),
        (PROSTATE, YES),
        (sct("181422007"), YES),  # entire prostate
        (sct("399384005"), YES),  # its transition zone
        (sct("279706003"), YES),  # its peripheral zone
        (PELVIS, POSSIBLE),
        (sct("416775004"), POSSIBLE),  # chest, abdomen and pelvis
        (sct("38266002"), POSSIBLE),  # the whole body
        (sct("90264002"), POSSIBLE),  # male genital structure
        (sct("21514008"), POSSIBLE),  # genitourinary system
        (sct("818981001"), NO),  # abdomen
        (sct("89837001"), NO),  # urinary bladder
        (KNEE, NO),
        ({"display": "Prostata"}, YES),
        ({"display": "PR\u00d3STATA"}, YES),
        ({"display": "pro\u0301stata"}, YES),
        ({"display": "Knee"}, NO),
        ({"display": "Becken"}, POSSIBLE),
        ({"code": "PROSTATE"}, YES),
        ({"system": "urn:local", "code": "LSPINE"}, NO),
        ({"system": "urn:local", "code": "PELVIS"}, POSSIBLE),
        ({"system": "urn:local", "code": "17", "display": "lower back"}, POSSIBLE),
        ({"system": "http://www.radlex.org", "code": "RID343"}, YES),
        ({"system": "urn:oid:1.2.840.10008.2.16.4", "code": "T-92000"}, YES),
        ({"system": SNOMED_CT_OID, "code": "41216001"}, YES),
        ({"system": SNOMED_CT_OID, "code": "816092008"}, POSSIBLE),
        ({"system": SNOMED_CT_OID, "code": "72696002"}, NO),
        ({"system": SNOMED_CT}, POSSIBLE),
        ({"code": 5, "display": ["x"]}, POSSIBLE),
    ],
)
def test_body_sites(site: Resource | None, part: Prostate) -> None:
    assert shown(("MR", site)) is part


@pytest.mark.parametrize(
    ("series", "part"),
    [
        ([("MR", KNEE), ("MR", PROSTATE)], YES),
        ([("MR", KNEE), ("MR", PELVIS)], POSSIBLE),
        ([("MR", KNEE), ("MR", None)], NO),
        ([("MR", KNEE), ("US", PROSTATE)], NO),
        ([("MR", PROSTATE), ("CT", KNEE)], YES),
        ([("MR", None), ("SEG", PROSTATE)], YES),
        ([("US", PROSTATE)], YES),
        ([], POSSIBLE),
    ],
)
def test_several_series(series: list[tuple[str, Resource | None]], part: Prostate) -> None:
    assert shown(*series) is part


def test_what_the_site_says_goes_before() -> None:
    code = {"coding": [{"system": "urn:ris", "code": "MRP"}]}
    made = study("m", None, site=KNEE, procedureCode=[code], description="mpMRI")
    assert prostate(made) is NO
    assert prostate(made, [("urn:ris", "MRP")]) is YES
    assert prostate(made, [("urn:other", "MRP")]) is NO
    assert prostate(made, description="MPmri") is YES


@pytest.mark.parametrize(
    ("coding", "is_mr"),
    [
        ({"system": DCM, "code": "MR"}, True),
        ({"code": "MR"}, True),
        ({"system": "DCM", "code": "MR"}, True),
        ({"system": "urn:oid:1.2.840.10008.2.16.4", "code": "MR"}, True),
        ({"system": "urn:local", "code": "MR"}, False),
        ({"system": DCM, "code": "US"}, False),
    ],
)
def test_forms_of_the_modality(coding: Resource, is_mr: bool) -> None:
    assert has_modality({"series": [{"modality": coding}]}, "MR") is is_mr
    assert has_modality({"modality": [coding], "series": [{"uid": "1"}]}, "MR") is is_mr
