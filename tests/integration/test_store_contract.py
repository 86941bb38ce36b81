"""What the store promises, on an SQLite file and on a real PostgreSQL server alike."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import testtools
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fixtures import TempDir
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import StatementError

from covtrack.store import writing
from covtrack.store.database import Database
from covtrack.store.engine import TO_WRITE, make_upgrade_engine, read_url
from covtrack.store.schema import HEAD, VERSION_TABLE, metadata
from covtrack.store.upgrading import known_revisions, move, read_version
from covtrack.store.values import StoredRun
from jobs.results import JobResult, Kind
from tests.databases import postgresql, sqlite_url
from tests.samples import NOON, RESULT, RESULTS, make_result
from venv_builder.errors import DataError, UsageError
from venv_builder.processes import Completed, ProcessGroup, run_command, start_group

ROOT = Path(__file__).parents[2]
TARGET = Fraction(4, 5)
STATEMENTS_OF_A_SAVE = 8  # begin, project, run, and one per table that hangs on it
CHILD = """
import os, signal, sys, time
from dataclasses import replace
from fractions import Fraction
from sqlalchemy import Engine, event
from covtrack.store.database import Database
from jobs.results import Outcome, Status
from tests.samples import NOON, RESULT

def save(database, tests):
    outcomes = tuple(Outcome(test=f"t.{n}", status=Status.PASSED) for n in range(tests))
    found = replace(RESULT, outcomes=outcomes, tests=replace(RESULT.tests, run=tests))
    database.save_run(found, snapshot="s", sha256="h", tree=None, measured_at=NOON)

def die_after(statements):
    done = []
    @event.listens_for(Engine, "after_cursor_execute")
    def count(*arguments):
        done.append(1)
        if len(done) == statements:
            os.kill(os.getpid(), signal.SIGKILL)

def wait_until(moment):
    time.sleep(max(0, moment - time.time()))

url, *words = sys.argv[1:]
"""


def start_child(folder: Path, name: str, code: str, url: str, *words: object) -> ProcessGroup:
    """Run `code` after CHILD's definitions in another interpreter."""
    return start_group(
        [sys.executable, "-c", CHILD + code, url, *map(str, words)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        stdout=folder / f"{name}.out",
        stderr=folder / f"{name}.err",
    )


def run_child(code: str, url: str, *words: object) -> Completed:
    """Run `code` after CHILD's definitions in another interpreter, to its end."""
    argv = [sys.executable, "-c", CHILD + code, url, *map(str, words)]
    return run_command(argv, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, timeout=60)


def wait_for(child: ProcessGroup, seconds: float = 60) -> int | None:
    """The child's exit status."""
    deadline = monotonic() + seconds
    while child.poll() is None and monotonic() < deadline:
        sleep(0.01)
    return child.poll()


class Contract:
    """The tests; subclasses say where a new, empty database is."""

    def fresh_url(self) -> str:
        raise NotImplementedError

    def open(self: Any, url: str | None = None) -> Database:
        database = Database.open(url or self.fresh_url())
        self.addCleanup(database.close)
        database.save_project("demo", "master", TARGET)
        return database

    @contextmanager
    def connected(self, url: str) -> Iterator[Connection]:
        engine = make_upgrade_engine(read_url(url))
        with engine.connect().execution_options(begin=TO_WRITE) as connection:
            with connection.begin():
                yield connection
        engine.dispose()

    # Round trips

    def test_a_run_reads_back_as_it_was_saved(self: Any) -> None:
        database = self.open()
        run_id = save(database, RESULT, tree="d" * 40, hours=2)
        run = database.find_run("demo", RESULT.commit)
        self.assertEqual(
            (run_id, "snapshots/a", "f" * 64, "d" * 40, NOON + timedelta(hours=2), True),
            (run.run_id, run.snapshot, run.sha256, run.tree, run.measured_at, run.usable),
        )
        self.assertEqual(8, run.as_before.total.statements - 1)

    def test_any_run_reads_back_as_it_was_saved(self: Any) -> None:
        database = self.open()

        @settings(max_examples=40, suppress_health_check=list(HealthCheck), database=None)
        @given(RESULTS)
        def check(result: JobResult) -> None:
            run_id = save(database, result)
            run = database.find_run("demo", result.commit)
            self.assertIsNotNone(run)
            self.assertEqual(run_id, run.run_id)
            check_same(self, result, run)
            self.assertEqual(result.measurement.files, database.files_of(run_id))
            self.assertEqual(result.outcomes, database.outcomes_of(run_id))
            self.assertEqual(result.faults, database.faults_of(run_id))
            self.assertEqual(result.carried, database.carried_of(run_id))

        check()

    def test_what_was_saved_is_there_after_the_database_was_closed(self: Any) -> None:
        url = self.fresh_url()
        with Database.open(url) as database:
            database.save_project("demo", "master", TARGET)
            run_id = save(database, RESULT)
        self.assertEqual([run_id], ids(self.open(url).baselines("demo")))

    # Projects

    def test_a_project_saved_twice_has_the_later_branch_and_target(self: Any) -> None:
        database = self.open()
        save(database, RESULT)
        database.save_project("demo", "stable/2025.1", Fraction(1, 3))
        (row,) = database.project_rows()
        self.assertEqual(("stable/2025.1", Fraction(1, 3)), (row.branch, row.target))
        self.assertIsNone(row.latest)
        self.assertEqual(1, len(database.baselines("demo", "master")))

    def test_a_run_of_an_unknown_project_is_refused(self: Any) -> None:
        database = self.open()
        with testtools.ExpectedException(UsageError, ".*knows no project other.*"):
            save(database, replace(RESULT, project="other"))
        self.assertEqual((), database.baselines("other"))

    def test_project_rows_show_latest_baseline_and_last_change(self: Any) -> None:
        database = self.open()
        database.save_project("another", "master", Fraction(9, 10))
        save(database, make_result("2", hours=2))
        save(database, make_result("1", hours=1))
        save(database, make_result("9", hours=9, branch="stable"))
        save(database, make_result("3", hours=8, kind=Kind.CHANGE, subject="Old"), hours=1)
        save(database, make_result("4", hours=7, kind=Kind.CHANGE, subject="New"), hours=2)
        another, demo = database.project_rows()
        self.assertEqual(
            ("another", None, None), (another.project, another.latest, another.last_change)
        )
        self.assertEqual(("2" * 40, "New"), (demo.latest.commit, demo.last_change.subject))

    # Baselines

    def test_baselines_are_complete_usable_and_newest_first(self: Any) -> None:
        database = self.open()
        old = save(database, make_result("1", hours=1))
        new = save(database, make_result("3", hours=3))
        save(database, make_result("4", hours=4, complete=False))
        save(database, make_result("5", hours=5, kind=Kind.CHANGE))
        side = save(database, make_result("6", hours=2, branch="stable"))
        self.assertEqual([new, old], ids(database.baselines("demo", "master")))
        self.assertEqual([new, side, old], ids(database.baselines("demo")))
        self.assertEqual([new, side], ids(database.latest_baselines()))
        self.assertEqual([], ids(database.baselines("another")))

    def test_measuring_again_adds_a_run_and_the_newest_counts(self: Any) -> None:
        database = self.open()
        first = save(database, make_result("1"))
        before = database.files_of(first)
        second = save(
            database, make_result("1", measurement=replace(RESULT.measurement, files=()))
        )
        self.assertEqual([second], ids(database.baselines("demo")))
        self.assertEqual(second, database.find_run("demo", "1" * 40).run_id)
        self.assertEqual(before, database.files_of(first))

    def test_a_forgotten_snapshot_gives_way_to_the_one_before(self: Any) -> None:
        database = self.open()
        first, second = save(database, make_result("1")), save(database, make_result("1"))
        database.forget_snapshot(second)
        self.assertEqual([first], ids(database.baselines("demo")))
        database.forget_snapshot(first)
        self.assertEqual([], ids(database.baselines("demo")))
        self.assertEqual([], ids(database.latest_baselines()))
        self.assertFalse(database.find_run("demo", "1" * 40).usable)
        self.assertEqual(second, database.latest_run("demo").run_id)

    def test_old_outcomes_go_but_failures_and_counts_stay(self: Any) -> None:
        database = self.open()
        run_id = save(database, RESULT)
        (run,) = database.runs_of("demo")

        def forget(before: datetime) -> int:
            found: int = database.write(lambda c: writing.forget_outcomes(c, before))
            return found

        self.assertEqual(0, forget(run.measured_at))
        self.assertEqual(1, forget(run.measured_at + timedelta(seconds=1)))
        self.assertEqual(["t.Two"], [one.test for one in database.outcomes_of(run_id)])
        self.assertEqual([run], list(database.runs_of("demo")))

    def test_a_change_never_touches_a_baseline(self: Any) -> None:
        database = self.open()
        run_id = save(database, RESULT)
        before = (
            database.baselines("demo"),
            database.files_of(run_id),
            database.latest_run("demo"),
        )
        save(database, replace(RESULT, kind=Kind.CHANGE, subject="A change of the same commit"))
        after = (
            database.baselines("demo"),
            database.files_of(run_id),
            database.latest_run("demo"),
        )
        self.assertEqual(before, after)

    def test_an_incomplete_run_is_latest_only_where_nothing_else_is(self: Any) -> None:
        database = self.open()
        self.assertIsNone(database.latest_run("demo"))
        partial = save(database, make_result("2", hours=2, complete=False))
        self.assertEqual(partial, database.latest_run("demo").run_id)
        whole = save(database, make_result("1", hours=1))
        self.assertEqual(whole, database.latest_run("demo", "master").run_id)
        self.assertIsNone(database.latest_run("demo", "stable"))

    def test_what_is_not_there_is_none_or_empty(self: Any) -> None:
        database = self.open()
        self.assertIsNone(database.find_run("demo", "0" * 40))
        self.assertEqual(((), ()), (database.files_of(99), database.outcomes_of(99)))
        self.assertEqual(((), {}), (database.faults_of(99), database.carried_of(99)))

    def test_a_moment_without_a_time_zone_is_refused_and_leaves_nothing(self: Any) -> None:
        database = self.open()
        naive = replace(RESULT, committed_at=RESULT.committed_at.replace(tzinfo=None))
        self.assertRaises(StatementError, save, database, naive)
        self.assertIsNone(database.find_run("demo", RESULT.commit))

    # Schema

    def test_the_migrations_make_the_tables_that_the_code_describes(self: Any) -> None:
        url = self.fresh_url()
        self.open(url)
        with self.connected(url) as connection:
            options = {"version_table": VERSION_TABLE, "compare_type": True}
            context = MigrationContext.configure(connection, opts=options)
            self.assertEqual([], compare_metadata(context, metadata))
            self.assertEqual(HEAD, read_version(connection))
        self.assertEqual(HEAD, known_revisions()[-1])

    def test_down_to_nothing_and_up_again(self: Any) -> None:
        url = self.fresh_url()
        save(self.open(url), RESULT)
        engine = make_upgrade_engine(read_url(url))
        self.addCleanup(engine.dispose)
        for revision in reversed(("base", *known_revisions()[:-1])):
            move(engine, revision, "the test's database")
        self.assertEqual([VERSION_TABLE], inspect(engine).get_table_names())
        database = self.open(url)
        self.assertEqual([], ids(database.baselines("demo")))
        self.assertEqual([save(database, RESULT)], ids(database.baselines("demo")))

    def test_a_newer_database_is_left_alone(self: Any) -> None:
        url = self.fresh_url()
        self.open(url)
        with self.connected(url) as connection:
            connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
        with testtools.ExpectedException(UsageError, ".*newer than this covtrack's.*"):
            Database.open(url)
        with self.connected(url) as connection:
            self.assertEqual("9999", read_version(connection))

    def test_another_programs_database_is_left_alone(self: Any) -> None:
        url = self.fresh_url()
        self.make_foreign(url, "CREATE TABLE runs (distance INTEGER)")
        with testtools.ExpectedException(UsageError, ".*tables of another program \\(runs\\).*"):
            Database.open(url)
        engine = make_upgrade_engine(read_url(url))
        self.addCleanup(engine.dispose)
        self.assertEqual(["runs"], inspect(engine).get_table_names())

    def make_foreign(self, url: str, statement: str) -> None:
        path = read_url(url).database
        if url.startswith("sqlite") and path:
            Path(path).parent.mkdir(parents=True)
        with self.connected(url) as connection:
            connection.execute(text(statement))

    def test_a_lost_table_is_told_in_one_sentence(self: Any) -> None:
        url = self.fresh_url()
        database = self.open(url)
        with self.connected(url) as connection:
            connection.execute(text("DROP TABLE evidence"))
        with testtools.ExpectedException(DataError, ".*does not hold covtrack's tables.*"):
            save(database, RESULT)
        self.assertIsNone(database.find_run("demo", RESULT.commit))

    def test_a_row_that_makes_no_sense_is_told_in_one_sentence(self: Any) -> None:
        url = self.fresh_url()
        database = self.open(url)
        save(database, RESULT)
        with self.connected(url) as connection:
            connection.execute(text("UPDATE runs SET kind = 'guess'"))
        with testtools.ExpectedException(DataError, ".*makes no sense.*guess.*"):
            database.find_run("demo", RESULT.commit)

    # Several processes

    def test_processes_that_open_a_new_database_at_once(self: Any) -> None:
        url, folder = self.fresh_url(), Path(self.useFixture(TempDir()).path)
        code = """
wait_until(float(words[0]))
with Database.open(url) as database:
    database.save_project("demo", "master", Fraction(4, 5))
    save(database, 3)
"""
        start = time() + 2.5
        children = [start_child(folder, f"{n}", code, url, start) for n in range(4)]
        statuses = [wait_for(child) for child in children]
        self.assertEqual([0] * 4, statuses, read_errors(folder))
        with self.connected(url) as connection:
            self.assertEqual(4, connection.execute(text("SELECT count(*) FROM runs")).scalar())
            versions = connection.execute(text(f"SELECT count(*) FROM {VERSION_TABLE}")).scalar()
            self.assertEqual(1, versions)

    def test_writers_at_once_lose_nothing(self: Any) -> None:
        url, folder = self.fresh_url(), Path(self.useFixture(TempDir()).path)
        self.open(url)
        code = """
with Database.open(url) as database:
    for _ in range(15):
        save(database, 200)
        database.save_project("demo", "master", Fraction(4, 5))
        for run in database.baselines("demo"):
            assert len(database.outcomes_of(run.run_id)) == 200
"""
        children = [start_child(folder, f"{n}", code, url) for n in range(3)]
        self.assertEqual([0] * 3, [wait_for(child) for child in children], read_errors(folder))
        self.check_whole(url, runs=45)

    def test_killed_at_each_statement_of_a_save(self: Any) -> None:
        url = self.fresh_url()
        database = self.open(url)
        code = """
with Database.open(url) as database:
    die_after(int(words[0]))
    save(database, 50)
print("saved")
"""
        survived = None
        for statements in range(1, 20):
            completed = run_child(code, url, statements)
            if completed.status == 0:
                survived = statements
                break
            self.assertEqual(-signal.SIGKILL, completed.status, completed.stderr)
            self.assertIsNone(database.find_run("demo", RESULT.commit))
        self.assertIsNotNone(survived)
        self.assertGreaterEqual(survived, STATEMENTS_OF_A_SAVE)
        self.check_whole(url, runs=1)

    def test_killed_at_some_moment_of_many_saves(self: Any) -> None:
        url, folder = self.fresh_url(), Path(self.useFixture(TempDir()).path)
        self.open(url)
        code = """
with Database.open(url) as database:
    print("ready", flush=True)
    while True:
        save(database, 2000)
"""
        for number in range(4):
            child = start_child(folder, str(number), code, url)
            deadline = monotonic() + 30
            while not (folder / f"{number}.out").read_text() and monotonic() < deadline:
                sleep(0.01)
            sleep(0.15 + 0.037 * number)
            child.kill(grace=0)
        self.assertGreater(self.check_whole(url), 0)

    def test_killed_at_each_statement_of_an_upgrade(self: Any) -> None:
        url = self.fresh_url()
        code = """
die_after(int(words[0]))
Database.open(url).close()
"""
        killed = 0
        for statements in range(1, 60, 3):
            completed = run_child(code, url, statements)
            if completed.status == 0:
                break
            self.assertEqual(-signal.SIGKILL, completed.status, completed.stderr)
            killed += 1
            with self.connected(url) as connection:
                self.assertIn(inspect(connection).get_table_names(), [[], [VERSION_TABLE]])
        self.assertGreater(killed, 3)
        database = self.open(url)
        self.assertEqual([save(database, RESULT)], ids(database.baselines("demo")))

    def check_whole(self: Any, url: str, runs: int | None = None) -> int:
        """Assert that each run has every part of it, and that there are as many as said."""
        with Database.open(url) as database, self.connected(url) as connection:
            rows = connection.execute(text("SELECT id, tests_run FROM runs")).all()
            for run_id, tests in rows:
                self.assertEqual(tests, len(database.outcomes_of(run_id)))
                self.assertEqual(RESULT.measurement.files, database.files_of(run_id))
                self.assertEqual(RESULT.faults, database.faults_of(run_id))
                self.assertEqual(RESULT.carried, database.carried_of(run_id))
            for table in ("measurements", "files", "outcomes", "faults", "evidence"):
                orphans = f"SELECT count(*) FROM {table} WHERE run_id NOT IN (SELECT id FROM runs)"
                self.assertEqual(0, connection.execute(text(orphans)).scalar())
        if runs is not None:
            self.assertEqual(runs, len(rows))
        return len(rows)


def save(
    database: Database, result: JobResult, *, tree: str | None = None, hours: float = 0
) -> int:
    """Save `result` as measured some hours after noon."""
    return database.save_run(
        result,
        snapshot="snapshots/a",
        sha256="f" * 64,
        tree=tree,
        measured_at=NOON + timedelta(hours=hours),
    )


def ids(runs: tuple[StoredRun, ...]) -> list[int]:
    """The runs' ids in their order."""
    return [run.run_id for run in runs]


def read_errors(folder: Path) -> str:
    """All that children wrote to stderr."""
    return "\n".join(path.read_text() for path in folder.glob("*.err"))


def check_same(case: Any, result: JobResult, run: StoredRun) -> None:
    """Assert that the stored run says what the result said."""
    for name in ("project", "branch", "commit", "subject", "committed_at", "base", "select"):
        case.assertEqual(getattr(result, name), getattr(run, name), name)
    for name in ("kind", "complete", "recorder", "environment", "tests", "before", "notes"):
        case.assertEqual(getattr(result, name), getattr(run, name), name)
    case.assertEqual(result.patch, run.patch)
    case.assertEqual(result.measurement.total, run.total)
    case.assertEqual(result.measurement.vendored, run.vendored)
    case.assertEqual((result.seconds, result.cpu_seconds), (run.seconds, run.cpu_seconds))


class SQLiteContractTest(Contract, testtools.TestCase):
    """The contract on SQLite files."""

    def fresh_url(self) -> str:
        return sqlite_url(Path(self.useFixture(TempDir()).path))


class PostgreSQLContractTest(Contract, testtools.TestCase):
    """The contract on a PostgreSQL server of our own."""

    def fresh_url(self) -> str:
        return postgresql().fresh_url()
