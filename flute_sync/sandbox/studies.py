"""Synthetic prostate studies: an mpMRI and a transrectal ultrasound, every value invented."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MRImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from flute_sync.sandbox import phantom

DEFAULT_WHEN: Final = datetime(2024, 3, 1, 9, 15, tzinfo=timezone(timedelta(hours=1)))
_ORIENTATION: Final = {
    "axial": (1, 0, 0, 0, 1, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
}
_HALF_FIELD_MM: Final = 90.0


@dataclass(frozen=True, slots=True)
class SyntheticPatient:
    """A person who does not exist."""

    patient_id: str = "FLUTE-0001"
    issuer: str = "SANDBOX"
    family_name: str = "Esempio"
    given_name: str = "Primo"
    birth_date: date = date(1951, 4, 12)
    sex: str = "M"


@dataclass(frozen=True, slots=True)
class _Study:
    """What all instances of a study share."""

    patient: SyntheticPatient
    seed: int
    when: datetime
    kind: str
    description: str
    procedure: tuple[str, str]

    def uid(self, *names: object) -> str:
        """Derive a UID that is the same for the same seed and names."""
        return generate_uid(entropy_srcs=[self.kind, str(self.seed), *map(str, names)])

    def random(self, *names: object) -> np.random.Generator:
        """Derive a source of noise that is the same for the same seed and names."""
        return np.random.default_rng([self.seed, *map(ord, "/".join(map(str, names)))])


@dataclass(frozen=True, slots=True)
class _Series:
    """What all instances of a series share."""

    number: int
    modality: str
    description: str
    minutes: int
    extra: Mapping[str, Any]
    level: int = 450


def prostate_mpmri(
    patient: SyntheticPatient,
    *,
    seed: int = 0,
    when: datetime = DEFAULT_WHEN,
    slices: int = 10,
    size: int = 128,
    b_values: Sequence[float] = (50, 800, 1400),
    dce_phases: int = 4,
) -> Iterator[Dataset]:
    """Make a multiparametric prostate MRI: T2 in three planes, DWI, ADC and DCE.

    Parameters
    ----------
    patient
        Who is imaged.
    seed
        0 to 2^32 - 1; the same seed gives the same UIDs and the same bytes.
    when
        When it began, with the zone of the scanner.
    slices
        Slices of each volume.
    size
        Rows and columns.
    b_values
        Diffusion weightings in s/mm2; all are in one series.
    dce_phases
        Volumes of the contrast series, the first one before contrast.
    """
    procedure = ("RPID2235", "MR Prostate")
    study = _Study(patient, seed, when, "mpMRI", "MRI prostate multiparametric", procedure)
    for number, plane in enumerate(_ORIENTATION, 1):
        t2 = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"], "ScanningSequence": "SE"}
        series = _Series(number, "MR", f"t2_tse_{plane[:3]}", 4 * number, t2)
        yield from _volumes(study, series, plane, slices, size, [({}, phantom.T2_SIGNAL)])
    dwi = {"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"], "ScanningSequence": "EP"}
    weighted = [
        ({"DiffusionBValue": float(b_value)}, phantom.diffusion_signal(b_value))
        for b_value in b_values
    ]
    series = _Series(4, "MR", "ep2d_diff", 17, dwi)
    yield from _volumes(study, series, "axial", slices, size, weighted)
    adc = {"ImageType": ["DERIVED", "PRIMARY", "ADC", "NONE"], "ScanningSequence": "EP"}
    series = _Series(5, "MR", "ep2d_diff_ADC", 17, adc, level=1500)
    yield from _volumes(study, series, "axial", slices, size, [({}, phantom.APPARENT_DIFFUSION)])
    dce = {"ImageType": ["ORIGINAL", "PRIMARY", "PERFUSION", "NONE"], "ScanningSequence": "GR"}
    phases = [
        (
            {"TemporalPositionIdentifier": phase + 1, "NumberOfTemporalPositions": dce_phases},
            phantom.contrast_signal(phase),
        )
        for phase in range(dce_phases)
    ]
    series = _Series(6, "MR", "t1_vibe_dce", 25, {**dce, "ContrastBolusAgent": "Gadobutrol"}, 350)
    yield from _volumes(study, series, "axial", slices, size, phases)


def prostate_trus(
    patient: SyntheticPatient,
    *,
    seed: int = 0,
    when: datetime = DEFAULT_WHEN + timedelta(days=20),
    frames: int = 8,
    cores: int = 4,
    size: int = 128,
) -> Iterator[Dataset]:
    """Make a transrectal ultrasound: a sweep of several frames, and a picture of each core.

    Parameters
    ----------
    patient
        Who is imaged.
    seed
        0 to 2^32 - 1; the same seed gives the same UIDs and the same bytes.
    when
        When it began, with the zone of the scanner.
    frames
        Frames of the sweep.
    cores
        Biopsy cores, each with its picture.
    size
        Rows and columns.
    """
    procedure = ("RPID2502", "US Prostate transrectal")
    study = _Study(patient, seed, when, "TRUS", "TRUS guided prostate biopsy", procedure)
    image_type = {"ImageType": ["ORIGINAL", "PRIMARY", "", "0001"]}
    sweep = _instance(study, _Series(1, "US", "TRUS sweep", 2, image_type), 1)
    sweep.SOPClassUID = UltrasoundMultiFrameImageStorage
    sweep.NumberOfFrames, sweep.FrameTime = frames, "40"
    sweep.FrameIncrementPointer = 0x00181063
    noise = study.random("sweep")
    offsets = np.linspace(-0.25, 0.25, frames)
    _set_pixels(sweep, np.stack([phantom.ultrasound(at, size, noise) for at in offsets]), 8)
    yield sweep
    for core in range(1, cores + 1):
        picture = _instance(study, _Series(2, "US", "Biopsy cores", 9, image_type), core)
        picture.SOPClassUID = UltrasoundImageStorage
        offset = -0.2 + 0.4 * core / cores
        _set_pixels(picture, phantom.ultrasound(offset, size, study.random("core", core)), 8)
        yield picture


def part10(dataset: Dataset) -> bytes:
    """Write a data set as a DICOM Part 10 file in explicit VR little endian (PS3.10 7, 2026b)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _volumes(
    study: _Study,
    series: _Series,
    plane: str,
    slices: int,
    size: int,
    volumes: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]],
) -> Iterator[Dataset]:
    """Make one MR series: each volume has its own attributes and its own shades of tissue."""
    number = 0
    for extra, shades in volumes:
        for at in np.linspace(-0.3, 0.3, slices):
            number += 1
            dataset = _instance(study, series, number)
            dataset.SOPClassUID = MRImageStorage
            _set_geometry(dataset, study, plane, float(at), size)
            for keyword, value in extra.items():
                setattr(dataset, keyword, value)
            noise = study.random(series.number, number)
            _set_pixels(dataset, phantom.section(plane, float(at), size, shades, noise), 16)
            dataset.WindowCenter, dataset.WindowWidth = str(series.level), str(2 * series.level)
            dataset.RescaleIntercept, dataset.RescaleSlope = "0", "1"
            yield dataset


def _instance(study: _Study, series: _Series, number: int) -> Dataset:
    """Fill in the patient, study, series and equipment modules."""
    dataset = Dataset()
    patient, begun = study.patient, study.when + timedelta(minutes=series.minutes)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = f"{patient.family_name}^{patient.given_name}"
    dataset.PatientID, dataset.IssuerOfPatientID = patient.patient_id, patient.issuer
    dataset.PatientBirthDate = patient.birth_date.strftime("%Y%m%d")
    dataset.PatientSex = patient.sex
    dataset.StudyInstanceUID = study.uid("study")
    dataset.StudyID = f"{study.kind}-{study.seed}"
    dataset.StudyDate, dataset.StudyTime = _date_time(study.when)
    dataset.TimezoneOffsetFromUTC = study.when.strftime("%z")
    dataset.AccessionNumber = f"{study.kind[:2].upper()}{study.seed:06d}"
    dataset.IssuerOfAccessionNumberSequence = [_issuer()]
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = study.description
    dataset.ProcedureCodeSequence = [_code(study.procedure[0], "RADLEX", study.procedure[1])]
    dataset.Modality, dataset.SeriesNumber = series.modality, series.number
    dataset.SeriesInstanceUID = study.uid("series", series.number)
    dataset.SeriesDescription = dataset.ProtocolName = series.description
    dataset.SeriesDate, dataset.SeriesTime = _date_time(begun)
    dataset.AcquisitionDate, dataset.AcquisitionTime = _date_time(begun)
    dataset.ContentDate, dataset.ContentTime = _date_time(begun)
    dataset.BodyPartExamined = "PROSTATE"
    dataset.AnatomicRegionSequence = [_code("41216001", "SCT", "Prostate")]
    dataset.Manufacturer = "flute-sync"
    dataset.ManufacturerModelName = "sandbox"
    dataset.SOPInstanceUID = study.uid("instance", series.number, number)
    dataset.InstanceNumber = number
    for keyword, value in series.extra.items():
        setattr(dataset, keyword, value)
    return dataset


def _set_geometry(dataset: Dataset, study: _Study, plane: str, at: float, size: int) -> None:
    spacing = f"{2 * _HALF_FIELD_MM / size:.4f}"
    corner = {
        "axial": (-_HALF_FIELD_MM, -_HALF_FIELD_MM, at * _HALF_FIELD_MM),
        "sagittal": (at * _HALF_FIELD_MM, -_HALF_FIELD_MM, _HALF_FIELD_MM),
        "coronal": (-_HALF_FIELD_MM, at * _HALF_FIELD_MM, _HALF_FIELD_MM),
    }[plane]
    dataset.FrameOfReferenceUID = study.uid("frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.PixelSpacing, dataset.SliceThickness = [spacing, spacing], "3"
    dataset.ImageOrientationPatient = list(_ORIENTATION[plane])
    dataset.ImagePositionPatient = [f"{coordinate:.3f}" for coordinate in corner]
    dataset.SequenceVariant, dataset.ScanOptions = "SK", "PFP"
    dataset.MRAcquisitionType, dataset.MagneticFieldStrength = "2D", "3"
    dataset.RepetitionTime, dataset.EchoTime, dataset.EchoTrainLength = "4000", "101", 25


def _set_pixels(dataset: Dataset, pixels: phantom.Image, bits: int) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = bits
    dataset.BitsStored = min(bits, 12)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    highest = 2**dataset.BitsStored - 1
    stored = pixels.clip(0, highest).astype("<u2" if bits == 16 else "u1").tobytes()
    dataset.add_new("PixelData", "OW" if bits == 16 else "OB", stored + b"\0" * (len(stored) % 2))


def _date_time(moment: datetime) -> tuple[str, str]:
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")


def _issuer() -> Dataset:
    issuer = Dataset()
    issuer.UniversalEntityID = "1.3.6.1.4.1.99999.1"
    issuer.UniversalEntityIDType = "ISO"
    return issuer


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
