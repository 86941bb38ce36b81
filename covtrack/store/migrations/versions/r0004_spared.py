"""How many tests of a run were spared.

Written out instead of taken from `covtrack.store.schema`, which moves on with later revisions.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the column; runs of before spared none."""
    column = sa.Column("tests_spared", sa.Integer(), nullable=False, server_default="0")
    op.add_column("runs", column)


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("runs", "tests_spared")
