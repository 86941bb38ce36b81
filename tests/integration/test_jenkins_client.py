"""covtrack.jenkins.client: one contract on the fake, on Hudson, and on a live Jenkins if named.

COVTRACK_TEST_JENKINS_URL, _USER and _TOKEN name a live one, with agents of the label covtrack.
Faults, and what Hudson has not, are tried on the fake.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

from fixtures import EnvironmentVariable
from testtools import TestCase

from covtrack.jenkins.client import JenkinsClient
from covtrack.jenkins.failures import JenkinsError, NotFound, Refused, Unauthorized, Unreachable
from covtrack.jenkins.job_xml import STATUS, TOKEN, TRACKER, differences, render_job
from covtrack.jenkins.settings import JenkinsServer
from covtrack.jenkins.values import RUN_ID, BuildInfo, by_run
from tests.jenkins_fake import PASSWORD, TOKEN_VARIABLE, USER, FakeJenkins
from tests.jenkins_fake import TOKEN as API_TOKEN
from tests.jenkins_fixture import RealJenkins, real_jenkins
from venv_builder.errors import UsageError

SECONDS = 120.0
SECRET = "run-token-of-the-tests"
WRITE = 'echo "$COVTRACK_RUN_ID" > covtrack.bundle'
LIVE = "COVTRACK_TEST_JENKINS"
T = TypeVar("T")


class Contract:
    """What holds on any server; subclasses are test cases that set `server`."""

    class Tests(TestCase):
        server: JenkinsServer

        def prepare(self) -> None:
            """Set what all tests use; called once `server` is there."""
            self.client = JenkinsClient(self.server)
            self.job = f"covtrack-test-{secrets.token_hex(4)}"
            self.addCleanup(self.client.delete_job, self.job)
            folder = tempfile.TemporaryDirectory()
            self.addCleanup(folder.cleanup)
            self.folder = Path(folder.name)

        def xml(self, command: str) -> str:
            return render_job(self.server.model_copy(update={"command": command}))

        def make_job(self, command: str) -> None:
            self.client.create_job(self.job, self.xml(command))

        def ask(self, run_id: str) -> int | None:
            words = {RUN_ID: run_id, TRACKER: "http://127.0.0.1:9", TOKEN: SECRET}
            return self.client.start_build(self.job, words)

        def wait(self, ask: Callable[[], T | None]) -> T:
            end = monotonic() + SECONDS
            while monotonic() < end:
                if found := ask():
                    return found
                sleep(0.1)
            builds = self.client.builds(self.job)
            said = [self.client.console(self.job, build.number) for build in builds]
            raise AssertionError(f"waited in vain: {builds} {said}")

        def running(self, run_id: str) -> BuildInfo:
            """The build once it runs its shell step."""

            def ask() -> BuildInfo | None:
                build = by_run(self.client.builds(self.job)).get(run_id)
                begun = build and "+ " in self.client.console(self.job, build.number)
                return build if build and build.building and begun else None

            return self.wait(ask)

        def ended(self, run_id: str) -> BuildInfo:
            def ask() -> BuildInfo | None:
                build = by_run(self.client.builds(self.job)).get(run_id)
                return build if build and not build.building else None

            return self.wait(ask)

        def text(self, build: BuildInfo, name: str) -> str:
            artifact = build.artifact(name)
            assert artifact is not None, build.artifacts
            target = self.folder / name
            size = self.client.download(self.job, build.number, artifact, target, 1000)
            self.assertEqual(target.stat().st_size, size)
            return target.read_text()

        def test_a_build_and_what_it_leaves(self) -> None:
            self.make_job(f"{WRITE}; test ${{#{TOKEN}}} = {len(SECRET)} || exit 5; echo $((40+2))")
            number = self.ask("run-1")
            build = self.ended("run-1")
            self.assertEqual("SUCCESS", build.result)
            self.assertEqual("run-1", build.run_id)
            self.assertIn(build.node, {agent.name for agent in self.client.agents()})
            self.assertEqual("run-1\n", self.text(build, "covtrack.bundle"))
            self.assertEqual("0\n", self.text(build, STATUS))
            self.assertIn("\n42\n", self.client.console(self.job, build.number))
            self.assertNotIn(SECRET, self.client.console(self.job, build.number))
            self.assertNotIn(SECRET, str(self.client.builds(self.job)))
            self.assertEqual(build, self.client.build(self.job, build.number))
            if number is not None:
                item = self.client.queue_item(number)
                assert item is not None and item.executable is not None
                self.assertEqual(build.number, item.executable.number)

        def test_a_step_that_fails_leaves_its_status(self) -> None:
            self.make_job("sh -c 'exit 3'")
            self.ask("run-1")
            build = self.ended("run-1")
            self.assertEqual("FAILURE", build.result)
            self.assertEqual("3\n", self.text(build, STATUS))
            self.assertIsNone(build.artifact("covtrack.bundle"))

        def test_equal_builds_become_one_and_others_do_not(self) -> None:
            self.make_job("sleep 4")
            machines = sum(agent.executors for agent in self.client.agents() if not agent.offline)
            for number in range(machines):
                self.ask(f"busy-{number}")
            for number in range(machines):
                self.running(f"busy-{number}")
            for run_id in ("run-1", "run-1", "run-2"):
                self.ask(run_id)
            waiting = [item.run_id for item in self.client.queue()]
            self.assertEqual(["run-1", "run-2"], sorted(str(one) for one in waiting if one))
            self.ended("run-2")
            self.ended("run-1")
            builds = [build.run_id for build in self.client.builds(self.job)]
            self.assertEqual(machines + 2, len(builds))

        def test_a_build_is_stopped(self) -> None:
            self.make_job("sleep 100")
            self.ask("run-1")
            build = self.running("run-1")
            self.client.stop(self.job, build.number)
            ended = self.ended("run-1")
            self.assertEqual("ABORTED", ended.result)
            self.client.stop(self.job, build.number)
            self.client.stop(self.job, 999)

        def test_settings_of_a_job(self) -> None:
            self.assertIsNone(self.client.job_xml(self.job))
            first, second = self.xml("echo one"), self.xml("echo two <&>")
            self.client.create_job(self.job, first)
            error = self.assertRaises(Refused, self.client.create_job, self.job, first)
            self.assertIn("already exists", str(error))
            self.assertEqual((), differences(first, self.client.job_xml(self.job) or ""))
            (line,) = differences(second, self.client.job_xml(self.job) or "")
            self.assertIn("echo one", line)
            self.client.configure_job(self.job, second)
            self.assertEqual((), differences(second, self.client.job_xml(self.job) or ""))
            self.client.delete_job(self.job)
            self.assertIsNone(self.client.job_xml(self.job))
            self.client.delete_job(self.job)

        def test_what_is_not_there(self) -> None:
            self.assertIsNone(self.client.queue_item(99999999))
            self.client.cancel_item(99999999)
            self.assertRaises(NotFound, self.client.builds, self.job)
            error = self.assertRaises(NotFound, self.ask, "run-1")
            self.assertIn(f"to build {self.job} (status 404", str(error))
            self.assertRaises(NotFound, self.client.configure_job, self.job, self.xml("true"))
            self.make_job("true")
            self.assertEqual((), self.client.builds(self.job))
            self.assertIsNone(self.client.build(self.job, 77))

        def test_an_artifact_that_is_too_long(self) -> None:
            self.make_job("head -c 200000 /dev/zero > covtrack.bundle")
            self.ask("run-1")
            build = self.ended("run-1")
            artifact = build.artifact("covtrack.bundle")
            assert artifact is not None
            ask, target = self.client.download, self.folder / "long"
            self.assertRaises(Refused, ask, self.job, build.number, artifact, target, 199_999)
            self.assertEqual(200_000, ask(self.job, build.number, artifact, target, 200_000))


class FakeCase(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(EnvironmentVariable(TOKEN_VARIABLE, API_TOKEN))
        self.jenkins = FakeJenkins()
        self.jenkins.start()
        self.addCleanup(self.jenkins.stop)
        self.server = self.jenkins.server


class FakeContractTest(Contract.Tests, FakeCase):
    def setUp(self) -> None:
        super().setUp()
        self.prepare()

    def test_parameters_are_in_no_address(self) -> None:
        self.make_job("true")
        self.ask("run-1")
        self.ended("run-1")
        self.assertFalse([path for _, path in self.jenkins.requests if SECRET in path])
        self.assertTrue([body for body in self.jenkins.bodies if SECRET.encode() in body])

    def test_queue_items_are_forgotten(self) -> None:
        self.jenkins.forget_after = 0.2
        self.make_job("true")
        number = self.ask("run-1")
        assert number is not None
        build = self.ended("run-1")
        self.wait(lambda: self.client.queue_item(number) is None)
        self.assertEqual(build, by_run(self.client.builds(self.job))["run-1"])

    def test_an_item_is_taken_off_the_queue(self) -> None:
        self.make_job("true")
        self.jenkins.hold = True
        number = self.ask("run-1")
        assert number is not None
        self.client.cancel_item(number)
        self.assertEqual((), self.client.queue())
        item = self.client.queue_item(number)
        assert item is not None
        self.assertTrue(item.cancelled)

    def test_in_folders(self) -> None:
        job = "team a/inner/cov"
        self.assertRaises(NotFound, self.client.create_job, job, self.xml("true"))
        self.client.create_folder("team a")
        self.client.create_folder("team a/inner")
        self.client.create_job(job, self.xml(WRITE))
        self.job = job
        number = self.ask("run-1")
        self.assertIsNotNone(number)
        self.assertEqual("run-1\n", self.text(self.ended("run-1"), "covtrack.bundle"))

    def test_only_the_newest_hundred_are_told_at_once(self) -> None:
        self.make_job("true")
        self.ask("run-1")
        first = self.ended("run-1")
        self.jenkins.started[self.job] += self.jenkins.started[self.job] * 100
        self.assertEqual(100, len(self.client.builds(self.job)))
        self.assertEqual(first, self.client.builds(self.job, every=True)[-1])

    def test_of_two_builds_of_a_run_the_one_that_runs_counts(self) -> None:
        self.make_job("sleep 0.5")
        self.ask("run-1")
        self.ended("run-1")
        self.ask("run-1")
        self.assertEqual(2, self.running("run-1").number)


class RealContractTest(Contract.Tests):
    def setUp(self) -> None:
        super().setUp()
        self.jenkins: RealJenkins = real_jenkins()
        self.server = self.jenkins.server
        self.prepare()

    def test_an_agent_that_goes_away(self) -> None:
        self.make_job("sleep 60")
        self.ask("run-1")
        node = self.running("run-1").node
        self.jenkins.kill_agent(node)
        self.addCleanup(self.jenkins.start)
        build = self.ended("run-1")
        self.assertEqual(("FAILURE", ()), (build.result, build.artifacts))
        offline = {agent.name for agent in self.client.agents() if agent.offline}
        self.assertIn(node, offline)

    def test_a_server_that_is_killed_and_starts_again(self) -> None:
        self.make_job("true")
        self.ask("run-1")
        build = self.ended("run-1")
        self.jenkins.kill()
        self.addCleanup(self.jenkins.start)
        self.assertRaises(Unreachable, self.client.builds, self.job)
        self.jenkins.start()
        (kept,) = self.client.builds(self.job)
        self.assertEqual((build.run_id, "SUCCESS"), (kept.run_id, kept.result))
        self.assertEqual(build.artifacts, kept.artifacts)
        self.ask("run-2")
        self.assertEqual("SUCCESS", self.ended("run-2").result)


class LiveContractTest(Contract.Tests):
    def setUp(self) -> None:
        super().setUp()
        url = os.environ.get(f"{LIVE}_URL")
        if not url:
            self.skipTest(f"{LIVE}_URL names no live Jenkins")
        self.server = JenkinsServer(
            url=url, user=os.environ.get(f"{LIVE}_USER"), token_env=f"{LIVE}_TOKEN"
        )
        self.prepare()


class CredentialsTest(FakeCase):
    def test_who_and_what(self) -> None:
        client = JenkinsClient(self.server)
        self.assertEqual((USER, "2.516.3"), (client.account(), client.version()))

    def test_a_token_needs_no_crumb(self) -> None:
        JenkinsClient(self.server).create_job("j", render_job(self.server))

    def test_a_password_and_crumbs_that_expire(self) -> None:
        self.useFixture(EnvironmentVariable(TOKEN_VARIABLE, PASSWORD))
        client = JenkinsClient(self.server)
        client.create_job("j", render_job(self.server))
        self.jenkins.expire_crumbs()
        client.configure_job("j", render_job(self.server))
        self.jenkins.crumbs = False
        other = JenkinsClient(self.server)
        other.configure_job("j", render_job(self.server))
        self.jenkins.crumbs = True  # switched on while the client lives
        other.configure_job("j", render_job(self.server))

    def test_a_wrong_token(self) -> None:
        self.useFixture(EnvironmentVariable(TOKEN_VARIABLE, "wr0ng"))
        error = self.assertRaises(Unauthorized, JenkinsClient(self.server).queue)
        self.assertIn("API token", error.advice)
        self.assertNotIn("wr0ng", str(error))

    def test_a_user_without_a_token(self) -> None:
        self.useFixture(EnvironmentVariable(TOKEN_VARIABLE, None))
        error = self.assertRaises(UsageError, JenkinsClient, self.server)
        self.assertIn(TOKEN_VARIABLE, error.advice)


class FaultTest(FakeCase):
    def error_of(self, fault: int | str, timeout: float = 10.0) -> JenkinsError:
        self.jenkins.fail_with = fault
        client = JenkinsClient(self.server.model_copy(update={"timeout": timeout}))
        error: JenkinsError = self.assertRaises(JenkinsError, client.build, "j", 1)
        self.assertIn("for build 1 of j", str(error))
        self.assertNotIn("\n", str(error))
        self.assertNotIn(API_TOKEN, str(error))
        return error

    def test_each_status_has_its_class(self) -> None:
        kinds = {400: Refused, 401: Unauthorized, 403: Refused, 405: Refused, 409: Refused}
        for status, kind in {**kinds, **dict.fromkeys((429, 500, 502, 503), Unreachable)}.items():
            error = self.error_of(status)
            self.assertEqual((kind, 3), (type(error), error.exit_status))
            self.assertIn(f"status {status}: a fault of the test", str(error))

    def test_no_answer(self) -> None:
        self.assertIn("makes no sense", str(self.error_of("garbage")))
        self.assertIn("within 0.2 s", str(self.error_of("slow", timeout=0.2)))
        self.assertIsInstance(self.error_of("reset"), Unreachable)
        nobody = self.server.model_copy(update={"url": "http://127.0.0.1:9"})
        error = self.assertRaises(Unreachable, JenkinsClient(nobody).queue)
        self.assertIn("Connection refused", str(error))

    def test_reading_is_tried_again_and_writing_is_not(self) -> None:
        self.jenkins.fail_with = 503
        client = JenkinsClient(self.server)
        self.assertRaises(Unreachable, client.queue)
        self.assertEqual(3, len(self.jenkins.requests))
        self.jenkins.fail_method = "POST"
        self.assertRaises(Unreachable, client.start_build, "j", {RUN_ID: "1"})
        posts = [path for method, path in self.jenkins.requests if method == "POST"]
        self.assertEqual(1, len(posts))

    def test_fields_of_other_kinds(self) -> None:
        client = JenkinsClient(self.server)
        client.create_job("j", render_job(self.server))
        answers: tuple[Any, ...] = ([], {"items": 3}, {"items": [{"id": "x"}]}, {"items": [7]})
        for answer in answers:
            self.jenkins.spoiled_queue = answer
            self.assertRaises(Unreachable, client.queue)
