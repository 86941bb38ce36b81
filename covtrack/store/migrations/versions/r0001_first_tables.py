"""The first tables: projects, runs, and what each run found.

Written out instead of taken from `covtrack.store.schema`, which moves on with later revisions.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create all tables."""
    _create_projects()
    _create_runs()
    _create_measurements()
    _create_evidence()


def downgrade() -> None:
    """Drop all tables, with everything in them."""
    for table in ("evidence", "faults", "outcomes", "files", "measurements", "runs", "projects"):
        op.drop_table(table)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _float(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float(53), nullable=False)


def _create_projects() -> None:
    op.create_table(
        "projects",
        _integer("id"),
        _text("name"),
        _text("branch"),
        _text("target"),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.UniqueConstraint("name", name="uq_projects_name"),
    )


def _create_runs() -> None:
    op.create_table(
        "runs",
        _integer("id"),
        _integer("project_id"),
        _text("branch"),
        _text("commit"),
        _text("tree", nullable=True),
        _text("subject"),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=False),
        _text("base", nullable=True),
        _text("selection"),
        _text("kind"),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("usable", sa.Boolean(), nullable=False),
        _text("recorder"),
        _text("environment"),
        _text("snapshot"),
        _text("sha256"),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        _integer("tests_run"),
        _integer("tests_passed"),
        _integer("tests_failed"),
        _integer("tests_skipped"),
        _integer("tests_carried"),
        _integer("tests_deselected"),
        sa.Column("seconds", sa.JSON(), nullable=False),
        _float("cpu_seconds"),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name="fk_runs_project_id_projects",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_runs_project_id_branch_kind_committed_at",
        "runs",
        ["project_id", "branch", "kind", "committed_at"],
    )
    op.create_index("ix_runs_project_id_commit", "runs", ["project_id", "commit"])


def _counts() -> list[sa.Column[int]]:
    names = ("statements", "covered", "excluded", "branches", "branches_covered")
    return [_integer(name) for name in names]


def _create_of_run(
    table: str, key: sa.Column[str] | sa.Column[int], *columns: sa.Column[Any]
) -> None:
    op.create_table(
        table,
        _integer("run_id"),
        key,
        *columns,
        sa.PrimaryKeyConstraint("run_id", key.name, name=f"pk_{table}"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=f"fk_{table}_run_id_runs", ondelete="CASCADE"
        ),
    )


def _create_measurements() -> None:
    _create_of_run("measurements", _text("scope"), *_counts())
    missing: sa.Column[bytes] = sa.Column("missing", sa.LargeBinary(), nullable=False)
    vendored: sa.Column[bool] = sa.Column("vendored", sa.Boolean(), nullable=False)
    _create_of_run("files", _text("path"), vendored, *_counts(), missing)


def _create_evidence() -> None:
    _create_of_run(
        "outcomes",
        _integer("position"),
        _text("test"),
        _text("status"),
        _float("seconds"),
        _text("details"),
    )
    _create_of_run(
        "faults",
        _integer("position"),
        _text("kind"),
        _text("subject"),
        _text("sentence"),
        _text("advice"),
    )
    _create_of_run("evidence", _text("from_commit"), _integer("tests"))
