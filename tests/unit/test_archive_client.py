"""Reading a study from an archive: the best way that works, only this study, never a false end."""

from datetime import UTC, datetime, timedelta

import httpx
import orjson
import pytest

from flute_sync.archive_errors import (
    ArchiveCapabilityMissing,
    ArchiveForeignInstance,
    ArchiveRefused,
    ArchiveServerError,
    ArchiveUnauthorized,
    ArchiveUnavailable,
)
from flute_sync.dicom_errors import HeaderUidInvalid, HeaderUidMissing
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.reading import Verdict
from flute_sync.study import StudyInstanceUID

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STUDY = StudyInstanceUID("1.2.3")
MR = "1.2.840.10008.5.1.4.1.1.4"


def element(vr, *values):
    return {"vr": vr, "Value": list(values)}


def instance(series="1.2.3.1", number=1, study: str = STUDY, sop_class=MR):
    return {
        "00080016": element("UI", sop_class),
        "00080018": element("UI", f"{series}.{number}"),
        "00080020": element("DA", "20260301"),
        "00080021": element("DA", "20260301"),
        "00080060": element("CS", "MR"),
        "00100020": element("LO", "PX1"),
        "0020000D": element("UI", study),
        "0020000E": element("UI", series),
        "00200013": element("IS", number),
    }


ALL = [instance(series, number) for series in ("1.2.3.1", "1.2.3.2") for number in (1, 2, 3)]


class Pacs:
    """An archive of one study; ``broken`` maps the end of a path to what is answered there."""

    def __init__(self, held=ALL, **broken: object) -> None:
        self.held = list(held)
        self.broken: dict[str, object] = {
            name.replace("_", "/"): answer for name, answer in broken.items()
        }
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/dicom-web")
        self.asked.append(path)
        for end, answer in self.broken.items():
            if path.endswith(end):
                return self._broken(answer)
        found = self._found(path.split("/")[1:], request.url.params)
        return httpx.Response(404) if found is None else self._json(found)

    def _broken(self, answer: object) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return httpx.Response(answer, headers={"location": "http://elsewhere/"})
        return self._json(answer)

    @staticmethod
    def _json(answer: object) -> httpx.Response:
        body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
        return httpx.Response(200, content=body)

    def _found(self, path, params):
        match path:
            case ["studies"]:
                return self._page(self._studies(params.get("StudyInstanceUID")), params)
            case ["studies", uid, "metadata"]:
                return self._of("0020000D", uid) or None
            case ["studies", uid, "series"]:
                return self._page(self._series(uid), params)
            case ["studies", _, "series", uid, "metadata"]:
                return self._of("0020000E", uid) or None
            case ["studies", _, "series", uid, "instances"]:
                keys = ("00080016", "00080018", "00200013")
                found = [{key: one[key] for key in keys} for one in self._of("0020000E", uid)]
                return self._page(found, params)
        return None

    def _of(self, tag, uid):
        return [one for one in self.held if one[tag]["Value"] == [uid]]

    def _studies(self, wanted):
        uids = {one["0020000D"]["Value"][0]: one for one in self.held}
        return [
            {key: first[key] for key in ("00080020", "00100020", "0020000D")}
            | {
                "00201206": element("IS", len(self._series(uid))),
                "00201208": element("IS", len(self._of("0020000D", uid))),
            }
            for uid, first in uids.items()
            if wanted in (uid, None)
        ]

    def _series(self, study):
        found = {one["0020000E"]["Value"][0]: one for one in self._of("0020000D", study)}
        keys = ("00080021", "00080060", "0020000E")
        return [{key: one[key] for key in keys} for one in found.values()]

    @staticmethod
    def _page(rows, params):
        start = int(params.get("offset", 0))
        return rows[start : start + int(params.get("limit", 1000))]


def archive(pacs, **settings) -> Archive:
    return Archive(
        ArchiveSettings(dicomweb_url="http://pacs/dicom-web", **settings),
        transport=httpx.MockTransport(pacs),
        clock=lambda: NOW,
    )


def read(pacs, uid=STUDY, **settings):
    return archive(pacs, **settings).read(uid)


def uids(result) -> list[str]:
    return [one.instance.sop_instance_uid for one in result.received]


EVERYTHING = [one["00080018"]["Value"][0] for one in ALL]


def test_the_metadata_of_the_study_is_read_with_one_request_after_its_counts():
    pacs = Pacs()
    found = read(pacs)
    assert uids(found) == EVERYTHING
    assert (found.series_count, found.instance_count) == (2, 6)
    assert found.refused == ()
    assert found.service == "wado-rs"
    assert found.started_at == NOW
    assert found.row == archive(pacs).counts(STUDY)
    assert pacs.asked[:2] == ["/studies", "/studies/1.2.3/metadata"]


@pytest.mark.parametrize("answer", [400, 404, 405, 406, 413, 500, 501, 504, b"<html/>", b"[{", []])
def test_a_study_that_is_refused_whole_is_read_series_by_series(answer):
    found = read(Pacs(**{"1.2.3_metadata": answer}))
    assert uids(found) == EVERYTHING
    assert found.service == "wado-rs"


def test_a_study_too_large_to_be_taken_whole_is_read_series_by_series():
    whole = len(orjson.dumps(ALL))
    found = read(Pacs(), max_answer_bytes=whole - 1)
    assert uids(found) == EVERYTHING


@pytest.mark.parametrize("failure", [httpx.ReadTimeout(""), httpx.RemoteProtocolError("")])
def test_a_study_that_takes_too_long_is_read_series_by_series(failure):
    assert uids(read(Pacs(**{"1.2.3_metadata": failure}))) == EVERYTHING


@pytest.mark.parametrize("status", [400, 404, 405, 406, 501])
def test_a_server_without_metadata_is_read_by_search(status):
    found = read(Pacs(metadata=status))
    assert uids(found) == EVERYTHING
    assert found.service == "qido-rs"
    header = found.received[0].instance.header
    assert (header.series.modality, header.patient.id.value) == ("MR", "PX1")


def test_search_pages_are_put_together():
    assert sorted(uids(read(Pacs(metadata=501), page_size=1))) == EVERYTHING


def test_the_settings_may_name_one_way():
    pacs = Pacs()
    assert read(pacs, metadata="qido-rs").service == "qido-rs"
    assert not any("metadata" in path for path in pacs.asked)
    with pytest.raises(ArchiveRefused):
        read(Pacs(metadata=501), metadata="wado-rs")


def test_by_search_each_patient_is_seen_whom_a_study_is_filed_under():
    study = {"0020000D": element("UI", STUDY)}
    rows = [study | {"00100020": element("LO", patient)} for patient in ("PX1", "PX2")]
    found = read(Pacs(studies=rows), metadata="qido-rs")
    patients = {one.instance.header.patient.id for one in found.received}
    assert {patient.value for patient in patients} == {"PX1", "PX2"}


def test_a_server_that_keeps_failing_is_not_read_by_a_poorer_way():
    pacs = Pacs(metadata=500)
    with pytest.raises(ArchiveServerError):
        read(pacs)
    assert not any(path.endswith("instances") for path in pacs.asked)


@pytest.mark.parametrize(
    ("status", "kind"), [(401, ArchiveUnauthorized), (403, ArchiveUnauthorized)]
)
def test_a_refusal_of_our_credentials_is_final(status, kind):
    pacs = Pacs(**{"1.2.3_metadata": status})
    with pytest.raises(kind):
        read(pacs)
    assert pacs.asked == ["/studies", "/studies/1.2.3/metadata"]


def test_a_request_to_wait_is_heeded_at_once():
    def busy(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("metadata"):
            asked.append(request.url.path)
            return httpx.Response(503, headers={"retry-after": "30"})
        return Pacs()(request)

    asked: list[str] = []
    with pytest.raises(ArchiveUnavailable) as caught:
        read(busy)
    assert caught.value.retry_after == timedelta(seconds=30)
    assert len(asked) == 1


def test_a_series_that_goes_while_we_read_is_left_out():
    gone = Pacs(**{"1.2.3_metadata": 413, "1.2.3.2_metadata": 404})
    assert uids(read(gone)) == EVERYTHING[:3]


class TestAbsence:
    def test_a_study_that_neither_service_knows_is_absent(self):
        assert read(Pacs([])) is None
        assert archive(Pacs([])).counts(STUDY) is None

    @pytest.mark.parametrize("empty", [204, []])
    def test_an_empty_answer_is_absence_where_the_search_agrees(self, empty):
        assert read(Pacs([], metadata=empty)) is None

    def test_by_search_alone(self):
        assert read(Pacs([]), metadata="qido-rs") is None

    @pytest.mark.parametrize("status", [400, 500, 501])
    def test_another_failure_is_no_absence(self, status):
        with pytest.raises((ArchiveRefused, ArchiveServerError)):
            read(Pacs([], metadata=status))

    def test_a_wrong_address_is_no_absence(self):
        nothing_there = lambda _: httpx.Response(404)  # noqa: E731
        with pytest.raises(ArchiveCapabilityMissing):
            read(nothing_there)
        with pytest.raises(ArchiveCapabilityMissing):
            archive(nothing_there).counts(STUDY)

    def test_a_server_that_knows_the_study_and_returns_nothing_is_no_absence(self):
        with pytest.raises(ArchiveServerError):
            read(Pacs(metadata=[], instances=[]))

    def test_a_study_that_the_search_does_not_find_is_read_all_the_same(self):
        found = read(Pacs(studies=[]))
        assert uids(found) == EVERYTHING
        assert (found.instance_count, found.fingerprint) == (None, None)

    def test_a_server_without_search_is_read_by_metadata(self):
        assert uids(read(Pacs(studies=404))) == EVERYTHING


class TestOnlyThisStudy:
    def test_instances_of_other_studies_are_left_out_and_said_once(self):
        other = [instance("9.9.1", number, study="9.9") for number in (1, 2)]
        found = read(Pacs(**{"1.2.3_metadata": [*other, *ALL]}))
        assert uids(found) == EVERYTHING
        assert [refused.code for refused in found.refused] == [ArchiveForeignInstance.code]

    def test_other_studies_alone_are_nothing(self):
        other = [instance("9.9.1", study="9.9"), instance("9.9.1", study="9.9", sop_class="x")]
        pacs = Pacs(metadata=other, instances=other)
        with pytest.raises(ArchiveServerError):
            read(pacs)

    def test_an_instance_said_twice_is_one(self):
        assert uids(read(Pacs([*ALL, *ALL]))) == EVERYTHING

    @pytest.mark.parametrize("uid", ["", "abc", "1.2/../..", "1.2?x=1", "1." * 40 + "1"])
    def test_no_address_is_made_of_what_is_no_uid(self, uid):
        pacs = Pacs()
        with pytest.raises(HeaderUidInvalid):
            read(pacs, uid)
        with pytest.raises(HeaderUidInvalid):
            archive(pacs).counts(uid)
        assert pacs.asked == []

    def test_a_series_that_cannot_be_asked_for_is_refused_alone(self):
        bad = {"0020000E": element("UI", "../../x"), "00080060": element("CS", "MR")}
        pacs = Pacs(metadata=501)
        pacs._series = lambda study: [bad, *Pacs._series(pacs, study)]  # type: ignore[method-assign]
        found = read(pacs)
        assert uids(found) == EVERYTHING
        assert len(found.refused) == 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("bad", "code"),
        [
            ({**instance(number=9), "00080016": {"vr": "UI"}}, HeaderUidMissing.code),
            ({**instance(number=9), "00080018": element("UI", "x")}, HeaderUidInvalid.code),
            ({}, HeaderUidMissing.code),
        ],
    )
    def test_what_cannot_be_used_is_refused_alone(self, bad, code):
        found = read(Pacs(**{"1.2.3_metadata": [bad, *ALL]}))
        assert uids(found) == EVERYTHING
        assert [(refused.study_instance_uid, refused.code) for refused in found.refused] == [
            (STUDY, code)
        ]

    def test_a_study_of_which_nothing_can_be_used_is_still_there(self):
        bad = [{**one, "00080016": {"vr": "UI"}} for one in ALL]
        found = read(Pacs(**{"1.2.3_metadata": bad}))
        assert (found.received, len(found.refused)) == ((), 6)


class TestProbe:
    def test_an_archive_with_both_services(self):
        assert archive(Pacs()).probe() == Verdict(search=True, metadata=True)

    def test_an_empty_archive_cannot_tell(self):
        assert archive(Pacs([])).probe() == Verdict(search=True, metadata=None)

    def test_an_archive_without_metadata(self):
        assert archive(Pacs(metadata=501)).probe() == Verdict(search=True, metadata=False)

    @pytest.mark.parametrize(
        ("pacs", "metadata"),
        [
            (Pacs(studies=404), "auto"),
            (Pacs(studies=404), "qido-rs"),
            (Pacs(metadata=501), "wado-rs"),
        ],
    )
    def test_an_archive_that_the_settings_do_not_fit(self, pacs, metadata):
        with pytest.raises(ArchiveCapabilityMissing):
            archive(pacs, metadata=metadata).probe()

    def test_metadata_alone_is_enough_where_the_settings_say_so(self):
        verdict = archive(Pacs(studies=404), metadata="wado-rs").probe()
        assert verdict == Verdict(search=False, metadata=None)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "a|b", "x" * 65])
def test_a_name_that_does_not_fit_into_an_identifier_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        ArchiveSettings(name=name)


def test_the_address_for_others_is_ours_unless_told():
    ours = ArchiveSettings(dicomweb_url="http://pacs/dicom-web/")
    theirs = ArchiveSettings(public_url="https://images.example.org/dw")
    assert ours.endpoint_url == "http://pacs/dicom-web"
    assert theirs.endpoint_url == "https://images.example.org/dw"
