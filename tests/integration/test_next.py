"""`covtrack next` on a real clone with a history, against what the sample lacks."""

from __future__ import annotations

import json

import jsonschema

from covtrack.contract import to_json
from covtrack.next_results import Next
from covtrack.next_search import find_next
from covtrack.schemas import schemas
from tests.integration.test_tracking import TrackingCase
from venv_builder.errors import UsageError


class NextTest(TrackingCase):
    def find(self, limit: int = 9, months: int = 12) -> Next:
        return find_next(self.make_tracker(), self.project(), limit=limit, months=months)

    def test_what_changes_often_comes_first(self) -> None:
        self.clone.commit("More", {"sample/more.py": "def other():\n    return 2\n"})
        for number in (3, 4):
            self.clone.replace("sample/more.py", f"return {number - 1}", f"return {number}")
            self.clone.commit_all(f"Return {number}")
        self.clone.replace("sample/shapes.py", "SIDES =", "TOP = 1\nSIDES =")
        self.clone.commit_all("Move untested()")
        commit = self.run_job().commit
        found = self.find()
        self.assertEqual(commit, found.commit)
        other, untested = found.functions
        self.assertEqual(
            ("sample/more.py", "other", 1, 2, (2,), 3, 4, None),
            (
                *(other.path, other.name, other.first, other.last, other.missing),
                *(other.changes, other.weight, other.nearest_test),
            ),
        )
        # It came with the first commit, and only moved since.
        self.assertEqual(("untested", 1, 2), (untested.name, untested.changes, untested.weight))
        self.assertEqual(18, untested.first)
        self.assertEqual("sample.tests.test_shapes.AreaTest.test_area", untested.nearest_test)
        # The def of other() is never run: no test imports its file.
        self.assertEqual((2, 1), (found.uncovered_in_functions, found.uncovered_elsewhere))
        self.assertEqual(3, found.statements - found.covered)
        self.assertEqual((), found.unknown_files)
        jsonschema.validate(json.loads(to_json(found)), schemas()["next"])

    def test_limit_and_no_history(self) -> None:
        self.clone.commit("More", {"sample/more.py": "def other():\n    return 2\n"})
        self.run_job()
        found = self.find(limit=1, months=0)
        self.assertEqual((1, 2), (len(found.functions), found.functions_total))
        self.assertEqual([0], [function.changes for function in found.functions])

    def test_merge_counts_once(self) -> None:
        git = self.clone.repo.git
        git.checkout("-q", "-b", "topic")
        for number in (2, 3):
            self.clone.replace("sample/shapes.py", f"return {number - 1}", f"return {number}")
            self.clone.commit_all(f"Return {number}")
        git.checkout("-q", "master")
        git.merge("--no-ff", "-q", "-m", "Merge topic", "topic")
        self.run_job()
        (untested,) = self.find().functions
        self.assertEqual(2, untested.changes)  # the merge, and the first commit

    def test_never_measured(self) -> None:
        error = self.assertRaises(UsageError, self.find)
        self.assertIn("was never measured", str(error))

    def test_snapshot_that_is_gone(self) -> None:
        snapshot = self.run_job().snapshot
        snapshot.unlink()
        error = self.assertRaises(UsageError, self.find)
        self.assertIn("is gone", str(error))
