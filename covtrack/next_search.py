"""Finds what to test next: asks the newest baseline, the cache of parsed files and the mirror."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from covtrack.next_results import Next, describe_function, describe_run, order
from covtrack.packing import unpacked
from covtrack.parsed_runs import read_parsed_files
from covtrack.store.values import StoredRun
from covtrack.tracking import Tracker
from jobs.patching import name_tests
from jobs.project import ProjectSettings
from jobs.statements import Parsed
from jobs.untested import Untested, count_changes, find_untested
from venv_builder.errors import UsageError

MONTH = timedelta(days=365.25 / 12)


def find_next(tracker: Tracker, project: ProjectSettings, *, limit: int, months: int) -> Next:
    """The `limit` heaviest functions of the newest baseline.

    Nothing is fetched or measured. Raises UsageError where there is no baseline, or its snapshot
    or its commit is gone.
    """
    run = _newest(tracker, project)
    mirror = tracker.mirror(project.name)
    files = [f for f in tracker.database.files_of(run.run_id) if f.missing and not f.vendored]
    known = mirror.has(run.commit)
    parsed = read_parsed_files(tracker, run, mirror, [f.path for f in files]) if known else None
    if parsed is None:
        raise UsageError(
            f"The snapshot or the commit of the baseline {run.commit[:10]} is gone.",
            advice=f"Measure it again: covtrack run {project.name}",
        )
    functions = [
        function
        for file in files
        if file.path in parsed
        for function in find_untested(file, parsed[file.path])
    ]
    since = run.committed_at - months * MONTH
    diffs = mirror.diffs_since(run.commit, since) if months else ()
    changes = count_changes(functions, diffs)
    ordered = order(functions, changes)
    inside = sum(len(function.missing) for function in functions)
    elsewhere = sum(len(file.missing) for file in files if file.path in parsed) - inside
    return Next.model_validate(
        describe_run(run, project.share)
        | _window(months, since, len(diffs))
        | {
            "functions": _describe(tracker, run, ordered[:limit], changes),
            "functions_total": len(functions),
            "uncovered_in_functions": inside,
            "uncovered_elsewhere": elsewhere,
            "unknown_files": _unknown([file.path for file in files], parsed),
        }
    )


def _newest(tracker: Tracker, project: ProjectSettings) -> StoredRun:
    run = tracker.database.latest_run(project.name, project.branch)
    if run is None:
        raise UsageError(
            f"{project.name} was never measured.",
            advice=f"Measure it first: covtrack run {project.name}",
        )
    return run


def _window(months: int, since: datetime, changes: int) -> dict[str, object]:
    return {"months": months, "since": since, "changes": changes}


def _unknown(paths: Sequence[str], parsed: Mapping[str, Parsed]) -> tuple[str, ...]:
    return tuple(sorted(path for path in paths if path not in parsed))


def _describe(
    tracker: Tracker,
    run: StoredRun,
    functions: Sequence[Untested],
    changes: Mapping[Untested, int],
) -> tuple[object, ...]:
    """The functions, each with the test that comes nearest to what it lacks."""
    snapshot = unpacked(tracker.settings.state / run.snapshot)
    tested = name_tests(tuple(function.gap for function in functions), snapshot)
    return tuple(
        describe_function(function, changes.get(function, 0), near, run.total)
        for function, near in zip(functions, tested, strict=True)
    )
