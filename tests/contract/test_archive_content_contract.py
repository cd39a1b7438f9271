"""What an archive's metadata say beyond headers: reports, and where vendors hide b-values."""

from collections.abc import Iterator
from decimal import Decimal

import httpx
import pytest
from pydicom.dataset import Dataset

from flute_sync.flute_variables import Kind
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.header import HeaderReader
from flute_sync.sr_document import document_of
from flute_sync.sr_variables import Stated, stated_by
from flute_sync.study import SeriesInstanceUID, SOPInstanceUID, StudyInstanceUID
from tests.contract.dicomweb import store
from tests.contract.fhir_site import new_uid
from tests.headers import example, item, part10
from tests.reports import by_highdicom

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


@pytest.fixture
def archive(archive_url: str) -> Iterator[Archive]:
    one = Archive(ArchiveSettings(dicomweb_url=f"{archive_url}/dicom-web"))
    yield one
    one.close()


def test_a_report_comes_with_its_content(web: httpx.Client, archive: Archive) -> None:
    report = Dataset.from_json(by_highdicom())
    study = new_uid()
    report.StudyInstanceUID, report.SeriesInstanceUID = study, f"{study}.9"
    report.SOPInstanceUID = f"{study}.9.1"
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    evidence.StudyInstanceUID = study
    assert store(web, [part10(report)]).status_code == 200
    names = StudyInstanceUID(study), SeriesInstanceUID(f"{study}.9")
    found = archive.content(*names, SOPInstanceUID(f"{study}.9.1"))
    assert found is not None
    said = stated_by(study, [document_of(found)])
    values = {one.kind: one.value for one in said if isinstance(one, Stated)}
    assert values == {Kind.PI_RADS: Decimal(4), Kind.VOLUME: Decimal("42.553")}
    assert archive.content(*names, SOPInstanceUID(f"{study}.9.2")) is None


def diffusion() -> list[Dataset]:
    """Make images whose b-values stand in private elements, and in frames."""
    made = [example(DiffusionBValue=None, NumberOfFrames=None) for _ in range(3)]
    made[0].add_new(0x0019_0010, "LO", "SIEMENS MR HEADER")
    made[0].add_new(0x0019_100C, "IS", "800")
    made[1].add_new(0x0043_0010, "LO", "GEMS_PARM_01")
    made[1].add_new(0x0043_1039, "IS", ["1000000800", "8", "0", "0"])
    made[2].add_new(0x2001_0010, "LO", "Philips Imaging DD 001")
    made[2].add_new(0x2001_1003, "FL", 800.0)
    frames = [item(MRDiffusionSequence=[item(DiffusionBValue=b)]) for b in (0.0, 800.0)]
    kind = ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]
    enhanced = example(SOPClassUID=ENHANCED_MR, ImageType=kind, DiffusionBValue=None)
    enhanced.PerFrameFunctionalGroupsSequence = frames
    return [*made, enhanced]


def test_b_values_are_read_alike_from_files_and_from_metadata(
    web: httpx.Client, archive: Archive
) -> None:
    images = diffusion()
    study = new_uid()
    for number, image in enumerate(images, 1):
        image.StudyInstanceUID, image.SeriesInstanceUID = study, f"{study}.1"
        image.SOPInstanceUID, image.InstanceNumber = f"{study}.1.{number}", number
    files = [part10(image) for image in images]
    assert store(web, files).status_code == 200
    read = archive.read(StudyInstanceUID(study))
    assert read is not None
    of_metadata = {one.instance.number: one.instance.header.series for one in read.received}
    of_files = [HeaderReader().read(file).instance.header.series for file in files]
    for number, series in enumerate(of_files, 1):
        found = of_metadata[number]
        assert found.diffusion_b_value == series.diffusion_b_value
        assert found.diffusion_b_values == series.diffusion_b_values
    assert [series.diffusion_b_value for series in of_files] == [800.0, 800.0, 800.0, None]
    assert of_files[-1].diffusion_b_values == (0.0, 800.0)
