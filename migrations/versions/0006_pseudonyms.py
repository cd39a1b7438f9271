"""Under which pseudonyms a ledger was written, and from which kind of sources."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0006"
down_revision: Final = "0005"
branch_labels: Final = None
depends_on: Final = None


def upgrade() -> None:
    """Add the table; a ledger that wrote studies did so without pseudonyms, and may have mixed."""
    op.create_table(
        "regime",
        sa.Column("single", sa.Boolean(), nullable=False),
        sa.Column("sources", sa.Text(), nullable=True),
        sa.Column("seal", sa.Text(), nullable=False),
        sa.CheckConstraint("single", name=op.f("ck_regime_single")),
        sa.CheckConstraint(
            "sources IN ('any', 'identified', 'pseudonymised')", name=op.f("ck_regime_sources")
        ),
        sa.PrimaryKeyConstraint("single", name="pk_regime"),
    )
    op.execute(
        "INSERT INTO regime (single, sources, seal)"
        " SELECT true, 'any', '{}' WHERE EXISTS (SELECT 1 FROM fhir_study)"
    )
