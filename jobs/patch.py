"""Which statements a change's own diff adds or modifies, and which runs of them are uncovered.

Pure. Statements, exclusions and vendored files are those of the project's totals; the diff is
the one from the change's parent, however old the baseline is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from jobs.diff import FileChange, LineMap, TreeDiff
from jobs.results import FileMeasure
from jobs.statements import Function, Parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Lines first..last: touched statements that did not run and follow each other.

    `around` are the own lines of the function that holds them; empty outside any function.
    """

    path: str
    first: int
    last: int
    around: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Touched statements of the project's own code: how many, how many ran, where none ran.

    `opaque` are measured files of whose change git shows no lines: their part is unknown.
    """

    statements: int
    covered: int
    gaps: tuple[Gap, ...]
    opaque: tuple[str, ...] = ()


def find_patch(
    diff: TreeDiff, parsed: Mapping[str, Parsed], measured: Iterable[FileMeasure]
) -> Patch:
    """The patch of `diff` in the files that count; gaps are sorted by path and line."""
    statements = covered = 0
    gaps: list[Gap] = []
    opaque = []
    for file in sorted(measured, key=lambda file: file.path):
        change = diff.by_new.get(file.path)
        if change is None or file.vendored:
            continue
        if is_opaque(change):
            opaque.append(file.path)
            continue
        touched = touched_statements(change.lines or LineMap(), parsed[file.path])
        uncovered = touched.intersection(file.missing)
        statements += len(touched)
        covered += len(touched) - len(uncovered)
        gaps += find_gaps(file.path, uncovered, parsed[file.path])
    return Patch(statements=statements, covered=covered, gaps=tuple(gaps), opaque=tuple(opaque))


def is_opaque(change: FileChange) -> bool:
    """Whether git shows no lines of the file's change."""
    return change.lines is None and change.old_blob != change.new_blob


def touched_statements(lines: LineMap, parsed: Parsed) -> frozenset[int]:
    """First lines of the statements that have a line added or modified, or lost one inside."""

    def first(line: int) -> int:
        return parsed.first.get(line, line)

    cut = (first(line) for line in lines.cuts if first(line) == first(line + 1))
    return parsed.statements.intersection((*map(first, lines.added), *cut))


def find_gaps(path: str, uncovered: Collection[int], parsed: Parsed) -> list[Gap]:
    """The `uncovered` statements as gaps: no other statement between, all of one function."""
    if not uncovered:
        return []
    owners = owners_of(parsed)
    gaps: list[list[int]] = []
    open_gap: list[int] | None = None
    for statement in sorted(parsed.statements):
        if statement not in uncovered:
            open_gap = None
        elif open_gap and owners.get(open_gap[-1]) == owners.get(statement):
            open_gap.append(statement)
        else:
            gaps.append(open_gap := [statement])
    own = own_lines(owners)
    return [
        Gap(
            path=path,
            first=gap[0],
            last=parsed.spans.get(gap[-1], gap[-1]),
            around=own.get(owners.get(gap[0]), frozenset()),
        )
        for gap in gaps
    ]


def owners_of(parsed: Parsed) -> dict[int, Function]:
    """The innermost function whose call runs a line; inner functions come after outer ones."""
    return {
        line: function
        for function in parsed.functions
        for line in range(max(function.body, function.first + 1), function.last + 1)
    }


def own_lines(owners: Mapping[int, Function]) -> dict[Function | None, frozenset[int]]:
    """The lines that each function of `owners_of` owns."""
    lines: dict[Function | None, set[int]] = {}
    for line, function in owners.items():
        lines.setdefault(function, set()).add(line)
    return {function: frozenset(own) for function, own in lines.items()}


def nearest_line(gap: Gap, tested: Collection[int]) -> int | None:
    """The closest to the gap of the `tested` lines: of its function, else of its file.

    Of two at the same distance, the one above. None where no test ran any line of the file.
    """
    pool = gap.around.intersection(tested) or tested
    return min(pool, key=lambda line: (_distance(gap, line), line), default=None)


def _distance(gap: Gap, line: int) -> int:
    return max(gap.first - line, line - gap.last, 0)


def closest_test(tests: Mapping[str, int]) -> str | None:
    """Of tests that ran a line, the one that ran least of the file; `tests` says how much."""
    return min(tests, key=lambda test: (tests[test], test), default=None)
