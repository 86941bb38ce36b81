"""How the rows of a baseline's snapshot become rows of another commit: pure decisions.

A row is (file, context, lines or arcs). Rows of tests that were rerun or are gone are dropped;
every other row goes where its code is now: what means the same keeps its lines, the rest is
mapped through the diff, and what the diff touched there is dropped, never guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from jobs.comparison import NOTHING_ALIGNED, Alignment
from jobs.diff import FileChange, LineMap
from jobs.measure import Arc
from jobs.statements import Parsed
from jobs.suite import FIXTURES, fixture_owner

AROUND_TESTS = frozenset({*FIXTURES, "load_tests"})
# What runs between a module's tests is many things, each around some of them.
BETWEEN_TESTS = "fixtures"


def is_between(context: str) -> bool:
    """Whether the context is that of what runs between a module's tests."""
    return context.endswith(f":{BETWEEN_TESTS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMove:
    """Where a changed file's rows go: the new path (None: nowhere), and by which maps.

    Lines of scopes that mean the same go where they are `aligned`; all others by the diff's
    `lines`, but for the `blocked` new lines, whose statement the diff touched.
    """

    new: str | None
    lines: LineMap
    blocked: frozenset[int] = frozenset()
    aligned: Alignment = NOTHING_ALIGNED

    def move_line(self, line: int) -> int | None:
        """The new number of an old line; None where it is not carried."""
        if line in self.aligned.lines:
            return self.aligned.lines[line]
        mapped = self.lines.map_line(line)
        return None if mapped in self.blocked else mapped

    def move_lines(self, lines: Iterable[int]) -> set[int]:
        """The new numbers of the lines that are carried."""
        moved = (self.move_line(line) for line in lines)
        return {line for line in moved if line is not None}

    def move_arcs(self, arcs: Iterable[Arc]) -> set[Arc]:
        """The arcs that are carried; an arc that lost one end keeps the other as (n, n).

        coverage.py counts (n, n) as line n executed and as no branch of it.
        """
        moved: set[Arc] = set()
        for start, end in arcs:
            new_start, new_end = self._move_end(start), self._move_end(end)
            if new_start is not None and new_end is not None:
                moved.add((new_start, new_end))
            else:
                ends = (line for line in (new_start, new_end) if line is not None and line > 0)
                moved.update((line, line) for line in ends)
        return moved

    def _move_end(self, line: int) -> int | None:
        if line >= 0:
            return self.move_line(line)
        start = self.aligned.starts.get(-line)
        mapped = self.move_line(-line) if start is None else start
        return None if mapped is None else -mapped


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePlan:
    """Which rows of the base's snapshot to drop, and which to move; all others stay."""

    dropped: frozenset[str]
    moves: Mapping[str, FileMove]


def touched_lines(change: FileChange, parsed: Parsed) -> frozenset[int]:
    """New lines of every statement that the diff changed any line of."""
    if change.lines is None:
        return frozenset()
    touched = set(change.lines.added)
    for first, last in parsed.spans.items():
        if change.lines.touches(first, last):
            touched.update(range(first, last + 1))
    return frozenset(touched)


def plan_move(change: FileChange, parsed: Parsed | None, alignment: Alignment) -> FileMove:
    """What happens to the rows of one changed file; where git shows no lines nothing is carried.

    `parsed` is None for files that are not measured: of those only use is known, no statements.
    """
    if change.new is None or change.lines is None or (parsed is not None and parsed.error):
        return FileMove(new=None, lines=LineMap())
    return FileMove(
        new=change.new,
        lines=change.lines,
        blocked=touched_lines(change, parsed) if parsed else change.lines.added,
        aligned=alignment,
    )


def contexts_to_drop(
    contexts: Iterable[str],
    *,
    ran: Collection[str],
    gone: Collection[str],
    left: Collection[str],
    loaded: Collection[str],
    imports: Collection[str],
    reached: Collection[str] = (),
) -> frozenset[str]:
    """Contexts whose rows are not carried.

    Those of tests that `ran` again or are `gone` (ids); of fixtures around one that ran, or around
    none of the tests that are `left`; of the modules `loaded` now, as far as loading goes; of
    `imports` (files) that are measured anew or are no longer imported. What runs between tests is
    carried beside what ran of it now, unless the change has `reached` it (a context).
    """
    around = {prefix for test in ran for prefix in _prefixes(test)}
    lost = {prefix for test in gone for prefix in _prefixes(test)}
    lost_alone = lost - {prefix for test in left for prefix in _prefixes(test)} if lost else set()
    names = {*ran, *gone}
    names |= set(filter(is_between, reached))
    names |= {f"{owner}:{BETWEEN_TESTS}" for owner in lost_alone}
    return frozenset(
        context
        for context in contexts
        if context in names or _is_dropped(context, around | lost_alone, loaded, imports)
    )


def _is_dropped(
    context: str, around: Collection[str], loaded: Collection[str], imports: Collection[str]
) -> bool:
    owner, colon, fixture = context.rpartition(":")
    if fixture == "import":
        return owner in imports
    if fixture == "load_tests":
        return owner in loaded
    return bool(colon) and fixture in AROUND_TESTS and owner in around


def _prefixes(test: str) -> Iterator[str]:
    """The classes and modules, by name, that a test id may lie in."""
    name = fixture_owner(test) or test.partition("(")[0].rpartition(".")[0]
    while name:
        yield name
        name = name.rpartition(".")[0]
