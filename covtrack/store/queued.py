"""What the queue and the inbox hand out: frozen values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class JobKind(StrEnum):
    """What a job measures: a patch set, the way of a branch to its tip, or a commit in full.

    REST measures a patch set without a budget, after a provisional result. VERIFY holds a stored
    result against a full run, for the ledger.
    """

    CHANGE = "change"
    REST = "rest"
    ADVANCE = "advance"
    VERIFY = "verify"


OF_CHANGE = (JobKind.CHANGE, JobKind.REST)  # they have a patch set, and a verdict


class JobState(StrEnum):
    """Where a job stands; the first three are alive."""

    NEW = "new"  # its ref is not in the mirror yet
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


ALIVE = (JobState.NEW, JobState.QUEUED, JobState.RUNNING)


class BuildState(StrEnum):
    """Where a build stands; the first three are under way."""

    ORDERED = "ordered"  # no server knows of it yet
    QUEUED = "queued"
    BUILDING = "building"
    ENDED = "ended"
    LOST = "lost"  # its server or agent does not know of it any more
    CANCELLED = "cancelled"


UNDER_WAY = (BuildState.ORDERED, BuildState.QUEUED, BuildState.BUILDING)


class VerdictState(StrEnum):
    """What became of a job's verdict; the first two are not over."""

    PENDING = "pending"
    UNSURE = "unsure"  # sent, and Gerrit did not answer: it may take it yet
    POSTED = "posted"
    SILENT = "silent"  # there was nothing to say, or nothing is to be said
    OBSOLETE = "obsolete"  # another patch set, or the change is closed
    REFUSED = "refused"  # Gerrit does not take it


DUE = (VerdictState.PENDING, VerdictState.UNSURE)


class ChangeStatus(StrEnum):
    """Gerrit's states of a change."""

    OPEN = "NEW"
    MERGED = "MERGED"
    ABANDONED = "ABANDONED"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownChange:
    """A change as the last event about it told, with its newest patch set.

    `project` is the name on the server. `hidden` is work in progress or private.
    """

    server: str
    change: int
    project: str
    branch: str
    patch_set: int
    commit: str
    ref: str
    subject: str
    status: ChangeStatus = ChangeStatus.OPEN
    wip: bool = False
    private: bool = False

    @property
    def hidden(self) -> bool:
        """Whether its owner does not want it looked at yet."""
        return self.wip or self.private


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be queued: `project` is covtrack's name; an advance has no change."""

    server: str
    project: str
    kind: JobKind
    branch: str
    reason: str
    change: int | None = None
    patch_set: int | None = None
    commit: str = ""
    ref: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job in the queue; moments are UTC. `gain` is the prospective coverage, as JSON."""

    job_id: int
    server: str
    project: str
    kind: JobKind
    branch: str
    reason: str
    change: int | None
    patch_set: int | None
    commit: str
    ref: str
    state: JobState
    attempts: int
    queued_at: datetime
    not_before: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress: str
    error: str
    run_id: int | None
    gain: Mapping[str, Any] | None
    verdict: VerdictState | None
    verdict_attempts: int
    verdict_not_before: datetime | None
    verdict_error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An event of the inbox: `payload` is JSON of the event, `digest` tells it from others."""

    event_id: int
    server: str
    digest: str
    payload: Mapping[str, Any]
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBuild:
    """A build to be had of another machine for a job; `run_id` is unique among all builds.

    `order` is a jobs.order.StepOrder as JSON, `baseline` the snapshot that it rests on, relative
    to the state folder; `attempt` counts the job's builds from 1.
    """

    run_id: str
    job_id: int
    token_sha256: str
    order: Mapping[str, Any]
    baseline: str | None = None
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A build as the database knows it; moments are UTC.

    `queue_id`, `number`, `url`, `node` and `result` are the server's words (None, "": unknown);
    `told_at` is when it last said anything. `run_ids` are the runs that its bundle became.
    """

    run_id: str
    job_id: int
    token_sha256: str
    order: Mapping[str, Any]
    baseline: str | None
    state: BuildState
    attempt: int
    queue_id: int | None
    number: int | None
    url: str
    node: str
    created_at: datetime
    told_at: datetime | None
    ended_at: datetime | None
    result: str | None
    error: str
    run_ids: tuple[int, ...] | None

    @property
    def stored(self) -> bool:
        """Whether its bundle is in the database."""
        return self.run_ids is not None

    @property
    def is_under_way(self) -> bool:
        """Whether a bundle of it may still come."""
        return self.state in UNDER_WAY
