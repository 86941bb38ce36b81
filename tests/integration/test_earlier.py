"""A patch set that rests on the one before it: less runs, and no line differs."""

from __future__ import annotations

from collections.abc import Mapping

from fixtures import MonkeyPatch

from covtrack.prospect import Prospector
from jobs.results import JobResult, Select
from jobs.selection import Selection
from jobs.snapshot import TestRecord
from tests.integration.test_affected import AffectedCase
from tests.integration.test_tracking import lines_of

NAME = "        return type(self).__name__\n"
UNIT = "def unit():\n"
PLAIN = "def plain(name):\n"


def count_tests(selection: Selection, known: Mapping[str, TestRecord]) -> float:
    """In place of their seconds, which are those of one machine."""
    return sum(test in known for test in selection.reasons)


class EarlierPatchSetTest(AffectedCase):
    """The change alters what many tests run; the branch goes on elsewhere."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(MonkeyPatch("jobs.choosing.WORTH_ASKING", -1.0))
        self.useFixture(MonkeyPatch("jobs.choosing.seconds_of", count_tests))
        self.useFixture(MonkeyPatch("jobs.choosing.MUCH_LESS", 1.0))
        self.git = self.clone.repo.git
        self.git.checkout("-q", "-b", "topic")
        self.first = self.amend("lib/shapes.py", "self.width = width", "self.width = width + 0")

    def amend(self, path: str, old: str, new: str) -> JobResult:
        """A patch set of the change, measured."""
        self.clone.replace(path, old, new)
        return self.measure(self.clone.commit_all("The change"), Select.AFFECTED)

    def move_branch(self, path: str, old: str, new: str) -> JobResult:
        """A commit on the branch, measured."""
        self.git.checkout("-q", "master")
        self.clone.replace(path, old, new)
        return self.measure(self.clone.commit_all("The branch"), Select.AFFECTED)

    def rebase(self) -> str:
        """The change on the branch's tip, as Gerrit's button does it; its sha."""
        self.git.checkout("-q", "-B", "rebased", "master")
        self.git.cherry_pick(self.first.commit)
        return str(self.git.rev_parse("HEAD"))

    def check_full(self, result: JobResult) -> None:
        name, self.name = self.name, f"{self.name}-full"
        full = self.measure(result.commit, Select.ALL)
        self.name = name
        self.assertEqual(lines_of(full), lines_of(result))
        self.assertEqual(full.patch, result.patch)

    def test_a_rebase_over_what_its_tests_do_not_run(self) -> None:
        self.assertGreater(self.first.tests.run, 0)
        tip = self.move_branch("lib/texts.py", '"hello "', '"hullo "')
        rebased = self.measure(self.rebase(), Select.AFFECTED)
        self.assertEqual([], [o.test for o in rebased.outcomes if "shapes" in o.test])
        self.assertIn("an earlier patch set", " ".join(rebased.notes))
        self.assertEqual(tip.commit, rebased.base)
        assert rebased.before
        self.assertEqual(tip.measurement.total, rebased.before.total)
        self.assertIn(self.first.commit, rebased.carried)
        self.check_full(rebased)

    def test_a_rebase_over_much_rests_on_the_branch(self) -> None:
        self.git.checkout("-q", "master")
        for path, old, new in (
            ("lib/base.py", NAME, f"        print(end='')\n{NAME}"),
            ("lib/base.py", "return 0", "return 0 + 0"),
            ("lib/texts.py", '"hello "', '"hullo "'),
            ("lib/files.py", "return 1", "return 2 - 1"),
        ):
            self.clone.replace(path, old, new)
        self.measure(self.clone.commit_all("The branch"), Select.AFFECTED)
        rebased = self.measure(self.rebase(), Select.AFFECTED)
        self.assertEqual((), rebased.notes)
        self.check_full(rebased)

    def test_an_amendment_elsewhere(self) -> None:
        again = self.amend("lib/texts.py", '"hello "', '"hullo "')
        self.assertTrue(all("texts" in outcome.test for outcome in again.outcomes))
        self.assertEqual(self.first.commit, again.base)  # a commit on top of it, here

    def test_what_ran_for_it_earlier_counts_as_its_own(self) -> None:
        """Prospective coverage takes the rows of tests that ran at the patch set before."""
        self.move_branch("lib/shapes.py", UNIT, f"def unused():\n    return 1\n\n\n{UNIT}")
        self.git.checkout("-q", "-B", "topic", "master")
        area = "        self.assertEqual(0, shapes.Circle().area())\n"
        self.clone.replace("lib/tests/test_shapes.py", area, f"{area}        shapes.unused()\n")
        self.first = self.measure(self.clone.commit_all("Test more"), Select.AFFECTED)
        tip = self.move_branch("lib/texts.py", PLAIN, f"def other():\n    return 1\n\n\n{PLAIN}")
        rebased = self.measure(self.rebase(), Select.AFFECTED)
        self.assertEqual((0, 1), (rebased.tests.run, rebased.carried[self.first.commit]))
        found = Prospector(self.make_tracker(), self.project()).run((rebased.commit,), fetch=False)
        (own,) = found.changes
        covered = tip.measurement.total.covered + 1
        self.assertEqual((1, covered), (own.gain, found.after.covered))
        self.assertEqual(covered, rebased.measurement.total.covered)
