"""Has the queue's jobs measured by builds on Jenkins, a bounded number at a time.

All that has to outlive this process is in the database (table `builds`): killed and started again,
it goes on with what Jenkins says of each build. It stops no build when it ends.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any

from sqlalchemy import Connection

from covtrack.endings import MOST_ATTEMPTS, RETRY_SECONDS, Ending, describe, end_job, time_limit
from covtrack.jenkins.client import JenkinsClient
from covtrack.jenkins.collecting import Collector, Store
from covtrack.jenkins.failures import JenkinsError, Unreachable
from covtrack.jenkins.following import GRACE, OURS, Act, Look, Move, Wish, decide
from covtrack.jenkins.job_xml import TOKEN, TRACKER
from covtrack.jenkins.settings import JenkinsServer
from covtrack.jenkins.values import RUN_ID, BuildInfo, by_run
from covtrack.ordering import token_digest
from covtrack.settings import Settings
from covtrack.store import building, queueing
from covtrack.store.database import Database
from covtrack.store.queued import UNDER_WAY, Build, BuildState, Job, JobState
from jobs.holding import MOST_FULL_RUNS
from venv_builder.errors import CovtrackError, InfrastructureError, UsageError

MOST_LOST = 10
MOST_FAILURES, MANY = 20, 3
LOST = "Jenkins does not know of its build any more."
# Puts a build of a job into the database, the n-th: its run id and token; None where all that the
# job asks for is measured.
Order = Callable[[Job, int], tuple[str, str] | None]


@dataclass
class Asked:
    """What this process knows of a build beside the database: the token is nowhere else."""

    token: str | None = None
    at: datetime | None = None
    missed_at: datetime | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How patient an executor is: with builds that are in no look, and before it tries again."""

    grace: timedelta = GRACE
    retry_seconds: float = RETRY_SECONDS
    lost_retry_seconds: float = 5.0


class JenkinsExecutor:
    """Takes the jobs of projects on Jenkins; `say` gets whole sentences.

    `order` makes the builds of jobs, `store` puts their bundles into the database.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        say: Callable[[str], None],
        *,
        order: Order,
        store: Store,
    ) -> None:
        self.server = _required(settings)
        self.settings = settings
        self.database = database
        self.say = say
        self.order = order
        self.client = JenkinsClient(self.server)
        self.collector = Collector(self.client, settings.state / "builds", store)
        self.asked: dict[str, Asked] = {}
        self.pace = Pace()
        self._look_at = 0.0
        self._trouble = ""

    def recover(self) -> int:
        """Queue again what no build was made for when an executor died; how many jobs."""
        mine = self.settings.projects_on("jenkins")
        return self.database.write(partial(queueing.recover, only=mine))

    def step(self) -> bool:
        """Follow what is under way when it is time, and begin what is to be."""
        alive = self.database.read(building.builds_alive)
        if monotonic() >= self._look_at:
            self._look_at = monotonic() + self.server.every
            self.recover()  # the database may have failed between a claim and its build
            try:
                self._follow_all(alive)
                self._end_trouble()
            except JenkinsError as error:
                self._tell_trouble(error)
        # What cannot be asked for now stays in the queue.
        return False if self._trouble else self._begin_one()

    def stop(self) -> None:
        """Nothing: builds go on, and the next executor takes them up."""

    def _follow_all(self, alive: tuple[Build, ...]) -> None:
        known = {build.run_id for build in alive}
        items = {item.run_id: item for item in self.client.queue() if item.run_id}
        builds = by_run(self.client.builds(self.server.job))
        look = Look(at=datetime.now(UTC), items=items, builds=builds)
        self.asked = {run_id: one for run_id, one in self.asked.items() if run_id in known}
        failures = [error for build in alive if (error := self._try_to_follow(build, look))]
        if len(failures) >= MANY:
            raise failures[0]
        self._end_strays(look, known)

    def _try_to_follow(self, build: Build, look: Look) -> JenkinsError | None:
        """What Jenkins failed to do about the build, which then keeps no other from its turn."""
        note = self.asked.setdefault(build.run_id, Asked())
        try:
            self._follow(build, look, note)
        except JenkinsError as error:
            note.failures += 1
            job = self.database.read(lambda c: queueing.read_job(c, build.job_id))
            if note.failures >= MOST_FAILURES and job:
                self._lose(build, job, error.sentence)
            return error
        note.failures = 0
        return None

    def _follow(self, build: Build, look: Look, note: Asked) -> None:
        seen = build.run_id in look.builds or build.run_id in look.items
        note.missed_at = None if seen else note.missed_at or look.at
        job = self.database.read(lambda c: queueing.read_job(c, build.job_id))
        move = decide(build, look, self._wish(build, job, note))
        if move.act is Act.LOSE and (info := self._second_look(build)) is not None:
            found = Look(at=look.at, items={}, builds={build.run_id: info})
            move = decide(build, found, self._wish(build, job, note))
        self._note(build, job, move)
        self._act(build, job, move, look)

    def _wish(self, build: Build, job: Job | None, note: Asked) -> Wish:
        project = self.settings.projects.get(job.project) if job else None
        commits = build.order.get("commits")
        number = len(commits) if isinstance(commits, list | tuple) else 1
        number *= MOST_FULL_RUNS if build.order.get("against") else 1
        return Wish(
            wanted=job is not None and job.state is JobState.RUNNING,
            time_limit=time_limit(project, number) if project else timedelta.max,
            queue_patience=timedelta(seconds=self.server.queue_patience),
            grace=self.pace.grace,
            asked_at=note.at,
            missed_at=note.missed_at,
        )

    def _second_look(self, build: Build) -> BuildInfo | None:
        """The build where neither queue nor list show it: hundreds may have begun since."""
        number = build.number
        if number is None and build.queue_id is not None:
            item = self.client.queue_item(build.queue_id)
            number = item.executable.number if item and item.executable else None
        if number is not None:
            found = self.client.build(self.server.job, number)
            if found is not None and found.run_id == build.run_id:
                return found
        return by_run(self.client.builds(self.server.job, every=True)).get(build.run_id)

    def _note(self, build: Build, job: Job | None, move: Move) -> None:
        def write(connection: Connection) -> None:
            if move.values:
                building.move_build(connection, build.run_id, UNDER_WAY, move.values)
            told = job.progress if job else ""  # the step tells more
            if move.progress and job and (not told or told.startswith(OURS)):
                queueing.put_values(connection, job.job_id, {"progress": move.progress[:200]})

        self.database.write(write)

    def _act(self, build: Build, job: Job | None, move: Move, look: Look) -> None:
        match move.act:
            case Act.ASK:
                self._ask(build)
            case Act.TAKE_OFF:
                number = move.values.get("queue_id", build.queue_id)
                self.client.cancel_item(number)
            case Act.STOP:
                self.client.stop(self.server.job, move.values["number"])
            case Act.COLLECT if job:
                self._collect(build, job, look)
            case Act.LOSE if job:
                self._lose(build, job, build.error or LOST)
            case Act.CLOSE:
                self._close(build, BuildState.CANCELLED)

    def _collect(self, build: Build, job: Job, look: Look) -> None:
        info = look.builds.get(build.run_id) or self._second_look(build)
        if info is None:
            return
        left = self.collector.collect(build, info)
        if left.lost:
            self._lose(build, job, left.words)
            return
        ended = self.database.read(lambda c: queueing.read_job(c, job.job_id)) or job
        ending = Ending(
            status=left.status,
            words=build.error or left.words,
            most_attempts=1 if left.refused else MOST_ATTEMPTS + self._count_lost(job),
            retry_seconds=self.pace.retry_seconds,
        )
        self._end(build, ended, ending, BuildState.ENDED)

    def _lose(self, build: Build, job: Job, words: str) -> None:
        """Not the job's fault: it is tried again more often than after a failure of its own."""
        if build.stored:  # the step brought its bundle before all knowledge of it was lost
            self._end(build, job, Ending(status=0, words=""), BuildState.ENDED)
            return
        ending = Ending(
            status=InfrastructureError.exit_status,
            words=words,
            most_attempts=MOST_LOST,
            retry_seconds=self.pace.lost_retry_seconds,
        )
        self._end(build, job, ending, BuildState.LOST)

    def _end(self, build: Build, job: Job, ending: Ending, state: BuildState) -> None:
        """The job's attempt and the build end together, or not at all."""
        values = {"state": state.value, "ended_at": datetime.now(UTC)}
        if ending.status:
            values["error"] = ending.words[:2000]

        def close(connection: Connection) -> None:
            building.move_build(connection, build.run_id, UNDER_WAY, values)

        end_job(self.database, self.say, job, ending, also=close)

    def _close(self, build: Build, state: BuildState) -> None:
        values = {"state": state.value, "ended_at": datetime.now(UTC)}
        self.database.write(lambda c: building.move_build(c, build.run_id, UNDER_WAY, values))

    def _count_lost(self, job: Job) -> int:
        found = self.database.read(lambda c: building.builds_of(c, job.job_id))
        return sum(build.state is BuildState.LOST for build in found)

    def _end_strays(self, look: Look, known: set[str]) -> None:
        """Take off and stop what is ours, but whose result nobody waits for any more."""
        for run_id, item in look.items.items():
            if item.id is not None and self._is_stray(run_id, known):
                self.client.cancel_item(item.id)
        for run_id, info in look.builds.items():
            if info.building and self._is_stray(run_id, known):
                self.client.stop(self.server.job, info.number)

    def _is_stray(self, run_id: str, known: set[str]) -> bool:
        if run_id in known:
            return False
        build = self.database.read(lambda c: building.read_build(c, run_id))
        return build is not None and not build.is_under_way

    def _begin_one(self) -> bool:
        """Claim a job and have it built; whether there was one, and room for it."""
        if len(self.database.read(building.builds_alive)) >= self.server.most_builds:
            return False
        job = self.database.write(
            lambda connection: queueing.claim(
                connection,
                datetime.now(UTC),
                only=self.settings.projects_on("jenkins"),
                side_by_side=self.server.most_of_project,
            )
        )
        if job is None:
            return False
        build = self._order(job)
        if build is not None:
            self.say(f"Job {job.job_id}: {describe(job)} goes to Jenkins ({job.reason}).")
            try:
                self._ask(build)
            except JenkinsError as error:
                self._tell_trouble(error)
        return True

    def _order(self, job: Job) -> Build | None:
        """A build for the job, as the database knows it; None where the job ended instead."""
        attempts = self.database.read(lambda c: building.builds_of(c, job.job_id))
        try:
            ordered = self.order(job, len(attempts) + 1)
        except CovtrackError as error:
            ending = Ending(status=error.exit_status, words=str(error))
            end_job(self.database, self.say, job, ending)
            return None
        if ordered is None:
            end_job(self.database, self.say, job, Ending(status=0, words=""))
            return None
        run_id, token = ordered
        self.asked[run_id] = Asked(token=token)
        return self.database.read(lambda c: building.read_build(c, run_id))

    def _ask(self, build: Build) -> None:
        """Have Jenkins queue the build. A token that died with a process is made anew."""
        note = self.asked.setdefault(build.run_id, Asked())
        if note.token is None:
            note.token = secrets.token_urlsafe(32)
            digest = {"token_sha256": token_digest(note.token)}
            self.database.write(lambda c: building.put_build_values(c, build.run_id, digest))
        note.at = datetime.now(UTC)
        parameters = {
            RUN_ID: build.run_id,
            TRACKER: self.server.tracker or self.settings.url or "",
            TOKEN: note.token,
        }
        number = self.client.start_build(self.server.job, parameters)
        values: Mapping[str, Any] = {
            "state": BuildState.QUEUED.value,
            "queue_id": number,
            "told_at": note.at,
        }
        ordered = (BuildState.ORDERED,)
        self.database.write(lambda c: building.move_build(c, build.run_id, ordered, values))

    def _tell_trouble(self, error: JenkinsError) -> None:
        """Once per kind of trouble; jobs wait meanwhile."""
        kind = type(error).__name__
        if self._trouble != kind:
            waits = "jobs wait" if isinstance(error, Unreachable) else "no job can be built"
            self.say(f"{error} Until then {waits}.")
        self._trouble = kind

    def _end_trouble(self) -> None:
        if self._trouble:
            self.say(f"Jenkins at {self.server.url} answers again.")
        self._trouble = ""


def _required(settings: Settings) -> JenkinsServer:
    if settings.jenkins is None:
        raise UsageError("There is no table [jenkins] in the settings.", advice="Add it.")
    if not (settings.jenkins.tracker or settings.url):
        raise UsageError(
            "[jenkins] does not say where agents reach covtrack serve.",
            advice="Set tracker there, or url at the top of covtrack.toml.",
        )
    return settings.jenkins
