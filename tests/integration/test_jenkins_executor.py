"""covtrack.jenkins.executor: one contract on the fake and on Hudson; faults on the fake.

The builds' shell steps are small scripts; what a bundle holds is not this module's business, so
that a plain text stands for it.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

from fixtures import EnvironmentVariable, MonkeyPatch
from sqlalchemy import Connection
from testtools import TestCase

from covtrack.jenkins.client import JenkinsClient
from covtrack.jenkins.executor import JenkinsExecutor, Pace
from covtrack.jenkins.job_xml import render_job
from covtrack.jenkins.settings import JenkinsServer
from covtrack.jenkins.values import by_run
from covtrack.ordering import token_digest
from covtrack.settings import Settings, TrackedProject
from covtrack.store import building, queueing
from covtrack.store.database import Database
from covtrack.store.queued import (
    Build,
    BuildState,
    Job,
    JobKind,
    JobState,
    NewBuild,
    NewJob,
    VerdictState,
)
from tests.jenkins_fake import TOKEN as API_TOKEN
from tests.jenkins_fake import TOKEN_VARIABLE, FakeJenkins
from tests.jenkins_fixture import RealJenkins, real_jenkins
from venv_builder.errors import DataError, RefusedError, UsageError

SECONDS = 120.0
MEASURE = 'sleep 0.5; echo "bundle of $COVTRACK_RUN_ID" > covtrack.bundle'
PACE = Pace(grace=timedelta(seconds=2), retry_seconds=0.1, lost_retry_seconds=0.1)
T = TypeVar("T")


class ExecutorCase(TestCase):
    server: JenkinsServer

    def prepare(self, command: str = MEASURE) -> None:
        """A job on the server, a database, and an executor; called once `server` is there."""
        self.folder = Path(tempfile.mkdtemp(prefix="executor-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.server = self.server.model_copy(
            update={
                "job": f"covtrack-test-{secrets.token_hex(4)}",
                "tracker": "http://127.0.0.1:9",
                "every": 0.2,
                "most_of_project": 10,
            }
        )
        self.client = JenkinsClient(self.server)
        self.addCleanup(self.client.delete_job, self.server.job)
        self.set_command(command)
        self.database = Database.open(f"sqlite:///{self.folder / 'x.sqlite'}")
        self.addCleanup(self.database.close)
        self.said: list[str] = []
        self.refusal: Exception | None = None
        self.stored: list[str] = []
        self.begin()

    def set_command(self, command: str) -> None:
        xml = render_job(self.server.model_copy(update={"command": command}))
        if self.client.job_xml(self.server.job) is None:
            self.client.create_job(self.server.job, xml)
        else:
            self.client.configure_job(self.server.job, xml)

    def begin(self) -> None:
        """An executor that knows nothing but the database, as after a kill."""
        projects = {name: TrackedProject(name=name, git=".", executor="jenkins") for name in "abc"}
        settings = Settings(state=self.folder, projects=projects, jenkins=self.server)
        self.executor = JenkinsExecutor(
            settings, self.database, self.said.append, order=self.order, store=self.store
        )
        self.executor.pace = PACE
        self.executor.recover()

    def order(self, job: Job, attempt: int) -> tuple[str, str]:
        run_id, token = f"{job.job_id}-{secrets.token_hex(8)}", secrets.token_hex(8)
        new = NewBuild(
            run_id=run_id,
            job_id=job.job_id,
            token_sha256=token_digest(token),
            order={"commits": [{"sha": job.commit}]},
            attempt=attempt,
        )
        assert self.database.write(lambda c: building.put_build(c, new, datetime.now(UTC)))
        return run_id, token

    def store(self, build: Build, bundle: Path) -> None:
        if self.refusal:
            raise self.refusal
        assert bundle.read_text() == f"bundle of {build.run_id}\n", bundle.read_text()
        self.stored.append(build.run_id)
        self.note_stored(build)

    def note_stored(self, build: Build) -> None:
        def write(connection: Connection) -> None:
            building.put_build_values(connection, build.run_id, {"run_ids": [7]})
            queueing.put_values(connection, build.job_id, {"run_id": 7})

        self.database.write(write)

    def put(self, number: int, project: str = "a", patch_set: int = 1) -> int:
        """Queue the job of a change."""
        new = NewJob(
            server="gerrit",
            project=project,
            kind=JobKind.CHANGE,
            branch="master",
            reason="patchset-created",
            change=number,
            patch_set=patch_set,
            commit="c" * 40,
            ref=f"refs/changes/01/{number}/{patch_set}",
        )
        job_id = self.database.write(lambda c: queueing.put_job(c, new, datetime.now(UTC)))
        assert job_id is not None
        queued = {"state": JobState.QUEUED.value}
        self.database.write(lambda c: queueing.put_values(c, job_id, queued))
        return job_id

    def job(self, job_id: int) -> Job:
        job = self.database.read(lambda c: queueing.read_job(c, job_id))
        assert job is not None
        return job

    def builds(self, job_id: int) -> tuple[Build, ...]:
        return self.database.read(lambda c: building.builds_of(c, job_id))

    def drive(self, ask: Callable[[], T | None]) -> T:
        """Let the executor step until `ask` returns something."""
        end = monotonic() + SECONDS
        while monotonic() < end:
            if found := ask():
                return found
            if not self.executor.step():
                sleep(0.05)
        raise AssertionError(f"in vain: {self.said}")

    def drive_to(self, job_id: int, *states: JobState) -> Job:
        return self.drive(lambda: job if (job := self.job(job_id)).state in states else None)

    def drive_to_build(self, job_id: int) -> Build:
        """Until the newest build of the job runs."""

        def ask() -> Build | None:
            found = self.builds(job_id)
            building = found and found[-1].state is BuildState.BUILDING
            return found[-1] if building else None

        return self.drive(ask)

    def states(self, job_id: int) -> list[str]:
        return [build.state.value for build in self.builds(job_id)]

    def on_server(self) -> list[str | None]:
        return [build.run_id for build in self.client.builds(self.server.job)]


class Contract:
    """What holds on any server."""

    class Tests(ExecutorCase):
        def machines(self) -> FakeJenkins | RealJenkins:
            """The server, whose agents can be killed."""
            raise NotImplementedError

        def test_jobs_become_builds_and_are_measured(self) -> None:
            jobs = [self.put(1), self.put(2), self.put(3, "b")]
            for job_id in jobs:
                job = self.drive_to(job_id, JobState.DONE, JobState.FAILED)
                self.assertEqual((JobState.DONE, ""), (job.state, job.error))
                self.assertEqual((VerdictState.PENDING, 1), (job.verdict, job.attempts))
                (build,) = self.builds(job_id)
                self.assertEqual((BuildState.ENDED, "SUCCESS"), (build.state, build.result))
                self.assertIn(build.node, ("agent1", "agent2"))
                self.assertIn(f"/{build.number}", build.url)
            self.assertEqual(3, len(self.on_server()))
            self.assertEqual(sorted(self.stored), sorted(str(one) for one in self.on_server()))
            self.assertEqual([], list((self.folder / "builds").iterdir()))

        def test_a_superseded_job_is_stopped(self) -> None:
            self.set_command("sleep 60")
            first = self.put(1)
            build = self.drive_to_build(first)
            ended = {"state": JobState.SUPERSEDED.value}
            self.database.write(lambda c: queueing.put_values(c, first, ended))
            self.drive(lambda: self.states(first) == ["cancelled"])
            (info,) = self.client.builds(self.server.job)
            self.assertEqual((build.run_id, "ABORTED"), (info.run_id, info.result))
            self.assertEqual(JobState.SUPERSEDED, self.job(first).state)

        def test_an_agent_that_goes_away(self) -> None:
            self.set_command(f"test -e {self.folder}/again || sleep 60; {MEASURE}")
            job_id = self.put(1)
            node = self.drive_to_build(job_id).node
            sleep(0.5)
            (self.folder / "again").touch()
            self.machines().kill_agent(node)
            self.addCleanup(self.machines().start_agent, node)
            self.drive_to(job_id, JobState.DONE)
            self.assertEqual(["lost", "ended"], self.states(job_id))
            self.assertIn("went away", self.builds(job_id)[0].error)
            self.assertEqual(1, len(self.stored))

        def test_killed_and_started_again(self) -> None:
            self.set_command(f"sleep 3; {MEASURE}")
            job_id = self.put(1)
            run_id = self.drive_to_build(job_id).run_id
            self.begin()
            self.drive_to(job_id, JobState.DONE)
            self.assertEqual(["ended"], self.states(job_id))
            self.assertEqual([run_id], self.on_server())

        def test_killed_before_jenkins_was_asked(self) -> None:
            job_id = self.put(1)
            with MonkeyPatch(f"{JenkinsClient.__module__}.JenkinsClient.start_build", die):
                self.assertRaises(KeyboardInterrupt, self.executor.step)
            self.assertEqual(["ordered"], self.states(job_id))
            before = self.builds(job_id)[0].token_sha256
            self.begin()
            self.drive_to(job_id, JobState.DONE)
            self.assertEqual(["ended"], self.states(job_id))
            self.assertNotEqual(before, self.builds(job_id)[0].token_sha256)
            self.assertEqual(1, len(self.on_server()))

        def test_a_step_that_was_used_wrongly(self) -> None:
            self.set_command("sh -c 'echo covtrack: There is no test. >&2; exit 2'")
            job_id = self.put(1)
            job = self.drive_to(job_id, JobState.FAILED)
            self.assertIn("There is no test.", job.error)
            self.assertEqual(["ended"], self.states(job_id))

        def test_a_step_that_fails_is_tried_three_times(self) -> None:
            self.set_command("sh -c 'exit 3'")
            job_id = self.put(1)
            self.drive_to(job_id, JobState.FAILED)
            self.assertEqual(["ended"] * 3, self.states(job_id))


def die(*words: object) -> int:
    raise KeyboardInterrupt


class FakeCase(ExecutorCase):
    jenkins: FakeJenkins

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(EnvironmentVariable(TOKEN_VARIABLE, API_TOKEN))
        self.jenkins = FakeJenkins()
        self.jenkins.start()
        self.addCleanup(self.jenkins.stop)
        self.server = self.jenkins.server
        self.prepare()


class FakeContractTest(FakeCase, Contract.Tests):
    def machines(self) -> FakeJenkins:
        return self.jenkins


class RealContractTest(Contract.Tests):
    def machines(self) -> RealJenkins:
        return self.jenkins

    def setUp(self) -> None:
        super().setUp()
        self.jenkins = real_jenkins()
        self.server = self.jenkins.server
        self.prepare()

    def test_a_server_that_is_killed(self) -> None:
        self.set_command(f"sleep 2; {MEASURE}")
        jobs = [self.put(number) for number in range(4)]
        self.drive_to_build(jobs[0])
        self.jenkins.kill()
        self.addCleanup(self.jenkins.start)
        self.drive(lambda: self.said and "cannot be reached" in self.said[-1])
        self.jenkins.start()
        for job_id in jobs:
            self.drive_to(job_id, JobState.DONE)
            # One that was under way may have been cut short, and told as such by the server.
            ended = [build for build in self.builds(job_id) if build.state is BuildState.ENDED]
            self.assertEqual(1, sum(not build.error for build in ended), str(ended))
        self.assertEqual(4, len(self.stored))


class FaultTest(FakeCase):
    def test_no_more_than_are_allowed_at_once(self) -> None:
        self.server = self.server.model_copy(update={"most_builds": 1})
        self.begin()
        jobs = [self.put(number) for number in range(3)]
        most = 0

        def ask() -> bool:
            nonlocal most
            most = max(most, len(self.database.read(building.builds_alive)))
            return all(self.job(one).state is JobState.DONE for one in jobs)

        self.drive(ask)
        self.assertEqual(1, most)

    def test_an_answer_that_is_lost(self) -> None:
        job_id = self.put(1)
        self.jenkins.taken_unanswered = True
        self.executor.step()
        self.assertEqual(["ordered"], self.states(job_id))
        self.jenkins.taken_unanswered = False
        self.drive_to(job_id, JobState.DONE)
        self.assertEqual(1, len(self.on_server()))

    def test_a_job_superseded_while_it_waits(self) -> None:
        self.jenkins.hold = True
        job_id = self.put(1)
        self.drive(lambda: self.states(job_id) == ["queued"])
        ended = {"state": JobState.SUPERSEDED.value}
        self.database.write(lambda c: queueing.put_values(c, job_id, ended))
        self.drive(lambda: self.states(job_id) == ["cancelled"])
        self.jenkins.hold = False
        self.assertEqual([], self.on_server())

    def test_a_server_that_forgets_everything(self) -> None:
        self.set_command(f"sleep 1; {MEASURE}")
        jobs = [self.put(number) for number in range(4)]
        self.drive_to_build(jobs[0])
        self.jenkins.crash()
        for job_id in jobs:
            self.drive_to(job_id, JobState.DONE)
        self.assertEqual(4, len(self.stored))
        self.assertIn("lost", self.states(jobs[0]))

    def test_a_bundle_that_cannot_be_stored(self) -> None:
        self.refusal = DataError("The disk is full.")
        job_id = self.put(1)
        self.assertIn("The disk is full.", self.drive_to(job_id, JobState.FAILED).error)
        self.assertEqual(3, len(self.builds(job_id)))
        for number, refusal in enumerate(
            (RefusedError("The bundle is none."), UsageError("Another run's bundle.")), start=2
        ):
            self.refusal = refusal
            other = self.put(number)
            self.assertIn(refusal.sentence, self.drive_to(other, JobState.FAILED).error)
            self.assertEqual(1, len(self.builds(other)))
        self.refusal = ZeroDivisionError("oh")
        third = self.put(4)
        self.assertIn("a mistake", self.drive_to(third, JobState.FAILED).error.lower())

    def test_a_bundle_that_the_step_brought_itself(self) -> None:
        self.set_command("sleep 1")
        job_id = self.put(1)
        self.note_stored(self.drive_to_build(job_id))
        self.assertEqual(7, self.drive_to(job_id, JobState.DONE).run_id)
        self.assertEqual([], self.stored)

    def test_a_bundle_that_was_brought_before_its_build_was_forgotten(self) -> None:
        self.set_command("sleep 60")
        job_id = self.put(1)
        self.note_stored(self.drive_to_build(job_id))
        self.jenkins.crash()
        self.assertEqual(7, self.drive_to(job_id, JobState.DONE).run_id)
        self.assertEqual(["ended"], self.states(job_id))

    def test_there_is_no_such_job(self) -> None:
        self.client.delete_job(self.server.job)
        job_id = self.put(1)
        self.drive(lambda: self.said and "no job can be built" in self.said[-1])
        for _ in range(20):
            self.executor.step()
            sleep(0.05)
        self.assertEqual(1, len([one for one in self.said if "status 404" in one]))
        self.set_command(MEASURE)
        self.drive_to(job_id, JobState.DONE)
        self.assertEqual(1, len(self.builds(job_id)))

    def test_a_build_that_nobody_waits_for_any_more(self) -> None:
        self.set_command("sleep 60")
        job_id = self.put(1)
        build = self.drive_to_build(job_id)
        ended = {"state": BuildState.LOST.value}
        self.database.write(lambda c: building.put_build_values(c, build.run_id, ended))
        self.drive(lambda: not by_run(self.client.builds(self.server.job))[build.run_id].building)

    def test_a_build_that_waits_too_long(self) -> None:
        self.server = self.server.model_copy(update={"queue_patience": 0.5})
        self.begin()
        self.jenkins.hold = True
        job_id = self.put(1)
        self.drive(lambda: self.states(job_id)[:1] == ["lost"])
        self.assertIn("waited too long", self.builds(job_id)[0].error)
        self.assertTrue(self.jenkins.items[1].cancelled)

    def test_a_build_that_takes_too_long(self) -> None:
        self.set_command("sleep 60")
        job_id = self.put(1)
        self.drive_to_build(job_id)
        with self.jenkins.lock:
            self.jenkins.started[self.server.job][0].began -= 100_000
        self.drive(lambda: self.states(job_id)[:1] == ["ended"])
        self.assertIn("too long", self.builds(job_id)[0].error)
        self.assertEqual("ABORTED", self.jenkins.started[self.server.job][0].result)

    def test_one_artifact_that_cannot_be_had_stops_no_other(self) -> None:
        first = self.put(1)
        self.drive_to_build(first)
        answer = self.jenkins.get_artifact
        number = str(self.builds(first)[0].number)
        self.jenkins.get_artifact = (  # type: ignore[method-assign]
            lambda job, which, path, **words: (
                (500, "", {}) if which == number else answer(job, which, path, **words)
            )
        )
        second = self.put(2)
        self.drive_to(second, JobState.DONE)
        self.assertIs(JobState.RUNNING, self.job(first).state)
        self.jenkins.get_artifact = answer  # type: ignore[method-assign]
        self.drive_to(first, JobState.DONE)
