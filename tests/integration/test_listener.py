"""covtrack.gerrit.listener: what Gerrit tells, drops, cuts or keeps to itself comes in."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from fixtures import EnvironmentVariable
from testtools import TestCase

from covtrack.dispatching import handle_events
from covtrack.gerrit.listener import ServerListener
from covtrack.gerrit.playback import Watched
from covtrack.settings import TrackedProject
from covtrack.store import inbox, queueing
from covtrack.store.database import Database
from covtrack.store.queued import ALIVE, ChangeStatus, Job, JobKind, JobState, KnownChange
from tests.fake_ssh import FakeSsh, created, line_of, storm
from tests.gerrit_fake import PASSWORD, PASSWORD_VARIABLE, FakeGerrit

SECONDS = 60.0
DROPPED = line_of({"type": "dropped-output"})
PROJECT = TrackedProject(name="p", git="/p", gerrit="fake", branch="master")


class ListenerCase(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp(prefix="listener-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.ssh = FakeSsh(self.folder)
        self.useFixture(EnvironmentVariable("PATH", self.ssh.path))
        self.useFixture(EnvironmentVariable(PASSWORD_VARIABLE, PASSWORD))
        self.gerrit = FakeGerrit()
        self.gerrit.start()
        self.addCleanup(self.gerrit.stop)
        self.gerrit.create_project("p")
        self.database = Database.open(f"sqlite:///{self.folder / 'inbox.sqlite'}")
        self.addCleanup(self.database.close)
        self.said: list[str] = []
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []
        self.addCleanup(self.end)

    def listen(self, **settings: Any) -> ServerListener:
        server = self.gerrit.server.model_copy(update={"ssh": "ssh://bot@localhost:1"} | settings)
        listener = ServerListener(
            server,
            [Watched(project="p", branches=frozenset({"master"}))],
            self.database,
            say=self.said.append,
            stop=self.stop,
            errors=self.folder / "ssh.err",
        )
        thread = threading.Thread(target=listener.run, daemon=True)
        self.threads.append(thread)
        thread.start()
        return listener

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(30)

    def push(self, change_id: str) -> int:
        """A change that the stream says nothing of; its number."""
        self.gerrit.push("p", change_id, {"a.py": "a = 1\n"})
        return max(self.gerrit.changes)

    def jobs(self) -> list[Job]:
        while handle_events(self.database, [PROJECT]):
            pass
        found = self.database.read(lambda connection: queueing.newest_jobs(connection, 20_000))
        return [job for job in found if job.kind is JobKind.CHANGE]

    def known(self) -> set[int | None]:
        return {job.change for job in self.jobs()}

    def wait(self, ask: Callable[[], object]) -> None:
        deadline = monotonic() + SECONDS
        while not ask():
            if monotonic() > deadline:
                raise AssertionError(f"waited in vain; it said {self.said}")
            sleep(0.05)

    def watermark(self) -> int | None:
        return self.database.read(lambda connection: inbox.read_watermark(connection, "fake"))


class StreamTest(ListenerCase):
    def test_events_of_the_stream(self) -> None:
        self.ssh.play(line_of(created("p", 70, 1)), b"garbage\n", line_of(created("p", 71, 1)))
        self.listen()
        self.wait(lambda: self.known() == {70, 71})
        self.wait(lambda: (self.watermark() or 0) >= 1_700_000_000)

    def test_a_line_that_is_cut(self) -> None:
        cut = line_of(created("p", 71, 1))[:60]
        self.ssh.play(line_of(created("p", 70, 1)), cut, end=True)
        self.listen()
        self.wait(lambda: any("Connection closed" in sentence for sentence in self.said))
        self.ssh.play(line_of(created("p", 71, 1)))
        self.wait(lambda: self.known() == {70, 71})
        self.assertGreater(self.ssh.connections, 1)

    def test_dropped_events_are_asked_for(self) -> None:
        listener = self.listen()
        self.wait(lambda: listener.connected)
        number = self.push("I1")
        self.assertEqual(set(), self.known())
        self.ssh.play(DROPPED)
        self.stop.set()
        self.threads.pop().join(30)
        self.stop.clear()
        self.listen()
        self.wait(lambda: self.known() == {number})

    def test_a_silent_stream_is_found_dead(self) -> None:
        listener = self.listen(silence=1.0)
        self.wait(lambda: listener.connected)
        number = self.push("I1")
        self.wait(lambda: self.known() == {number})
        self.wait(lambda: any("stream was dead" in sentence for sentence in self.said))
        self.wait(lambda: self.ssh.connections > 1)


class AwayTest(ListenerCase):
    """What became of a change while nobody listened."""

    def listen_for_a_while(self) -> None:
        listener = self.listen()
        self.wait(lambda: listener.caught_up_at)
        self.jobs()
        self.end()
        self.stop.clear()

    def change(self, number: int) -> KnownChange:
        found = self.database.read(
            lambda connection: inbox.read_change(connection, "fake", number)
        )
        assert found is not None
        return found

    def reasons(self) -> list[str]:
        """Of all jobs, oldest first; those that wait are ended, as if they were done."""
        jobs = sorted(self.jobs(), key=lambda job: job.job_id)
        done = {"state": JobState.DONE.value}
        for job in jobs:
            self.database.write(lambda c, job=job: queueing.put_values(c, job.job_id, done))  # type: ignore[misc]
        return [job.reason for job in jobs]

    def test_restored(self) -> None:
        number = self.push("I1")
        self.listen_for_a_while()
        self.gerrit.abandon(number)
        self.listen_for_a_while()
        self.assertEqual(ChangeStatus.ABANDONED, self.change(number).status)
        self.assertEqual(["patchset-created"], self.reasons())
        self.gerrit.restore(number)
        self.listen_for_a_while()
        self.listen_for_a_while()
        self.assertEqual(ChangeStatus.OPEN, self.change(number).status)
        self.assertEqual(["patchset-created", "change-seen"], self.reasons())

    def test_hidden_and_shown_again(self) -> None:
        number = self.push("I1")
        self.listen_for_a_while()
        self.gerrit.hide(number, wip=True)
        self.listen_for_a_while()
        self.assertTrue(self.change(number).wip)
        self.gerrit.hide(number, private=True)
        self.listen_for_a_while()
        self.assertEqual((False, True), (self.change(number).wip, self.change(number).private))
        self.assertEqual(["patchset-created"], self.reasons())
        self.gerrit.hide(number)
        self.listen_for_a_while()
        self.assertEqual(["patchset-created", "change-seen"], self.reasons())

    def test_uploaded_hidden_and_shown(self) -> None:
        number = self.push("I1")
        self.gerrit.hide(number, wip=True)
        self.listen_for_a_while()
        self.assertEqual([], self.reasons())
        self.gerrit.hide(number)
        self.listen_for_a_while()
        self.assertEqual(["change-seen"], self.reasons())

    def test_more_than_a_page(self) -> None:
        self.listen_for_a_while()
        self.gerrit.page_limit = 200
        for number in range(700):
            self.gerrit.changes[self.push(f"I{number}")].status = "ABANDONED"
        self.listen_for_a_while()
        self.assertEqual(set(range(1, 701)), self.known())

    def test_a_recheck_that_is_told_twice_is_one(self) -> None:
        number = self.push("I1")
        text = "Patch Set 1:\n\nrecheck coverage"
        self.gerrit.changes[number].say(text, None)
        said = datetime.fromisoformat(self.gerrit.changes[number].updated[:19]).replace(tzinfo=UTC)
        self.listen_for_a_while()
        self.assertEqual(["patchset-created"], self.reasons())
        self.listen_for_a_while()
        self.assertEqual(["patchset-created", "recheck coverage"], self.reasons())
        asked = created("p", number, 1, at=int(said.timestamp()) + 1)
        asked |= {"type": "comment-added", "comment": text}
        asked["patchSet"]["revision"] = self.gerrit.changes[number].sha
        self.ssh.play(line_of(asked), line_of(created("p", 70, 1)))
        self.listen()
        self.wait(lambda: 70 in self.known())
        self.assertEqual(1, self.reasons().count("recheck coverage"))

    def test_events_of_others_are_dropped_at_once(self) -> None:
        self.ssh.play(line_of(created("other", 70, 1)), line_of(created("mine/a", 71, 1)))
        self.listen(mirror=("mine/*",))
        self.wait(lambda: self.heard())
        sleep(0.5)
        self.assertEqual([71], self.heard())

    def heard(self) -> list[int]:
        found = self.database.read(lambda connection: inbox.events_after(connection, 0, 100))
        return [received.payload["change"] for received in found if received.payload["change"]]


class OutageTest(ListenerCase):
    def test_each_outage_is_told_and_caught_up_after(self) -> None:
        for fault, words in (
            (401, "password"),
            (503, "503"),
            ("garbage", "none of gerrit's"),
            (409, "409"),
        ):
            self.gerrit.fail_with = fault
            said = len(self.said)
            self.listen()
            self.wait(lambda: len(self.said) > said)  # noqa: B023
            self.assertIn(words, " ".join(self.said[said:]).lower())
            number = self.push(f"I{fault}")
            self.gerrit.fail_with = None
            self.wait(lambda: number in self.known())  # noqa: B023
            self.end()
            self.stop.clear()

    def test_an_outage_is_told_once_and_the_next_one_again(self) -> None:
        self.gerrit.fail_with = 503
        listener = self.listen(silence=1.0)
        self.wait(lambda: self.ssh.connections > 3)
        self.assertEqual(1, " ".join(self.said).count("503"), str(self.said))
        self.gerrit.fail_with = None
        self.wait(lambda: listener.connected)
        self.gerrit.fail_with = 503
        self.wait(lambda: " ".join(self.said).count("503") == 2)

    def test_without_a_stream_it_asks(self) -> None:
        number = self.push("I1")
        self.listen(ssh=None)
        self.wait(lambda: self.known() == {number})


class StormTest(ListenerCase):
    def test_two_thousand_events(self) -> None:
        """benchmarks/gerrit_storm.py takes ten thousand."""
        self.ssh.play(*(line_of(event) for event in storm("p", 2_000, 500)))
        self.listen()
        self.wait(lambda: len(self.jobs()) > 1_499)
        jobs = self.jobs()
        self.assertEqual(1_500, len(jobs))
        alive = [job for job in jobs if job.state in ALIVE]
        self.assertEqual(1_001, len(alive))
        self.assertEqual([500], [job.patch_set for job in alive if job.change == 1])
