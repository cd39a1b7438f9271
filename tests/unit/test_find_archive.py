"""Reading by C-FIND: instances where they are told of, series where not, nothing made up."""

from datetime import timedelta

import pytest

from flute_sync.archive_errors import (
    ArchiveCapabilityMissing,
    ArchiveForeignInstance,
    ArchiveQueryRefused,
    ArchiveServerError,
    ArchiveUnavailable,
)
from flute_sync.dicom_errors import HeaderUidInvalid
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.find_archive import FindArchive
from flute_sync.sources.find_client import FindClient
from flute_sync.sources.find_settings import FindScuSettings
from flute_sync.sources.reading import ArchiveReader
from flute_sync.study import Issuer, PatientId, StudyInstanceUID
from tests.find_scp import MR, NOON, FindScp, serving, study

UID = StudyInstanceUID("1.2.1")


def archive(port: int, **more) -> ArchiveReader:
    client = FindClient(FindScuSettings(port=port, ae_title="PACS", **more))
    return FindArchive(ArchiveSettings(metadata="c-find"), client, clock=lambda: NOON)


def read(pacs: FindScp, uid: StudyInstanceUID = UID, **more):
    with serving(pacs) as port:
        return archive(port, **more).read(uid)


def test_a_study_is_read_down_to_its_instances():
    pacs = FindScp([*study("1.2.1"), *study("1.2.10")])
    found = read(pacs)
    assert found is not None
    assert (found.service, found.stated, found.refused) == ("c-find", (), ())
    assert (found.series_count, found.instance_count) == (2, 6)
    assert sorted((one.series_instance_uid, one.instance[:2]) for one in found.received) == [
        (f"1.2.1.{s}", (f"1.2.1.{s}.{i}", i)) for s in (1, 2) for i in (1, 2, 3)
    ]
    header = found.received[0].instance.header
    assert header.sop_class_uid == MR
    assert header.patient.id == PatientId("P1", Issuer("SITE"))
    assert header.series.description == "series 1"
    assert [one.SeriesInstanceUID for one in pacs.asked("IMAGE")] == ["1.2.1.1", "1.2.1.2"]
    assert {one.StudyInstanceUID for one in pacs.asked("IMAGE")} == {"1.2.1"}
    assert pacs.associations == 1


@pytest.mark.parametrize("status", [0x0122, 0xA900, 0xC000, 0xFE00])
def test_where_the_image_level_is_refused_series_are_stated(status):
    pacs = FindScp(study("1.2.1"), refuses={"IMAGE": status})
    found = read(pacs)
    assert found is not None
    assert (found.service, found.received, found.refused) == ("c-find series", (), ())
    assert [(one.series_instance_uid, one.instance_count) for one in found.stated] == [
        ("1.2.1.1", 3),
        ("1.2.1.2", 3),
    ]
    header = found.stated[0].header
    assert (header.sop_class_uid, header.series.modality) == ("", "MR")
    assert header.patient.id == PatientId("P1", Issuer("SITE"))
    assert len(pacs.asked("IMAGE")) <= 2


def test_instances_without_their_class_are_a_series():
    found = read(FindScp(study("1.2.1"), missing=frozenset({"SOPClassUID"})))
    assert found is not None
    assert [one.instance_count for one in found.stated] == [3, 3]
    assert (found.received, found.refused) == ((), ())


def test_a_series_without_any_count_has_as_many_instances_as_were_told():
    counts = {"NumberOfSeriesRelatedInstances", "NumberOfStudyRelatedInstances"}
    missing = frozenset({"SOPClassUID", *counts})
    found = read(FindScp(study("1.2.1"), missing=missing))
    assert found is not None
    assert [one.instance_count for one in found.stated] == [3, 3]
    assert found.instance_count is None


def test_one_instance_without_its_class_is_refused_alone():
    pacs = FindScp(study("1.2.1"))
    pacs.instances[0].SOPClassUID = ""
    found = read(pacs)
    assert found is not None
    assert len(found.received) == 5
    assert [one.tag for one in found.refused] == ["(0008,0016)"]


def test_a_series_that_is_cut_off_is_stated_with_its_count():
    found = read(FindScp(study("1.2.1", series=1, instances=9)), max_answers=9)
    assert found is not None
    assert len(found.received) == 9
    pacs = FindScp(study("1.2.1", series=1, instances=12), image_limit=9)
    found = read(pacs, max_answers=9)
    assert found is not None
    assert (found.received, [one.instance_count for one in found.stated]) == ((), [12])


def test_a_shortage_of_resources_is_waited_for_once():
    pacs = FindScp(study("1.2.1"), refuses={"IMAGE": 0xA700})
    with serving(pacs) as port:
        reader = archive(port)
        with pytest.raises(ArchiveQueryRefused):
            reader.read(UID)
        found = reader.read(UID)
        assert found is not None
        assert len(found.stated) == 2
        pacs.refuses.clear()
        found = reader.read(UID)
        assert found is not None
        assert len(found.received) == 6


def test_a_pacs_that_ignores_the_keys_gives_nothing_of_another_study_or_series():
    ignored = frozenset({"StudyInstanceUID", "SeriesInstanceUID"})
    pacs = FindScp([*study("1.2.1"), *study("1.2.2")], ignored=ignored)
    found = read(pacs)
    assert found is not None
    assert len(found.received) == 6
    assert {one.series_instance_uid for one in found.received} == {"1.2.1.1", "1.2.1.2"}
    assert {one.code for one in found.refused} == {ArchiveForeignInstance.code}


def test_the_patients_of_a_study_that_is_filed_under_two_are_both_seen():
    pacs = FindScp([*study("1.2.1"), *study("1.2.1")])
    for number, one in enumerate(pacs.instances[6:]):
        one.PatientID = "P2"
        one.SOPInstanceUID = f"1.2.9.{number}"
    found = read(pacs)
    assert found is not None
    patients = {one.instance.header.patient.id for one in found.received}
    assert {one.value for one in patients if one} == {"P1", "P2"}


def test_a_row_that_comes_twice_counts_once():
    found = read(FindScp(study("1.2.1"), twice=True))
    assert found is not None
    assert (found.instance_count, len(found.received)) == (6, 6)


def test_a_study_is_absent_only_where_the_pacs_says_that_nothing_matches():
    assert read(FindScp(study("1.2.2"))) is None
    with serving(FindScp()) as port:
        assert archive(port).counts(UID) is None
    for status, error in ((0xA700, ArchiveQueryRefused), (0xA900, ArchiveCapabilityMissing)):
        with pytest.raises(error):
            read(FindScp(refuses={"STUDY": status}))
    with pytest.raises(ArchiveUnavailable):
        read(FindScp(study("1.2.1"), dies_after=0))
    with pytest.raises(ArchiveServerError):
        read(FindScp(study("1.2.1"), hides_series=True))


def test_nothing_is_asked_of_what_is_no_uid():
    pacs = FindScp(study("1.2.1"))
    with pytest.raises(HeaderUidInvalid):
        read(pacs, StudyInstanceUID("1.2.*"))
    assert pacs.queries == []


def test_the_probe_tells_whether_instances_are_told_of():
    with serving(FindScp()) as port:
        verdict = archive(port).probe()
        assert (verdict.search, verdict.metadata) == (True, None)
    with serving(FindScp(study("1.2.1", NOON - timedelta(days=9)))) as port:
        assert archive(port).probe().metadata is True
    with serving(FindScp(study("1.2.1"), refuses={"IMAGE": 0xC000})) as port:
        assert archive(port).probe().metadata is False
    refusing = FindScp(refuses={"STUDY": 0x0122})
    with serving(refusing) as port, pytest.raises(ArchiveCapabilityMissing):
        archive(port).probe()
