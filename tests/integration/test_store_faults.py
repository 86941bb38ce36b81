"""Bad databases and bad servers: one sentence that names the place, never a traceback."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from time import sleep
from typing import Any

import testtools
from fixtures import MonkeyPatch, TempDir
from sqlalchemy import Connection, text

from covtrack.executor import Executor
from covtrack.settings import Settings
from covtrack.store import queueing
from covtrack.store.database import Database
from covtrack.store.queued import Job, JobKind, JobState, NewJob
from covtrack.store.soleness import Sole
from tests.databases import postgresql, sqlite_url
from tests.samples import NOON, RESULT
from venv_builder.errors import CovtrackError, DataError, InfrastructureError, UsageError
from venv_builder.processes import run_command

ROOT = Path(__file__).parents[2]
JOB = NewJob(server="g", project="p", kind=JobKind.CHANGE, branch="m", reason="", change=1)
SAVE = """
import resource, sys
from fractions import Fraction
from covtrack.store.database import Database
from tests.samples import NOON, RESULT
from venv_builder.errors import CovtrackError
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    with Database.open(sys.argv[1]) as database:
        database.save_project("demo", "master", Fraction(4, 5))
        while True:
            database.save_run(RESULT, snapshot="s", sha256="h", tree=None, measured_at=NOON)
except CovtrackError as error:
    print(type(error).__name__, error)
"""


def refusal(url: str) -> CovtrackError:
    """The error that opening `url` ends with."""
    try:
        Database.open(url).close()
    except CovtrackError as error:
        return error
    raise AssertionError(f"{url} was opened")


class UrlTest(testtools.TestCase):
    """What is not a database URL that covtrack knows."""

    def test_wrong_urls_are_the_users_fault(self) -> None:
        for url in (
            "",
            "covtrack.db",
            "mysql://host/name",
            "sqlite://",
            "sqlite:///:memory:",
            "sqlite:///file:x?uri=true",
            "postgresql://host:port/name",
            "postgresql://host",
            "oracle+nothing:///x",
        ):
            error = refusal(url)
            self.assertIsInstance(error, UsageError, url)
            self.assertIn("Use sqlite:////", error.advice, url)

    def test_the_scheme_is_named_and_the_password_is_not(self) -> None:
        self.assertIn("mysql://", str(refusal("mysql://me:hush@host/name")))
        for url in ("mysql://me:hush@host/name", "postgresql://me:hush@host:x/name"):
            self.assertNotIn("hush", str(refusal(url)))


class SQLiteFaultsTest(testtools.TestCase):
    """SQLite files that cannot be used."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.useFixture(TempDir()).path)
        self.url = sqlite_url(self.folder)
        self.path = self.folder / "state" / "covtrack.db"

    def make(self) -> None:
        with Database.open(self.url) as database:
            database.save_project("demo", "master", Fraction(4, 5))
            for _ in range(20):
                database.save_run(RESULT, snapshot="s", sha256="h", tree=None, measured_at=NOON)

    def test_the_folder_is_created(self) -> None:
        Database.open(self.url).close()
        self.assertTrue(self.path.is_file())

    def test_an_empty_file_becomes_a_database(self) -> None:
        self.path.parent.mkdir()
        self.path.touch()
        self.make()

    def test_text_is_no_database(self) -> None:
        self.path.parent.mkdir()
        self.path.write_text("not a database at all\n" * 100)
        error = refusal(self.url)
        self.assertIsInstance(error, DataError)
        self.assertIn(f"{self.path} is no SQLite file", str(error))
        self.assertTrue(self.path.read_text().startswith("not a database"))

    def test_damaged_pages_are_told(self) -> None:
        self.make()
        size = self.path.stat().st_size
        with self.path.open("r+b") as file:
            file.seek(100)
            file.write(os.urandom(size - 100))
        error = refusal(self.url)
        self.assertIsInstance(error, DataError)
        self.assertIn(str(self.path), error.sentence)

    def test_a_truncated_file_is_told(self) -> None:
        self.make()
        os.truncate(self.path, self.path.stat().st_size // 2)
        with testtools.ExpectedException(DataError, f".*{self.path} is damaged.*"):
            with Database.open(self.url) as database:
                for run in database.baselines("demo"):
                    database.files_of(run.run_id)
                    database.outcomes_of(run.run_id)

    def test_a_coverage_data_file_is_another_programs(self) -> None:
        self.path.parent.mkdir()
        with sqlite3.connect(self.path) as connection:
            connection.execute("CREATE TABLE coverage_schema (version integer)")
        connection.close()
        error = refusal(self.url)
        self.assertIsInstance(error, UsageError)
        self.assertIn("coverage_schema", error.sentence)

    def test_a_folder_where_the_file_should_be(self) -> None:
        self.path.mkdir(parents=True)
        error = refusal(self.url)
        self.assertIsInstance(error, InfrastructureError)
        self.assertIn(f"{self.path} cannot be opened or created", str(error))

    def test_a_file_where_the_folder_should_be(self) -> None:
        self.path.parent.touch()
        error = refusal(self.url)
        self.assertIsInstance(error, InfrastructureError)
        self.assertIn(f"{self.path.parent} of the database cannot be created", str(error))

    def test_a_folder_that_may_not_be_written(self) -> None:
        completed = self.without_rights(mode=0o555)
        self.assertIn("InfrastructureError The database", completed)
        self.assertIn(str(self.path), completed)

    def test_a_database_that_may_not_be_written(self) -> None:
        self.make()
        for path in self.path.parent.iterdir():
            path.chmod(0o444)
        completed = self.without_rights(mode=0o555)
        self.assertIn(f"InfrastructureError The database {self.path} ", completed)

    def test_a_disk_that_is_full(self) -> None:
        argv = [sys.executable, "-c", SAVE, self.url, str(600_000)]
        completed = run_command(argv, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, timeout=60)
        self.assertIn(f"InfrastructureError The database {self.path} cannot", completed.stdout)
        with Database.open(self.url) as database:
            (run,) = database.baselines("demo")
            self.assertEqual(RESULT.outcomes, database.outcomes_of(run.run_id))

    def test_a_database_that_another_process_holds(self) -> None:
        self.make()
        with Database.open(f"{self.url}?timeout=0.2") as database:
            holder = sqlite3.connect(self.path, isolation_level=None)
            self.addCleanup(holder.close)
            holder.execute("BEGIN IMMEDIATE")
            with testtools.ExpectedException(InfrastructureError, ".*is locked.*"):
                database.forget_snapshot(1)
            self.assertEqual(1, len(database.baselines("demo")))  # readers are not held up
            holder.execute("ROLLBACK")
            database.forget_snapshot(20)

    def test_a_copy_without_wal_gets_it_back(self) -> None:
        self.make()
        with sqlite3.connect(self.path) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
        Database.open(self.url).close()
        with sqlite3.connect(self.path) as connection:
            mode = connection.execute("PRAGMA journal_mode").fetchone()
        connection.close()
        self.assertEqual(("wal",), mode)

    def without_rights(self, mode: int) -> str:
        """What a process prints that wants to save a run and is not above permissions."""
        self.path.parent.mkdir(exist_ok=True)
        self.path.parent.chmod(mode)
        self.addCleanup(self.path.parent.chmod, 0o755)
        prefix: list[str] = []
        if os.geteuid() == 0:
            setpriv = shutil.which("setpriv")
            if setpriv is None:
                self.skipTest("root may write everywhere, and setpriv is not installed")
            prefix = [setpriv, "--bounding-set=-dac_override,-dac_read_search"]
        completed = run_command(
            [*prefix, sys.executable, "-c", SAVE, self.url],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
            timeout=60,
        )
        return completed.stdout or completed.stderr


class PostgreSQLFaultsTest(testtools.TestCase):
    """PostgreSQL servers that cannot be used."""

    def test_nobody_listens(self) -> None:
        error = refusal("postgresql://me:hush@127.0.0.1:1/name")
        self.assertIsInstance(error, InfrastructureError)
        self.assertIn("postgresql+psycopg://me:***@127.0.0.1:1/name does not answer", str(error))

    def test_a_wrong_password(self) -> None:
        server = postgresql()
        error = refusal(server.url("postgres", password="wrong-secret"))
        self.assertIsInstance(error, InfrastructureError)
        self.assertIn("password authentication failed", str(error))
        self.assertNotIn("wrong-secret", str(error))

    def test_a_database_that_is_not_there(self) -> None:
        error = refusal(postgresql().url("nowhere"))
        self.assertIn('"nowhere" does not exist', str(error))

    def test_an_encoding_that_cannot_hold_all_text(self) -> None:
        url = postgresql().fresh_url("ENCODING 'LATIN1' TEMPLATE template0")
        error = refusal(url)
        self.assertIsInstance(error, UsageError)
        self.assertIn("LATIN1", error.sentence)

    def test_a_shared_database_with_other_tables_will_do(self) -> None:
        server = postgresql()
        url = server.fresh_url()
        server.execute("CREATE TABLE gerrit_changes (id integer)", url.rpartition("/")[2])
        Database.open(url).close()

    def test_a_session_that_the_server_ended_is_replaced(self) -> None:
        server = postgresql()
        url = server.fresh_url()
        with Database.open(url) as database:
            database.project_rows()
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE datname = '{url.rpartition('/')[2]}'"
            )
            self.assertEqual((), database.project_rows())

    def test_a_server_that_stops_and_comes_back(self) -> None:
        server = postgresql()
        with Database.open(server.fresh_url()) as database:
            server.stop()
            try:
                with testtools.ExpectedException(InfrastructureError, ".*does not answer.*"):
                    database.project_rows()
            finally:
                server.start()
            self.assertEqual((), database.project_rows())

    def test_a_server_that_dies_within_a_transaction(self) -> None:
        server = postgresql()
        with Database.open(server.fresh_url()) as database:
            database.save_project("demo", "master", Fraction(4, 5))

            def die(connection: Connection) -> None:
                queueing.put_job(connection, JOB, NOON)
                server.stop()
                try:
                    queueing.put_job(connection, replace(JOB, change=2), NOON)
                finally:
                    server.start()

            error = self.assertRaises(InfrastructureError, database.write, die)
            self.assertIn("The database postgresql+psycopg://", str(error))
            self.assertEqual({}, database.read(queueing.count_jobs))
            database.write(lambda connection: queueing.put_job(connection, JOB, NOON))
            self.assertEqual({"new": 1}, database.read(queueing.count_jobs))

    def test_a_server_that_dies_before_its_answer_to_a_claim(self) -> None:
        """The executor cannot know whether it has the job: it is queued again, not lost."""
        server = postgresql()
        folder = Path(self.useFixture(TempDir()).path)
        with Database.open(server.fresh_url()) as database:
            database.write(lambda connection: queueing.put_job(connection, JOB, NOON))
            queued = {"state": JobState.QUEUED.value}
            database.write(lambda connection: queueing.put_values(connection, 1, queued))
            said: list[str] = []
            settings = Settings(state=folder, projects={})
            executor = Executor(settings, None, database, said.append)
            claim = queueing.claim

            def die(connection: Connection, now: datetime, **turn: Any) -> Job | None:
                job = claim(connection, now, **turn)
                connection.execute(text("COMMIT"))  # it has arrived, the answer has not
                connection.execute(text("BEGIN"))
                server.stop()
                return job

            self.useFixture(MonkeyPatch("covtrack.store.queueing.claim", die))
            try:
                self.assertRaises(InfrastructureError, executor.step)
            finally:
                server.start()
            self.assertEqual({"running": 1}, database.read(queueing.count_jobs))
            self.useFixture(
                MonkeyPatch("covtrack.store.queueing.claim", lambda *words, **turn: None)
            )
            executor.step()
            self.assertEqual({"queued": 1}, database.read(queueing.count_jobs))

    def test_what_a_stopped_process_holds_is_given_up(self) -> None:
        """Its session ends by itself; the others wait no longer than that."""
        with Database.open(postgresql().fresh_url()) as database:

            def ask(connection: Connection) -> object:
                setting = "SHOW idle_in_transaction_session_timeout"
                return connection.execute(text(setting)).scalar()

            self.assertEqual("1min", database.read(ask))

            def idle(connection: Connection) -> None:
                connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '50ms'"))
                queueing.put_job(connection, JOB, NOON)
                sleep(0.5)
                connection.execute(text("SELECT 1"))

            error = self.assertRaises(InfrastructureError, database.write, idle)
            self.assertIn("postgresql+psycopg://", str(error))
            self.assertEqual({}, database.read(queueing.count_jobs))

    def test_one_serve_works_with_a_database(self) -> None:
        server = postgresql()
        url = server.fresh_url()
        with Sole(url) as first:
            error = self.assertRaises(UsageError, Sole(url).__enter__)
            self.assertIn("Another covtrack serve works with the database", str(error))
            self.assertNotIn(server.password, str(error))
            server.stop()
            self.assertRaises(InfrastructureError, first.check)
            server.start()
            with Sole(url):  # came in while the first had lost its session
                self.assertRaises(UsageError, first.check)
            first.check()
            self.assertRaises(UsageError, Sole(url).__enter__)
        with Sole(url):
            pass
