"""The schema, its revision and what the database refuses, on SQLite and PostgreSQL."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect

from flute_sync.events import Event
from flute_sync.ledger import LedgerSettings, upgrade
from flute_sync.ledger.indexes import metadata
from flute_sync.ledger_errors import LedgerAbsent, LedgerCorrupt, LedgerRefused, LedgerSchemaError
from tests.contract.ledger_site import OTHER, STUDY, Site, received


def _described(engine: Engine) -> dict[str, Any]:
    """Everything the database says of its tables but the revision's."""
    look = inspect(engine)
    return {
        table: {
            "columns": [
                (c["name"], str(c["type"]), c["nullable"]) for c in look.get_columns(table)
            ],
            "key": look.get_pk_constraint(table),
            "checks": _sorted(look.get_check_constraints(table)),
            "unique": _sorted(look.get_unique_constraints(table)),
            "indexes": _sorted(look.get_indexes(table)),
            "foreign": _sorted(look.get_foreign_keys(table)),
            "options": look.get_table_options(table),
        }
        for table in look.get_table_names()
        if table != "alembic_version"
    }


def _sorted(found: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted(str({key: _plain(value) for key, value in item.items()}) for item in found)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: str(inner) for key, inner in value.items()}
    return value


def test_the_migrations_make_what_the_tables_say(
    site: Site, request: pytest.FixtureRequest
) -> None:
    site.open()
    if site.url.startswith("sqlite"):
        scratch_url = f"{site.url}.scratch"
    else:
        scratch_url = request.getfixturevalue("postgresql").new_database()
    with _engine(site.url) as migrated, _engine(scratch_url) as scratch:
        with migrated.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        metadata.create_all(scratch)
        assert _described(scratch) == _described(migrated)


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def test_an_absent_ledger_is_made_only_when_asked(site: Site) -> None:
    with pytest.raises(LedgerAbsent) as raised:
        site.open(create=False)
    assert raised.value.hint
    with pytest.raises(LedgerAbsent):
        upgrade(LedgerSettings(url=site.url))
    site.open(create=True)
    site.open(create=False)


@pytest.mark.parametrize("revision", ["0000", "9999"])
def test_another_revision_is_refused_with_the_command_that_mends_it(
    site: Site, revision: str
) -> None:
    site.open()
    site.execute(f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(LedgerSchemaError) as raised:
        site.open()
    assert "flute-sync ledger upgrade" in raised.value.hint
    with pytest.raises(LedgerSchemaError):
        upgrade(LedgerSettings(url=site.url))


def test_an_upgrade_of_what_is_current_changes_nothing(site: Site) -> None:
    site.deliver(received([1]))
    assert upgrade(LedgerSettings(url=site.url)) == "0007"
    assert site.view().instances == 1
    made = site.rows(f"SELECT count(*) FROM event WHERE event = '{Event.LEDGER_UPGRADED.value}'")
    assert made[0][0] == 1


def test_a_database_of_somebody_else_is_left_alone(site: Site) -> None:
    site.execute("CREATE TABLE theirs (id INTEGER)")
    with pytest.raises(LedgerCorrupt):
        site.open()
    with _engine(site.url) as engine:
        assert inspect(engine).get_table_names() == ["theirs"]


def test_processes_that_start_at_once_make_one_ledger(site: Site) -> None:
    program = (
        "import sys\n"
        "from flute_sync.completeness import StudySettings\n"
        "from flute_sync.ledger import Ledger, LedgerSettings\n"
        "settings = LedgerSettings(url=sys.argv[1])\n"
        "sys.stdin.readline()\n"
        "Ledger.open(settings, StudySettings(), create=True).close()\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, site.url], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in started:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    site.deliver(received([1]))
    assert site.rows("SELECT count(*) FROM alembic_version")[0][0] == 1


@pytest.mark.parametrize(
    "impossible",
    [
        "UPDATE study SET state = 'lost'",
        "UPDATE study SET state = 'completed'",
        "UPDATE study SET next_attempt_at = NULL",
        "UPDATE study SET unsynced_since = NULL",
        "UPDATE study SET lease_owner = 'nobody'",
        "UPDATE study SET waiting_for = 'somebody'",
        "UPDATE study SET instance_count = -1",
        "UPDATE study SET generation = -1",
        "UPDATE study SET pruned = (1 = 1)",
        f"UPDATE study SET study_instance_uid = '{OTHER}'",
        "UPDATE instance SET archives = 0",
        "UPDATE instance SET series = 99",
        "UPDATE instance SET header = 99",
        "DELETE FROM series",
        "DELETE FROM header",
        "UPDATE study_archive SET absences = 1",
        "INSERT INTO archive (id, name) VALUES (64, 'many')",
        "INSERT INTO fhir_target (base_url, single) VALUES ('http://other', (1 = 1))",
        "INSERT INTO fhir_target (base_url, single) VALUES ('http://other', (1 = 0))",
        "INSERT INTO fhir_study (study_id, target_id, resource_id) VALUES (1, 99, 'x')",
    ],
)
def test_the_database_refuses_the_impossible(site: Site, impossible: str) -> None:
    site.deliver(received([1]))
    site.deliver(received([1], study=OTHER))
    database = site.ledger._database
    with pytest.raises(LedgerRefused), database.write() as connection:
        connection.exec_driver_sql(impossible)
    assert site.view(STUDY).instances == 1
