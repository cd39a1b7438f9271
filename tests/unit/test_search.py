"""A search tells of every row once, whatever a server makes of limit, offset and includefield."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import httpx
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flute_sync.archive_errors import ArchiveRefused, ArchiveServerError
from flute_sync.sources.peer import Peer
from flute_sync.sources.peer_settings import PeerSettings
from flute_sync.sources.search import Search, StudyRow
from flute_sync.study import StudyInstanceUID

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


UID = StudyInstanceUID("1.2.3")


def row(uid: str | None, **more: object) -> dict:
    found = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Example^Adam"}]},
        "00201206": {"vr": "IS", "Value": [2]},
        "00201208": {"vr": "IS", "Value": ["10"]},
    }
    if uid is not None:
        found["0020000D"] = {"vr": "UI", "Value": [uid]}
    return found | more


class Server:
    """Answers studies as told; ``asked`` holds each query as it was on the wire."""

    def __init__(self, rows, *, cap=10**6, limit=True, offset=True, include=200):
        self.rows, self.cap, self.limit, self.offset = rows, cap, limit, offset
        self.include = include
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = request.url.raw_path.partition(b"?")[2].decode()
        self.asked.append(query)
        parameters = {key: value[0] for key, value in parse_qs(query).items()}
        if "includefield" in parameters and self.include != 200:
            return httpx.Response(self.include)
        start = int(parameters.get("offset", 0)) if self.offset else 0
        limited = self.limit and "limit" in parameters
        size = min(self.cap, int(parameters["limit"])) if limited else self.cap
        return httpx.Response(200, content=orjson.dumps(self.rows[start : start + size]))


class Wire:
    """One client for all tests, since opening one reads all of the system's certificates."""

    server: Callable[[httpx.Request], httpx.Response]

    @classmethod
    def answer(cls, request: httpx.Request) -> httpx.Response:
        return cls.server(request)


PEER = Peer(
    PeerSettings(),
    "http://pacs/dicom-web",
    name="archive",
    accept="application/dicom+json",
    transport=httpx.MockTransport(Wire.answer),
)


def search(server, page_size=500, **bounds) -> Search:
    Wire.server = server
    return Search(PEER, page_size, **bounds)


def study(server, uid=UID, at=NOW, **options) -> StudyRow:
    found = search(server, **options).study(StudyInstanceUID(uid), at)
    assert found is not None
    return found


def seen(server, page_size=500, **bounds) -> list[str | None]:
    pages = search(server, page_size, **bounds).sightings("StudyDate=20261101-", NOW)
    return [sighting.study_instance_uid for page in pages for sighting in page]


@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 12), st.booleans(), st.booleans())
@example(40, 5, 5, True, False)
@example(10, 10, 12, True, True)
def test_every_study_is_seen_once(total, page_size, cap, limit, offset):
    if not offset:
        cap = 10**6  # a server that caps and ignores offset never shows the rest
    rows = [row(f"1.2.{number}") for number in range(total)]
    found = seen(Server(rows, cap=cap, limit=limit, offset=offset), page_size)
    assert found == [f"1.2.{number}" for number in range(total)]


def test_a_server_that_counts_the_series_of_a_study_as_rows_shows_all():
    joined = [row(f"1.2.{number}") for number in (1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 3, 4)]

    def server(request: httpx.Request) -> httpx.Response:
        parameters = {key: value[0] for key, value in parse_qs(request.url.query.decode()).items()}
        start = int(parameters.get("offset", 0))
        page = joined[start : start + int(parameters.get("limit", 4))]
        once = {one["0020000D"]["Value"][0]: one for one in page}
        return httpx.Response(200, content=orjson.dumps(list(once.values())))

    assert set(seen(server, page_size=4)) == {"1.2.1", "1.2.2", "1.2.3", "1.2.4"}


def test_values_are_not_encoded_on_the_wire():
    server = Server([row("1.2.3")])
    seen(server)
    assert server.asked[0].startswith("StudyDate=20261101-&limit=500&offset=0&includefield=")
    assert "%" not in server.asked[0]
    assert "," in server.asked[0].partition("includefield=")[2]


def test_a_server_that_refuses_includefield_is_asked_without_it_from_then_on():
    server = Server([row("1.2.3")], include=400)
    one = search(server)
    assert one.study(UID, NOW) is not None
    assert one.study(UID, NOW) is not None
    assert ["includefield" in query for query in server.asked] == [True, False, False]


def test_another_refusal_is_not_taken_for_one_of_includefield():
    server = Server([], include=404)
    with pytest.raises(ArchiveRefused):
        search(server).study(UID, NOW)
    assert len(server.asked) == 1


def test_no_content_is_no_study():
    assert seen(lambda _: httpx.Response(204)) == []


def test_pages_that_never_end_are_given_up():
    numbers = iter(range(10**6))
    server = lambda _: httpx.Response(  # noqa: E731
        200, content=orjson.dumps([row(f"1.2.{next(numbers)}")])
    )
    with pytest.raises(ArchiveServerError):
        seen(server, most_pages=5)


class TestStudy:
    def test_one_request_finds_it(self):
        server = Server([row("1.2.3")])
        found = study(server)
        assert (found.series_count, found.instance_count) == (2, 10)
        assert len(server.asked) == 1
        assert server.asked[0].startswith("StudyInstanceUID=1.2.3&")

    def test_it_is_found_among_others_that_were_not_asked_for(self):
        rows = [row(f"1.2.{number}") for number in range(30)]
        found = study(Server(rows), "1.2.25", page_size=7)
        assert found.study_instance_uid == "1.2.25"

    def test_other_studies_are_not_it(self):
        rows = [row(f"1.2.{number}") for number in range(30)]
        assert search(Server(rows), page_size=7).study(StudyInstanceUID("1.2.99"), NOW) is None

    def test_two_patients_with_one_study_are_summed_up(self):
        other = row("1.2.3", **{"00100020": {"vr": "LO", "Value": ["B"]}})
        both = study(Server([row("1.2.3"), other]))
        turned = study(Server([other, row("1.2.3")]))
        alone = study(Server([other]))
        assert (both.series_count, both.instance_count) == (4, 20)
        assert both.fingerprint == turned.fingerprint != alone.fingerprint
        assert len(both.attributes) == 2


class TestFingerprint:
    def fingerprint(self, found, at=NOW):
        return study(Server([found]), at=at).fingerprint

    @pytest.mark.parametrize(
        "more",
        [
            {"00201208": {"vr": "IS", "Value": [11]}},
            {"00201206": {"vr": "IS", "Value": [3]}},
            {"00100020": {"vr": "LO", "Value": ["P2"]}},
            {"00100021": {"vr": "LO", "Value": ["HOSP"]}},
            {"00100030": {"vr": "DA", "Value": ["19500101"]}},
            {"00081030": {"vr": "LO", "Value": ["MRI"]}},
            {"00080061": {"vr": "CS", "Value": ["MR"]}},
        ],
    )
    def test_changes_with_what_is_said(self, more):
        assert self.fingerprint(row("1.2.3", **more)) != self.fingerprint(row("1.2.3"))

    def test_stays_with_what_says_nothing_of_the_study(self):
        more = {
            "00081190": {"vr": "UR", "Value": ["http://elsewhere"]},
            "00080056": {"vr": "CS", "Value": ["NEARLINE"]},
            "00100021": {"vr": "LO"},
        }
        assert self.fingerprint(row("1.2.3", **more)) == self.fingerprint(row("1.2.3"))

    def test_does_not_depend_on_the_order_of_modalities(self):
        one, other = (
            row("1.2.3", **{"00080061": {"vr": "CS", "Value": values}})
            for values in (["MR", "SR"], ["SR", "MR"])
        )
        assert self.fingerprint(one) == self.fingerprint(other)

    def test_holds_nothing_of_the_patient(self):
        assert set(self.fingerprint(row("1.2.3"))) <= set("0123456789abcdef")

    def test_without_counts_a_study_is_changed_once_an_hour(self):
        uncounted = row("1.2.3", **{"00201208": {"vr": "IS"}})
        at_12, at_12_59, at_13 = (
            self.fingerprint(uncounted, NOW + timedelta(minutes=m)) for m in (0, 59, 60)
        )
        assert at_12 == at_12_59 != at_13

    @pytest.mark.parametrize(
        "element",
        [
            "1.2.3",
            None,
            {"Value": "x"},
            {"Value": [{}]},
            {"Value": [-1]},
            {"Value": ["x"]},
            {"Value": []},
        ],
    )
    def test_elements_of_another_shape_are_no_counts(self, element):
        found = study(Server([row("1.2.3", **{"00201208": element})]))
        assert found.instance_count is None
