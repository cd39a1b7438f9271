"""What people and the PACS itself do to studies: corrections, moves, deletions, rejection notes."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from pydicom import Dataset, dcmread
from pydicom.uid import KeyObjectSelectionDocumentStorage, generate_uid

from flute_sync.sandbox.studies import part10
from tests.acceptance.conftest import Upload
from tests.acceptance.site import store

QUALITY, SAFETY, WORKLIST, EXPIRED, OF_INTEREST = "113001", "113037", "113038", "113039", "113000"
_TAKEN_ALONG = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate",
    "PatientSex", "StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber",
    "TimezoneOffsetFromUTC", "StudyDescription", "ReferringPhysicianName",
)  # fmt: skip


@dataclass
class Pacs:
    """An Orthanc, or the sandbox's archive, as its operator uses it."""

    base_url: str
    dicomweb_url: str

    def store(self, files: Sequence[bytes]) -> None:
        """Store files."""
        assert store(self.dicomweb_url, list(files)).status_code == 200

    def find(self, uid: str) -> str:
        """Return the archive's own path of a study, series or instance."""
        (found,) = self._send("POST", "/tools/lookup", content=uid).json()
        return str(found["Path"])

    def delete(self, uid: str) -> None:
        """Delete a study, a series or an instance."""
        self._send("DELETE", self.find(uid))

    def modify_patient(self, study_uid: str, patient_id: str) -> None:
        """Give the patient of a study another number; all other UIDs stay."""
        study = self._send("GET", self.find(study_uid)).json()
        kept = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
        self._modify(f"/patients/{study['ParentPatient']}", {"PatientID": patient_id}, kept)

    def modify_study(self, study_uid: str, **replaced: str) -> None:
        """Change a study; the UIDs of its series and instances stay."""
        self._modify(self.find(study_uid), replaced, ["SeriesInstanceUID", "SOPInstanceUID"])

    def _modify(self, path: str, replaced: dict[str, str], kept: list[str]) -> None:
        body = {"Replace": replaced, "Keep": kept, "Force": True, "KeepSource": False}
        self._send("POST", f"{path}/modify", json=body)

    def split(self, study_uid: str, series_uid: str) -> str:
        """Split a series off a study; return the UID of the new study."""
        series = self.find(series_uid).rpartition("/")[2]
        body = {"Series": [series], "KeepSource": False}
        answer = self._send("POST", f"{self.find(study_uid)}/split", json=body)
        return str(answer.json()["TargetStudyUID"])

    def merge(self, study_uid: str, into: str) -> None:
        """Merge a study into another one."""
        source = self.find(study_uid).rpartition("/")[2]
        body = {"Resources": [source], "KeepSource": False}
        self._send("POST", f"{self.find(into)}/merge", json=body)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = httpx.request(method, self.base_url + path, timeout=60, **options)
        assert answer.is_success, answer.text
        return answer


def read(file: bytes) -> Dataset:
    """Read the header of a DICOM file."""
    return dcmread(io.BytesIO(file), stop_before_pixels=True)


def note(title: str, kept_with: Upload, files: Iterable[bytes]) -> bytes:
    """Make a Key Object Selection on some instances, kept in the study of an upload."""
    like, selection = read(kept_with.files[0]), Dataset()
    for keyword in _TAKEN_ALONG:
        if keyword in like:
            setattr(selection, keyword, getattr(like, keyword))
    selection.SOPClassUID = KeyObjectSelectionDocumentStorage
    selection.SOPInstanceUID, selection.SeriesInstanceUID = generate_uid(), generate_uid()
    selection.Modality, selection.SeriesNumber, selection.InstanceNumber = "KO", 99, 1
    selection.ContentDate, selection.ContentTime = like.StudyDate, like.StudyTime
    selection.ValueType, selection.ContinuityOfContent = "CONTAINER", "SEPARATE"
    selection.ConceptNameCodeSequence = [_title(title)]
    selection.CurrentRequestedProcedureEvidenceSequence = _evidence(map(read, files))
    return part10(selection)


def _title(code: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", "Rejected"
    return item


def _evidence(instances: Iterable[Dataset]) -> list[Dataset]:
    found: dict[str, dict[str, list[Dataset]]] = {}
    for one in instances:
        item = Dataset()
        item.ReferencedSOPClassUID = one.SOPClassUID
        item.ReferencedSOPInstanceUID = one.SOPInstanceUID
        series = found.setdefault(one.StudyInstanceUID, {})
        series.setdefault(one.SeriesInstanceUID, []).append(item)
    return [_study(uid, series) for uid, series in found.items()]


def _study(uid: str, series: dict[str, list[Dataset]]) -> Dataset:
    study = Dataset()
    study.StudyInstanceUID, study.ReferencedSeriesSequence = uid, []
    for series_uid, instances in series.items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedSOPSequence = series_uid, instances
        study.ReferencedSeriesSequence.append(item)
    return study
