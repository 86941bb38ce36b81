"""`covtrack jenkins …`, on the fake in a folder and on Hudson."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from fixtures import EnvironmentVariable, TempDir
from testtools import TestCase

from covtrack.jenkins.client import JenkinsClient
from covtrack.jenkins.settings import JenkinsServer
from tests.jenkins_fake import TOKEN, TOKEN_VARIABLE, FakeJenkins
from tests.jenkins_fixture import real_jenkins
from venv_builder.processes import run_command

ROOT = Path(__file__).parents[2]


class Contract:
    """What holds on any server."""

    class Tests(TestCase):
        server: JenkinsServer

        def prepare(self, job: str) -> None:
            self.name = job
            self.folder = Path(self.useFixture(TempDir()).path)
            self.write()
            self.client = JenkinsClient(self.server)
            self.addCleanup(self.client.delete_job, job)

        def write(self, more: str = "") -> None:
            user = ""
            if self.server.user:
                user = f'user = "{self.server.user}"\ntoken_env = "{self.server.token_env}"\n'
            text = f'[jenkins]\nurl = "{self.server.url}"\njob = "{self.name}"\n{user}{more}'
            (self.folder / "covtrack.toml").write_text(text)

        def run_it(self, command: str, status: int = 0) -> str:
            config = str(self.folder / "covtrack.toml")
            words = ["-P", "-m", "covtrack", "--config", config, "jenkins", command]
            env = os.environ | {"PYTHONPATH": str(ROOT)}
            done = run_command([sys.executable, *words], cwd=self.folder, env=env)
            self.assertEqual(status, done.status, str(done))
            self.assertNotIn("Traceback", done.stderr)
            return done.stdout + done.stderr

        def test_made_changed_and_removed(self) -> None:
            place = f"job {self.name} on {self.server.url}"
            self.assertEqual(f"{place} is not there\n", self.run_it("diff", 1))
            self.assertIn("There is no job", self.run_it("update", 2))
            self.assertIn("is not there", self.run_it("check", 3))
            self.assertEqual(f"{place} is made\n", self.run_it("install"))
            self.assertEqual(f"{place} is as it should be\n", self.run_it("install"))
            self.assertEqual(f"{place} is as it should be\n", self.run_it("diff"))
            self.assertIn("is as it should be", self.run_it("check"))
            self.write('label = "big"\nkeep_builds = 50\n')
            changed = "logRotator/numToKeep: 200 → 50\nassignedNode: covtrack → big\n"
            self.assertEqual(changed, self.run_it("diff", 1))
            self.assertIn("with other settings", self.run_it("install", 2))
            self.assertEqual(f"{changed}{place} is as it should be\n", self.run_it("update"))
            self.assertEqual(f"{place} is as it should be\n", self.run_it("update"))
            self.assertEqual(f"{place} is removed\n", self.run_it("remove"))
            self.assertEqual(f"{place} is not there\n", self.run_it("remove"))

        def test_jobs_of_others_are_left_alone(self) -> None:
            self.run_it("install")
            xml = (self.client.job_xml(self.name) or "").replace("COVTRACK_", "THEIR_")
            self.client.configure_job(self.name, xml.partition("?>")[2])
            for command in ("install", "update", "remove"):
                self.assertIn("was not made by covtrack", self.run_it(command, 2))
            self.assertIn("THEIR_RUN_ID", self.client.job_xml(self.name) or "")


class FakeCommandTest(Contract.Tests):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(EnvironmentVariable(TOKEN_VARIABLE, TOKEN))
        self.jenkins = FakeJenkins()
        self.jenkins.start()
        self.addCleanup(self.jenkins.stop)
        self.server = self.jenkins.server
        self.prepare("team/inner/covtrack")

    def test_a_wrong_token_and_none(self) -> None:
        self.useFixture(EnvironmentVariable(TOKEN_VARIABLE, "wrong"))
        self.assertIn("ci is not let in", self.run_it("install", 3))
        self.assertIn("Is the API token right", self.run_it("check", 3))
        self.useFixture(EnvironmentVariable(TOKEN_VARIABLE, None))
        self.assertIn("has no API token for ci", self.run_it("install", 2))

    def test_settings_without_jenkins(self) -> None:
        (self.folder / "covtrack.toml").write_text("")
        self.assertIn("The settings name no Jenkins", self.run_it("install", 2))
        (self.folder / "covtrack.toml").write_text('executor = "jenkins"\n')
        self.assertIn("there is no table [jenkins]", self.run_it("xml", 2))

    def test_no_agent(self) -> None:
        self.run_it("install")
        self.jenkins.agents = dict.fromkeys(self.jenkins.agents, False)
        self.assertIn("has no agent online", self.run_it("check", 3))

    def test_the_xml_is_printed(self) -> None:
        self.assertIn("<name>COVTRACK_RUN_TOKEN</name>", self.run_it("xml"))


class RealCommandTest(Contract.Tests):
    def setUp(self) -> None:
        super().setUp()
        self.server = real_jenkins().server
        self.prepare(f"covtrack-{secrets.token_hex(4)}")
