"""A change that reaches more tests than its budget: real runs on a real clone."""

from __future__ import annotations

from collections.abc import Mapping

from covtrack.prospect import Prospector
from covtrack.tracking import Order
from jobs.results import JobResult, Kind, Provisional, Select
from jobs.snapshot import read_executed
from tests.integration.test_tracking import TrackingCase, lines_of
from tests.sample_project import STEPS_FILES, SampleClone

FILES: Mapping[str, str] = {
    **STEPS_FILES,
    "lib/tests/test_near.py": """\
        import unittest

        from lib.steps import step


        class NearTest(unittest.TestCase):
            def test_one(self):
                step(1)

            def test_two(self):
                step(2)
        """,
    "lib/tests/test_far.py": """\
        import time
        import unittest

        from lib import steps


        class FarTest(unittest.TestCase):
            def test_far(self):
                time.sleep(1.7)  # the quickest of a class stands for it: never this one
                steps.step(200)

            def test_farther(self):
                time.sleep(1.5)
                steps.step(300)
        """,
}
STEPS = "lib/steps.py"
BUDGET = 1.0  # more than both near tests took, less than any far one


class BudgetTest(TrackingCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = self.root.with_name("lib-clone")
        self.clone = SampleClone(self.root, FILES)
        self.base = self.run_job("HEAD", Select.ALL)
        self.clone.repo.git.checkout("-q", "-b", "topic")

    def measure(
        self,
        revision: str = "topic",
        *,
        budget: float | None = BUDGET,
        select: Select | None = None,
    ) -> JobResult:
        order = Order(revision=revision, select=select, budget=budget)
        return self.make_tracker().run(self.project(), order)

    def change(self, old: str = "value * 2", new: str = "value * 3") -> str:
        self.clone.replace(STEPS, old, new)
        return self.clone.commit_all("Edit")

    def ran(self, result: JobResult) -> set[str]:
        return {outcome.test.rpartition(".")[2] for outcome in result.outcomes}

    def full(self) -> JobResult:
        name, self.name = self.name, f"{self.name}-full"
        full = self.measure(budget=None, select=Select.ALL)
        self.name = name
        return full

    def open_of(self, result: JobResult) -> Provisional:
        assert result.provisional is not None
        self.assertFalse(result.complete)
        return result.provisional

    def check_claims(self, provisional: JobResult, final: JobResult) -> None:
        """Covered stays covered, and what is neither covered nor undecided stays so."""
        undecided = self.open_of(provisional).undecided
        for path, (_, missing) in lines_of(provisional).items():
            still = set(lines_of(final)[path][1])
            self.assertLessEqual(still, set(missing))
            self.assertLessEqual(set(missing) - still, set(undecided.get(path, ())))

    def test_the_cheap_proof_first_and_what_is_open_is_told(self) -> None:
        self.change()
        result = self.measure()
        self.assertEqual({"test_one", "test_two"}, self.ran(result))
        told = self.open_of(result)
        self.assertEqual((BUDGET, 4, 2), (told.budget, told.tests_affected, told.tests_run))
        self.assertEqual((2, 0), (told.tests_left, told.ways_left))
        self.assertTrue(3 <= told.seconds_left < 6, told.seconds_left)
        # The return to far() and two lines of it hang on the dear tests; its third never ran.
        self.assertEqual({STEPS: (4, 13, 15)}, dict(told.undecided))
        self.assertEqual((7, (4, 13, 14, 15)), (11 - 4, lines_of(result)[STEPS][1]))
        self.assertFalse(read_executed(result.snapshot)[STEPS].lines & {4, 13, 15})

    def test_the_final_result_equals_a_full_run(self) -> None:
        self.change()
        first, final, full = self.measure(), self.measure(budget=None), self.full()
        self.assertTrue(final.complete)
        self.assertEqual(full.measurement, final.measurement)
        self.assertEqual(self.base.commit, final.base)
        self.check_claims(first, final)
        again = self.measure()
        self.assertEqual((0, True), (again.tests.run, again.complete))

    def test_enough_of_a_budget_changes_nothing(self) -> None:
        self.change()
        result = self.measure(budget=60.0)
        self.assertIsNone(result.provisional)
        self.assertTrue(result.complete)
        self.assertEqual(self.full().measurement, result.measurement)

    def test_what_suffices_within_the_budget_is_final(self) -> None:
        self.change()
        result = self.measure(budget=2.7)  # all four take more than 3 s, one far one is enough
        self.assertIsNone(result.provisional)
        self.assertEqual((True, 2, 2), (result.complete, result.tests.run, result.tests.spared))
        self.assertEqual(self.full().measurement, result.measurement)

    def test_a_changed_test_runs_however_long_it_takes(self) -> None:
        self.clone.replace("lib/tests/test_far.py", "step(300)", "step(3000)")
        self.change()
        result = self.measure()
        self.assertIn("test_farther", self.ran(result))
        self.assertNotIn("test_far", self.ran(result))
        self.assertNotIn(14, self.open_of(result).undecided.get(STEPS, ()))
        self.check_claims(result, self.full())

    def test_a_new_line_that_only_a_test_left_comes_to_is_undecided(self) -> None:
        self.change("        return far(value)", "        value += 1\n        return far(value)")
        result = self.measure()
        assert result.patch is not None
        self.assertEqual((1, 0), (result.patch.statements, result.patch.covered))
        self.assertIn(4, self.open_of(result).undecided[STEPS])
        self.check_claims(result, self.full())

    def test_each_affected_test_where_they_all_are_to_run(self) -> None:
        self.change()
        whole = self.measure(select=Select.CHANGED)
        self.assertEqual((True, None, 0), (whole.complete, whole.provisional, whole.tests.run))
        result = self.measure(select=Select.AFFECTED_ALL)
        self.assertEqual({"test_one", "test_two"}, self.ran(result))
        told = self.open_of(result)
        self.assertEqual((4, 2, 2), (told.tests_affected, told.tests_run, told.tests_left))
        final = self.measure(select=Select.AFFECTED_ALL, budget=None)
        self.assertEqual(4, final.tests.run)
        self.check_claims(result, final)

    def test_it_is_no_base_and_its_tree_is_not_reused(self) -> None:
        first = self.measure(self.change())
        self.clone.repo.git.commit("-q", "--amend", "-m", "Other words")
        amended = self.measure()
        self.assertEqual(first.tests.run, amended.tests.run)
        self.open_of(amended)
        above = self.clone.commit("Above", {"notes.txt": "x"})
        result = self.measure(above, budget=None)
        self.assertEqual(self.base.commit, result.base)
        self.assertEqual(self.full().measurement, result.measurement)
        database = self.make_tracker().database
        run = database.find_run(self.name, first.commit)
        assert run is not None
        self.assertEqual(first.provisional, run.provisional)
        known = {run.commit for run in database.baselines(self.name, changes=True)}
        self.assertEqual({self.base.commit, above}, known)

    def test_a_merged_commit_has_no_budget(self) -> None:
        self.clone.repo.git.checkout("-q", "master")
        commit = self.change()
        self.open_of(self.measure(self.fork()))
        result = self.measure(commit)
        self.assertEqual(
            (Kind.BASELINE, True, None), (result.kind, result.complete, result.provisional)
        )

    def fork(self) -> str:
        """The commit under another message, unmerged: of the same tree as master's."""
        self.clone.repo.git.checkout("-q", "-B", "topic", "master")
        self.clone.repo.git.commit("-q", "--amend", "-m", "Not merged")
        commit: str = self.clone.repo.head.commit.hexsha
        self.clone.repo.git.checkout("-q", "master")
        return commit

    def test_what_all_changes_together_bring_is_never_provisional(self) -> None:
        commit = self.change()
        self.open_of(self.measure(commit))
        tracker = self.make_tracker()
        project = self.project(budget=BUDGET)
        prospect = Prospector(tracker, project).run((commit,))
        self.assertTrue(prospect.complete)
        full = self.full().measurement.total
        self.assertEqual(full.covered, prospect.after.covered)
        run = tracker.database.find_run(self.name, commit)
        assert run is not None
        self.assertTrue(run.complete)
