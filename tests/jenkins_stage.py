"""A tracker, a Jenkins with agents and projects in git: jobs that go the whole way, for real.

There is no Gerrit: jobs are put into the queue as its events would. `covtrack serve` is a process
of its own and may be killed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent

from covtrack.java import free_ports
from covtrack.jenkins.client import JenkinsClient
from covtrack.jenkins.job_xml import render_job
from covtrack.jenkins.settings import JenkinsServer
from covtrack.store import building, queueing
from covtrack.store.database import Database
from covtrack.store.queued import Build, Job, JobKind, JobState, NewJob
from tests.jenkins_fixture import RealJenkins
from tests.sample_project import FILES
from tests.scratch_git import ScratchRepository
from venv_builder.processes import ProcessGroup, start_group

ROOT = Path(__file__).parents[1]
SETTINGS = """
state = "{folder}/state"
listen = "127.0.0.1:{port}"
url = "http://127.0.0.1:{port}"
executor = "jenkins"
[jenkins]
url = "{url}"
job = "{job}"
command = '{command}'
every = "1 s"
most_builds = {most}
most_of_project = {most}
[gerrit.none]
url = "http://127.0.0.1:9"
"""
PROJECT = """
[projects."{name}"]
git = "{git}"
gerrit = "none"
branch = "master"
constraints = "none"
workers = 1
"""


@dataclass
class Stage:
    """All parts in `folder`, but for the server, which is there and has its agents."""

    folder: Path
    jenkins: RealJenkins
    job: str
    projects: tuple[str, ...] = ("sample",)
    most_builds: int = 4
    more: str = ""  # lines of every project's table
    serving: ProcessGroup | None = None
    repositories: dict[str, ScratchRepository] = field(default_factory=dict)

    def prepare(self) -> None:
        """The projects, the settings, the database, and the job on the server."""
        self.port = free_ports(1)[0]
        # Each agent keeps its own mirrors and environments, beside its workspaces.
        state = '--state "$WORKSPACE/../../state"'
        command = f"PYTHONPATH={ROOT} {sys.executable} -P -m covtrack step {state}"
        self.server = JenkinsServer(url=self.jenkins.url, job=self.job, command=command)
        self.client = JenkinsClient(self.server)
        self.client.create_job(self.job, render_job(self.server))
        text = SETTINGS.format(
            folder=self.folder,
            port=self.port,
            url=self.jenkins.url,
            job=self.job,
            command=command,
            most=self.most_builds,
        )
        for name in self.projects:
            repository = ScratchRepository(self.folder / "git" / name)
            repository.commit({path: dedent(part) for path, part in FILES.items()}, "Begin")
            self.repositories[name] = repository
            text += PROJECT.format(name=name, git=repository.root) + self.more
        (self.folder / "covtrack.toml").write_text(text)
        self.database = Database.open(f"sqlite:///{self.folder}/state/covtrack.sqlite")

    def serve(self) -> None:
        """Start covtrack serve."""
        config = str(self.folder / "covtrack.toml")
        self.serving = start_group(
            [sys.executable, "-P", "-m", "covtrack", "--config", config, "serve"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=self.folder / "serve.out",
            stderr=self.folder / f"serve-{datetime.now(UTC):%H%M%S%f}.log",
        )

    def kill_tracker(self) -> None:
        """As kill -9 does."""
        if self.serving is not None:
            os.kill(self.serving.pid, signal.SIGKILL)
            self.serving.kill()
            self.serving = None

    def stop_tracker(self) -> None:
        """In peace."""
        if self.serving is not None:
            self.serving.kill(20.0)
            self.serving = None

    def put_change(self, project: str, number: int, files: Mapping[str, str]) -> int:
        """A change of one patch set on master's tip, and its job."""
        repository = self.repositories[project]
        repository.git("checkout", "-q", "--detach", "master")
        sha = repository.commit({**files}, f"Change {number}")
        ref = f"refs/changes/{number % 100:02}/{number}/1"
        repository.git("update-ref", ref, sha)
        repository.git("checkout", "-q", "master")
        return self._put(
            NewJob(
                server="none",
                project=project,
                kind=JobKind.CHANGE,
                branch="master",
                reason="patchset-created",
                change=number,
                patch_set=1,
                commit=sha,
                ref=ref,
            )
        )

    def put_advance(self, project: str) -> int:
        """The job of the branch's tip."""
        return self._put(
            NewJob(
                server="none",
                project=project,
                kind=JobKind.ADVANCE,
                branch="master",
                reason="ref-updated",
                commit=self.repositories[project].git("rev-parse", "master"),
            )
        )

    def _put(self, new: NewJob) -> int:
        job_id = self.database.write(lambda c: queueing.put_job(c, new, datetime.now(UTC)))
        assert job_id is not None
        return job_id

    def jobs(self) -> tuple[Job, ...]:
        """All jobs, newest first."""
        return self.database.read(lambda c: queueing.newest_jobs(c, 10_000))

    def builds(self, job_id: int) -> tuple[Build, ...]:
        """All builds of a job, the first attempt first."""
        return self.database.read(lambda c: building.builds_of(c, job_id))

    def is_idle(self) -> bool:
        """Whether every job came to an end."""
        return all(job.state in (JobState.DONE, JobState.FAILED) for job in self.jobs())

    def log(self) -> str:
        """What the trackers said, one after the other."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("serve-*.log")))


def grown(number: int) -> dict[str, str]:
    """Files of a change that reaches a test."""
    text = dedent(FILES["sample/shapes.py"])
    return {
        "sample/shapes.py": text.replace(
            "return width * height", f"return width * height + {number} - {number}"
        )
    }
