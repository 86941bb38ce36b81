"""Tells a test that its company makes fail from one that fails by itself.

A test that fails here and passed in the base is run once more alone and once more with its
module. If it passes either way, only the company differs. If it fails both ways, it is tried
alone at the base's commit: failing there too, though the base passed it, shows the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from jobs.faults import company_fault
from jobs.outcomes import read_outcomes
from jobs.results import Fault, Status
from jobs.runner import Runner, WorkerPlan

# A change that breaks more tests than this at once is not a matter of company.
MOST_SUSPECTS = 10


@dataclass(frozen=True, kw_only=True)
class Company:
    """How to run a test again: in which tree, of which module, and for how long.

    `base_root` lays out the base's commit when it is called; None where there is no base.
    """

    runner: Runner
    module_of: Mapping[str, str]
    base_root: Callable[[], Path | None]
    timeout: float

    def passes(self, test: str, *, alone: bool) -> bool:
        """Whether the test passes alone, or within its module, in this commit's tree."""
        return _passes(self.runner, self.module_of[test], test, self.timeout, alone=alone)

    def passes_at_base(self, test: str) -> bool | None:
        """Whether the test passes alone at the base's commit; None if that cannot be tried."""
        runner = self._runner_at_base
        if runner is None:
            return None
        return _passes(runner, self.module_of[test], test, self.timeout, alone=True)

    @cached_property
    def _runner_at_base(self) -> Runner | None:
        """One for all tests: it numbers the folders in which they run."""
        root = self.base_root()
        if root is None:
            return None
        around = self.runner.surroundings
        path = around.variables["PYTHONPATH"].replace(str(around.root), str(root))
        at_base = replace(around, root=root, variables={**around.variables, "PYTHONPATH": path})
        return Runner(self.runner.folder / "base", at_base, self.runner.listener)


def tell_company_apart(suspects: Sequence[str], company: Company) -> dict[str, Fault]:
    """The company faults among tests that fail now and passed in the base, by test id."""
    if len(suspects) > MOST_SUSPECTS:
        return {}
    found = {test: _judge(test, company) for test in suspects if test in company.module_of}
    return {test: fault for test, fault in found.items() if fault is not None}


def _judge(test: str, company: Company) -> Fault | None:
    if company.passes(test, alone=True):
        return company_fault(test, "passes when it runs alone")
    if company.passes(test, alone=False):
        return company_fault(test, "passes when its module runs by itself")
    if company.passes_at_base(test) is False:
        return company_fault(
            test, "passed in the base's run, and failed alone at the base's commit too"
        )
    return None


def _passes(runner: Runner, module: str, test: str, timeout: float, *, alone: bool) -> bool:
    only = (test,) if alone else None
    plan = WorkerPlan(modules=(module,), only=only, record=False)
    (result,) = runner.run([plan], timeout=timeout)
    statuses = [o.status for o in read_outcomes([result.stream]) if o.test == test]
    good = (Status.PASSED, Status.SKIPPED, Status.EXPECTED_FAILURE)
    return bool(statuses) and all(status in good for status in statuses)
