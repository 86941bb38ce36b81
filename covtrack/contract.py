"""The machine contract: what covtrack prints as JSON, as frozen models with a published schema.

Pure: results and stored values in, models out. The schemas are checked in below docs/contract;
keys are added over time, never renamed or taken away. Text that is not UTF-8 (file names) is
shown with backslash escapes.
"""

from __future__ import annotations

import json
from datetime import datetime
from fractions import Fraction
from math import floor
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

from covtrack.contract_types import (
    Counted,
    Model,
    Number,
    OptionalNumber,
    Percent,
    Seconds,
    Utf8,
)
from covtrack.store.values import ProjectRow, StoredRun
from jobs.results import Before, Counts, FaultKind, FileMeasure, JobResult, Kind, Select


def round_down(share: Fraction) -> float:
    """A percentage with two decimals from a share in 0..1, never more than the share itself."""
    return floor(share * 10_000) / 100


def percent_of(counts: Counts) -> float | None:
    """The covered percentage, rounded down; None where there are no statements."""
    return None if counts.share is None else round_down(counts.share)


class Totals(Counted):
    """Counts of many files."""

    statements: Number
    covered: Number
    excluded: Number
    branches: OptionalNumber = None
    branches_covered: OptionalNumber = None


class FileLines(Counted):
    """One file of a run; `missing` are the first lines of statements that did not run."""

    vendored: bool
    statements: Number
    covered: Number
    branches: OptionalNumber = None
    branches_covered: OptionalNumber = None
    missing: tuple[int, ...]


class Tests(Model):
    """How many tests ran now, by outcome, were carried from a base, spared, or left out."""

    __test__ = False

    run: Number
    passed: Number
    failed: Number
    skipped: Number
    carried: Number
    deselected: Number
    spared: Number = 0


class BaseTotals(Model):
    """The base's counts, own and vendored."""

    total: Totals
    vendored: Totals


class FaultReport(Model):
    """Something that went wrong: one sentence that names it, one that names the way out."""

    kind: FaultKind
    subject: Utf8
    sentence: Utf8
    advice: Utf8


class UncoveredLines(Model):
    """Lines first..last: statements of a patch that did not run, all of one function."""

    path: Utf8
    first: Annotated[int, Field(ge=1)]
    last: Annotated[int, Field(ge=1)]
    nearest_test: Utf8 | None
    """The test that ran the closest line of the same function, else file; null is unknown."""


class PatchReport(Model):
    """The own statements that the commit adds to its first parent or modifies in it."""

    parent: Utf8
    statements: Number
    covered: Number
    uncovered: tuple[UncoveredLines, ...]


class ProvisionalReport(Model):
    """What is open in a run whose budget ended before every line was proven.

    All that counts as covered was executed.
    """

    budget: Seconds
    """Seconds of tests that were to run, by their recorded durations."""
    tests_affected: Number
    """Known tests that the change reaches."""
    tests_run: Number
    """Those of them that ran."""
    tests_left: Number
    """Those that are still to run, by what is known now."""
    seconds_left: Seconds
    """Their recorded durations, summed up."""
    ways_left: Number
    """Ways through the change that no test took yet; while there are any, a test that is left may
    run any statement that is missing."""
    lines_undecided: Number
    """Statements of own code that are missing now and hang on tests that did not run."""
    undecided: dict[Utf8, tuple[int, ...]]
    """Their first lines, by path."""


class RunReport(Model):
    """What `covtrack run --format json` prints: one object."""

    version: Literal[1]
    """Version of this contract; it changes only when a key changes its meaning."""
    project: Utf8
    branch: Utf8
    commit: Utf8
    base: Utf8 | None
    """The measured commit that this run builds on."""
    select: Select
    kind: Kind
    complete: bool
    """False where the figure rests on failed imports, a crash or a timeout, or is provisional."""
    provisional: ProvisionalReport | None = None
    """Set where the budget ended before every line was proven: the figures are not final."""
    tests: Tests
    total: Totals
    """The project's own code."""
    vendored: Totals
    """Copied code, which does not count."""
    before: BaseTotals | None
    patch: PatchReport | None
    """Coverage of the commit's own change; null where it is unknown: a note says why."""
    files: dict[Utf8, FileLines]
    faults: tuple[FaultReport, ...]
    carried_from: dict[Utf8, Number]
    """Commit to number of tests whose data was last executed there."""
    recorder: Utf8
    environment: Utf8
    notes: tuple[Utf8, ...]
    seconds: dict[Utf8, Seconds]
    """Wall time per stage."""
    cpu_seconds: Seconds

    @classmethod
    def from_result(cls, result: JobResult) -> RunReport:
        """The report of a job's result."""
        measured = result.measurement
        branches = _has_branches(measured.total + measured.vendored)
        return cls.model_validate(
            {
                "version": 1,
                "project": result.project,
                "branch": result.branch,
                "commit": result.commit,
                "base": result.base,
                "select": result.select,
                "kind": result.kind,
                "complete": result.complete,
                "provisional": result.provisional,
                "tests": result.tests,
                "total": _totals(measured.total, branches),
                "vendored": _totals(measured.vendored, branches),
                "before": _before(result.before),
                "patch": result.patch,
                "files": {file.path: _lines(file, branches) for file in measured.files},
                "faults": result.faults,
                "carried_from": dict(result.carried),
                "recorder": result.recorder,
                "environment": result.environment,
                "notes": result.notes,
                "seconds": dict(result.seconds),
                "cpu_seconds": result.cpu_seconds,
            }
        )


class LastChange(Model):
    """The change that was measured last."""

    commit: Utf8
    subject: Utf8
    measured_at: datetime
    provisional: bool = False
    """Whether its budget ended before every line was proven."""

    @classmethod
    def from_run(cls, run: StoredRun) -> LastChange:
        """The last change, of its stored run."""
        return cls(
            commit=run.commit,
            subject=run.subject,
            measured_at=run.measured_at,
            provisional=run.provisional is not None,
        )


class Ledger(Model):
    """Results held against full runs; `unsteady` differ only where full runs do themselves."""

    verified: Number
    identical: Number
    unsteady: Number
    last: datetime


class ProjectReport(Counted):
    """A project's row in `covtrack report --format json`; null is unknown, never zero."""

    project: Utf8
    branch: Utf8
    commit: Utf8 | None
    """The baseline that the figures are of; null if none was ever measured."""
    statements: Number | None
    covered: Number | None
    branches: OptionalNumber = None
    branches_covered: OptionalNumber = None
    percent: Percent | None
    """Rounded down to two decimals; null where there are no statements."""
    target: Percent
    to_target: Number | None
    """Statements that still have to be covered."""
    complete: bool | None
    vendored: Totals | None
    last_change: LastChange | None
    measured_at: datetime | None
    ledger: Ledger | None = None

    @classmethod
    def from_row(cls, row: ProjectRow) -> ProjectReport:
        """The report of a stored project."""
        known = {
            "project": row.project,
            "branch": row.branch,
            "target": round_down(row.target),
            "last_change": row.last_change and LastChange.from_run(row.last_change),
            "ledger": row.ledger,
        }
        return cls.model_validate(known | _latest(row.latest, row.target))


class FileReport(Counted):
    """One file in `covtrack report PROJECT --format json`."""

    path: Utf8
    vendored: bool
    statements: Number
    covered: Number
    excluded: Number
    branches: OptionalNumber = None
    branches_covered: OptionalNumber = None
    percent: Percent | None
    missing: tuple[int, ...]


class FilesReport(Model):
    """What `covtrack report PROJECT --format json` prints; most missing statements first."""

    project: ProjectReport
    files: tuple[FileReport, ...]

    @classmethod
    def from_values(cls, row: ProjectRow, files: tuple[FileMeasure, ...]) -> FilesReport:
        """The report of a stored project and the files of its latest run, in their order."""
        branches = _has_branches(sum((file.counts for file in files), Counts()))
        return cls.model_validate(
            {
                "project": ProjectReport.from_row(row),
                "files": [
                    {"path": file.path, "percent": percent_of(file.counts)}
                    | _totals(file.counts, branches)
                    | _lines(file, branches)
                    for file in files
                ],
            }
        )


PROJECTS: TypeAdapter[tuple[ProjectReport, ...]] = TypeAdapter(tuple[ProjectReport, ...])


def to_json(model: BaseModel | tuple[BaseModel, ...]) -> str:
    """Indented JSON text without a newline at its end."""
    if isinstance(model, BaseModel):
        return json.dumps(model.model_dump(mode="json"), indent=2)
    return json.dumps([part.model_dump(mode="json") for part in model], indent=2)


def _has_branches(counts: Counts) -> bool:
    return counts.branches > 0


def _counted(counts: Counts, branches: bool) -> dict[str, int]:
    shown = {"statements": counts.statements, "covered": counts.covered}
    if branches:
        shown |= {"branches": counts.branches, "branches_covered": counts.branches_covered}
    return shown


def _totals(counts: Counts, branches: bool) -> dict[str, int]:
    return {"excluded": counts.excluded, **_counted(counts, branches)}


def _before(before: Before | None) -> dict[str, Any] | None:
    if before is None:
        return None
    branches = _has_branches(before.total + before.vendored)
    both = {"total": before.total, "vendored": before.vendored}
    return {name: _totals(counts, branches) for name, counts in both.items()}


def _lines(file: FileMeasure, branches: bool) -> dict[str, Any]:
    known = {"vendored": file.vendored, "missing": file.missing}
    return known | _counted(file.counts, branches)


def _latest(run: StoredRun | None, target: Fraction) -> dict[str, Any]:
    if run is None:
        names = ("commit", "statements", "covered", "percent", "to_target")
        return dict.fromkeys((*names, "complete", "vendored", "measured_at"))
    branches = _has_branches(run.total + run.vendored)
    return {
        "commit": run.commit,
        "percent": percent_of(run.total),
        "to_target": run.total.to_target(target),
        "complete": run.complete,
        "vendored": _totals(run.vendored, branches),
        "measured_at": run.measured_at,
    } | _counted(run.total, branches)
