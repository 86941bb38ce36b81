"""covtrack.gerrit.listener: what Gerrit tells, drops, cuts or keeps to itself comes in."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
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
from covtrack.store.queued import ALIVE, Job, JobKind
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
