"""Measures a change's own patch: asks git for its parent's diff and the snapshot for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jobs.covering import read_tested_lines, read_tests_at
from jobs.diff import TreeDiff
from jobs.patch import Gap, closest_test, find_patch, nearest_line
from jobs.request import Request
from jobs.results import Measurement, PatchCoverage, UncoveredRange
from jobs.statements import Parsed

UNKNOWN = "Patch coverage is unknown"


def measure_patch(
    request: Request,
    from_base: TreeDiff,
    parsed: Mapping[str, Parsed],
    measurement: Measurement,
    snapshot: Path,
) -> PatchCoverage | str:
    """The coverage of what the commit changed of its first parent, or why it is unknown.

    `from_base` is the diff from the request's base, which may be that parent.
    """
    parent = next(iter(request.commit.parents), None)
    sha = request.commit.sha
    if parent is None or not request.mirror.has(parent):
        return (
            f"{UNKNOWN}: {sha[:10]} has no parent here; it is a first commit, or the "
            "history is shallow."
        )
    is_base = request.base is not None and request.base.commit == parent
    diff = from_base if is_base else request.mirror.diff(parent, sha)
    patch = find_patch(diff, parsed, measurement.files)
    if patch.opaque:
        return f"{UNKNOWN}: git shows no lines of what changed in {', '.join(patch.opaque)}."
    return PatchCoverage(
        parent=parent,
        statements=patch.statements,
        covered=patch.covered,
        uncovered=name_tests(patch.gaps, snapshot),
    )


def name_tests(gaps: tuple[Gap, ...], snapshot: Path) -> tuple[UncoveredRange, ...]:
    """The gaps, each with the test that comes nearest to it."""
    tested = read_tested_lines(snapshot, {gap.path for gap in gaps}) if gaps else {}
    anchors = {gap: nearest_line(gap, tested.get(gap.path, ())) for gap in gaps}
    wanted: dict[str, set[int]] = {}
    for gap, line in anchors.items():
        if line is not None:
            wanted.setdefault(gap.path, set()).add(line)
    tests = read_tests_at(snapshot, wanted) if wanted else {}
    return tuple(
        UncoveredRange(
            path=gap.path,
            first=gap.first,
            last=gap.last,
            nearest_test=closest_test(tests.get((gap.path, line or 0), {})),
        )
        for gap, line in anchors.items()
    )
