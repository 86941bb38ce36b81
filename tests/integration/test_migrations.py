"""Every revision, with rows in every table: up to the newest, down again, and up once more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import testtools
from fixtures import TempDir
from sqlalchemy import Engine, text

from covtrack.store.database import Database
from covtrack.store.engine import TO_WRITE, make_folder, make_upgrade_engine, read_url
from covtrack.store.schema import HEAD
from covtrack.store.upgrading import known_revisions, move, read_version
from tests.databases import postgresql, sqlite_url
from tests.filled_tables import Rows, fill, read


class MigrationsContract:
    """The tests; subclasses say where a new, empty database is."""

    def fresh_url(self) -> str:
        raise NotImplementedError

    def open(self: Any, revision: str) -> tuple[str, Engine]:
        """A new database whose tables are as that revision left them."""
        url = self.fresh_url()
        make_folder(read_url(url))
        engine = make_upgrade_engine(read_url(url))
        self.addCleanup(engine.dispose)
        move(engine, revision, "the test's database")
        return url, engine

    def fill(self, engine: Engine) -> Rows:
        with engine.connect().execution_options(begin=TO_WRITE) as connection:
            with connection.begin():
                return fill(connection)

    def read(self, engine: Engine) -> Rows:
        with engine.connect() as connection:
            return read(connection)

    def assert_kept(self: Any, old: Rows, new: Rows, revision: str) -> None:
        """What both know of is the same in both."""
        for table in old.keys() & new.keys():
            self.assertEqual(len(old[table]), len(new[table]), f"{table} at {revision}")
            for before, after in zip(old[table], new[table], strict=True):
                for name in before.keys() & after.keys():
                    words = f"{table}.{name} at {revision}"
                    self.assertEqual(before[name], after[name], words)

    def test_rows_of_every_revision_reach_the_newest(self: Any) -> None:
        for revision in known_revisions():
            url, engine = self.open(revision)
            old = self.fill(engine)
            self.assertEqual(3, len(old["runs"]), revision)
            Database.open(url).close()
            new = self.read(engine)
            self.assertEqual(set(), old.keys() - new.keys(), revision)
            self.assert_kept(old, new, revision)
            with engine.connect() as connection:
                self.assertEqual(HEAD, read_version(connection))

    def test_rows_of_the_newest_survive_the_way_down_to_each_revision(self: Any) -> None:
        for revision in known_revisions():
            _, engine = self.open(HEAD)
            new = self.fill(engine)
            move(engine, revision, "the test's database")
            old = self.read(engine)
            self.assertLessEqual(old.keys(), new.keys(), revision)
            self.assertEqual(3, len(old["runs"]), revision)
            self.assert_kept(old, new, revision)
            move(engine, HEAD, "the test's database")
            self.assert_kept(old, self.read(engine), revision)

    def test_each_step_up_and_down_and_up_keeps_what_both_sides_know(self: Any) -> None:
        _, engine = self.open(known_revisions()[0])
        self.fill(engine)
        for below, above in zip(known_revisions(), known_revisions()[1:], strict=False):
            old = self.read(engine)
            for revision in (above, below, above):
                move(engine, revision, "the test's database")
                self.assert_kept(old, self.read(engine), f"{below} to {above}")

    def test_a_kind_of_job_that_is_not_known_below_is_left_behind(self: Any) -> None:
        _, engine = self.open(HEAD)
        self.fill(engine)
        with engine.connect().execution_options(begin=TO_WRITE) as connection:
            with connection.begin():
                connection.execute(text("UPDATE jobs SET kind = 'rest' WHERE id = 1"))
        move(engine, "0006", "the test's database")
        old = self.read(engine)
        self.assertEqual([2, 3], [row["id"] for row in old["jobs"]])
        self.assertEqual([2, 3], [row["job_id"] for row in old["builds"]])
        self.assertNotIn("provisional", old["runs"][0])


class SQLiteMigrationsTest(MigrationsContract, testtools.TestCase):
    """The contract on SQLite files."""

    def fresh_url(self) -> str:
        return sqlite_url(Path(self.useFixture(TempDir()).path))


class PostgreSQLMigrationsTest(MigrationsContract, testtools.TestCase):
    """The contract on a PostgreSQL server of our own."""

    def fresh_url(self) -> str:
        return postgresql().fresh_url()
