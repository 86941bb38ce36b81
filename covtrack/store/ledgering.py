"""The ledger: full runs that results were held against, and the lines learnt from them.

Statements run on the caller's connection, inside the caller's transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from covtrack.store.schema import ledger, projects, runs, wavering
from covtrack.store.values import LedgerCount, LedgerEntry, Verification, WaveringLine
from jobs.holding import Held
from jobs.nondeterminism import LineName


def put_entry(connection: Connection, run_id: int, found: Verification) -> None:
    """Add what a full run said of a stored run."""
    held = found.held.model_dump(mode="json")
    for name in ("false_branches", "missed_branches"):
        held[name] = held[name] or None
    names = ("verified_at", "complete", "tests", "cpu_seconds", "branches")
    values = {name: getattr(found, name) for name in names}
    connection.execute(insert(ledger).values(run_id=run_id, **values, **held))


def read_entries(
    connection: Connection, project: str | None = None, limit: int = 1000
) -> tuple[LedgerEntry, ...]:
    """The newest entries, of one project or of all."""
    found = (
        select(ledger, runs.c.commit, runs.c.subject, projects.c.name.label("project"))
        .join(runs, runs.c.id == ledger.c.run_id)
        .join(projects, projects.c.id == runs.c.project_id)
        .order_by(ledger.c.id.desc())
        .limit(limit)
    )
    if project is not None:
        found = found.where(projects.c.name == project)
    return tuple(_entry(row) for row in connection.execute(found))


def count_entries(entries: Iterable[LedgerEntry]) -> LedgerCount | None:
    """How many of the entries were identical; None where no full run was complete."""
    verified = [entry for entry in entries if entry.complete]
    if not verified:
        return None
    return LedgerCount(
        verified=len(verified),
        identical=sum(entry.identical for entry in verified),
        unsteady=sum(not entry.identical and entry.is_unsteady for entry in verified),
        last=max(entry.verified_at for entry in verified),
    )


def is_verified(connection: Connection, run_id: int) -> bool:
    """Whether the ledger has the run."""
    found = select(ledger.c.id).where(ledger.c.run_id == run_id)
    return connection.execute(found).first() is not None


def put_lines(
    connection: Connection,
    project: str,
    lines: Mapping[LineName, str],
    *,
    commit: str,
    now: datetime,
) -> int:
    """Learn lines, each with why; how many were new."""
    project_id = connection.execute(
        select(projects.c.id).where(projects.c.name == project)
    ).scalar_one()
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    new = 0
    for line, why in lines.items():
        row = {
            "project_id": project_id,
            "digest": _digest(line),
            "path": line.path,
            "function": line.function,
            "text": line.text,
            "ordinal": line.ordinal,
            "why": why,
            "commit": commit,
            "learnt_at": now,
        }
        statement = make(wavering).values(row).on_conflict_do_nothing().returning(wavering.c.id)
        new += len(connection.execute(statement).all())
    return new


def read_lines(connection: Connection, project: str) -> tuple[WaveringLine, ...]:
    """All lines of a project that were learnt to be nondeterministic, by path."""
    found = (
        select(wavering)
        .join(projects, projects.c.id == wavering.c.project_id)
        .where(projects.c.name == project)
        .order_by(wavering.c.path, wavering.c.id)
    )
    return tuple(
        WaveringLine(
            name=LineName(
                path=row.path, function=row.function, text=row.text, ordinal=row.ordinal
            ),
            why=row.why,
            commit=row.commit,
            learnt_at=row.learnt_at,
        )
        for row in connection.execute(found)
    )


def _digest(line: LineName) -> str:
    words = (line.path, line.function, line.text, str(line.ordinal))
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest()


def _entry(row: Row[Any]) -> LedgerEntry:
    return LedgerEntry(
        run_id=row.run_id,
        project=row.project,
        commit=row.commit,
        subject=row.subject,
        verified_at=row.verified_at,
        complete=row.complete,
        tests=row.tests,
        cpu_seconds=row.cpu_seconds,
        branches=row.branches,
        held=Held(
            false_covered=row.false_covered,
            missed=row.missed,
            false_branches=row.false_branches or {},
            missed_branches=row.missed_branches or {},
            explained=row.explained,
        ),
    )
