"""Chooses the tests of a job: asks the base's snapshot and outlines, and applies the rules.

What cannot be told from the base (other settings, variables or entry points) makes all tests
run, and says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from contextlib import closing
from functools import cached_property
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from jobs.affected import Reached, find_reached
from jobs.classes import Tree
from jobs.comparison import FileDifference, Span, compare
from jobs.dependencies import Dependencies
from jobs.diff import TreeDiff
from jobs.footprint import Footprints, Touch
from jobs.ground import Ground
from jobs.outlining import OutlinedTree
from jobs.request import Base, Request
from jobs.results import Select
from jobs.selection import Selection, select_affected, select_all, select_changed
from jobs.snapshot import TestRecord, read_circumstances, read_measured
from jobs.suite import TestModule, module_name
from venv_builder.errors import UsageError


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
    if why:
        return select_all(ground.modules, measured, why, note=True)
    reached = _find_reached(request.base, ground, known)
    if request.select is Select.AFFECTED:
        modules = {test: record.module for test, record in known.items()}
        return select_affected(ground.modules, modules, reached)
    changed = request.mirror.changed_names(request.base.commit, request.commit.sha)
    return select_changed(ground.modules, changed, measured, reached.imports)


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
    if before.entry_points != ground.circumstances.entry_points:
        return "The project's entry points differ from the base's."
    return None


def _find_reached(base: Base, ground: Ground, known: Mapping[str, TestRecord]) -> Reached:
    before, after = ground.base_outlines, ground.outlines
    with closing(Footprints(base.snapshot)) as footprints:
        uses = BaseUses(footprints, known, before.dependencies, ground.modules)
        tree = Tree(
            outline=before.outline,
            mentioning=before.mentioning,
            dependencies=before.dependencies,
            tests=ground.is_test_file,
        )
        return find_reached(
            differences(ground.diff, before, after),
            tree,
            uses,
            contexts=dict(_touched_files(ground.diff, footprints)),
            modules={
                **_names_come_and_gone(ground.diff, before, after, ground.top_dirs),
                **_changed_distributions(base, ground, before.dependencies, footprints),
            },
        )


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


class BaseUses:
    """Answers jobs.affected.Uses from the base's snapshot and its tests."""

    def __init__(
        self,
        footprints: Footprints,
        known: Mapping[str, TestRecord],
        dependencies: Dependencies,
        modules: Iterable[TestModule],
    ) -> None:
        self._footprints = footprints
        self._known = known
        self._dependencies = dependencies
        self._modules = tuple(modules)

    def running(self, path: str, spans: Collection[Span]) -> set[str]:
        """Contexts that ran any line of the spans."""
        return self._footprints.running(path, spans)

    def is_exact(self, path: str) -> bool:
        """Whether all lines that ran of the file are known, not just its functions."""
        return self._footprints.measures(path)

    def using(self, paths: Collection[str]) -> set[str]:
        """Contexts that ran any line of the files, and tests that are in them."""
        return self._footprints.using(paths) | self._tests_in(paths)

    def importing(self, paths: Set[str]) -> set[str]:
        """Contexts that imported one of the files, loaded or not."""
        imported = self._imported_files
        return {context for path in paths for context in imported.get(path, ())}

    def named(self, path: str, prefix: str) -> set[str]:
        """Tests of a file whose id begins with that name."""
        tests = self._tests_in([path])
        found = (test for test in tests if f".{prefix}" in test)
        return set(found)

    @cached_property
    def _imported_files(self) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, context in self._footprints.touched(Touch.IMPORT):
            path = self._dependencies.file_of(name)
            if path is not None:
                found.setdefault(path, set()).add(context)
        return found

    @cached_property
    def _tests_by_module(self) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = {}
        for test, record in self._known.items():
            found.setdefault(record.module, set()).add(test)
        return found

    def _tests_in(self, paths: Collection[str]) -> set[str]:
        wanted = set(paths)
        names = {m.name for m in self._modules if m.path in wanted}
        names |= {name for name, path in self._dependencies.names.items() if path in wanted}
        by_module = self._tests_by_module
        return {test for name in names for test in by_module.get(name, ())}
