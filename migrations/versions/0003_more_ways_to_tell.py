"""Whom each archive, note and person names, series without instances, procedure steps."""

import json
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"
branch_labels: Final = None
depends_on: Final = None

_KEY: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TOTALS: Final = ["state", "series_count", "instance_count", "stated_series", "stated_instances"]
_IDENTIFYING: Final = {"(0010,0020)", "(0010,0021)", "(0010,0024)"}


def upgrade() -> None:
    """Add columns and tables, and say of each archive whom it named."""
    _study()
    _stated_series()
    _procedure_step()
    for table in ("study_archive", "foreign_note"):
        op.execute(f"ALTER TABLE {table} ADD COLUMN patient_ids TEXT DEFAULT '[]' NOT NULL")
    _fill(op.get_bind())


def _study() -> None:
    # In words that both databases know: SQLite would have to copy the table for a new check, and
    # all rows that refer to the old one would go with it.
    op.execute("ALTER TABLE study ADD COLUMN confirmed_identity TEXT")
    op.execute("ALTER TABLE study ADD COLUMN stated_series INTEGER DEFAULT 0 NOT NULL")
    op.execute(
        "ALTER TABLE study ADD COLUMN stated_instances INTEGER DEFAULT 0 NOT NULL"
        " CONSTRAINT ck_study_stated CHECK (stated_series >= 0 AND stated_instances >= 0"
        " AND NOT (pruned AND stated_series > 0))"
    )
    known = sa.text("patient_reference IS NOT NULL")
    op.create_index(
        "ix_study_patient",
        "study",
        ["patient_reference"],
        sqlite_where=known,
        postgresql_where=known,
    )
    op.drop_index("ix_study_totals", "study")
    op.create_index("ix_study_totals", "study", _TOTALS)
    if op.get_bind().dialect.name == "postgresql":
        op.execute('ALTER TABLE study ALTER COLUMN study_instance_uid TYPE VARCHAR(64) COLLATE "C"')


def _stated_series() -> None:
    op.create_table(
        "stated_series",
        sa.Column("study_id", _KEY, nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("header", sa.Integer(), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=True),
        sa.CheckConstraint("instance_count >= 0", name=op.f("ck_stated_series_count")),
        sa.CheckConstraint(
            "length(series_instance_uid) BETWEEN 1 AND 64", name=op.f("ck_stated_series_uid")
        ),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_stated_series_archive_id"),
        sa.ForeignKeyConstraint(
            ["study_id", "header"],
            ["header.study_id", "header.header"],
            name="fk_stated_series_study_id_header",
        ),
        sa.PrimaryKeyConstraint(
            "study_id", "series_instance_uid", "archive_id", name="pk_stated_series"
        ),
        sqlite_with_rowid=False,
    )


def _procedure_step() -> None:
    op.create_table(
        "procedure_step",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_id", _KEY, nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("told_at", sa.BigInteger(), nullable=False),
        sa.Column("extraction_version", sa.SmallInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "length(sop_instance_uid) BETWEEN 1 AND 64", name=op.f("ck_procedure_step_uid")
        ),
        sa.CheckConstraint(
            "status IN ('COMPLETED', 'DISCONTINUED', 'IN PROGRESS')",
            name=op.f("ck_procedure_step_status"),
        ),
        sa.ForeignKeyConstraint(
            ["archive_id"], ["archive.id"], name="fk_procedure_step_archive_id"
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name="fk_procedure_step_study_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sop_instance_uid", "study_id", name="pk_procedure_step"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_procedure_step_study_id", "procedure_step", ["study_id"])


# -- what is known already -----------------------------------------------------------------------

_HOLDINGS: Final = sa.text("SELECT study_id, header, archives FROM instance ORDER BY study_id")
_HEADERS: Final = sa.text("SELECT study_id, header, text FROM header ORDER BY study_id")
_NAMED: Final = sa.text(
    "UPDATE study_archive SET patient_ids = :ids WHERE study_id = :study AND archive_id = :archive"
)
_AT_ONCE: Final = 10_000


def _fill(connection: sa.Connection) -> None:
    """Say of each archive which patients the instances name that it holds."""
    named = [
        {"study": study, "archive": archive, "ids": f"[{','.join(sorted(ids))}]"}
        for study, stated in _stated(connection)
        for archive, ids in stated.items()
    ]
    for start in range(0, len(named), _AT_ONCE):
        connection.execute(_NAMED, named[start : start + _AT_ONCE])


def _stated(connection: sa.Connection) -> Iterator[tuple[int, dict[int, set[str]]]]:
    """Yield each study with what its archives state, by their ids; instances are many."""
    streamed = {"yield_per": _AT_ONCE}
    with (
        connection.execute(_HEADERS, execution_options=streamed) as said,
        connection.execute(_HOLDINGS, execution_options=streamed) as holdings,
    ):
        headers = groupby(said, key=itemgetter(0))
        for study, held in groupby(holdings, key=itemgetter(0)):
            of_study = next(rows for of, rows in headers if of == study)
            named = {header: _patient_id(text) for _, header, text in of_study}
            ids: dict[int, set[str]] = {}
            for header, archives in {(header, archives) for _, header, archives in held}:
                for bit in range(archives.bit_length()):
                    if archives >> bit & 1:
                        ids.setdefault(bit + 1, set()).add(named[header])
            yield study, ids


def _patient_id(text: str) -> str:
    """Return the identity that a stored header states; an unreadable one has no value."""
    header = json.loads(text)
    stated = header.get("patient", {}).get("id")
    if stated is None and any(one["tag"] in _IDENTIFYING for one in header.get("remarks", ())):
        stated = {"value": ""}
    return json.dumps(stated, ensure_ascii=False, separators=(",", ":"))
