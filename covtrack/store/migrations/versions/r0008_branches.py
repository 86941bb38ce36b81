"""Branch exits never taken, by file, and those in which a full run differed.

Written out instead of taken from `covtrack.store.schema`, which moves on with later revisions.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the columns; of runs of before only the number of branches is known."""
    op.add_column("files", sa.Column("missing_branches", sa.JSON(none_as_null=True)))
    op.add_column("ledger", sa.Column("branches", sa.Integer()))
    op.add_column("ledger", sa.Column("false_branches", sa.JSON(none_as_null=True)))
    op.add_column("ledger", sa.Column("missed_branches", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    """Drop the columns."""
    for name in ("branches", "false_branches", "missed_branches"):
        op.drop_column("ledger", name)
    op.drop_column("files", "missing_branches")
