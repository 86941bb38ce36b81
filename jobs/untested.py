"""Which functions lack coverage, and how often each was changed of late. Pure.

What a function is changed by is read backwards from the newest commit: its lines are followed
through moves, renames and edits until the commit that brought all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from jobs.diff import FileChange, LineMap, TreeDiff
from jobs.patch import Gap, own_lines, owners_of
from jobs.results import FileMeasure
from jobs.statements import Function, Parsed

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Untested:
    """A function of own code, and the first lines of its own statements that did not run.

    What functions inside it lack is theirs. `gap` reaches from the first of these to the last.
    """

    path: str
    name: str
    first: int
    last: int
    missing: tuple[int, ...]
    gap: Gap


def find_untested(file: FileMeasure, parsed: Parsed) -> tuple[Untested, ...]:
    """The functions of a measured file that have statements that did not run, by line."""
    owners = owners_of(parsed)
    lacking: dict[Function, list[int]] = {}
    for line in file.missing:
        if line in owners:
            lacking.setdefault(owners[line], []).append(line)
    own = own_lines(owners)
    found = (
        Untested(
            path=file.path,
            name=function.name,
            first=function.first,
            last=function.last,
            missing=tuple(missing),
            gap=Gap(
                path=file.path,
                first=missing[0],
                last=parsed.spans.get(missing[-1], missing[-1]),
                around=own[function],
            ),
        )
        for function, missing in lacking.items()
    )
    return tuple(sorted(found, key=lambda function: (function.first, function.name)))


def count_changes(
    functions: Collection[Untested], diffs: Iterable[TreeDiff]
) -> Mapping[Untested, int]:
    """How many of `diffs` (newest first, the first one made the measured commit) changed each.

    A file of whose change git shows no lines counts as one change of all its functions, and ends
    their history.
    """
    counts: Counter[Untested] = Counter()
    places: dict[str, dict[Untested, Span]] = {}
    for function in functions:
        spans = places.setdefault(function.path, {})
        spans[function] = (function.first, function.last)
    for diff in diffs:
        # Two files may have swapped names: all leave their places before any is put back.
        met = [(diff.by_new[path], places.pop(path)) for path in diff.by_new.keys() & places]
        for change, spans in met:
            older = _look_back(spans, change, counts)
            if older and change.old is not None:
                places.setdefault(change.old, {}).update(older)
    return counts


def _look_back(
    spans: Mapping[Untested, Span], change: FileChange, counts: Counter[Untested]
) -> dict[Untested, Span]:
    """Where the functions stood before a change; those that it touched are counted."""
    if change.lines is None:
        counts.update(spans.keys())
        return {}
    older = {}
    for function, (first, last) in spans.items():
        if change.lines.touches(first, last):
            counts[function] += 1
        if (before := _map_back(change.lines, first, last)) is not None:
            older[function] = before
    return older


def _map_back(lines: LineMap, first: int, last: int) -> Span | None:
    """From the first to the last old line that is among first..last now, or was replaced there."""
    old = lines.inverse.map_lines(range(first, last + 1))
    for hunk in lines.hunks:
        if first <= hunk.new_start and hunk.new_start + hunk.new_count - 1 <= last:
            old.update(range(hunk.old_start, hunk.old_start + hunk.old_count))
    return (min(old), max(old)) if old else None


def weigh(uncovered: int, changes: int) -> int:
    """How much a function asks for a test: its uncovered statements, once and for each change."""
    return uncovered * (1 + changes)
