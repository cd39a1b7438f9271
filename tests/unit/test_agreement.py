"""What a study search says of a patient, compared with the headers that came."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from flute_sync.daemon.agreement import agrees
from flute_sync.sources.search import StudyRow
from flute_sync.study import PatientAttributes, PatientId
from tests.studies import PATIENT, header, series_of, study_of

KNOWN = replace(PATIENT, id=PatientId("P1"), birth_date=date(1950, 1, 2), sex="M")


def searched(patient: PatientAttributes, birth_date: str) -> bool:
    row: dict[str, Any] = {
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "00100030": {"vr": "DA", "Value": [birth_date]},
    }
    study = study_of(series_of(1, header(patient=patient)))
    return agrees(study, "pacs", StudyRow(study.study_instance_uid, 1, 1, "", (row,)))


@pytest.mark.parametrize(
    ("stated", "agreed"),
    [
        ("19500102", True),
        ("1950.01.02", True),
        ("19500103", False),
        ("", True),
        ("UNKNOWN", True),
        ("0", True),
        ("19500231", True),
    ],
)
def test_a_birth_date_that_is_none_contradicts_nobody(stated: str, agreed: bool):
    assert searched(KNOWN, stated) is agreed
    assert searched(replace(KNOWN, birth_date=None), stated)
