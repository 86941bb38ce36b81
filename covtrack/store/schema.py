"""The tables, as the newest revision in `migrations/versions` leaves them.

Only described here: the migrations create them, and a test compares the two. Counts are stored,
never percentages. A run is only ever added; of its columns `usable` alone may change later.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    column,
)

from covtrack.store.column_types import ExactFraction, ExactText, LineSet, UtcTime
from covtrack.store.queued import UNDER_WAY

HEAD = "0008"  # the newest revision, known without loading Alembic
VERSION_TABLE = "covtrack_version"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _of_run() -> Column[int]:
    return Column("run_id", Integer, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)


def _counts() -> list[Column[int]]:
    names = ("statements", "covered", "excluded", "branches", "branches_covered")
    return [Column(name, Integer, nullable=False) for name in names]


projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", ExactText, nullable=False),
    Column("branch", ExactText, nullable=False),
    Column("target", ExactFraction, nullable=False),  # a share in 0..1
    UniqueConstraint("name"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", Integer, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("branch", ExactText, nullable=False),
    Column("commit", ExactText, nullable=False),
    Column("tree", ExactText),
    Column("subject", ExactText, nullable=False),
    Column("committed_at", UtcTime, nullable=False),
    Column("base", ExactText),
    Column("selection", ExactText, nullable=False),  # jobs.results.Select
    Column("kind", ExactText, nullable=False),  # jobs.results.Kind
    Column("complete", Boolean, nullable=False),
    Column("usable", Boolean, nullable=False),  # False once the snapshot was set aside
    Column("recorder", ExactText, nullable=False),
    Column("environment", ExactText, nullable=False),
    Column("snapshot", ExactText, nullable=False),  # relative to the state folder
    Column("sha256", ExactText, nullable=False),
    Column("measured_at", UtcTime, nullable=False),
    Column("tests_run", Integer, nullable=False),
    Column("tests_passed", Integer, nullable=False),
    Column("tests_failed", Integer, nullable=False),
    Column("tests_skipped", Integer, nullable=False),
    Column("tests_carried", Integer, nullable=False),
    Column("tests_deselected", Integer, nullable=False),
    Column("tests_spared", Integer, nullable=False, server_default="0"),
    Column("seconds", JSON, nullable=False),  # wall time per stage
    Column("cpu_seconds", Float(53), nullable=False),
    Column("notes", JSON, nullable=False),
    Column("patch", JSON(none_as_null=True)),  # jobs.results.PatchCoverage; null is unknown
    Column("provisional", JSON(none_as_null=True)),  # jobs.results.Provisional; null is final
    Index(None, "project_id", "branch", "kind", "committed_at"),
    Index(None, "project_id", "commit"),
)

measurements = Table(  # totals of a run, and of its base as they were at that time
    "measurements",
    metadata,
    _of_run(),
    Column("scope", ExactText, primary_key=True),  # covtrack.store.values.Scope
    *_counts(),
)

files = Table(
    "files",
    metadata,
    _of_run(),
    Column("path", ExactText, primary_key=True),
    Column("vendored", Boolean, nullable=False),
    *_counts(),
    Column("missing", LineSet, nullable=False),
    Column("missing_branches", JSON(none_as_null=True)),  # pairs; NULL where there are none
)

outcomes = Table(  # the tests that a run executed, in the order in which they were told
    "outcomes",
    metadata,
    _of_run(),
    Column("position", Integer, primary_key=True),
    Column("test", ExactText, nullable=False),
    Column("status", ExactText, nullable=False),  # jobs.results.Status
    Column("seconds", Float(53), nullable=False),
    Column("details", ExactText, nullable=False),
)

faults = Table(
    "faults",
    metadata,
    _of_run(),
    Column("position", Integer, primary_key=True),
    Column("kind", ExactText, nullable=False),  # jobs.results.FaultKind
    Column("subject", ExactText, nullable=False),
    Column("sentence", ExactText, nullable=False),
    Column("advice", ExactText, nullable=False),
)

evidence = Table(  # the tests that a run carried, by the commit where they were last executed
    "evidence",
    metadata,
    _of_run(),
    Column("from_commit", ExactText, primary_key=True),
    Column("tests", Integer, nullable=False),
)

events = Table(  # what Gerrit told, once each, and whether it was acted on
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("server", ExactText, nullable=False),
    Column("digest", ExactText, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("handled_at", UtcTime),
    UniqueConstraint("server", "digest"),
    Index(None, "handled_at", "id"),
)

watermarks = Table(  # up to when, by the server's clock in epoch seconds, nothing is missing
    "watermarks",
    metadata,
    Column("server", ExactText, primary_key=True),
    Column("at", BigInteger, nullable=False),
)

changes = Table(  # covtrack.store.queued.KnownChange
    "changes",
    metadata,
    Column("server", ExactText, primary_key=True),
    Column("change", BigInteger, primary_key=True, autoincrement=False),
    Column("project", ExactText, nullable=False),
    Column("branch", ExactText, nullable=False),
    Column("patch_set", Integer, nullable=False),
    Column("commit", ExactText, nullable=False),
    Column("ref", ExactText, nullable=False),
    Column("subject", ExactText, nullable=False),
    Column("status", ExactText, nullable=False),
    Column("wip", Boolean, nullable=False),
    Column("private", Boolean, nullable=False),
    Index(None, "server", "project", "branch", "status"),
)

jobs = Table(  # covtrack.store.queued.Job
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("server", ExactText, nullable=False),
    Column("project", ExactText, nullable=False),
    Column("kind", ExactText, nullable=False),
    Column("branch", ExactText, nullable=False),
    Column("reason", ExactText, nullable=False),
    Column("change", BigInteger),
    Column("patch_set", Integer),
    Column("commit", ExactText, nullable=False),
    Column("ref", ExactText, nullable=False),
    Column("state", ExactText, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("queued_at", UtcTime, nullable=False),
    Column("not_before", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("progress", ExactText, nullable=False),
    Column("error", ExactText, nullable=False),
    Column("run_id", Integer),
    Column("gain", JSON(none_as_null=True)),
    Column("verdict", ExactText),
    Column("verdict_attempts", Integer, nullable=False),
    Column("verdict_not_before", UtcTime),
    Column("verdict_error", ExactText, nullable=False),
    Index(None, "state", "id"),
    Index(None, "verdict", "id"),
    Index(None, "server", "change"),
)

_under_way = column("state").in_([state.value for state in UNDER_WAY])

builds = Table(  # covtrack.store.queued.Build: a job that another machine does
    "builds",
    metadata,
    Column("run_id", ExactText, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("token_sha256", ExactText, nullable=False),
    Column("order", JSON, nullable=False),  # jobs.order.StepOrder
    Column("baseline", ExactText),  # the snapshot that the order rests on, below the state folder
    Column("state", ExactText, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("queue_id", BigInteger),
    Column("number", Integer),
    Column("url", ExactText, nullable=False),
    Column("node", ExactText, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("told_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("result", ExactText),
    Column("error", ExactText, nullable=False),
    Column("run_ids", JSON(none_as_null=True)),  # null until its bundle is stored
    Index(None, "state", "created_at"),
    Index(
        "ix_builds_under_way",  # a job has one build under way at most
        "job_id",
        unique=True,
        sqlite_where=_under_way,
        postgresql_where=_under_way,
    ),
    Index(None, "job_id", "attempt"),
)

ledger = Table(  # covtrack.store.values.LedgerEntry: a run, held against a full run
    "ledger",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Integer, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("verified_at", UtcTime, nullable=False),
    Column("complete", Boolean, nullable=False),  # of the full run
    Column("tests", Integer, nullable=False),
    Column("cpu_seconds", Float(53), nullable=False),
    Column("false_covered", JSON, nullable=False),  # first lines by path
    Column("missed", JSON, nullable=False),
    Column("branches", Integer),  # branch exits that were compared; NULL where none were
    Column("false_branches", JSON(none_as_null=True)),  # pairs by path
    Column("missed_branches", JSON(none_as_null=True)),
    Column("explained", JSON, nullable=False),  # jobs.holding.Explained
    Index(None, "run_id"),
)

wavering = Table(  # lines learnt to be nondeterministic: jobs.nondeterminism.LineName
    "wavering",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", Integer, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("digest", ExactText, nullable=False),
    Column("path", ExactText, nullable=False),
    Column("function", ExactText, nullable=False),
    Column("text", ExactText, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("why", ExactText, nullable=False),
    Column("commit", ExactText, nullable=False),  # where it was learnt
    Column("learnt_at", UtcTime, nullable=False),
    UniqueConstraint("project_id", "digest"),
)
