"""A stored run as the result that it was stored from."""

from __future__ import annotations

from pathlib import Path

from covtrack.store.database import Database
from covtrack.store.values import StoredRun
from jobs.results import JobResult, Measurement


def recall_result(database: Database, run: StoredRun, state: Path) -> JobResult:
    """The result of the run; `state` is the folder that its snapshot's path counts from."""
    return JobResult(
        project=run.project,
        branch=run.branch,
        commit=run.commit,
        subject=run.subject,
        committed_at=run.committed_at,
        base=run.base,
        select=run.select,
        kind=run.kind,
        tests=run.tests,
        measurement=Measurement(files=database.files_of(run.run_id)),
        before=run.before,
        faults=database.faults_of(run.run_id),
        outcomes=database.outcomes_of(run.run_id),
        carried=database.carried_of(run.run_id),
        complete=run.complete,
        snapshot=state / run.snapshot,
        recorder=run.recorder,
        environment=run.environment,
        notes=run.notes,
        seconds=run.seconds,
        cpu_seconds=run.cpu_seconds,
        patch=run.patch,
        provisional=run.provisional,
    )
