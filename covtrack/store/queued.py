"""What the queue and the inbox hand out: frozen values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class JobKind(StrEnum):
    """What a job measures: a patch set, or the way of a branch to its tip."""

    CHANGE = "change"
    ADVANCE = "advance"


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
