"""Builds: the jobs that other machines do, and what their server says of them.

Statements run on the caller's connection, inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from covtrack.store.queued import UNDER_WAY, Build, BuildState, NewBuild
from covtrack.store.schema import builds

_UNDER_WAY = builds.c.state.in_([state.value for state in UNDER_WAY])
_OLDEST_FIRST = (builds.c.created_at, builds.c.run_id)


def put_build(connection: Connection, new: NewBuild, now: datetime) -> bool:
    """Add a build that no server knows of yet.

    False, and nothing is added, where its job has a build under way or its run id is taken.
    """
    row = {
        "run_id": new.run_id,
        "job_id": new.job_id,
        "token_sha256": new.token_sha256,
        "order": dict(new.order),
        "baseline": new.baseline,
        "state": BuildState.ORDERED.value,
        "attempt": new.attempt,
        "url": "",
        "node": "",
        "created_at": now,
        "error": "",
    }
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = make(builds).values(row).on_conflict_do_nothing().returning(builds.c.run_id)
    return connection.execute(statement).first() is not None


def move_build(
    connection: Connection, run_id: str, old: Iterable[BuildState], values: Mapping[str, Any]
) -> bool:
    """Whether the build was in one of the states `old`; then it has the new values."""
    states = [state.value for state in old]
    statement = update(builds).where(builds.c.run_id == run_id, builds.c.state.in_(states))
    return connection.execute(statement.values(dict(values))).rowcount == 1


def put_build_values(connection: Connection, run_id: str, values: Mapping[str, Any]) -> None:
    """Change columns of a build, whatever its state."""
    connection.execute(update(builds).where(builds.c.run_id == run_id).values(dict(values)))


def read_build(connection: Connection, run_id: str, *, lock: bool = False) -> Build | None:
    """The build of that run id; `lock` keeps its row from other writers until the end."""
    wanted = select(builds).where(builds.c.run_id == run_id)
    row = connection.execute(wanted.with_for_update() if lock else wanted).first()
    return None if row is None else _build(row)


def builds_alive(connection: Connection) -> tuple[Build, ...]:
    """The builds under way, oldest first."""
    return _read(connection, select(builds).where(_UNDER_WAY).order_by(*_OLDEST_FIRST))


def builds_of(connection: Connection, job_id: int) -> tuple[Build, ...]:
    """All builds of a job, the first attempt first."""
    wanted = select(builds).where(builds.c.job_id == job_id)
    return _read(connection, wanted.order_by(builds.c.attempt, *_OLDEST_FIRST))


def count_builds(connection: Connection) -> Mapping[str, int]:
    """How many builds are in each state."""
    found = select(builds.c.state, func.count()).group_by(builds.c.state)
    return {row[0]: row[1] for row in connection.execute(found)}


def _read(connection: Connection, wanted: Select[Any]) -> tuple[Build, ...]:
    return tuple(_build(row) for row in connection.execute(wanted))


def _build(row: Row[Any]) -> Build:
    values: dict[str, Any] = dict(row._mapping)
    run_ids = values["run_ids"]
    values["run_ids"] = None if run_ids is None else tuple(run_ids)
    return Build(**values | {"state": BuildState(values["state"])})
