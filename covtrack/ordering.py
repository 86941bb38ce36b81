"""Turns a job of the queue into an order for another machine, and a build that waits for it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from covtrack.bases import Target
from covtrack.ledger import against, find_complete
from covtrack.settings import TrackedProject
from covtrack.store import building, ledgering
from covtrack.store.queued import OF_CHANGE, Job, JobKind, NewBuild
from covtrack.tracking import Order, Tracker
from jobs.order import OrderedBase, OrderedCommit, StepOrder
from jobs.project import ProjectSettings
from jobs.repository import Mirror
from jobs.request import Base
from jobs.results import Kind, Select
from jobs.snapshot import file_digest
from venv_builder.errors import UsageError

MOST_COMMITS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedBuild:
    """A build that was just put into the database; only its step may know the token."""

    run_id: str
    token: str
    order: StepOrder


def order_build(
    tracker: Tracker, project: TrackedProject, job: Job, *, attempt: int = 1
) -> OrderedBuild | None:
    """Put a build of the job into the database; None where there is nothing to measure.

    Raises UsageError where the job has a build under way already.
    """
    run_id, token = f"{job.job_id}-{secrets.token_hex(8)}", secrets.token_urlsafe(32)
    order = make_order(tracker, project, job, run_id=run_id)
    if order is None:
        return None
    new = NewBuild(
        run_id=run_id,
        job_id=job.job_id,
        token_sha256=token_digest(token),
        order=order.model_dump(mode="json"),
        baseline=_find_snapshot(tracker, project, order),
        attempt=attempt,
    )
    now = datetime.now(UTC)
    if not tracker.database.write(lambda connection: building.put_build(connection, new, now)):
        raise UsageError(f"Job {job.job_id} of {job.project} has a build under way already.")
    return OrderedBuild(run_id=run_id, token=token, order=order)


def token_digest(token: str) -> str:
    """What the database keeps of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def make_order(
    tracker: Tracker, project: TrackedProject, job: Job, *, run_id: str
) -> StepOrder | None:
    """What a step has to measure for a job; None where all is measured.

    Takes the mirror as it is. Raises UsageError for a revision that it lacks.
    """
    if job.kind is JobKind.VERIFY:
        return _full_run(tracker, project, job, run_id)
    project = project.model_copy(update={"branch": job.branch})
    with tracker.locked(project.name):
        mirror = tracker.mirror(project.name)
        revision = job.commit if job.kind in OF_CHANGE else None
        budget = project.budget if job.kind is JobKind.CHANGE else None
        asked = Order(revision=revision, fetch=False, budget=budget)
        target = tracker.resolve(project, mirror, asked)
        tracker.database.save_project(project.name, target.branch, project.share)
        nearest = tracker.bases.nearest(project, mirror, target)
        commits = _commits(job, mirror, target, nearest)
        if not commits:
            return None
        first = commits[0]
        target = _target_of(target, mirror, first)
        base = None
        if first.select is not Select.ALL:
            base = tracker.bases.same_tree(project, mirror, target, nearest) or nearest
        return StepOrder(
            run_id=run_id,
            settings=settings_for_agents(project),
            branch=target.branch,
            refs=(job.ref,) if job.kind in OF_CHANGE and job.ref else (),
            commits=tuple(commits),
            budget=target.budget,
            base=None if base is None else ordered_base(mirror, base, first.sha),
        )


def _full_run(
    tracker: Tracker, project: TrackedProject, job: Job, run_id: str
) -> StepOrder | None:
    """The order of a full run for the ledger; None where its result was verified meanwhile."""
    run = find_complete(tracker, project.name, job.commit)
    if tracker.database.read(lambda connection: ledgering.is_verified(connection, run.run_id)):
        return None
    return StepOrder(
        run_id=run_id,
        settings=settings_for_agents(project),
        branch=run.branch,
        refs=(job.ref,) if job.ref else (),
        commits=(OrderedCommit(sha=run.commit, kind=Kind.CHANGE, select=Select.ALL),),
        against=against(tracker, run),
    )


def _commits(
    job: Job, mirror: Mirror, target: Target, nearest: Base | None
) -> Sequence[OrderedCommit]:
    """A change, after the commit that it forks off where no baseline is; or a branch's way."""
    own = OrderedCommit(sha=target.commit.sha, kind=target.kind, select=target.select)
    if job.kind is JobKind.ADVANCE:
        shas = mirror.between(nearest.commit, target.tip) if nearest else (target.tip,)
        return [own.model_copy(update={"sha": sha}) for sha in shas[:MOST_COMMITS]]
    if nearest is None and target.kind is Kind.CHANGE and target.select is not Select.ALL:
        fork = mirror.merge_base(target.commit.sha, target.tip)
        if fork is not None:
            return [OrderedCommit(sha=fork, kind=Kind.BASELINE, select=Select.ALL), own]
    return [own]


def _target_of(target: Target, mirror: Mirror, first: OrderedCommit) -> Target:
    commit = mirror.commit(first.sha)
    return replace(
        target, commit=commit, kind=first.kind, base_from=commit.sha, select=first.select
    )


def ordered_base(mirror: Mirror, base: Base, first: str) -> OrderedBase:
    """The base as an order names it.

    A commit that only has the same tree may not be on the agent: the measured one stands for it.
    """
    compared = base.compared
    commit = base.commit if mirror.is_ancestor(base.commit, first) else first
    return OrderedBase(
        commit=commit,
        compared=compared,
        before=base.before,
        sha256=file_digest(base.snapshot),
        size=base.snapshot.stat().st_size,
    )


def settings_for_agents(project: TrackedProject) -> ProjectSettings:
    """The project's settings without what only the tracker needs.

    Raises UsageError for an address with a password: agents run other people's code.
    """
    address = project.git_for_agents or project.git
    if "://" in address and urlsplit(address).password:
        raise UsageError(
            f"The address of {project.name} holds a password, which no agent may get.",
            advice='Set git_for_agents = "URL" for the project, an address without one.',
        )
    known = {name: getattr(project, name) for name in ProjectSettings.model_fields}
    return ProjectSettings.model_validate({**known, "git": address})


def _find_snapshot(tracker: Tracker, project: TrackedProject, order: StepOrder) -> str | None:
    """Where the order's base lies, relative to the state folder."""
    if order.base is None:
        return None
    runs = tracker.database.baselines(project.name, changes=True)
    place = next((run.snapshot for run in runs if run.sha256 == order.base.sha256), None)
    return place if place and Path(tracker.settings.state, place).is_file() else None
