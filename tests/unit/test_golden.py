"""The mapping against the golden files."""

import pytest
from fhir.resources.R4B.imagingstudy import ImagingStudy

from flute_sync.imaging_study import map_study
from tests.golden import FOLDER, golden_file, produced
from tests.studies import golden_cases


@pytest.mark.parametrize("name", golden_cases())
def test_a_case_comes_out_as_its_golden_file(name):
    assert produced(name).decode() == golden_file(name).read_text("utf-8")


@pytest.mark.parametrize("name", golden_cases())
def test_a_case_is_valid_to_the_whole_model(name):
    ImagingStudy.model_validate(map_study(*golden_cases()[name]).resource)


def test_no_golden_file_is_left_over():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(golden_cases())
