"""Patch coverage of a run; unknown (null) for the runs of before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("runs", sa.Column("patch", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drop the column, with what was measured."""
    op.drop_column("runs", "patch")
