"""Says why a test ran for a commit, from what its snapshot kept."""

from __future__ import annotations

from collections.abc import Mapping

from covtrack.packing import unpacked
from covtrack.store.values import StoredRun
from covtrack.tracking import Tracker
from jobs.snapshot import TestRecord, read_tests
from venv_builder.errors import UsageError

MOST_NAMED = 8


def explain_test(tracker: Tracker, project: str, test: str, revision: str | None) -> str:
    """A sentence or two on one test of a measured commit; `test` may be a part of its id.

    Raises UsageError where the commit was not measured, its snapshot is gone, or the part fits
    no test or several.
    """
    run = _find_run(tracker, project, revision)
    snapshot = unpacked(tracker.settings.state / run.snapshot)
    if not snapshot.is_file():
        raise UsageError(
            f"The snapshot of {run.commit[:10]} is gone.",
            advice=f"Measure it again: covtrack run {project} --rev {run.commit[:10]}",
        )
    record = find_test(read_tests(snapshot), test)
    at = f"{run.commit[:10]} {run.subject}"
    if record.executed == run.commit:
        return f"{record.test}\n  ran for {at}\n  because {record.reason}"
    if run.provisional and record.spared == run.commit:
        return (
            f"{record.test}\n  did not run for {at} before its budget ended,\n"
            f"  though {record.spared_for}"
        )
    if record.spared:
        return (
            f"{record.test}\n  was spared for {record.spared[:10]} though {record.spared_for}:\n"
            f"  other tests prove every line that it ran at {record.executed[:10]}"
        )
    based = f" since {run.base[:10]}" if run.base else ""
    return (
        f"{record.test}\n  was carried for {at}: nothing that it used changed{based}\n"
        f"  it ran last at {record.executed[:10]}, because {record.reason}"
    )


def _find_run(tracker: Tracker, project: str, revision: str | None) -> StoredRun:
    if revision is None:
        run = tracker.database.newest_run(project)
    else:
        run = tracker.database.find_run(project, tracker.mirror(project).resolve(revision))
    if run is None:
        what = f"{revision} of {project}" if revision else project
        advice = f"Measure it first: covtrack run {project}"
        raise UsageError(
            f"{what} was never measured.",
            advice=advice + (f" --rev {revision}" if revision else ""),
        )
    return run


def find_test(tests: Mapping[str, TestRecord], name: str) -> TestRecord:
    """The one test of that id, else the one whose id ends with the name or holds it."""
    if name in tests:
        return tests[name]
    found = [test for test in tests if test.endswith(f".{name}")]
    found = found or [test for test in tests if name in test]
    if len(found) == 1:
        return tests[found[0]]
    if not found:
        raise UsageError(f"No test is called {name}.", advice="Give its id, or a part of it.")
    shown = ", ".join(sorted(found)[:MOST_NAMED])
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    raise UsageError(f"{name} fits {len(found)} tests: {shown}{more}.", advice="Name one of them.")
