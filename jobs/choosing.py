"""Chooses the tests of a job: asks the base's snapshot and outlines, and applies the rules.

What cannot be told from the base (other settings, variables or entry points) makes all tests
run, and says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import replace

from jobs.footprint import Footprints, Witness
from jobs.ground import Ground
from jobs.question import Question, changed_entry_points
from jobs.request import Request
from jobs.results import Select
from jobs.selection import Selection, select_affected, select_all, select_changed, tests_around
from jobs.snapshot import Circumstances, TestRecord, read_circumstances, read_measured
from venv_builder.errors import UsageError

# Seconds of affected tests below which all of them run: to choose would cost more.
WORTH_SPARING = 2.0


def choose_tests(
    request: Request,
    ground: Ground,
    known: Mapping[str, TestRecord],
    counting: Collection[str],
) -> Selection:
    """The selection of a job; `known` are the base's tests, `counting` the files that count now.

    Raises UsageError without any test module.
    """
    need_modules(request, ground)
    measured = {record.module for record in known.values()}
    if request.base is None or request.select is Select.ALL:
        return select_all(ground.modules, measured, "It is a full run.")
    if request.append:
        changed = request.mirror.changed_names(request.base.commit, request.commit.sha)
        return select_changed(ground.modules, changed, measured, ())
    before = read_circumstances(request.base.snapshot)
    why = why_all(before, read_measured(request.base.snapshot), ground, counting)
    if why is None and request.select is Select.CHANGED:
        why = changed_entry_points(before, ground)
    if why:
        return select_all(ground.modules, measured, why, note=True)
    with closing(Footprints(request.base.snapshot)) as footprints:
        question = Question(before, ground, known, footprints)
        reached = question.reached()
        if request.select is not Select.CHANGED:
            selection = select_affected(
                ground.modules, question.modules, reached, other_tests=question.changes_tests()
            )
            if question.why_unbounded:
                note = f"{question.why_unbounded} All tests are affected."
                selection = replace(selection, notes=(note,))
            if is_to_bound(request, selection, known):
                selection = replace(selection, bounds=question.bounds(selection))
            return selection
    changed = request.mirror.changed_names(request.base.commit, request.commit.sha)
    return select_changed(ground.modules, changed, measured, reached.imports)


def need_modules(request: Request, ground: Ground) -> None:
    """Raise UsageError where there is no test module."""
    if not ground.modules:
        raise UsageError(
            f"{request.settings.name} has no test modules below "
            f"{ground.layout.test_path or 'its root'} at {request.commit.sha[:10]}.",
            advice="Set test_path for the project in covtrack.toml.",
        )


def is_to_bound(request: Request, selection: Selection, known: Mapping[str, TestRecord]) -> bool:
    """Whether the affected tests took long enough to choose among them, or longer than may be."""
    seconds = sum(known[test].seconds for test in selection.reasons if test in known)
    if request.budget is not None and seconds > request.budget:
        return True
    return request.select is Select.AFFECTED and seconds > WORTH_SPARING


def find_reached_known(
    ground: Ground,
    known: Mapping[str, TestRecord],
    before: Circumstances | None,
    counted: Collection[str],
    footprints: Witness,
    counting: Collection[str],
) -> tuple[frozenset[str], str | None]:
    """Those of the known tests that run otherwise on this ground, or may; why, where all do.

    `counted` are the files that counted where they ran under `before`, `counting` those now.
    """
    names = {module.name for module in ground.modules}
    modules = {test: record.module for test, record in known.items()}
    why = why_all(before, counted, ground, counting)
    if why:
        return frozenset(known), f"{why[0].lower()}{why[1:].rstrip('.')}"
    question = Question(before, ground, known, footprints)
    question.uses.keeps_asked = False
    reached = question.reached(known.keys()).contexts
    found = {test for context in reached for test in tests_around(context, modules)}
    gone = {test for test, module in modules.items() if module not in names}
    return frozenset(found | gone), None


def why_all(
    before: Circumstances | None,
    counted: Collection[str],
    ground: Ground,
    counting: Collection[str],
) -> str | None:
    """Why nothing of the base can be carried; None where it can."""
    if before is None:
        return "The base's snapshot holds no footprints."
    if before.recording != ground.circumstances.recording:
        return "The coverage settings, Python or coverage.py differ from the base's."
    if any(path in ground.base_blobs and path not in counted for path in counting):
        return "The coverage settings count files that did not count in the base."
    if before.variables != ground.circumstances.variables:
        return "The variables that the tests run under differ from the base's."
    return None
