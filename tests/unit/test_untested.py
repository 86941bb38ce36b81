"""jobs.untested: functions that lack coverage, and their changes read backwards."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from testtools import TestCase

from covtrack.next_results import order, points
from jobs.diff import FileChange, Hunk, LineMap, TreeDiff
from jobs.patch import Gap
from jobs.results import Counts, FileMeasure
from jobs.statements import Function, Parsed
from jobs.untested import Untested, count_changes, find_untested

NESTED = Parsed(
    statements=frozenset({1, 2, 3, 5, 6, 8, 9}),
    first={7: 6},
    functions=(
        Function(name="outer", first=2, body=3, last=7),
        Function(name="outer.inner", first=5, body=6, last=7),
        Function(name="last", first=8, body=9, last=9),
    ),
    exits={},
)


def measured(*missing: int) -> FileMeasure:
    counts = Counts(statements=7, covered=7 - len(missing))
    return FileMeasure(path="a.py", counts=counts, missing=missing)


def function(first: int, last: int, path: str = "a.py", missing: int = 1) -> Untested:
    lines = tuple(range(first, first + missing))
    return Untested(
        path=path,
        name=f"f{first}",
        first=first,
        last=last,
        missing=lines,
        gap=Gap(path=path, first=first, last=last),
    )


def change(*hunks: Hunk, old: str | None = "a.py", new: str | None = "a.py") -> FileChange:
    return FileChange(old=old, new=new, old_blob="1", new_blob="2", lines=LineMap(hunks))


def hunks_between(old: list[int], new: list[int]) -> tuple[Hunk, ...]:
    """As `git diff -U0` tells them."""
    codes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return tuple(
        Hunk(
            old_start=a + 1 if b > a else a,
            old_count=b - a,
            new_start=c + 1 if d > c else c,
            new_count=d - c,
        )
        for tag, a, b, c, d in codes
        if tag != "equal"
    )


class InverseTest(TestCase):
    @settings(max_examples=100)
    @given(st.lists(st.integers(0, 6), max_size=12), st.lists(st.integers(0, 6), max_size=12))
    def test_what_survives_comes_back(self, old: list[int], new: list[int]) -> None:
        there = LineMap(hunks_between(old, new))
        pairs = {line: there.map_line(line) for line in range(1, len(old) + 1)}
        survived = {now: was for was, now in pairs.items() if now is not None}
        for line in range(1, len(new) + 1):
            self.assertEqual(survived.get(line), there.inverse.map_line(line))


class FindUntestedTest(TestCase):
    def test_statements_belong_to_the_innermost_function(self) -> None:
        outer, inner, last = find_untested(measured(3, 6, 9), NESTED)
        self.assertEqual(("outer", (3,)), (outer.name, outer.missing))
        self.assertEqual(("outer.inner", (6,)), (inner.name, inner.missing))
        self.assertEqual((6, 7), (inner.gap.first, inner.gap.last))
        self.assertEqual({3, 4, 5}, set(outer.gap.around))
        self.assertEqual(("last", 8, 9), (last.name, last.first, last.last))

    def test_what_runs_at_import_is_no_functions(self) -> None:
        self.assertEqual((), find_untested(measured(1, 2), NESTED))


class CountChangesTest(TestCase):
    def test_moved_function_is_followed(self) -> None:
        """Newest first: three lines came above it; before, its second line was edited."""
        above = Hunk(old_start=0, old_count=0, new_start=1, new_count=3)
        edit = Hunk(old_start=8, old_count=1, new_start=8, new_count=1)
        one = function(10, 13)
        diffs = [TreeDiff((change(above),)), TreeDiff((change(edit),))]
        self.assertEqual({one: 1}, dict(count_changes([one], diffs)))

    def test_renamed_file_is_followed(self) -> None:
        edit = Hunk(old_start=2, old_count=1, new_start=2, new_count=1)
        one = function(1, 3)
        diffs = [
            TreeDiff((change(old="b.py"),)),
            TreeDiff((change(edit, old="b.py", new="b.py"),)),
        ]
        self.assertEqual({one: 1}, dict(count_changes([one], diffs)))

    def test_new_file_of_a_renamed_ones_name(self) -> None:
        """b.py was a.py, and a.py is new: what is followed to a.py is not counted as new there."""
        new = Hunk(old_start=0, old_count=0, new_start=1, new_count=9)
        one = function(1, 3, "b.py")
        other = function(1, 3, "a.py")
        both = TreeDiff((change(old="a.py", new="b.py"), change(new, old=None)))
        self.assertEqual({other: 1}, dict(count_changes([one, other], [both])))

    def test_history_ends_where_all_lines_were_written(self) -> None:
        written = Hunk(old_start=0, old_count=0, new_start=1, new_count=5)
        one = function(2, 4)
        diffs = [TreeDiff((change(written),)), TreeDiff((change(written),))]
        self.assertEqual({one: 1}, dict(count_changes([one], diffs)))

    def test_change_of_another_function_does_not_count(self) -> None:
        edit = Hunk(old_start=20, old_count=1, new_start=20, new_count=2)
        self.assertEqual({}, dict(count_changes([function(2, 4)], [TreeDiff((change(edit),))])))

    def test_change_without_lines_ends_the_history(self) -> None:
        one = function(2, 4)
        binary = FileChange(old="a.py", new="a.py", old_blob="1", new_blob="2", lines=None)
        diffs = [TreeDiff((binary,)), TreeDiff((binary,))]
        self.assertEqual({one: 1}, dict(count_changes([one], diffs)))


class OrderTest(TestCase):
    @given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), max_size=8))
    def test_by_weight(self, drawn: list[tuple[int, int]]) -> None:
        functions = [
            function(20 * n, 20 * n + 9, missing=missing) for n, (missing, _) in enumerate(drawn)
        ]
        changes: dict[Any, int] = {
            f: count for f, (_, count) in zip(functions, drawn, strict=True)
        }
        weights = [len(f.missing) * (1 + changes[f]) for f in order(functions, changes)]
        self.assertEqual(sorted(weights, reverse=True), weights)

    def test_points_are_rounded_down(self) -> None:
        self.assertEqual(33.333, points(1, Counts(statements=3)))
        self.assertEqual(66.666, points(2, Counts(statements=3)))
        self.assertEqual(0.0, points(0, Counts()))
