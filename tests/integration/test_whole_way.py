"""The whole way, all parts real: Gerrit → tracker on PostgreSQL → build on an agent → verdict."""

from __future__ import annotations

import secrets
import sys
from textwrap import dedent

from covtrack.java import free_ports
from covtrack.jenkins.client import JenkinsClient
from covtrack.jenkins.job_xml import render_job
from covtrack.jenkins.settings import JenkinsServer
from covtrack.store import building
from covtrack.store.database import Database
from covtrack.store.queued import BuildState, JobKind, VerdictState
from tests.databases import postgresql
from tests.integration.test_serving import ROOT, UNTESTED, ServeCase
from tests.jenkins_fixture import real_jenkins
from tests.sample_project import FILES

SETTINGS = """
state = "{state}"
database = "{database}"
listen = "127.0.0.1:{port}"
url = "http://127.0.0.1:{port}"
executor = "jenkins"
[jenkins]
url = "{jenkins}"
job = "{job}"
command = '{command}'
every = "1 s"
{server}
[projects."{project}"]
git = "{git}"
git_for_agents = "{open}"
gerrit = "real"
branch = "master"
constraints = "none"
"""


class WholeWayTest(ServeCase):
    def write_settings(self) -> None:
        jenkins, state = real_jenkins(), '--state "$WORKSPACE/../../state"'
        self.job = f"covtrack-{secrets.token_hex(4)}"
        command = f"PYTHONPATH={ROOT} {sys.executable} -P -m covtrack step {state}"
        server = JenkinsServer(url=jenkins.url, job=self.job, command=command)
        client = JenkinsClient(server)
        client.create_job(self.job, render_job(server))
        self.addCleanup(client.delete_job, self.job)
        self.store = postgresql().fresh_url()
        self.config.write_text(
            SETTINGS.format(
                state=self.folder / "state",
                database=self.store,
                port=free_ports(1)[0],
                jenkins=jenkins.url,
                job=self.job,
                command=command,
                server=self.gerrit.table(),
                project=self.project,
                git=self.url,
                open=f"{self.gerrit.server.url}/{self.project}",
            )
        )

    def test_upload_to_verdict(self) -> None:
        self.database = Database.open(self.store)
        self.addCleanup(self.database.close)
        self.start()
        shapes = dedent(FILES["sample/shapes.py"])
        info = self.push(f"I{secrets.token_hex(20)}", "Add unused", shapes=shapes + UNTESTED)
        (verdict,) = self.wait_for_verdicts(info)
        self.assertIn("Patch coverage: 14.28 %, 1 of 7 statements", verdict.text)
        self.assertEqual(
            {"sample/shapes.py"}, {one.path for one in self.client.comments(info.number)}
        )
        self.wait(self.is_idle)
        (job,) = [one for one in self.jobs() if one.kind is JobKind.CHANGE]
        self.assertIs(VerdictState.POSTED, job.verdict)
        (build,) = self.database.read(
            lambda connection: building.builds_of(connection, job.job_id)
        )
        self.assertEqual((BuildState.ENDED, "SUCCESS"), (build.state, build.result))
        self.assertIn("agent", build.node)
        run = self.database.find_run(self.project, info.sha)
        assert run is not None
        self.assertEqual(job.run_id, run.run_id)
        self.assertEqual(1, len(self.verdicts(info)))
