"""Databases for the contract tests: SQLite files, and a real PostgreSQL server of our own.

The server listens on loopback alone, on a free port, with a password of its own; it is started
once per process when first asked for, and ends with it. PostgreSQL refuses to run as root: then
it runs as another user.
"""

from __future__ import annotations

import atexit
import os
import pwd
import secrets
import shutil
import signal
import tempfile
import unittest
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from time import monotonic, sleep

from covtrack.java import free_ports
from venv_builder.processes import ProcessGroup, check_command, run_command, start_group

USER = "covtrack"
START_SECONDS = 30.0
UNPRIVILEGED = ("postgres", "nobody")


@dataclass(slots=True, kw_only=True)
class Server:
    """A running PostgreSQL server; `fresh_url` makes an empty database on it."""

    folder: Path
    binaries: Path
    prefix: tuple[str, ...]
    port: int
    password: str
    process: ProcessGroup
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def url(self, database: str, password: str | None = None) -> str:
        """The URL of one of the server's databases, as a user writes it."""
        secret = self.password if password is None else password
        return f"postgresql://{USER}:{secret}@127.0.0.1:{self.port}/{database}"

    def fresh_url(self, options: str = "") -> str:
        """The URL of a new, empty database."""
        name = f"contract_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement outside of a transaction."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def stop(self) -> None:
        """End the server at once and wait for it (SIGQUIT: PostgreSQL's immediate shutdown)."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGQUIT)
        deadline = monotonic() + START_SECONDS
        while self.process.poll() is None and monotonic() < deadline:
            sleep(0.02)
        self.process.kill()

    def start(self) -> None:
        """Start the stopped server again on the same port."""
        self.process = _start(self.binaries, self.prefix, self.folder, self.port)
        _wait(self.binaries, self.process, self.folder, self.port)


def find_binaries() -> Path | None:
    """The folder of the newest initdb and postgres on this machine."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = sorted(found, key=lambda path: float(path.parent.parent.name))
    if newest:
        return newest[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def sqlite_url(folder: Path) -> str:
    """The URL of an SQLite file that does not exist yet, in a folder that does not either."""
    return f"sqlite:///{folder}/state/covtrack.db"


def postgresql() -> Server:
    """This process's server; raises SkipTest where PostgreSQL or its driver is not installed."""
    if find_binaries() is None:
        raise unittest.SkipTest("PostgreSQL's server is not installed")
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise unittest.SkipTest("PostgreSQL's driver psycopg is not installed") from None
    return _server()


@cache
def _server() -> Server:
    binaries, prefix = find_binaries(), _unprivileged()
    assert binaries is not None
    folder = Path(tempfile.mkdtemp(prefix="covtrack-postgresql-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    password = secrets.token_hex(16)
    secret = folder / "password"
    secret.write_text(password)
    if os.geteuid() == 0:
        user = pwd.getpwnam(_other_user())
        for path in (folder, secret):
            os.chown(path, user.pw_uid, user.pw_gid)
    options = ("--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync")
    login = (f"--username={USER}", f"--pwfile={secret}")
    check_command(
        [*prefix, binaries / "initdb", "-D", folder / "data", *options, *login], cwd=folder
    )
    (port,) = free_ports(1)
    process = _start(binaries, prefix, folder, port)
    server = Server(
        folder=folder,
        binaries=binaries,
        prefix=prefix,
        port=port,
        password=password,
        process=process,
    )
    atexit.register(server.stop)
    _wait(binaries, process, folder, port)
    return server


def _start(binaries: Path, prefix: tuple[str, ...], folder: Path, port: int) -> ProcessGroup:
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(folder),
        "fsync": "off",
    }
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    log = folder / "log"
    return start_group(
        [*prefix, binaries / "postgres", "-D", folder / "data", "-p", str(port), *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        stdout=log,
        stderr=log,
    )


def _wait(binaries: Path, process: ProcessGroup, folder: Path, port: int) -> None:
    deadline = monotonic() + START_SECONDS
    ready: list[str | Path] = [binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    while run_command(ready).status:
        if process.poll() is not None or monotonic() > deadline:
            raise AssertionError(f"PostgreSQL did not start: {(folder / 'log').read_text()}")
        sleep(0.05)


def _unprivileged() -> tuple[str, ...]:
    """Words before a command that make it run as no root, and die with this process."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0:
        return (setpriv, "--pdeathsig=INT") if setpriv else ()
    user = _other_user()
    if setpriv is None:
        raise unittest.SkipTest("PostgreSQL cannot run as root, and setpriv is not installed")
    group = str(pwd.getpwnam(user).pw_gid)
    return (setpriv, f"--reuid={user}", f"--regid={group}", "--clear-groups", "--pdeathsig=INT")


def _other_user() -> str:
    names = {user.pw_name for user in pwd.getpwall()}
    for user in UNPRIVILEGED:
        if user in names:
            return user
    raise unittest.SkipTest("PostgreSQL cannot run as root, and there is no other user")
