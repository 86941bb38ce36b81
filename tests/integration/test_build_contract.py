"""Builds, on an SQLite file and on a real PostgreSQL server alike."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import testtools
from fixtures import TempDir
from sqlalchemy import delete

from covtrack.store import building, queueing
from covtrack.store.database import Database
from covtrack.store.queued import UNDER_WAY, Build, BuildState, JobKind, NewBuild, NewJob
from covtrack.store.schema import jobs
from tests.databases import postgresql, sqlite_url
from venv_builder.errors import InfrastructureError

NOW = datetime(2200, 1, 2, 3, 4, 5, tzinfo=UTC)
NEW_JOB = NewJob(server="g", project="p", kind=JobKind.CHANGE, branch="m", reason="", change=1)


class BuildContract:
    """The tests; subclasses say where a new, empty database is."""

    def fresh_url(self) -> str:
        raise NotImplementedError

    def open(self: Any) -> Database:
        database = Database.open(self.fresh_url())
        self.addCleanup(database.close)
        return database

    def add_job(self, database: Database, change: int = 1) -> int:
        new = replace(NEW_JOB, change=change)
        job_id = database.write(lambda c: queueing.put_job(c, new, NOW))
        assert job_id is not None
        return job_id

    def put(self, database: Database, run_id: str, job_id: int, **values: Any) -> bool:
        new = NewBuild(
            run_id=run_id, job_id=job_id, token_sha256="f" * 64, order={"a": 1}, **values
        )
        return database.write(lambda c: building.put_build(c, new, NOW))

    def read(self, database: Database, run_id: str) -> Build | None:
        return database.read(lambda c: building.read_build(c, run_id))

    def alive(self, database: Database) -> list[str]:
        return [build.run_id for build in database.read(building.builds_alive)]

    def move(self, database: Database, run_id: str, *old: BuildState, **values: Any) -> bool:
        return database.write(lambda c: building.move_build(c, run_id, old, values))

    def test_a_build_reads_back_as_it_was_put(self: Any) -> None:
        database = self.open()
        job_id, order = self.add_job(database), {"name": "\u2028 \0 \U0001f600", "n": [1, None]}
        new = NewBuild(
            run_id="r", job_id=job_id, token_sha256="e" * 64, order=order, baseline="s/b"
        )
        self.assertTrue(database.write(lambda c: building.put_build(c, new, NOW)))
        build = self.read(database, "r")
        self.assertEqual(
            ("r", job_id, "e" * 64, order, "s/b", BuildState.ORDERED, 1, NOW),
            (
                build.run_id,
                build.job_id,
                build.token_sha256,
                build.order,
                build.baseline,
                build.state,
                build.attempt,
                build.created_at,
            ),
        )
        self.assertEqual((None, None, None), (build.queue_id, build.number, build.result))
        self.assertFalse(build.stored)
        self.assertIsNone(self.read(database, "other"))

    def test_a_job_has_one_build_under_way(self: Any) -> None:
        database = self.open()
        job_id = self.add_job(database)
        self.assertTrue(self.put(database, "one", job_id))
        for state in UNDER_WAY:
            self.move(database, "one", *UNDER_WAY, state=state.value)
            self.assertFalse(self.put(database, "two", job_id, attempt=2))
        self.move(database, "one", *UNDER_WAY, state=BuildState.LOST.value)
        self.assertTrue(self.put(database, "two", job_id, attempt=2))
        self.assertEqual(["two"], self.alive(database))
        of_job = database.read(lambda c: building.builds_of(c, job_id))
        self.assertEqual(["one", "two"], [build.run_id for build in of_job])

    def test_a_run_id_is_given_once(self: Any) -> None:
        database = self.open()
        first, second = self.add_job(database, 1), self.add_job(database, 2)
        self.assertTrue(self.put(database, "one", first))
        self.assertFalse(self.put(database, "one", second))
        self.assertEqual(first, self.read(database, "one").job_id)

    def test_a_build_of_no_job_is_refused(self: Any) -> None:
        database = self.open()
        self.assertRaises(InfrastructureError, self.put, database, "one", 99)
        self.assertEqual([], self.alive(database))

    def test_a_build_moves_from_the_states_that_were_named(self: Any) -> None:
        database = self.open()
        self.put(database, "one", self.add_job(database))
        values = {"state": BuildState.BUILDING.value, "number": 7, "queue_id": 2**40}
        self.assertFalse(self.move(database, "one", BuildState.QUEUED, **values))
        self.assertEqual(BuildState.ORDERED, self.read(database, "one").state)
        self.assertTrue(
            self.move(database, "one", BuildState.QUEUED, BuildState.ORDERED, **values)
        )
        build = self.read(database, "one")
        self.assertEqual(
            (BuildState.BUILDING, 7, 2**40), (build.state, build.number, build.queue_id)
        )
        self.assertFalse(self.move(database, "other", *BuildState, **values))

    def test_the_runs_of_a_stored_bundle(self: Any) -> None:
        database = self.open()
        self.put(database, "one", self.add_job(database))
        database.write(lambda c: building.put_build_values(c, "one", {"run_ids": [4, 2]}))
        build = self.read(database, "one")
        self.assertEqual(((4, 2), True), (build.run_ids, build.stored))

    def test_builds_under_way_come_oldest_first(self: Any) -> None:
        database = self.open()
        for number, name in enumerate("cab"):
            self.put(database, name, self.add_job(database, number))
            created = NOW + timedelta(seconds=number)
            database.write(
                lambda c, n=name, t=created: building.put_build_values(c, n, {"created_at": t})
            )
        self.move(database, "a", *UNDER_WAY, state=BuildState.ENDED.value)
        self.assertEqual(["c", "b"], self.alive(database))
        self.assertEqual({"ordered": 2, "ended": 1}, database.read(building.count_builds))

    def test_a_job_that_goes_takes_its_builds_along(self: Any) -> None:
        database = self.open()
        self.put(database, "one", self.add_job(database))
        database.write(lambda c: c.execute(delete(jobs)))
        self.assertIsNone(self.read(database, "one"))

    def test_of_many_who_put_a_build_at_once_one_succeeds(self: Any) -> None:
        database = self.open()
        job_id = self.add_job(database)
        gate, put = threading.Barrier(6), []

        def work(number: int) -> None:
            gate.wait(30)
            put.append(self.put(database, f"r{number}", job_id))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual([False] * 5 + [True], sorted(put))
        self.assertEqual(1, len(self.alive(database)))


class SQLiteBuildTest(BuildContract, testtools.TestCase):
    def fresh_url(self) -> str:
        return sqlite_url(Path(self.useFixture(TempDir()).path))


class PostgreSQLBuildTest(BuildContract, testtools.TestCase):
    def fresh_url(self) -> str:
        return postgresql().fresh_url()
