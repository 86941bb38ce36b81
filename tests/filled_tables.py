"""Made-up rows in every table of a database, of whatever revision: by the tables' own columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    select,
)

from covtrack.store.schema import VERSION_TABLE

NOON = datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)
Rows = dict[str, list[dict[str, Any]]]


def reflect(connection: Connection) -> MetaData:
    """The tables as the database itself describes them."""
    found = MetaData()
    found.reflect(connection)
    found.remove(found.tables[VERSION_TABLE])
    return found


def fill(connection: Connection, count: int = 3) -> Rows:
    """Put rows 1 to `count` into every table, row N referring to rows N; returns them as read.

    Every second row has NULL wherever it may.
    """
    for table in reflect(connection).sorted_tables:
        rows = [
            {column.name: _value(column, number, connection) for column in table.columns}
            for number in range(1, count + 1)
        ]
        connection.execute(table.insert(), rows)
    return read(connection)


def read(connection: Connection) -> Rows:
    """All rows of all tables, in the order of their keys."""
    found = {}
    for table in reflect(connection).sorted_tables:
        ordered = select(table).order_by(*table.primary_key.columns)
        found[table.name] = [dict(row) for row in connection.execute(ordered).mappings()]
    return found


def _value(column: Column[Any], number: int, connection: Connection) -> Any:
    if column.nullable and number % 2 == 0 and not column.foreign_keys:
        return None
    match column.type:
        case Boolean():
            return number % 2 == 1
        case Integer():
            return number
        case Float():
            return number + 1 / 3
        case DateTime():
            moment = NOON + timedelta(hours=number)
            return moment.replace(tzinfo=None) if connection.dialect.name == "sqlite" else moment
        case LargeBinary():
            return bytes([number, 0, 255])
        case JSON():
            return {"n": number, "odd": "\u2028 \U0001f600", "a": [None, 0.1]}
    return f"{number}/7" if column.name == "target" else f"{number} {column.name} \u2028'\""
