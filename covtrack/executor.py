"""Runs the queue's jobs, each in a process of its own, a bounded number side by side.

A job that is superseded or cancelled in the database is killed with all its processes. What an
executor that died was running is queued again by the next one.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from covtrack.endings import TOO_LONG, Ending, describe, end_job, time_limit
from covtrack.settings import Settings
from covtrack.store import queueing
from covtrack.store.database import Database
from covtrack.store.queued import Job, JobKind, JobState
from covtrack.store.queueing import projects_waiting
from jobs.holding import MOST_FULL_RUNS
from venv_builder.errors import InfrastructureError
from venv_builder.processes import ProcessGroup, start_group

SECRET = re.compile(r"PASS|SECRET|TOKEN|CREDENTIAL", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Started:
    """A running job, and the group of its processes."""

    job: Job
    group: ProcessGroup
    log: Path


class Executor:
    """Takes jobs from the queue of `database`; `say` gets whole sentences."""

    def __init__(
        self,
        settings: Settings,
        config: Path | None,
        database: Database,
        say: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self.config = config
        self.database = database
        self.say = say
        self.logs = settings.state / "jobs"
        self.started: dict[int, Started] = {}
        self._in_doubt = False

    def recover(self) -> int:
        """Queue again what was running when an executor died; how many jobs that were."""
        return self.database.write(partial(queueing.recover, without=self._elsewhere))

    @property
    def _elsewhere(self) -> frozenset[str]:
        return self.settings.projects_on("jenkins")

    def step(self) -> bool:
        """End, kill and start what is to be; whether anything happened.

        Where the database fails meanwhile, whether a job was claimed may be unknown: at the next
        step what is claimed and not running here is queued again.
        """
        if self._in_doubt:
            self.database.write(
                partial(queueing.recover, held=tuple(self.started), without=self._elsewhere)
            )
        self._in_doubt = True
        ended = self._finish_all()
        killed = self._kill_unwanted() + self._make_room()
        begun = self._start_some()
        self._in_doubt = False
        return bool(ended or killed or begun)

    def stop(self) -> None:
        """Kill what runs; it is queued again."""
        for one in tuple(self.started.values()):
            one.group.kill()
        self.started.clear()
        self.recover()

    def _finish_all(self) -> int:
        ended = [one for one in self.started.values() if one.group.poll() is not None]
        for one in ended:
            self._finish(one)
        return len(ended)

    def _job(self, job_id: int) -> Job | None:
        return self.database.read(lambda connection: queueing.read_job(connection, job_id))

    def _start_some(self) -> int:
        begun = 0
        while len(self.started) < self.settings.executors:
            job = self.database.write(
                lambda connection: queueing.claim(
                    connection, datetime.now(UTC), without=self._elsewhere
                )
            )
            if job is None:
                break
            begun += 1
            self._start(job)
        return begun

    def _start(self, job: Job) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{job.job_id}.log"
        config = ["--config", str(self.config)] if self.config else []
        argv = [sys.executable, "-P", "-m", "covtrack", *config, "work", str(job.job_id)]
        try:
            group = start_group(
                argv,
                cwd=Path.cwd(),
                env=without_secrets(os.environ, self.settings),
                stdout=log.with_suffix(".out"),
                stderr=log,
            )
        except InfrastructureError as error:
            self._end(job, InfrastructureError.exit_status, str(error))
            return
        self.started[job.job_id] = Started(job, group, log)
        self.say(f"Job {job.job_id}: {describe(job)} begins ({job.reason}).")

    def _kill_unwanted(self) -> int:
        """Kill jobs that are not running any more by the database, and those out of time."""
        killed = 0
        for one in tuple(self.started.values()):
            job_id = one.job.job_id
            job = self._job(job_id)
            if job is None or job.state is not JobState.RUNNING:
                one.group.kill()
                del self.started[job_id]
                killed += 1
            elif self._is_overdue(job):
                one.group.kill()
                self._end(job, InfrastructureError.exit_status, TOO_LONG)
                del self.started[job_id]
                killed += 1
        return killed

    def _make_room(self) -> int:
        """Kill full runs for the ledger where another job would wait for them; they come again."""
        verifying = [o for o in self.started.values() if o.job.kind is JobKind.VERIFY]
        if not verifying:
            return 0
        now = datetime.now(UTC)
        waiting = self.database.read(lambda connection: projects_waiting(connection, now))
        full = waiting and len(self.started) >= self.settings.executors
        yielding = [one for one in verifying if full or one.job.project in waiting]
        for one in yielding:
            one.group.kill()
            job = self.started.pop(one.job.job_id).job
            values = {"state": JobState.QUEUED.value, "attempts": job.attempts - 1}
            self.database.write(
                lambda connection, job=job, values=values: queueing.move_job(  # type: ignore[misc]
                    connection, job.job_id, JobState.RUNNING, values
                )
            )
        return len(yielding)

    def _is_overdue(self, job: Job) -> bool:
        project = self.settings.projects.get(job.project)
        if project is None or job.started_at is None or job.kind is JobKind.ADVANCE:
            return False  # an advance may have many commits before it
        runs = MOST_FULL_RUNS if job.kind is JobKind.VERIFY else 1
        return datetime.now(UTC) - job.started_at > time_limit(project, runs)

    def _finish(self, one: Started) -> None:
        status = one.group.poll()
        job = self._job(one.job.job_id)
        if job is not None and job.state is JobState.RUNNING:
            words = job.error or _last_words(one.log)
            self._end(job, 1 if status is None else status, words)
        del self.started[one.job.job_id]  # at last: where the database fails it is tried again

    def _end(self, job: Job, status: int, words: str) -> None:
        end_job(self.database, self.say, job, Ending(status=status, words=words))


def without_secrets(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The variables a job's process gets: no password or secret of a server is among them."""
    named = {
        name
        for server in settings.gerrit.values()
        for name in (server.password_env, server.webhook_secret_env)
        if name
    }
    if settings.jenkins and settings.jenkins.token_env:
        named.add(settings.jenkins.token_env)
    return {k: v for k, v in environ.items() if k not in named and not SECRET.search(k)}


def _last_words(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1][:500] if lines else "The job's process ended without a word."
