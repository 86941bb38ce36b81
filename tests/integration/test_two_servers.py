"""One `covtrack serve` on two real Gerrit servers, whose changes have the same numbers.

One is of the newest release, where this machine has a Java for it.
"""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path
from textwrap import dedent
from time import monotonic
from typing import ClassVar

from covtrack.gerrit.client import GerritClient
from covtrack.gerrit.local_parts import missing_parts
from covtrack.gerrit.values import ChangeInfo, ReviewMessage
from covtrack.store import inbox
from covtrack.store.queued import Job, JobKind, JobState, VerdictState
from tests.gerrit_fixture import NEWEST, RealGerrit, own_gerrit
from tests.integration.test_serving import TAG, UNTESTED, ServeCase
from tests.sample_project import FILES
from tests.scratch_git import ScratchRepository

SHAPES = dedent(FILES["sample/shapes.py"])
TABLES = """
{server}
[projects."{project}"]
git = "{git}"
gerrit = "other"
branch = "master"
constraints = "none"
"""


class TwoServersTest(ServeCase):
    other: ClassVar[RealGerrit]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        newest = NEWEST if missing_parts(NEWEST) is None else None
        cls.other = own_gerrit(cls, "other", newest)

    @classmethod
    def find_gerrit(cls) -> RealGerrit:
        return own_gerrit(cls)

    def setUp(self) -> None:
        super().setUp()
        self.theirs = f"theirs-{secrets.token_hex(4)}"
        self.other.create_project(self.theirs)
        self.their_url = self.other.clone_url(self.theirs)
        clone = ScratchRepository(self.folder / "theirs")
        clone.git("pull", "-q", self.their_url, "master")
        clone.commit({name: dedent(text) for name, text in FILES.items()}, "Begin")
        clone.git("push", "-q", self.their_url, "HEAD:refs/heads/master")
        self.their_client = GerritClient(self.other.server)
        with self.config.open("a") as file:
            table = self.other.table()
            file.write(TABLES.format(server=table, project=self.theirs, git=self.their_url))

    def push_there(self, subject: str) -> ChangeInfo:
        """A change on the other server."""
        change_id = f"I{secrets.token_hex(20)}"
        text = SHAPES + UNTESTED.replace("unused", subject.lower())
        self.other.push(self.theirs, change_id, {"sample/shapes.py": text}, subject)
        (found,) = self.their_client.changes(f"change:{change_id}")
        return found

    def push_here(self, subject: str) -> ChangeInfo:
        """A change on the case's own server."""
        text = SHAPES + UNTESTED.replace("unused", subject.lower())
        return self.push(f"I{secrets.token_hex(20)}", subject, shapes=text)

    def level_numbers(self) -> None:
        """Bring both servers to one next change number, by changes that nobody measures."""
        here, there = self.push_here("Zero").number, self.push_there("Zero").number
        behind, times = (self.other if here > there else self.gerrit), abs(here - there)
        project = f"numbers-{secrets.token_hex(4)}"
        behind.create_project(project)
        clone = ScratchRepository(Path(tempfile.mkdtemp(dir=self.folder)) / "clone")
        clone.git("pull", "-q", behind.clone_url(project), "master")
        for number in range(times):
            text = f"Number {number}\n\nChange-Id: I{secrets.token_hex(20)}"
            clone.commit({"NOTES": str(number)}, text)
        if times:
            clone.git("push", "-q", behind.clone_url(project), "HEAD:refs/for/master")

    def their_verdicts(self, info: ChangeInfo) -> list[ReviewMessage]:
        messages = self.their_client.messages(info.number)
        return [message for message in messages if (message.tag or "").startswith(TAG)]

    def log(self) -> str:
        return (self.folder / "serve.log").read_text()

    def watermarks(self) -> dict[str, int | None]:
        return {name: self.watermark(name) for name in ("real", "other")}

    def watermark(self, server: str) -> int | None:
        return self.database.read(lambda connection: inbox.read_watermark(connection, server))

    def test_each_change_hears_of_itself_alone(self) -> None:
        self.level_numbers()
        self.start()
        self.wait(lambda: self.log().count("listening") >= 2)
        here, there = self.push_here("First"), self.push_there("Second")
        self.assertEqual(here.number, there.number)
        (ours,) = self.wait_for_verdicts(here)
        (theirs,) = self.wait(lambda: self.their_verdicts(there))
        self.assertIn("of 7 statements", ours.text)
        self.assertIn("of 7 statements", theirs.text)
        self.wait(self.is_idle)
        jobs = {(job.server, job.project) for job in self.jobs() if job.change == here.number}
        self.assertEqual({("real", self.project), ("other", self.theirs)}, jobs)
        self.assertEqual((1, 1), (len(self.verdicts(here)), len(self.their_verdicts(there))))

    def test_one_that_hangs_holds_no_other_up(self) -> None:
        self.start()
        self.wait(lambda: self.log().count("listening") >= 2)
        first = self.push_there("First")
        self.wait(lambda: self.their_verdicts(first))
        self.wait(self.is_idle)
        second = self.push_there("Second")
        self.wait(lambda: self.job_there(second))
        with self.other.hanging():
            here = self.push_here("Meanwhile")
            begun = monotonic()
            self.assertEqual(1, len(self.wait_for_verdicts(here)))
            self.assertLess(monotonic() - begun, 30)  # a request to the other waits as long
            self.assertEqual([], self.posted_there(second))
        self.wait(lambda: self.their_verdicts(second))
        self.wait(self.is_idle)
        self.assertEqual(1, len(self.their_verdicts(second)))

    def job_there(self, info: ChangeInfo) -> Job | None:
        found = (job for job in self.jobs() if job.server == "other")
        return next((job for job in found if job.change == info.number), None)

    def posted_there(self, info: ChangeInfo) -> list[Job]:
        """Its job, if the database holds its verdict for posted."""
        job = self.job_there(info)
        return [job] if job and job.verdict is VerdictState.POSTED else []

    def test_one_goes_on_while_the_other_is_away_and_nothing_is_lost(self) -> None:
        self.start()
        self.wait(lambda: self.log().count("listening") >= 2)
        before = self.push_there("Before")
        self.wait(lambda: self.their_verdicts(before))
        self.wait(self.is_idle)
        self.other.stop()
        here = self.push_here("Meanwhile")
        self.assertEqual(1, len(self.wait_for_verdicts(here)))
        self.kill()
        self.other.restart()
        missed = [self.push_there("Missed")]
        also_here = self.push_here("Here")
        marks = self.watermarks()
        self.start()
        self.wait(lambda: all(map(self.their_verdicts, missed)))
        self.wait_for_verdicts(also_here)
        self.wait(self.is_idle)
        for info in (before, *missed):
            self.assertEqual(1, len(self.their_verdicts(info)), info.subject)
        for info in (here, also_here):
            self.assertEqual(1, len(self.verdicts(info)), info.subject)
        changes = [job for job in self.jobs() if job.kind is JobKind.CHANGE]
        self.assertEqual([JobState.DONE] * 4, [job.state for job in changes])
        self.assertEqual([VerdictState.POSTED] * 4, [job.verdict for job in changes])
        later = self.watermarks()
        self.assertNotEqual(marks["other"], later["other"])
        self.assertNotEqual(later["real"], later["other"])
