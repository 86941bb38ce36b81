"""Brings a database to this version's schema, once, whoever comes first.

A move is one transaction under a lock (a lock file for SQLite, an advisory lock for PostgreSQL),
so a process that is killed leaves the old schema, and one that waits finds the new one.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, Engine, Text, column, inspect, select, table, text

from covtrack.store.complaints import complaints_told, show_place
from covtrack.store.engine import BUSY_SECONDS, NO_BEGIN, TO_WRITE, make_upgrade_engine
from covtrack.store.schema import HEAD, VERSION_TABLE, metadata
from venv_builder.errors import DataError, InfrastructureError, UsageError

MIGRATIONS = Path(__file__).with_name("migrations")
ADVISORY_LOCK = 0x636F767472616B  # "covtrak" in ASCII
_THREADS = threading.Lock()  # Alembic keeps its context in module globals


def ensure_current(url: URL) -> None:
    """Upgrade the database to HEAD unless it is there already.

    Raises UsageError for a database that is newer than this code or another program's, DataError
    for a damaged one, InfrastructureError for one that cannot be reached or written.
    """
    place = show_place(url)
    engine = make_upgrade_engine(url)
    try:
        with complaints_told(place):
            if not _is_current(engine):
                with _THREADS, _locked_file(url):
                    _use_wal(engine)
                    move(engine, HEAD, place)
    finally:
        engine.dispose()


def move(engine: Engine, revision: str, place: str) -> None:
    """Upgrade or downgrade to `revision` ("base" drops all tables) in one transaction."""
    with engine.connect().execution_options(begin=TO_WRITE) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        found = read_version(connection)
        _refuse_foreign(connection, found, place)
        if found != revision:
            _run_revisions(connection, found, revision)
            _check_references(connection, place)


def read_version(connection: Connection) -> str | None:
    """The revision that the database says it has; None before the first."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version = table(VERSION_TABLE, column("version_num", Text))
    return connection.execute(select(version.c.version_num)).scalar()


@cache
def known_revisions() -> tuple[str, ...]:
    """All revisions that this code has, oldest first."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    return tuple(reversed([found.revision for found in script.walk_revisions()]))


def _is_current(engine: Engine) -> bool:
    with engine.connect() as connection:
        return _has_wal(connection) and read_version(connection) == HEAD


def _has_wal(connection: Connection) -> bool:
    if connection.dialect.name != "sqlite":
        return True
    return connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def _use_wal(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        return
    with engine.connect().execution_options(begin=NO_BEGIN) as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")


def _locked_file(url: URL) -> AbstractContextManager[object]:
    if url.get_backend_name() != "sqlite":
        return nullcontext()
    path = Path(f"{url.database}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=BUSY_SECONDS)
    except Timeout as error:
        raise InfrastructureError(
            f"Another process has been upgrading the database {url.database} for "
            f"{BUSY_SECONDS:.0f} s.",
            advice="Wait for it to end, then try again.",
        ) from error
    except OSError as error:
        raise InfrastructureError(
            f"The database {url.database} cannot be created or upgraded: {error.strerror} "
            f"({path.name}).",
            advice="Check the folder's permissions, or set another database URL.",
        ) from error
    return lock


def _refuse_foreign(connection: Connection, found: str | None, place: str) -> None:
    if found is not None and found not in known_revisions():
        raise UsageError(
            f"The database {place} has schema {found}, which is newer than this covtrack's "
            f"({HEAD}).",
            advice="Upgrade covtrack, or set another database URL.",
        )
    _refuse_encoding(connection, place)
    tables = set(inspect(connection).get_table_names()) - {VERSION_TABLE}
    if connection.dialect.name == "postgresql":  # a server's database may be shared
        tables &= set(metadata.tables)
    if found is None and tables:
        raise UsageError(
            f"The database {place} holds tables of another program ({', '.join(sorted(tables))}).",
            advice="Set a database URL of covtrack's own.",
        )


def _refuse_encoding(connection: Connection, place: str) -> None:
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.execute(text("SHOW server_encoding")).scalar()
    if encoding != "UTF8":
        raise UsageError(
            f"The database {place} has the encoding {encoding}, which cannot hold all text.",
            advice="Create it with ENCODING 'UTF8'.",
        )


def _run_revisions(connection: Connection, found: str | None, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    order = ("base", *known_revisions())
    if order.index(revision) < order.index(found or "base"):
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)


def _check_references(connection: Connection, place: str) -> None:
    if connection.dialect.name != "sqlite":
        return
    if connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise DataError(
            f"The database {place} has rows that refer to rows that are gone.",
            advice="Restore it from a backup, or move it aside and measure again.",
        )
