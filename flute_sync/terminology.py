"""Canonical URLs and codes: FLUTE guide, FHIR, DCM, SNOMED CT, each with its edition.

References
----------
DICOM PS3.16 CID 29 "Acquisition Modality", CID 33 "Modality", Annex D "DICOM Controlled
Terminology Definitions" and Table 8-1 "Coding Schemes" (2026b); HL7 FHIR R4 (4.0.1);
FLUTE guide 0.1.0; HL7 Europe Imaging Report R4 1.0.0-ballot.
"""

from collections.abc import Mapping
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Final

# -- profiles and extensions -----------------------------------------------------------------

FLUTE_IMAGING_STUDY: Final = "http://hl7.eu/fhir/ig/flute/StructureDefinition/imagingStudy-eu-flute"
FLUTE_SUPPORTING_INFO: Final = (
    "http://hl7.eu/fhir/ig/flute/StructureDefinition/resource-supportingInfo"
)
EU_IMAGING: Final = "http://hl7.eu/fhir/imaging/StructureDefinition/"
EU_IMAGING_STUDY: Final = EU_IMAGING + "ImagingStudyEuImaging"
EU_ANATOMICAL_REGION: Final = EU_IMAGING + "AnatomicalRegionExtension"
EU_INSTANCE_DESCRIPTION: Final = EU_IMAGING + "ImagingStudyEuImagingInstanceDescription"
EU_NUMBER_OF_FRAMES: Final = EU_IMAGING + "NumberOfFrames"
DATA_ABSENT_REASON: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

# -- code systems ----------------------------------------------------------------------------

DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
SNOMED_CT: Final = "http://snomed.info/sct"
SNOMED_CT_FORMS: Final = (SNOMED_CT, "urn:oid:2.16.840.1.113883.6.96")
"""As resources of others write it: by its address, or by its OID (FHIR R4 snomedct.html)."""
LOINC: Final = "http://loinc.org"
UCUM: Final = "http://unitsofmeasure.org"
URI: Final = "urn:ietf:rfc:3986"
DICOM_UID: Final = "urn:dicom:uid"
OID: Final = "urn:oid:"
IDENTIFIER_TYPE: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"
OBSERVATION_VALUE: Final = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
PARTICIPATION_TYPE: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
DATA_OPERATION: Final = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
PROVENANCE_PARTICIPANT: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
ENDPOINT_CONNECTION_TYPE: Final = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
FLUTE_SYNC_TAG: Final = "urn:uuid:6f3d2c54-6a0b-5e0c-9d0b-3f6d1f0b7c11"
"""System of our own ``meta.tag`` codes: ``date-untrusted``, ``date-shifted``, ``derived``,
``retention-expired``."""

SCHEME_SYSTEM: Final[Mapping[str, str]] = {
    "DCM": DCM,
    "SCT": SNOMED_CT,
    "LN": LOINC,
    "UCUM": UCUM,
    "RADLEX": "http://radlex.org",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "ICD10": "http://hl7.org/fhir/sid/icd-10",
    "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
    "I9C": "http://hl7.org/fhir/sid/icd-9-cm",
}
"""Coding Scheme Designator (0008,0102) -> FHIR system (PS3.16 Table 8-1, R4 terminologies)."""

SNOMED_RT_SCHEMES: Final = frozenset({"SRT", "SNM3", "99SDM"})
"""Retired SNOMED designators, whose codes are converted to SNOMED CT (PS3.16 8.1.1)."""

# -- modalities ------------------------------------------------------------------------------

ACQUISITION_MODALITY: Final[Mapping[str, str]] = {
    "AR": "Autorefraction",
    "BDUS": "Ultrasound Bone Densitometry",
    "BI": "Biomagnetic Imaging",
    "BMD": "Bone Mineral Densitometry",
    "CFM": "Confocal Microscopy",
    "CR": "Computed Radiography",
    "CT": "Computed Tomography",
    "DG": "Diaphanography",
    "DMS": "Dermoscopy",
    "DX": "Digital Radiography",
    "ECG": "Electrocardiography",
    "EEG": "Electroencephalography",
    "EMG": "Electromyography",
    "EOG": "Electrooculography",
    "EPS": "Cardiac Electrophysiology",
    "ES": "Endoscopy",
    "GM": "General Microscopy",
    "HD": "Hemodynamic Waveform",
    "IO": "Intra-oral Radiography",
    "IVOCT": "Intravascular Optical Coherence Tomography",
    "IVUS": "Intravascular Ultrasound",
    "KER": "Keratometry",
    "LEN": "Lensometry",
    "LS": "Laser Scan",
    "MG": "Mammography",
    "MR": "Magnetic Resonance",
    "NM": "Nuclear Medicine",
    "OAM": "Ophthalmic Axial Measurements",
    "OCT": "Optical Coherence Tomography",
    "OP": "Ophthalmic Photography",
    "OPM": "Ophthalmic Mapping",
    "OPT": "Ophthalmic Tomography",
    "OPTBSV": "Ophthalmic Tomography B-scan Volume Analysis",
    "OPTENF": "Ophthalmic Tomography En Face",
    "OPV": "Ophthalmic Visual Field",
    "OSS": "Optical Surface Scanner",
    "PA": "Photoacoustic",
    "POS": "Position Sensor",
    "PT": "Positron emission tomography",
    "PX": "Panoramic X-Ray",
    "RESP": "Respiratory Waveform",
    "RF": "Radiofluoroscopy",
    "RG": "Radiographic imaging",
    "RTIMAGE": "RT Image",
    "SM": "Slide Microscopy",
    "SRF": "Subjective Refraction",
    "TG": "Thermography",
    "US": "Ultrasound",
    "VA": "Visual Acuity",
    "XA": "X-Ray Angiography",
    "XC": "External-camera Photography",
}
"""CID 29: what makes images; the only codes of ``ImagingStudy.modality``."""

MODALITY: Final[Mapping[str, str]] = {
    **ACQUISITION_MODALITY,
    "ASMT": "Content Assessment Result",
    "AU": "Basic Voice Audio",
    "CTPROTOCOL": "CT Protocol",
    "DOC": "Document",
    "FID": "Spatial Fiducials",
    "HC": "Hard Copy",
    "IOL": "Intraocular Lens Calculation",
    "KO": "Key Object Selection",
    "M3D": "Model for 3D Manufacturing",
    "OT": "Other",
    "PLAN": "Plan",
    "PR": "Presentation State",
    "REG": "Registration",
    "RTDOSE": "RT Dose",
    "RTPLAN": "RT Plan",
    "RTRECORD": "RT Treatment Record",
    "RTSTRUCT": "RT Structure Set",
    "RWV": "Real World Value Map",
    "SEG": "Segmentation",
    "SMR": "Stereometric Relationship",
    "SR": "Structured Report Document",
    "STAIN": "Automated Slide Stainer",
    "TEXTUREMAP": "Texture Map",
}
"""CID 33: every defined modality of a series, with its meaning."""

_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
KEY_OBJECT_SELECTION: Final = _STORAGE + "88.59"

_MODALITY_OF_FAMILY: Final[Mapping[str, str]] = {
    "1": "CR", "1.1": "DX", "1.2": "MG", "1.3": "IO", "2": "CT", "3": "US", "3.1": "US",
    "4": "MR", "6": "US", "6.1": "US", "6.2": "US", "6.3": "PA", "9.1": "ECG", "11": "PR",
    "12.1": "XA", "12.2": "RF", "13.1.1": "XA", "13.1.2": "XA", "13.1.3": "MG", "13.1.4": "MG",
    "13.1.5": "MG", "14": "IVOCT", "20": "NM", "66.1": "REG", "66.2": "FID", "66.3": "REG",
    "66.4": "SEG", "66.5": "SEG", "67": "RWV", "77.1.1": "ES", "77.1.2": "GM", "77.1.3": "SM",
    "77.1.4": "XC", "77.1.5": "OP", "77.1.6": "SM", "88": "SR", "88.59": "KO", "104": "DOC",
    "128": "PT", "130": "PT", "481.1": "RTIMAGE", "481.2": "RTDOSE", "481.3": "RTSTRUCT",
    "481.4": "RTRECORD", "481.5": "RTPLAN", "481.6": "RTRECORD", "481.7": "RTRECORD",
    "481.8": "RTPLAN",
}  # fmt: skip


def modality_of_sop_class(sop_class_uid: str) -> str | None:
    """Derive the modality that a storage SOP class leaves no choice of, or None.

    A family stands for what lies below it: Enhanced MR (…4.1) is MR. Secondary Capture, waveforms
    and raw data say nothing about their modality.

    References
    ----------
    PS3.3 C.7.3.1.1.1 and PS3.4 Table B.5-1 (2026b)
    """
    if not sop_class_uid.startswith(_STORAGE):
        return None
    family = sop_class_uid.removeprefix(_STORAGE)
    while family:
        if family in _MODALITY_OF_FAMILY:
            return _MODALITY_OF_FAMILY[family]
        family = family.rpartition(".")[0]
    return None


# -- rejection notes, laterality, security ---------------------------------------------------

REJECTED_FOR_QUALITY: Final = "113001"
REJECTED_FOR_PATIENT_SAFETY: Final = "113037"
INCORRECT_MODALITY_WORKLIST_ENTRY: Final = "113038"
RETENTION_EXPIRED: Final = "113039"
"""Titles of Key Object Selections that take instances back (PS3.16 CID 7011, 2026b)."""

LATERALITY: Final[Mapping[str, tuple[str, str]]] = {
    "R": ("24028007", "Right"),
    "L": ("7771000", "Left"),
    "B": ("51440002", "Bilateral"),
}
"""Laterality (0020,0060) -> SNOMED CT (PS3.16 CID 244, 2026b)."""

SECURITY_LABEL: Final[Mapping[str, str]] = {"PSEUDED": "pseudonymized", "ANONYED": "anonymized"}


def _load_srt_to_sct() -> Mapping[str, str]:
    """Load pydicom's table of SNOMED RT codes and nothing else of its package ``pydicom.sr``.

    Importing the package would keep every concept of PS3.16 in memory, some 90 MB.
    """
    package = PathFinder.find_spec("pydicom")
    if package is None or package.origin is None:
        raise ImportError("pydicom is not installed")
    table = Path(package.origin).parent / "sr" / "_snomed_dict.py"
    loader = SourceFileLoader("_flute_sync_snomed_rt", str(table))
    spec = spec_from_loader(loader.name, loader)
    if spec is None:
        raise ImportError("pydicom's SNOMED RT table cannot be loaded")
    module = module_from_spec(spec)
    loader.exec_module(module)
    mapping: Mapping[str, Mapping[str, str]] = module.mapping
    return mapping["SRT"]


SNOMED_RT_TO_CT: Final = _load_srt_to_sct()
"""SNOMED RT code value -> SNOMED CT concept identifier, as pydicom has it."""
