"""Brings the refs of new jobs into the mirrors, and waits for those that a server lacks yet.

Each server has a mirrorer of its own: one that hangs holds no other up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic

from covtrack.settings import Settings, TrackedProject
from covtrack.store import queueing
from covtrack.store.database import Database
from covtrack.store.queued import OF_CHANGE, Job, JobKind, JobState, VerdictState
from covtrack.tracking import Tracker
from jobs.addresses import without_password
from venv_builder.errors import CovtrackError, UsageError, describe_error

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
TOGETHER = 50


class Mirrorer:
    """Fetches for the new jobs of `server` (None: of all); `say` gets whole sentences."""

    def __init__(
        self,
        tracker: Tracker,
        database: Database,
        say: Callable[[str], None],
        server: str | None = None,
    ) -> None:
        self.tracker = tracker
        self.settings: Settings = tracker.settings
        self.database = database
        self.say = say
        self.server = server
        self._waits: dict[int, float] = {}
        self._away: dict[str, float] = {}

    @property
    def away(self) -> frozenset[str]:
        """The projects that could not be fetched when that was tried, a moment ago."""
        since = monotonic() - 2 * LONGEST_WAIT
        return frozenset(name for name, tried in tuple(self._away.items()) if tried > since)

    def fetch_new(self) -> int:
        """Fetch for every new job that is due; how many can be run now."""
        now = datetime.now(UTC)
        new = self.database.read(
            lambda connection: queueing.jobs_in(connection, JobState.NEW, server=self.server)
        )
        due = [job for job in new if job.not_before <= now]
        ready = 0
        for project in sorted({job.project for job in due}):
            jobs = [job for job in due if job.project == project]
            for start in range(0, len(jobs), TOGETHER):
                ready += self._try(project, jobs[start : start + TOGETHER])
        return ready

    def _try(self, name: str, jobs: Sequence[Job]) -> int:
        """Fetch; a mirror that cannot even be read stops no other project."""
        try:
            return self._fetch(name, jobs)
        except Exception as error:
            words = describe_error(error)
            self._is_away(name, words)
            return sum(self._wait(job, words, forever=True) for job in jobs)

    def _is_away(self, name: str, sentence: str) -> None:
        if name not in self._away:
            self.say(f"{name}: {sentence} Jobs go on with what the mirror has.")
        self._away[name] = monotonic()

    def _fetch(self, name: str, jobs: Sequence[Job]) -> int:
        if name not in self.settings.projects:
            return sum(self._give_up(job, f"{name} is no project any more.") for job in jobs)
        project = self.settings.project(name)
        try:
            self._fetch_refs(project, jobs)
        except UsageError as error:  # one ref is not there
            if len(jobs) > 1:
                return sum(self._fetch(name, [job]) for job in jobs)
            return self._go_on(project, jobs[0], str(error), forever=False)
        except CovtrackError as error:
            self._is_away(name, str(error))
            return sum(self._go_on(project, job, str(error), forever=True) for job in jobs)
        if name in self._away:
            del self._away[name]
            self.say(f"{name}: fetched again.")
        return sum(self._queue(project, job) for job in jobs)

    def _go_on(self, project: TrackedProject, job: Job, sentence: str, *, forever: bool) -> int:
        """1 if the mirror has what the job needs though its server does not give it now."""
        mirror = self.tracker.mirror(project.name)
        held = bool(job.commit) and mirror.has(job.commit)
        if held and job.kind is JobKind.ADVANCE:
            tip = mirror.branch_tip(job.branch)
            held = tip is not None and mirror.is_ancestor(job.commit, tip)
        return self._queue(project, job) if held else self._wait(job, sentence, forever=forever)

    def _fetch_refs(self, project: TrackedProject, jobs: Sequence[Job]) -> None:
        refs = sorted({job.ref for job in jobs if job.kind in OF_CHANGE})
        self.tracker.mirror(project.name).fetch(project.git, refs)

    def _queue(self, project: TrackedProject, job: Job) -> int:
        """1 if the job's commit is in the mirror: it can be run."""
        if job.commit and not self.tracker.mirror(project.name).has(job.commit):
            place = without_password(project.git)
            return self._wait(job, f"{place} has no commit {job.commit[:10]} yet.")
        self._waits.pop(job.job_id, None)
        values = {"state": JobState.QUEUED.value, "progress": ""}
        return int(self._move(job, values))

    def _wait(self, job: Job, sentence: str, *, forever: bool = False) -> int:
        now = datetime.now(UTC)
        server = self.settings.gerrit.get(job.server)
        patience = server.ref_wait if server else 0.0
        if not forever and now - job.queued_at > timedelta(seconds=patience):
            return self._give_up(job, sentence)
        wait = min(self._waits.get(job.job_id, FIRST_WAIT / 2) * 2, LONGEST_WAIT)
        self._waits[job.job_id] = wait
        later = now + timedelta(seconds=wait)
        self._move(job, {"not_before": later, "progress": f"waiting: {sentence}"[:500]})
        return 0

    def _give_up(self, job: Job, sentence: str) -> int:
        self._waits.pop(job.job_id, None)
        verdict = VerdictState.PENDING.value if job.kind in OF_CHANGE else None
        ended = {"state": JobState.FAILED.value, "ended_at": datetime.now(UTC)}
        self._move(job, ended | {"error": sentence[:2000], "verdict": verdict})
        return 0

    def _move(self, job: Job, values: Mapping[str, object]) -> bool:
        return self.database.write(
            lambda connection: queueing.move_job(connection, job.job_id, JobState.NEW, values)
        )
