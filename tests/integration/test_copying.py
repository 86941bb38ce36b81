"""`covtrack db copy`: SQLite to a real PostgreSQL server and back, whole or not at all."""

from __future__ import annotations

import signal
import sys
from fractions import Fraction
from pathlib import Path

import testtools
from fixtures import TempDir
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Connection, text

from covtrack.store import inbox, queueing
from covtrack.store.copying import BATCH, copy_database, read_state
from covtrack.store.database import Database
from covtrack.store.engine import make_upgrade_engine, read_url
from covtrack.store.queued import JobKind, NewJob
from covtrack.store.schema import HEAD, metadata
from covtrack.store.upgrading import known_revisions, move
from jobs.results import JobResult
from tests.databases import postgresql, sqlite_url
from tests.filled_tables import fill
from tests.samples import NOON, RESULT, RESULTS
from venv_builder.errors import DataError, UsageError
from venv_builder.processes import Completed, run_command

ROOT = Path(__file__).parents[2]
JOB = NewJob(server="g", project="demo", kind=JobKind.CHANGE, branch="m", reason="", change=1)
KILLED = """
import os, signal, sys
from sqlalchemy import Engine, event
from covtrack.store.copying import copy_database

done = []
@event.listens_for(Engine, "before_cursor_execute")
def count(connection, cursor, statement, *rest):
    if statement.startswith(("INSERT INTO", "SELECT setval")):
        done.append(1)
        if len(done) == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
copy_database(sys.argv[1], sys.argv[2])
print(len(done))
"""


class CopyingTest(testtools.TestCase):
    """Both directions, refusals, kills, and what the command prints."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.useFixture(TempDir()).path)
        self.source = sqlite_url(self.folder)

    def fresh_file(self, name: str) -> str:
        return sqlite_url(self.folder / name)

    def save(self, database: Database, result: JobResult = RESULT) -> int:
        return database.save_run(
            result, snapshot="s/a", sha256="f" * 64, tree="d" * 40, measured_at=NOON
        )

    def make(self, url: str, tests: int = 0) -> None:
        """Made-up rows in every table, and more events than fit into one batch."""
        with Database.open(url):
            engine = make_upgrade_engine(read_url(url))
            with engine.begin() as connection:
                fill(connection)
            engine.dispose()
        with Database.open(url) as database:
            events = [(f"d{n}", {"n": n, "text": "\u2028"}) for n in range(tests)]
            database.write(lambda c: inbox.put_events(c, "g", events, NOON))

    def test_there_and_back_again(self) -> None:
        self.make(self.source, tests=2 * BATCH + 1)
        server, back = postgresql().fresh_url(), self.fresh_file("back")
        there = copy_database(self.source, server)
        again = copy_database(server, back)
        self.assertEqual(there, again)
        self.assertEqual({table.name for table in metadata.sorted_tables}, there.keys())
        self.assertEqual([], [name for name, content in there.items() if content.rows < 3])
        self.assertEqual(2 * BATCH + 4, there["events"].rows)
        self.assertEqual(there["events"].rows, read_state(back).rows["events"])

    def test_any_runs_arrive_as_they_were(self) -> None:
        results: list[JobResult] = []
        options = {"database": None, "deadline": None}

        @settings(max_examples=25, suppress_health_check=list(HealthCheck), **options)  # type: ignore[arg-type]
        @given(RESULTS)
        def collect(result: JobResult) -> None:
            results.append(result)

        collect()
        target = postgresql().fresh_url()
        with Database.open(self.source) as database:
            database.save_project("demo", "master", Fraction(4, 5))
            for result in results:
                self.save(database, result)
        copy_database(self.source, target)
        with Database.open(self.source) as old, Database.open(target) as new:
            self.assertEqual(old.project_rows(), new.project_rows())
            for result in results:
                run = old.find_run("demo", result.commit)
                assert run is not None
                self.assertEqual(run, new.find_run("demo", result.commit))
                self.assertEqual(old.files_of(run.run_id), new.files_of(run.run_id))
                self.assertEqual(old.outcomes_of(run.run_id), new.outcomes_of(run.run_id))

    def test_work_goes_on_after_the_copy(self) -> None:
        """New rows get new ids: the sequences stand behind what was copied."""
        self.make(self.source)
        for target in (postgresql().fresh_url(), self.fresh_file("target")):
            copy_database(self.source, target)
            with Database.open(target) as database:
                database.save_project("demo", "master", Fraction(4, 5))
                self.assertEqual(4, self.save(database))
                job = database.write(lambda c: queueing.put_job(c, JOB, NOON))
                self.assertEqual(4, job)

    def test_a_copy_of_nothing_leaves_a_database_that_works(self) -> None:
        Database.open(self.source).close()
        target = postgresql().fresh_url()
        copy_database(self.source, target)
        with Database.open(target) as database:
            database.save_project("demo", "master", Fraction(4, 5))
            self.assertEqual(1, self.save(database))

    # Refusals

    def test_a_target_that_holds_anything_is_refused(self) -> None:
        self.make(self.source)
        for target in (postgresql().fresh_url(), self.fresh_file("target")):
            with Database.open(target) as database:
                database.save_project("other", "master", Fraction(4, 5))
            error = self.assertRaises(UsageError, copy_database, self.source, target)
            self.assertIn("is not empty (projects)", str(error))
            self.assertEqual(1, sum(read_state(target).rows.values()))

    def test_another_revision_is_refused_on_either_side(self) -> None:
        old = known_revisions()[-2]
        self.make(self.source)
        for url in (postgresql().fresh_url(), self.fresh_file("old")):
            Database.open(url).close()
            engine = make_upgrade_engine(read_url(url))
            move(engine, old, "the test's database")
            engine.dispose()
            for words in ((self.source, url), (url, self.fresh_file("new"))):
                error = self.assertRaises(UsageError, copy_database, *words)
                self.assertIn(f"has schema {old}, this covtrack's is {HEAD}", str(error))
            self.assertEqual(old, read_state(url).revision)

    def test_a_source_that_is_not_there_is_not_made(self) -> None:
        error = self.assertRaises(
            UsageError, copy_database, self.source, self.fresh_file("target")
        )
        self.assertIn("There is no database", str(error))
        self.assertFalse((self.folder / "state").exists())
        self.assertFalse((self.folder / "target").exists())

    def test_a_database_onto_itself_is_refused(self) -> None:
        self.make(self.source)
        error = self.assertRaises(UsageError, copy_database, self.source, self.source)
        self.assertIn("is not empty", str(error))

    def test_a_copy_that_differs_is_not_kept(self) -> None:
        """Here a trigger of the target changes what is written."""
        self.make(self.source)
        target = self.fresh_file("target")
        Database.open(target).close()
        engine = make_upgrade_engine(read_url(target))
        with engine.begin() as connection:
            connection.execute(
                text(
                    "CREATE TRIGGER spoil AFTER INSERT ON runs BEGIN "
                    "UPDATE runs SET tests_run = tests_run + 1 WHERE id = NEW.id; END"
                )
            )
        engine.dispose()
        error = self.assertRaises(DataError, copy_database, self.source, target)
        self.assertIn("The copy of runs in", str(error))
        self.assertEqual(0, sum(read_state(target).rows.values()))

    # Kills

    def test_killed_at_any_statement_it_leaves_nothing_and_can_be_repeated(self) -> None:
        self.make(self.source)
        for target in (postgresql().fresh_url(), self.fresh_file("target")):
            for statements in (1, 4, 9):
                argv = [sys.executable, "-c", KILLED, self.source, target, str(statements)]
                completed = run_command(argv, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, timeout=60)
                self.assertEqual(-signal.SIGKILL, completed.status, completed.stderr)
                self.assertEqual(0, sum(read_state(target).rows.values()))
            found = copy_database(self.source, target)
            self.assertEqual(
                {name: content.rows for name, content in found.items()}, read_state(target).rows
            )

    def test_a_writer_waits_for_the_copy_and_does_not_spoil_it(self) -> None:
        target = postgresql().fresh_url()
        Database.open(target).close()
        engine = make_upgrade_engine(read_url(target))
        self.addCleanup(engine.dispose)
        with engine.connect() as holder:
            holder.execute(text("SET lock_timeout = '200ms'"))
            holder.commit()
            self.make(self.source)
            self.check_held_off(holder, target)

    def check_held_off(self, holder: Connection, target: str) -> None:
        from covtrack.store import copying

        refused: list[str] = []
        compare = copying._compare

        def disturb(*words: object) -> None:
            try:
                holder.execute(text("DELETE FROM events"))
            except Exception as error:
                refused.append(type(error).__name__)
            holder.rollback()
            compare(*words)  # type: ignore[arg-type]

        self.patch(copying, "_compare", disturb)
        copy_database(self.source, target)
        self.assertEqual(["OperationalError"], refused)

    # The command

    def covtrack(self, *words: str, settings: str = "") -> Completed:
        path = self.folder / "covtrack.toml"
        path.write_text(settings or f'state = "{self.folder}/state"\n')
        argv = [sys.executable, "-P", "-m", "covtrack", "--config", str(path), "db", *words]
        return run_command(argv, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, timeout=90)

    def test_the_command_tells_what_it_did_and_never_the_password(self) -> None:
        self.make(self.source)
        server = postgresql()
        target = server.fresh_url()
        copied = self.covtrack("copy", self.source, target)
        self.assertEqual(0, copied.status, copied.stderr)
        self.assertIn("rows are the same in both databases", copied.stdout)
        self.assertIn(f"files below the state folder ({self.folder}/state)", copied.stdout)
        said = self.covtrack("status", target)
        self.assertIn(f"revision  {HEAD}", said.stdout)
        self.assertRegex(said.stdout, r"runs +3 rows")
        again = self.covtrack("copy", self.source, target)
        self.assertEqual(2, again.status)
        self.assertIn("is not empty", again.stderr)
        upgraded = self.covtrack("upgrade", target)
        self.assertIn(f"has revision {HEAD}", upgraded.stdout)
        wrong = self.covtrack("status", server.url("nowhere"))
        self.assertEqual(3, wrong.status)
        for one in (copied, said, again, upgraded, wrong):
            self.assertNotIn(server.password, one.stdout + one.stderr)

    def test_status_of_an_old_database_says_how_to_upgrade(self) -> None:
        Database.open(self.source).close()
        engine = make_upgrade_engine(read_url(self.source))
        move(engine, "0001", "the test's database")
        engine.dispose()
        said = self.covtrack("status", self.source)
        self.assertIn(
            f"revision  0001, this covtrack's is {HEAD}: covtrack db upgrade", said.stdout
        )
