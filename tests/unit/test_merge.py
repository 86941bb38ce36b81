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

from jobs.comparison import NOTHING_ALIGNED, Alignment, align
from jobs.confinement import MEASURED
from jobs.diff import FileChange, Hunk, LineMap
from jobs.merge import FileMove, contexts_to_drop, plan_move, touched_lines
from jobs.outline import read_outline
from jobs.statements import Parsed, read_parsed
from tests.unit.test_diff import hunks_between

outline = runpy.run_path(str(MEASURED / "outline.py"))["outline"]
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
            file.write(_text(lines))
            file.flush()
            return read_parsed(parse_file(file.name, coverage.Coverage(data_file=None)))

    def numbers(self, tokens: Iterable[str], lines: Sequence[str]) -> set[int]:
        wanted = set(tokens)
        return {number for number, line in enumerate(lines, 1) if line in wanted}

    def untouched(self) -> set[str]:
        """Lines of statements that stand in the old file exactly so."""
        statements = (s for block in self.new_file for s in block if is_within(s, self.old))
        return {line for statement in statements for line in statement}

    def alignment(self) -> Alignment:
        """What the real outlines of both say is the same."""
        old, new = (read_outline(outline(_text(part).encode())) for part in (self.old, self.new))
        return align(old, new)


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


class PlanMoveTest(TestCase):
    @settings(max_examples=40)
    @given(files=edited_files(), data=st.data())
    def test_carries_exactly_what_survives_untouched(
        self, files: tuple[File, File], data: Any
    ) -> None:
        case = Case(*files)
        ran = data.draw(st.sets(st.sampled_from(case.old))) if case.old else set()
        parsed = case.parse(case.new)
        move = plan_move(case.change, parsed, NOTHING_ALIGNED)
        before = case.numbers(ran, case.old)
        expected = case.numbers(ran & case.untouched(), case.new)
        self.assertEqual(expected, move.move_lines(before))

    @settings(max_examples=40)
    @given(files=edited_files(), data=st.data())
    def test_alignment_carries_no_statement_to_another(
        self, files: tuple[File, File], data: Any
    ) -> None:
        case = Case(*files)
        ran = data.draw(st.sets(st.sampled_from(case.old))) if case.old else set()
        parsed = case.parse(case.new)
        move = plan_move(case.change, parsed, case.alignment())
        starts = {parsed.first.get(line, line) for line in case.numbers(ran, case.new)}
        for line in case.numbers(ran & case.untouched(), case.old):
            moved = move.move_line(line)
            assert moved is not None
            self.assertIn(parsed.first.get(moved, moved), starts)

    @settings(max_examples=40)
    @given(files=edited_files(), data=st.data())
    def test_arcs_carry_the_same_lines(self, files: tuple[File, File], data: Any) -> None:
        case = Case(*files)
        if not case.old:
            return
        line = st.integers(1, len(case.old))
        ends = st.tuples(line, st.one_of(line, line.map(lambda n: -n)))
        arcs = data.draw(st.sets(ends))
        move = plan_move(case.change, case.parse(case.new), NOTHING_ALIGNED)
        moved = move.move_arcs(arcs)
        lines = {line for arc in arcs for line in arc if line > 0}
        kept = {line for arc in moved for line in arc if line > 0}
        self.assertEqual(move.move_lines(lines), kept)
        for start, end in moved:
            origin = {(move_back(move, start), move_back(move, end))}
            self.assertTrue(start == end or origin <= arcs, f"{start}, {end}")

    def test_nothing_is_carried_of_a_file_that_cannot_be_parsed(self) -> None:
        change = Case([[["v = 1"]]], [[["v = 1"]], [["w = 1"]]]).change
        broken = Parsed(first={}, exits={}, error="invalid syntax")
        self.assertIsNone(plan_move(change, broken, NOTHING_ALIGNED).new)

    def test_of_a_file_that_is_not_measured_what_the_diff_left_is_carried(self) -> None:
        change = Case([[["v = 1"]], [["x = 1"]]], [[["w = 1"]], [["x = 1"]]]).change
        move = plan_move(change, None, NOTHING_ALIGNED)
        self.assertEqual({2}, move.move_lines({1, 2}))

    def test_nothing_is_carried_of_deleted_and_binary_files(self) -> None:
        parsed = Parsed(statements=frozenset({1}), first={}, exits={})
        deleted = FileChange(old="a.py", new=None, old_blob="1", new_blob=None)
        binary = FileChange(old="a.py", new="a.py", old_blob="1", new_blob="2", lines=None)
        self.assertIsNone(plan_move(deleted, parsed, NOTHING_ALIGNED).new)
        self.assertIsNone(plan_move(binary, parsed, NOTHING_ALIGNED).new)
        self.assertEqual(frozenset(), touched_lines(binary, parsed))

    def test_renamed_file_moves_to_its_new_name(self) -> None:
        change = FileChange(old="a.py", new="b.py", old_blob="1", new_blob="1")
        parsed = Parsed(statements=frozenset({1, 2}), first={}, exits={})
        move = plan_move(change, parsed, NOTHING_ALIGNED)
        self.assertEqual("b.py", move.new)
        self.assertEqual({1, 2}, move.move_lines({1, 2}))


def move_back(move: FileMove, line: int) -> int:
    """The old line that moves to `line`, by trying all."""
    (old,) = (n for n in range(1, 200) if move.lines.map_line(n) == abs(line))
    return old if line > 0 else -old


class FileMoveTest(TestCase):
    def test_an_arc_that_lost_an_end_keeps_the_other(self) -> None:
        lines = LineMap((Hunk(old_start=2, old_count=1, new_start=2, new_count=1),))
        move = FileMove(new="a.py", lines=lines)
        arcs = {(1, 2), (2, 3), (3, -2), (3, 1), (2, -2)}
        self.assertEqual({(1, 1), (3, 3), (3, 1)}, move.move_arcs(arcs))

    def test_blocked_lines_are_not_carried_unless_they_are_aligned(self) -> None:
        aligned = Alignment(lines={1: 9}, starts={})
        blocked = frozenset({1, 2})
        move = FileMove(new="a.py", lines=LineMap(), blocked=blocked, aligned=aligned)
        self.assertEqual({9, 3}, move.move_lines({1, 2, 3}))

    def test_an_entry_goes_where_its_function_begins(self) -> None:
        aligned = Alignment(lines={2: 12, 3: 13}, starts={1: 11})
        move = FileMove(new="a.py", lines=LineMap(), aligned=aligned)
        arcs = {(-1, 2), (2, 3), (3, -1)}
        self.assertEqual({(-11, 12), (12, 13), (13, -11)}, move.move_arcs(arcs))


def drop(contexts: Iterable[str], **reasons: Iterable[str]) -> frozenset[str]:
    """contexts_to_drop, with nothing for the reasons that are not named."""
    none: dict[str, frozenset[str]] = dict.fromkeys(
        ("ran", "gone", "left", "loaded", "imports"), frozenset()
    )
    return contexts_to_drop(
        contexts, **{**none, **{name: frozenset(value) for name, value in reasons.items()}}
    )


CONTEXTS = (
    "",
    "p.a.T.test",
    "p.a.T.test(x)",
    "p.a.T.other",
    "p.b.T.test",
    "p.a.T:setUpClass",
    "p.a.U:tearDownClass",
    "p.a:setUpModule",
    "p.a:fixtures",
    "p.a:load_tests",
    "p/a.py:import",
    "p/ab.py:import",
)


class ContextsToDropTest(TestCase):
    def test_a_test_that_ran_goes_with_the_fixtures_around_it(self) -> None:
        around = {"p.a.T:setUpClass", "p.a:setUpModule"}
        self.assertEqual({"p.a.T.test", *around}, drop(CONTEXTS, ran=["p.a.T.test"]) - LOADING)

    def test_what_runs_between_tests_stays_until_it_is_reached_or_alone(self) -> None:
        between = "p.a:fixtures"
        self.assertNotIn(between, drop(CONTEXTS, ran=["p.a.T.test"]))
        self.assertIn(between, drop(CONTEXTS, ran=["p.a.T.test"], reached=[between]))
        self.assertIn(between, drop(CONTEXTS, gone=["p.a.T.test"]))
        self.assertNotIn(between, drop(CONTEXTS, gone=["p.a.T.test"], left=["p.a.T.other"]))

    def test_a_scenario_goes_alone_with_its_fixtures(self) -> None:
        dropped = drop(CONTEXTS, ran=["p.a.T.test(x)"])
        self.assertIn("p.a.T.test(x)", dropped)
        self.assertNotIn("p.a.T.test", dropped)
        self.assertIn("p.a.T:setUpClass", dropped)

    def test_a_test_that_is_gone_goes_like_one_that_ran(self) -> None:
        self.assertEqual(drop(CONTEXTS, ran=["p.b.T.test"]), drop(CONTEXTS, gone=["p.b.T.test"]))

    def test_fixtures_stay_as_long_as_a_test_of_theirs_is_left(self) -> None:
        gone = ["p.a.T.test"]
        self.assertEqual({*gone}, drop(CONTEXTS, gone=gone, left=["p.a.T.other"]))
        own = drop(CONTEXTS, gone=gone, left=["p.a.U.test"])
        self.assertEqual({*gone, "p.a.T:setUpClass"}, own)

    def test_loading_a_module_replaces_what_loading_ran(self) -> None:
        self.assertEqual(LOADING, drop(CONTEXTS, loaded=["p.a"]))

    def test_imports_go_by_their_file(self) -> None:
        self.assertEqual({"p/a.py:import"}, drop(CONTEXTS, imports=["p/a.py"]))

    @given(st.sets(st.sampled_from(CONTEXTS)), st.sets(st.sampled_from(CONTEXTS[1:5])))
    def test_nothing_goes_for_no_reason(self, contexts: set[str], ran: set[str]) -> None:
        dropped = drop(contexts, ran=ran)
        self.assertEqual(contexts & ran, {name for name in dropped if ":" not in name})
        self.assertEqual(frozenset(), drop(contexts))

    def test_stand_in_of_a_failed_import_goes_when_it_ran_again(self) -> None:
        stand_in = "unittest.loader._FailedTest.p.a"
        self.assertEqual({stand_in}, drop([stand_in], ran=[stand_in]))


LOADING = {"p.a:load_tests"}
