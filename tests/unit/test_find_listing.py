"""A listing by C-FIND tells of every study, and goes on where one before it was ended."""

from datetime import date, timedelta

import pytest

from flute_sync.archive_errors import ArchiveUnavailable
from flute_sync.sources.find_client import FindClient
from flute_sync.sources.find_listing import FindListing
from flute_sync.sources.find_settings import FindScuSettings
from flute_sync.sources.listing import Choice, Listing
from flute_sync.sources.listing_windows import END
from flute_sync.study import StudyInstanceUID
from tests.find_scp import NOON, FindScp, many, serving, study

EVERYTHING = Choice()


def listing(port: int, **more) -> Listing:
    return FindListing(FindClient(FindScuSettings(port=port, ae_title="PACS", **more)))


def listed(found: Listing, choice: Choice = EVERYTHING, resume: str | None = None):
    pages = list(found.pages(choice, resume, NOON, lambda: False))
    assert pages == [] or pages[-1].resume == END
    return [row.study_instance_uid for page in pages for row in page.rows]


def test_few_studies_are_listed_at_once_those_without_a_date_too():
    pacs = FindScp([*study("1.2.1"), *study("1.2.2")])
    for one in pacs.instances[:6]:
        one.StudyDate = ""
    with serving(pacs) as port:
        assert listed(listing(port)) == ["1.2.1", "1.2.2"]
    assert len(pacs.queries) == 1


def test_many_studies_come_oldest_first_and_each_once():
    pacs = FindScp(many(70, timedelta(hours=30)), limit=50)
    undated = study("1.3", instances=1, series=1)
    undated[0].StudyDate = ""
    pacs.instances.insert(0, *undated)
    with serving(pacs) as port:
        found = listed(listing(port))
    assert sorted(found) == sorted(["1.3", *(f"1.2.{number}" for number in range(1, 71))])
    assert found.index("1.2.70") < found.index("1.2.1")


def test_a_listing_goes_on_where_it_was_ended_wherever_that_was():
    pacs = FindScp(many(30, timedelta(minutes=70)))
    with serving(pacs) as port:
        found = listing(port, max_answers=10)
        pages = list(found.pages(EVERYTHING, None, NOON, lambda: False))
        for ended in range(0, len(pages), max(1, len(pages) // 4)):
            before = {row.study_instance_uid for page in pages[: ended + 1] for row in page.rows}
            after = listed(found, EVERYTHING, pages[ended].resume)
            assert before | set(after) == {f"1.2.{number}" for number in range(1, 31)}
    assert listed(found, EVERYTHING, END) == []


def test_a_listing_that_is_stopped_or_fails_does_not_come_to_its_end():
    pacs = FindScp(many(40), dies_after=15)
    with serving(pacs) as port:
        found = listing(port)
        with pytest.raises(ArchiveUnavailable):
            list(found.pages(EVERYTHING, None, NOON, lambda: False))
        pages = list(found.pages(EVERYTHING, None, NOON, lambda: True))
    assert pages == []


def test_a_choice_is_compared_again_where_the_pacs_ignores_it():
    ignored = frozenset({"StudyDate", "PatientID", "ModalitiesInStudy"})
    pacs = FindScp([*study("1.2.1"), *study("1.2.2", NOON - timedelta(days=40))], ignored=ignored)
    for one in study("1.2.3"):
        one.PatientID, one.Modality = "P3", "US"
        pacs.instances.append(one)
    with serving(pacs) as port:
        found = listing(port)
        assert listed(found) == ["1.2.1", "1.2.2", "1.2.3"]
        assert listed(found, Choice(since=date(2026, 11, 1))) == ["1.2.1", "1.2.3"]
        assert listed(found, Choice(until=date(2026, 11, 1))) == ["1.2.2"]
        assert listed(found, Choice(modalities=frozenset({"US", "CT"}))) == ["1.2.3"]
        assert listed(found, Choice(patient_ids=("P3", "P1"))) == ["1.2.3", "1.2.1", "1.2.2"]


def test_the_keys_of_a_choice_are_asked_for():
    pacs = FindScp()
    with serving(pacs) as port:
        choice = Choice(date(2026, 1, 1), date(2026, 2, 1), frozenset({"MR"}), ("P1",))
        assert listed(listing(port), choice) == []
    (query,) = pacs.queries
    assert (query.StudyDate, query.ModalitiesInStudy, query.PatientID) == (
        "20260101-20260201",
        "MR",
        "P1",
    )


def test_a_row_says_what_the_archive_counts():
    with serving(FindScp(study("1.2.1"))) as port:
        (page, _) = listing(port).pages(EVERYTHING, None, NOON, lambda: False)
    (row,) = page.rows
    assert row.study_instance_uid == StudyInstanceUID("1.2.1")
    assert (row.series_count, row.instance_count) == (2, 6)
