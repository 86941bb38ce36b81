"""Statements and executed lines in, counts out: the arithmetic of coverage.py's reports.

Pure. Equal to coverage.py's own Analysis on the same data (a test compares them).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from jobs.results import Counts, FileMeasure, Measurement
from jobs.statements import Parsed

Arc = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """What ran of one file: raw line numbers, and arcs where branches are measured."""

    lines: frozenset[int] = frozenset()
    arcs: frozenset[Arc] = frozenset()


NOTHING = Executed()


def covered_statements(parsed: Parsed, lines: Collection[int]) -> set[int]:
    """First lines of the statements that ran."""
    return {parsed.first.get(line, line) for line in lines} & parsed.statements


def measure_file(path: str, parsed: Parsed, executed: Executed, *, vendored: bool) -> FileMeasure:
    """Counts of one file, and the statements that did not run."""
    covered = covered_statements(parsed, executed.lines)
    branches, not_taken = count_branches(parsed), missing_branches(parsed, executed.arcs)
    counts = Counts(
        statements=len(parsed.statements),
        covered=len(covered),
        excluded=len(parsed.excluded),
        branches=branches,
        branches_covered=branches - len(not_taken),
    )
    return FileMeasure(
        path=path,
        counts=counts,
        missing=tuple(sorted(parsed.statements - covered)),
        vendored=vendored,
        missing_branches=tuple(sorted(not_taken)),
    )


def count_branches(parsed: Parsed) -> int:
    """How many branch exits a file has."""
    return sum(exits for exits in parsed.exits.values() if exits > 1)


def missing_branches(parsed: Parsed, arcs: Collection[Arc]) -> list[Arc]:
    """The branch exits that were never taken."""
    branch_lines = {line for line, exits in parsed.exits.items() if exits > 1}
    executed = _translate_arcs(parsed, arcs)
    return [
        (start, end)
        for start, end in parsed.arcs
        if (start, end) not in executed
        and start in branch_lines
        and start not in parsed.no_branch
        and end not in parsed.excluded
    ]


def translate_arc(parsed: Parsed, arc: Arc) -> Arc:
    """The arc between statements' first lines, to where it really went on."""

    def first(line: int) -> int:
        return -parsed.first.get(-line, -line) if line < 0 else parsed.first.get(line, line)

    return first(arc[0]), first(parsed.jumps.get(arc, arc[1]))


def _translate_arcs(parsed: Parsed, arcs: Collection[Arc]) -> set[Arc]:
    """Arcs between statements' first lines; a loop onto itself takes a line's only exit."""
    exits: dict[int, set[int]] = {}
    for start, end in parsed.arcs:
        exits.setdefault(start, set()).add(end)
    translated = set()
    for start, end in (translate_arc(parsed, arc) for arc in arcs):
        if start != end:
            translated.add(translate_arc(parsed, (start, end)))
        elif len(exits.get(start, ())) == 1:
            translated.add((start, next(iter(exits[start]))))
    return translated


def measure_tree(
    parsed: Mapping[str, Parsed],
    executed: Mapping[str, Executed],
    is_vendored: Callable[[str], bool],
) -> Measurement:
    """Counts of every file of `parsed` that could be parsed, sorted by path."""
    return Measurement(
        files=tuple(
            measure_file(
                path,
                parsed[path],
                executed.get(path, NOTHING),
                vendored=is_vendored(path),
            )
            for path in sorted(parsed)
            if parsed[path].error is None
        )
    )
