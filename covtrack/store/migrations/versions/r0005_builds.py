"""The builds: jobs that other machines do.

Written out instead of taken from `covtrack.store.schema`, which moves on with later revisions.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "builds",
        _text("run_id"),
        sa.Column("job_id", sa.Integer(), nullable=False),
        _text("token_sha256"),
        sa.Column("order", sa.JSON(), nullable=False),
        _text("baseline", nullable=True),
        _text("state"),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("queue_id", sa.BigInteger(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=True),
        _text("url"),
        _text("node"),
        _time("created_at", nullable=False),
        _time("told_at"),
        _time("ended_at"),
        _text("result", nullable=True),
        _text("error"),
        sa.Column("run_ids", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name="pk_builds"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_builds_job_id_jobs", ondelete="CASCADE"
        ),
    )
    for columns in (["state", "created_at"], ["job_id", "attempt"]):
        op.create_index(f"ix_builds_{'_'.join(columns)}", "builds", columns)
    under_way = sa.text("state IN ('ordered', 'queued', 'building')")
    op.create_index(
        "ix_builds_under_way",
        "builds",
        ["job_id"],
        unique=True,
        sqlite_where=under_way,
        postgresql_where=under_way,
    )


def downgrade() -> None:
    """Drop the table, with everything in it."""
    op.drop_table("builds")


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _time(name: str, *, nullable: bool = True) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)
