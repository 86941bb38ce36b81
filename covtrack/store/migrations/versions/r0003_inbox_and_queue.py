"""The inbox of events, what is known of changes, and the queue of jobs.

Written out instead of taken from `covtrack.store.schema`, which moves on with later revisions.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the tables."""
    _create_events()
    _create_changes()
    _create_jobs()


def downgrade() -> None:
    """Drop the tables, with everything in them."""
    for table in ("jobs", "changes", "watermarks", "events"):
        op.drop_table(table)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _time(name: str, *, nullable: bool = True) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        _text("server"),
        _text("digest"),
        sa.Column("payload", sa.JSON(), nullable=False),
        _time("received_at", nullable=False),
        _time("handled_at"),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.UniqueConstraint("server", "digest", name="uq_events_server_digest"),
    )
    op.create_index("ix_events_handled_at_id", "events", ["handled_at", "id"])
    op.create_table(
        "watermarks",
        _text("server"),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("server", name="pk_watermarks"),
    )


def _create_changes() -> None:
    names = ("commit", "ref", "subject", "status")
    op.create_table(
        "changes",
        _text("server"),
        sa.Column("change", sa.BigInteger(), autoincrement=False, nullable=False),
        _text("project"),
        _text("branch"),
        sa.Column("patch_set", sa.Integer(), nullable=False),
        *(_text(name) for name in names),
        sa.Column("wip", sa.Boolean(), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("server", "change", name="pk_changes"),
    )
    columns = ["server", "project", "branch", "status"]
    op.create_index("ix_changes_server_project_branch_status", "changes", columns)


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        *(_text(name) for name in ("server", "project", "kind", "branch", "reason")),
        sa.Column("change", sa.BigInteger(), nullable=True),
        sa.Column("patch_set", sa.Integer(), nullable=True),
        *(_text(name) for name in ("commit", "ref", "state")),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _time("queued_at", nullable=False),
        _time("not_before", nullable=False),
        _time("started_at"),
        _time("ended_at"),
        _text("progress"),
        _text("error"),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.Column("gain", sa.JSON(), nullable=True),
        _text("verdict", nullable=True),
        sa.Column("verdict_attempts", sa.Integer(), nullable=False),
        _time("verdict_not_before"),
        _text("verdict_error"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    for columns in (["state", "id"], ["verdict", "id"], ["server", "change"]):
        op.create_index(f"ix_jobs_{'_'.join(columns)}", "jobs", columns)
