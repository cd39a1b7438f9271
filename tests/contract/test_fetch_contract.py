"""Images brought to disk from the sandbox and from Orthanc, whatever the archive does."""

import copy
import gzip
import hashlib
import io
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from flute_sync.archive_errors import ArchiveUnauthorized, ArchiveUnavailable
from flute_sync.daemon.config import Config
from flute_sync.daemon.fetch_choice import Choice, by_b_value
from flute_sync.daemon.fetch_folder import Folder
from flute_sync.daemon.fetch_manifest import write_manifest
from flute_sync.daemon.fetch_patience import Patience
from flute_sync.daemon.fetch_places import Places
from flute_sync.daemon.fetch_report import Report
from flute_sync.daemon.fetching import Fetch
from flute_sync.fetch_errors import FolderBusy
from flute_sync.retrieval import WantedInstance, WantedSeries, WantedStudy, wanted_study
from flute_sync.retrieval_manifest import studies
from flute_sync.series_role import Role
from tests.contract.dicomweb import Study, multipart, new_mpmri, store
from tests.lying_archive import Answer, LyingArchive, lying_archive

KEPT = (".dcm", ".jpg", ".png", ".gz", ".json", ".bval", ".bvec")
RELATED = 'multipart/related; type="application/dicom"; boundary=flute-sync-contract'


@pytest.fixture
def archive(web: httpx.Client) -> Iterator[LyingArchive]:
    """The archive, behind one that can be told to lie."""
    with lying_archive(str(web.base_url).rstrip("/")) as running:
        yield running


def wanted(
    study: Study, address: str, *, listed: bool = True, by_series: bool = True
) -> WantedStudy:
    """What FHIR says of a study."""
    found = []
    for number, uid in enumerate(sorted(study.series_uids), 1):
        of_it = [one for one in study.datasets if one.SeriesInstanceUID == uid]
        instances = tuple(
            WantedInstance(one.SOPInstanceUID, int(one.InstanceNumber), one.SOPClassUID)
            for one in of_it
        )
        listing = instances if listed else ()
        found.append(WantedSeries(uid, (address,), number, "MR", len(of_it), listing))
    if not by_series:
        found = [WantedSeries(None, (address,), count=len(study.datasets))]
    return WantedStudy(study.uid, "ImagingStudy/1", "Patient/1", tuple(found))


def config(*addresses: str, **settings: object) -> Config:
    return Config.model_validate(
        {
            "fhir": {"base_url": "http://127.0.0.1:9/fhir"},
            "archive": {"dicomweb_url": addresses[0], "read_timeout": "10s"},
            "retry": {"first": "10ms", "longest": "20ms"},
            "fetch": {"connections": 3, "attempts": 3, **settings},
        }
    )


def fetched(
    out: Path,
    study: WantedStudy,
    settings: Config,
    choice: Choice | None = None,
    *,
    any_endpoint: bool = False,
    verify: bool = False,
) -> Report:
    places = Places(settings, any_endpoint=any_endpoint)
    try:
        with Folder(out) as folder:
            fetch = Fetch(settings, folder, places, choice or Choice(), verify=verify)
            fetch.run(lambda: [study])
    finally:
        places.close()
    return fetch.report


def on_disk(out: Path, ending: str = "dcm") -> list[Path]:
    return sorted(out.glob(f"sub-*/ses-*/*/*.{ending}"))


def digests(out: Path) -> set[str]:
    return {hashlib.sha256(file.read_bytes()).hexdigest() for file in on_disk(out)}


def stored(archive: LyingArchive, study: Study) -> set[str]:
    """What the archive itself gives, instance by instance."""
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    found = set()
    for index in range(len(study.datasets)):
        url = archive.upstream + study.instance_path(index)
        body = httpx.get(url, headers=accept, timeout=60).content
        part = body.partition(b"\r\n\r\n")[2]
        found.add(hashlib.sha256(part[: part.rfind(b"\r\n--")]).hexdigest())
    return found


def assert_tidy(out: Path) -> None:
    assert list((out / ".flute-sync").glob("tmp/*")) == []
    assert {path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_dir()} == {0o700}
    checked = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(checked, cwd=out, check=False).returncode == 0
    kept = [one for one in out.rglob("*") if one.is_file() and one.suffix in KEPT]
    assert len((out / "SHA256SUMS").read_text().splitlines()) == len(kept)


@pytest.mark.parametrize("form", [{}, {"listed": False}, {"by_series": False}])
def test_what_the_archive_holds_is_on_disk_once(archive, mpmri, tmp_path, form) -> None:
    count = len(mpmri.datasets)
    study, settings = wanted(mpmri, archive.url, **form), config(archive.url)
    report = fetched(tmp_path, study, settings)
    assert (report.fetched, report.exit_code, report.finished) == (count, 0, True)
    assert {dcmread(file).SOPInstanceUID for file in on_disk(tmp_path)} == mpmri.sop_uids
    assert digests(tmp_path) == stored(archive, mpmri)
    assert_tidy(tmp_path)
    before = len(archive.asked)
    again = fetched(tmp_path, study, settings)
    assert (again.fetched, again.already, again.exit_code) == (0, count, 0)
    assert len(archive.asked) == before


def test_what_was_changed_on_disk_is_fetched_again(archive, mpmri, tmp_path) -> None:
    study, settings = wanted(mpmri, archive.url), config(archive.url)
    fetched(tmp_path, study, settings)
    good = digests(tmp_path)
    first, second, third = on_disk(tmp_path)[:3]
    first.write_bytes(first.read_bytes()[:-7])
    second.unlink()
    third.touch()
    report = fetched(tmp_path, study, settings)
    assert report.fetched == 2
    assert digests(tmp_path) == good
    fourth = on_disk(tmp_path)[3]
    state, data = fourth.stat(), bytearray(fourth.read_bytes())
    data[-1] ^= 1
    fourth.write_bytes(data)
    os.utime(fourth, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert fetched(tmp_path, study, settings).fetched == 0
    assert fetched(tmp_path, study, settings, verify=True).fetched == 1
    assert digests(tmp_path) == good
    assert_tidy(tmp_path)


def test_what_a_power_cut_may_have_taken_is_read_again(archive, mpmri, tmp_path) -> None:
    study, settings = wanted(mpmri, archive.url), config(archive.url)
    fetched(tmp_path, study, settings)
    good = digests(tmp_path)
    for file in on_disk(tmp_path)[:2]:  # size and time are on the disk, the bytes are not
        state = file.stat()
        file.write_bytes(bytes(state.st_size))
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert fetched(tmp_path, study, settings).fetched == 0
    note = tmp_path / ".flute-sync" / "flushed"
    for told in ({"boot": "another", "until_ns": 1 << 62}, {"boot": "another", "until_ns": 0}):
        note.write_text(json.dumps(told))
        assert fetched(tmp_path, study, settings).fetched == (0 if told["until_ns"] else 2)
        assert json.loads(note.read_text())["boot"] != "another"
    assert digests(tmp_path) == good
    note.write_text("{")
    assert fetched(tmp_path, study, settings).fetched == 0
    assert_tidy(tmp_path)


def test_an_answer_that_is_cut_off_once_costs_nothing(archive, mpmri, tmp_path) -> None:
    cut: list[str] = []

    def once(answer: Answer) -> None:
        if not cut and "metadata" not in answer.path:
            answer.cut = True
            cut.append(answer.path)

    archive.change = once
    report = fetched(tmp_path, wanted(mpmri, archive.url), config(archive.url))
    assert (report.fetched, report.exit_code) == (len(mpmri.datasets), 0)
    assert digests(tmp_path) == stored(archive, mpmri)
    assert_tidy(tmp_path)


def one_lies(study: Study, body: bytes):
    """Answer with another body for the first instance, whoever asks for its series or for it."""
    victim = study.datasets[0]
    of_series = [
        part
        for one, part in zip(study.datasets, study.parts, strict=True)
        if one.SeriesInstanceUID == victim.SeriesInstanceUID and one is not victim
    ]

    def change(answer: Answer) -> None:
        if victim.SeriesInstanceUID not in answer.path:
            return
        if answer.path.endswith(victim.SOPInstanceUID):
            answer.body, answer.content_type = multipart([body]), RELATED
        elif answer.path.endswith(victim.SeriesInstanceUID):
            answer.body, answer.content_type = multipart([body, *of_series]), RELATED

    return change


@pytest.mark.parametrize(
    ("body", "code", "exit_code"),
    [
        (lambda study: study.parts[0][:-100], "FETCH-TRUNCATED", 69),
        (lambda study: study.parts[0][:400], "FETCH-TRUNCATED", 69),
        (lambda study: study.parts[-1], "FETCH-WRONG-INSTANCE", 65),
        (lambda study: study.parts[1], "FETCH-WRONG-INSTANCE", 65),
        (lambda study: b"<html>login</html>", "DICOM-UNREADABLE", 65),
        (lambda study: b"", "FETCH-TRUNCATED", 69),
    ],
    ids=["cut pixels", "cut header", "other series", "other instance", "no DICOM", "empty"],
)
def test_what_is_not_what_was_asked_for_is_refused_alone(
    archive, mpmri, tmp_path, body, code, exit_code
) -> None:
    archive.change = one_lies(mpmri, body(mpmri))
    report = fetched(tmp_path, wanted(mpmri, archive.url), config(archive.url))
    assert dict(report.failed) == {code: 1}
    assert report.exit_code == exit_code
    (missed,) = report.missed
    assert missed.sop_instance_uid == mpmri.datasets[0].SOPInstanceUID
    rest = {dcmread(file).SOPInstanceUID for file in on_disk(tmp_path)}
    assert rest == mpmri.sop_uids - {missed.sop_instance_uid}
    assert_tidy(tmp_path)
    archive.change = lambda _answer: None
    again = fetched(tmp_path, wanted(mpmri, archive.url), config(archive.url))
    assert (again.fetched, again.already, again.exit_code) == (1, len(mpmri.datasets) - 1, 0)


def test_what_fhir_lists_and_the_archive_has_not_is_missed(archive, mpmri, tmp_path) -> None:
    study = wanted(mpmri, archive.url)
    first = study.series[0]
    more = WantedSeries(
        *(first.uid, (archive.url,), 1, "MR", 3), (*first.instances, WantedInstance("1.2.3.4"))
    )
    report = fetched(tmp_path, WantedStudy(study.uid, None, None, (more,)), config(archive.url))
    assert dict(report.failed) == {"FETCH-ABSENT": 1}
    assert report.fetched == len(first.instances)
    fewer = WantedSeries(first.uid, (archive.url,), 1, "MR", 9)
    report = fetched(
        tmp_path / "x", WantedStudy(study.uid, None, None, (fewer,)), config(archive.url)
    )
    assert (set(report.failed), report.exit_code) == ({"FETCH-COUNT"}, 65)


def test_what_fhir_does_not_list_is_left_out(archive, mpmri, tmp_path) -> None:
    study = wanted(mpmri, archive.url)
    whole = max(study.series, key=lambda one: len(one.instances))
    assert len(whole.instances) > 3
    listed = WantedSeries(whole.uid, (archive.url,), 1, "MR", None, whole.instances[:-1])
    report = fetched(tmp_path, WantedStudy(study.uid, None, None, (listed,)), config(archive.url))
    assert (report.fetched, report.unlisted) == (len(whole.instances) - 1, 1)
    assert len(on_disk(tmp_path)) == len(whole.instances) - 1


def listed_in_part(study: Study, address: str) -> WantedStudy:
    """Read an ImagingStudy that lists one series only, and says that there are more."""
    uid = sorted(study.series_uids)[0]
    of_it = [one.SOPInstanceUID for one in study.datasets if uid == one.SeriesInstanceUID]
    stated = {
        "resourceType": "ImagingStudy",
        "id": "1",
        "status": "available",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{study.uid}"}],
        "subject": {"reference": "Patient/1"},
        "endpoint": [{"reference": "Endpoint/1"}],
        "numberOfSeries": len(study.series_uids),
        "numberOfInstances": len(study.datasets),
        "series": [
            {"uid": uid, "modality": {"code": "MR"}, "instance": [{"uid": one} for one in of_it]}
        ],
    }
    code = {"code": "dicom-wado-rs"}
    endpoint = {"status": "active", "connectionType": code, "address": address}
    return wanted_study(stated, lambda _references: [endpoint])


@pytest.mark.parametrize("modalities", [frozenset(), frozenset({"MR"})])
def test_a_study_that_fhir_lists_in_part_is_fetched_whole(
    archive, mpmri, tmp_path, modalities
) -> None:
    study, settings = listed_in_part(mpmri, archive.url), config(archive.url)
    choice = Choice(modalities=modalities)
    report = fetched(tmp_path / "direct", study, settings, choice)
    assert (report.fetched, report.exit_code) == (len(mpmri.datasets), 0)
    places, stream = Places(settings), io.BytesIO()
    patience = Patience(settings.retry, settings.fetch.attempts)
    try:
        assert write_manifest(stream, [study], choice, places, patience).exit_code == 0
    finally:
        places.close()
    (again,) = studies(json.loads(line) for line in stream.getvalue().splitlines())
    report = fetched(tmp_path / "manifest", again, settings)
    assert (report.fetched, report.exit_code) == (len(mpmri.datasets), 0)
    none = fetched(tmp_path / "none", study, settings, Choice(modalities=frozenset({"CT"})))
    assert (none.fetched, none.exit_code) == (0, 0)


def test_what_the_archive_lacks_of_a_study_listed_in_part_is_missed(
    archive, mpmri, tmp_path
) -> None:
    study = listed_in_part(mpmri, archive.url)
    more = replace(study, series=(replace(study.series[0], count=len(mpmri.datasets) + 1),))
    for number, choice in enumerate(
        (
            Choice(),
            Choice(modalities=frozenset({"MR"})),
            Choice(series_roles=frozenset({Role.T2}), picture="image/png"),
            Choice(filters=(by_b_value(frozenset({800.0})),)),
        )
    ):
        report = fetched(tmp_path / str(number), more, config(archive.url), choice)
        assert (dict(report.failed), report.exit_code) == ({"FETCH-COUNT": 1}, 65)
        assert report.done == report.known > 1
    counted = wanted(mpmri, archive.url, listed=False)
    first, *rest = counted.series
    short = replace(counted, series=(replace(first, count=(first.count or 0) + 1), *rest))
    choice = Choice(series_roles=frozenset(Role), picture="image/png")
    report = fetched(tmp_path / "counted", short, config(archive.url), choice)
    assert (dict(report.failed), report.exit_code) == ({"FETCH-COUNT": 1}, 65)


def test_b_values_choose_instances(archive, mpmri, tmp_path) -> None:
    choice = Choice(filters=(by_b_value(frozenset({800.0})),))
    for form in ({}, {"listed": False}, {"by_series": False}):
        out = tmp_path / str(form)
        report = fetched(out, wanted(mpmri, archive.url, **form), config(archive.url), choice)
        assert report.exit_code == 0
        found = [dcmread(file) for file in on_disk(out)]
        assert {one.DiffusionBValue for one in found} == {800}
        assert len(found) == 2
    metadata = [one for one in archive.asked if "metadata" in one]
    assert metadata


@pytest.mark.parametrize("form", [{}, {"listed": False}, {"by_series": False}])
def test_series_roles_choose_series(archive, mpmri, tmp_path, form) -> None:
    study, settings = wanted(mpmri, archive.url, **form), config(archive.url)
    described = {"DWI": {"ep2d_diff"}, "ADC": {"ep2d_diff_ADC"}}
    for number, roles in enumerate((frozenset({Role.ADC}), frozenset({Role.DWI, Role.ADC}))):
        report = fetched(tmp_path / str(number), study, settings, Choice(series_roles=roles))
        found = [dcmread(file) for file in on_disk(tmp_path / str(number))]
        assert report.exit_code == 0
        assert len(found) == report.fetched == report.known > 0
        expected = set().union(*(described[role] for role in roles))
        assert {one.SeriesDescription for one in found} == expected
    both = Choice(
        series_roles=frozenset({Role.DWI, Role.T2}), filters=(by_b_value(frozenset({800.0})),)
    )
    report = fetched(tmp_path / "both", study, settings, both)
    assert {dcmread(file).DiffusionBValue for file in on_disk(tmp_path / "both")} == {800}

    def refuse(answer: Answer) -> None:
        answer.status = 500 if "metadata" in answer.path else answer.status

    archive.change = refuse
    report = fetched(tmp_path / "no", study, settings, Choice(series_roles=frozenset({Role.ADC})))
    assert dict(report.failed) == {"ARCHIVE-SERVER-ERROR": len(mpmri.datasets)}
    assert (report.fetched, report.finished, report.exit_code) == (0, True, 69)


def with_private_b_value(dataset: Dataset, vendor: str, b_value: int) -> Dataset:
    """Say a b-value as a vendor does, and not as the standard does."""
    found = copy.deepcopy(dataset)
    found.SOPInstanceUID = generate_uid()
    del found.DiffusionBValue
    if vendor == "siemens":
        found.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", b_value)
    elif vendor == "ge":
        values = [1_000_000_000 + b_value, 8, 0, 0]
        found.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x39, "IS", values)
    else:
        block = found.private_block(0x2001, "Philips Imaging DD 001", create=True)
        block.add_new(0x03, "FL", float(b_value))
    return found


def enhanced(dataset: Dataset, *b_values: float) -> Dataset:
    """Make an Enhanced MR image whose frames have these b-values."""
    found = copy.deepcopy(dataset)
    found.SOPClassUID = EnhancedMRImageStorage
    found.SOPInstanceUID = generate_uid()
    found.SeriesInstanceUID = generate_uid()
    del found.DiffusionBValue
    found.ImageType = ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]
    found.NumberOfFrames = len(b_values)
    found.PixelData = dataset.PixelData * len(b_values)
    found.PerFrameFunctionalGroupsSequence = []
    for b_value in b_values:
        diffusion, frame = Dataset(), Dataset()
        diffusion.DiffusionBValue = b_value
        frame.MRDiffusionSequence = [diffusion]
        found.PerFrameFunctionalGroupsSequence.append(frame)
    return found


def test_b_values_of_vendors_and_of_frames_choose_too(archive, web, tmp_path) -> None:
    made = new_mpmri().datasets
    dwi = next(one for one in made if one.get("DiffusionBValue") == 800)
    vendors = ("siemens", "ge", "philips")
    private = [
        with_private_b_value(dwi, vendor, value) for vendor in vendors for value in (50, 800)
    ]
    frames = [enhanced(dwi, 50.0, 800.0), enhanced(dwi, 50.0, 400.0)]
    study = Study([*private, *frames])
    assert store(web, study.parts).status_code == 200
    choice = Choice(filters=(by_b_value(frozenset({800.0})),))
    report = fetched(tmp_path, wanted(study, archive.url), config(archive.url), choice)
    found = {dcmread(file).SOPInstanceUID for file in on_disk(tmp_path)}
    assert report.exit_code == 0
    assert found == {one.SOPInstanceUID for one in (*private[1::2], frames[0])}


@pytest.mark.parametrize(
    ("essence", "ending", "form"), [("image/jpeg", "jpg", "JPEG"), ("image/png", "png", "PNG")]
)
def test_pictures_are_whole(archive, mpmri, tmp_path, essence, ending, form) -> None:
    study, settings = wanted(mpmri, archive.url), config(archive.url)
    report = fetched(tmp_path, study, settings, Choice(picture=essence))
    assert (report.fetched, report.exit_code) == (len(mpmri.datasets), 0)
    for file in on_disk(tmp_path, ending):
        with Image.open(file) as picture:
            picture.load()
            assert picture.format == form
    assert_tidy(tmp_path)
    assert fetched(tmp_path, study, settings, Choice(picture=essence)).fetched == 0

    def cut(answer: Answer) -> None:
        if answer.path.endswith("/rendered"):
            answer.body = answer.body[:-5]

    archive.change = cut
    one = WantedStudy(study.uid, None, None, study.series[:1])
    report = fetched(tmp_path / "cut", one, settings, Choice(picture=essence))
    assert set(report.failed) == {"FETCH-TRUNCATED"}
    assert on_disk(tmp_path / "cut", ending) == []


@pytest.mark.parametrize(
    ("status", "error"), [(503, ArchiveUnavailable), (401, ArchiveUnauthorized)]
)
def test_an_archive_that_does_not_serve_us_ends_the_run(
    archive, mpmri, tmp_path, status, error
) -> None:
    def refuse(answer: Answer) -> None:
        answer.status = status

    archive.change = refuse
    report = fetched(tmp_path, wanted(mpmri, archive.url), config(archive.url))
    assert isinstance(report.error, error)
    assert (report.finished, report.fetched) == (False, 0)
    assert report.exit_code == error.exit_code
    assert len(archive.asked) <= 3 * 3


def test_a_defect_of_the_archive_is_told_for_each_instance(archive, mpmri, tmp_path) -> None:
    victim = mpmri.datasets[0].SeriesInstanceUID

    def fail(answer: Answer) -> None:
        if victim in answer.path:
            answer.status = 500

    archive.change = fail
    report = fetched(tmp_path, wanted(mpmri, archive.url), config(archive.url))
    assert dict(report.failed) == {"ARCHIVE-SERVER-ERROR": 2}
    assert (report.error, report.exit_code, report.finished) == (None, 69, True)
    assert report.fetched == len(mpmri.datasets) - 2


def test_only_what_the_settings_know_is_asked_and_only_it_sees_credentials(
    archive, mpmri, tmp_path
) -> None:
    token = tmp_path / "token"
    token.write_text("secret-token")
    settings = Config.model_validate(
        {
            "fhir": {"base_url": "http://127.0.0.1:9/fhir"},
            "archive": {
                "dicomweb_url": "http://127.0.0.1:9/dicom-web",
                "auth": {"method": "bearer", "token_file": str(token)},
            },
        }
    )
    study = wanted(mpmri, archive.url)
    report = fetched(tmp_path / "out", study, settings)
    assert set(report.failed) == {"FETCH-ENDPOINT"}
    assert (report.exit_code, archive.asked) == (78, [])
    report = fetched(tmp_path / "out", study, settings, any_endpoint=True)
    assert report.exit_code == 0
    assert set(archive.authorizations) == {None}
    assert settings.archive is not None
    known = settings.archive.model_copy(update={"public_url": archive.url})
    trusted = settings.model_copy(update={"archive": known})
    assert fetched(tmp_path / "other", study, trusted).exit_code == 0
    assert archive.authorizations[-1] == "Bearer secret-token"


def test_an_endpoint_that_is_down_is_passed_over_for_the_next(archive, mpmri, tmp_path) -> None:
    dead = "http://127.0.0.1:9/dicom-web"
    study = wanted(mpmri, archive.url)
    both = tuple(
        WantedSeries(one.uid, (dead, archive.url), one.number, "MR", one.count, one.instances)
        for one in study.series
    )
    settings = config(archive.url, endpoints=[dead])
    report = fetched(tmp_path, WantedStudy(study.uid, None, None, both), settings)
    assert (report.fetched, report.exit_code) == (len(mpmri.datasets), 0)


@pytest.mark.parametrize("form", [{}, {"listed": False}, {"by_series": False}])
def test_nifti_is_made_of_what_is_complete(archive, web, tmp_path, form) -> None:
    made = new_mpmri(slices=4)
    (adc,) = {one.SeriesInstanceUID for one in made.datasets if "ADC" in one.ImageType}
    for one in made.datasets:
        if one.SeriesInstanceUID == adc:
            one.BitsAllocated = one.BitsStored = 24  # which dcm2niix cannot read
    study = Study(made.datasets)
    assert store(web, study.parts).status_code == 200
    asked, settings = wanted(study, archive.url, **form), config(archive.url)
    report = fetched(tmp_path, asked, settings, Choice(nifti=True))
    assert (report.fetched, report.converted) == (len(study.datasets), len(study.series_uids) - 1)
    assert (dict(report.failed), report.exit_code) == ({"FETCH-NIFTI": 1}, 65)
    assert report.missed[0].series_instance_uid == adc
    volumes = list(tmp_path.glob("sub-*/ses-*/*.nii.gz"))
    assert len(volumes) == report.converted
    series = {file.parent.name for file in on_disk(tmp_path)}
    assert {one.name.removesuffix(".nii.gz") for one in volumes} < series
    person = made.datasets[0]
    identity = (
        person.PatientID,
        str(person.PatientName).partition("^")[0],
        person.PatientBirthDate,
    )
    for file in tmp_path.glob("sub-*/ses-*/*.*"):
        data = file.read_bytes()
        whole = gzip.decompress(data) if file.suffix == ".gz" else data
        assert not [word for word in identity if word.encode() in whole], file.suffix
        if file.suffix == ".gz":
            assert whole[344:348] == b"n+1\0"  # NIfTI-1, header and voxels in one file
    (weighted,) = (one for one in tmp_path.glob("sub-*/ses-*/*.bval"))
    assert {float(one) for one in weighted.read_text().split()} == {50, 800}
    assert_tidy(tmp_path)
    before = {one: one.stat().st_mtime_ns for one in volumes}
    again = fetched(tmp_path, asked, settings, Choice(nifti=True))
    assert (again.fetched, again.converted) == (0, 0)
    assert {one: one.stat().st_mtime_ns for one in volumes} == before


def test_one_fetch_at_a_time_works_in_a_folder(tmp_path) -> None:
    with Folder(tmp_path), pytest.raises(FolderBusy), Folder(tmp_path):
        pass


def test_an_instance_beyond_the_limit_is_refused(archive, mpmri, tmp_path) -> None:
    settings = config(archive.url, max_instance_bytes=500)
    report = fetched(tmp_path, wanted(mpmri, archive.url), settings)
    assert dict(report.failed) == {"FETCH-TOO-LARGE": len(mpmri.datasets)}
    assert on_disk(tmp_path) == []
