"""The queue of jobs: what is to be measured, by whom it is being measured, what came of it.

Statements run on the caller's connection, inside the caller's transaction; pending is a query.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, case, func, insert, select, update

from covtrack.store.locking import hold, try_hold
from covtrack.store.queued import (
    ALIVE,
    DUE,
    OF_CHANGE,
    UNDER_WAY,
    Job,
    JobKind,
    JobState,
    NewJob,
    VerdictState,
)
from covtrack.store.schema import builds, jobs

REMEMBERED = 5000  # newest jobs by which turns are dealt out: years of them would be slow to read
_ALIVE = jobs.c.state.in_([state.value for state in ALIVE])
_IS_VERIFY = jobs.c.kind == JobKind.VERIFY.value
_IS_REST = jobs.c.kind == JobKind.REST.value
FIRST, LATE, LAST = 0, 2, 3
PATIENCE = timedelta(minutes=30)  # of rests: who waited as long is next like any patch set
_RUNNING = jobs.c.state == JobState.RUNNING.value
_WAITING = jobs.c.state.in_([JobState.NEW.value, JobState.QUEUED.value])


def put_job(connection: Connection, new: NewJob, now: datetime) -> int | None:
    """Queue a job and return its id; None where a living one does the same.

    An advance that waits is told of the newer tip instead of being queued twice.
    """
    what = new.branch if new.kind is JobKind.ADVANCE else (new.change, new.patch_set)
    hold(connection, "put job", new.server, new.project, new.kind, what)
    same = [jobs.c.server == new.server, jobs.c.project == new.project, jobs.c.kind == new.kind]
    if new.kind in OF_CHANGE:
        same += [_ALIVE, jobs.c.change == new.change, jobs.c.patch_set == new.patch_set]
        if connection.execute(select(jobs.c.id).where(*same)).first():
            return None
    elif new.kind is JobKind.VERIFY:
        same += [_ALIVE, jobs.c.commit == new.commit]
        if connection.execute(select(jobs.c.id).where(*same)).first():
            return None
    else:
        same += [_WAITING, jobs.c.branch == new.branch]
        state = {"state": JobState.NEW.value, "commit": new.commit, "not_before": now}
        if connection.execute(update(jobs).where(*same).values(state)).rowcount:
            return None
    return int(
        connection.execute(insert(jobs).values(_row(new, now)).returning(jobs.c.id)).scalar_one()
    )


def _row(new: NewJob, now: datetime) -> dict[str, Any]:
    return {
        "server": new.server,
        "project": new.project,
        "kind": new.kind.value,
        "branch": new.branch,
        "reason": new.reason,
        "change": new.change,
        "patch_set": new.patch_set,
        "commit": new.commit,
        "ref": new.ref,
        "state": JobState.NEW.value,
        "attempts": 0,
        "queued_at": now,
        "not_before": now,
        "progress": "",
        "error": "",
        "verdict_attempts": 0,
        "verdict_error": "",
    }


def end_jobs(
    connection: Connection,
    server: str,
    change: int,
    state: JobState,
    now: datetime,
    *,
    below: int | None = None,
) -> int:
    """End the living jobs of a change, those of patch sets below `below` (None: all)."""
    wanted = [_ALIVE, jobs.c.server == server, jobs.c.change == change]
    if below is not None:
        wanted.append(jobs.c.patch_set < below)
    ended = {"state": state.value, "ended_at": now}
    return connection.execute(update(jobs).where(*wanted).values(ended)).rowcount


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Whose turn it may be: of which projects (None: all), how many jobs of one side by side."""

    now: datetime
    only: Collection[str] | None = None
    without: Collection[str] = ()
    side_by_side: int = 1


def claim(
    connection: Connection,
    now: datetime,
    *,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
    side_by_side: int = 1,
) -> Job | None:
    """Start the next job: of the project that has fewest running, then whose last start is oldest.

    `only` and `without` name the projects that are asked for, or not. A project has at most
    `side_by_side` jobs running, of its branches one at most. Of one project, patch sets go before
    the branch, and the older before the newer. Rests of changes come after all else of all
    projects until they have waited for PATIENCE, and full runs for the ledger after all. A
    project whose job another process is just starting is passed over: nobody waits.
    """
    turn = Turn(now=now, only=only, without=without, side_by_side=side_by_side)
    for project in connection.execute(_in_turn(turn)).scalars().all():
        # Without the lock two claimers would both see a project that has none running.
        if try_hold(connection, "claim", project) and (job := _start(connection, project, turn)):
            return job
    return None


def _rank(now: datetime) -> ColumnElement[int]:
    waited = _IS_REST & (jobs.c.queued_at <= now - PATIENCE)
    return case(
        ((jobs.c.kind == JobKind.CHANGE.value) | waited, FIRST),
        (_IS_REST, LATE),
        (_IS_VERIFY, LAST),
        else_=1,
    )


def _in_turn(turn: Turn) -> Select[Any]:
    """The projects with a job to start, each once, in the order of their turns."""
    newest = select(func.max(jobs.c.id)).scalar_subquery()
    running = case((_RUNNING, 1), else_=0)
    started = case((_IS_VERIFY | _IS_REST, None), else_=jobs.c.started_at)
    past = (
        select(
            jobs.c.project,
            func.max(started).label("at"),
            func.sum(running).label("running"),
        )
        .where(jobs.c.id > newest - REMEMBERED)
        .group_by(jobs.c.project)
        .subquery()
    )
    waiting = (
        select(
            jobs.c.project,
            func.min(_rank(turn.now)).label("rank"),
            func.min(jobs.c.id).label("id"),
        )
        .where(*_startable(turn))
        .group_by(jobs.c.project)
        .subquery()
    )
    return (
        select(waiting.c.project)
        .outerjoin(past, past.c.project == waiting.c.project)
        .order_by(
            case((waiting.c.rank >= LATE, waiting.c.rank), else_=0),
            func.coalesce(past.c.running, 0),
            past.c.at.asc().nulls_first(),
            waiting.c.rank,
            waiting.c.id,
        )
    )


def _startable(turn: Turn) -> tuple[ColumnElement[bool], ...]:
    full = (
        select(jobs.c.project)
        .where(_RUNNING)
        .group_by(jobs.c.project)
        .having(func.count() >= turn.side_by_side)
    )
    advancing = select(jobs.c.project).where(_RUNNING, jobs.c.kind == JobKind.ADVANCE.value)
    wanted = [
        jobs.c.state == JobState.QUEUED.value,
        jobs.c.not_before <= turn.now,
        jobs.c.project.not_in(full),
        (jobs.c.kind != JobKind.ADVANCE.value) | jobs.c.project.not_in(advancing),
        jobs.c.project.not_in(sorted(turn.without)),
    ]
    if turn.only is not None:
        wanted.append(jobs.c.project.in_(sorted(turn.only)))
    return tuple(wanted)


def _start(connection: Connection, project: str, turn: Turn) -> Job | None:
    wanted = select(jobs).where(jobs.c.project == project, *_startable(turn))
    first = wanted.order_by(_rank(turn.now), jobs.c.id).limit(1)
    row = connection.execute(first.with_for_update(skip_locked=True)).first()
    if row is None:
        return None
    started = {
        "state": JobState.RUNNING.value,
        "started_at": turn.now,
        "attempts": row.attempts + 1,
    }
    connection.execute(update(jobs).where(jobs.c.id == row.id).values(started))
    return read_job(connection, row.id)


def projects_waiting(connection: Connection, now: datetime) -> frozenset[str]:
    """Projects with a job that could run now, those for the ledger left out."""
    due = (jobs.c.state == JobState.QUEUED.value, jobs.c.not_before <= now, ~_IS_VERIFY)
    return frozenset(connection.execute(select(jobs.c.project).where(*due).distinct()).scalars())


def move_job(
    connection: Connection, job_id: int, old: JobState, values: Mapping[str, Any]
) -> bool:
    """Whether the job was in the state `old`; then it has the new values."""
    statement = update(jobs).where(jobs.c.id == job_id, jobs.c.state == old.value)
    return connection.execute(statement.values(dict(values))).rowcount == 1


def put_values(connection: Connection, job_id: int, values: Mapping[str, Any]) -> None:
    """Change columns of a job, whatever its state."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(dict(values)))


def recover(
    connection: Connection,
    held: Collection[int] = (),
    *,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
) -> int:
    """Queue again what was running when its executor died, of the projects that it is for.

    Not the jobs that it still holds, nor those that another machine does.
    """
    elsewhere = select(builds.c.job_id).where(builds.c.state.in_([one.value for one in UNDER_WAY]))
    running = update(jobs).where(
        _RUNNING,
        jobs.c.id.not_in(sorted(held)),
        jobs.c.id.not_in(elsewhere),
        jobs.c.project.not_in(sorted(without)),
    )
    if only is not None:
        running = running.where(jobs.c.project.in_(sorted(only)))
    return connection.execute(running.values(state=JobState.QUEUED.value)).rowcount


def read_job(connection: Connection, job_id: int) -> Job | None:
    """The job of that id."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    return None if row is None else _job(row)


def jobs_in(
    connection: Connection, state: JobState, limit: int = 200, *, server: str | None = None
) -> tuple[Job, ...]:
    """Jobs of one state (and of one server's changes and branches), oldest first."""
    wanted = (jobs.c.state == state.value, *_on(server))
    found = select(jobs).where(*wanted).order_by(jobs.c.id).limit(limit)
    return tuple(_job(row) for row in connection.execute(found))


def newest_jobs(
    connection: Connection,
    limit: int,
    *,
    server: str | None = None,
    change: int | None = None,
    patch_set: int | None = None,
) -> tuple[Job, ...]:
    """The newest jobs, those of one change or patch set where they are named."""
    wanted = []
    if change is not None:
        wanted = [jobs.c.server == server, jobs.c.change == change]
    if patch_set is not None:
        wanted.append(jobs.c.patch_set == patch_set)
    found = select(jobs).where(*wanted).order_by(jobs.c.id.desc()).limit(limit)
    return tuple(_job(row) for row in connection.execute(found))


def _on(server: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if server is None else (jobs.c.server == server,)


def pending_verdicts(
    connection: Connection, now: datetime, limit: int = 50, *, server: str | None = None
) -> tuple[Job, ...]:
    """Jobs whose verdict is to be posted by now (on one server), oldest first."""
    due = (jobs.c.verdict_not_before.is_(None)) | (jobs.c.verdict_not_before <= now)
    wanted = (jobs.c.verdict.in_([state.value for state in DUE]), due, *_on(server))
    found = select(jobs).where(*wanted).order_by(jobs.c.id).limit(limit)
    return tuple(_job(row) for row in connection.execute(found))


def count_jobs(connection: Connection) -> Mapping[str, int]:
    """How many jobs are in each state."""
    found = select(jobs.c.state, func.count()).group_by(jobs.c.state)
    return {row[0]: row[1] for row in connection.execute(found)}


def _job(row: Row[Any]) -> Job:
    values: dict[str, Any] = dict(row._mapping)
    values["job_id"] = values.pop("id")
    verdict = values.pop("verdict")
    return Job(
        **values
        | {
            "kind": JobKind(values["kind"]),
            "state": JobState(values["state"]),
            "verdict": None if verdict is None else VerdictState(verdict),
        }
    )
