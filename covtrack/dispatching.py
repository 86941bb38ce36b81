"""Acts on the inbox: each event's actions and its mark as handled are one transaction.

What a person asks for on a page (a recheck) is acted on the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy import Connection

from covtrack.gerrit.dispatch import RECHECKED, Actions, dispatch
from covtrack.gerrit.events import Event, EventKind
from covtrack.settings import TrackedProject
from covtrack.store import inbox, queueing
from covtrack.store.database import Database
from covtrack.store.queued import JobState, KnownChange, Received

BATCH = 200


def handle_events(database: Database, projects: Iterable[TrackedProject]) -> int:
    """Act on the oldest events of the inbox, at most BATCH; how many there were."""
    known = tuple(projects)
    return database.write(lambda connection: _handle_batch(connection, known))


def _handle_batch(connection: Connection, projects: tuple[TrackedProject, ...]) -> int:
    now = datetime.now(UTC)
    found = inbox.unhandled(connection, BATCH)
    for received in found:
        if inbox.mark_handled(connection, received.event_id, now):
            _handle(connection, received, projects, now)
    return len(found)


def _handle(
    connection: Connection,
    received: Received,
    projects: tuple[TrackedProject, ...],
    now: datetime,
) -> None:
    payload = dict(received.payload)
    event = Event(**payload | {"kind": EventKind(payload["kind"])})
    known = inbox.read_change(connection, received.server, event.change)
    apply_actions(
        connection, received.server, event, dispatch(received.server, event, known, projects), now
    )


def apply_actions(
    connection: Connection, server: str, event: Event, actions: Actions, now: datetime
) -> None:
    """Write what is to be done: the change as it is known, jobs ended, jobs queued."""
    if actions.change:
        inbox.put_change(connection, actions.change)
    if actions.cancelled and event.change is not None:
        queueing.end_jobs(connection, server, event.change, JobState.CANCELLED, now)
    if actions.superseded_below is not None and event.change is not None:
        below = actions.superseded_below
        queueing.end_jobs(connection, server, event.change, JobState.SUPERSEDED, now, below=below)
    for job in actions.jobs:
        queueing.put_job(connection, job, now)


def recheck(database: Database, change: KnownChange, projects: Iterable[TrackedProject]) -> bool:
    """Measure the newest patch set again, as the comment asks for it; whether a job was queued.

    None is where one of the same patch set is alive, or the change is closed or hidden.
    """
    known = tuple(projects)
    return database.write(lambda connection: _recheck(connection, change, known))


def _recheck(
    connection: Connection, change: KnownChange, projects: tuple[TrackedProject, ...]
) -> bool:
    now = datetime.now(UTC)
    event = Event(
        kind=EventKind.COMMENT,
        project=change.project,
        branch=change.branch,
        change=change.change,
        patch_set=change.patch_set,
        comment=RECHECKED,
    )
    known = inbox.read_change(connection, change.server, change.change)
    jobs = dispatch(change.server, event, known, projects).jobs
    queued = [queueing.put_job(connection, job, now) for job in jobs]
    return any(job is not None for job in queued)
