"""A ledger that the first release filled, raised to this one: nothing of it is lost."""

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, text

from flute_sync.ledger import ANY_SOURCES, LedgerSettings, upgrade
from flute_sync.ledger.alembic_upgrade import configuration
from flute_sync.ledger.columns import pack_uid
from flute_sync.ledger.migrate import scripts
from flute_sync.ledger_errors import LedgerPseudonymsChanged, LedgerSchemaError
from flute_sync.study import (
    Issuer,
    PatientAttributes,
    PatientId,
    SOPInstanceUID,
    StudyInstanceUID,
    person_of,
)
from flute_sync.task import State
from tests.contract.ledger_site import STUDY, TARGET, Site, received, synced

MR = "1.2.840.10008.5.1.4.1.1.4"
THEN = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1_000_000)
PRUNED, WAITING = StudyInstanceUID("1.2.5"), StudyInstanceUID("1.2.6")
DISPUTED = StudyInstanceUID("1.2.8")
HEADERS = [
    {
        "sop_class_uid": MR,
        "patient": {"id": {"value": "P1"}, "name": "Known^Name", "birth_date": "1951-04-12"}
        | {"sex": "M", "identity_removed": False},
    },
    {
        "sop_class_uid": MR,
        "patient": {"id": {"value": "ü2", "issuer": {"namespace": "HÖSP"}}},
        "series": {"number": 2, "modality": "MR"},
    },
    {"sop_class_uid": MR},
    {"sop_class_uid": MR, "remarks": [{"code": "value-unusable", "tag": "(0010,0020)"}]},
]
_STUDY = {
    "generation": 3,
    "received_at": THEN,
    "news_since": None,
    "unsynced_since": None,
    "next_attempt_at": None,
    "lease_owner": None,
    "attempts": 0,
    "confirmed": None,
    "last_series": 2,
    "last_header": 4,
    "calling_ae_titles": '["MR1"]',
    "code": None,
    "sentence": "It was written.",
    "waiting_for": None,
    "patient_reference": "Patient/1",
    "rules": "r1",
}
ROWS: list[tuple[str, dict[str, Any]]] = [
    ("archive", {"id": 1, "name": "pacs"}),
    ("archive", {"id": 2, "name": "copy"}),
    ("fhir_target", {"id": 1, "base_url": TARGET, "single": True}),
    (
        "study",
        _STUDY
        | {"id": 1, "study_instance_uid": STUDY, "state": "completed", "pruned": False}
        | {"series_count": 2, "instance_count": 4},
    ),
    (
        "study",
        _STUDY
        | {"id": 2, "study_instance_uid": PRUNED, "state": "cancelled", "pruned": True}
        | {"series_count": 0, "instance_count": 0, "patient_reference": None},
    ),
    (
        "study",
        _STUDY
        | {"id": 3, "study_instance_uid": WAITING, "state": "on-hold", "pruned": False}
        | {"series_count": 1, "instance_count": 1, "unsynced_since": THEN, "waiting_for": "k"}
        | {"code": "PATIENT-ABSENT", "patient_reference": None},
    ),
    *(
        (
            "study_archive",
            {"study_id": study, "archive_id": archive, "read_owed": None, "unverified": None}
            | {"series_count": 2, "instance_count": 4, "fingerprints": '{"": "2/4"}'}
            | {"absent_since": None, "absences": 0},
        )
        for study, archive in ((1, 1), (1, 2), (2, 1), (3, 1))
    ),
    *(
        ("series", {"study_id": study, "series": n, "series_instance_uid": f"1.2.{study}.{n}"})
        for study, n in ((1, 1), (1, 2), (3, 1))
    ),
    *(
        (
            "header",
            {"study_id": study, "header": n, "digest": bytes([n]) * 16, "extraction_version": 1}
            | {"text": json.dumps(said, ensure_ascii=False, separators=(",", ":"))},
        )
        for study in (1, 3)
        for n, said in enumerate(HEADERS, 1)
    ),
    *(
        (
            "instance",
            {"study_id": study, "sop_instance_uid": pack_uid(f"1.2.{study}.9.{n}")}
            | {"series": 1 + n // 3, "header": n, "number": n, "generation": 2, "archives": bits},
        )
        for study, n, bits in ((1, 1, 3), (1, 2, 1), (1, 3, 2), (1, 4, 2))
    ),
    (
        "instance",
        {"study_id": 3, "sop_instance_uid": pack_uid("1.2.3.9.1"), "series": 1, "header": 1}
        | {"number": None, "generation": 1, "archives": 1},
    ),
    (
        "event",
        {"study_id": 1, "at": THEN, "event": "study.synced", "sentence": "Told.", "code": None},
    ),
    ("source_cursor", {"source": "orthanc_changes", "archive_id": 1, "value": "4711"}),
    ("intent", {"source": "stow_rs", "archive_id": 2, "owner": "gone", "expires_at": THEN}),
    ("intent_study", {"intent_id": 1, "study_instance_uid": "1.2.7"}),
    (
        "fhir_study",
        {"study_id": 1, "target_id": 1, "resource_id": "7", "version_id": "3", "digest": "d"},
    ),
]
TABLES = sorted({table for table, _ in ROWS})


def _insert(connection: Connection, table: str, row: dict[str, Any]) -> None:
    columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), row)


def _told(site: Site) -> dict[str, list[str]]:
    """All that the first release wrote, as it stands now."""
    told = {}
    for table in TABLES:
        columns = dict.fromkeys(name for of, row in ROWS if of == table for name in row)
        rows = site.rows(f"SELECT {', '.join(columns)} FROM {table}")
        told[table] = sorted(str([_plain(value) for value in row]) for row in rows)
    return told


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


@pytest.fixture
def filled(site: Site) -> Site:
    """A ledger as the first release left it."""
    if site.url.startswith("sqlite"):
        open(site.url.removeprefix("sqlite:///"), "w").close()
    engine = create_engine(site.url)
    with engine.begin() as connection:
        config = configuration(scripts())
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with engine.begin() as connection:
        for table, row in ROWS:
            _insert(connection, table, row)
        if connection.dialect.name == "postgresql":
            for table in ("study", "fhir_target"):
                connection.execute(
                    text(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))")
                )
    engine.dispose()
    return site


def test_the_daemon_refuses_it_and_says_what_to_do(filled: Site) -> None:
    before = _told(filled)
    with pytest.raises(LedgerSchemaError) as raised:
        filled.open()
    assert "flute-sync ledger upgrade" in raised.value.hint
    assert _told(filled) == before


def test_nothing_is_lost_and_whom_archives_named_is_known(filled: Site) -> None:
    before = _told(filled)
    assert upgrade(LedgerSettings(url=filled.url)) == "0007"
    after = _told(filled)
    assert [line for line in after["event"] if "ledger.upgraded" not in line] == before["event"]
    assert {**after, "event": []} == {**before, "event": []}
    rows = filled.rows(
        "SELECT name, patient_ids FROM study_archive JOIN archive ON archive.id = archive_id"
        " WHERE study_id = 1 ORDER BY name"
    )
    named = {name: json.loads(ids) for name, ids in rows}
    assert named == {
        "copy": [None, {"value": ""}, {"value": "P1"}],
        "pacs": [{"value": "P1"}, {"issuer": {"namespace": "HÖSP"}, "value": "ü2"}],
    }


def test_work_goes_on_with_it(filled: Site) -> None:
    upgrade(LedgerSettings(url=filled.url))
    ledger = filled.open(create=False)
    assert ledger.held("pacs", None, 10) == (STUDY, PRUNED, WAITING)
    assert ledger.held("copy", None, 10) == (STUDY,)
    assert ledger.cursor("orthanc_changes", "pacs") == "4711"
    assert ledger.recover_intents() == 1
    assert ledger.wake_patients(["k"]) == 1
    filled.sync(resource_id="8")
    filled.notice("new")
    claimed = filled.claim()
    while claimed.study_instance_uid != STUDY:
        ledger.settle(claimed, synced(resource_id="9"))
        claimed = filled.claim()
    assert (claimed.fhir and claimed.fhir.resource_id, claimed.rules) == ("7", "r1")
    study = ledger.load(claimed)
    assert [len(one.instances) for one in study.series] == [2, 2]
    assert study.archives == {"pacs", "copy"}
    assert study.patient_ids == {
        "pacs": {PatientId("P1"), PatientId("ü2", Issuer("HÖSP"))},
        "copy": {PatientId("P1"), PatientId(""), None},
    }
    uids = {instance.sop_instance_uid for _, instance in study.instances()}
    assert SOPInstanceUID("1.2.1.9.1") in uids
    filled.snapshot(claimed, received([1, 2]))
    assert ledger.settle(claimed, synced()) is State.COMPLETED
    assert filled.view().series == 2 + 1


def test_what_an_archive_says_of_the_person_is_known_where_no_other_has_its_instances(
    filled: Site,
) -> None:
    """Of an instance that two archives have the header of one is kept: whose, nobody knows."""
    engine = create_engine(filled.url)
    with engine.begin() as connection:
        spoilt = {"study_id": 2, "header": 1, "digest": b"d" * 16, "extraction_version": 1}
        _insert(connection, "header", spoilt | {"text": json.dumps(HEADERS[3])})
        series = {"study_id": 2, "series": 1, "series_instance_uid": "1.2.5.1"}
        _insert(connection, "series", series)
        instance = {"study_id": 2, "sop_instance_uid": pack_uid("1.2.5.9.1"), "series": 1}
        instance |= {"header": 1, "number": 1, "generation": 1, "archives": 1}
        _insert(connection, "instance", instance)
    engine.dispose()
    upgrade(LedgerSettings(url=filled.url))
    told = dict(filled.rows("SELECT study_id, patients FROM study_archive WHERE archive_id = 1"))
    assert (told[1], json.loads(told[2])) == ("[]", [{"id": {"value": ""}}])
    ledger = filled.open(create=False)
    ledger.wake_patients(["k"])
    study = ledger.load(filled.claim())
    assert study.study_instance_uid == WAITING
    assert study.patients == {"pacs": {person_of(header) for header in study.headers}}
    assert study.patients == {
        "pacs": {
            PatientAttributes(
                PatientId("P1"), birth_date=date(1951, 4, 12), sex="M", identity_removed=False
            )
        }
    }


def test_who_was_held_for_two_numbers_is_read_and_judged_again(filled: Site) -> None:
    """What each archive says of birth date and sex was not kept before."""
    engine = create_engine(filled.url)
    with engine.begin() as connection:
        _insert(
            connection,
            "study",
            _STUDY
            | {"id": 4, "study_instance_uid": DISPUTED, "state": "on-hold", "pruned": False}
            | {"series_count": 0, "instance_count": 0, "unsynced_since": THEN}
            | {"code": "PATIENT-CONFLICT", "patient_reference": None},
        )
        stand = next(row for table, row in ROWS if table == "study_archive")
        for archive in (1, 2):
            _insert(connection, "study_archive", stand | {"study_id": 4, "archive_id": archive})
    engine.dispose()
    upgrade(LedgerSettings(url=filled.url))
    ledger = filled.open(create=False)
    assert ledger.rejudge("r1") == 1  # the others were judged by these
    claimed = filled.claim()
    assert claimed.study_instance_uid == DISPUTED
    assert claimed.reads_owed == ("pacs", "copy")


def test_a_ledger_that_wrote_studies_did_so_without_pseudonyms(filled: Site) -> None:
    upgrade(LedgerSettings(url=filled.url))
    regime = filled.open(create=False).regime
    with pytest.raises(LedgerPseudonymsChanged):
        regime.bind({"key": "k1"}, None)
    assert regime.bind({}, None) == ANY_SOURCES
    assert regime.decide({}, "pseudonymised") == ANY_SOURCES
    assert regime.bind({}, "identified") == "identified"
    with pytest.raises(LedgerPseudonymsChanged):
        regime.bind({}, "pseudonymised")
