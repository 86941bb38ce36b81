"""How the rows of a baseline's snapshot become rows of another commit: pure decisions.

A row is (file, context, lines or arcs). Rows of tests that were rerun or are gone are dropped;
every other row is mapped line by line through the diff, and what the diff touched is dropped,
never guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from jobs.diff import FileChange, LineMap
from jobs.measure import Arc
from jobs.statements import Parsed
from jobs.suite import owner_of

IMPORT_CONTEXT = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMove:
    """Where a changed file's rows go: the new path (None: nowhere), and by which line map.

    `blocked` are new lines that carry nothing, since the diff touched their statement;
    `blocked_import` those that carry no import-time data, since they are measured anew.
    """

    new: str | None
    lines: LineMap
    blocked: frozenset[int] = frozenset()
    blocked_import: frozenset[int] = frozenset()

    def move_lines(self, lines: Iterable[int], context: str) -> set[int]:
        """The new numbers of the lines that are carried."""
        return self.lines.map_lines(lines) - self._barred(context)

    def move_arcs(self, arcs: Iterable[Arc], context: str) -> set[Arc]:
        """The arcs that are carried; an arc that lost one end keeps the other as (n, n).

        coverage.py counts (n, n) as line n executed and as no branch of it.
        """
        barred = self._barred(context)
        moved: set[Arc] = set()
        for start, end in arcs:
            new_start, new_end = (self._move_end(line, barred) for line in (start, end))
            if new_start is not None and new_end is not None:
                moved.add((new_start, new_end))
            else:
                ends = (line for line in (new_start, new_end) if line is not None and line > 0)
                moved.update((line, line) for line in ends)
        return moved

    def _barred(self, context: str) -> frozenset[int]:
        return self.blocked | self.blocked_import if context == IMPORT_CONTEXT else self.blocked

    def _move_end(self, line: int, barred: frozenset[int]) -> int | None:
        mapped = self.lines.map_line(abs(line))
        if mapped is None or mapped in barred:
            return None
        return mapped if line > 0 else -mapped


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


def touched_function_lines(change: FileChange, parsed: Parsed) -> frozenset[int]:
    """New lines of the bodies of all functions that the diff changed anything in."""
    if change.lines is None:
        return frozenset()
    return frozenset(
        line
        for function in parsed.functions
        if change.lines.touches(function.first, function.last)
        for line in range(function.body, function.last + 1)
    )


def plan_move(change: FileChange, parsed: Parsed | None) -> FileMove:
    """What happens to the rows of one changed file; without a parse nothing is carried."""
    if change.new is None or change.lines is None or parsed is None or parsed.error:
        return FileMove(new=None, lines=LineMap())
    module_level = frozenset(range(1, _last_line(parsed) + 1)) - parsed.function_lines
    return FileMove(
        new=change.new,
        lines=change.lines,
        blocked=touched_lines(change, parsed),
        blocked_import=module_level | touched_function_lines(change, parsed),
    )


def _last_line(parsed: Parsed) -> int:
    return max(
        (*parsed.statements, *parsed.excluded, *parsed.first, *(f.last for f in parsed.functions)),
        default=0,
    )


def reaches_import_time_code(
    change: FileChange, old: Parsed | None, new: Parsed | None, import_lines: Collection[int]
) -> bool:
    """Whether the diff changes a function of which lines ran at import time before.

    `import_lines` are the base's lines of the import context. Who called the function then is
    not known from the file alone, so every import has to be measured again.
    """
    if old is None or change.lines is None:
        return bool(import_lines)
    # Only the new file tells whether a line put behind a function's last one belongs to it.
    grown = touched_function_lines(change, new) - {f.first for f in new.functions} if new else ()
    if not change.lines.map_lines(import_lines).isdisjoint(grown):
        return True
    return any(
        function.body <= line <= function.last and line > function.first
        for function in old.functions
        if _changed_in(function.first, function.last, change.lines)
        for line in import_lines
    )


def _changed_in(first: int, last: int, lines: LineMap) -> bool:
    return any(
        (hunk.old_start <= last and hunk.old_start + hunk.old_count > first)
        if hunk.old_count
        else first <= hunk.old_start < last
        for hunk in lines.hunks
    )


def contexts_to_drop(
    contexts: Iterable[str], rerun: Collection[str], gone: Collection[str], again: Collection[str]
) -> frozenset[str]:
    """Contexts of tests that ran again (`again`, by id) or lie in modules rerun or gone.

    `rerun` and `gone` are module names; the import context is never dropped as a whole.
    """
    modules = {*rerun, *gone}
    return frozenset(
        context
        for context in contexts
        if context != IMPORT_CONTEXT
        and (context in again or owner_of(context, modules) is not None)
    )
