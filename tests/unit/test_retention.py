"""covtrack.retention: which snapshots the policy keeps."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from testtools import TestCase

from covtrack.retention import Keep, Needed, choose_kept
from covtrack.store.values import StoredRun
from jobs.results import Kind
from tests.samples import NOON, make_stored

NOTHING = Needed()


def run(number: int, *, days: int = 0, **values: Any) -> StoredRun:
    """A baseline whose commit and measurement are so many days before noon."""
    at = NOON - timedelta(days=days)
    known: dict[str, Any] = {
        "run_id": number,
        "commit": f"{number:040x}",
        "snapshot": f"s/{number}",
        "kind": Kind.BASELINE,
        "committed_at": at,
        "measured_at": at,
        "base": None,
    }
    return replace(make_stored(), **(known | values))


class RetentionTest(TestCase):
    def kept(self, runs: list[StoredRun], needed: Needed = NOTHING, **keep: int) -> set[int]:
        return set(choose_kept(runs, Keep(**keep), needed, NOON))

    def test_newest_baselines_of_each_branch(self) -> None:
        runs = [run(n, days=n) for n in range(1, 6)]
        runs += [run(n, days=n, branch="stable") for n in range(11, 16)]
        self.assertEqual({1, 2, 11, 12}, self.kept(runs, baselines=2, weeks=0))

    def test_one_of_each_week_before(self) -> None:
        """NOON is a Monday; two of the third week before, the newer one stays."""
        runs = [run(1), run(2, days=16), run(3, days=18), run(4, days=25)]
        self.assertEqual({1, 2, 4}, self.kept(runs, baselines=1, weeks=9))
        self.assertEqual({1, 2}, self.kept(runs, baselines=1, weeks=1))

    def test_changes_of_late_and_open_ones(self) -> None:
        old, late, open_one = (
            run(number, days=days, kind=Kind.CHANGE) for number, days in ((1, 90), (2, 3), (3, 90))
        )
        needed = Needed(commits=frozenset({open_one.commit}))
        self.assertEqual({2, 3}, self.kept([old, late, open_one], needed))

    def test_what_a_kept_change_rests_on(self) -> None:
        far, below = run(1, days=900), run(2, days=800, kind=Kind.CHANGE, base=f"{1:040x}")
        top = run(3, kind=Kind.CHANGE, base=below.commit)
        newer = [run(number, days=number) for number in range(10, 14)]
        self.assertEqual({1, 2, 3, 10}, self.kept([far, below, top, *newer], baselines=1, weeks=0))

    def test_older_run_of_the_same_commit_goes(self) -> None:
        commit = "c" * 40
        runs = [run(1, commit=commit), run(2, commit=commit)]
        self.assertEqual({2}, self.kept(runs))
        needed = Needed(paths=frozenset({"s/1"}))
        self.assertEqual({1, 2}, self.kept(runs, needed))

    def test_incomplete_and_unusable_ones_take_no_place(self) -> None:
        runs = [run(1, complete=False), run(2, usable=False), run(3, days=9)]
        self.assertEqual({3}, self.kept(runs, baselines=1, weeks=0))

    @settings(max_examples=100)
    @given(
        days=st.lists(st.integers(0, 400), min_size=1, max_size=30, unique=True),
        baselines=st.integers(1, 9),
        weeks=st.integers(0, 60),
    )
    def test_any_history(self, days: list[int], baselines: int, weeks: int) -> None:
        """The newest are kept, never more than asked, and twice is as once."""
        runs = [run(number, days=age) for number, age in enumerate(days)]
        kept = self.kept(runs, baselines=baselines, weeks=weeks)
        by_age = sorted(runs, key=lambda one: one.committed_at, reverse=True)
        self.assertTrue({one.run_id for one in by_age[:baselines]} <= kept)
        self.assertTrue(len(kept) <= baselines + weeks)
        left = [one for one in runs if one.run_id in kept]
        self.assertTrue(self.kept(left, baselines=baselines, weeks=weeks) <= kept)
        self.assertTrue(
            {one.run_id for one in by_age[:baselines]}
            <= self.kept(left, baselines=baselines, weeks=weeks)
        )
