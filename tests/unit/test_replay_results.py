"""covtrack.replay_results: what differs from a full run, line by line and branch by branch."""

from __future__ import annotations

from testtools import TestCase

from covtrack.replay_results import Branches, Explained, compare_lines, hold_against
from covtrack.store.values import MISS


class ComparisonTest(TestCase):
    def test_both_directions(self) -> None:
        ours = {"a.py": (1, 2), "b.py": (9,)}
        full = {"a.py": (2, 3), "c.py": (4,)}
        self.assertEqual(({"a.py": (3,)}, {"a.py": (1,)}), compare_lines(ours, full))

    def test_branches_that_differ_are_explained(self) -> None:
        ours: Branches = {"a.py": ((1, 2), (5, -4))}
        full: Branches = {"a.py": ((1, 3), (7, 8))}
        again: Branches = {"a.py": ((1, 3), (5, -4))}

        def rerun(workers: int | None) -> Branches:
            return full if workers else again

        false_covered, missed, explained = hold_against(ours, full, rerun)
        self.assertEqual({"a.py": ((1, 3), (7, 8))}, false_covered)
        self.assertEqual({"a.py": ((1, 2), (5, -4))}, missed)
        whys = {(one.line, one.to): one.why for one in explained}
        self.assertEqual(MISS, whys[1, 3])
        self.assertEqual(MISS, whys[1, 2])
        self.assertIn("nondeterministic", whys[7, 8])
        self.assertIn("nondeterministic", whys[5, -4])

    def test_a_line_has_no_other_end(self) -> None:
        *_, explained = hold_against({"a.py": (1,)}, {"a.py": ()}, lambda workers: {"a.py": ()})
        expected = Explained(path="a.py", line=1, kind="missed", why=MISS)
        self.assertEqual((expected,), explained)
