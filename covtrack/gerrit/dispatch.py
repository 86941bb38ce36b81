"""From an event, what is known of its change, and the settings, to what is to be done. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from covtrack.gerrit.events import RECHECK, Event, EventKind
from covtrack.settings import TrackedProject
from covtrack.store.queued import ChangeStatus, JobKind, KnownChange, NewJob

RECHECKED = "recheck coverage"
TELLS_NEWEST = (EventKind.PATCH_SET, EventKind.SEEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What one event asks for, in this order: remember, end jobs, queue jobs.

    Jobs of `change` with a patch set below `superseded_below` are superseded; `cancelled` ends
    all of its jobs.
    """

    change: KnownChange | None = None
    superseded_below: int | None = None
    cancelled: bool = False
    jobs: tuple[NewJob, ...] = ()


NOTHING = Actions()


def dispatch(
    server: str, event: Event, known: KnownChange | None, projects: Iterable[TrackedProject]
) -> Actions:
    """What to do about an event of `server`; `known` is its change as it was known before.

    Events may come late, doubled and in any order: an older patch set changes nothing.
    """
    ours = tuple(
        project
        for project in projects
        if project.gerrit == server and project.name_on_gerrit == event.project
    )
    if not ours:
        return NOTHING
    if event.kind is EventKind.REF_UPDATED:
        return Actions(jobs=_advances(server, event, ours))
    if event.kind is EventKind.MERGED:
        return _merged(server, event, known, ours)
    change = _updated(server, event, known)
    if change is None:
        return NOTHING
    if change.status is not ChangeStatus.OPEN or change.hidden:
        return Actions(change=change, cancelled=change.status is ChangeStatus.ABANDONED)
    reason = _reason(event, change, known)
    jobs = tuple(_job(project, change, reason) for project in ours) if reason else ()
    below = change.patch_set if event.kind in TELLS_NEWEST else None
    return Actions(change=change, superseded_below=below, jobs=jobs)


def _merged(
    server: str, event: Event, known: KnownChange | None, ours: tuple[TrackedProject, ...]
) -> Actions:
    change = replace(known, status=ChangeStatus.MERGED) if known else None
    return Actions(change=change, cancelled=True, jobs=_advances(server, event, ours))


def _advances(server: str, event: Event, ours: tuple[TrackedProject, ...]) -> tuple[NewJob, ...]:
    return tuple(
        NewJob(
            server=server,
            project=project.name,
            kind=JobKind.ADVANCE,
            branch=event.branch,
            commit=event.commit,
            ref=f"refs/heads/{event.branch}",
            reason=event.kind.value,
        )
        for project in ours
        if project.branch in (None, event.branch)
    )


def _updated(server: str, event: Event, known: KnownChange | None) -> KnownChange | None:
    """The change after the event; None where the event tells nothing new."""
    if event.kind in TELLS_NEWEST:
        return _with_patch_set(server, event, known)
    if known is None:
        return _with_patch_set(server, event, None) if event.commit and event.ref else None
    if event.kind is EventKind.ABANDONED:
        return replace(known, status=ChangeStatus.ABANDONED)
    if event.kind is EventKind.RESTORED:
        return replace(known, status=ChangeStatus.OPEN)
    if event.kind in (EventKind.WIP, EventKind.PRIVATE):
        return replace(known, wip=event.wip, private=event.private)
    return known


def _with_patch_set(server: str, event: Event, known: KnownChange | None) -> KnownChange | None:
    if known and (event.patch_set or 0) < known.patch_set:
        return None
    if event.change is None or not event.patch_set or not event.commit or not event.ref:
        return None
    return KnownChange(
        server=server,
        change=event.change,
        project=event.project,
        branch=event.branch,
        patch_set=event.patch_set,
        commit=event.commit,
        ref=event.ref,
        subject=event.subject,
        status=_status(event),
        wip=event.wip,
        private=event.private,
    )


def _status(event: Event) -> ChangeStatus:
    if event.kind is EventKind.SEEN:
        return ChangeStatus(event.status)
    return ChangeStatus.ABANDONED if event.kind is EventKind.ABANDONED else ChangeStatus.OPEN


def _reason(event: Event, change: KnownChange, known: KnownChange | None) -> str:
    """Why the change is to be measured now; empty if it is not."""
    if event.kind is EventKind.COMMENT:
        asked = RECHECK.search(event.comment) and event.patch_set == change.patch_set
        return RECHECKED if asked else ""
    if event.kind in (EventKind.WIP, EventKind.PRIVATE):
        return event.kind.value if known is None or known.hidden else ""
    if event.kind is EventKind.SEEN and known and known.patch_set == change.patch_set:
        was_open = known.status is ChangeStatus.OPEN and not known.hidden
        return "" if was_open else event.kind.value
    return event.kind.value


def _job(project: TrackedProject, change: KnownChange, reason: str) -> NewJob:
    return NewJob(
        server=change.server,
        project=project.name,
        kind=JobKind.CHANGE,
        branch=change.branch,
        change=change.change,
        patch_set=change.patch_set,
        commit=change.commit,
        ref=change.ref,
        reason=reason,
    )
