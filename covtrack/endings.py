"""How an attempt at a job ends: measured, tried again later, or given up; for all executors.

After a provisional result the rest is queued in the same transaction. What an attempt may cost in
time is here too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from covtrack.settings import TrackedProject
from covtrack.store import queueing, reading
from covtrack.store.database import Database
from covtrack.store.queued import OF_CHANGE, Job, JobKind, JobState, NewJob, VerdictState
from venv_builder.errors import InfrastructureError, UsageError

MOST_ATTEMPTS = 3
RETRY_SECONDS = 30.0
# What the covtrack process beside the tests takes of a job's own time limit.
MARGIN_SECONDS = 1800.0
TOO_LONG = "It took too long and was stopped."


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What came of one attempt: the step's exit status, and words for a failure.

    `most_attempts` and `retry_seconds` (times the attempt's number) say how it is tried again.
    """

    status: int
    words: str
    most_attempts: int = MOST_ATTEMPTS
    retry_seconds: float = RETRY_SECONDS


def end_job(
    database: Database,
    say: Callable[[str], None],
    job: Job,
    ending: Ending,
    *,
    also: Callable[[Connection], None] = lambda connection: None,
) -> bool:
    """Note how an attempt ended, and say it; False where the job is not running any more.

    A fault of infrastructure is tried again a few times. `also` writes in the same transaction, in
    which the rest of a change is queued too, where its result is provisional.
    """
    now = datetime.now(UTC)
    status = ending.status
    measured = status == 0 or (status == InfrastructureError.exit_status and job.run_id)
    tried_out = status == UsageError.exit_status or job.attempts >= ending.most_attempts
    again = not measured and not tried_out
    if again:
        later = now + timedelta(seconds=ending.retry_seconds * job.attempts)
        values: dict[str, object] = {"state": JobState.QUEUED.value, "not_before": later}
    else:
        state = JobState.DONE if measured else JobState.FAILED
        due = VerdictState.PENDING.value if job.kind in OF_CHANGE else None
        values = {"state": state.value, "ended_at": now, "verdict": due}
    values["error"] = "" if measured else ending.words[:2000]

    def write(connection: Connection) -> bool:
        also(connection)
        moved = queueing.move_job(connection, job.job_id, JobState.RUNNING, values)
        if moved and measured and job.kind is JobKind.CHANGE:
            put_rest(connection, job.job_id, now)
        return moved

    moved = database.write(write)
    if moved and measured and job.started_at:
        seconds = (now - job.started_at).total_seconds()
        say(f"Job {job.job_id}: {describe(job)} is measured, {seconds:.1f} s.")
    if moved and not measured:
        what = "it will be tried again" if again else "given up"
        say(f"Job {job.job_id} of {job.project} failed, {what}: {ending.words}")
    return moved


def put_rest(connection: Connection, job_id: int, now: datetime) -> None:
    """Queue the rest of the job's change, unless its result is final."""
    job = queueing.read_job(connection, job_id)
    if job is None or job.run_id is None:
        return
    runs = reading.read_runs(connection, reading.one_id(job.run_id))
    if not any(run.provisional for run in runs):
        return
    rest = NewJob(
        server=job.server,
        project=job.project,
        kind=JobKind.REST,
        branch=job.branch,
        reason=job.reason,
        change=job.change,
        patch_set=job.patch_set,
        commit=job.commit,
        ref=job.ref,
    )
    queueing.put_job(connection, rest, now)


def describe(job: Job) -> str:
    """What a job measures, for the log."""
    if job.kind is JobKind.REST:
        return f"the rest of {job.project} change {job.change},{job.patch_set}"
    if job.kind is JobKind.ADVANCE:
        return f"{job.project} {job.branch}"
    if job.kind is JobKind.VERIFY:
        return f"{job.project} {job.commit[:10]} in full, for the ledger,"
    return f"{job.project} change {job.change},{job.patch_set}"


def time_limit(project: TrackedProject, commits: int = 1) -> timedelta:
    """How long measuring so many commits may take, all in all."""
    return timedelta(seconds=2 * project.timeout * commits + MARGIN_SECONDS)
