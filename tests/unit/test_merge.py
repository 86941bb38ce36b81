"""jobs.merge against a model: per-test coverage keyed by lines that are told apart by token."""

from __future__ import annotations

import runpy
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import coverage
from hypothesis import given, settings
from hypothesis import strategies as st
from testtools import TestCase

from jobs.confinement import MEASURED
from jobs.diff import FileChange, Hunk, LineMap
from jobs.merge import (
    FileMove,
    contexts_to_drop,
    plan_move,
    reaches_import_time_code,
    touched_function_lines,
    touched_lines,
)
from jobs.statements import Parsed, read_parsed
from tests.unit.test_diff import hunks_between

parse_file = runpy.run_path(str(MEASURED / "parse.py"))["parse_file"]

# A file is a list of blocks: the lines of one statement, or of one function (a list of those).
Statement = list[str]


@st.composite
def statements(draw: Any, token: str) -> Statement:
    """One statement of one or several lines, each line unlike any other of the file."""
    inner = draw(st.integers(0, 3))
    if not inner:
        return [f"v{token} = 0"]
    middle = [f"    '{token}.{n}'," for n in range(inner)]
    return [f"v{token} = [", *middle, f"]  # {token}"]


@st.composite
def blocks(draw: Any, token: str) -> list[Statement]:
    """A module-level statement (one entry), or a function: its def, then its statements."""
    if draw(st.booleans()):
        return [draw(statements(token))]
    inside = [draw(statements(f"{token}_{n}")) for n in range(draw(st.integers(1, 3)))]
    return [
        [f"def f{token}():"],
        *([f"    {line}" for line in statement] for statement in inside),
    ]


File = list[list[Statement]]


@st.composite
def edited_files(draw: Any) -> tuple[File, File]:
    """A file and the same after some statements were put in, dropped, or edited inside."""
    old: File = [draw(blocks(str(n))) for n in range(draw(st.integers(0, 5)))]
    new: File = []
    for number, block in enumerate(old):
        if draw(st.integers(0, 5)) == 0:
            new.append(draw(blocks(f"9{number}")))
        fate = draw(st.integers(0, 7))
        if fate == 0:
            continue
        new.append([_edit(draw, s, f"{number}x{n}") for n, s in enumerate(block)])
        if len(block) > 1 and fate == 1:
            new[-1].append([f"    w{number} = 1"])
        if len(block) > 2 and fate == 2:
            new[-1].pop()
    return old, new


def _edit(draw: Any, statement: Statement, token: str) -> Statement:
    fate = draw(st.integers(0, 9))
    if fate == 0 and len(statement) == 1 and "def " not in statement[0]:
        return [f"{statement[0]} + 1"]
    if fate == 1 and len(statement) > 2:
        return [statement[0], f"        'x{token}',", *statement[1:]]
    if fate == 2 and len(statement) > 2:
        return [statement[0], *statement[2:]]
    return statement


def flatten(file: File) -> list[str]:
    return [line for block in file for statement in block for line in statement]


def is_within(part: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether `part` stands in `whole` as it is, line after line."""
    size = len(part)
    return any(list(whole[at : at + size]) == list(part) for at in range(len(whole)))


class Case:
    """A file before and after, as the merge gets it and as the model sees it."""

    def __init__(self, old: File, new: File) -> None:
        self.old, self.new = flatten(old), flatten(new)
        self.old_file, self.new_file = old, new
        self.change = FileChange(
            old="a.py",
            new="a.py",
            old_blob="1" * 40,
            new_blob="2" * 40,
            lines=hunks_between(self.old, self.new),
        )

    def parse(self, lines: Iterable[str]) -> Parsed:
        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write("".join(f"{line}\n" for line in lines))
            file.flush()
            return read_parsed(parse_file(file.name, coverage.Coverage(data_file=None)))

    def numbers(self, tokens: Iterable[str], lines: Sequence[str]) -> set[int]:
        wanted = set(tokens)
        return {number for number, line in enumerate(lines, 1) if line in wanted}

    def untouched(self) -> set[str]:
        """Lines of statements that stand in the old file exactly so."""
        statements = (s for block in self.new_file for s in block if is_within(s, self.old))
        return {line for statement in statements for line in statement}

    def untouched_functions(self) -> set[str]:
        """Lines of the bodies of functions that stand in the old file exactly so."""
        functions = [block for block in self.new_file if len(block) > 1]
        same = [f for f in functions if is_within([line for s in f for line in s], self.old)]
        return {line for function in same for statement in function[1:] for line in statement}


class PlanMoveTest(TestCase):
    @settings(max_examples=60, deadline=None)
    @given(files=edited_files(), data=st.data())
    def test_carries_exactly_what_survives_untouched(
        self, files: tuple[File, File], data: Any
    ) -> None:
        case = Case(*files)
        ran = data.draw(st.sets(st.sampled_from(case.old))) if case.old else set()
        move = plan_move(case.change, case.parse(case.new))
        before = case.numbers(ran, case.old)
        expected = case.numbers(ran & case.untouched(), case.new)
        self.assertEqual(expected, move.move_lines(before, "pkg.test_a.T.test_x"))
        expected = case.numbers(ran & case.untouched() & case.untouched_functions(), case.new)
        self.assertEqual(expected, move.move_lines(before, ""))

    @settings(max_examples=60, deadline=None)
    @given(files=edited_files(), data=st.data())
    def test_arcs_carry_the_same_lines(self, files: tuple[File, File], data: Any) -> None:
        case = Case(*files)
        if not case.old:
            return
        line = st.integers(1, len(case.old))
        ends = st.tuples(line, st.one_of(line, line.map(lambda n: -n)))
        arcs = data.draw(st.sets(ends))
        move = plan_move(case.change, case.parse(case.new))
        for context in ("", "some.test"):
            moved = move.move_arcs(arcs, context)
            lines = {line for arc in arcs for line in arc if line > 0}
            kept = {line for arc in moved for line in arc if line > 0}
            self.assertEqual(move.move_lines(lines, context), kept)
            for start, end in moved:
                origin = {(move_back(move, start), move_back(move, end))}
                self.assertTrue(start == end or origin <= arcs, f"{start}, {end}")

    def test_nothing_is_carried_without_a_parse(self) -> None:
        change = Case([[["v = 1"]]], [[["v = 1"]], [["w = 1"]]]).change
        broken = Parsed(first={}, exits={}, error="invalid syntax")
        for parsed in (None, broken):
            move = plan_move(change, parsed)
            self.assertIsNone(move.new)

    def test_nothing_is_carried_of_deleted_and_binary_files(self) -> None:
        parsed = Parsed(statements=frozenset({1}), first={}, exits={})
        deleted = FileChange(old="a.py", new=None, old_blob="1", new_blob=None)
        binary = FileChange(old="a.py", new="a.py", old_blob="1", new_blob="2", lines=None)
        self.assertIsNone(plan_move(deleted, parsed).new)
        self.assertIsNone(plan_move(binary, parsed).new)
        self.assertEqual(frozenset(), touched_lines(binary, parsed))
        self.assertEqual(frozenset(), touched_function_lines(binary, parsed))

    def test_renamed_file_moves_to_its_new_name(self) -> None:
        change = FileChange(old="a.py", new="b.py", old_blob="1", new_blob="1")
        parsed = Parsed(statements=frozenset({1, 2}), first={}, exits={})
        move = plan_move(change, parsed)
        self.assertEqual("b.py", move.new)
        self.assertEqual({1, 2}, move.move_lines({1, 2}, "t"))
        self.assertEqual(set(), move.move_lines({1, 2}, ""))


def move_back(move: FileMove, line: int) -> int:
    """The old line that moves to `line`, by trying all."""
    (old,) = (n for n in range(1, 200) if move.lines.map_line(n) == abs(line))
    return old if line > 0 else -old


class FileMoveTest(TestCase):
    def test_an_arc_that_lost_an_end_keeps_the_other(self) -> None:
        lines = LineMap((Hunk(old_start=2, old_count=1, new_start=2, new_count=1),))
        move = FileMove(new="a.py", lines=lines)
        arcs = {(1, 2), (2, 3), (3, -2), (3, 1), (2, -2)}
        self.assertEqual({(1, 1), (3, 3), (3, 1)}, move.move_arcs(arcs, "t"))

    def test_blocked_lines_by_context(self) -> None:
        move = FileMove(
            new="a.py",
            lines=LineMap(),
            blocked=frozenset({1}),
            blocked_import=frozenset({2}),
        )
        self.assertEqual({2, 3}, move.move_lines({1, 2, 3}, "t"))
        self.assertEqual({3}, move.move_lines({1, 2, 3}, ""))


class ImportTimeTest(TestCase):
    @settings(max_examples=60, deadline=None)
    @given(files=edited_files(), data=st.data())
    def test_reached_where_a_changed_function_ran_at_import(
        self, files: tuple[File, File], data: Any
    ) -> None:
        case = Case(*files)
        ran = data.draw(st.sets(st.sampled_from(case.old))) if case.old else set()
        functions = [block for block in case.old_file if len(block) > 1]
        kept = [block for block in case.new_file if len(block) > 1]
        expected = any(
            function not in kept and any(line in ran for s in function[1:] for line in s)
            for function in functions
        )
        old, new = case.parse(case.old), case.parse(case.new)
        reached = reaches_import_time_code(case.change, old, new, case.numbers(ran, case.old))
        self.assertEqual(expected, reached)

    def test_unknown_and_binary_reach_whatever_ran(self) -> None:
        text = FileChange(old="a.py", new="a.py", old_blob="1", new_blob="2")
        binary = FileChange(old="a.py", new="a.py", old_blob="1", new_blob="2", lines=None)
        parsed = Parsed(first={}, exits={})
        self.assertTrue(reaches_import_time_code(text, None, parsed, {1}))
        self.assertFalse(reaches_import_time_code(text, None, parsed, ()))
        self.assertTrue(reaches_import_time_code(binary, parsed, parsed, {1}))
        self.assertFalse(reaches_import_time_code(text, parsed, parsed, {1}))


NAMES = st.sampled_from(["p.a", "p.a.b", "p.ab", "q", "p"])


class ContextsToDropTest(TestCase):
    @settings(max_examples=100, deadline=None)
    @given(
        contexts=st.sets(
            st.tuples(NAMES, st.sampled_from([".T.test", ".T.test(x)", ":setUpModule", ".T:fix"]))
        ),
        rerun=st.sets(NAMES),
        gone=st.sets(NAMES),
        data=st.data(),
    )
    def test_model(
        self,
        contexts: set[tuple[str, str]],
        rerun: set[str],
        gone: set[str],
        data: Any,
    ) -> None:
        names = sorted(f"{module}{rest}" for module, rest in contexts)
        again = data.draw(st.sets(st.sampled_from(names))) if names else set()
        dropped = contexts_to_drop([*names, ""], rerun, gone, again)
        expected = {
            f"{module}{rest}"
            for module, rest in contexts
            if f"{module}{rest}" in again
            or any(module == m or module.startswith(f"{m}.") for m in rerun | gone)
        }
        self.assertEqual(expected, dropped)

    def test_import_time_is_never_dropped(self) -> None:
        self.assertEqual(frozenset(), contexts_to_drop([""], {"", "p"}, {""}, {""}))

    def test_stand_in_of_a_failed_import_goes_when_it_ran_again(self) -> None:
        stand_in = "unittest.loader._FailedTest.p.a"
        self.assertEqual({stand_in}, contexts_to_drop([stand_in], {"p.a"}, (), {stand_in}))
