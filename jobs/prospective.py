"""What coverage becomes when several changes land together: joins their rows. Pure.

Of a test, the rows come from a measured commit from which the merged tree differs in nothing that
the test can reach: the tip, or one of the changes. Where there is none, and for what belongs to
no test (fixtures, imports), the tip's rows take up what each change added and lose what it took
away. All rows stand at the merged tree's lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from jobs.measure import NOTHING, Arc, Executed, covered_statements
from jobs.merge import FileMove
from jobs.results import Measurement
from jobs.snapshot import TestRecord
from jobs.statements import Parsed

FileRows = Mapping[str, Executed]
Rows = Mapping[str, FileRows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """The branch's tip: its tests, those that the changes can reach, its rows by context.

    `covered` is all that ran, by path, moved to the merged tree.
    """

    tests: Mapping[str, TestRecord]
    reached: frozenset[str]
    rows: Rows
    covered: FileRows


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One change: the tests that ran for it, and those that are gone with it.

    `reached` are tests of the change that something else of the merged tree can reach, `spared`
    those that it reaches itself but did not run: what they run is unknown. `rows` and `base_rows`
    are of its fresh tests and of all that is no test, for the change and for the commit that it
    is held against; of what is no test, files that are the same in both may be left out.
    """

    commit: str
    fresh: Mapping[str, TestRecord]
    reached: frozenset[str]
    gone: frozenset[str]
    rows: Rows
    base_rows: Rows
    spared: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The merged tree's tests, the contexts whose rows are not the tip's, and those rows.

    Rows that are just those of the tip are left out. `dropped` also holds what is gone.
    `overlapping` are tests that more than one of the changes, or a change and the branch since it
    forked off, can reach: no measured commit runs them so.
    """

    tests: Mapping[str, TestRecord]
    rows: Rows
    dropped: frozenset[str]
    overlapping: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """By commit and path, covered statements of the merged tree that one change alone brings.

    First lines; neither the tip's rows nor what another change brings cover them. `kept` counts
    the covered statements that the tip's rows cover: what else is covered, several changes bring.
    """

    own: Mapping[str, Mapping[str, tuple[int, ...]]]
    kept: int


Moved = dict[tuple[int, Executed], Executed]


def move_rows(rows: Rows, moves: Mapping[str, FileMove], known: Moved | None = None) -> Rows:
    """The rows with each file's lines and arcs where they are now; equal ones are moved once.

    `known` keeps what was moved (by the id of the move) for further rows; the moves must stay.
    """
    kept: Moved = {} if known is None else known

    def move(by: FileMove, ran: Executed) -> Executed:
        key = id(by), ran
        if key not in kept:
            kept[key] = Executed(
                lines=frozenset(by.move_lines(ran.lines)), arcs=frozenset(by.move_arcs(ran.arcs))
            )
        return kept[key]

    moved: dict[str, FileRows] = {}
    for context, files in rows.items():
        there = {path: ran for path, ran in files.items() if path not in moves}
        for path in files.keys() & moves.keys():
            by = moves[path]
            if by.new is not None:
                there[by.new] = _plus(there.get(by.new, NOTHING), move(by, files[path]))
        moved[context] = {path: ran for path, ran in there.items() if ran != NOTHING}
    return moved


def join(tip: Tip, parts: Sequence[Part]) -> Joined:
    """The tests and rows of all parts on the tip; a part comes after those that it builds on."""
    gone = frozenset(test for part in parts for test in part.gone)
    tests = {test: record for test, record in tip.tests.items() if test not in gone}
    overlapping = []
    rows: dict[str, FileRows] = {}
    running, known = _by_name(parts, lambda part: part.fresh), _by_name(parts, _contexts_of)
    fresh = running.keys() - gone
    for test in sorted(fresh - tests.keys() | (tip.reached & tests.keys())):
        sources = running.get(test, [])
        settled = next((part for part in reversed(sources) if test not in part.reached), None)
        if settled is None:
            overlapping.append(test)
        if settled or test in known:
            deltas = () if settled else known.get(test, ())
            rows[test] = settled.rows.get(test, {}) if settled else _take_deltas(test, tip, deltas)
        for part in [settled] if settled else sources:
            tests[test] = part.fresh[test]
    for test, spared in _spared(tip, parts).items():
        if test in tests and test not in fresh:
            rows[test] = {}  # others prove what it ran
            tests[test] = replace(tests[test], spared=tests[test].spared or spared)
    for context, by in known.items():
        if context not in tip.tests and context not in running and any(map(_differs(context), by)):
            rows[context] = _take_deltas(context, tip, by)
    return Joined(
        tests=tests,
        rows=rows,
        dropped=gone | rows.keys(),
        overlapping=tuple(overlapping),
    )


def _by_name(
    parts: Iterable[Part], names: Callable[[Part], Iterable[str]]
) -> dict[str, list[Part]]:
    found: dict[str, list[Part]] = {}
    for part in parts:
        for name in names(part):
            found.setdefault(name, []).append(part)
    return found


def _contexts_of(part: Part) -> Iterable[str]:
    return part.rows.keys() | part.base_rows.keys()


def _spared(tip: Tip, parts: Iterable[Part]) -> dict[str, str]:
    """Tests that are spared on the tip or in a part, with the first part's commit."""
    found: dict[str, str] = {}
    for part in parts:
        for test in part.spared:
            found.setdefault(test, part.commit)
    return {test: "" for test, record in tip.tests.items() if record.spared} | found


def _differs(context: str) -> Callable[[Part], bool]:
    """Whether what a fixture or an import ran differs in a part from what it is held against."""
    return lambda part: part.rows.get(context, {}) != part.base_rows.get(context, {})


def _take_deltas(context: str, tip: Tip, parts: Iterable[Part]) -> FileRows:
    found = dict(tip.rows.get(context, {}))
    for part in parts:
        now, before = part.rows.get(context, {}), part.base_rows.get(context, {})
        for path in now.keys() | before.keys():
            was, ran = before.get(path, NOTHING), now.get(path, NOTHING)
            if was is ran:
                continue
            kept = _minus(found.get(path, NOTHING), _minus(was, ran))
            found[path] = _plus(kept, _minus(ran, was))
    return {path: ran for path, ran in found.items() if ran != NOTHING}


def contexts_touched(parts: Iterable[Part]) -> frozenset[str]:
    """The contexts whose rows on the tip are asked for when the parts are joined."""
    return frozenset(context for part in parts for context in _contexts_of(part))


def add_rows(kept: FileRows, rows: Rows) -> dict[str, Executed]:
    """What ran of each file: what is `kept` of the tip, and the joined rows."""
    lines = {path: set(ran.lines) for path, ran in kept.items()}
    arcs = {path: set(ran.arcs) for path, ran in kept.items()}
    for files in rows.values():
        for path, ran in files.items():
            lines.setdefault(path, set()).update(ran.lines)
            arcs.setdefault(path, set()).update(ran.arcs)
    return {path: _executed(found, arcs.get(path, set())) for path, found in lines.items()}


def _executed(lines: set[int], arcs: set[Arc]) -> Executed:
    """Where arcs are kept, they tell the lines."""
    ends = {line for arc in arcs for line in arc if line > 0}
    return Executed(lines=frozenset(ends if arcs else lines), arcs=frozenset(arcs))


def _plus(one: Executed, other: Executed) -> Executed:
    if one is NOTHING:
        return other
    return Executed(lines=one.lines | other.lines, arcs=one.arcs | other.arcs)


def _minus(one: Executed, other: Executed) -> Executed:
    return Executed(lines=one.lines - other.lines, arcs=one.arcs - other.arcs)


def lines_of(ran: Executed) -> frozenset[int]:
    """The lines that ran, those at the ends of arcs too."""
    return ran.lines | {line for arc in ran.arcs for line in arc if line > 0}


def find_brought(part: Part) -> dict[str, set[int]]:
    """By path, the lines that some context runs in the change and did not before it."""
    brought: dict[str, set[int]] = {}
    for context, files in part.rows.items():
        before = part.base_rows.get(context, {})
        for path, ran in files.items():
            new = lines_of(ran) - lines_of(before.get(path, NOTHING))
            brought.setdefault(path, set()).update(new)
    return brought


def find_gains(
    tip: Tip,
    parts: Sequence[Part],
    parsed: Mapping[str, Parsed],
    measurement: Measurement,
) -> Gains:
    """What each change alone covers of the merged tree's own code, and what the tip's rows do."""
    kept = 0
    brought = {part.commit: find_brought(part) for part in parts}
    gains: dict[str, dict[str, tuple[int, ...]]] = {commit: {} for commit in brought}
    for file in measurement.files:
        if file.vendored:
            continue
        here = parsed[file.path]
        bringing = {c: found[file.path] for c, found in brought.items() if file.path in found}
        ran = {c: _covered(here, lines) for c, lines in bringing.items()}
        known = _covered(here, lines_of(tip.covered.get(file.path, NOTHING)))
        kept += len(known.difference(file.missing))
        counts = Counter(line for own in ran.values() for line in own)
        known.update(file.missing)
        for commit, own in ran.items():
            alone = sorted(line for line in own - known if counts[line] == 1)
            if alone:
                gains[commit][file.path] = tuple(alone)
    return Gains(own=gains, kept=kept)


def _covered(parsed: Parsed, lines: Collection[int]) -> set[int]:
    return covered_statements(parsed, lines) if lines else set()
