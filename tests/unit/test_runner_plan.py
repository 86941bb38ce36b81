"""jobs.runner's plans: every module once, groups whole, loads balanced."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from testtools import TestCase

from jobs.runner import WorkerPlan, plan_workers
from jobs.suite import TestModule

NAMES = st.sets(
    st.tuples(st.sampled_from("ab"), st.integers(0, 30)).map(lambda t: f"{t[0]}.test_{t[1]}"),
    min_size=1,
    max_size=20,
)
SECONDS = st.floats(0, 100, allow_nan=False)


def modules(names: set[str]) -> list[TestModule]:
    return [TestModule(name=name, path=f"{name}.py") for name in sorted(names)]


class PlanWorkersTest(TestCase):
    @given(
        names=NAMES,
        data=st.data(),
        workers=st.integers(1, 6),
        pattern=st.sampled_from([None, r"[^.]+\.", r"a\.", r"(.*)_1"]),
    )
    def test_every_module_once_and_groups_whole(
        self, names: set[str], data: st.DataObject, workers: int, pattern: str | None
    ) -> None:
        seconds = data.draw(st.dictionaries(st.sampled_from(sorted(names)), SECONDS))
        plans, alone = plan_workers(modules(names), seconds, workers=workers, group_regex=pattern)
        self.assertEqual(sorted(names), sorted(name for plan in plans for name in plan.modules))
        self.assertEqual((), alone)
        self.assertTrue(1 <= len(plans) <= workers)
        self.assertTrue(all(plan.modules for plan in plans))
        where = {name: plan for plan in plans for name in plan.modules}
        for one in names:
            for other in names:
                if pattern and group(pattern, one) == group(pattern, other) is not None:
                    self.assertEqual(where[one], where[other])

    @given(names=NAMES, data=st.data(), workers=st.integers(1, 6))
    def test_balanced_within_the_bound_of_longest_first(
        self, names: set[str], data: st.DataObject, workers: int
    ) -> None:
        seconds: Mapping[str, float] = {name: data.draw(SECONDS) for name in sorted(names)}
        plans, _ = plan_workers(modules(names), seconds, workers=workers)
        longest = max(sum(seconds[name] for name in plan.modules) for plan in plans)
        total, count = sum(seconds.values()), min(workers, len(names))
        # No schedule beats the mean or the longest module; longest-first stays near them.
        best = max(total / count, max(seconds.values()))
        self.assertLessEqual(
            longest, total / count + max(seconds.values()) * (1 - 1 / count) + 1e-6
        )
        self.assertLessEqual(longest, 2 * best + 1e-6)

    def test_unknown_modules_count_as_the_median(self) -> None:
        seconds = {"a.test_1": 1.0, "a.test_2": 10.0, "a.test_3": 100.0}
        names = {*seconds, "a.test_new"}
        plans, _ = plan_workers(modules(names), seconds, workers=2)
        self.assertEqual(
            {("a.test_3",), ("a.test_1", "a.test_2", "a.test_new")},
            {plan.modules for plan in plans},
        )

    def test_serial_tests_run_alone_afterwards(self) -> None:
        plans, alone = plan_workers(
            modules({"a.test_1", "a.test_2"}), {}, workers=2, serial=("functional",)
        )
        self.assertEqual([("functional",)] * 2, [plan.avoid for plan in plans])
        expected = WorkerPlan(modules=("a.test_1", "a.test_2"), match=("functional",))
        self.assertEqual((expected,), alone)

    def test_nothing_to_run(self) -> None:
        self.assertEqual(((), ()), plan_workers([], {}, workers=4, serial=("x",)))


def group(pattern: str, name: str) -> str | None:
    match = re.match(pattern, f"{name}.")
    return match[0] if match else None
