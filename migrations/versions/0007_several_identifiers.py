"""What each archive states of a patient, and studies whose patient it names by several numbers."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"
branch_labels: Final = None
depends_on: Final = None

_KEY: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_READ_AGAIN: Final = (
    "UPDATE study_archive SET read_owed ="
    " (SELECT generation FROM study WHERE study.id = study_archive.study_id)"
    " WHERE study_id IN"
    " (SELECT id FROM study WHERE state = 'on-hold' AND code = 'PATIENT-CONFLICT')"
)
_JUDGE_AGAIN: Final = (  # at the next start, since it was judged by rules that are not in force
    "UPDATE study SET rules = '' WHERE state = 'on-hold' AND code = 'PATIENT-CONFLICT'"
)


def upgrade() -> None:
    """Add a column and a table; who was held for two numbers is read and judged again."""
    op.execute("ALTER TABLE study_archive ADD COLUMN patients TEXT DEFAULT '[]' NOT NULL")
    op.create_table(
        "identity_key",
        sa.Column("study_id", _KEY, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name="fk_identity_key_study_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_id", "key", name="pk_identity_key"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_identity_key_key", "identity_key", ["key"])
    op.execute(_READ_AGAIN)
    op.execute(_JUDGE_AGAIN)
