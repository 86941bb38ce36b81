"""Random histories: after every commit the affected tests alone give what a full run gives."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping

from fixtures import MonkeyPatch
from testtools.content import text_content

from jobs.results import JobResult, Select, Status
from jobs.snapshot import read_tests
from tests.edits import Editor
from tests.integration.test_affected import AffectedCase
from tests.integration.test_tracking import lines_of
from venv_builder import find_interpreters

# A longer search: COVTRACK_HISTORY=SEED:STEPS
SEED, _, STEPS = os.environ.get("COVTRACK_HISTORY", "20261123:").partition(":")

SCENARIOS = """\
import unittest

from lib import shapes


class WideTest(unittest.TestCase):
    scenario = None

    def id(self):
        name = super().id()
        return "%s(%s)" % (name, self.scenario) if self.scenario else name

    def run(self, result=None):
        if self.scenario:
            return super().run(result)
        for scenario in ("narrow", "wide"):
            test = type(self)(self._testMethodName)
            test.scenario = scenario
            test.run(result)

    def test_wide(self):
        width = 2 if self.scenario == "narrow" else 3
        self.assertTrue(shapes.Square(width).area())
"""


def outcomes_of(result: JobResult) -> dict[str, Status]:
    """All tests of a commit, run now or carried, and what came of them."""
    return {test.test: test.status for test in read_tests(result.snapshot).values()}


class HistoryTest(AffectedCase):
    """Lines: 0 that are falsely called covered, 0 missed. Outcomes: all as of a full run."""

    steps = 5

    def setUp(self) -> None:
        super().setUp()
        self.write("lib/tests/test_scenarios.py", SCENARIOS)
        self.clone.commit_all("Scenarios")
        self.measure("HEAD", Select.AFFECTED)

    def test_history(self) -> None:
        editor = Editor(self.root, random.Random(f"{SEED} {type(self).__name__}"))
        said: list[str] = []
        run = carried = 0
        for _ in range(int(STEPS or self.steps)):
            edits = [editor.edit() for _ in range(editor.chance.choice((1, 1, 2, 3)))]
            said.append("; ".join(edits))
            commit = self.clone.commit_all(said[-1])
            full = self.measure_apart(commit)
            if not full.complete:  # a test module cannot be imported: nothing is promised
                self.clone.repo.git.reset("-q", "--hard", "HEAD~")
                said[-1] += " (taken back)"
                continue
            result = self.measure(commit, Select.AFFECTED)
            self.compare(full, result, "\n".join(said))
            run, carried = run + result.tests.run, carried + result.tests.carried
            said[-1] += f" ({result.tests.run} run)"
        self.addDetail("history", text_content("\n".join(said)))
        self.assertGreater(carried, run)

    def measure_apart(self, commit: str) -> JobResult:
        """A full run as another project, so that the history rests on its own results alone."""
        name, self.name = self.name, f"{self.name}-full"
        try:
            return self.measure(commit, Select.ALL)
        finally:
            self.name = name

    def compare(self, full: JobResult, result: JobResult, said: str) -> None:
        self.assertEqual(outcomes_of(full), outcomes_of(result), said)
        self.assertEqual(lines_of(full), lines_of(result), said)
        self.assertEqual(full.measurement, result.measurement, said)


class MonitoringHistoryTest(HistoryTest):
    """The same, recorded by sys.monitoring where this machine has an interpreter with it."""

    def setUp(self) -> None:
        versions = [found.version[:2] for found in find_interpreters()]
        if max(versions) < (3, 12):
            self.skipTest("no CPython with sys.monitoring on this machine")
        self.settings = {"python": "{}.{}".format(*max(versions))}
        super().setUp()


class BranchHistoryTest(HistoryTest):
    """Branches: the same, recorded by coverage.py."""

    settings: Mapping[str, object] = {"branch_coverage": True}


class PatchSetHistoryTest(HistoryTest):
    """Patch sets of one change on a branch that moves, each resting on the one before it."""

    steps = 3

    def setUp(self) -> None:
        self.useFixture(MonkeyPatch("jobs.choosing.WORTH_ASKING", -1.0))
        self.useFixture(MonkeyPatch("jobs.choosing.is_cheaper", lambda *_: True))
        super().setUp()

    def test_history(self) -> None:
        editor = Editor(self.root, random.Random(f"{SEED} {type(self).__name__}"))
        said: list[str] = []
        rested = 0
        git = self.clone.repo.git
        for _ in range(int(STEPS or self.steps)):
            for branch, subject in (("master", "The branch"), ("topic", "The change")):
                git.checkout("-q", "-B", branch, "master")
                said.append("; ".join(editor.edit() for _ in range(editor.chance.choice((1, 2)))))
                commit = self.clone.commit_all(subject)
                full = self.measure_apart(commit)
                if not full.complete:
                    git.reset("-q", "--hard", "HEAD~")
                    said[-1] += " (taken back)"
                    continue
                self.notes.clear()
                result = self.measure(commit, Select.AFFECTED)
                self.compare(full, result, "\n".join(said))
                rested += any("an earlier patch set" in note for note in self.notes)
                said[-1] += f" ({result.tests.run} run)"
        self.addDetail("history", text_content("\n".join(said)))
        self.assertGreater(rested, 0)


class SparingHistoryTest(HistoryTest):
    """Of the affected tests as few run as prove the lines: still no line differs.

    What becomes of a spared test is not known, so outcomes are compared of those that ran.
    """

    steps = 9

    def setUp(self) -> None:
        self.useFixture(MonkeyPatch("jobs.choosing.WORTH_SPARING", -1.0))
        self.useFixture(MonkeyPatch("jobs.proving.WORTH_CHOOSING", 2.0))
        super().setUp()

    def compare(self, full: JobResult, result: JobResult, said: str) -> None:
        ran = {outcome.test for outcome in result.outcomes}
        known = outcomes_of(full)
        wanted = {test: status for test, status in known.items() if test in ran}
        self.assertEqual(wanted, {o.test: o.status for o in result.outcomes}, said)
        self.assertEqual(known.keys(), outcomes_of(result).keys(), said)
        self.assertEqual(lines_of(full), lines_of(result), said)
        self.assertEqual(full.measurement, result.measurement, said)


class SparingBranchHistoryTest(SparingHistoryTest):
    """The same with branches."""

    settings: Mapping[str, object] = {"branch_coverage": True}
