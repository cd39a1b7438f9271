"""Every study of an archive is listed, dated or not, whatever a server makes of the question."""

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from urllib.parse import parse_qs

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flute_sync.archive_errors import ArchiveCapabilityMissing, ArchiveUnavailable
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.listing import Choice, Page
from flute_sync.sources.listing_windows import END, Position
from flute_sync.sources.qido_listing import QidoListing

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def study(number: int, day: str | None, modality="MR", patient="P1", count=3) -> dict:
    row = {
        "0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]},
        "00080061": {"vr": "CS", "Value": modality.split("/")},
        "00100020": {"vr": "LO", "Value": [patient]},
        "00201208": {"vr": "IS", "Value": [count]},
    }
    if day is not None:
        row["00080020"] = {"vr": "DA", "Value": [day]}
    return row


class Pacs:
    """A study search; ``heeds`` are the matching keys that it knows."""

    def __init__(
        self,
        rows,
        *,
        heeds=("StudyDate", "ModalitiesInStudy", "PatientID"),
        most=10**6,
        stable=True,
    ) -> None:
        self.rows, self.heeds, self.most, self.stable = list(rows), heeds, most, stable
        self.asked: list[dict[str, str]] = []
        self.status = 200

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = {key: value[0] for key, value in parse_qs(request.url.query.decode()).items()}
        self.asked.append(query)
        if self.status != 200:
            return httpx.Response(self.status)
        found = [row for row in self.rows if self._matches(row, query)]
        if len(found) > self.most:
            return httpx.Response(413)
        if not self.stable:
            random.shuffle(found)
        start = int(query.get("offset", 0))
        return httpx.Response(
            200, content=orjson.dumps(found[start : start + int(query.get("limit", 10**6))])
        )

    def _matches(self, row: dict, query: dict[str, str]) -> bool:
        wanted = {key: query[key] for key in self.heeds if key in query}
        if "StudyDate" in wanted:
            first, dash, last = wanted["StudyDate"].partition("-")
            day = row.get("00080020", {}).get("Value", [""])[0]
            if not day or not (first or "0") <= day <= ((last or "9") if dash else first):
                return False
        others = {"ModalitiesInStudy": "00080061", "PatientID": "00100020"}
        return all(wanted[key] in row[tag]["Value"] for key, tag in others.items() if key in wanted)


class Wire:
    """One client for all tests, since opening one reads all of the system's certificates."""

    server: Callable[[httpx.Request], httpx.Response] = staticmethod(Pacs([]))

    @classmethod
    def answer(cls, request: httpx.Request) -> httpx.Response:
        return cls.server(request)


ARCHIVES = {
    size: Archive(
        ArchiveSettings(dicomweb_url="http://pacs/dicom-web", page_size=size),
        transport=httpx.MockTransport(Wire.answer),
    )
    for size in (5, 10, 500)
}


def pages(server, choice=Choice(), resume=None, size=10) -> list[Page]:  # noqa: B008
    Wire.server = staticmethod(server)
    return list(QidoListing(ARCHIVES[size]).pages(choice, resume, NOW))


def listed(*args, **options) -> list[str]:
    return [row.study_instance_uid for page in pages(*args, **options) for row in page.rows]


def names(rows) -> set[str]:
    return {row["0020000D"]["Value"][0] for row in rows}


DAYS = st.one_of(
    st.none(),
    st.dates(date(1890, 1, 1), date(2027, 6, 1)).map(lambda day: f"{day:%Y%m%d}"),
    st.dates(date(2026, 1, 1), date(2026, 1, 9)).map(lambda day: f"{day:%Y%m%d}"),
    st.sampled_from(["20261122", "20261123", "nonsense", "19000101"]),
)


@given(st.lists(DAYS, max_size=60), st.sampled_from([5, 10, 500]))
@settings(deadline=None, max_examples=30)
def test_every_study_is_listed_once(days, size):
    rows = [study(number, day) for number, day in enumerate(days)]
    found = listed(Pacs(rows), size=size)
    assert sorted(found) == sorted(names(rows))


@given(st.lists(DAYS, max_size=40), st.sampled_from([5, 10]), st.randoms())
@settings(deadline=None, max_examples=25)
def test_a_listing_goes_on_where_another_stood(days, size, chance):
    rows = [study(number, day) for number, day in enumerate(days)]
    whole = pages(Pacs(rows), size=size)
    stood = chance.randrange(len(whole))
    before = {row.study_instance_uid for page in whole[: stood + 1] for row in page.rows}
    after = set(listed(Pacs(rows), resume=whole[stood].resume, size=size))
    assert before | after == names(rows)
    assert whole[-1].resume == END
    assert pages(Pacs(rows), resume=END) == []


def test_an_order_that_changes_from_page_to_page_hides_no_dated_study():
    rows = [study(n, f"{date(2024, 1, 1) + timedelta(days=n // 2):%Y%m%d}") for n in range(900)]
    for _ in range(3):
        assert set(listed(Pacs(rows, stable=False), size=500)) == names(rows)


def test_the_fewer_studies_a_day_has_the_wider_is_the_window():
    rows = [study(n, f"{date(2010, 1, 1) + timedelta(days=40 * n):%Y%m%d}") for n in range(150)]
    server = Pacs(rows)
    assert len(listed(server, size=500)) == 150
    assert len(server.asked) < 40


def test_a_server_that_refuses_large_answers_is_asked_for_less():
    rows = [study(n, f"{date(1930, 1, 1) + timedelta(days=300 * n):%Y%m%d}") for n in range(120)]
    rows += [study(1000 + n, f"2026112{n % 4}") for n in range(20)]
    rows += [study(2000 + n, "20270601") for n in range(9)]
    server = Pacs(rows, most=9)
    with pytest.raises(ArchiveCapabilityMissing):
        listed(server)  # the list of those without a date cannot be cut
    bounded = Choice(since=date(1900, 1, 1))
    assert set(listed(server, bounded)) == names(rows)


def test_a_day_that_holds_too_much_is_said():
    server = Pacs([study(n, "20260101") for n in range(30)], most=20)
    with pytest.raises(ArchiveCapabilityMissing):
        listed(server, Choice(since=date(2025, 1, 1), until=date(2026, 10, 1)))


def test_a_server_without_search_is_asked_once():
    server = Pacs([])
    server.status = 404
    with pytest.raises(ArchiveCapabilityMissing):
        listed(server)
    assert len(server.asked) == 1
    server.status = 503
    with pytest.raises(ArchiveUnavailable):
        listed(server)


class TestIgnored:
    def test_a_server_that_ignores_the_date_is_listed_by_offset(self):
        days = ["20200101", None, "19700101", "20261122", "20150505"]
        rows = [study(n, days[n % 5]) for n in range(60)]
        server = Pacs(rows, heeds=())
        assert sorted(listed(server)) == sorted(names(rows))
        assert len(server.asked) < 15

    def test_and_resumed_a_page_earlier(self):
        rows = [study(n, f"{2000 + n % 20}0101") for n in range(60)]
        whole = pages(Pacs(rows, heeds=()))
        place = next(page.resume for page in whole if page.resume == "0 all 30")
        del rows[5:9]  # what was deleted meanwhile moves the rest forward
        rest = listed(Pacs(rows, heeds=()), resume=place)
        assert set(rest) >= {f"1.2.{n}" for n in range(30, 60)}

    def test_rows_are_compared_again(self):
        rows = [
            study(1, "20200101"),
            study(2, "20210101", "CT"),
            study(3, "20210101", patient="P2"),
            study(4, None),
            study(5, "20221231"),
        ]
        chosen = Choice(
            since=date(2021, 1, 1),
            until=date(2022, 12, 31),
            modalities=frozenset({"MR"}),
            patient_ids=("P1",),
        )
        for heeds in ((), ("StudyDate",), ("StudyDate", "ModalitiesInStudy", "PatientID")):
            assert listed(Pacs(rows, heeds=heeds), chosen) == ["1.2.5"]


class TestChoice:
    ROWS = (
        study(1, "20200101", "MR"),
        study(2, "20200102", "MR/US"),
        study(3, "20200103", "US"),
        study(4, None, "CT", "P2"),
        study(5, "20200105", "CT", "P3"),
    )

    @pytest.mark.parametrize(
        ("choice", "found"),
        [
            (Choice(), [1, 2, 3, 5, 4]),
            (Choice(since=date(2020, 1, 2)), [2, 3, 5]),
            (Choice(until=date(2020, 1, 2)), [1, 2]),
            (Choice(since=date(2020, 1, 2), until=date(2020, 1, 3)), [2, 3]),
            (Choice(since=date(2020, 2, 2), until=date(2020, 1, 3)), []),
            (Choice(modalities=frozenset({"US", "MR"})), [1, 2, 3]),
            (Choice(modalities=frozenset({"US"})), [2, 3]),
            (Choice(patient_ids=("P2", "P3", "P2")), [4, 5]),
            (Choice(patient_ids=("P2", "P3"), since=date(2000, 1, 1)), [5]),
            (Choice(patient_ids=("P3",), modalities=frozenset({"MR"})), []),
        ],
    )
    def test_is_what_is_listed(self, choice, found):
        assert listed(Pacs(self.ROWS), choice) == [f"1.2.{number}" for number in found]

    def test_each_patient_costs_one_list(self):
        server = Pacs(self.ROWS)
        listed(server, Choice(patient_ids=("P2", "P3")))
        assert [query["PatientID"] for query in server.asked] == ["P2", "P2", "P3", "P3"]

    def test_a_patient_id_is_encoded_where_the_address_needs_it(self):
        seen = []

        def server(request):
            seen.append(request.url.raw_path.decode())
            return httpx.Response(200, content=b"[]")

        listed(server, Choice(patient_ids=("A&B 1^2%",)))
        assert "PatientID=A%26B%201^2%25&" in seen[0]


def test_rows_of_one_study_come_as_one():
    rows = [study(1, "20200101", patient="A"), study(1, "20200101", patient="B", count=4)]
    ((row,),) = [page.rows for page in pages(Pacs(rows)) if page.rows]
    assert (row.instance_count, len(row.attributes)) == (7, 2)


def test_rows_without_a_usable_uid_are_remarked_once(caplog):
    rows = [study(n, "20200101") for n in range(3)]
    for row in rows[:2]:
        row["0020000D"]["Value"] = ["x/y"]
        row["00100020"]["Value"] = [f"P{id(row)}"]
    assert listed(Pacs(rows)) == ["1.2.2"]
    assert [record.event for record in caplog.records] == ["study.remark"]


def test_who_is_told_to_stop_stops():
    Wire.server = staticmethod(Pacs([study(n, "20200101") for n in range(30)]))
    found = list(QidoListing(ARCHIVES[10]).pages(Choice(), None, NOW, lambda: True))
    assert len(found) <= 1
    assert all(page.resume != END for page in found)


@pytest.mark.parametrize(
    "text", ["", "x", "0 dates", "0 dates 2020-99-01 5", "0 dates 2020-01-01 0", "0 all", "a all 1"]
)
def test_a_position_that_cannot_be_read_is_the_beginning(text):
    assert Position.parse(text) == Position()


def test_a_study_without_counts_is_taken_for_changed_once_in_thirty_days():
    rows = [study(n, "20200101") for n in range(40)]
    for row in rows:
        del row["00201208"]
    Wire.server = staticmethod(Pacs(rows))
    changed = []
    last: dict[str, str] = {}
    for day in range(31):
        now = NOW + timedelta(days=day)
        found = {
            str(row.study_instance_uid): row.fingerprint
            for page in QidoListing(ARCHIVES[500]).pages(Choice(), None, now)
            for row in page.rows
        }
        changed.append(sum(last.get(uid) != print_ for uid, print_ in found.items()))
        last = found
    assert changed[0] == 40
    assert 40 <= sum(changed[1:]) <= 42
    assert max(changed[1:]) < 10
