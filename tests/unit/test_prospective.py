"""jobs.prospective by hand and against a model: tests whose lines hang on what changes did."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from testtools import TestCase

from jobs.comparison import NOTHING_ALIGNED
from jobs.diff import Hunk, LineMap
from jobs.measure import Executed, measure_tree
from jobs.merge import FileMove
from jobs.prospective import Gains, Part, Rows, Tip, find_brought, find_gains, join, move_rows
from jobs.results import Status
from jobs.snapshot import TestRecord
from jobs.statements import Parsed

Ran = Mapping[str, Collection[int]]  # context to lines of a.py


def record(test: str, executed: str = "tip") -> TestRecord:
    return TestRecord(test=test, module="t", status=Status.PASSED, seconds=0.0, executed=executed)


def rows(ran: Ran) -> Rows:
    return {c: {"a.py": Executed(lines=frozenset(lines))} for c, lines in ran.items() if lines}


def plain(found: Rows) -> dict[str, set[int]]:
    return {
        c: {line for ran in files.values() for line in ran.lines} for c, files in found.items()
    }


def tip(ran: Ran, reached: Iterable[str] = (), tests: Iterable[str] | None = None) -> Tip:
    names = [c for c in ran if ":" not in c] if tests is None else tests
    covered = frozenset(line for lines in ran.values() for line in lines)
    return Tip(
        tests={name: record(name) for name in names},
        reached=frozenset(reached),
        rows=rows(ran),
        covered={"a.py": Executed(lines=covered)},
    )


def part(commit: str, ran: Ran, base: Ran, **changes: Any) -> Part:
    values: dict[str, Any] = {
        "commit": commit,
        "fresh": {name: record(name, commit) for name in ran if ":" not in name},
        "reached": frozenset(),
        "gone": frozenset(),
        "rows": rows(ran),
        "base_rows": rows(base),
    }
    return Part(**(values | changes))


class JoinTest(TestCase):
    def test_nothing_lands(self) -> None:
        joined = join(tip({"t.a": {1}}), [])
        self.assertEqual(({}, frozenset(), ()), (joined.rows, joined.dropped, joined.overlapping))
        self.assertEqual(["t.a"], list(joined.tests))

    def test_test_of_one_change_alone_has_its_rows(self) -> None:
        one = part("one", {"t.a": {1, 3}}, {"t.a": {1, 2}})
        two = part("two", {"t.b": {9}}, {})
        joined = join(tip({"t.a": {1, 2}}, ["t.a"]), [one, two])
        self.assertEqual({"t.a": {1, 3}, "t.b": {9}}, plain(joined.rows))
        self.assertEqual((), joined.overlapping)
        self.assertEqual("one", joined.tests["t.a"].executed)
        self.assertEqual({"t.a", "t.b"}, joined.dropped)

    def test_tips_rows_hold_where_nothing_reaches_the_test(self) -> None:
        # It ran for the change for reasons that the tip has too: the change forked off earlier.
        one = part("one", {"t.a": {1}}, {"t.a": {1, 2}})
        joined = join(tip({"t.a": {1, 2}}), [one])
        self.assertEqual({}, joined.rows)
        self.assertEqual("tip", joined.tests["t.a"].executed)

    def test_overlap_takes_what_each_added_and_loses_what_each_took_away(self) -> None:
        base = {"t.a": {1, 2, 3}}
        one = part("one", {"t.a": {1, 2, 7}}, base, reached=frozenset({"t.a"}))
        two = part("two", {"t.a": {1, 3, 8}}, base, reached=frozenset({"t.a"}))
        joined = join(tip(base, ["t.a"]), [one, two])
        self.assertEqual({"t.a": {1, 7, 8}}, plain(joined.rows))
        self.assertEqual(("t.a",), joined.overlapping)

    def test_change_on_top_of_another_decides(self) -> None:
        base = {"t.a": {1, 2}}
        one = part("one", {"t.a": {1, 7}}, base, reached=frozenset({"t.a"}))
        two = part("two", {"t.a": {1, 8}}, {"t.a": {1, 7}})
        joined = join(tip(base, ["t.a"]), [one, two])
        self.assertEqual({"t.a": {1, 8}}, plain(joined.rows))
        self.assertEqual((), joined.overlapping)

    def test_tests_new_on_the_branch_that_a_change_reaches_are_told(self) -> None:
        joined = join(tip({"t.new": {1}}, ["t.new"]), [part("one", {}, {})])
        self.assertEqual(("t.new",), joined.overlapping)
        self.assertEqual(({}, frozenset()), (joined.rows, joined.dropped))  # the tip's row stays

    def test_deleted_test_is_gone_even_if_another_change_ran_it(self) -> None:
        one = part("one", {}, {}, gone=frozenset({"t.a"}))
        two = part("two", {"t.a": {5}}, {"t.a": {1}})
        joined = join(tip({"t.a": {1}}, ["t.a"]), [one, two])
        self.assertEqual(({}, {}, {"t.a"}), (joined.tests, joined.rows, joined.dropped))

    def test_imports_and_fixtures_are_put_together(self) -> None:
        base = {"a.py:import": {1, 2}, "b.py:import": {4}, "t:setUpClass": {5}}
        one = part("one", {**base, "a.py:import": {1, 3}, "t:setUpClass": ()}, base, fresh={})
        two = part("two", {**base, "a.py:import": {1, 2, 9}}, base, fresh={})
        joined = join(tip(base, tests=()), [one, two])
        self.assertEqual({"a.py:import": {1, 3, 9}, "t:setUpClass": set()}, plain(joined.rows))

    def test_arcs_are_joined_like_lines(self) -> None:
        def arcs(*found: tuple[int, int]) -> Rows:
            return {"t.a": {"a.py": Executed(arcs=frozenset(found))}}

        one = part(
            "one", {"t.a": ()}, {}, rows=arcs((1, 2), (2, 9)), base_rows=arcs((1, 2), (2, 3))
        )
        joined = join(tip({"t.a": ()}, ["t.a"]), [one])
        self.assertEqual(arcs((1, 2), (2, 9)), joined.rows)
        self.assertEqual({"a.py": {9}}, find_brought(one))


LINES = st.frozensets(st.integers(1, 12), max_size=6)


class PropertyTest(TestCase):
    @given(LINES)
    def test_changes_that_agree_give_what_they_agree_on(self, base: frozenset[int]) -> None:
        parts = [
            part(name, {"t.a": base | {99}}, {"t.a": base}, reached=frozenset({"t.a"}))
            for name in "xyz"
        ]
        joined = join(tip({"t.a": base}, ["t.a"]), parts)
        self.assertEqual({"t.a": base | {99}}, plain(joined.rows))

    @given(LINES, st.lists(LINES, min_size=1, max_size=4), st.randoms())
    def test_order_of_siblings_does_not_matter(
        self, base: frozenset[int], others: list[frozenset[int]], chance: Any
    ) -> None:
        reached = frozenset({"t.a"})
        parts = [
            part(str(n), {"t.a": ran}, {"t.a": base}, reached=reached)
            for n, ran in enumerate(others)
        ]
        shuffled = [*parts]
        chance.shuffle(shuffled)
        branch = tip({"t.a": base}, ["t.a"])
        self.assertEqual(join(branch, parts).rows, join(branch, shuffled).rows)

    @given(LINES, LINES, LINES)
    def test_no_line_is_covered_that_no_run_had(
        self, base: frozenset[int], one: frozenset[int], two: frozenset[int]
    ) -> None:
        reached = frozenset({"t.a"})
        parts = [
            part("one", {"t.a": one}, {"t.a": base}, reached=reached),
            part("two", {"t.a": two}, {"t.a": base}, reached=reached),
        ]
        found = plain(join(tip({"t.a": base}, ["t.a"]), parts).rows).get("t.a", base)
        self.assertEqual(set(base & one & two | (one | two) - base), found)


class MoveTest(TestCase):
    def test_lines_move_and_renamed_files_too(self) -> None:
        down = LineMap((Hunk(old_start=1, old_count=0, new_start=2, new_count=1),))
        moves = {
            "a.py": FileMove(new="b.py", lines=down, aligned=NOTHING_ALIGNED),
            "gone.py": FileMove(new=None, lines=LineMap()),
        }
        ran = Executed(lines=frozenset({1, 2}))
        found = move_rows({"t.a": {"a.py": ran, "gone.py": ran, "c.py": ran}}, moves)
        expected = {"b.py": Executed(lines=frozenset({1, 3})), "c.py": ran}
        self.assertEqual({"t.a": expected}, found)

    def test_swapped_files(self) -> None:
        moves = {
            "a.py": FileMove(new="b.py", lines=LineMap()),
            "b.py": FileMove(new="a.py", lines=LineMap()),
        }
        one, two = Executed(lines=frozenset({1})), Executed(lines=frozenset({2}))
        found = move_rows({"t.a": {"a.py": one, "b.py": two}}, moves)
        self.assertEqual({"t.a": {"b.py": one, "a.py": two}}, found)


class GainTest(TestCase):
    def gains(
        self, branch: Tip, parts: list[Part], covered: Collection[int], *, vendored: bool = False
    ) -> Gains:
        parsed = {"a.py": Parsed(statements=frozenset(range(1, 11)), first={11: 10}, exits={})}
        ran = {"a.py": Executed(lines=frozenset(covered))}
        measured = measure_tree(parsed, ran, lambda path: vendored)
        return find_gains(branch, parts, parsed, measured)

    def test_own_lines_alone(self) -> None:
        branch = tip({"t.a": {1, 2}})
        one = part("one", {"t.b": {2, 3, 4}}, {})
        two = part("two", {"t.c": {4, 5, 11}}, {})
        found = self.gains(branch, [one, two], {1, 2, 3, 4, 5, 10})
        self.assertEqual({"one": {"a.py": (3,)}, "two": {"a.py": (5, 10)}}, found.own)
        self.assertEqual(2, found.kept)

    def test_what_is_not_covered_in_the_end_is_no_gain(self) -> None:
        one = part("one", {"t.b": {3}}, {})
        self.assertEqual({"one": {}}, self.gains(tip({}), [one], ()).own)

    def test_vendored_code_does_not_count(self) -> None:
        one = part("one", {"t.b": {3}}, {})
        self.assertEqual({"one": {}}, self.gains(tip({}), [one], {3}, vendored=True).own)

    def test_stacked_changes_gain_apart(self) -> None:
        one = part("one", {"t.b": {3}}, {})
        two = part("two", {"t.b": {3, 4}}, {"t.b": {3}})
        found = self.gains(tip({}), [one, two], {3, 4})
        self.assertEqual({"one": {"a.py": (3,)}, "two": {"a.py": (4,)}}, found.own)
