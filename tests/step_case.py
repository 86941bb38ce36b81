"""Steps on a sample project in processes of their own, with or without a tracker, for tests."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from testtools import TestCase

from covtrack.ordering import OrderedBuild, order_build
from covtrack.serving import Service
from covtrack.settings import Settings, TrackedProject
from covtrack.store import building, queueing
from covtrack.store.database import Database
from covtrack.store.queued import OF_CHANGE, Build, BuildState, Job, JobKind, NewJob
from covtrack.tracking import Tracker
from jobs.bundle import NAME
from jobs.order import OrderedCommit, StepOrder
from jobs.project import ProjectSettings
from jobs.results import Kind, Select
from tests.sample_project import SampleClone
from venv_builder.processes import Completed, run_command
from venv_builder.progress import ignore

ROOT = Path(__file__).parents[2]
# One agent for all tests: they share its environments.
AGENT = Path(tempfile.mkdtemp(prefix="covtrack-agent-"))
atexit.register(shutil.rmtree, AGENT, ignore_errors=True)


class StepCase(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp(prefix="step-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.name = "-".join(("sample", *self.id().split(".")[-2:]))[:100]
        self.clone = SampleClone(self.folder / "sample")
        self.first = self.clone.repo.head.commit.hexsha
        self.out = self.folder / "out"

    def change(self) -> str:
        """Commit a change on a branch of its own."""
        self.clone.repo.git.checkout("-q", "-B", "work")
        self.clone.replace("sample/texts.py", '"hello "', '"Hello "')
        return self.clone.commit_all("Louder")

    def step(
        self, *words: object, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Completed:
        """Run `covtrack step` in another process."""
        place = ("--output", self.out, "--state", AGENT)
        argv = [sys.executable, "-P", "-m", "covtrack", "step", *place, *words]
        return run_command(
            [str(word) for word in argv],
            cwd=cwd or self.folder,
            env=self.environment() | dict(env or {}),
            timeout=300,
        )

    def environment(self) -> dict[str, str]:
        dropped = ("GERRIT_", "ZUUL_", "COVTRACK_")
        return {k: v for k, v in os.environ.items() if not k.startswith(dropped)}

    def settings(self) -> ProjectSettings:
        return ProjectSettings(
            name=self.name, git=str(self.clone.root), branch="master", constraints="none"
        )

    def write_order(self, *commits: OrderedCommit, **more: object) -> Path:
        order = StepOrder.model_validate(
            {
                "run_id": "run-1",
                "settings": self.settings(),
                "branch": "master",
                "commits": commits,
                **more,
            }
        )
        path = self.folder / "order.json"
        path.write_text(order.model_dump_json())
        return path

    def report(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.out / "covtrack.json").read_text())
        return found

    def written(self) -> list[str]:
        return sorted(path.name for path in self.out.iterdir())


def full(sha: str) -> OrderedCommit:
    return OrderedCommit(sha=sha, kind=Kind.BASELINE, select=Select.ALL)


def affected(sha: str) -> OrderedCommit:
    return OrderedCommit(sha=sha, kind=Kind.CHANGE, select=Select.AFFECTED)


FILES = ["coverage.xml", NAME, "covtrack.json", "junit.xml"]


class TrackerCase(StepCase):
    def fresh_url(self) -> str | None:
        """Where an empty database is; None: an SQLite file in the state folder."""
        return None

    def setUp(self) -> None:
        super().setUp()
        self.project = TrackedProject.model_validate(self.settings().model_dump())
        self.tracked = Settings(
            state=self.folder / "state",
            database=self.fresh_url(),
            listen="127.0.0.1:0",
            projects={self.name: self.project},
        )
        self.database = Database.open(self.tracked.database_url)
        self.addCleanup(self.database.close)
        self.tracker = Tracker(self.tracked, self.database, ignore)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """covtrack's HTTP side alone, on a free port."""
        said: list[str] = []
        service = Service(self.tracked, None, self.database, listen_only=True, say=said.append)
        with service.answering():
            yield said[-1].removeprefix("HTTP on ").rstrip(".")

    def order(self, sha: str, kind: JobKind = JobKind.CHANGE, *, change: int = 7) -> OrderedBuild:
        """A job and its build, as they stand before the build starts."""
        self.tracker.mirror(self.name).fetch(str(self.clone.root))
        new = NewJob(
            server="g",
            project=self.name,
            kind=kind,
            branch="master",
            reason="",
            change=change if kind in OF_CHANGE else None,
            patch_set=1 if kind in OF_CHANGE else None,
            commit=sha,
        )
        now = datetime.now(UTC)
        job_id = self.database.write(lambda c: queueing.put_job(c, new, now))
        assert job_id is not None
        found = order_build(self.tracker, self.project, self.job(job_id))
        assert found is not None
        return found

    def job(self, job_id: int) -> Job:
        job = self.database.read(lambda c: queueing.read_job(c, job_id))
        assert job is not None
        return job

    def build(self, run_id: str) -> Build:
        build = self.database.read(lambda c: building.read_build(c, run_id))
        assert build is not None
        return build

    def move(self, run_id: str, state: BuildState) -> None:
        values = {"state": state.value}
        self.database.write(lambda c: building.move_build(c, run_id, tuple(BuildState), values))

    def variables(self, url: str, build: OrderedBuild) -> dict[str, str]:
        return {
            "COVTRACK_TRACKER": url,
            "COVTRACK_RUN_ID": build.run_id,
            "COVTRACK_RUN_TOKEN": build.token,
        }
