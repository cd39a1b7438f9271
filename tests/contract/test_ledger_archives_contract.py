"""Several archives and what they say differently: identities, headers, series alone."""

from dataclasses import replace
from datetime import date
from itertools import product
from typing import Any

import pytest

from flute_sync.archive_errors import ArchiveForeignInstance
from flute_sync.identity import PatientSettings, identify
from flute_sync.intake import Received, Stated
from flute_sync.ledger_errors import LedgerRefused
from flute_sync.patient_errors import PatientConflict
from flute_sync.study import (
    Header,
    Issuer,
    PatientAttributes,
    PatientId,
    Remark,
    SeriesAttributes,
    SeriesInstanceUID,
    Study,
    StudyInstanceUID,
)
from flute_sync.task import State
from tests.contract.ledger_site import (
    HEADER,
    OTHER,
    STUDY,
    Site,
    header,
    held,
    left_out,
    received,
    synced,
)

SITE = PatientSettings(default_system="urn:site")
P1, P2 = PatientId("P1"), PatientId("P2")


def of(patient_id: PatientId | None, description: str = "") -> Header:
    said = header(description) if description else HEADER
    return replace(said, patient=PatientAttributes(id=patient_id))


def read(site: Site, **archives: tuple[Received, ...]) -> Study:
    """Read archives in one step, in the order given."""
    for name in archives:
        site.notice(archive=name)
    claimed = site.claim()
    for name, items in archives.items():
        site.snapshot(claimed, items, archive=name, absent=not items, believed=not items)
    study = site.ledger.load(claimed)
    site.ledger.settle(claimed, synced())
    return study


# -- identities ------------------------------------------------------------------------------


def test_each_archive_names_its_patients(site: Site) -> None:
    site.deliver(received([1], said=of(P1)) + received([2], said=of(None)))
    site.deliver(received([1], said=of(P1)), archive="copy")
    study = site.ledger.load(site.claim())
    assert study.patient_ids == {"pacs": {P1, None}, "copy": {P1}}


@pytest.mark.parametrize("order", [("pacs", "copy"), ("copy", "pacs")])
@pytest.mark.parametrize("again", [1, 2, 3])
def test_two_patients_are_seen_whatever_was_read_last(
    site: Site, order: tuple[str, str], again: int
) -> None:
    said = {"pacs": received([1, 2], said=of(P1)), "copy": received([1, 2], said=of(P2))}
    for _ in range(again):
        for name in order:
            study = read(site, **{name: said[name]})
    assert study.patient_ids == {"pacs": {P1}, "copy": {P2}}
    with pytest.raises(PatientConflict):
        identify(study, SITE)


def test_a_correction_replaces_what_its_archive_named(site: Site) -> None:
    site.deliver(received([1, 2], said=of(P1)))
    site.deliver(received([1, 2], said=of(P1)), archive="copy")
    study = read(site, pacs=received([1, 2], said=of(P2)))
    with pytest.raises(PatientConflict):
        identify(study, SITE)
    study = read(site, copy=received([1, 2], said=of(P2)))
    assert study.patient_ids == {"pacs": {P2}, "copy": {P2}}
    assert identify(study, SITE).key.value == "P2"
    assert {one.patient.id for one in study.headers} == {P2}


def test_an_upload_of_another_patient_is_seen_and_its_archive_asked(site: Site) -> None:
    site.deliver(received([1], said=of(P1)))
    site.sync()
    site.deliver(received([2], said=of(P2)))
    claimed = site.claim()
    assert site.ledger.load(claimed).patient_ids == {"pacs": {P1, P2}}
    assert claimed.reads_owed == ("pacs",)
    site.snapshot(claimed, received([1, 2], said=of(P1)))
    assert site.ledger.load(claimed).patient_ids == {"pacs": {P1}}


def test_a_copy_of_another_patient_is_news_though_its_header_does_not_count(site: Site) -> None:
    site.deliver(received([1], said=of(P1)), archive="a")
    site.deliver(received([1], said=of(P1)), archive="b")
    site.sync()
    site.deliver(received([1], said=of(P2)), archive="b")
    claimed = site.claim()
    assert claimed.reads_owed == ("b",)
    assert site.ledger.load(claimed).patient_ids == {"a": {P1}, "b": {P1, P2}}


def test_whom_something_names_that_came_during_the_read_counts(site: Site) -> None:
    site.deliver(received([1], said=of(P1)))
    claimed = site.claim()
    site.deliver(received([2], said=of(P2)))
    site.snapshot(claimed, received([1], said=of(P1)))
    assert site.ledger.load(claimed).patient_ids == {"pacs": {P1, P2}}


def test_each_archive_says_of_birth_date_and_sex_what_it_says(site: Site) -> None:
    """Of what both have, the first one's header is kept; what the other says is not lost."""
    mine = PatientAttributes(P1, birth_date=date(1951, 4, 12), sex="M")
    theirs = PatientAttributes(P2, birth_date=date(1960, 1, 2), sex="F", identity_removed=True)
    said = {
        name: received([1, 2], said=replace(HEADER, patient=replace(one, name="Known^Name")))
        for name, one in (("a", mine), ("b", theirs))
    }
    for name in "abab":
        study = read(site, **{name: said[name]})
    assert study.patients == {"a": {mine}, "b": {theirs}}
    assert {one.patient.id for one in study.headers} == {P1}
    theirs = replace(theirs, birth_date=None)
    study = read(site, b=received([1, 2], said=replace(HEADER, patient=theirs)))
    assert study.patients == {"a": {mine}, "b": {theirs}}
    site.deliver(received([1], said=replace(HEADER, patient=mine)), archive="b")
    assert site.ledger.load(site.claim()).patients["b"] == {mine, theirs}


def test_what_an_archive_says_of_a_sex_is_news_and_nothing_is_left_when_it_is_pruned(
    site: Site,
) -> None:
    site.deliver(received([1], said=of(P1)))
    site.deliver(received([1], said=of(P1)), archive="b")
    site.sync()
    said = replace(HEADER, patient=PatientAttributes(P1, sex="F"))
    site.deliver(received([1], said=said), archive="b")
    claimed = site.claim()
    assert site.ledger.load(claimed).patients["b"] == {
        PatientAttributes(P1),
        PatientAttributes(P1, sex="F"),
    }
    site.ledger.settle(claimed, left_out())
    assert {text for (text,) in site.rows("SELECT patients FROM study_archive")} == {"[]"}


def test_what_came_during_the_read_says_something_of_a_person_too(site: Site) -> None:
    site.deliver(received([1], said=of(P1)))
    claimed = site.claim()
    later = PatientAttributes(P1, sex="F")
    site.deliver(received([2], said=replace(HEADER, patient=later)))
    site.snapshot(claimed, received([1], said=of(P1)))
    assert site.ledger.load(claimed).patients == {"pacs": {PatientAttributes(P1), later}}


def test_an_id_that_cannot_be_read_is_not_nobody(site: Site) -> None:
    spoilt = replace(of(None), remarks=(Remark("value-unusable", "(0010,0020)"),))
    site.deliver(received([1], said=spoilt))
    assert site.ledger.load(site.claim()).patient_ids == {"pacs": {PatientId("")}}


def test_issuers_are_kept_and_nothing_is_left_when_it_is_pruned(site: Site) -> None:
    stated = PatientId("ü1", Issuer("HÖSP", "1.2", "ISO"))
    site.deliver(received([1], said=of(stated)))
    claimed = site.claim()
    assert site.ledger.load(claimed).patient_ids == {"pacs": {stated}}
    site.ledger.settle(claimed, left_out())
    assert site.rows("SELECT patient_ids FROM study_archive")[0][0] == "[]"


def test_what_came_last_counts_where_no_archive_can_be_asked(site: Site) -> None:
    site.deliver(received([1, 2], said=of(P1, "first")), final=True)
    site.sync()
    site.deliver(received([1], said=of(P2, "second")), final=True)
    claimed = site.claim()
    with pytest.raises(PatientConflict):
        identify(site.ledger.load(claimed), SITE)
    site.ledger.settle(claimed, held("PATIENT-CONFLICT"))
    site.deliver(received([2], said=of(P2, "second")), final=True)
    study = site.ledger.load(site.claim())
    assert study.patient_ids == {"pacs": {P2}}
    assert {one.series.description for one in study.headers} == {"second"}
    assert len(site.rows("SELECT header FROM header")) == 1


def test_one_delivery_that_says_two_things_ends_with_the_later_one(site: Site) -> None:
    twice = received([1], said=of(P1)) + received([1], said=of(P2))
    site.deliver(twice, final=True)
    study = site.ledger.load(site.claim())
    assert study.patient_ids == {"pacs": {P2}}
    assert len(study.headers) == 1


def test_the_same_again_is_no_news_where_no_archive_can_be_asked(site: Site) -> None:
    site.deliver(received([1, 2]), final=True)
    site.sync()
    before = site.unchanged()
    site.deliver(received([2, 1]), final=True)
    assert site.unchanged() == before


def test_a_known_instance_again_names_nobody_new(site: Site) -> None:
    site.deliver(received([1], said=of(P1)))
    site.sync()
    before = site.unchanged()
    site.deliver(received([1], said=of(P1)))
    assert site.unchanged() == before


# -- headers ---------------------------------------------------------------------------------

HERE, THERE = header("as a says it"), header("as b says it")
SAID = {"a": received([1, 2], said=HERE), "b": received([1, 2], said=THERE)}


@pytest.mark.parametrize("reads", list(product("ab", repeat=4)))
def test_reading_archives_in_turn_ends_in_the_header_of_the_first(
    site: Site, reads: tuple[str, ...]
) -> None:
    for name in ("b", "a"):
        read(site, **{name: SAID[name]})
    for name in reads:
        before = site.rows("SELECT generation FROM study")[0][0]
        study = read(site, **{name: SAID[name]})
        assert set(study.headers) == {HERE}
        assert study.archives == {"a", "b"}
        assert site.rows("SELECT generation FROM study")[0][0] == before + 1  # the notice
        assert site.view().state == State.COMPLETED
    assert site.rows("SELECT count(*) FROM header")[0][0] == 1


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_what_is_delivered_ends_in_the_header_of_the_first(site: Site, order: str) -> None:
    for name in order:
        site.deliver(SAID[name], archive=name)
    claimed = site.claim()
    assert claimed.reads_owed == ()
    assert set(site.ledger.load(claimed).headers) == {HERE}


def test_the_order_is_that_of_the_settings(site: Site) -> None:
    site.open(archives=["b", "a"])
    for name in "abab":
        study = read(site, **{name: SAID[name]})
    assert set(study.headers) == {THERE}


def test_when_the_first_lets_go_the_next_is_asked(site: Site) -> None:
    for name in "ab":
        read(site, **{name: SAID[name]})
    site.notice(archive="a")
    claimed = site.claim()
    site.snapshot(claimed, received([1], said=HERE), archive="a")
    assert site.ledger.settle(claimed, synced()) is State.RECEIVED
    claimed = site.claim()
    assert claimed.reads_owed == ("b",)
    site.snapshot(claimed, SAID["b"], archive="b")
    study = site.ledger.load(claimed)
    assert {i.number: i.header for _, i in study.instances()} == {1: HERE, 2: THERE}
    assert site.ledger.settle(claimed, synced()) is State.COMPLETED


def test_when_another_lets_go_nobody_is_asked(site: Site) -> None:
    for name in "ab":
        read(site, **{name: SAID[name]})
    study = read(site, b=())
    assert set(study.headers) == {HERE}
    assert study.archives == {"a"}
    assert site.view().state == State.COMPLETED


# -- series of which no instance is told -----------------------------------------------------


def series(
    number: int,
    count: int | None = 20,
    said: str = "T2",
    study: StudyInstanceUID = STUDY,
    patient: PatientId = P1,
) -> Stated:
    attributes = SeriesAttributes(number=number, modality="MR", description=said)
    told = Header("", PatientAttributes(id=patient), series=attributes)
    return Stated(study, SeriesInstanceUID(f"{study}.{number}"), told, count)


def state(site: Site, *stated: Stated, archive: str = "pacs", **more: Any) -> Study:
    site.notice(archive=archive)
    claimed = site.claim()
    site.snapshot(claimed, archive=archive, stated=stated, **more)
    study = site.ledger.load(claimed)
    site.ledger.settle(claimed, synced())
    return study


def test_what_is_stated_is_known_and_counted(site: Site) -> None:
    study = state(site, series(1), series(2, None, "ADC"))
    assert [(s.series_instance_uid, s.instance_count) for s in study.series] == [
        ("1.2.3.1", 20),
        ("1.2.3.2", None),
    ]
    assert [s.stated for s in study.series] == [series(1).header, series(2, said="ADC").header]
    assert all(s.archives == {"pacs"} and s.instances == () for s in study.series)
    assert study.archives == {"pacs"}
    assert study.patient_ids == {"pacs": {P1}}
    assert (site.view().series, site.view().instances) == (2, 20)
    status = site.ledger.status(site.clock())
    assert (status.series, status.instances) == (2, 20)
    assert site.ledger.held("pacs", None, 10) == (STUDY,)


def test_the_same_statement_again_changes_nothing(site: Site) -> None:
    once = state(site, series(1), series(2))
    assert state(site, series(2), series(1)) == once
    assert site.rows("SELECT count(*) FROM stated_series")[0][0] == 2
    assert site.rows("SELECT count(*) FROM header")[0][0] == 2


def test_what_is_stated_no_more_is_gone(site: Site) -> None:
    state(site, series(1), series(2))
    study = state(site, series(2, 21))
    assert [(s.series_instance_uid, s.size) for s in study.series] == [("1.2.3.2", 21)]
    assert site.rows("SELECT count(*) FROM header")[0][0] == 1
    assert (site.view().series, site.view().instances) == (1, 21)


def test_instances_take_the_place_of_a_statement(site: Site) -> None:
    state(site, series(1), series(2))
    site.deliver(received([1, 2]), archive="pacs")
    study = site.ledger.load(site.claim())
    first, second = study.series
    assert (len(first.instances), first.stated, first.size) == (2, None, 20)
    assert second.is_stated_only
    assert set(first.headers) == {HEADER}
    assert (site.view().series, site.view().instances) == (2, 22)


def test_a_read_with_instances_replaces_the_statement(site: Site) -> None:
    state(site, series(1))
    study = read(site, pacs=received([1, 2, 3]))
    (only,) = study.series
    assert (len(only.instances), only.stated, only.instance_count) == (3, None, None)
    assert site.rows("SELECT count(*) FROM stated_series")[0][0] == 0
    assert (site.view().series, site.view().instances) == (1, 3)


@pytest.mark.parametrize(
    ("count", "known"), [(20, 2), (2, 2), (None, 2), (1, 0)], ids=["more", "same", "?", "fewer"]
)
def test_known_instances_of_a_stated_series_stay_while_they_can(
    site: Site, count: int | None, known: int
) -> None:
    """Where fewer are stated than known, nobody tells which were deleted."""
    site.deliver(received([1, 2]))
    study = state(site, series(1, count))
    (only,) = study.series
    assert len(only.instances) == known
    assert only.archives == {"pacs"}
    assert only.is_stated_only is (known == 0)
    assert state(site).series == ()


def test_two_archives_state_one_series_each_in_its_way(site: Site) -> None:
    for archive, stated in (("b", series(1, 21, "b")), ("a", series(1, 20, "a"))) * 2:
        study = state(site, stated, archive=archive)
    (only,) = study.series
    assert (only.stated, only.instance_count) == (series(1, said="a").header, 21)
    assert only.archives == {"a", "b"}
    study = state(site, archive="a", absent=True, believed=True)
    (only,) = study.series
    assert only.stated == series(1, said="b").header
    assert only.archives == {"b"}


def test_one_archive_states_what_the_other_tells_in_full(site: Site) -> None:
    state(site, series(1), archive="a")
    study = read(site, b=received([1, 2]))
    (only,) = study.series
    assert (len(only.instances), only.size) == (2, 20)
    assert only.archives == {"a", "b"}
    study = read(site, b=())
    (only,) = study.series
    assert only.is_stated_only
    assert only.archives == {"a"}


def test_an_absence_that_is_only_counted_keeps_the_statement(site: Site) -> None:
    state(site, series(1))
    assert len(state(site, absent=True).series) == 1
    assert site.ledger.held("pacs", None, 10) == ()
    study = state(site, absent=True, believed=True)
    assert (study.series, study.vanished, study.patient_ids) == ((), True, {"pacs": frozenset()})


def test_a_statement_is_pruned_and_read_again(site: Site) -> None:
    site.notice()
    claimed = site.claim()
    site.snapshot(claimed, stated=(series(1),), instance_count=20)
    site.ledger.settle(claimed, left_out())
    for table in ("stated_series", "header", "series"):
        assert site.rows(f"SELECT count(*) FROM {table}")[0][0] == 0
    assert site.view().is_pruned
    assert (site.view().series, site.view().instances) == (0, 0)
    assert site.ledger.held("pacs", None, 10) == (STUDY,)
    assert len(state(site, series(1)).series) == 1
    assert not site.view().is_pruned


def test_a_statement_of_another_study_is_refused(site: Site) -> None:
    site.notice()
    with pytest.raises(ArchiveForeignInstance):
        site.snapshot(site.claim(), stated=(series(1, study=OTHER),))


def test_a_series_stated_twice_is_one(site: Site) -> None:
    assert len(state(site, series(1), series(1, 5)).series) == 1


@pytest.mark.parametrize(
    "impossible",
    [
        "UPDATE stated_series SET header = 99",
        "UPDATE stated_series SET instance_count = -1",
        "UPDATE stated_series SET series_instance_uid = ''",
        "UPDATE stated_series SET archive_id = 99",
        "UPDATE study SET stated_series = -1",
        "UPDATE study SET stated_instances = -1",
        "UPDATE study SET pruned = (1 = 1), patient_reference = NULL",
        "DELETE FROM header",
    ],
)
def test_the_database_refuses_the_impossible(site: Site, impossible: str) -> None:
    state(site, series(1))
    database = site.ledger._database
    with pytest.raises(LedgerRefused), database.write() as connection:
        connection.exec_driver_sql(impossible)
