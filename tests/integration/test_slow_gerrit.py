"""A Gerrit that is slow, or whose clock is not ours: told, caught up after, nothing said twice."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from fixtures import EnvironmentVariable, MonkeyPatch
from testtools import TestCase

from covtrack.gerrit.client import GerritClient
from covtrack.gerrit.listener import ServerListener
from covtrack.gerrit.playback import OVERLAP
from covtrack.gerrit.posting import NOT_SEEN, Poster
from covtrack.settings import Settings, TrackedProject
from covtrack.store import queueing
from covtrack.store.database import Database
from covtrack.store.queued import DUE, JobKind, JobState, NewJob, VerdictState
from covtrack.tracking import Tracker
from tests.fake_ssh import created, line_of
from tests.gerrit_fake import PASSWORD, PASSWORD_VARIABLE, FakeGerrit
from tests.gerrit_fixture import real_gerrit
from tests.integration.test_listener import ListenerCase
from venv_builder.progress import ignore

HOUR = 3600.0
TIMEOUT = 0.6


class SlowListenerTest(ListenerCase):
    def listen(self, **settings: Any) -> ServerListener:
        self.useFixture(MonkeyPatch("covtrack.gerrit.listener.GerritClient", quick_client))
        return super().listen(**settings)

    def test_just_below_the_timeout(self) -> None:
        number = self.push("I1")
        self.gerrit.late = TIMEOUT / 2
        self.listen(ssh=None)
        self.wait(lambda: self.known() == {number})
        self.assertEqual([], self.said)

    def test_longer_than_the_timeout(self) -> None:
        self.gerrit.late = 2 * TIMEOUT
        number = self.push("I1")
        self.listen()
        self.wait(lambda: self.said)
        self.assertIn("did not answer within 0.6 s", self.said[0])
        self.assertEqual(set(), self.known())
        self.gerrit.late = 0.0
        self.wait(lambda: self.known() == {number})


class SkewTest(ListenerCase):
    def caught_up(self, **settings: Any) -> ServerListener:
        """A listener that asked for what was missed, and has ended."""
        self.stop.clear()
        listener = self.listen(**settings)
        self.wait(lambda: listener.caught_up_at)
        self.end()
        self.threads.clear()
        return listener

    def server_now(self) -> float:
        return datetime.now(UTC).timestamp() + self.gerrit.skew

    def asked_since(self) -> str:
        """The latest search for changes after some moment."""
        return next(path for path in reversed(self.gerrit.requests) if "after" in path)

    def test_nothing_is_lost_whatever_the_clocks_say(self) -> None:
        for hours in (0.0, 5.0, -5.0, 60.0, -60.0):
            self.gerrit.skew = hours * HOUR
            number = self.push(f"I{hours}-first")
            self.caught_up()
            self.assertIn(number, self.known(), f"{hours} h")
            later = self.push(f"I{hours}-later")
            self.caught_up()
            self.assertIn(later, self.known(), f"{hours} h")

    def test_what_came_before_the_first_event(self) -> None:
        for hours in (60.0, -60.0):
            self.gerrit = FakeGerrit()
            self.gerrit.start()
            self.addCleanup(self.gerrit.stop)
            self.gerrit.create_project("p")
            self.gerrit.skew = hours * HOUR
            self.useDatabase()
            self.caught_up()
            number = self.push("I1")
            self.caught_up()
            self.assertEqual({number}, self.known(), f"{hours} h")

    def useDatabase(self) -> None:
        """A database that knows nothing of the server."""
        (self.folder / "inbox.sqlite").unlink()
        self.database = Database.open(f"sqlite:///{self.folder / 'inbox.sqlite'}")
        self.addCleanup(self.database.close)

    def test_nothing_is_asked_for_again_and_again(self) -> None:
        for hours in (5.0, -5.0):
            self.gerrit.skew = hours * HOUR
            self.push(f"I{hours}")
            self.caught_up()
            mark = self.watermark()
            assert mark is not None
            self.assertLess(abs(mark - self.server_now()), 60)
            self.caught_up()
            since = datetime.fromtimestamp(mark - OVERLAP, UTC)
            self.assertIn(f"{since:%Y-%m-%d+%H%%3A%M%%3A%S}", self.asked_since())

    def test_a_clock_that_is_put_right(self) -> None:
        self.gerrit.skew = 100 * HOUR
        self.push("I1")
        self.caught_up()
        self.gerrit.skew = 0.0
        number = self.push("I2")
        self.caught_up()
        self.assertIn(number, self.known())
        self.assertIn("its clock went back", " ".join(self.said))
        self.said.clear()
        later = self.push("I3")
        self.caught_up()
        self.assertIn(later, self.known())
        self.assertEqual([], [one for one in self.said if "clock" in one])

    def test_an_event_with_a_time_that_cannot_be(self) -> None:
        self.ssh.play(line_of(created("p", 70, 1, at=2**40)))
        listener = self.listen()
        self.wait(lambda: 70 in self.known())
        self.assertLess(self.watermark() or 0, self.server_now() + 60)
        self.end()
        self.threads.clear()
        self.ssh.play()
        number = self.push("I1")
        self.caught_up()
        self.assertIn(number, self.known())
        self.assertTrue(listener.caught_up_at)


class PostingCase(TestCase):
    """Posts what is said of a failed job, which needs no measured run."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp(prefix="posting-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.useFixture(EnvironmentVariable(PASSWORD_VARIABLE, PASSWORD))
        self.useFixture(MonkeyPatch("covtrack.gerrit.posting.FIRST_DELAY", 0.1))
        self.useFixture(MonkeyPatch("covtrack.gerrit.posting.UNSURE_SECONDS", 3 * TIMEOUT))
        self.gerrit = FakeGerrit()
        self.gerrit.start()
        self.addCleanup(self.gerrit.stop)
        self.gerrit.create_project("p")
        self.sha = self.gerrit.push("p", "I1", {"a.py": "a = 1\n"})
        self.database = Database.open(f"sqlite:///{self.folder / 'x.sqlite'}")
        self.addCleanup(self.database.close)
        self.said: list[str] = []
        self.poster = self.make_poster()
        self.job_id = self.put_failed()

    def make_poster(self) -> Poster:
        project = TrackedProject(name="p", git="/p", gerrit="fake", branch="master")
        settings = Settings(
            state=self.folder, projects={"p": project}, gerrit={"fake": self.gerrit.server}
        )
        tracker = Tracker(settings, self.database, ignore)
        return Poster(tracker, self.database, self.said.append, connect=quick_client)

    def put_failed(self) -> int:
        job = NewJob(
            server="fake",
            project="p",
            kind=JobKind.CHANGE,
            branch="master",
            change=1,
            patch_set=1,
            commit=self.sha,
            ref="refs/changes/01/1/1",
            reason="test",
        )
        values = {"state": JobState.FAILED.value, "verdict": VerdictState.PENDING.value}

        def put(connection: Any) -> int:
            job_id = queueing.put_job(connection, job, datetime.now(UTC))
            assert job_id is not None
            queueing.put_values(connection, job_id, values)
            return job_id

        return self.database.write(put)

    def posted(self) -> int:
        tags = [message.get("tag") or "" for message in self.gerrit.changes[1].messages]
        return sum(tag.startswith("autogenerated:covtrack") for tag in tags)

    def verdict(self) -> VerdictState | None:
        job = self.database.read(lambda connection: queueing.read_job(connection, self.job_id))
        assert job is not None
        return job.verdict

    def step_until_said(self, seconds: float = 20.0) -> None:
        """Until the verdict is not pending any more, then on for longer than any delay."""
        end = monotonic() + seconds
        while self.verdict() in DUE:
            assert monotonic() < end, self.said
            self.poster.step()
            sleep(0.02)
        sleep(2 * TIMEOUT)
        self.poster.step()


class SlowPostTest(PostingCase):
    def test_just_below_the_timeout(self) -> None:
        self.gerrit.slow, self.gerrit.late = TIMEOUT / 3, TIMEOUT / 3
        self.step_until_said()
        self.assertEqual((1, VerdictState.POSTED), (self.posted(), self.verdict()))
        self.assertFalse([one for one in self.said if "waits" in one])

    def test_taken_at_once_and_answered_too_late(self) -> None:
        self.gerrit.late, self.gerrit.slow_method = 2 * TIMEOUT, "POST"
        self.step_until_said()
        self.assertEqual((1, VerdictState.POSTED), (self.posted(), self.verdict()))
        (waits,) = [one for one in self.said if "waits" in one]
        self.assertIn("did not answer within 0.6 s", waits)

    def test_taken_only_after_the_timeout(self) -> None:
        self.gerrit.slow, self.gerrit.slow_method = 2 * TIMEOUT, "POST"
        self.step_until_said()
        self.assertEqual((1, VerdictState.POSTED), (self.posted(), self.verdict()))

    def test_taken_long_after_the_timeout(self) -> None:
        self.gerrit.slow, self.gerrit.slow_method = 8 * TIMEOUT, "POST"
        self.step_until_said()
        self.assertEqual((1, VerdictState.POSTED), (self.posted(), self.verdict()))
        self.assertGreater(len([one for one in self.said if NOT_SEEN in one]), 1)

    def test_killed_while_gerrit_takes_its_time(self) -> None:
        self.gerrit.slow, self.gerrit.slow_method = 2 * TIMEOUT, "POST"
        self.useFixture(MonkeyPatch("covtrack.gerrit.posting.Poster._later", lambda *_: None))
        self.poster.step()  # what it learnt is lost, as by a kill
        self.poster = self.make_poster()
        self.step_until_said()
        self.assertEqual((1, VerdictState.POSTED), (self.posted(), self.verdict()))

    def test_never_taken(self) -> None:
        self.useFixture(MonkeyPatch("covtrack.gerrit.posting.MOST_LOOKS", 3))
        self.gerrit.fail_with, self.gerrit.fail_after = "slow", 1  # the post alone
        self.poster.step()
        self.assertEqual((0, VerdictState.UNSURE), (self.posted(), self.verdict()))
        self.gerrit.fail_with = None
        self.step_until_said()
        self.assertEqual((1, VerdictState.POSTED), (self.posted(), self.verdict()))


class ChangedMeanwhileTest(PostingCase):
    """What became of the change, or of Gerrit, since its job ended."""

    def test_hidden_from_reviewers(self) -> None:
        for hidden in ({"wip": True}, {"private": True}):
            self.gerrit.hide(1, **hidden)
            self.step_until_said()
            self.assertEqual((0, VerdictState.SILENT), (self.posted(), self.verdict()))
            pending = {"verdict": VerdictState.PENDING.value}
            self.database.write(lambda c: queueing.put_values(c, self.job_id, pending))  # noqa: B023

    def test_lost_from_the_index_after_a_long_time_away(self) -> None:
        long = {"verdict_attempts": 12}
        self.database.write(lambda c: queueing.put_values(c, self.job_id, long))
        lost = self.gerrit.changes.pop(1)
        self.poster.step()
        self.assertEqual(VerdictState.PENDING, self.verdict())
        self.gerrit.changes[1] = lost
        now = {"verdict_not_before": None}
        self.database.write(lambda c: queueing.put_values(c, self.job_id, now))
        self.step_until_said()
        self.assertEqual((1, VerdictState.POSTED), (self.posted(), self.verdict()))


class ClockTest(TestCase):
    def test_of_the_fake(self) -> None:
        self.useFixture(EnvironmentVariable(PASSWORD_VARIABLE, PASSWORD))
        gerrit = FakeGerrit()
        gerrit.start()
        self.addCleanup(gerrit.stop)
        gerrit.skew = -5 * HOUR
        self.check(GerritClient(gerrit.server).clock(), gerrit.skew)

    def test_of_a_real_one(self) -> None:
        self.check(GerritClient(real_gerrit().server).clock(), 0.0)

    def check(self, clock: datetime | None, skew: float) -> None:
        assert clock is not None
        difference = clock - datetime.now(UTC) - timedelta(seconds=skew)
        self.assertLess(abs(difference.total_seconds()), 5)


def quick_client(server: Any) -> GerritClient:
    """A client that does not wait long."""
    return GerritClient(server, timeout=TIMEOUT)
