"""Copies one database into another, empty one: SQLite to PostgreSQL, or the other way round.

The source is read in one transaction and the target written in one: a copy that is killed, or
that does not compare equal at its end, leaves nothing behind but empty tables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Row, Table, func, insert, inspect, select, text

from covtrack.store.complaints import complaints_told, damage_told, show_place
from covtrack.store.engine import (
    TO_WRITE,
    make_engine,
    make_folder,
    make_upgrade_engine,
    read_url,
)
from covtrack.store.schema import HEAD, metadata
from covtrack.store.upgrading import ensure_current, read_version
from venv_builder.errors import DataError, UsageError
from venv_builder.progress import Advanced, Listener, Stages, ignore

BATCH = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a table holds: its rows, and a digest over them that no order changes."""

    rows: int
    digest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A database as it is found: `revision` is None before the first, `rows` by table."""

    place: str
    revision: str | None
    rows: Mapping[str, int]

    @property
    def current(self) -> bool:
        """Whether it has this code's tables."""
        return self.revision == HEAD


def read_state(address: str) -> State:
    """The database's revision and how many rows its tables hold; nothing is written.

    Raises UsageError for what is no database URL or no file yet, InfrastructureError for one
    that cannot be reached.
    """
    url = _existing(address)
    with _engine(url) as engine, complaints_told(show_place(url)), engine.connect() as connection:
        known = set(inspect(connection).get_table_names())
        rows = {
            table.name: _count(connection, table)
            for table in metadata.sorted_tables
            if table.name in known
        }
        return State(place=show_place(url), revision=read_version(connection), rows=rows)


def copy_database(source: str, target: str, listener: Listener = ignore) -> Mapping[str, Content]:
    """Copy all tables; what each of them holds, compared in source and target.

    The target's tables are created where there are none. Raises UsageError for a source or target
    of another revision and for a target that holds rows, DataError where the copy differs.
    """
    from_url, to_url = _existing(source), read_url(target)
    _require_current(read_state(source), "source")
    make_folder(to_url)
    _prepare(to_url)
    stages = Stages(listener)
    with _engine(from_url) as reader, _engine(to_url) as writer:
        to_write = writer.execution_options(begin=TO_WRITE)
        with (
            complaints_told(show_place(from_url)),
            damage_told(show_place(from_url)),
            reader.begin() as giving,
            complaints_told(show_place(to_url)),
            to_write.begin() as taking,
        ):
            _require_current(_state(giving, from_url), "source")
            _seize(taking, show_place(to_url))
            found = {
                table.name: _copy_table(giving, taking, table, stages)
                for table in metadata.sorted_tables
            }
            _compare(taking, found, show_place(to_url), stages)
            _reset_sequences(taking)
    return found


def _existing(address: str) -> URL:
    """The URL; an SQLite file has to be there: to look at it must not create it."""
    url = read_url(address)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        raise UsageError(f"There is no database {url.database}.", advice="Check the URL.")
    return url


@contextmanager
def _engine(url: URL) -> Iterator[Engine]:
    engine = make_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def _state(connection: Connection, url: URL) -> State:
    return State(place=show_place(url), revision=read_version(connection), rows={})


def _require_current(state: State, role: str) -> None:
    if not state.current:
        raise UsageError(
            f"The {role} {state.place} has schema {state.revision or 'none'}, this covtrack's is "
            f"{HEAD}.",
            advice="Bring it to this version by: covtrack db upgrade URL",
        )


def _prepare(url: URL) -> None:
    """Create the tables of a database that has none; another revision's is left alone."""
    engine = make_upgrade_engine(url)
    try:
        with complaints_told(show_place(url)), engine.connect() as connection:
            state = _state(connection, url)
    finally:
        engine.dispose()
    if state.revision is not None:
        _require_current(state, "target")
    ensure_current(url)


def _seize(connection: Connection, place: str) -> None:
    """Keep other writers out until the end, and refuse a target that holds rows."""
    tables = metadata.sorted_tables
    if connection.dialect.name == "postgresql":
        quote = connection.dialect.identifier_preparer.quote
        names = ", ".join(quote(table.name) for table in tables)
        connection.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))
    held = [table.name for table in tables if connection.execute(select(table).limit(1)).first()]
    if held:
        raise UsageError(
            f"The target {place} is not empty ({', '.join(held)}).",
            advice="Copy into a new database.",
        )


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def _copy_table(giving: Connection, taking: Connection, table: Table, stages: Stages) -> Content:
    total = _count(giving, table)
    with stages.stage("copy", f"{table.name}, {total} rows"):
        rows, digest = 0, 0
        for batch in _batches(giving, table):
            taking.execute(insert(table), [dict(row._mapping) for row in batch])
            rows, digest = rows + len(batch), _add(digest, batch)
            if total > BATCH:
                told = Advanced(stage="copy", done=rows, total=total, detail="rows")
                stages.listener(told)
    return Content(rows=rows, digest=digest)


def _batches(connection: Connection, table: Table) -> Iterator[Sequence[Row[Any]]]:
    with complaints_told(show_place(connection.engine.url)):
        found = connection.execution_options(yield_per=BATCH).execute(select(table))
        yield from found.partitions()


def _add(digest: int, rows: Sequence[Row[Any]]) -> int:
    """A sum of the rows' digests: the same whatever order a database gives them in."""
    for row in rows:
        one = hashlib.sha256(repr(tuple(row)).encode("utf-8", "surrogatepass")).digest()
        digest = (digest + int.from_bytes(one, "big")) % (1 << 256)
    return digest


def _compare(taking: Connection, found: Mapping[str, Content], place: str, stages: Stages) -> None:
    """Read back all that was written and hold it against what was read."""
    with stages.stage("compare", f"{sum(one.rows for one in found.values())} rows"):
        for table in metadata.sorted_tables:
            rows, digest = 0, 0
            for batch in _batches(taking, table):
                rows, digest = rows + len(batch), _add(digest, batch)
            if Content(rows=rows, digest=digest) != found[table.name]:
                raise DataError(
                    f"The copy of {table.name} in {place} differs from its source: nothing is "
                    "kept of it.",
                    advice="Copy again; if it differs again, this is a defect of covtrack.",
                )


def _reset_sequences(connection: Connection) -> None:
    """Have new ids go on after those copied; SQLite does so by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in metadata.sorted_tables:
        for column in table.primary_key.columns:
            words = {"table": table.name, "column": column.name}
            ask = text("SELECT pg_get_serial_sequence(:table, :column)")
            if sequence := connection.execute(ask, words).scalar():
                newest = connection.execute(select(func.max(column))).scalar()
                move = text("SELECT setval(CAST(:name AS regclass), :value, :used)")
                said = {"name": sequence, "value": newest or 1, "used": newest is not None}
                connection.execute(move, said)
