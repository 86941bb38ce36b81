"""One job of the queue, in a process of its own: measures, and leaves what it found.

The executor starts it as `covtrack work JOB`; what it writes to the job's row is all that the
executor learns of it, beside the exit status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from sqlalchemy import Connection

from covtrack.ledger import is_sampled, verify_run
from covtrack.prospect import Prospector
from covtrack.settings import TrackedProject
from covtrack.store import inbox, queueing
from covtrack.store.database import Database
from covtrack.store.queued import OF_CHANGE, Job, JobKind, NewJob
from covtrack.tracking import Order, Tracker
from jobs.results import JobResult
from venv_builder.errors import CovtrackError, UsageError
from venv_builder.progress import Event, where_it_stands

TOLD_EVERY = 1.0
MOST_OPEN = 200


@dataclass
class Progress:
    """A listener that keeps the job's row up to date, at most once a second."""

    database: Database
    job_id: int
    told: float = 0.0

    def tell(self, event: Event) -> None:
        """Note where the job stands."""
        words = where_it_stands(event)
        if words is not None and monotonic() - self.told >= TOLD_EVERY:
            self.told = monotonic()
            put(self.database, self.job_id, {"progress": words[:200]})


def put(database: Database, job_id: int, values: Mapping[str, Any]) -> None:
    """Change columns of the job's row."""
    database.write(lambda connection: queueing.put_values(connection, job_id, values))


def work(tracker: Tracker, database: Database, job_id: int) -> bool:
    """Measure what the job names and note it in its row; whether that went as it should.

    An incomplete figure did not, unless the budget ended: the rest then comes as another job.

    Raises UsageError for an unknown job, CovtrackError for what went wrong (noted too).
    """
    job = database.read(lambda connection: queueing.read_job(connection, job_id))
    if job is None:
        raise UsageError(f"There is no job {job_id} in the database.")
    put(database, job_id, {"error": "", "progress": ""})
    project = tracker.settings.project(job.project)
    project = project.model_copy(update={"branch": job.branch})
    try:
        result = _measure(tracker, project, job)
    except CovtrackError as error:
        put(database, job_id, {"error": str(error)[:2000]})
        raise
    if result is None:
        return True
    run = database.find_run(job.project, result.commit)
    values: dict[str, Any] = {"run_id": run.run_id if run else None, "progress": ""}
    if job.kind in OF_CHANGE and result.complete:
        values["gain"] = prospective_gain(tracker, database, project, job)
    put(database, job_id, values)
    return result.complete or result.provisional is not None


def _measure(tracker: Tracker, project: TrackedProject, job: Job) -> JobResult | None:
    if job.kind is JobKind.VERIFY:
        verify_run(tracker, project, job.commit)
        return None
    if job.kind in OF_CHANGE:
        budget = project.budget if job.kind is JobKind.CHANGE else None
        result = tracker.run(project, Order(revision=job.commit, fetch=False, budget=budget))
        queue_samples(tracker.database, project, job, [result])
        return result
    results = tracker.advance(project, lambda result: None, fetch=False)
    queue_samples(tracker.database, project, job, results)
    return results[-1] if results else None


def queue_samples(
    database: Database, project: TrackedProject, job: Job, results: Sequence[JobResult]
) -> int:
    """Queue full runs of those results that are sampled for the ledger; how many are new."""
    drawn = _drawn(project, results)
    if not drawn:  # most jobs: they write nothing
        return 0
    now = datetime.now(UTC)
    return database.write(lambda c: put_samples(c, project, job, drawn, now))


def _drawn(project: TrackedProject, results: Sequence[JobResult]) -> list[JobResult]:
    return [one for one in results if one.complete and is_sampled(one.commit, project.ledger)]


def put_samples(
    connection: Connection,
    project: TrackedProject,
    job: Job,
    results: Sequence[JobResult],
    now: datetime,
) -> int:
    """`queue_samples`, inside the caller's transaction."""
    new = [
        NewJob(
            server=job.server,
            project=job.project,
            kind=JobKind.VERIFY,
            branch=job.branch,
            reason="sampled for the ledger",
            commit=result.commit,
            ref=job.ref if job.kind in OF_CHANGE else "",
        )
        for result in _drawn(project, results)
    ]
    ids = [queueing.put_job(connection, one, now) for one in new]
    return sum(job_id is not None for job_id in ids)


def _has_final(database: Database, project: str, commit: str) -> bool:
    """Whether a commit is measured whole: what is not would be measured again for each other."""
    run = database.find_run(project, commit)
    return run is not None and run.complete


def prospective_gain(
    tracker: Tracker, database: Database, project: TrackedProject, job: Job
) -> dict[str, Any] | None:
    """Coverage of the branch with all open changes that are measured; None where unknown.

    Keys: before and after (statements, covered), own (statements that this change alone brings),
    open_changes, and at (when it was worked out).
    """
    name = project.name_on_gerrit
    found = database.read(
        lambda connection: inbox.open_changes(connection, job.server, name, job.branch)
    )
    measured = [
        change.commit
        for change in found
        if change.commit == job.commit or _has_final(database, project.name, change.commit)
    ]
    others = [commit for commit in measured if commit != job.commit][-(MOST_OPEN - 1) :]
    tip = tracker.mirror(project.name).branch_tip(job.branch)
    known = database.find_run(project.name, tip) if tip else None
    if known is not None and not known.complete:
        return None  # it would be measured in full again, for each change
    try:
        prospect = Prospector(tracker, project).run((job.commit, *others), fetch=False)
    except CovtrackError:
        return None
    own = next(change for change in prospect.changes if change.commit == job.commit)
    return {
        "before": prospect.before.model_dump(include={"statements", "covered"}),
        "after": prospect.after.model_dump(include={"statements", "covered"}),
        "own": own.gain,
        "open_changes": sum(change.gain is not None for change in prospect.changes),
        "at": datetime.now(UTC).isoformat(),
    }
