"""Engines: how a database URL becomes connections that behave alike on both databases.

The one place that knows of pragmas and drivers. A transaction that writes is marked by the
execution option `begin`: on SQLite it begins IMMEDIATE, so that it never fails half way for
another writer's sake.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Pool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from venv_builder.errors import InfrastructureError, UsageError

BUSY_SECONDS = 30.0
CONNECT_SECONDS = 10
# Of PostgreSQL's sessions. Its own defaults keep the locks of a dead machine for two hours.
SESSION = {
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
TO_WRITE = "BEGIN IMMEDIATE"
TO_READ = "BEGIN"
NO_BEGIN = ""
_EXAMPLES = "Use sqlite:////folder/covtrack.db or postgresql://user@host/name."


def read_url(text: str) -> URL:
    """The URL with its driver; raises UsageError for what is no SQLite file or PostgreSQL."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        # The text may hold a password: it is not repeated.
        raise UsageError("The database URL is malformed.", advice=_EXAMPLES) from error
    match url.drivername:
        case "sqlite" | "sqlite+pysqlite":
            return _check_file(url)
        case "postgresql" | "postgres" | "postgresql+psycopg":
            return _check_server(url.set(drivername="postgresql+psycopg"))
    raise UsageError(
        f"The database URL begins with {url.drivername}://, which covtrack does not know.",
        advice=_EXAMPLES,
    )


def _check_file(url: URL) -> URL:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise UsageError("The database URL names no SQLite file.", advice=_EXAMPLES)
    return url


def _check_server(url: URL) -> URL:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "The database URL asks for PostgreSQL, whose driver psycopg is not installed.",
            advice="Install covtrack[postgresql].",
        ) from error
    if not url.database:
        raise UsageError("The database URL names no database.", advice=_EXAMPLES)
    return url


def make_engine(url: URL) -> Engine:
    """An engine with a pool, for work on a database that is up to date."""
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, foreign_keys=True)
    engine = create_engine(url, pool_pre_ping=True, connect_args=_server_args(url))
    _limit_sessions(engine)
    _begin_read_only(engine)
    return engine


def make_upgrade_engine(url: URL) -> Engine:
    """An engine for migrations: SQLite rebuilds tables, which must not cascade into others."""
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, foreign_keys=False, pool=NullPool)
    return create_engine(url, poolclass=NullPool, connect_args=_server_args(url))


def make_folder(url: URL) -> None:
    """Create the folder of an SQLite file; raises InfrastructureError if that is refused."""
    if url.get_backend_name() != "sqlite":
        return
    folder = Path(str(url.database)).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfrastructureError(
            f"The folder {folder} of the database cannot be created: {error.strerror}.",
            advice="Check its permissions, or set another database URL in covtrack.toml.",
        ) from error


def _server_args(url: URL) -> dict[str, Any]:
    return {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_SECONDS}


def _file_args(url: URL) -> dict[str, Any]:
    return {} if "timeout" in url.query else {"timeout": BUSY_SECONDS}


def _limit_sessions(engine: Engine) -> None:
    """Have the server end what a vanished machine, or a stopped process, holds locked."""

    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: object) -> None:
        settings = ", ".join(f"set_config('{k}', '{v}', false)" for k, v in SESSION.items())
        connection.execute(f"SELECT {settings}")
        connection.commit()


def _begin_read_only(engine: Engine) -> None:
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("begin", TO_READ) == TO_READ:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _sqlite_engine(url: URL, *, foreign_keys: bool, pool: type[Pool] | None = None) -> Engine:
    engine = create_engine(url, poolclass=pool, connect_args=_file_args(url))

    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: object) -> None:
        connection.isolation_level = None  # this module begins transactions itself
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if statement := connection.get_execution_options().get("begin", TO_READ):
            connection.exec_driver_sql(statement)

    return engine
