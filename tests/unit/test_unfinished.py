"""Which statements hang on tests that a budget did not reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from testtools import TestCase

from jobs.measure import Executed, measure_tree
from jobs.results import Measurement, Provisional
from jobs.rows import RowReader
from jobs.statements import Parsed
from jobs.sufficient import Candidate, Doubt
from jobs.unfinished import Unfinished

STATEMENTS = frozenset(range(1, 9))
PARSED = {
    path: Parsed(statements=STATEMENTS, first={}, exits={}) for path in ("a.py", "copied/b.py")
}
LEFT = Candidate(test="t.left", seconds=2.5, ran={}, group=0)


def bits(*lines: int) -> int:
    return sum(1 << line for line in lines)


def unfinished(rows: Mapping[str, Mapping[str, int]], **more: Any) -> Unfinished:
    known: dict[str, Any] = {
        "budget": 1.0,
        "tests_affected": 3,
        "tests_run": 1,
        "left": {"t.left": LEFT},
        "pending": frozenset({"t.left", "t.spared"}),
        "lost": frozenset(),
        "ways_left": 0,
        "doubts": (),
        "affected": frozenset({"t.ran", "t.left", "t.spared"}),
        "rows": {name: dict(row) for name, row in rows.items()},
        "reader": RowReader(PARSED, arcs=False),
        "parsed": PARSED,
    }
    return Unfinished(**known | more)


def measured(*ran: int) -> Measurement:
    executed = Executed(lines=frozenset(ran))
    return measure_tree(PARSED, dict.fromkeys(PARSED, executed), lambda path: "copied" in path)


def told(open_: Unfinished, *ran: int, kept: tuple[str, ...] = ()) -> Provisional:
    return open_.tell(measured(*ran), kept)


class UndecidedTest(TestCase):
    def test_what_only_tests_ran_that_did_not_now(self) -> None:
        rows = {"t.ran": {"a.py": bits(1, 2, 3)}, "t.left": {"a.py": bits(3, 4, 5)}}
        found = told(unfinished(rows), 1, 2, 3, 4)
        # Line 2 that t.ran left is uncovered; 5 hangs on t.left alone.
        self.assertEqual({"a.py": (5,)}, dict(found.undecided))
        self.assertEqual(
            (1, 2.5, 1), (found.tests_left, found.seconds_left, found.lines_undecided)
        )
        self.assertEqual({}, dict(told(unfinished(rows), 1, 3, 4, 5).undecided))

    def test_spared_tests_prove_nothing_until_the_rest_ran(self) -> None:
        found = told(unfinished({"t.spared": {"a.py": bits(7)}}))
        self.assertEqual({"a.py": (7,)}, dict(found.undecided))

    def test_copied_code_does_not_count(self) -> None:
        found = told(unfinished({"t.left": {"copied/b.py": bits(1, 2)}}))
        self.assertEqual(0, found.lines_undecided)

    def test_imports_that_nothing_leads_to_now(self) -> None:
        rows = {"a.py:import": {"a.py": bits(1, 2)}}
        self.assertEqual({"a.py": (1, 2)}, dict(told(unfinished(rows)).undecided))
        kept = told(unfinished(rows), 1, kept=("a.py:import",))
        self.assertEqual({}, dict(kept.undecided))

    def test_what_ran_between_tests_that_did_not_run(self) -> None:
        rows = {"t:fixtures": {"a.py": bits(6)}}
        self.assertEqual({}, dict(told(unfinished(rows)).undecided))
        lost = unfinished(rows, lost=frozenset({"t:fixtures"}))
        self.assertEqual({"a.py": (6,)}, dict(told(lost).undecided))

    def test_a_function_that_changed_is_open_to_all_that_the_change_reaches(self) -> None:
        doubt = Doubt(path="a.py", first=4, last=6)
        found = unfinished({}, doubts=(doubt,))
        self.assertEqual({"a.py": (4, 6)}, dict(told(found, 5).undecided))
        others = replace(found, affected=frozenset({"t.ran"}))
        self.assertEqual({}, dict(told(others, 5).undecided))

    @given(
        st.dictionaries(
            st.sampled_from(["t.ran", "t.left", "t.spared", "a.py:import"]),
            st.frozensets(st.sampled_from(sorted(STATEMENTS))),
        ),
        st.frozensets(st.sampled_from(sorted(STATEMENTS))),
    )
    def test_nothing_that_ran_and_all_that_only_pending_tests_ran(
        self, lines: Mapping[str, frozenset[int]], ran: frozenset[int]
    ) -> None:
        rows = {name: {"a.py": bits(*found)} for name, found in lines.items()}
        undecided = set(told(unfinished(rows), *ran).undecided.get("a.py", ()))
        self.assertFalse(undecided & ran)
        pending = lines.get("t.left", frozenset()) | lines.get("t.spared", frozenset())
        self.assertLessEqual(pending - ran, undecided)
