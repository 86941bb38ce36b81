"""`covtrack serve` on a real Gerrit: what became of changes while it was down is found after."""

from __future__ import annotations

import secrets
from textwrap import dedent

from covtrack.gerrit.values import ChangeInfo
from covtrack.store.queued import JobKind
from tests.integration.test_serving import UNTESTED, ServeCase
from tests.sample_project import FILES

SHAPES = dedent(FILES["sample/shapes.py"])


class MissedTest(ServeCase):
    def push_change(self, subject: str) -> ChangeInfo:
        text = SHAPES + UNTESTED.replace("unused", subject.lower())
        return self.push(f"I{secrets.token_hex(20)}", subject, shapes=text)

    def post(self, info: ChangeInfo, action: str) -> None:
        """What its owner does to a change."""
        self.gerrit.request("POST", f"changes/{info.number}/{action}", {})

    def test_restored_shown_and_rechecked(self) -> None:
        restored, shown, hidden, rechecked = map(
            self.push_change, ("Restored", "Shown", "Hidden", "Rechecked")
        )
        self.post(restored, "abandon")
        self.post(shown, "wip")
        self.start()
        self.wait_for_verdicts(hidden)
        self.wait_for_verdicts(rechecked)
        said = {"message": "recheck coverage"}
        path = f"changes/{rechecked.number}/revisions/current/review"
        self.gerrit.request("POST", path, said)
        self.wait(lambda: len(self.verdicts(rechecked)) == 2)
        self.wait(self.is_idle)
        self.stop()
        self.assertEqual([[], []], [self.verdicts(restored), self.verdicts(shown)])
        self.post(restored, "restore")
        self.post(shown, "ready")
        self.post(hidden, "private")
        last = self.push_change("Last")
        self.start()
        for info in (restored, shown, last):
            self.wait_for_verdicts(info)
        self.wait(self.is_idle)
        found = [len(self.verdicts(info)) for info in (restored, shown, last, hidden, rechecked)]
        self.assertEqual([1, 1, 1, 1, 2], found)
        asked = [job for job in self.jobs() if job.change == rechecked.number]
        self.assertEqual([JobKind.CHANGE] * 2, [job.kind for job in asked])
