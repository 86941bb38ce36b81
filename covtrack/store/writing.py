"""What a job's result becomes: rows as plain mappings, and the statements that add them.

Statements run on the caller's connection, inside the caller's transaction.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from covtrack.store.schema import evidence, faults, files, measurements, outcomes, projects, runs
from covtrack.store.values import Scope
from jobs.results import Counts, JobResult, Status
from venv_builder.errors import UsageError

Row = dict[str, Any]


def put_project(connection: Connection, name: str, branch: str, target: Fraction) -> None:
    """Add the project, or give it this branch and target."""
    new = {"branch": branch, "target": target}
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = make(projects).values(name=name, **new)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=new))


def put_run(
    connection: Connection,
    result: JobResult,
    *,
    snapshot: str,
    sha256: str,
    tree: str | None,
    measured_at: datetime,
) -> int:
    """Add the run with all that it found, and return its id; an unknown project is refused."""
    found = select(projects.c.id).where(projects.c.name == result.project)
    project_id = connection.execute(found).scalar()
    if project_id is None:
        raise UsageError(
            f"The database knows no project {result.project}.",
            advice="Save the project before its runs.",
        )
    stored = {"snapshot": snapshot, "sha256": sha256, "tree": tree, "measured_at": measured_at}
    row = run_row(result) | stored | {"project_id": project_id}
    run_id = connection.execute(insert(runs).values(row).returning(runs.c.id)).scalar_one()
    for table, rows in parts(result).items():
        if rows:
            connection.execute(insert(table), [{"run_id": run_id, **row} for row in rows])
    return int(run_id)


def set_aside(connection: Connection, run_id: int) -> None:
    """Mark the run's snapshot as not usable."""
    connection.execute(update(runs).where(runs.c.id == run_id).values(usable=False))


def forget_outcomes(connection: Connection, before: datetime) -> int:
    """Remove what passed or was skipped of runs measured before that moment; how many tests.

    The runs' counts of tests stay, and the tests that failed.
    """
    old = select(runs.c.id).where(runs.c.measured_at < before)
    fine = outcomes.c.status.in_([Status.PASSED.value, Status.SKIPPED.value])
    statement = delete(outcomes).where(outcomes.c.run_id.in_(old), fine)
    return connection.execute(statement).rowcount


def run_row(result: JobResult) -> Row:
    """The columns of `runs` that the result itself tells."""
    return {
        "branch": result.branch,
        "commit": result.commit,
        "subject": result.subject,
        "committed_at": result.committed_at,
        "base": result.base,
        "selection": result.select.value,
        "kind": result.kind.value,
        "complete": result.complete,
        "usable": True,
        "recorder": result.recorder,
        "environment": result.environment,
        "tests_run": result.tests.run,
        "tests_passed": result.tests.passed,
        "tests_failed": result.tests.failed,
        "tests_skipped": result.tests.skipped,
        "tests_carried": result.tests.carried,
        "tests_deselected": result.tests.deselected,
        "tests_spared": result.tests.spared,
        "seconds": dict(result.seconds),
        "cpu_seconds": result.cpu_seconds,
        "notes": list(result.notes),
        "patch": None if result.patch is None else asdict(result.patch),
        "provisional": None if result.provisional is None else asdict(result.provisional),
    }


def parts(result: JobResult) -> dict[Table, list[Row]]:
    """The rows of the tables that hang on a run, without its id."""
    return {
        measurements: _measurement_rows(result),
        files: [
            {"path": file.path, "vendored": file.vendored, "missing": file.missing}
            | {"missing_branches": [list(pair) for pair in file.missing_branches] or None}
            | _counts_row(file.counts)
            for file in result.measurement.files
        ],
        outcomes: [
            {
                "position": position,
                "test": outcome.test,
                "status": outcome.status.value,
                "seconds": outcome.seconds,
                "details": outcome.details,
            }
            for position, outcome in enumerate(result.outcomes)
        ],
        faults: [
            {
                "position": position,
                "kind": fault.kind.value,
                "subject": fault.subject,
                "sentence": fault.sentence,
                "advice": fault.advice,
            }
            for position, fault in enumerate(result.faults)
        ],
        evidence: [
            {"from_commit": commit, "tests": tests} for commit, tests in result.carried.items()
        ],
    }


def _measurement_rows(result: JobResult) -> list[Row]:
    scopes = {Scope.OWN: result.measurement.total, Scope.VENDORED: result.measurement.vendored}
    if result.before is not None:
        scopes[Scope.BASE_OWN] = result.before.total
        scopes[Scope.BASE_VENDORED] = result.before.vendored
    return [{"scope": scope.value, **_counts_row(counts)} for scope, counts in scopes.items()]


def _counts_row(counts: Counts) -> Row:
    return {
        "statements": counts.statements,
        "covered": counts.covered,
        "excluded": counts.excluded,
        "branches": counts.branches,
        "branches_covered": counts.branches_covered,
    }
