"""Full runs to hold results against: by coverage.py itself, without contexts; none is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from covtrack.tracking import Tracker
from jobs.job import run_job
from jobs.project import ProjectSettings
from jobs.repository import Commit
from jobs.request import Request
from jobs.results import JobResult, Kind, Select


def run_in_full(
    tracker: Tracker,
    project: ProjectSettings,
    commit: Commit,
    branch: str,
    folder: Path,
    workers: int | None = None,
) -> JobResult:
    """All tests of a commit, on coverage.py's quickest core; `workers` None are the project's.

    The caller holds the project's lock; `folder` is its scratch. Raises a CovtrackError if nothing
    could be measured.
    """
    request = Request(
        settings=project.in_full(workers),
        mirror=tracker.mirror(project.name),
        commit=commit,
        branch=branch,
        kind=Kind.CHANGE,
        select=Select.ALL,
        base=None,
        places=replace(tracker.places(project.name), stestr=folder / "stestr"),
        environments=tracker.environments,
        beside=tracker.other_needs(project.name),
    )
    return run_job(request, folder / "full.coverage", tracker.listener).result
