"""DICOM objects made for tests, and the real files that pydicom brings along.

Nothing is fetched: only files that are installed with pydicom and pydicom-data are used.
"""

import importlib.util
import json
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

_PYDICOM = Path(pydicom.__file__).parent / "data"
_STORE = importlib.util.find_spec("data_store")
_PYDICOM_DATA = Path(_STORE.origin if _STORE and _STORE.origin else ".").parent / "data"

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def real_files() -> list[Path]:
    """List the DICOM files installed with pydicom and pydicom-data."""
    roots = (_PYDICOM / "test_files", _PYDICOM / "charset_files", _PYDICOM_DATA)
    found = (path for root in roots for path in root.rglob("*"))
    skipped = {".json", ".txt", ".py", ".icc", ".gz", ".dump", ".md", ".zip"}
    return sorted(p for p in found if p.is_file() and p.suffix not in skipped)


def pydicom_reads(data: bytes) -> Dataset:
    """Read with pydicom, whatever it grumbles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(BytesIO(data), stop_before_pixels=True, force=True)


def as_json(dataset: Dataset) -> dict[str, Any]:
    """Write the DICOM JSON model of a data set, as a server would send it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = dataset.to_json_dict(bulk_data_threshold=10**9, suppress_invalid_tags=True)
    decoded: dict[str, Any] = json.loads(json.dumps(model))
    return decoded


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Make an item of a code sequence."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def item(**attributes: Any) -> Dataset:
    """Make an item of a sequence, also one that breaks rules."""
    made = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in attributes.items():
            setattr(made, keyword, value)
    return made


def example(**changes: Any) -> Dataset:
    """Make an MR header with all attributes that are read; None leaves one out."""
    attributes: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
        "SOPClassUID": MR_IMAGE,
        "SOPInstanceUID": "1.2.3.1.1.7",
        "StudyDate": "20240610",
        "SeriesDate": "20240610",
        "StudyTime": "091530.123456",
        "SeriesTime": "0920",
        "AccessionNumber": "A-0017",
        "Modality": "MR",
        "Manufacturer": "Phantom Works",
        "ReferringPhysicianName": "Ansel^Rita",
        "TimezoneOffsetFromUTC": "+0200",
        "StationName": "MR1",
        "StudyDescription": "MRI prostate",
        "ProcedureCodeSequence": [code("719178004", "SCT", "Multiparametric MRI of prostate")],
        "SeriesDescription": "t2_tse_tra",
        "InstitutionalDepartmentName": "Radiology",
        "PerformingPhysicianName": ["Berg^Ole", "Cole^Ann"],
        "NameOfPhysiciansReadingStudy": "Dorn^Ulf",
        "OperatorsName": "Egli^Max",
        "ManufacturerModelName": "Phantom 3T",
        "AnatomicRegionSequence": [code("41216001", "SCT", "Prostate")],
        "PatientName": "Müller^Jörg^Karl Otto^Dr.^Jr.=李^明=",
        "PatientID": "0007",
        "IssuerOfPatientID": "HOSP",
        "IssuerOfPatientIDQualifiersSequence": [
            item(UniversalEntityID="1.2.3.4", UniversalEntityIDType="ISO")
        ],
        "PatientBirthDate": "19600229",
        "PatientSex": "M",
        "OtherPatientIDsSequence": [item(PatientID="X9", IssuerOfPatientID="NATIONAL")],
        "PatientIdentityRemoved": "NO",
        "ContrastBolusAgent": "Gd",
        "BodyPartExamined": "PROSTATE",
        "ScanningSequence": ["SE", "IR"],
        "SequenceName": "*tse2d1",
        "RepetitionTime": "4000.5",
        "EchoTime": "101",
        "DeviceSerialNumber": "4711",
        "ProtocolName": "prostate",
        "DiffusionBValue": 1000.0,
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "StudyID": "S1",
        "SeriesNumber": 3,
        "InstanceNumber": 7,
        "NumberOfTemporalPositions": 35,
        "NumberOfFrames": 1,
        "LongitudinalTemporalInformationModified": "UNMODIFIED",
        "AdmissionID": "V-55",
        "PerformedLocation": "R2",
        "RequestAttributesSequence": [
            item(
                AccessionNumber="A-0018",
                ReasonForTheRequestedProcedure="PSA raised",
                RequestedProcedureCodeSequence=[code("MRP", "99LOCAL", "MR prostate")],
                ReasonForRequestedProcedureCodeSequence=[code("R97.2", "I10", "Raised PSA")],
            )
        ],
    }
    attributes |= changes
    return item(**{key: value for key, value in attributes.items() if value is not None})


def part10(dataset: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    """Write a data set as a DICOM file."""
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = UID(transfer_syntax_uid)
        meta.MediaStorageSOPClassUID = UID(str(dataset.get("SOPClassUID") or "1.2"))
        meta.MediaStorageSOPInstanceUID = UID(str(dataset.get("SOPInstanceUID") or "1.2"))
        dataset.file_meta = meta
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def element(tag: int, vr: str, value: bytes) -> bytes:
    """Write one element in explicit VR little endian, whatever it holds."""
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr.encode()
    if vr in {"OB", "OW", "SQ", "UC", "UN", "UR", "UT"}:
        return head + b"\0\0" + len(value).to_bytes(4, "little") + value
    return head + len(value).to_bytes(2, "little") + value


def pieces(data: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    """Cut data into pieces of the given sizes."""
    start = 0
    while start < len(data):
        size = next(sizes, len(data))
        yield data[start : start + size]
        start += size
