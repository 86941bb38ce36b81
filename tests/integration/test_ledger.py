"""The ledger on a real clone whose one line runs by chance: what is learnt, what is said."""

from __future__ import annotations

import os
import shutil
import tempfile

from sqlalchemy import Connection, update

from covtrack.gerrit.policy import decide
from covtrack.gerrit.settings import ReviewSettings
from covtrack.learning import settle
from covtrack.ledger import verify_run
from covtrack.store import ledgering
from covtrack.store.schema import files
from covtrack.store.values import LedgerEntry, WaveringLine
from jobs.project import ProjectSettings
from jobs.results import JobResult, Select
from tests.integration.test_tracking import TrackingCase
from venv_builder.errors import UsageError

# 100 for the figure in docs/ledger.rst; so many, for less than a minute, in CI.
CHANGES = int(os.environ.get("COVTRACK_TEST_CHANGES", "20"))
# Chance that can be told: the first run takes the line, later ones by the bits of a digest.
TOSS = """\
    import hashlib
    import pathlib


    def toss(place):
        count = pathlib.Path(place, "count")
        number = int(count.read_text()) if count.exists() else 0
        count.write_text(str(number + 1))
        side = "tails"
        if number == 0 or hashlib.sha256(str(number).encode()).digest()[0] % 2:
            side = "heads"
        return side
    """
TEST = """\
    import unittest

    from sample import chance


    class TossTest(unittest.TestCase):
        def test_toss(self):
            self.assertIn(chance.toss({place!r}), ("heads", "tails"))
    """


class LedgerCase(TrackingCase):
    branches = False

    def setUp(self) -> None:
        super().setUp()
        self.place = tempfile.mkdtemp(prefix="chance-")
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)
        test = TEST.format(place=self.place)
        self.clone.commit("Toss", {"sample/chance.py": TOSS, "sample/tests/test_chance.py": test})

    def project(self, **settings: object) -> ProjectSettings:
        branches = {"branch_coverage": True} if self.branches else {}
        return super().project(writable=[self.place], **branches, **settings)

    def known(self) -> tuple[WaveringLine, ...]:
        database = self.make_tracker().database
        return database.read(lambda connection: ledgering.read_lines(connection, self.name))

    def verify(self, commit: str | None = None) -> LedgerEntry:
        return verify_run(self.make_tracker(), self.project(), commit)


class LearningTest(LedgerCase):
    def test_no_op_changes_give_no_false_regression(self) -> None:
        """Each runs all tests, and flips the line or not; without what is learnt, some would."""
        self.run_job()
        text = self.clone.read("sample/shapes.py")
        raw = settled = 0
        for number in range(CHANGES):
            self.clone.repo.git.checkout("-q", "-B", "topic", "master")
            commit = self.clone.commit(
                f"Comment {number}", {"sample/shapes.py": f"# {number}\n{text}"}
            )
            result = self.run_job(commit, Select.ALL)
            raw += self.is_held_against(result)
            settled += self.is_held_against(settle(self.make_tracker(), result)[0])
        self.assertEqual(0, settled)
        self.assertGreater(raw, 0)
        (line,) = self.known()
        self.assertEqual(('side = "heads"', "toss"), (line.name.text, line.name.function))

    def is_held_against(self, result: JobResult) -> bool:
        """Whether the change, of which no statement is its own, is said to lose coverage."""
        assert result.complete, result.faults
        assert result.patch is not None
        decision = decide(result, (), ReviewSettings())
        return not decision.passed

    def test_change_of_meaning_teaches_nothing(self) -> None:
        self.run_job()
        for number in range(3):
            self.clone.replace("sample/shapes.py", f"return {number + 1}", f"return {number + 2}")
            self.clone.commit_all("Mean something else")
            self.run_job(select=Select.ALL)
        self.assertEqual((), self.known())

    def test_line_that_moved_is_still_known(self) -> None:
        self.run_job()
        while not self.known():
            self.run_job(select=Select.ALL)
        chance = self.clone.read("sample/chance.py")
        self.clone.commit("Move", {"sample/chance.py": f"TOP = 1\n\n\n{chance}"})
        result = self.run_job(select=Select.ALL)
        _, left_out = settle(self.make_tracker(), result)
        self.assertEqual(1, left_out)


class VerifyTest(LedgerCase):
    def test_entry_of_an_identical_run(self) -> None:
        self.clone.commit("No chance", {"sample/tests/test_chance.py": None})
        commit = self.run_job().commit
        entry = self.verify()
        self.assertTrue(entry.identical)
        self.assertEqual((commit, 3, ()), (entry.commit, entry.tests, entry.held.explained))
        rows = {row.project: row for row in self.make_tracker().database.project_rows()}
        count = rows[self.name].ledger
        assert count is not None
        self.assertEqual((1, 1, 0), (count.verified, count.identical, count.unsteady))

    def test_difference_is_explained_and_learnt(self) -> None:
        self.run_job()
        for _ in range(12):
            entry = self.verify()
            if self.known():
                break
        self.assertFalse(entry.identical)
        self.assertTrue(entry.is_unsteady, entry.held)
        self.assertEqual({"sample/chance.py"}, {line.path for line in entry.held.explained})
        for _ in range(12):  # the next difference is known, and costs no more full runs
            self.notes.clear()
            entry = self.verify()
            if not entry.identical:
                break
        self.assertIn("known", entry.held.explained[0].why)
        self.assertEqual(1, sum("for the ledger" in note for note in self.notes))

    def test_branches_are_compared_where_they_are_known(self) -> None:
        self.clone.commit("No chance", {"sample/tests/test_chance.py": None})
        self.branches = True
        self.run_job()
        entry = self.verify()
        self.assertTrue(entry.identical, entry.held)
        self.assertEqual(4, entry.branches)
        (run,) = self.make_tracker().database.runs_of(self.name)

        def forget(connection: Connection) -> None:
            connection.execute(update(files).values(missing_branches=None))

        self.make_tracker().database.write(forget)  # as in databases of before
        self.assertIsNone(self.verify(run.commit).branches)

    def test_commit_that_was_never_measured(self) -> None:
        error = self.assertRaises(UsageError, self.verify)
        self.assertIn("no complete run", str(error))
