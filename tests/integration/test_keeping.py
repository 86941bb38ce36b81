"""covtrack.keeping and covtrack.mirroring: mirrors filled in time, outages said once."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

from fixtures import EnvironmentVariable, MonkeyPatch
from testtools import TestCase

from covtrack.gerrit.events import Event, EventKind
from covtrack.keeping import Keeper
from covtrack.mirroring import Mirrorer
from covtrack.settings import Settings, TrackedProject
from covtrack.store import inbox, queueing
from covtrack.store.database import Database
from covtrack.store.queued import JobKind, JobState, NewJob
from covtrack.tracking import Tracker
from jobs.replica import Replica
from tests.gerrit_fake import PASSWORD, PASSWORD_VARIABLE, FakeGerrit
from tests.scratch_git import ScratchRepository
from venv_builder.progress import ignore

REF = "refs/changes/07/7/1"


class KeepingCase(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp(prefix="keeping-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.useFixture(EnvironmentVariable(PASSWORD_VARIABLE, PASSWORD))
        self.gerrit = FakeGerrit()
        self.gerrit.start()
        self.addCleanup(self.gerrit.stop)
        self.origin = ScratchRepository(self.folder / "origin")
        self.origin.commit({"a.py": "a = 1\n"})
        self.project = TrackedProject(
            name="p", git=str(self.origin.root), gerrit="fake", branch="master"
        )
        self.database = Database.open(f"sqlite:///{self.folder / 'x.sqlite'}")
        self.addCleanup(self.database.close)
        self.said: list[str] = []

    def settings(self, every: float = 3600.0, *patterns: str) -> Settings:
        server = self.gerrit.server.model_copy(update={"mirror": patterns})
        return Settings(
            state=self.folder / "state",
            projects={"p": self.project},
            gerrit={"fake": server},
            mirror_every=every,
        )

    def keeper(self, every: float = 3600.0, *patterns: str) -> Keeper:
        return Keeper(self.settings(every, *patterns), self.database, self.said.append)

    def replica(self) -> Replica:
        return Replica(self.settings().folder("p") / "mirror.git")


class KeeperTest(KeepingCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(MonkeyPatch("covtrack.keeping.SETTLE_SECONDS", 0.05))
        self.useFixture(MonkeyPatch("covtrack.keeping.FIRST_WAIT", 0.05))

    def steps(self, keeper: Keeper, seconds: float = 1.0) -> int:
        """How many mirrors were fetched in that time."""
        end, done = monotonic() + seconds, 0
        while monotonic() < end:
            done += keeper.step()
            sleep(0.01)
        return done

    def tell(self, event: Event) -> None:
        pairs = [(event.digest, asdict(event))]
        self.database.write(
            lambda connection: inbox.put_events(connection, "fake", pairs, datetime.now(UTC))
        )

    def test_whole_once_then_what_events_name(self) -> None:
        keeper = self.keeper()
        self.assertEqual(1, self.steps(keeper))
        self.origin.git("update-ref", REF, "HEAD")
        self.origin.git("update-ref", "refs/changes/08/8/1", "HEAD")
        self.assertEqual(0, self.steps(keeper))
        kind = EventKind.PATCH_SET
        self.tell(Event(kind=kind, project="p", branch="master", change=7, patch_set=1, ref=REF))
        self.tell(Event(kind=kind, project="q", branch="master", change=8, patch_set=1))
        self.assertEqual(1, self.steps(keeper))
        self.assertEqual({REF, "refs/heads/master"}, set(self.replica().refs()))

    def test_not_again_by_the_next_process(self) -> None:
        self.assertEqual(1, self.steps(self.keeper()))
        self.assertEqual(0, self.steps(self.keeper()))
        self.assertGreater(self.steps(self.keeper(0.2)), 2)

    def test_an_outage_is_said_once(self) -> None:
        keeper = self.keeper(0.05)
        self.origin.root.rename(self.folder / "gone")
        self.assertGreater(self.steps(keeper), 1)
        (sentence,) = self.said
        self.assertIn("p: not mirrored for the time being: Cannot fetch", sentence)
        (self.folder / "gone").rename(self.origin.root)
        self.steps(keeper, 3.0)
        self.assertEqual("p: mirrored again.", self.said[1])
        self.assertEqual(2, len(self.said))

    def test_a_server_that_does_not_tell_its_projects(self) -> None:
        self.gerrit.fail_with = 403
        keeper = self.keeper(3600.0, "team/*")
        self.assertEqual(1, self.steps(keeper))
        (sentence,) = self.said
        self.assertIn("fake: not mirrored for the time being", sentence)
        self.gerrit.fail_with = None
        self.gerrit.create_project("team/x")
        self.steps(keeper)
        self.assertIn("fake: mirrored again.", self.said)
        self.assertIn("fake:team/x: not mirrored", " ".join(self.said))  # the fake has no git

    def test_a_mirror_that_cannot_be_read_stops_no_other(self) -> None:
        self.useFixture(MonkeyPatch("covtrack.keeping.LONGEST_WAIT", 0.05))
        for name, content in (("config", b"\0" * 60), ("packed-refs", b"\0" * 300), ("HEAD", b"")):
            damaged = self.damaged(name, content)
            keeper = Keeper(damaged, self.database, self.said.append)
            self.assertGreater(self.steps(keeper), 1, name)
            self.assertIsNotNone(Replica(damaged.folder("p") / "mirror.git").newest(), name)
            self.assertIn("a: not mirrored for the time being", " ".join(self.said))

    def damaged(self, name: str, content: bytes) -> Settings:
        """Settings with a project "a" before "p", of whose mirror a file is spoiled."""
        settings = self.settings()
        state = settings.state / f"with-{name}"
        projects = {"a": self.project.model_copy(update={"name": "a"}), "p": self.project}
        damaged = settings.model_copy(update={"state": state, "projects": projects})
        Replica(damaged.folder("a") / "mirror.git").sync(self.project.git)
        (damaged.folder("a") / "mirror.git" / name).write_bytes(content)
        (damaged.folder("a") / "mirror.git/covtrack-synced.json").unlink()
        return damaged

    def test_each_server_is_kept_alone(self) -> None:
        keeper = Keeper(self.settings(), self.database, self.said.append, only=["other", None])
        self.assertEqual(0, self.steps(keeper))
        keeper = Keeper(self.settings(), self.database, self.said.append, only=["fake"])
        self.assertEqual(1, self.steps(keeper))


class MirrorerTest(KeepingCase):
    def put(self, kind: JobKind, commit: str, project: str = "p") -> int | None:
        job = NewJob(
            server="fake",
            project=project,
            kind=kind,
            branch="master",
            change=7 if kind is JobKind.CHANGE else None,
            patch_set=1 if kind is JobKind.CHANGE else None,
            commit=commit,
            ref=REF if kind is JobKind.CHANGE else "refs/heads/master",
            reason="test",
        )
        return self.database.write(
            lambda connection: queueing.put_job(connection, job, datetime.now(UTC))
        )

    def state(self, job_id: int | None) -> JobState:
        job = self.database.read(lambda connection: queueing.read_job(connection, job_id or 0))
        assert job is not None
        return job.state

    def test_a_mirror_that_cannot_be_read_stops_no_other(self) -> None:
        review = self.origin.git("rev-parse", "HEAD")
        self.origin.git("update-ref", REF, review)
        settings = self.settings()
        projects = {"a": self.project.model_copy(update={"name": "a"}), "p": self.project}
        settings = settings.model_copy(update={"projects": projects})
        tracker = Tracker(settings, self.database, ignore)
        mirrorer = Mirrorer(tracker, self.database, self.said.append)
        for name in ("config", "packed-refs", "HEAD"):
            Replica(settings.folder("a") / "mirror.git").sync(self.project.git)
            (settings.folder("a") / "mirror.git" / name).write_bytes(b"\0" * 300)
            jobs = [self.put(JobKind.CHANGE, review, project) for project in ("a", "p")]
            self.assertEqual(1, mirrorer.fetch_new(), name)
            found = [self.state(job) for job in jobs]
            self.assertEqual([JobState.NEW, JobState.QUEUED], found, name)
            self.assertIn("a: ", " ".join(self.said))
            shutil.rmtree(settings.folder("a"))
            for job in jobs:
                self.end_job(job)

    def end_job(self, job_id: int | None) -> None:
        done = {"state": JobState.DONE.value}
        self.database.write(lambda connection: queueing.put_values(connection, job_id or 0, done))

    def test_with_the_server_away_jobs_go_on_with_what_is_here(self) -> None:
        old = self.origin.git("rev-parse", "HEAD")
        review = self.origin.commit({"b.py": "b = 1\n"}, "Reviewed")
        self.origin.git("update-ref", REF, review)
        self.origin.git("reset", "-q", "--hard", old)
        self.replica().sync(self.project.git)
        self.origin.root.rename(self.folder / "gone")
        tracker = Tracker(self.settings(), self.database, ignore)
        mirrorer = Mirrorer(tracker, self.database, self.said.append)
        change, branch = self.put(JobKind.CHANGE, review), self.put(JobKind.ADVANCE, old)
        self.assertEqual(2, mirrorer.fetch_new())
        states = [self.state(change), self.state(branch)]
        self.assertEqual([JobState.QUEUED, JobState.QUEUED], states)
        self.assertIsNone(self.put(JobKind.ADVANCE, review))  # the branch moved, unseen here
        self.assertEqual(0, mirrorer.fetch_new())
        self.assertEqual(JobState.NEW, self.state(branch))
        self.assertEqual(1, len(self.said))
