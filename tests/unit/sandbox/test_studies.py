"""The synthetic studies and the FLUTE patient."""

import io
from datetime import UTC, date, datetime
from typing import Any

import httpx
import numpy as np
from pydicom import dcmread

from flute_sync.sandbox.clinical import flute_bundle, flute_patient
from flute_sync.sandbox.studies import SyntheticPatient, part10, prostate_mpmri, prostate_trus

PATIENT = SyntheticPatient()
SMALL: dict[str, Any] = {"slices": 3, "size": 32}


def test_the_same_seed_gives_the_same_bytes():
    one, other = (
        [part10(dataset) for dataset in prostate_mpmri(PATIENT, seed=7, **SMALL)] for _ in range(2)
    )
    assert one == other


def test_another_seed_gives_another_study():
    uids = [
        {dataset.SOPInstanceUID for dataset in prostate_mpmri(PATIENT, seed=seed, **SMALL)}
        for seed in (0, 1)
    ]
    assert not uids[0] & uids[1]


def test_an_mpmri_has_its_sequences():
    datasets = list(prostate_mpmri(PATIENT, **SMALL, b_values=(0, 1000), dce_phases=3))
    by_series: dict[str, list] = {}
    for dataset in datasets:
        by_series.setdefault(dataset.SeriesDescription, []).append(dataset)
    sizes = {name: len(held) for name, held in by_series.items()}
    assert sizes == {
        "t2_tse_axi": 3,
        "t2_tse_sag": 3,
        "t2_tse_cor": 3,
        "ep2d_diff": 6,
        "ep2d_diff_ADC": 3,
        "t1_vibe_dce": 9,
    }
    assert {one.DiffusionBValue for one in by_series["ep2d_diff"]} == {0.0, 1000.0}
    assert by_series["ep2d_diff_ADC"][0].ImageType[:3] == ["DERIVED", "PRIMARY", "ADC"]
    assert by_series["t1_vibe_dce"][-1].TemporalPositionIdentifier == 3
    assert len({one.StudyInstanceUID for one in datasets}) == 1
    assert len({one.SOPInstanceUID for one in datasets}) == len(datasets)


def test_what_the_mapping_reads_is_there():
    when = datetime(2025, 6, 7, 8, 9, 10, tzinfo=UTC)
    dataset = dcmread(io.BytesIO(part10(next(prostate_mpmri(PATIENT, when=when, **SMALL)))))
    assert (dataset.StudyDate, dataset.StudyTime) == ("20250607", "080910")
    assert dataset.TimezoneOffsetFromUTC == "+0000"
    assert dataset.IssuerOfPatientID == "SANDBOX"
    assert dataset.IssuerOfAccessionNumberSequence[0].UniversalEntityIDType == "ISO"
    assert dataset.ProcedureCodeSequence[0].CodingSchemeDesignator == "RADLEX"
    assert dataset.AnatomicRegionSequence[0].CodeValue == "41216001"
    assert dataset.BodyPartExamined == "PROSTATE"
    assert dataset.SeriesTime == "081310"


def test_pictures_show_something_and_differ_by_weighting():
    datasets = prostate_mpmri(PATIENT, slices=1, size=64, b_values=(0, 1400))
    pixels = {
        dataset.DiffusionBValue: dcmread(io.BytesIO(part10(dataset))).pixel_array
        for dataset in datasets
        if "DiffusionBValue" in dataset
    }
    assert pixels[0.0].std() > 50
    assert pixels[0.0].mean() > 2 * pixels[1400.0].mean()


def test_a_trus_has_a_sweep_and_cores():
    sweep, *cores = prostate_trus(PATIENT, frames=4, cores=3, size=33)
    part10(sweep)
    assert sweep.pixel_array.shape == (4, 33, 33)
    assert len(cores) == 3
    assert {core.Modality for core in cores} == {"US"}
    assert np.unique(sweep.pixel_array).size > 50


def test_the_patient_of_study_and_server_is_one():
    resource = flute_patient(PATIENT, "urn:oid:1.2.3")
    dataset = next(prostate_mpmri(PATIENT, **SMALL))
    assert resource["identifier"] == [{"system": "urn:oid:1.2.3", "value": dataset.PatientID}]
    assert resource["birthDate"].replace("-", "") == dataset.PatientBirthDate
    assert resource["gender"] == "male"


def test_the_bundle_may_be_sent_again(sandbox):
    bundle = flute_bundle(PATIENT, "urn:oid:1.2.3", date(2024, 3, 1))
    for status in ("201", "200"):
        response = httpx.post(
            sandbox.fhir_url, json=bundle, headers={"Content-Type": "application/fhir+json"}
        )
        statuses = {one["response"]["status"][:3] for one in response.json()["entry"]}
        assert statuses == {status}
    found = httpx.get(f"{sandbox.fhir_url}/Observation?code=http://loinc.org|2857-1").json()
    (entry,) = found["entry"]
    assert entry["resource"]["subject"]["reference"].startswith("Patient/")
