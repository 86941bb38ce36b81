"""`covtrack serve` on a real Gerrit with a budget: a provisional verdict, then the final one."""

from __future__ import annotations

import secrets
from textwrap import dedent

from covtrack.gerrit.values import ChangeInfo
from covtrack.gerrit.verdict import FINAL, PROVISIONAL_TAG, TAG
from covtrack.store.queued import JobKind, JobState
from tests.integration.test_serving import ServeCase
from tests.sample_project import FILES, SLOW

AREA = "    return width * height\n"


class BudgetServingTest(ServeCase):
    def setUp(self) -> None:
        super().setUp()
        self.clone.commit({"sample/tests/test_slow.py": SLOW}, "Test slowly")
        self.clone.git("push", "-q", self.url, "HEAD:refs/heads/master")

    def write_settings(self) -> None:
        super().write_settings()
        text = self.config.read_text()
        self.config.write_text(
            text.replace('constraints = "none"', 'budget = "2 s"\nconstraints = "none"')
        )

    def vote(self, info: ChangeInfo) -> int:
        detail = self.gerrit.request("GET", f"changes/{info.number}/detail")
        votes = detail["labels"]["Coverage"].get("all", [])
        return sum(vote.get("value", 0) for vote in votes)

    def upload(self) -> ChangeInfo:
        shapes = dedent(FILES["sample/shapes.py"])
        assert AREA in shapes, shapes
        other = shapes.replace(AREA, AREA.replace("width * height", "height * width"))
        return self.push(f"I{secrets.token_hex(20)}", "Turn round", shapes=other)

    def check(self, info: ChangeInfo) -> None:
        """Both verdicts are there once, the second one with a vote; nothing is left to do."""
        first, second = self.verdicts(info)
        self.assertEqual([PROVISIONAL_TAG, TAG], [first.tag, second.tag])
        self.assertIn("Provisional: ", first.text)
        self.assertIn(FINAL, second.text)
        self.assertEqual(1, self.vote(info))
        jobs = [job for job in self.jobs() if job.change == info.number]
        self.assertEqual({JobKind.CHANGE, JobKind.REST}, {job.kind for job in jobs})
        self.assertEqual({JobState.DONE}, {job.state for job in jobs})
        run = self.database.find_run(self.project, info.sha)
        assert run is not None
        self.assertTrue(run.complete)

    def test_provisional_then_final(self) -> None:
        self.start()
        info = self.upload()
        (first,) = self.wait_for_verdicts(info)
        self.assertIn("Provisional: 1 of 2 affected tests ran", first.text)
        self.assertEqual((0, ()), (self.vote(info), tuple(self.client.comments(info.number))))
        self.wait(lambda: len(self.verdicts(info)) == 2 and self.is_idle())
        self.check(info)

    def test_killed_between_the_two_and_while_the_rest_runs(self) -> None:
        self.start()
        info = self.upload()
        self.wait_for_verdicts(info)
        self.kill()
        self.start()
        self.wait(lambda: any(j.kind is JobKind.REST and j.started_at for j in self.jobs()))
        self.kill()
        self.start()
        self.wait(lambda: len(self.verdicts(info)) == 2 and self.is_idle())
        self.check(info)
