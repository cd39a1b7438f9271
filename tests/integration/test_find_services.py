"""C-FIND with real servers: Orthanc, and dcmqrscp of dcmtk; and over TLS."""

import ssl
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest

from flute_sync.archive_errors import ArchiveAssociationRejected, ArchiveUnavailable
from flute_sync.sandbox.studies import part10
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.dimse_peer import PeerTlsSettings
from flute_sync.sources.find_archive import FindArchive
from flute_sync.sources.find_client import FindClient
from flute_sync.sources.find_listing import FindListing
from flute_sync.sources.find_scu import FindScuPoller
from flute_sync.sources.find_settings import FindScuSettings
from flute_sync.sources.listing import Choice
from flute_sync.study import StudyInstanceUID
from tests.contract.dicomweb import Study, new_mpmri, new_trus, store
from tests.find_scp import NOON, FindScp, many, serving
from tests.find_scp import study as header_only
from tests.intake import MemoryIntake
from tests.integration.tls import Authority
from tests.services.dcmqrscp import Dcmqrscp
from tests.services.orthanc import Orthanc

Site = tuple[FindScuSettings, Callable[[Study], None]]


@pytest.fixture(scope="module", params=["orthanc", "dcmqrscp"])
def site(request) -> Site:
    """Where a server is asked, and how it is given a study."""
    server = request.getfixturevalue(request.param)
    lookback = timedelta(days=10_000)
    if isinstance(server, Dcmqrscp):
        settings = FindScuSettings(port=server.port, ae_title=server.aet, lookback=lookback)
        return settings, lambda study: server.store(study.parts)

    def send(study: Study) -> None:
        with httpx.Client(base_url=server.dicomweb_url, timeout=60) as web:
            assert store(web, study.parts).status_code == 200

    settings = FindScuSettings(port=server.dicom_port, ae_title=server.aet, lookback=lookback)
    return settings, send


def test_the_same_studies_are_noticed_listed_and_read(site: Site) -> None:
    settings, send = site
    studies = {study.uid: study for study in (new_mpmri(), new_trus())}
    for study in studies.values():
        send(study)
    client, intake = FindClient(settings), MemoryIntake()
    FindScuPoller(settings, "pacs", client, intake).step(datetime.now(UTC))
    assert studies.keys() <= intake.take().keys()
    pages = FindListing(client).pages(Choice(since=date(2020, 1, 1)), None, datetime.now(UTC))
    listed = {row.study_instance_uid for page in pages for row in page.rows}
    assert studies.keys() <= listed
    archive = FindArchive(ArchiveSettings(metadata="c-find"), client)
    for uid, study in studies.items():
        found = archive.read(StudyInstanceUID(uid))
        assert found is not None
        assert found.refused == ()
        series = {one.series_instance_uid for one in found.received}
        assert series | {one.series_instance_uid for one in found.stated} == study.series_uids
        counted = sum(one.instance_count or 0 for one in found.stated)
        assert len(found.received) + counted == len(study.datasets)
        headers = [one.instance.header for one in found.received]
        for header in (*headers, *(one.header for one in found.stated)):
            assert header.patient.id is not None
            assert header.patient.id.value == study.datasets[0].PatientID
    assert archive.read(StudyInstanceUID(new_mpmri().uid)) is None


def test_orthanc_tells_of_instances_and_dcmqrscp_of_series(
    orthanc: Orthanc, dcmqrscp: Dcmqrscp
) -> None:
    study = new_trus()
    with httpx.Client(base_url=orthanc.dicomweb_url, timeout=60) as web:
        store(web, study.parts)
    dcmqrscp.store(study.parts)
    services = []
    for port, aet in ((orthanc.dicom_port, orthanc.aet), (dcmqrscp.port, dcmqrscp.aet)):
        client = FindClient(FindScuSettings(port=port, ae_title=aet))
        found = FindArchive(ArchiveSettings(), client).read(StudyInstanceUID(study.uid))
        assert found is not None
        services.append(found.service)
    assert services == ["c-find", "c-find series"]


def test_a_listing_is_of_one_patient_or_one_modality(site: Site) -> None:
    settings, send = site
    first, second = new_mpmri(), new_trus()
    send(first)
    send(second)
    listing, now = FindListing(FindClient(settings)), datetime.now(UTC)
    patients = (first.datasets[0].PatientID, "nobody")
    pages = list(listing.pages(Choice(patient_ids=patients), None, now))
    assert [row.study_instance_uid for page in pages for row in page.rows] == [first.uid]
    modality = Choice(modalities=frozenset({"US"}), patient_ids=(second.datasets[0].PatientID,))
    pages = list(listing.pages(modality, None, now))
    assert {row.study_instance_uid for page in pages for row in page.rows} <= {second.uid}


def full_days() -> list[bytes]:
    """Studies of two days, each with more than is answered at once."""
    meta = new_trus().datasets[0].file_meta
    parts = []
    for dataset in many(50, timedelta(minutes=25)):
        dataset.file_meta = meta
        parts.append(part10(dataset))
    return parts


def found_by(settings: FindScuSettings) -> tuple[int, int]:
    """Poll, and list; return how many studies each finds."""
    client, intake = FindClient(settings), MemoryIntake()
    FindScuPoller(settings, "pacs", client, intake).step(NOON)
    pages = FindListing(client).pages(Choice(since=date(2026, 11, 1)), None, NOON)
    listed = {row.study_instance_uid for page in pages for row in page.rows}
    return len(intake.take()), len(listed)


def test_an_orthanc_that_limits_its_answers_hides_no_study(
    new_orthanc: Callable[..., Orthanc],
) -> None:
    """Orthanc ends such a query with FE00H."""
    server = new_orthanc(settings={"LimitFindResults": 20})
    with httpx.Client(base_url=server.dicomweb_url, timeout=60) as web:
        assert store(web, full_days()).status_code == 200
    assert found_by(FindScuSettings(port=server.dicom_port, ae_title=server.aet)) == (50, 50)
    server.stop()


def test_parts_of_a_day_are_understood_by_dcmqrscp(dcmqrscp: Dcmqrscp) -> None:
    dcmqrscp.store(full_days())
    settings = FindScuSettings(port=dcmqrscp.port, ae_title=dcmqrscp.aet, max_answers=20)
    assert found_by(settings) == (50, 50)


def test_dcmqrscp_rejects_a_title_that_it_does_not_have(dcmqrscp: Dcmqrscp) -> None:
    settings = FindScuSettings(port=dcmqrscp.port, ae_title="OTHER")
    with pytest.raises(ArchiveAssociationRejected):
        FindScuPoller(settings, "pacs", FindClient(settings), MemoryIntake()).step(NOON)


def test_a_pacs_behind_tls_is_asked_with_our_certificate(tmp_path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    server, client = theirs.pair("localhost"), ours.pair("flute-sync")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ours.file))
    context.load_cert_chain(server.certificate, server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    certificate = {"cert_file": str(client.certificate), "key_file": str(client.key)}
    pacs = FindScp(header_only("1.2.1"))
    with serving(pacs, context) as port:

        def poll(**tls: str) -> set[str]:
            chosen = FindScuSettings(
                host="localhost", port=port, ae_title="PACS", tls=PeerTlsSettings(**tls)
            )
            intake = MemoryIntake()
            FindScuPoller(chosen, "pacs", FindClient(chosen), intake).step(NOON)
            return set(intake.take())

        assert poll(ca_file=str(theirs.file), **certificate) == {"1.2.1"}
        with pytest.raises(ArchiveUnavailable, match="certificate is not accepted"):
            poll(ca_file=str(ours.file), **certificate)
        with pytest.raises(ArchiveUnavailable):
            poll(ca_file=str(theirs.file))
