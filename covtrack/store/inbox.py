"""The inbox: every event once, what it changed, and up to when nothing is missing.

Statements run on the caller's connection, inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from covtrack.store.locking import hold
from covtrack.store.queued import ChangeStatus, KnownChange, Received
from covtrack.store.schema import changes, events, watermarks


def _upsert(connection: Connection, table: Any) -> Any:
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return make(table)


def put_events(
    connection: Connection,
    server: str,
    told: Iterable[tuple[str, Mapping[str, Any]]],
    now: datetime,
) -> int:
    """Add pairs of digest and payload, and return how many of them were new.

    One writer at a time: ids become visible in their order, so that `events_after` misses none,
    and two that bring the same events in another order do not wait for each other for ever.
    """
    rows = {
        digest: {"server": server, "digest": digest, "payload": payload, "received_at": now}
        for digest, payload in told
    }
    if not rows:
        return 0
    hold(connection, "put events")
    statement = _upsert(connection, events).on_conflict_do_nothing()
    added = connection.execute(statement.returning(events.c.id), list(rows.values()))
    return len(added.all())


def knows_any(connection: Connection, server: str, digests: Collection[str]) -> bool:
    """Whether an event of one of those digests is there."""
    if not digests:
        return False
    wanted = (events.c.server == server, events.c.digest.in_(sorted(digests)))
    return connection.execute(select(events.c.id).where(*wanted).limit(1)).first() is not None


def unhandled(connection: Connection, limit: int) -> tuple[Received, ...]:
    """The oldest events that nobody acted on."""
    return _read_events(connection, events.c.handled_at.is_(None), limit)


def newest_event(connection: Connection) -> int:
    """The id of the newest event; 0 where there is none."""
    return connection.execute(select(func.max(events.c.id))).scalar() or 0


def events_after(connection: Connection, event_id: int, limit: int) -> tuple[Received, ...]:
    """The oldest events that came after that one, acted on or not."""
    return _read_events(connection, events.c.id > event_id, limit)


def _read_events(connection: Connection, wanted: Any, limit: int) -> tuple[Received, ...]:
    found = select(events).where(wanted).order_by(events.c.id).limit(limit)
    return tuple(
        Received(
            event_id=row.id,
            server=row.server,
            digest=row.digest,
            payload=row.payload,
            received_at=row.received_at,
        )
        for row in connection.execute(found)
    )


def mark_handled(connection: Connection, event_id: int, now: datetime) -> bool:
    """Whether the event was still to be acted on; it is not any more."""
    statement = update(events).where(events.c.id == event_id, events.c.handled_at.is_(None))
    return connection.execute(statement.values(handled_at=now)).rowcount == 1


def forget_events(connection: Connection, before: datetime) -> int:
    """Remove events that were acted on before that moment."""
    return connection.execute(delete(events).where(events.c.handled_at < before)).rowcount


def read_watermark(connection: Connection, server: str) -> int | None:
    """Epoch seconds by the server's clock; None for a server that was never caught up with."""
    found = select(watermarks.c.at).where(watermarks.c.server == server)
    return connection.execute(found).scalar()


def put_watermark(connection: Connection, server: str, at: int, *, back: bool = False) -> None:
    """Move the watermark; it goes back only with `back`."""
    statement = _upsert(connection, watermarks).values(server=server, at=at)
    later = None if back else watermarks.c.at < at
    connection.execute(
        statement.on_conflict_do_update(index_elements=["server"], set_={"at": at}, where=later)
    )


def put_change(connection: Connection, change: KnownChange) -> None:
    """Add the change, or what is known of it now."""
    row = asdict(change) | {"status": change.status.value}
    key = ("server", "change")
    new = {name: value for name, value in row.items() if name not in key}
    statement = _upsert(connection, changes).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=new))


def read_change(connection: Connection, server: str, change: int | None) -> KnownChange | None:
    """What is known of a change."""
    wanted = (changes.c.server == server, changes.c.change == change)
    found = _read_changes(connection, wanted)
    return found[0] if found else None


def open_changes(
    connection: Connection, server: str, project: str, branch: str
) -> tuple[KnownChange, ...]:
    """Open changes of a branch that are not hidden, by number; `project` as on the server."""
    wanted = (
        changes.c.server == server,
        changes.c.project == project,
        changes.c.branch == branch,
        changes.c.status == ChangeStatus.OPEN.value,
        changes.c.wip.is_(False),
        changes.c.private.is_(False),
    )
    return _read_changes(connection, wanted)


def private_changes(connection: Connection) -> frozenset[tuple[str, int]]:
    """Server and number of every private change."""
    found = connection.execute(select(changes.c.server, changes.c.change).where(changes.c.private))
    return frozenset((row.server, row.change) for row in found)


def open_commits(connection: Connection, server: str, project: str) -> frozenset[str]:
    """The newest commit of every open change of all branches, hidden ones too."""
    wanted = (changes.c.server == server, changes.c.project == project)
    found = select(changes.c.commit).where(changes.c.status == ChangeStatus.OPEN.value, *wanted)
    return frozenset(connection.execute(found).scalars())


def _read_changes(connection: Connection, wanted: Sequence[Any]) -> tuple[KnownChange, ...]:
    found = connection.execute(select(changes).where(*wanted).order_by(changes.c.change))
    rows = (dict(row) for row in found.mappings())
    return tuple(KnownChange(**row | {"status": ChangeStatus(row["status"])}) for row in rows)
