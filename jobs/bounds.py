"""Tells of the affected tests which run in any case, and which ways they took through a change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from jobs.comparison import Alignment, FileDifference, pair_functions
from jobs.outline import Outline, Scope
from jobs.sufficient import Doubt


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What may be spared of the affected tests.

    `forced` run in any case; `ways` numbers, by test, the sets of lines that the others ran of
    what changed or reads it; `doubts` are the functions that changed or are new. `between` maps
    contexts of what runs between tests, which the change reaches, to the tests around.
    """

    forced: frozenset[str]
    ways: Mapping[str, int]
    doubts: tuple[Doubt, ...]
    between: Mapping[str, frozenset[str]] = field(default_factory=dict)


def number_ways(tests: Iterable[str], rows: Iterable[tuple[str, str, int]]) -> dict[str, int]:
    """Tests that ran the same lines get one number; `rows` are (test, path, bits)."""
    ran: dict[str, list[tuple[str, int]]] = {test: [] for test in tests}
    for test, path, bits in rows:
        if test in ran and bits:
            ran[test].append((path, bits))
    numbers: dict[tuple[tuple[str, int], ...], int] = {}
    return {
        test: numbers.setdefault(tuple(sorted(found)), len(numbers)) for test, found in ran.items()
    }


def find_doubts(
    difference: FileDifference,
    before: Outline | None,
    after: Outline | None,
    alignment: Alignment,
) -> Iterator[Doubt]:
    """The functions of a measured file's new version in which other lines may run now.

    In a changed function those from the first that is new or moved by meaning, in a new one all.
    """
    if difference.new is None or after is None:
        return
    kept = set(alignment.lines.values())
    changed = {function.scope.name for function in difference.functions}
    pairs = pair_functions(before, after) if before else {}
    names = {now.name: old for old, now in pairs.items()}
    for function in after.functions:
        old = names.get(function.name)
        if old is None:
            yield Doubt(path=difference.new, first=function.body, last=function.last)
        elif old in changed:
            first = _first_changed(function, kept)
            yield Doubt(path=difference.new, first=first, last=function.last)


def _first_changed(function: Scope, kept: set[int]) -> int:
    """Where the function's first line stands that no old line of the same meaning is at."""
    lines = range(function.body, function.last + 1)
    anchors = set(function.anchors)
    return next((line for line in lines if line in anchors and line not in kept), function.body)
