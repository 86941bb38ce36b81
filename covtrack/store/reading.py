"""Queries: from rows to the frozen values of `covtrack.store.values` and `jobs.results`.

Statements run on the caller's connection and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, func, select

from covtrack.store.ledgering import count_entries, read_entries
from covtrack.store.schema import evidence, faults, files, measurements, outcomes, projects, runs
from covtrack.store.values import ProjectRow, Scope, StoredRun
from jobs.results import (
    Before,
    Counts,
    Fault,
    FaultKind,
    FileMeasure,
    Kind,
    Outcome,
    PatchCoverage,
    Provisional,
    Status,
    TestCounts,
    UncoveredRange,
)
from jobs.results import Select as Selection

T = TypeVar("T")
Ids = Select[Any]
NEWEST = (runs.c.committed_at.desc(), runs.c.id.desc())
IS_BASELINE = runs.c.kind == Kind.BASELINE.value
IS_EXACT = runs.c.selection != Selection.CHANGED.value


def read_runs(connection: Connection, ids: Ids) -> tuple[StoredRun, ...]:
    """The runs whose ids the query `ids` gives, newest commit first."""
    counts = _read_counts(connection, ids)
    found = (
        select(runs, projects.c.name.label("project"))
        .join(projects, projects.c.id == runs.c.project_id)
        .where(runs.c.id.in_(ids))
        .order_by(*NEWEST)
    )
    return tuple(_stored_run(row, counts[row.id]) for row in connection.execute(found))


def baseline_ids(
    project: str, branch: str | None, *, exact: bool = False, changes: bool = False
) -> Ids:
    """Ids of the newest usable baseline of each commit; of all branches where branch is None.

    `exact` leaves out those for which not every affected test ran; `changes` takes unmerged
    changes in.
    """
    wanted = [runs.c.complete, runs.c.usable, projects.c.name == project]
    if not changes:
        wanted.append(IS_BASELINE)
    if exact:
        wanted.append(IS_EXACT)
    if branch is not None:
        wanted.append(runs.c.branch == branch)
    return _first_of(wanted, by=(runs.c.branch, runs.c.commit), order=(runs.c.id.desc(),))


def latest_baseline_ids() -> Ids:
    """Ids of the newest usable baseline of every project's every branch."""
    wanted = [IS_BASELINE, runs.c.complete, runs.c.usable]
    return _first_of(wanted, by=(runs.c.project_id, runs.c.branch), order=NEWEST)


def one_id(run_id: int) -> Ids:
    """The id of that run, if there is one."""
    return select(runs.c.id).where(runs.c.id == run_id)


def commit_ids(project: str, commit: str) -> Ids:
    """The id of the newest run of a commit."""
    wanted = [projects.c.name == project, runs.c.commit == commit]
    return _first_of(wanted, by=(runs.c.project_id,), order=(runs.c.id.desc(),))


def tree_ids(project: str, tree: str, *, exact: bool) -> Ids:
    """The id of the newest complete, usable run of a tree, of whatever commit and kind."""
    wanted = [runs.c.complete, runs.c.usable, projects.c.name == project, runs.c.tree == tree]
    if exact:
        wanted.append(IS_EXACT)
    return _first_of(wanted, by=(runs.c.project_id,), order=(runs.c.id.desc(),))


def project_ids(project: str) -> Ids:
    """Ids of all runs of a project."""
    joined = runs.join(projects, projects.c.id == runs.c.project_id)
    return select(runs.c.id).select_from(joined).where(projects.c.name == project)


def earlier_ids(run_id: int) -> Ids:
    """The id of the newest run of the same project and commit before that one."""
    one = select(runs.c.project_id, runs.c.commit).where(runs.c.id == run_id).subquery()
    same = (runs.c.project_id == one.c.project_id) & (runs.c.commit == one.c.commit)
    found = select(func.max(runs.c.id)).join(one, same).where(runs.c.id < run_id)
    return found.select_from(runs)


def newest_ids(project: str) -> Ids:
    """The id of the run that was measured last."""
    return _first_of(
        [projects.c.name == project], by=(runs.c.project_id,), order=(runs.c.id.desc(),)
    )


def latest_ids(project: str | None, branch: str | None) -> Ids:
    """Ids of the newest baseline of each project on a branch (None: the project's own).

    An incomplete one only where there is no complete one.
    """
    wanted = [IS_BASELINE, runs.c.branch == (branch or projects.c.branch)]
    if project is not None:
        wanted.append(projects.c.name == project)
    return _first_of(wanted, by=(runs.c.project_id,), order=(runs.c.complete.desc(), *NEWEST))


def last_change_ids() -> Ids:
    """Ids of the change measured last on each project's own branch."""
    wanted = [runs.c.kind == Kind.CHANGE.value, runs.c.branch == projects.c.branch]
    order = (runs.c.measured_at.desc(), runs.c.id.desc())
    return _first_of(wanted, by=(runs.c.project_id,), order=order)


def read_project_rows(connection: Connection) -> tuple[ProjectRow, ...]:
    """A row per project, by name."""
    latest = {run.project: run for run in read_runs(connection, latest_ids(None, None))}
    changes = {run.project: run for run in read_runs(connection, last_change_ids())}
    entries = read_entries(connection)
    found = connection.execute(select(projects)).all()
    rows = (
        ProjectRow(
            project=row.name,
            branch=row.branch,
            target=row.target,
            latest=latest.get(row.name),
            last_change=changes.get(row.name),
            ledger=count_entries(e for e in entries if e.project == row.name),
        )
        for row in found
    )
    return tuple(sorted(rows, key=lambda row: row.project))


def read_files(connection: Connection, run_id: int) -> tuple[FileMeasure, ...]:
    """The run's files, sorted by path."""
    read = _read_part(connection, files, run_id, _file)
    return tuple(sorted(read, key=lambda file: file.path))


def read_outcomes(connection: Connection, run_id: int) -> tuple[Outcome, ...]:
    """The tests that the run executed, in their order."""
    return _read_part(connection, outcomes, run_id, _outcome, outcomes.c.position)


def read_faults(connection: Connection, run_id: int) -> tuple[Fault, ...]:
    """The run's faults, in their order."""
    return _read_part(connection, faults, run_id, _fault, faults.c.position)


def read_carried(connection: Connection, run_id: int) -> Mapping[str, int]:
    """Commit to number of tests that were last executed there."""
    return dict(_read_part(connection, evidence, run_id, lambda row: (row.from_commit, row.tests)))


def _first_of(
    wanted: list[ColumnElement[bool]],
    *,
    by: tuple[ColumnElement[Any], ...],
    order: tuple[ColumnElement[Any], ...],
) -> Ids:
    """Ids of the first run by `order` in each group `by`, among the `wanted`."""
    rank = func.row_number().over(partition_by=by, order_by=order).label("rank")
    joined = runs.join(projects, projects.c.id == runs.c.project_id)
    ranked = select(runs.c.id, rank).select_from(joined).where(*wanted).subquery()
    return select(ranked.c.id).where(ranked.c.rank == 1)


def _read_counts(connection: Connection, ids: Ids) -> dict[int, dict[Scope, Counts]]:
    found: dict[int, dict[Scope, Counts]] = {}
    for row in connection.execute(select(measurements).where(measurements.c.run_id.in_(ids))):
        found.setdefault(row.run_id, {})[Scope(row.scope)] = _counts(row)
    return found


def _read_part(
    connection: Connection,
    table: Table,
    run_id: int,
    make: Callable[[Row[Any]], T],
    *order: ColumnElement[Any],
) -> tuple[T, ...]:
    found = select(table).where(table.c.run_id == run_id).order_by(*order)
    return tuple(make(row) for row in connection.execute(found))


def _stored_run(row: Row[Any], counts: Mapping[Scope, Counts]) -> StoredRun:
    before = None
    if Scope.BASE_OWN in counts:
        before = Before(total=counts[Scope.BASE_OWN], vendored=counts[Scope.BASE_VENDORED])
    return StoredRun(
        run_id=row.id,
        project=row.project,
        branch=row.branch,
        commit=row.commit,
        subject=row.subject,
        committed_at=row.committed_at,
        base=row.base,
        select=Selection(row.selection),
        kind=Kind(row.kind),
        complete=row.complete,
        usable=row.usable,
        recorder=row.recorder,
        environment=row.environment,
        tree=row.tree,
        snapshot=row.snapshot,
        sha256=row.sha256,
        measured_at=row.measured_at,
        tests=_tests(row),
        total=counts[Scope.OWN],
        vendored=counts[Scope.VENDORED],
        before=before,
        notes=tuple(row.notes),
        patch=None if row.patch is None else _patch(row.patch),
        seconds=dict(row.seconds),
        cpu_seconds=row.cpu_seconds,
        provisional=None if row.provisional is None else _provisional(row.provisional),
    )


def _patch(stored: Mapping[str, Any]) -> PatchCoverage:
    return PatchCoverage(
        parent=stored["parent"],
        statements=stored["statements"],
        covered=stored["covered"],
        uncovered=tuple(UncoveredRange(**part) for part in stored["uncovered"]),
    )


def _provisional(stored: Mapping[str, Any]) -> Provisional:
    undecided = {path: tuple(lines) for path, lines in stored["undecided"].items()}
    return Provisional(**{**stored, "undecided": undecided})


def _tests(row: Row[Any]) -> TestCounts:
    return TestCounts(
        run=row.tests_run,
        passed=row.tests_passed,
        failed=row.tests_failed,
        skipped=row.tests_skipped,
        carried=row.tests_carried,
        deselected=row.tests_deselected,
        spared=row.tests_spared,
    )


def _counts(row: Row[Any]) -> Counts:
    return Counts(
        statements=row.statements,
        covered=row.covered,
        excluded=row.excluded,
        branches=row.branches,
        branches_covered=row.branches_covered,
    )


def _file(row: Row[Any]) -> FileMeasure:
    return FileMeasure(
        path=row.path,
        counts=_counts(row),
        missing=row.missing,
        vendored=row.vendored,
        missing_branches=tuple((start, end) for start, end in row.missing_branches or ()),
    )


def _outcome(row: Row[Any]) -> Outcome:
    return Outcome(
        test=row.test, status=Status(row.status), seconds=row.seconds, details=row.details
    )


def _fault(row: Row[Any]) -> Fault:
    return Fault(
        kind=FaultKind(row.kind),
        subject=row.subject,
        sentence=row.sentence,
        advice=row.advice,
    )
