"""The first schema."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None
branch_labels: Final = None
depends_on: Final = None

_LATE: Final = (
    "unsynced_since IS NOT NULL"
    " AND NOT (state = 'on-hold' AND coalesce(code, '') = 'PATIENT-ABSENT')"
)
_KEY: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make all tables."""
    _archive()
    _fhir_target()
    _study()
    _event()
    _fhir_study()
    _header()
    _intent()
    _series()
    _source_cursor()
    _study_archive()
    _instance()
    _intent_study()


def _archive() -> None:
    op.create_table(
        "archive",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.CheckConstraint("id BETWEEN 1 AND 63", name=op.f("ck_archive_id")),
        sa.PrimaryKeyConstraint("id", name="pk_archive"),
        sa.UniqueConstraint("name", name="uq_archive_name"),
    )


def _fhir_target() -> None:
    op.create_table(
        "fhir_target",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("single", sa.Boolean(), nullable=False),
        sa.CheckConstraint("single", name=op.f("ck_fhir_target_single")),
        sa.PrimaryKeyConstraint("id", name="pk_fhir_target"),
        sa.UniqueConstraint("single", name="uq_fhir_target_single"),
        sqlite_autoincrement=True,
    )


def _study() -> None:
    op.create_table(
        "study",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("news_since", sa.BigInteger(), nullable=True),
        sa.Column("unsynced_since", sa.BigInteger(), nullable=True),
        sa.Column("next_attempt_at", sa.BigInteger(), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("confirmed", sa.Integer(), nullable=True),
        sa.Column("series_count", sa.Integer(), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("last_series", sa.Integer(), nullable=False),
        sa.Column("last_header", sa.Integer(), nullable=False),
        sa.Column("calling_ae_titles", sa.Text(), nullable=False),
        sa.Column("pruned", sa.Boolean(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("sentence", sa.Text(), nullable=True),
        sa.Column("waiting_for", sa.Text(), nullable=True),
        sa.Column("patient_reference", sa.Text(), nullable=True),
        sa.Column("rules", sa.Text(), nullable=True),
        *_study_checks(),
        sa.PrimaryKeyConstraint("id", name="pk_study"),
        sa.UniqueConstraint("study_instance_uid", name="uq_study_study_instance_uid"),
    )
    _study_indexes()


def _study_checks() -> list[sa.CheckConstraint]:
    return [
        sa.CheckConstraint(
            "(state = 'in-progress') = (lease_owner IS NOT NULL)", name=op.f("ck_study_lease")
        ),
        sa.CheckConstraint(
            "(state IN ('failed', 'in-progress', 'on-hold', 'ready', 'received'))"
            " = (unsynced_since IS NOT NULL)",
            name=op.f("ck_study_unsynced"),
        ),
        sa.CheckConstraint(
            "(state IN ('failed', 'in-progress', 'ready', 'received'))"
            " = (next_attempt_at IS NOT NULL)",
            name=op.f("ck_study_claimable"),
        ),
        sa.CheckConstraint(
            "state IN ('cancelled', 'completed', 'failed', 'in-progress', 'on-hold', 'ready',"
            " 'received')",
            name=op.f("ck_study_state"),
        ),
        sa.CheckConstraint(
            "waiting_for IS NULL OR state IN ('cancelled', 'completed', 'on-hold')",
            name=op.f("ck_study_waiting"),
        ),
        sa.CheckConstraint(
            "NOT pruned OR (instance_count = 0 AND patient_reference IS NULL)",
            name=op.f("ck_study_pruned"),
        ),
        sa.CheckConstraint("generation >= 0 AND attempts >= 0", name=op.f("ck_study_generation")),
        sa.CheckConstraint(
            "length(study_instance_uid) BETWEEN 1 AND 64", name=op.f("ck_study_uid")
        ),
        sa.CheckConstraint(
            "series_count >= 0 AND instance_count >= series_count"
            " AND last_series >= series_count AND last_header >= 0",
            name=op.f("ck_study_counts"),
        ),
    ]


def _study_indexes() -> None:
    op.create_index(
        "ix_study_due",
        "study",
        ["next_attempt_at"],
        sqlite_where=sa.text("next_attempt_at IS NOT NULL"),
        postgresql_where=sa.text("next_attempt_at IS NOT NULL"),
    )
    op.create_index("ix_study_totals", "study", ["state", "series_count", "instance_count"])
    op.create_index(
        "ix_study_unsynced",
        "study",
        ["unsynced_since"],
        sqlite_where=sa.text(_LATE),
        postgresql_where=sa.text(_LATE),
    )
    op.create_index(
        "ix_study_waiting_for",
        "study",
        ["waiting_for"],
        sqlite_where=sa.text("waiting_for IS NOT NULL"),
        postgresql_where=sa.text("waiting_for IS NOT NULL"),
    )


def _event() -> None:
    op.create_table(
        "event",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("study_id", _KEY, nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name="fk_event_study_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
    )
    op.create_index("ix_event_study", "event", ["study_id", "id"])


def _fhir_study() -> None:
    op.create_table(
        "fhir_study",
        sa.Column("study_id", _KEY, nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_fhir_study_study_id"),
        sa.ForeignKeyConstraint(["target_id"], ["fhir_target.id"], name="fk_fhir_study_target_id"),
        sa.PrimaryKeyConstraint("study_id", name="pk_fhir_study"),
        sa.UniqueConstraint("target_id", "resource_id", name="uq_fhir_study_target_id_resource_id"),
    )


def _header() -> None:
    op.create_table(
        "header",
        sa.Column("study_id", _KEY, nullable=False),
        sa.Column("header", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("extraction_version", sa.SmallInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name="fk_header_study_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_id", "header", name="pk_header"),
        sa.UniqueConstraint("study_id", "digest", name="uq_header_study_id_digest"),
    )


def _intent() -> None:
    op.create_table(
        "intent",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_intent_archive_id"),
        sa.PrimaryKeyConstraint("id", name="pk_intent"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_intent_expires_at", "intent", ["expires_at"])


def _series() -> None:
    op.create_table(
        "series",
        sa.Column("study_id", _KEY, nullable=False),
        sa.Column("series", sa.Integer(), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.CheckConstraint(
            "length(series_instance_uid) BETWEEN 1 AND 64", name=op.f("ck_series_uid")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name="fk_series_study_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_id", "series", name="pk_series"),
        sa.UniqueConstraint(
            "study_id", "series_instance_uid", name="uq_series_study_id_series_instance_uid"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_series_series_instance_uid", "series", ["series_instance_uid"])


def _source_cursor() -> None:
    op.create_table(
        "source_cursor",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_source_cursor_archive_id"),
        sa.PrimaryKeyConstraint("source", "archive_id", name="pk_source_cursor"),
    )


def _study_archive() -> None:
    op.create_table(
        "study_archive",
        sa.Column("study_id", _KEY, nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("read_owed", sa.Integer(), nullable=True),
        sa.Column("unverified", sa.Integer(), nullable=True),
        sa.Column("series_count", sa.Integer(), nullable=True),
        sa.Column("instance_count", sa.Integer(), nullable=True),
        sa.Column("fingerprints", sa.Text(), nullable=False),
        sa.Column("absent_since", sa.BigInteger(), nullable=True),
        sa.Column("absences", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "absences >= 0 AND (absences = 0) = (absent_since IS NULL)",
            name=op.f("ck_study_archive_absence"),
        ),
        sa.CheckConstraint(
            "read_owed >= 0 AND unverified >= 0", name=op.f("ck_study_archive_generation")
        ),
        sa.CheckConstraint(
            "series_count >= 0 AND instance_count >= 0", name=op.f("ck_study_archive_counts")
        ),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_study_archive_archive_id"),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name="fk_study_archive_study_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_id", "archive_id", name="pk_study_archive"),
        sqlite_with_rowid=False,
    )


def _instance() -> None:
    op.create_table(
        "instance",
        sa.Column("study_id", _KEY, nullable=False),
        sa.Column("sop_instance_uid", sa.LargeBinary(), nullable=False),
        sa.Column("series", sa.Integer(), nullable=False),
        sa.Column("header", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("archives", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("archives > 0", name=op.f("ck_instance_archives")),
        sa.ForeignKeyConstraint(
            ["study_id", "header"],
            ["header.study_id", "header.header"],
            name="fk_instance_study_id_header",
        ),
        sa.ForeignKeyConstraint(
            ["study_id", "series"],
            ["series.study_id", "series.series"],
            name="fk_instance_study_id_series",
        ),
        sa.PrimaryKeyConstraint("study_id", "sop_instance_uid", name="pk_instance"),
        sqlite_with_rowid=False,
    )


def _intent_study() -> None:
    op.create_table(
        "intent_study",
        sa.Column("intent_id", _KEY, nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["intent_id"], ["intent.id"], name="fk_intent_study_intent_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("intent_id", "study_instance_uid", name="pk_intent_study"),
        sqlite_with_rowid=False,
    )
