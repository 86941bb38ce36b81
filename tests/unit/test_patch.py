"""jobs.patch against a model of files made of known statements, and against odd changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from testtools import TestCase

from jobs.diff import FileChange, Hunk, LineMap, TreeDiff
from jobs.patch import Gap, closest_test, find_patch, nearest_line, touched_statements
from jobs.results import Counts, FileMeasure
from jobs.statements import Function, Parsed
from tests.unit.test_merge import Case, File, edited_files, is_within

SIMPLE = Parsed(
    statements=frozenset({1, 2, 3, 6, 7}),
    first={4: 3, 5: 3},
    functions=(Function(name="f", first=2, body=3, last=6),),
    exits={},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A statement of a generated file: its lines, its function's number, whether it changed."""

    first: int
    last: int
    function: int | None
    changed: bool


def placed_statements(case: Case) -> Iterator[Placed]:
    line = 1
    for number, block in enumerate(case.new_file):
        for position, statement in enumerate(block):
            last = line + len(statement) - 1
            yield Placed(
                first=line,
                last=last,
                function=number if position else None,
                changed=not is_within(statement, case.old),
            )
            line = last + 1


def measured(
    path: str, parsed: Parsed, missing: set[int], *, vendored: bool = False
) -> FileMeasure:
    counts = Counts(
        statements=len(parsed.statements), covered=len(parsed.statements) - len(missing)
    )
    return FileMeasure(path=path, counts=counts, missing=tuple(sorted(missing)), vendored=vendored)


def change_of(path: str, *hunks: Hunk, old: str | None = "same", **fields: Any) -> FileChange:
    return FileChange(
        old=path if old == "same" else old,
        new=path,
        **{"old_blob": "1", "new_blob": "2", "lines": LineMap(hunks), **fields},
    )


def inserted(first: int, count: int) -> Hunk:
    return Hunk(old_start=first - 1, old_count=0, new_start=first, new_count=count)


class ModelTest(TestCase):
    @settings(max_examples=80)
    @given(files=edited_files(), data=st.data())
    def test_counts_and_ranges_are_the_models(self, files: tuple[File, File], data: Any) -> None:
        case = Case(*files)
        statements = list(placed_statements(case))
        ran = data.draw(st.sets(st.sampled_from(statements))) if statements else set()
        parsed = case.parse(case.new)
        missing = {s.first for s in statements if s not in ran}
        patch = find_patch(
            TreeDiff((case.change,)), {"a.py": parsed}, [measured("a.py", parsed, missing)]
        )
        changed = [s for s in statements if s.changed]
        self.assertEqual(len(changed), patch.statements)
        self.assertEqual(len([s for s in changed if s in ran]), patch.covered)
        runs = groupby(statements, key=lambda s: (s.changed and s not in ran, s.function))
        expected = [
            (run[0].first, run[-1].last)
            for (uncovered, _), run in ((key, list(group)) for key, group in runs)
            if uncovered
        ]
        self.assertEqual(expected, [(gap.first, gap.last) for gap in patch.gaps])

    @settings(max_examples=80)
    @given(files=edited_files(), data=st.data())
    def test_the_nearest_line_is_of_the_function_if_a_test_ran_any(
        self, files: tuple[File, File], data: Any
    ) -> None:
        case = Case(*files)
        statements = list(placed_statements(case))
        parsed = case.parse(case.new)
        tested = data.draw(st.sets(st.integers(1, len(case.new) + 1)))
        missing = {s.first for s in statements}
        gaps = find_patch(
            TreeDiff((case.change,)), {"a.py": parsed}, [measured("a.py", parsed, missing)]
        ).gaps
        for gap in gaps:
            (function,) = {s.function for s in statements if gap.first <= s.first <= gap.last}
            own = {
                line
                for s in statements
                if s.function == function is not None
                for line in range(s.first, s.last + 1)
            }
            pool = (own & tested) or tested
            line = nearest_line(gap, tested)
            if not pool:
                self.assertIsNone(line)
                continue
            assert line is not None
            self.assertIn(line, pool)
            inside = set(range(gap.first, gap.last + 1))
            self.assertEqual(
                min(abs(near - at) for near in pool for at in inside),
                min(abs(line - at) for at in inside),
            )


class TouchedTest(TestCase):
    def test_any_line_of_a_long_statement(self) -> None:
        for line in (3, 4, 5):
            lines = LineMap((Hunk(old_start=line, old_count=1, new_start=line, new_count=1),))
            self.assertEqual({3}, touched_statements(lines, SIMPLE), str(line))

    def test_a_line_deleted_inside_a_statement_modifies_it(self) -> None:
        for line, touched in ((3, {3}), (4, {3}), (5, set()), (2, set()), (6, set())):
            lines = LineMap((Hunk(old_start=line + 1, old_count=1, new_start=line, new_count=0),))
            self.assertEqual(touched, touched_statements(lines, SIMPLE), str(line))

    def test_comments_docstrings_and_excluded_lines_are_no_statements(self) -> None:
        case = Case(
            [[["x = 1"]]],
            [
                [["# A comment"], ["x = 1"]],
                [["def f():"], ['    """Text', '    of it."""'], ["    return 1"]],
                [["if x:  # pragma: no cover"], ["    y = 2"]],
            ],
        )
        parsed = case.parse(case.new)
        assert case.change.lines is not None
        self.assertEqual({3, 6}, touched_statements(case.change.lines, parsed))


class FindPatchTest(TestCase):
    def find(self, change: FileChange, *, vendored: bool = False) -> tuple[int, int]:
        parsed = {change.new or "a.py": SIMPLE}
        files = [measured(path, SIMPLE, {6}, vendored=vendored) for path in parsed]
        patch = find_patch(TreeDiff((change,)), parsed, files)
        return patch.statements, patch.covered

    def test_a_new_file_is_all_patch(self) -> None:
        self.assertEqual((5, 4), self.find(change_of("a.py", inserted(1, 7), old=None)))

    def test_a_rename_counts_what_was_edited(self) -> None:
        self.assertEqual((0, 0), self.find(change_of("b.py", old="a.py")))
        self.assertEqual((1, 0), self.find(change_of("b.py", inserted(6, 1), old="a.py")))

    def test_vendored_files_do_not_count(self) -> None:
        self.assertEqual((0, 0), self.find(change_of("a.py", inserted(1, 7)), vendored=True))

    def test_files_that_are_not_measured_do_not_count(self) -> None:
        diff = TreeDiff((change_of("setup.py", inserted(1, 7)),))
        patch = find_patch(diff, {"a.py": SIMPLE}, [measured("a.py", SIMPLE, set())])
        self.assertEqual((0, 0, ()), (patch.statements, patch.covered, patch.gaps))

    def test_a_file_whose_lines_git_does_not_show_is_told(self) -> None:
        diff = TreeDiff((change_of("a.py", lines=None),))
        patch = find_patch(diff, {"a.py": SIMPLE}, [measured("a.py", SIMPLE, set())])
        self.assertEqual(("a.py",), patch.opaque)

    def test_a_gap_stays_inside_its_function(self) -> None:
        diff = TreeDiff((change_of("a.py", inserted(1, 7)),))
        everything = measured("a.py", SIMPLE, {1, 2, 3, 6, 7})
        gaps = find_patch(diff, {"a.py": SIMPLE}, [everything]).gaps
        self.assertEqual([(1, 2), (3, 6), (7, 7)], [(gap.first, gap.last) for gap in gaps])
        self.assertEqual({3, 4, 5, 6}, gaps[1].around)
        self.assertEqual(set(), gaps[0].around | gaps[2].around)


class NearestTest(TestCase):
    def test_of_two_at_the_same_distance_the_one_above(self) -> None:
        gap = Gap(path="a.py", first=5, last=6)
        self.assertEqual(3, nearest_line(gap, {1, 3, 8, 9}))
        self.assertEqual(7, nearest_line(gap, {1, 3, 7, 9}))

    def test_the_function_comes_before_what_is_closer(self) -> None:
        gap = Gap(path="a.py", first=5, last=6, around=frozenset(range(5, 20)))
        self.assertEqual(19, nearest_line(gap, {4, 19, 21}))
        self.assertEqual(4, nearest_line(gap, {4, 21}))

    def test_the_test_that_ran_least_of_the_file(self) -> None:
        self.assertEqual("t.b", closest_test({"t.a": 9, "t.c": 4, "t.b": 4}))
        self.assertIsNone(closest_test({}))
