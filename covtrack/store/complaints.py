"""Turns what a database driver complains about into one sentence that names the database.

Knows no SQL and opens nothing. Passwords never reach a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from venv_builder.errors import CovtrackError, DataError, InfrastructureError

_DAMAGED = "Restore it from a backup, or move it aside and measure again."
_PLACE = "Check the folder's permissions, or set another database URL in covtrack.toml."
_BUSY = "Another process holds it: wait for that one to end, then try again."
_AGAIN = "Try again."
_SERVER = "Check that the server runs, and the database URL in covtrack.toml."

_SQLITE: tuple[tuple[str, type[CovtrackError], str, str], ...] = (
    ("SQLITE_NOTADB", DataError, "is no SQLite file", _DAMAGED),
    ("SQLITE_CORRUPT", DataError, "is damaged", _DAMAGED),
    ("SQLITE_FULL", InfrastructureError, "cannot grow: the disk is full", "Free some space."),
    ("SQLITE_IOERR", InfrastructureError, "cannot be read or written", "Check the disk."),
    ("SQLITE_READONLY", InfrastructureError, "is read-only", _PLACE),
    ("SQLITE_CANTOPEN", InfrastructureError, "cannot be opened or created", _PLACE),
    ("SQLITE_PERM", InfrastructureError, "may not be accessed", _PLACE),
    ("SQLITE_BUSY", InfrastructureError, "is locked", _BUSY),
    ("SQLITE_LOCKED", InfrastructureError, "is locked", _BUSY),
    ("SQLITE_ERROR", DataError, "does not hold covtrack's tables as it should", _DAMAGED),
)
_POSTGRESQL: tuple[tuple[str, type[CovtrackError], str, str], ...] = (
    ("42501", InfrastructureError, "refuses covtrack's user", "Grant it the rights it needs."),
    ("42", DataError, "does not hold covtrack's tables as it should", _DAMAGED),
    ("XX", DataError, "is damaged", _DAMAGED),
    ("40", InfrastructureError, "was changed by another process at the same moment", _AGAIN),
    ("25P03", InfrastructureError, "waited too long for its own transaction to go on", _AGAIN),
    ("57P0", InfrastructureError, "is being stopped or started", _AGAIN),
    ("53", InfrastructureError, "has run out of disk, memory or connections", "Make room."),
    ("25006", InfrastructureError, "is read-only", "Use the primary server."),
)


def show_place(url: URL) -> str:
    """The database as a user knows it: the SQLite file's path, or the URL without password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.render_as_string(hide_password=True)


@contextmanager
def complaints_told(place: str) -> Iterator[None]:
    """Raise a CovtrackError that names `place` instead of any error of the driver."""
    try:
        yield
    except DBAPIError as error:
        raise translate(error, place) from error
    except PoolTimeout as error:
        raise InfrastructureError(
            f"All connections to the database {place} are busy.", advice="Try again later."
        ) from error


@contextmanager
def damage_told(place: str) -> Iterator[None]:
    """Raise DataError for stored values that make no sense; for blocks that only read."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"The database {place} holds a row that makes no sense: {error!r}.", advice=_DAMAGED
        ) from error


def translate(error: DBAPIError, place: str) -> CovtrackError:
    """The error to raise for a driver's `error` from the database `place`."""
    cause = error.orig
    name = getattr(cause, "sqlite_errorname", None)
    code, table = (name, _SQLITE) if name else (getattr(cause, "sqlstate", None), _POSTGRESQL)
    for prefix, kind, phrase, advice in table:
        if code and code.startswith(prefix):
            return kind(f"The database {place} {phrase} ({_first_line(cause)}).", advice=advice)
    return InfrastructureError(
        f"The database {place} does not answer: {_first_line(cause)}.", advice=_SERVER
    )


def _first_line(cause: BaseException | None) -> str:
    lines = str(cause).strip().splitlines()
    return lines[0].rstrip(" .") if lines else type(cause).__name__
