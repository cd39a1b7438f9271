"""Rejection notes on other studies, and by which identifier a subject was found."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"
branch_labels: Final = None
depends_on: Final = None

_KEY: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add what following corrections needs; what is known stays as it is."""
    op.create_table(
        "foreign_note",
        sa.Column("study_id", _KEY, nullable=False),
        sa.Column("named_study_uid", sa.String(length=64), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("instances", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "length(named_study_uid) BETWEEN 1 AND 64", name=op.f("ck_foreign_note_uid")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name="fk_foreign_note_study_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_id", "named_study_uid", "title", name="pk_foreign_note"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_foreign_note_named_study_uid", "foreign_note", ["named_study_uid"])
    op.add_column("study", sa.Column("identity", sa.Text()))
    _partial_index("ix_study_identity", "study", "identity", "identity IS NOT NULL")
    _partial_index("ix_study_archive_absent", "study_archive", "archive_id", "absences > 0")


def _partial_index(name: str, table: str, column: str, where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, [column], sqlite_where=condition, postgresql_where=condition)
