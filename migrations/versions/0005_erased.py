"""What was erased, and what is not taken again: keyed hashes, under a key of this ledger's own."""

import secrets
from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"
branch_labels: Final = None
depends_on: Final = None

_KEY: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SECRET_BYTES: Final = 32


def upgrade() -> None:
    """Add tables, and draw the key."""
    secret = op.create_table(
        "erasure_key",
        sa.Column("single", sa.Boolean(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("single", name=op.f("ck_erasure_key_single")),
        sa.PrimaryKeyConstraint("single", name="pk_erasure_key"),
    )
    op.bulk_insert(secret, [{"single": True, "secret": secrets.token_bytes(_SECRET_BYTES)}])
    op.create_table(
        "erasure",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_erasure"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "erased_mark",
        sa.Column("mark", sa.LargeBinary(), nullable=False),
        sa.Column("erasure_id", _KEY, nullable=False),
        sa.ForeignKeyConstraint(
            ["erasure_id"], ["erasure.id"], name="fk_erased_mark_erasure_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("mark", name="pk_erased_mark"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_erased_mark_erasure_id", "erased_mark", ["erasure_id"])
    op.create_table(
        "erasure_item",
        sa.Column("erasure_id", _KEY, nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["erasure_id"], ["erasure.id"], name="fk_erasure_item_erasure_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("erasure_id", "reference", name="pk_erasure_item"),
        sqlite_with_rowid=False,
    )
