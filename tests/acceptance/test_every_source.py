"""Whichever way a site hears of its studies, the same is known and written at the end."""

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid
from pynetdicom.ae import ApplicationEntity

from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import SyntheticPatient, part10, prostate_mpmri, prostate_trus
from tests.acceptance.conftest import create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running, store
from tests.services.dcmtk import dcmtk
from tests.services.orthanc import Orthanc
from tests.services.process import free_port

PATIENT = SyntheticPatient(patient_id="P-EVERY-SOURCE")
NEVER = {"enabled": False}
AVAILABILITY = UID("1.2.840.10008.5.1.4.33")


@dataclass(frozen=True)
class Study:
    """A study as its modality made it; the same in every test."""

    uid: str
    files: tuple[bytes, ...]


@cache
def studies() -> tuple[Study, ...]:
    made = (
        prostate_mpmri(PATIENT, seed=2026, slices=2, size=16, dce_phases=2),
        prostate_trus(PATIENT, seed=2027, frames=2, cores=1, size=16),
    )
    found = []
    for datasets in map(list, made):
        files = tuple(part10(dataset) for dataset in datasets)
        found.append(Study(str(datasets[0].StudyInstanceUID), files))
    return tuple(found)


@dataclass(frozen=True)
class Way:
    """How a site's settings say it, and how files then come to the archive.

    ``exact``: all that headers say is known this way, not only what a search tells.
    """

    name: str
    settings: Callable[[Orthanc], dict[str, Any]]
    send: Callable[[Site, Orthanc, list[bytes]], None]
    exact: bool = True

    def __str__(self) -> str:
        return self.name


def to_archive(_site: Site, orthanc: Orthanc, files: list[bytes]) -> None:
    assert store(orthanc.dicomweb_url, files).status_code == 200


def by_c_store(site: Site, _orthanc: Orthanc, files: list[bytes]) -> None:
    folder = site.folder / uuid.uuid4().hex
    folder.mkdir()
    for number, file in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(file)
    port = str(site.settings["store_scp"]["port"])
    done = dcmtk("storescu", "-aec", "FLUTE_SYNC", "+sd", "127.0.0.1", port, str(folder))
    assert done.returncode == 0, done.stderr


def and_notify(site: Site, orthanc: Orthanc, files: list[bytes]) -> None:
    """Tell by Instance Availability Notification."""
    to_archive(site, orthanc, files)
    (study,) = (study for study in studies() if files[0] in study.files)
    sender = ApplicationEntity("ARCHIVE")
    sender.add_requested_context(AVAILABILITY)
    association = sender.associate(
        "127.0.0.1", site.settings["store_scp"]["port"], ae_title="FLUTE_SYNC"
    )
    assert association.is_established
    notice = availability([dcmread(BytesIO(file)) for file in files], study.uid)
    status, _ = association.send_n_create(notice, AVAILABILITY, generate_uid())
    association.release()
    assert status.Status == 0x0000


def availability(stored: list[Dataset], study_instance_uid: str) -> Dataset:
    """Make the notification of stored instances, PS3.4 R.3."""
    notice = Dataset()
    notice.ReferencedPerformedProcedureStepSequence = []
    notice.StudyInstanceUID = study_instance_uid
    notice.ReferencedSeriesSequence = []
    for uid in {one.SeriesInstanceUID for one in stored}:
        series = Dataset()
        series.SeriesInstanceUID = uid
        series.ReferencedSOPSequence = []
        for one in stored:
            if one.SeriesInstanceUID == uid:
                item = Dataset()
                item.ReferencedSOPClassUID = one.SOPClassUID
                item.ReferencedSOPInstanceUID = one.SOPInstanceUID
                item.InstanceAvailability = "ONLINE"
                item.RetrieveAETitle = "ARCHIVE"
                series.ReferencedSOPSequence.append(item)
        notice.ReferencedSeriesSequence.append(series)
    return notice


def and_import(site: Site, orthanc: Orthanc, files: list[bytes]) -> None:
    """Import by the verb, beside the running service."""
    to_archive(site, orthanc, files)
    done = site.run("import", "--all")
    assert done.returncode == 0, done.stderr


def to_us(site: Site, _orthanc: Orthanc, files: list[bytes]) -> None:
    assert store(site.stow_url, files).status_code == 200


def webhook(orthanc: Orthanc) -> dict[str, Any]:
    token = orthanc.directory / "token"
    token.write_text("a-token")
    return {"stow_rs": NEVER, "webhook": {"enabled": True, "token_file": str(token)}}


def to_archive_with_notice(site: Site, orthanc: Orthanc, files: list[bytes]) -> None:
    """Store instance by instance, each with a notice; they come in any shape."""
    headers = {"Authorization": "Bearer a-token"}
    for number, file in enumerate(files):
        to_archive(site, orthanc, [file])
        uid = str(dcmread(BytesIO(file), stop_before_pixels=True).StudyInstanceUID)
        ours = {"study_instance_uid": uid}
        azure = {
            "eventType": "Microsoft.HealthcareApis.DicomImageCreated",
            "data": {"imageStudyInstanceUid": uid},
        }
        notice = [ours, [azure], {"message": {"attributes": {"studyInstanceUID": uid}}}]
        url = f"http://127.0.0.1:{site.port}/notify/study"
        answer = httpx.post(url, json=notice[number % 3], headers=headers, timeout=60)
        assert answer.status_code == 202


def _find(orthanc: Orthanc) -> dict[str, Any]:
    return {
        "enabled": True,
        "interval": "500ms",
        "lookback": "P4000D",
        "port": orthanc.dicom_port,
        "ae_title": "ORTHANC",
    }


WAYS = (
    Way("stow_rs forward", lambda _: {}, to_us),
    Way("stow_rs index", lambda _: {"stow_rs": {"mode": "index"}}, to_us),
    Way(
        "qido_rs",
        lambda _: {
            "stow_rs": NEVER,
            "qido_rs": {"enabled": True, "interval": "300ms", "lookback": "P4000D"},
        },
        to_archive,
    ),
    Way(
        "orthanc_changes",
        lambda orthanc: {
            "stow_rs": NEVER,
            "orthanc_changes": {"enabled": True, "interval": "300ms", "url": orthanc.base_url},
        },
        to_archive,
    ),
    Way("webhook", webhook, to_archive_with_notice),
    Way(
        "store_scp index",
        lambda _: {"stow_rs": NEVER, "store_scp": {"enabled": True, "port": free_port()}},
        by_c_store,
    ),
    Way(
        "store_scp forward by STOW-RS",
        lambda _: {
            "stow_rs": NEVER,
            "store_scp": {"enabled": True, "port": free_port(), "mode": "forward"},
        },
        by_c_store,
    ),
    Way(
        "store_scp forward by C-STORE",
        lambda orthanc: {
            "stow_rs": NEVER,
            "store_scp": {
                "enabled": True,
                "port": free_port(),
                "mode": "forward",
                "data_path": "pynetdicom",
                "pacs": {
                    "host": "127.0.0.1",
                    "port": orthanc.dicom_port,
                    "ae_title": "ORTHANC",
                },
            },
        },
        by_c_store,
    ),
    Way("find_scu", lambda orthanc: {"stow_rs": NEVER, "find_scu": _find(orthanc)}, to_archive),
    Way(
        "find_scu alone",
        lambda orthanc: {
            "stow_rs": NEVER,
            "find_scu": _find(orthanc),
            "archive": {"metadata": "c-find"},
        },
        to_archive,
        exact=False,
    ),
    Way(
        "sweep",
        lambda _: {
            "stow_rs": NEVER,
            "qido_rs": {"sweep": {"enabled": True, "interval": "1s"}},
        },
        to_archive,
    ),
    Way(
        "instance availability",
        lambda _: {
            "stow_rs": NEVER,
            "store_scp": {"enabled": True, "port": free_port(), "ian": True},
        },
        and_notify,
    ),
    Way("import", lambda _: {}, and_import),
)


@pytest.fixture(params=WAYS, ids=str)
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


@pytest.fixture
def site(
    way: Way,
    make_site: Callable[[str, str | None], Site],
    sandbox: Sandbox,
    archive: Orthanc,
) -> Iterator[Site]:
    made = make_site(sandbox.fhir_url, archive.dicomweb_url)
    for section, values in way.settings(archive).items():
        made.settings[section] = {**made.settings.get(section, {}), **values}
    create_patient(sandbox.fhir_url, PATIENT)
    made.settings["study"]["quiet_period"] = "300ms"
    with running(made):
        yield made


@pytest.fixture
def archive(new_orthanc: Callable[..., Orthanc]) -> Orthanc:
    return new_orthanc()


def said(resource: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a resource what differs from server to server."""
    elsewhere = {"id", "meta", "subject", "endpoint"}
    return {name: value for name, value in resource.items() if name not in elsewhere}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the files alone say."""
    folder = tmp_path_factory.mktemp("files")
    site = Site(tmp_path_factory.mktemp("site"), "http://localhost", None)
    for study in studies():
        for number, file in enumerate(study.files):
            (folder / f"{study.uid}-{number}").write_bytes(file)
    done = site.run("convert", str(folder))
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {one["identifier"][1]["value"]: one for one in found}


def test_the_same_studies_end_in_the_same_resources(
    way: Way,
    site: Site,
    sandbox: Sandbox,
    archive: Orthanc,
    converted: dict[str, dict[str, Any]],
) -> None:
    """First some, in an odd order; then all, some of it again."""
    for study in studies():
        files = list(study.files)
        way.send(site, archive, files[::-2])
    for study in studies():
        eventually(partial(imaging_studies, sandbox.fhir_url, study.uid))
    for study in studies():
        way.send(site, archive, list(study.files))

    def whole(study: Study) -> dict[str, Any] | None:
        (found,) = imaging_studies(sandbox.fhir_url, study.uid)
        return found if found["numberOfInstances"] == len(study.files) else None

    for study in studies():
        found = eventually(partial(whole, study))
        if way.exact:
            assert said(found) == said(converted[study.uid])
    # Who looks all the time may be looking again.
    known = eventually(
        lambda: (now := site.ask("study", studies()[0].uid))["state"] == "completed" and now
    )
    assert known["instances"] == len(studies()[0].files)
    assert [one["name"] for one in known["archives"]] == ["pacs"]
