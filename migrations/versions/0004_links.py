"""Links to clinical variables: what was judged, what people decided."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"
branch_labels: Final = None
depends_on: Final = None

_KEY: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add tables; all studies are judged again at the next start, since the rules are others."""
    _link()
    _link_decision()
    op.create_table(
        "link_epoch",
        sa.Column("patient_reference", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("patient_reference", name="pk_link_epoch"),
    )


def _link() -> None:
    op.create_table(
        "link",
        sa.Column("study_id", _KEY, nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("waived", sa.Text(), nullable=False),
        sa.Column("low", sa.String(length=10), nullable=True),
        sa.Column("high", sa.String(length=10), nullable=True),
        sa.Column("taken", sa.Boolean(), nullable=False),
        sa.Column("ours", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "verdict IN ('certain', 'contradicted', 'possible')", name=op.f("ck_link_verdict")
        ),
        sa.CheckConstraint("taken OR NOT ours", name=op.f("ck_link_ours")),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name="fk_link_study_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_id", "reference", name="pk_link"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_link_reference", "link", ["reference"])


def _link_decision() -> None:
    op.create_table(
        "link_decision",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("study_id", _KEY, nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("verb", sa.String(length=8), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "verb IN ('add', 'release', 'remove')", name=op.f("ck_link_decision_verb")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name="fk_link_decision_study_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_link_decision"),
    )
    op.create_index("ix_link_decision_study", "link_decision", ["study_id", "id"])
