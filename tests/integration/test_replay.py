"""covtrack.replay on a real clone: every commit against a full run, stopped and gone on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from covtrack.replay import Replayer, Walk
from covtrack.replay_report import write_page
from covtrack.replay_results import Replay, ReplayedCommit
from tests.integration.test_tracking import TrackingCase
from venv_builder.errors import UsageError

ADDED = "\n\ndef late(number):\n    if number:\n        return 1\n    return 2\n"
CALL = "\n\n    def test_late(self):\n        self.assertEqual(2, texts.late(0))\n"


class ReplayCase(TrackingCase):
    settings: Mapping[str, object] = {}

    def setUp(self) -> None:
        super().setUp()
        self.clone.replace("sample/shapes.py", "return width * height", "return height * width")
        self.clone.commit_all("Swap")
        text = self.clone.read("sample/texts.py")
        (self.root / "sample/texts.py").write_text(f"TOP = 1\n{text}{ADDED}")
        self.clone.commit_all("Add")
        test = self.root / "sample/tests/test_texts.py"
        test.write_text(test.read_text().rstrip() + CALL)
        self.clone.commit_all("Test it")

    def replay(self, last: int = 3, **words: object) -> tuple[Replay, list[ReplayedCommit]]:
        told: list[ReplayedCommit] = []
        walk = Walk(**{"last": last, "method": "affected", "verify": None, **words})  # type: ignore[arg-type]
        replayer = Replayer(self.make_tracker(), self.project(**self.settings), walk)
        return replayer.run(lambda number, row: told.append(row)), told


class AffectedReplayTest(ReplayCase):
    def test_each_commit_equals_its_full_run(self) -> None:
        found, told = self.replay()
        self.assertEqual(list(found.commits), told)
        self.assertEqual([1, 0, 1], [row.tests_run for row in found.commits])
        self.assertEqual([3, 3, 4], [row.tests_total for row in found.commits])
        self.assertEqual((3, 3), (found.summary.verified, found.summary.identical))
        self.assertEqual((0, 0), (found.summary.false_covered, found.summary.missed))
        for row in found.commits:
            self.assertGreater(row.full_cpu_seconds or 0, 0)
        page = Path(self.root.parent / "page.html")
        write_page(found, page)
        self.assertIn("Test it", page.read_text())

    def test_goes_on_where_it_was(self) -> None:
        self.replay()
        folder = self.make_tracker().folder(self.name) / "replays" / "affected"
        state = json.loads((folder / "state.json").read_text())
        before = (folder / "commits.jsonl").read_text()
        again, _ = self.replay()
        self.assertEqual(before, (folder / "commits.jsonl").read_text())
        self.assertEqual(3, again.summary.commits)
        (folder / "state.json").write_text(json.dumps({**state, "start": "another"}))
        self.notes.clear()
        self.replay(verify=0)
        self.assertIn("The replay starts with a full run", " ".join(self.notes))

    def test_sample_verifies_as_many_as_asked(self) -> None:
        found, _ = self.replay(verify=1)
        self.assertEqual([False, True, False], [row.verified for row in found.commits])

    def test_history_that_is_too_short(self) -> None:
        error = self.assertRaises(UsageError, self.replay, last=9)
        self.assertIn("has 4 commits", str(error))

    def test_incomplete_commit_is_no_base(self) -> None:
        self.clone.commit("Break", {"sample/tests/test_bad.py": "import nowhere\n"})
        self.clone.commit("Mend", {"sample/tests/test_bad.py": None})
        found, _ = self.replay(last=2)
        self.assertEqual([False, True], [row.complete for row in found.commits])
        self.assertIn("test_bad", " ".join(found.commits[0].notes))
        self.assertIn(found.commits[0].notes[-1], self.notes)
        self.assertTrue(found.commits[1].identical)


class BranchReplayTest(ReplayCase):
    settings: Mapping[str, object] = {"branch_coverage": True}

    def test_branches_equal_those_of_full_runs(self) -> None:
        found, _ = self.replay()
        self.assertEqual((3, 3), (found.summary.verified, found.summary.identical))
        self.assertGreater(min(row.branches for row in found.commits), 0)
        self.assertEqual((0, 0), (found.summary.false_branches, found.summary.missed_branches))
        added = next(row for row in found.commits if row.subject == "Add")
        self.assertGreater(added.branches, found.commits[0].branches)


class AppendReplayTest(ReplayCase):
    def test_the_way_of_2013_is_wrong_as_soon_as_lines_move(self) -> None:
        found, _ = self.replay(method="append")
        wrong = [row for row in found.commits if row.false_covered or row.missed]
        self.assertEqual(["Add"], [row.subject for row in wrong])
        self.assertEqual((), wrong[0].explained)
