"""Chooses the base and the tests of a job: asks snapshots and outlines, and applies the rules.

What cannot be told from the base (other settings, variables or entry points) makes all tests
run, and says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, replace

from jobs.footprint import Footprints, Witness
from jobs.ground import Ground
from jobs.question import Question, changed_entry_points
from jobs.request import Request
from jobs.results import Select
from jobs.selection import Selection, select_affected, select_all, select_changed, tests_around
from jobs.snapshot import (
    Circumstances,
    TestRecord,
    read_circumstances,
    read_measured,
    read_tests,
)
from venv_builder.errors import UsageError

# Seconds of affected tests below which all of them run: to choose would cost more.
WORTH_SPARING = 2.0
# Seconds of tests below which no other base is asked.
WORTH_ASKING = 2.0
# So many times less the tests of another base must take: of the affected tests not all run, and
# how many that are is not known yet.
MUCH_LESS = 4.0


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a job rests on, the tests known there, and those that run."""

    request: Request
    ground: Ground
    known: Mapping[str, TestRecord]
    selection: Selection

    @property
    def seconds(self) -> float:
        """How long the known tests took that are to run."""
        return seconds_of(self.selection, self.known)


def choose_base(request: Request, ground: Ground, counting: Collection[str]) -> Chosen:
    """The selection of a job, from the request's base or its other one, where less has to run.

    To ask both costs time, so the other one is asked only where the tests take longer. From both
    the result is the same: the tests of a base that a difference does not reach run as they did.
    """
    chosen = _choose(request, ground, counting)
    if request.other is None or chosen.seconds <= WORTH_ASKING:
        return chosen
    sha, other = request.commit.sha, request.other
    mirror = request.mirror
    diff, blobs = mirror.diff(other.commit, sha), mirror.blobs(other.commit)
    second = _choose(replace(request, base=other), ground.based_on(diff, blobs), counting)
    if not (second.selection.carry and is_cheaper(second, chosen)):
        return chosen
    note = f"Rests on {other.commit[:10]}, an earlier patch set: less has to run from there."
    notes = (*second.selection.notes, note)
    return replace(second, selection=replace(second.selection, notes=notes))


def _choose(request: Request, ground: Ground, counting: Collection[str]) -> Chosen:
    known = read_tests(request.base.snapshot) if request.base else {}
    selection = choose_tests(request, ground, known, counting)
    return Chosen(request=request, ground=ground, known=known, selection=selection)


def is_cheaper(one: Chosen, other: Chosen) -> bool:
    """Whether the tests of one take much less time."""
    return MUCH_LESS * one.seconds < other.seconds


def seconds_of(selection: Selection, known: Mapping[str, TestRecord]) -> float:
    """How long the known tests took for which there is a reason to run."""
    return sum(known[test].seconds for test in selection.reasons if test in known)


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
    seconds = seconds_of(selection, known)
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
