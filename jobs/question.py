"""What one change reaches, asked of its base's footprints, outlines and import graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from functools import cached_property
from itertools import chain
from pathlib import Path

from jobs.affected import Reached, find_reached
from jobs.bounds import Bounds, find_doubts, number_ways
from jobs.classes import Tree
from jobs.comparison import FileDifference, align, compare
from jobs.dependencies import Dependencies
from jobs.diff import TreeDiff
from jobs.distributions import import_names
from jobs.footprint import Touch, Witness
from jobs.ground import Ground
from jobs.merge import is_between
from jobs.outlining import OutlinedTree
from jobs.selection import Selection, tests_around
from jobs.snapshot import Circumstances, TestRecord
from jobs.sufficient import Doubt
from jobs.suite import module_name
from jobs.uses import BaseUses


class Question:
    """One change, asked about to the footprints of its base."""

    def __init__(
        self,
        under: Circumstances | None,
        ground: Ground,
        known: Mapping[str, TestRecord],
        footprints: Witness,
    ) -> None:
        self.under, self.ground, self.known, self.footprints = under, ground, known, footprints
        before = ground.base_outlines
        self.uses = BaseUses(footprints, known, before.dependencies, ground.modules)
        self.tree = Tree(
            outline=before.outline,
            mentioning=before.mentioning,
            dependencies=before.dependencies,
            tests=ground.is_test_file,
            readers=before.readers,
        )

    @cached_property
    def modules(self) -> Mapping[str, str]:
        """The modules' names of the base's tests."""
        return {test: record.module for test, record in self.known.items()}

    def reached(self, wanted: Set[str] | None = None) -> Reached:
        """All that the change reaches, or enough of it to tell that it reaches all `wanted`."""
        ground, before, after = self.ground, self.ground.base_outlines, self.ground.outlines
        return find_reached(
            self.differences,
            self.tree,
            self.uses,
            wanted=wanted,
            contexts={**self.touching, **self.unbounded},
            modules={
                **_names_come_and_gone(ground.diff, before, after, ground.top_dirs),
                **_changed_distributions(self.under, ground, before.dependencies),
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
    def why_unbounded(self) -> str | None:
        """A sentence, where the entry points differ."""
        return changed_entry_points(self.under, self.ground)

    @cached_property
    def unbounded(self) -> Mapping[str, str]:
        """All tests, where the entry points differ."""
        sentence = self.why_unbounded
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
        by_module = ((test, self.modules[test], 1) for test in self.unbounded)
        return Bounds(
            forced=frozenset(self._forced(selection)) & affected,
            ways=number_ways(affected, chain(rows, by_module)),
            doubts=tuple(self._doubts()),
            between={
                context: frozenset(tests_around(context, self.modules)) & affected
                for context in selection.reached
                if is_between(context)
            },
        )

    def _forced(self, selection: Selection) -> Iterator[str]:
        """Tests that changed themselves, opened what changed, or rest on a reached fixture."""
        yield from self.touching
        for difference in self.differences:
            if difference.old and self.ground.is_test_file(difference.old):
                yield from self._changed_tests(difference.old, difference)
        for context in selection.reached:
            around = _one_of_each_class(tests_around(context, self.modules), self.known)
            # What runs between tests is not told apart by class: what one leaves out shows later.
            yield from tuple(around)[:1] if is_between(context) else around

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
            yield from find_doubts(difference, old, new, align(old, new))


def _one_of_each_class(tests: Iterable[str], known: Mapping[str, TestRecord]) -> Collection[str]:
    """The quickest test of each class, quick ones first: they run the fixtures around them all."""
    quickest: dict[str, str] = {}
    for test in sorted(tests, key=lambda test: (known[test].seconds, test)):
        quickest.setdefault(test.partition("(")[0].rpartition(".")[0], test)
    return quickest.values()


def changed_entry_points(before: Circumstances | None, ground: Ground) -> str | None:
    """A sentence if the entry points differ: through them any test may reach anything."""
    same = before is not None and before.entry_points == ground.circumstances.entry_points
    return None if same else "The project's entry points differ from the base's."


def differences(
    diff: TreeDiff, before: OutlinedTree, after: OutlinedTree
) -> Iterator[FileDifference]:
    """What the changed Python files mean, old against new."""
    for change in diff.changes:
        old = change.old if change.old and change.old.endswith(".py") else None
        new = change.new if change.new and change.new.endswith(".py") else None
        key = old, change.old_blob, new, change.new_blob
        if key not in after.compared and (old or new):
            after.compared[key] = compare(
                old,
                before.outline(old) if old else None,
                new,
                after.outline(new) if new else None,
            )
        if old or new:
            yield after.compared[key]


def _touched_files(diff: TreeDiff, footprints: Witness) -> Iterator[tuple[str, str]]:
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
    before: Circumstances | None, ground: Ground, dependencies: Dependencies
) -> dict[str, str]:
    """Files that import a distribution which has another version now, or needs one that has."""
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
