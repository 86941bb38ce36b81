"""What is open in a run whose budget ended before its proof.

Written out instead of taken from `covtrack.store.schema`, which moves on with later revisions.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the column; runs of before had no budget."""
    op.add_column("runs", sa.Column("provisional", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    """Drop the column. What was provisional is not complete, and so no base before it either.

    The rest of a change is no kind of job there: what is queued of it is dropped.
    """
    op.execute("DELETE FROM builds WHERE job_id IN (SELECT id FROM jobs WHERE kind = 'rest')")
    op.execute("DELETE FROM jobs WHERE kind = 'rest'")
    op.drop_column("runs", "provisional")
