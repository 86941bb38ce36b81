"""Inbox and queue, on an SQLite file and on a real PostgreSQL server alike."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import testtools
from fixtures import TempDir
from sqlalchemy import Connection

from covtrack.dispatching import handle_events
from covtrack.endings import Ending, end_job
from covtrack.gerrit.events import Event, EventKind
from covtrack.settings import TrackedProject
from covtrack.store import inbox, queueing
from covtrack.store.database import Database
from covtrack.store.queued import ALIVE, Job, JobKind, JobState, NewJob, VerdictState
from tests.databases import postgresql, sqlite_url
from tests.samples import OPEN, RESULT

NOW = datetime(2200, 1, 2, 3, 4, 5, tzinfo=UTC)  # after all that the code itself notes
LATER = NOW + timedelta(minutes=1)
PROJECTS = tuple(TrackedProject(name=name, git=f"/{name}", gerrit="g") for name in "abc")
CREATED = Event(
    kind=EventKind.PATCH_SET,
    project="a",
    branch="master",
    change=7,
    patch_set=1,
    commit="1" * 40,
    ref="refs/changes/07/7/1",
    at=100,
)
NEW_JOB = NewJob(server="g", project="p", kind=JobKind.CHANGE, branch="m", reason="")


class QueueContract:
    """The tests; subclasses say where a new, empty database is."""

    def fresh_url(self) -> str:
        raise NotImplementedError

    def open(self: Any) -> Database:
        database = Database.open(self.fresh_url())
        self.addCleanup(database.close)
        return database

    def tell(self, database: Database, *events: Event) -> int:
        pairs = [(event.digest, asdict(event)) for event in events]
        new = database.write(lambda connection: inbox.put_events(connection, "g", pairs, NOW))
        while handle_events(database, PROJECTS):
            pass
        return new

    def jobs(self, database: Database, *states: JobState) -> list[Job]:
        wanted = states or tuple(JobState)
        found = database.read(lambda connection: queueing.newest_jobs(connection, 10_000))
        return [job for job in reversed(found) if job.state in wanted]

    def make_ready(self, database: Database) -> None:
        ids = [job.job_id for job in self.jobs(database, JobState.NEW)]
        values = {"state": JobState.QUEUED.value}
        database.write(lambda c: [queueing.move_job(c, key, JobState.NEW, values) for key in ids])

    def claim(self, database: Database, moment: datetime = NOW) -> Job | None:
        return database.write(lambda connection: queueing.claim(connection, moment))

    def test_an_event_is_taken_once(self: Any) -> None:
        database = self.open()
        self.assertEqual(1, self.tell(database, CREATED, CREATED))
        self.assertEqual(0, self.tell(database, replace(CREATED, at=101)))
        self.assertEqual(1, len(self.jobs(database)))

    def test_payloads_come_back_as_they_were(self: Any) -> None:
        database = self.open()
        odd = replace(CREATED, subject="\u2028 \U0001f600 '\"", comment="x" * 50_000)
        pairs = [(odd.digest, asdict(odd))]
        database.write(lambda connection: inbox.put_events(connection, "g", pairs, NOW))
        (received,) = database.read(lambda connection: inbox.unhandled(connection, 10))
        self.assertEqual(asdict(odd), dict(received.payload))
        self.assertEqual(NOW, received.received_at)

    def test_events_of_two_servers_are_apart(self: Any) -> None:
        database = self.open()
        self.tell(database, CREATED)
        pairs = [(CREATED.digest, asdict(CREATED))]
        put = database.write(lambda connection: inbox.put_events(connection, "h", pairs, NOW))
        self.assertEqual(1, put)

    def watermark(self, database: Database, at: int | None = None) -> int | None:
        if at is not None:
            database.write(lambda connection: inbox.put_watermark(connection, "g", at))
        return database.read(lambda connection: inbox.read_watermark(connection, "g"))

    def test_the_watermark_never_goes_back(self: Any) -> None:
        database = self.open()
        self.assertIsNone(self.watermark(database))
        for at, expected in ((5, 5), (9, 9), (3, 9)):
            self.assertEqual(expected, self.watermark(database, at))

    def test_a_newer_patch_set_supersedes(self: Any) -> None:
        database = self.open()
        other = replace(CREATED, change=8, commit="8" * 40)
        self.tell(database, CREATED, other)
        self.make_ready(database)
        running = self.claim(database)
        self.tell(database, replace(CREATED, patch_set=2, commit="2" * 40))
        states = {(job.change, job.patch_set): job.state for job in self.jobs(database)}
        self.assertEqual(JobState.SUPERSEDED, states[7, 1])
        self.assertEqual(JobState.NEW, states[7, 2])
        self.assertEqual(JobState.QUEUED, states[8, 1])
        self.assertEqual((7, 1), (running.change, running.patch_set))

    def test_five_hundred_patch_sets_leave_one_job(self: Any) -> None:
        database = self.open()
        sets = [replace(CREATED, patch_set=n, commit=f"{n:040}") for n in range(1, 501)]
        self.tell(database, *sets)
        alive = self.jobs(database, *ALIVE)
        self.assertEqual([500], [job.patch_set for job in alive])

    def test_an_abandoned_change_stops(self: Any) -> None:
        database = self.open()
        self.tell(database, CREATED, replace(CREATED, kind=EventKind.ABANDONED, at=200))
        self.assertEqual([JobState.CANCELLED], [job.state for job in self.jobs(database)])

    def test_the_branch_is_advanced_once(self: Any) -> None:
        database = self.open()
        moved = Event(
            kind=EventKind.REF_UPDATED, project="a", branch="master", ref="refs/heads/master"
        )
        self.tell(database, *(replace(moved, commit=f"{n:040}") for n in range(3)))
        (job,) = self.jobs(database)
        self.assertEqual((JobKind.ADVANCE, f"{2:040}"), (job.kind, job.commit))
        self.make_ready(database)
        self.claim(database)
        self.tell(database, replace(moved, commit="9" * 40))
        self.assertEqual(
            [JobState.RUNNING, JobState.NEW], [job.state for job in self.jobs(database)]
        )

    def test_projects_take_turns(self: Any) -> None:
        database = self.open()
        events = [
            replace(CREATED, project=name, change=change, commit=f"{change:040}")
            for change, name in enumerate("aaabc", 1)
        ]
        self.tell(database, *events)
        self.make_ready(database)
        order = []
        for minute in range(5):
            job = self.claim(database, NOW + timedelta(minutes=minute))
            order.append(job.project)
            self.end(database, job)
        self.assertEqual(list("abcaa"), order)
        self.assertIsNone(self.claim(database, LATER))

    def end(self, database: Database, job: Job) -> None:
        values = {"state": JobState.DONE.value}
        database.write(lambda c: queueing.move_job(c, job.job_id, JobState.RUNNING, values))

    def test_one_job_of_a_project_at_a_time(self: Any) -> None:
        database = self.open()
        self.tell(database, CREATED, replace(CREATED, change=8, commit="8" * 40))
        self.make_ready(database)
        self.assertIsNotNone(self.claim(database))
        self.assertIsNone(self.claim(database))

    def test_each_executor_claims_its_own_and_as_many_as_it_may(self: Any) -> None:
        database = self.open()
        numbers = {"a": (11, 12, 13), "b": (21,)}
        for project, changes in numbers.items():
            for change in changes:
                commit = f"{change}" * 20
                self.tell(
                    database, replace(CREATED, project=project, change=change, commit=commit)
                )
        self.make_ready(database)

        def claimed(**words: Any) -> int | None:
            job = database.write(lambda c: queueing.claim(c, NOW, **words))
            return job.change if job else None

        self.assertIsNone(claimed(without={"a", "b"}))
        self.assertIsNone(claimed(only=set()))
        two = {"only": {"a"}, "side_by_side": 2}
        self.assertEqual([11, 12, None], [claimed(**two) for _ in range(3)])
        # The project with fewest running is before the one whose jobs are older.
        self.assertEqual([21, 13], [claimed(side_by_side=9) for _ in range(2)])
        back = database.write(lambda c: queueing.recover(c, only={"a", "b"}, without={"a"}))
        self.assertEqual(1, back)
        self.assertEqual(21, claimed(without={"a"}))

    def new(self, kind: JobKind, project: str, change: int | None = None) -> NewJob:
        commit = f"{change or 0:040}"
        return replace(
            NEW_JOB, kind=kind, project=project, change=change, patch_set=change, commit=commit
        )

    def put(self, database: Database, *new: NewJob) -> list[int | None]:
        return database.write(lambda c: [queueing.put_job(c, job, NOW) for job in new])

    def test_rests_of_changes_wait_for_all_but_the_ledger(self: Any) -> None:
        database = self.open()
        self.put(
            database,
            self.new(JobKind.VERIFY, "d"),
            self.new(JobKind.REST, "a", 1),
            self.new(JobKind.ADVANCE, "a"),
            self.new(JobKind.CHANGE, "b", 2),
            self.new(JobKind.REST, "b", 3),
            self.new(JobKind.CHANGE, "a", 4),
        )
        self.make_ready(database)
        order = []
        for minute in range(6):
            job = self.claim(database, NOW + timedelta(minutes=minute))
            order.append((job.kind, job.project))
            self.end(database, job)
        change, advance, rest = JobKind.CHANGE, JobKind.ADVANCE, JobKind.REST
        self.assertEqual({(change, "a"), (change, "b")}, set(order[:2]))
        self.assertEqual((advance, "a"), order[2])
        self.assertEqual({(rest, "a"), (rest, "b")}, set(order[3:5]))
        self.assertEqual((JobKind.VERIFY, "d"), order[5])

    def test_a_rest_that_waited_long_is_next(self: Any) -> None:
        database = self.open()
        kinds = {1: JobKind.REST, 2: JobKind.CHANGE, 3: JobKind.CHANGE}
        self.put(database, *(self.new(kind, "a", change) for change, kind in kinds.items()))
        self.make_ready(database)
        early = self.claim(database, NOW + queueing.PATIENCE - timedelta(seconds=1))
        self.end(database, early)
        late = self.claim(database, NOW + queueing.PATIENCE)
        self.assertEqual((2, 1), (early.change, late.change))

    def test_the_rest_of_a_patch_set_is_queued_once(self: Any) -> None:
        database = self.open()
        rest, change = self.new(JobKind.REST, "a", 7), self.new(JobKind.CHANGE, "a", 7)
        first, again, other = self.put(database, rest, rest, change)
        self.assertIsNone(again)
        self.assertNotIn(None, (first, other))
        self.make_ready(database)
        database.write(lambda c: queueing.put_values(c, first, {"state": JobState.RUNNING.value}))
        self.assertEqual([None], self.put(database, rest))
        self.assertEqual(1, database.write(queueing.recover))
        self.assertEqual([None], self.put(database, rest))

    def test_the_rest_ends_with_its_patch_set(self: Any) -> None:
        ends = (EventKind.PATCH_SET, EventKind.ABANDONED, EventKind.MERGED)
        states = (JobState.SUPERSEDED, JobState.CANCELLED, JobState.CANCELLED)
        database = self.open()
        for change, kind, state in zip((7, 8, 9), ends, states, strict=True):
            first = replace(CREATED, change=change, commit=f"{change:040}")
            self.tell(database, first)
            rest = replace(self.new(JobKind.REST, "a", change), server="g", patch_set=1)
            (job_id,) = self.put(database, rest)
            newer = 2 if kind is EventKind.PATCH_SET else 1
            self.tell(database, replace(first, kind=kind, patch_set=newer, at=200))
            job = database.read(lambda c, job_id=job_id: queueing.read_job(c, job_id))
            self.assertEqual((JobKind.REST, state), (job.kind, job.state), kind)

    def ended(self: Any, *, provisional: bool, state: JobState) -> list[Job]:
        """The jobs after one of a change that was measured, and was in that state, has ended."""
        database = self.open()
        (job_id,) = self.put(database, replace(NEW_JOB, change=7, patch_set=2, commit="a" * 40))
        result = replace(
            RESULT, complete=not provisional, provisional=OPEN if provisional else None
        )
        database.save_project(result.project, "m", Fraction(1))
        run_id = database.save_run(result, snapshot="s", sha256="", tree=None, measured_at=NOW)
        stored = database.run_of(run_id)
        self.assertEqual(result.provisional, stored.provisional)
        values = {"state": state.value, "run_id": run_id}
        database.write(lambda c: queueing.put_values(c, job_id, values))
        job = database.read(lambda c: queueing.read_job(c, job_id))
        for _ in range(2):
            end_job(database, lambda words: None, job, Ending(status=0, words=""))
        found: list[Job] = self.jobs(database)
        return found

    def test_a_provisional_result_queues_the_rest(self: Any) -> None:
        done, rest = self.ended(provisional=True, state=JobState.RUNNING)
        self.assertEqual((JobState.DONE, VerdictState.PENDING), (done.state, done.verdict))
        self.assertEqual((JobKind.REST, JobState.NEW), (rest.kind, rest.state))
        same = ("server", "project", "branch", "change", "patch_set", "commit", "ref", "reason")
        for name in same:
            self.assertEqual(getattr(done, name), getattr(rest, name), name)

    def test_a_final_or_unwanted_result_queues_nothing(self: Any) -> None:
        self.assertEqual(1, len(self.ended(provisional=False, state=JobState.RUNNING)))
        self.assertEqual(1, len(self.ended(provisional=True, state=JobState.SUPERSEDED)))

    def test_a_job_is_claimed_by_one_of_many(self: Any) -> None:
        database = self.open()
        new = [
            NewJob(
                server="g", project=f"p{n}", kind=JobKind.CHANGE, branch="m", reason="", change=n
            )
            for n in range(40)
        ]
        database.write(lambda c: [queueing.put_job(c, job, NOW) for job in new])
        self.make_ready(database)
        claimed: list[int] = []

        def work() -> None:
            while job := self.claim(database):
                claimed.append(job.job_id)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(40, len(claimed))
        self.assertEqual(40, len(set(claimed)))

    def test_what_was_running_is_queued_again(self: Any) -> None:
        database = self.open()
        self.tell(database, CREATED)
        self.make_ready(database)
        first = self.claim(database)
        self.assertEqual(1, database.write(queueing.recover))
        again = self.claim(database)
        self.assertEqual((first.job_id, 2), (again.job_id, again.attempts))

    def test_verdicts_that_are_due(self: Any) -> None:
        database = self.open()
        self.tell(database, CREATED)
        (job,) = self.jobs(database)

        def put(connection: Connection) -> None:
            values = {"verdict": VerdictState.PENDING.value, "verdict_not_before": LATER}
            queueing.put_values(connection, job.job_id, values)

        database.write(put)
        self.assertEqual([0, 1], [self.count_due(database, moment) for moment in (NOW, LATER)])

    def count_due(self, database: Database, moment: datetime) -> int:
        return len(database.read(lambda c: queueing.pending_verdicts(c, moment)))

    def test_old_events_are_forgotten_once_handled(self: Any) -> None:
        database = self.open()
        self.tell(database, CREATED)
        pairs = [("digest", asdict(CREATED))]
        database.write(lambda c: inbox.put_events(c, "g", pairs, NOW))
        far = datetime.now(UTC) + timedelta(days=1)
        self.assertEqual(1, database.write(lambda c: inbox.forget_events(c, far)))
        self.assertEqual(1, len(database.read(lambda c: inbox.unhandled(c, 10))))


class SQLiteQueueTest(QueueContract, testtools.TestCase):
    def fresh_url(self) -> str:
        return sqlite_url(Path(self.useFixture(TempDir()).path))


class PostgreSQLQueueTest(QueueContract, testtools.TestCase):
    def fresh_url(self) -> str:
        return postgresql().fresh_url()
