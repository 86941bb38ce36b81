"""What Gerrit's Checks tab shows of a patch set's measurement, in Gerrit's own terms. Pure.

A check's results are a summary of the verdict and, where nothing else can be the cause, the
ranges of the patch that no test runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from covtrack.gerrit.line_comments import LONGEST_NAME, may_hide_coverage
from covtrack.gerrit.policy import Decision, count, describe_patch, describe_provisional
from covtrack.gerrit.settings import ReviewSettings
from covtrack.gerrit.verdict import (
    Gain,
    describe_failed,
    describe_faults,
    describe_gain,
    describe_project,
    describe_tests,
)
from covtrack.grids import clean
from covtrack.store.queued import ALIVE, Job, JobKind, JobState
from jobs.results import JobResult, UncoveredRange

NAME = "covtrack"
WAITING = {JobState.NEW: "Waits for its ref.", JobState.QUEUED: "Waits for its turn."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of a patch set's run: the result, what was decided, the prospect if known."""

    result: JobResult
    decision: Decision
    gain: Gain | None


def describe_check(
    *,
    name: str,
    jobs: tuple[Job, ...],
    measured: Measured | None,
    review: ReviewSettings,
    link: str | None,
    may_rerun: bool,
) -> dict[str, Any]:
    """One project's check as JSON; `jobs` are those of the patch set, newest first.

    `status` is Gerrit's RunStatus, each result's `category` its Category; `state` is covtrack's
    own word for the newest job, null where there is none.
    """
    job = jobs[0] if jobs else None
    return {
        "name": name,
        "status": _status(job, measured),
        "state": job.state.value if job else None,
        "description": describe_state(job, measured),
        "attempt": len(jobs) or None,
        "job_id": job.job_id if job else None,
        "link": link,
        "label": review.label,
        "scheduled_at": _moment(job.queued_at if job else None),
        "started_at": _moment(job.started_at if job else None),
        "ended_at": _moment(job.ended_at if job else None),
        "may_rerun": may_rerun and (job is None or job.state not in ALIVE),
        "results": _results(job, measured, review),
    }


def name_check(project: str, alone: bool) -> str:
    """A check's name; it names covtrack's project where several measure one repository."""
    return NAME if alone else f"{NAME} {project}"


def _status(job: Job | None, measured: Measured | None) -> str:
    if job and job.state in WAITING:
        return "SCHEDULED"
    if job and job.state is JobState.RUNNING:
        return "RUNNING"
    return "COMPLETED" if measured or (job and job.state is JobState.FAILED) else "RUNNABLE"


def describe_state(job: Job | None, measured: Measured | None) -> str:
    """Where a patch set stands, in a sentence."""
    if job is None:
        return "Measured." if measured else "Not measured."
    if job.state is JobState.RUNNING:
        return clean(job.progress) or "It runs."
    if job.state in WAITING:
        return WAITING[job.state]
    return f"Job {job.job_id} is {job.state.value}."


def _moment(when: datetime | None) -> str | None:
    return when.isoformat() if when else None


def _results(
    job: Job | None, measured: Measured | None, review: ReviewSettings
) -> list[dict[str, Any]]:
    """None while a job is alive: its results come. The rest of a change leaves what is known."""
    known = []
    if job and job.kind is JobKind.REST and measured and measured.result.provisional:
        known = [_summary(measured, review)]
    if job and job.state in ALIVE:
        return known
    if job and job.state is JobState.FAILED:
        what = "The rest" if known else "Coverage"
        summary = f"{what} was not measured, which is not held against the change."
        return [{"category": "WARNING", "summary": summary, "message": clean(job.error)}, *known]
    if measured is None:
        return []
    return [_summary(measured, review), *_uncovered(measured.result, review.comments)]


def _summary(measured: Measured, review: ReviewSettings) -> dict[str, Any]:
    result, decision = measured.result, measured.decision
    words = [describe_provisional(result.provisional)] if result.provisional else []
    words += [clean(sentence) for sentence in decision.sentences]
    words += [describe_gain(measured.gain), f"Tests: {describe_tests(result)}"]
    failed = describe_failed(result)
    words += [f"Failed: {failed}" if failed else "", *describe_faults(result.faults)]
    return {
        "category": _category(decision, review),
        "summary": f"Patch: {describe_patch(result)}. Project: {describe_project(result)}",
        "message": "\n".join(word for word in words if word),
    }


def _category(decision: Decision, review: ReviewSettings) -> str:
    if decision.vote is None:
        return "INFO"
    if decision.passed:
        return "SUCCESS"
    return "ERROR" if review.label else "WARNING"


def _uncovered(result: JobResult, most: int) -> list[dict[str, Any]]:
    """A result for each uncovered range of the patch, the first `most` of them."""
    if result.patch is None or may_hide_coverage(result):
        return []
    return [_describe_range(part) for part in result.patch.uncovered[:most]]


def _describe_range(part: UncoveredRange) -> dict[str, Any]:
    lines = count(part.last - part.first + 1, "line")
    nearest = part.nearest_test
    words = f"The nearest test: {clean(nearest)[:LONGEST_NAME]}" if nearest else ""
    place = f"{part.path}:{part.first}" + (f"-{part.last}" if part.last > part.first else "")
    return {
        "category": "INFO",
        "summary": f"No test runs {lines} of {clean(place)}",
        "message": words,
        "path": part.path,
        "first": part.first,
        "last": part.last,
    }
