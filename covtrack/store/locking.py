"""What one transaction alone may do at a time: locks by name that end with the transaction.

A writing transaction of SQLite has the whole file to itself; PostgreSQL's see each other's
rows only once they are committed, so that two may both find that a job is not there yet.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, text


def hold(connection: Connection, *words: object) -> None:
    """Wait for the lock of that name and hold it until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key(*words)})


def try_hold(connection: Connection, *words: object) -> bool:
    """Whether the lock of that name is held until the transaction ends; never waits."""
    if connection.dialect.name != "postgresql":
        return True
    ask = text("SELECT pg_try_advisory_xact_lock(:key)")
    return bool(connection.execute(ask, {"key": lock_key(*words)}).scalar())


def lock_key(*words: object) -> int:
    """PostgreSQL's key for a name: 64 bits, signed. Two names with one key only wait more."""
    digest = hashlib.sha256("\0".join(map(str, words)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
