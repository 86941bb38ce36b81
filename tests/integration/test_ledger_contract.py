"""The ledger's tables and its place in the queue, on SQLite and on a real PostgreSQL alike."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import testtools
from fixtures import TempDir

from covtrack.executor import Executor, Started
from covtrack.settings import Settings, TrackedProject
from covtrack.store import ledgering, queueing
from covtrack.store.database import Database
from covtrack.store.queued import JobKind, JobState, NewJob
from covtrack.store.values import Verification
from covtrack.working import queue_samples
from jobs.holding import CHANCE, Explained, Held
from jobs.nondeterminism import LineName
from tests.databases import postgresql, sqlite_url
from tests.samples import NOON, RESULT
from venv_builder.processes import start_group

NOW = datetime(2200, 1, 2, 3, 4, 5, tzinfo=UTC)
LINE = LineName(path="a.py", function="f", text="x = '\0 \ud800'", ordinal=1)
FOUND = Verification(
    verified_at=NOON,
    complete=True,
    tests=3,
    cpu_seconds=1.5,
    branches=12,
    held=Held(
        false_covered={"a.py": (3, 4)},
        missed_branches={"a.py": ((3, -1), (4, 5))},
        explained=(Explained(path="a.py", line=3, to=-1, kind="missed", why=CHANCE),),
    ),
)
VERIFY = NewJob(
    server="g", project="p", kind=JobKind.VERIFY, branch="m", reason="", commit="1" * 40
)
CHANGE = replace(VERIFY, kind=JobKind.CHANGE, change=7, patch_set=1)


class LedgerContract:
    """The tests; subclasses say where a new, empty database is."""

    def fresh_url(self) -> str:
        raise NotImplementedError

    def open(self: Any) -> Database:
        database = Database.open(self.fresh_url())
        self.addCleanup(database.close)
        return database

    def queue(self, database: Database, *jobs: NewJob) -> list[int | None]:
        ids = database.write(lambda c: [queueing.put_job(c, job, NOW) for job in jobs])
        moved = {"state": JobState.QUEUED.value}
        for job_id in ids:
            if job_id:
                database.write(
                    lambda c, j=job_id: queueing.move_job(c, j, JobState.NEW, moved)  # type: ignore[misc]
                )
        return ids

    def claim(self, database: Database) -> JobKind | None:
        job = database.write(lambda c: queueing.claim(c, NOW))
        return job.kind if job else None

    def test_an_entry_reads_back_as_it_was_put(self: Any) -> None:
        database = self.open()
        database.save_project("demo", "master", Fraction(4, 5))
        run_id = database.save_run(RESULT, snapshot="s", sha256="h", tree=None, measured_at=NOON)
        database.write(lambda c: ledgering.put_entry(c, run_id, FOUND))
        (entry,) = database.read(lambda c: ledgering.read_entries(c, "demo"))
        self.assertEqual(
            (run_id, RESULT.commit, NOON), (entry.run_id, entry.commit, entry.verified_at)
        )
        self.assertEqual(FOUND.held, entry.held)
        self.assertEqual((12, 3, 1.5), (entry.branches, entry.tests, entry.cpu_seconds))
        self.assertEqual((False, True), (entry.identical, entry.is_unsteady))
        self.assertEqual((), database.read(lambda c: ledgering.read_entries(c, "other")))
        (row,) = database.project_rows()
        self.assertEqual(
            (1, 0, 1), (row.ledger.verified, row.ledger.identical, row.ledger.unsteady)
        )

    def test_a_line_is_learnt_once(self: Any) -> None:
        database = self.open()
        database.save_project("demo", "master", Fraction(4, 5))
        for new in (1, 0):
            learnt = database.write(
                lambda c: ledgering.put_lines(c, "demo", {LINE: "w"}, commit="c", now=NOON)
            )
            self.assertEqual(new, learnt)
        (line,) = database.read(lambda c: ledgering.read_lines(c, "demo"))
        self.assertEqual(
            (LINE, "w", "c", NOON), (line.name, line.why, line.commit, line.learnt_at)
        )

    def test_a_run_before_another_of_its_commit(self: Any) -> None:
        database = self.open()
        database.save_project("demo", "master", Fraction(4, 5))
        ids = [
            database.save_run(result, snapshot="s", sha256="h", tree=None, measured_at=NOON)
            for result in (RESULT, replace(RESULT, commit="9" * 40), RESULT)
        ]
        self.assertEqual(ids[0], database.run_before(ids[2]).run_id)
        self.assertIsNone(database.run_before(ids[1]))

    def test_full_runs_come_last_of_all(self: Any) -> None:
        database = self.open()
        self.queue(database, VERIFY, replace(CHANGE, project="q"))
        self.assertEqual([None], self.queue(database, VERIFY))
        self.queue(database, CHANGE)
        kinds = [self.claim(database), self.claim(database), self.claim(database)]
        self.assertEqual([JobKind.CHANGE, JobKind.CHANGE, None], kinds)  # p has one running

    def test_who_waits(self: Any) -> None:
        database = self.open()
        self.queue(database, VERIFY, replace(CHANGE, project="q"))
        waiting = database.read(lambda c: queueing.projects_waiting(c, NOW))
        self.assertEqual({"q"}, waiting)

    def test_sampled_results_are_queued_once(self: Any) -> None:
        database = self.open()
        self.queue(database, CHANGE)
        job = database.write(lambda c: queueing.claim(c, NOW))
        for share, wanted in (("0", [0, 0]), ("1", [1, 0])):
            project = TrackedProject.model_validate({"name": "p", "git": "/p", "ledger": share})
            found = [queue_samples(database, project, job, [RESULT]) for _ in wanted]
            self.assertEqual(wanted, found)
        incomplete = replace(RESULT, commit="8" * 40, complete=False)
        self.assertEqual(0, queue_samples(database, project, job, [incomplete]))


class SqliteLedgerTest(LedgerContract, testtools.TestCase):
    def fresh_url(self) -> str:
        return sqlite_url(Path(self.useFixture(TempDir()).path))

    def test_a_full_run_makes_room_for_a_patch_set(self) -> None:
        database, folder = self.open(), Path(self.useFixture(TempDir()).path)
        self.queue(database, VERIFY)
        job = database.write(lambda c: queueing.claim(c, NOW))
        assert job is not None
        executor = Executor(Settings(state=folder, projects={}), None, database, lambda _: None)
        argv = [sys.executable, "-c", "import time; time.sleep(600)"]
        out = folder / "out"
        group = start_group(argv, cwd=folder, env={}, stdout=out, stderr=out)
        self.addCleanup(group.kill)
        executor.started[job.job_id] = Started(job, group, out)
        self.assertFalse(executor._make_room())
        now = datetime.now(UTC)
        change = database.write(lambda c: queueing.put_job(c, CHANGE, now))
        moved = {"state": JobState.QUEUED.value}
        database.write(lambda c: queueing.move_job(c, change or 0, JobState.NEW, moved))
        self.assertTrue(executor._make_room())
        self.assertEqual({}, executor.started)
        self.assertIsNotNone(group.poll())
        again = database.read(lambda c: queueing.read_job(c, job.job_id))
        assert again is not None
        self.assertEqual((JobState.QUEUED, 0), (again.state, again.attempts))


class PostgresqlLedgerTest(LedgerContract, testtools.TestCase):
    def fresh_url(self) -> str:
        return postgresql().fresh_url()
