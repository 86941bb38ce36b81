"""jobs.holding: what differs from a full run, line by line and branch by branch, and why."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from testtools import TestCase

from jobs.holding import CHANCE, KNOWN, MISS, ORDER, Explained, Held, Unproven, compare, hold

LINES = st.dictionaries(
    st.sampled_from(["a.py", "b.py"]),
    st.lists(st.integers(1, 6), unique=True).map(lambda lines: tuple(sorted(lines))),
)


def lines(*numbers: int) -> Unproven:
    return Unproven(missing={"a.py": numbers})


class HoldTest(TestCase):
    def test_both_directions(self) -> None:
        ours = {"a.py": (1, 2), "b.py": (9,)}
        full = {"a.py": (2, 3), "c.py": (4,)}
        self.assertEqual(({"a.py": (3,)}, {"a.py": (1,)}), compare(ours, full))

    def test_branches_that_differ_are_explained(self) -> None:
        def branches(*pairs: tuple[int, int]) -> Unproven:
            return Unproven(missing={}, missing_branches={"a.py": pairs})

        ours, full = branches((1, 2), (5, -4)), branches((1, 3), (7, 8))
        again = branches((1, 3), (5, -4))
        held = hold(ours, full, lambda workers: full if workers else again)
        self.assertEqual({"a.py": ((1, 3), (7, 8))}, held.false_branches)
        self.assertEqual({"a.py": ((1, 2), (5, -4))}, held.missed_branches)
        whys = {(one.line, one.to): one.why for one in held.explained}
        self.assertEqual(
            {(1, 3): MISS, (1, 2): MISS, (7, 8): CHANCE, (5, -4): CHANCE},
            whys,
        )
        self.assertEqual({"1->3", "7->8", "1->2", "5->exit"}, {o.where for o in held.explained})

    def test_what_depends_on_the_company(self) -> None:
        held = hold(lines(1), lines(), lambda workers: lines(1) if workers else lines())
        expected = Explained(path="a.py", line=1, kind="missed", why=ORDER)
        self.assertEqual((expected,), held.explained)

    def test_full_runs_are_made_once_and_only_where_they_tell(self) -> None:
        asked: list[int | None] = []

        def rerun(workers: int | None) -> Unproven:
            asked.append(workers)
            return lines()

        self.assertEqual(Held(), hold(lines(3), lines(3), rerun))
        held = hold(lines(4), lines(5), rerun, {"a.py": (4, 5)})
        self.assertEqual({KNOWN}, {one.why for one in held.explained})
        self.assertEqual([], asked)
        hold(lines(1, 2, 4), lines(5), rerun, {"a.py": (4, 5)})
        self.assertEqual([None, 1], asked)

    @settings(max_examples=50)
    @given(LINES, LINES, LINES, LINES)
    def test_every_difference_has_a_reason_and_nothing_else_has(
        self,
        ours: dict[str, tuple[int, ...]],
        full: dict[str, tuple[int, ...]],
        again: dict[str, tuple[int, ...]],
        alone: dict[str, tuple[int, ...]],
    ) -> None:
        def rerun(workers: int | None) -> Unproven:
            return Unproven(missing=alone if workers else again)

        held = hold(Unproven(missing=ours), Unproven(missing=full), rerun)
        both = ours.keys() & full.keys()
        differ = {(p, n) for p in both for n in {*ours[p]} ^ {*full[p]}}
        self.assertEqual(differ, {(one.path, one.line) for one in held.explained})
        self.assertEqual(not differ, held.identical)
        self.assertEqual(held, hold(Unproven(missing=ours), Unproven(missing=full), rerun))
