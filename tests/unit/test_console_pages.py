"""The parts of the console's pages that need no server."""

from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.archive_errors import (
    ArchiveServerError,
    ArchiveUnauthorized,
    ArchiveUnavailable,
)
from flute_sync.console.pages.attempts import Attempts, network_of
from flute_sync.console.pages.contents import drawing, in_words, series_of
from flute_sync.console.pages.elements import moment, text
from flute_sync.console.pages.listing import Asked, Searches
from flute_sync.console.pages.pictures import Pictures, Plan, Plans
from flute_sync.console.pages.sessions import Person, Sessions
from flute_sync.console.pages.shell import local_path
from flute_sync.console.pages.timeline import WIDTH, Mark, timeline
from flute_sync.console.pages.users import Users, hash_of, parsed, written
from flute_sync.console_errors import PageAbsent, UsersUnusable
from flute_sync.errors import FluteSyncError
from flute_sync.fhir.browsing import StudyCriteria
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.rendered import Renderer

MINUTE = timedelta(minutes=1)
HASHED = hash_of("a password")


class Clock:
    """Monotonic seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# -- attempts ----------------------------------------------------------------------------------


def test_attempts_are_counted_within_a_window() -> None:
    clock = Clock()
    attempts = Attempts(2, MINUTE, clock=clock)
    assert [attempts.take("anna"), attempts.take("anna")] == [None, None]
    assert attempts.take("anna") == MINUTE
    assert attempts.take("carla") is None
    clock.now += 59
    assert attempts.take("anna") == timedelta(seconds=1)
    clock.now += 2
    assert attempts.take("anna") is None


def test_what_turned_out_well_does_not_count() -> None:
    attempts = Attempts(2, MINUTE, clock=Clock())
    for _ in range(10):
        assert attempts.take("an address") is None
        attempts.give_back("an address")
    attempts.take("anna")
    attempts.take("anna")
    attempts.forget("anna")
    assert attempts.take("anna") is None


def test_many_names_make_none_forgotten() -> None:
    attempts = Attempts(1, MINUTE, clock=Clock())
    attempts.take("anna")
    for number in range(200_000):
        attempts.take(f"somebody {number}")
    assert attempts.take("anna") is not None


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(address: str, counted: str) -> None:
    assert network_of(address) == counted


# -- sessions ----------------------------------------------------------------------------------


def test_a_session_ends_idle_and_ends_in_any_case() -> None:
    clock = Clock()
    sessions = Sessions(MINUTE, 3 * MINUTE, clock=clock)
    word = sessions.begin("Anna", "anna")
    for _ in range(3):
        clock.now += 50
        person = sessions.person(word)
        assert person is not None
        assert (person.name, person.identity) == ("Anna", "anna")
    clock.now += 50
    assert sessions.person(word) is None
    word = sessions.begin("Anna", "anna")
    clock.now += 61
    assert sessions.person(word) is None
    clock.now -= 61
    assert sessions.person(word) is None


def test_a_session_holds_as_long_as_the_person_is_admitted() -> None:
    admitted = [True, True, False]
    sessions = Sessions(MINUTE, MINUTE)
    word = sessions.begin("Anna", "anna", lambda: admitted.pop(0))
    assert sessions.person(word) is not None
    assert sessions.person(word) is not None
    assert sessions.person(word) is None
    assert sessions.person("anything") is None


def test_too_many_sessions_end_the_oldest() -> None:
    sessions = Sessions(MINUTE, MINUTE, most=2)
    first, second, third = (sessions.begin(name, name) for name in "abc")
    assert sessions.person(first) is None
    assert sessions.person(second) is not None
    sessions.end(third)
    assert sessions.person(third) is None


# -- users -------------------------------------------------------------------------------------


def test_users_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(written({"zoe": HASHED, "anna": HASHED}))
    users = Users(str(file))
    assert list(users.hashes()) == ["anna", "zoe"]
    assert users.verified("anna", "a password") == HASHED
    assert users.verified("anna", "another password") is None
    assert users.verified("nobody", "a password") is None


def test_a_password_is_the_same_however_it_is_composed(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(written({"anna": hash_of("caffe\u0300 doppio")}))
    assert Users(str(file)).verified("anna", "caff\u00e8 doppio") is not None


@pytest.mark.parametrize(
    "line",
    [
        "anna",
        "anna:",
        "anna:secret",
        f"a b\x01:{HASHED}",
        f":{HASHED}",
        f"anna:{HASHED}\nanna:{HASHED}",
        f"anna:{HASHED.replace('m=65536', 'm=99999999')}",
    ],
    ids=["name alone", "no hash", "plain", "control", "no name", "twice", "costly"],
)
def test_a_line_that_is_none_of_ours_is_refused_and_not_repeated(line: str) -> None:
    with pytest.raises(UsersUnusable) as refused:
        parsed(line)
    assert refused.value.sentence.endswith(("line 1", "line 2"))


# -- small things ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "followed"),
    [
        ("/studies?at=x", "/studies?at=x"),
        ("/studies/1", "/studies/1"),
        ("/sign-out", "/studies"),
        ("//evil.example/studies", "/studies"),
        ("https://evil.example", "/studies"),
        ("/studies\n", "/studies"),
        (None, "/studies"),
    ],
)
def test_where_one_goes_on(asked: str | None, followed: str) -> None:
    assert local_path(asked) == followed


def test_a_search_is_its_own_persons() -> None:
    searches = Searches()
    anna, carla = Person("", "anna", ""), Person("", "carla", "")
    asked = Asked("anna", StudyCriteria(patient="1"))
    word = searches.keep(asked)
    assert searches.of(word, anna) == asked
    with pytest.raises(PageAbsent):
        searches.of(word, carla)
    for _ in range(3000):
        searches.keep(asked)
    with pytest.raises(PageAbsent):
        searches.of(word, anna)


@given(st.one_of(st.none(), st.text(), st.integers(), st.lists(st.text())))
def test_text_is_short_and_has_no_controls(value: object) -> None:
    shown = text(value)
    assert len(shown) <= 201
    assert shown.isprintable()


def test_kinds_are_said_in_words() -> None:
    assert in_words("PR_ProstateSpecificAntigen") == "Prostate Specific Antigen"
    assert in_words("PR_PIRADSScore") == "PIRADS Score"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("2024-03-01T09:15:00+01:00", "2024-03-01 09:15 +01:00"),
        ("2026-11-22T11:43:36.483Z", "2026-11-22 11:43 UTC"),
        ("2024-03-01", "2024-03-01"),
        ("2024", "2024"),
        ("", ""),
        ("soon T 09:15", "soon T 09:15"),
    ],
)
def test_moments_are_read_by_people(said: str, shown: str) -> None:
    assert moment(said) == shown


def test_without_a_dated_link_nothing_is_drawn() -> None:
    assert drawing({"started": "2024-03-01"}, []) is None


# -- timeline ----------------------------------------------------------------------------------

DAYS = st.one_of(st.dates(), st.sampled_from([date.min, date.max]))


@given(st.lists(st.tuples(DAYS, DAYS), max_size=20))
def test_every_mark_is_on_the_drawing(pairs: list[tuple[date, date]]) -> None:
    marks = [Mark("m", "", min(pair), max(pair), "") for pair in pairs]
    drawn = timeline(marks)
    if drawn is None:
        return
    assert len(drawn.rows) == len(marks)
    for row in drawn.rows:
        assert drawn.left <= row.x <= row.x + row.width <= WIDTH
        assert 0 < row.y < drawn.height
    assert 1 <= len(drawn.ticks) <= 9
    assert all(drawn.left <= tick.x <= WIDTH for tick in drawn.ticks)


def test_marks_stand_in_the_order_of_their_days() -> None:
    days = [date(2023, 12, 31), date(2024, 2, 29), date(2025, 1, 1)]
    drawn = timeline([Mark("m", "", day, day, "") for day in days])
    assert drawn is not None
    places = [row.x for row in drawn.rows]
    assert places == sorted(places)
    assert len(set(places)) == 3
    assert timeline([Mark("m", "", date.min, date.max, "")]) is None
    assert timeline([]) is None


# -- pictures ----------------------------------------------------------------------------------

JPEG = b"\xff\xd8\xff picture"
PLAN = Plan("1.2", {"1.2.1.1": "1.2.1"}, ("pacs", "unknown"))


class FakeArchive:
    """Answers for an archive, and keeps what it was asked."""

    def __init__(self, status: int = 200, body: bytes = JPEG) -> None:
        self.status, self.body = status, body
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return httpx.Response(self.status, content=self.body)


def pictures(archive: FakeArchive, **options: object) -> Pictures:
    renderer = Renderer(ArchiveSettings(), transport=httpx.MockTransport(archive))
    failures: list[FluteSyncError] = []
    return Pictures({"pacs": renderer}, failures.append, **options)  # type: ignore[arg-type]


def test_a_picture_is_fetched_once_and_kept_for_a_while() -> None:
    archive, clock = FakeArchive(), Clock()
    kept = pictures(archive, clock=clock)
    for _ in range(3):
        assert kept.get(PLAN, "1.2.1.1") == (JPEG, "image/jpeg")
    (asked,) = archive.asked
    assert asked.url.path == "/dicom-web/studies/1.2/series/1.2.1/instances/1.2.1.1/rendered"
    assert asked.headers["accept"] == "image/jpeg"
    clock.now += 3600
    kept.get(PLAN, "1.2.1.1")
    assert len(archive.asked) == 2


def test_only_what_the_page_shows_is_fetched() -> None:
    archive = FakeArchive()
    with pytest.raises(PageAbsent):
        pictures(archive).get(PLAN, "1.2.1.2")
    assert archive.asked == []


def test_memory_for_pictures_is_bounded() -> None:
    archive = FakeArchive()
    plan = Plan("1.2", {f"1.2.1.{n}": "1.2.1" for n in range(50)}, ("pacs",))
    kept = pictures(archive, most_bytes=10 * len(JPEG))
    for instance in plan.series:
        kept.get(plan, instance)
    kept.get(plan, "1.2.1.49")
    assert len(archive.asked) == 50
    kept.get(plan, "1.2.1.0")
    assert len(archive.asked) == 51


@pytest.mark.parametrize(
    ("archive", "error"),
    [
        (FakeArchive(404), PageAbsent),
        (FakeArchive(406), PageAbsent),
        (FakeArchive(503), ArchiveUnavailable),
        (FakeArchive(body=b"<script>alert(1)</script>"), ArchiveServerError),
        (FakeArchive(body=b""), ArchiveServerError),
    ],
)
def test_what_is_no_picture_is_not_handed_on(archive: FakeArchive, error: type[Exception]) -> None:
    with pytest.raises(error):
        pictures(archive).get(PLAN, "1.2.1.1")


@pytest.mark.parametrize(
    ("status", "error"), [(503, ArchiveUnavailable), (401, ArchiveUnauthorized)]
)
def test_an_archive_that_fails_as_a_whole_is_left_alone_for_a_moment(
    status: int, error: type[FluteSyncError]
) -> None:
    dead, alive, clock = FakeArchive(status), FakeArchive(), Clock()
    failures: list[FluteSyncError] = []
    renderers = {
        name: Renderer(ArchiveSettings(), transport=httpx.MockTransport(archive))
        for name, archive in (("dead", dead), ("alive", alive))
    }
    kept = Pictures(renderers, failures.append, clock=clock)
    only = Plan("1.2", {"1.2.1.1": "1.2.1"}, ("dead",))
    for _ in range(3):
        with pytest.raises(error):
            kept.get(only, "1.2.1.1")
    both = Plan("1.2", {"1.2.1.1": "1.2.1"}, ("dead", "alive"))
    assert kept.get(both, "1.2.1.1") == (JPEG, "image/jpeg")
    assert (len(dead.asked), len(alive.asked), len(failures)) == (1, 1, 1)
    clock.now += 60
    with pytest.raises(error):
        kept.get(Plan("1.2", {"1.2.1.2": "1.2.1"}, ("dead",)), "1.2.1.2")
    assert (len(dead.asked), len(failures)) == (2, 2)


def test_plans_are_few_and_grow_old() -> None:
    clock = Clock()
    plans = Plans(clock)
    for number in range(500):
        plans.keep(str(number), Plan("1.2", {}, (), made=clock.now))
    assert plans.of("0") is None
    assert plans.of("499") is not None
    clock.now += 3600
    assert plans.of("499") is None


def test_series_without_pictures_and_illegal_uids_have_no_address() -> None:
    instance = [{"uid": "1.2.1.1"}]
    series = [
        {"uid": "1.2.1", "modality": {"code": "MR"}, "instance": instance},
        {"uid": "1.2.2", "modality": {"code": "SR"}, "instance": instance},
        {"uid": "../x", "modality": {"code": "MR"}, "instance": instance},
        {"uid": "1.2.4", "modality": {"code": "MR"}, "instance": [{"uid": "1.2/../.."}]},
    ]
    shown = series_of({"series": series}, "https://pacs.example/studies/1.2")
    assert [one.instance for one in shown] == ["1.2.1.1", None, None, None]
    assert [one.url is None for one in shown] == [False, False, True, False]
