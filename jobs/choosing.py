"""Chooses the tests of a job: asks the base's snapshot and outlines, and applies the rules.

What cannot be told from the base (other settings, variables or entry points) makes all tests
run, and says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from importlib.metadata import Distribution, distributions
from itertools import chain
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from jobs.affected import Reached, find_reached
from jobs.bounds import Bounds, find_doubts, number_ways
from jobs.classes import Tree
from jobs.comparison import FileDifference, align, compare
from jobs.dependencies import Dependencies
from jobs.diff import TreeDiff
from jobs.footprint import Footprints, Touch
from jobs.ground import Ground
from jobs.outlining import OutlinedTree
from jobs.request import Base, Request
from jobs.results import Select
from jobs.selection import (
    Selection,
    select_affected,
    select_all,
    select_changed,
    tests_around,
)
from jobs.snapshot import TestRecord, read_circumstances, read_measured
from jobs.sufficient import Doubt
from jobs.suite import module_name
from jobs.uses import BaseUses
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
    if not ground.modules:
        raise UsageError(
            f"{request.settings.name} has no test modules below "
            f"{ground.layout.test_path or 'its root'} at {request.commit.sha[:10]}.",
            advice="Set test_path for the project in covtrack.toml.",
        )
    measured = {record.module for record in known.values()}
    if request.base is None or request.select is Select.ALL:
        return select_all(ground.modules, measured, "It is a full run.")
    if request.append:
        changed = request.mirror.changed_names(request.base.commit, request.commit.sha)
        return select_changed(ground.modules, changed, measured, ())
    why = _why_all(request.base, ground, counting)
    if why is None and request.select is Select.CHANGED:
        why = _changed_entry_points(request.base, ground)
    if why:
        return select_all(ground.modules, measured, why, note=True)
    with closing(Footprints(request.base.snapshot)) as footprints:
        question = _Question(request.base, ground, known, footprints)
        reached = question.reached()
        if request.select is not Select.CHANGED:
            modules = {test: record.module for test, record in known.items()}
            selection = select_affected(
                ground.modules, modules, reached, other_tests=question.changes_tests()
            )
            if question.unbounded:
                note = f"{_changed_entry_points(request.base, ground)} All tests are affected."
                selection = replace(selection, notes=(note,))
            if request.select is Select.AFFECTED and is_worth_sparing(selection, known):
                selection = replace(selection, bounds=question.bounds(selection))
            return selection
    changed = request.mirror.changed_names(request.base.commit, request.commit.sha)
    return select_changed(ground.modules, changed, measured, reached.imports)


def is_worth_sparing(selection: Selection, known: Mapping[str, TestRecord]) -> bool:
    """Whether the affected tests took long enough that to choose among them can pay."""
    chosen = (known[test].seconds for test in selection.reasons if test in known)
    return sum(chosen) > WORTH_SPARING


def _one_of_each_class(tests: Iterable[str], known: Mapping[str, TestRecord]) -> Collection[str]:
    """The quickest test of each class: enough to run the fixtures around them all."""
    quickest: dict[str, str] = {}
    for test in sorted(tests, key=lambda test: (known[test].seconds, test)):
        quickest.setdefault(test.partition("(")[0].rpartition(".")[0], test)
    return quickest.values()


def _changed_entry_points(base: Base, ground: Ground) -> str | None:
    """A sentence if the entry points differ: through them any test may reach anything."""
    before = read_circumstances(base.snapshot)
    same = before is not None and before.entry_points == ground.circumstances.entry_points
    return None if same else "The project's entry points differ from the base's."


def _why_all(base: Base, ground: Ground, counting: Collection[str]) -> str | None:
    """Why nothing of the base can be carried; None where it can."""
    before = read_circumstances(base.snapshot)
    if before is None:
        return "The base's snapshot holds no footprints."
    if before.recording != ground.circumstances.recording:
        return "The coverage settings, Python or coverage.py differ from the base's."
    counted = read_measured(base.snapshot)
    if any(path in ground.base_blobs and path not in counted for path in counting):
        return "The coverage settings count files that did not count in the base."
    if before.variables != ground.circumstances.variables:
        return "The variables that the tests run under differ from the base's."
    return None


class _Question:
    """One change, asked about to the footprints of its base."""

    def __init__(
        self,
        base: Base,
        ground: Ground,
        known: Mapping[str, TestRecord],
        footprints: Footprints,
    ) -> None:
        self.base, self.ground, self.known, self.footprints = base, ground, known, footprints
        before = ground.base_outlines
        self.uses = BaseUses(footprints, known, before.dependencies, ground.modules)
        self.tree = Tree(
            outline=before.outline,
            mentioning=before.mentioning,
            dependencies=before.dependencies,
            tests=ground.is_test_file,
        )

    def reached(self) -> Reached:
        """All that the change reaches."""
        ground, before, after = self.ground, self.ground.base_outlines, self.ground.outlines
        return find_reached(
            self.differences,
            self.tree,
            self.uses,
            contexts={**self.touching, **self.unbounded},
            modules={
                **_names_come_and_gone(ground.diff, before, after, ground.top_dirs),
                **_changed_distributions(self.base, ground, before.dependencies, self.footprints),
            },
        )

    def changes_tests(self) -> bool:
        """Whether a file of tests, or of what only they use, is another one."""
        paths = {path for d in self.differences for path in (d.old, d.new) if path}
        return any(map(self.ground.is_test_file, paths))

    @cached_property
    def differences(self) -> tuple[FileDifference, ...]:
        before, after = self.ground.base_outlines, self.ground.outlines
        return tuple(differences(self.ground.diff, before, after))

    @cached_property
    def unbounded(self) -> Mapping[str, str]:
        """All tests, where the entry points differ."""
        sentence = _changed_entry_points(self.base, self.ground)
        why = sentence and f"{sentence[0].lower()}{sentence[1:].rstrip('.')}"
        return dict.fromkeys(self.known, why) if why else {}

    @cached_property
    def touching(self) -> Mapping[str, str]:
        return dict(_touched_files(self.ground.diff, self.footprints))

    def bounds(self, selection: Selection) -> Bounds:
        """What may be spared of the selection's affected tests."""
        affected = selection.reasons.keys() & self.known.keys()
        asked = dict(self.uses.asked)
        measured = [path for path in asked if self.uses.is_exact(path)]
        rows = (
            (context, path, bits & asked[path])
            for path in measured
            for context, bits in self.footprints.rows(path)
        )
        modules = ((test, self.known[test].module, 1) for test in self.unbounded)
        return Bounds(
            forced=frozenset(self._forced(selection)) & affected,
            ways=number_ways(affected, chain(rows, modules)),
            doubts=tuple(self._doubts()),
        )

    def _forced(self, selection: Selection) -> Iterator[str]:
        """Tests that changed themselves, opened what changed, or rest on a reached fixture."""
        modules = {test: record.module for test, record in self.known.items()}
        yield from self.touching
        for difference in self.differences:
            if difference.old and self.ground.is_test_file(difference.old):
                yield from self._changed_tests(difference.old, difference)
        for context in selection.reached:
            yield from _one_of_each_class(tests_around(context, modules), self.known)

    def _changed_tests(self, path: str, difference: FileDifference) -> Iterator[str]:
        """Tests whose own function changed, wherever its class is inherited."""
        for function in difference.functions:
            name = function.scope.name.rpartition(".")[2]
            for test in self.uses.running(path, [(function.scope.body, function.scope.last)]):
                if test.partition("(")[0].rpartition(".")[2].startswith(name):
                    yield test
        for statement in difference.statements:
            for name in statement.bound if statement.owner else ():
                yield from self.uses.named(path, f"{statement.owner}.{name}")

    def _doubts(self) -> Iterator[Doubt]:
        before, after = self.ground.base_outlines, self.ground.outlines
        for difference in self.differences:
            old = before.outline(difference.old) if difference.old else None
            new = after.outline(difference.new) if difference.new else None
            yield from find_doubts(difference, old, new, align(old, new), self.uses.running)


def differences(
    diff: TreeDiff, before: OutlinedTree, after: OutlinedTree
) -> Iterator[FileDifference]:
    """What the changed Python files mean, old against new."""
    for change in diff.changes:
        old = change.old if change.old and change.old.endswith(".py") else None
        new = change.new if change.new and change.new.endswith(".py") else None
        if old or new:
            yield compare(
                old,
                before.outline(old) if old else None,
                new,
                after.outline(new) if new else None,
            )


def _touched_files(diff: TreeDiff, footprints: Footprints) -> Iterator[tuple[str, str]]:
    """Contexts that opened a changed file, or listed a folder in which one came or went."""
    for change in diff.changes:
        for path in {change.old, change.new} - {None}:
            for context in footprints.touching(Touch.OPEN, [path or ""]):
                yield context, f"opened {path}, which changed"
    for path in {c.old for c in diff.changes} ^ {c.new for c in diff.changes}:
        folder = str(Path(path).parent) if path else "."
        for context in footprints.touching(Touch.LIST, [folder]):
            yield context, f"listed {folder}, where {path} came or went"


def _names_come_and_gone(
    diff: TreeDiff, before: OutlinedTree, after: OutlinedTree, tops: Collection[str]
) -> dict[str, str]:
    """Files that import a name which a new file answers to, or one that has gone."""
    new = {path for path in after.blobs if path not in before.blobs}
    gone = {path for path in before.blobs if path not in after.blobs}
    found = {}
    for paths, dependencies, word in (
        (new, before.dependencies, "is new"),
        (gone, after.dependencies, "is gone"),
    ):
        for path in paths:
            name = module_name(path, tops)
            for importer in dependencies.wanting({name}) if name else ():
                if importer in before.blobs and importer not in gone:
                    found[importer] = f"it imports {name}: {path} {word}"
    return found


def _changed_distributions(
    base: Base, ground: Ground, dependencies: Dependencies, footprints: Footprints
) -> dict[str, str]:
    """Files that import a distribution which has another version now, or needs one that has."""
    before = read_circumstances(base.snapshot)
    now = ground.circumstances.distributions
    changed = {
        name
        for name in {*now, *(before.distributions if before else ())}
        if before is None or before.distributions.get(name) != now.get(name)
    }
    if not changed:
        return {}
    tops = import_names(changed, ground.prepared.environment.path)
    found = {}
    for path, wanted in dependencies.wanted.items():
        hit = next(
            (tops[w.partition(".")[0]] for w in wanted if w.partition(".")[0] in tops), None
        )
        if hit:
            found[path] = f"it imports {hit}, which changed with the environment"
    return found


def import_names(changed: Set[str], environment: Path) -> dict[str, str]:
    """Top-level modules to the distribution: of the changed ones and all that require one."""
    folders = [str(path) for path in environment.rglob("site-packages")]
    installed = {canonicalize_name(d.metadata["Name"]): d for d in distributions(path=folders)}
    wanted = {canonicalize_name(name) for name in changed}
    grown = True
    while grown:
        more = {name for name, d in installed.items() if not wanted.isdisjoint(_requires(d))}
        grown = not more <= wanted
        wanted |= more
    tops = {name.replace("-", "_"): str(name) for name in wanted}
    for name in wanted & set(installed):
        tops |= {top: str(name) for top in _tops(installed[name])}
    return tops


def _requires(distribution: Distribution) -> Iterator[str]:
    for line in distribution.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        # What an extra asks for, the distribution itself does without.
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def _tops(distribution: Distribution) -> Iterator[str]:
    for file in distribution.files or ():
        first = file.parts[0]
        if first.endswith(".py") or (len(file.parts) > 1 and "." not in first):
            yield first.removesuffix(".py")
