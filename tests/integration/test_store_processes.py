"""Several processes on one database, SQLite and a real PostgreSQL server alike.

Each child keeps its transactions open for a moment, so that what is not guarded does collide.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import testtools
from fixtures import TempDir

from covtrack.gerrit.events import Event, EventKind
from covtrack.store import inbox, queueing
from covtrack.store.database import Database
from covtrack.store.queued import Job, JobKind, JobState, NewJob
from tests.databases import postgresql, sqlite_url
from venv_builder.processes import ProcessGroup, start_group

ROOT = Path(__file__).parents[2]
NOW = datetime(2200, 1, 2, 3, 4, 5, tzinfo=UTC)
CHANGE = NewJob(
    server="g", project="p", kind=JobKind.CHANGE, branch="m", reason="", change=1, patch_set=1
)
ADVANCE = NewJob(server="g", project="p", kind=JobKind.ADVANCE, branch="m", reason="", commit="c")
CHILD = """
import os, signal, sys, time
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from covtrack.store import inbox, queueing
from covtrack.store.database import Database
from covtrack.store.queued import JobState
from tests.integration.test_store_processes import ADVANCE, CHANGE, NOW
from tests.samples import NOON, RESULT

url, folder, *words = sys.argv[1:]
database = Database.open(url)

def begin():
    go = Path(folder, "go")
    Path(folder, f"{words[-1]}.ready").touch()
    while not go.exists():
        time.sleep(0.002)
    return float(go.read_text())

start = begin()

def meet(number, every=0.12):
    time.sleep(max(0, start + number * every - time.time()))

def write(act, *, linger=0.0):
    def slowly(connection):
        found = act(connection)
        time.sleep(linger)
        return found
    return database.write(slowly)
"""
CLAIMER = """
while time.time() < start + 60:
    job = write(lambda c: queueing.claim(c, NOW), linger=0.01)
    if job is None:
        counts = database.read(queueing.count_jobs)
        if not counts.get("queued") and not counts.get("running"):
            break
        time.sleep(0.005)
        continue
    begun = time.monotonic()
    time.sleep(0.01)
    values = {"state": JobState.DONE.value}
    print(job.job_id, job.project, begun, time.monotonic(), flush=True)
    assert write(lambda c: queueing.move_job(c, job.job_id, JobState.RUNNING, values))
"""


class ProcessesContract:
    """The tests; subclasses say where a new, empty database is."""

    def fresh_url(self) -> str:
        raise NotImplementedError

    def setUp(self: Any) -> None:
        super().setUp()  # type: ignore[misc]
        self.folder = Path(self.useFixture(TempDir()).path)
        self.url = self.fresh_url()
        self.database = Database.open(self.url)
        self.addCleanup(self.database.close)

    def start(self: Any, code: str, count: int) -> list[ProcessGroup]:
        """So many processes that have opened the database; each knows its number, words[-1]."""
        (self.folder / "go").unlink(missing_ok=True)
        children = [self.start_one(code, str(number)) for number in range(count)]
        self.wait_until(lambda: len(list(self.folder.glob("*.ready"))) >= count)
        for path in self.folder.glob("*.ready"):
            path.unlink()
        new = self.folder / "go.new"
        new.write_text(str(time() + 0.05))
        new.rename(self.folder / "go")
        return children

    def start_one(self: Any, code: str, name: str) -> ProcessGroup:
        return start_group(
            [sys.executable, "-c", CHILD + code, self.url, str(self.folder), name],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
            stdout=self.folder / f"{name}.out",
            stderr=self.folder / f"{name}.err",
        )

    def wait_until(self: Any, done: Callable[[], bool]) -> None:
        deadline = monotonic() + 90
        while not done():
            self.assertLess(monotonic(), deadline, self.errors())
            sleep(0.01)

    def errors(self: Any) -> str:
        return "\n".join(path.read_text() for path in self.folder.glob("*.err"))

    def run_all(self: Any, code: str, count: int) -> list[list[str]]:
        """What each of so many processes that begin at once prints, split into words."""
        children = self.start(code, count)
        self.wait_until(lambda: all(child.poll() is not None for child in children))
        self.assertEqual([0] * count, [child.poll() for child in children], self.errors())
        printed = [(self.folder / f"{n}.out").read_text() for n in range(count)]
        return [line.split() for text in printed for line in text.splitlines()]

    def run_to_its_death(self: Any, code: str) -> None:
        (child,) = self.start(code, 1)
        self.wait_until(lambda: child.poll() is not None)
        self.assertEqual(-signal.SIGKILL, child.poll(), self.errors())

    def jobs(self: Any, *states: JobState) -> list[Job]:
        found = self.database.read(lambda connection: queueing.newest_jobs(connection, 10_000))
        return [job for job in reversed(found) if not states or job.state in states]

    def queue(self: Any, *new: NewJob) -> None:
        def put(connection: Any) -> None:
            for job in new:
                job_id = queueing.put_job(connection, job, NOW)
                assert job_id is not None
                queueing.put_values(connection, job_id, {"state": JobState.QUEUED.value})

        self.database.write(put)

    # The queue

    def test_jobs_are_claimed_once_and_one_of_a_project_at_a_time(self: Any) -> None:
        new = [replace(CHANGE, project=f"p{n % 3}", change=n) for n in range(36)]
        self.queue(*new)
        lines = self.run_all(CLAIMER, 4)
        self.assertEqual(
            sorted(job.job_id for job in self.jobs()), sorted(int(line[0]) for line in lines)
        )
        for project in ("p0", "p1", "p2"):
            spans = sorted(
                (float(line[2]), float(line[3])) for line in lines if line[1] == project
            )
            for (_, ended), (begun, _) in pairwise(spans):
                self.assertLessEqual(ended, begun, project)

    def test_a_patch_set_is_queued_by_one_of_many(self: Any) -> None:
        code = """
for change in range(15):
    new = replace(CHANGE, change=change)
    meet(change)
    if write(lambda c: queueing.put_job(c, new, NOW), linger=0.02) is not None:
        print(change)
"""
        lines = self.run_all(code, 4)
        self.assertEqual([str(n) for n in range(15)], sorted((line[0] for line in lines), key=int))
        self.assertEqual(list(range(15)), sorted(job.change for job in self.jobs()))

    def test_an_advance_waits_once(self: Any) -> None:
        code = """
for branch in range(15):
    new = replace(ADVANCE, branch=f"b{branch}", commit=words[-1])
    meet(branch)
    write(lambda c: queueing.put_job(c, new, NOW), linger=0.02)
"""
        self.run_all(code, 4)
        self.assertEqual(
            {f"b{n}": 1 for n in range(15)}, Counter(job.branch for job in self.jobs())
        )

    def test_a_claimer_that_is_killed_leaves_the_job_to_others(self: Any) -> None:
        self.queue(CHANGE)
        code = """
def die(connection):
    print(queueing.claim(connection, NOW).job_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
database.write(die)
"""
        self.run_to_its_death(code)
        (job,) = self.jobs()
        self.assertEqual((JobState.QUEUED, 0), (job.state, job.attempts))
        self.assertEqual([[str(job.job_id)]], [line[:1] for line in self.run_all(CLAIMER, 2)])

    # The inbox

    def test_events_are_taken_once_in_whatever_order_they_come(self: Any) -> None:
        code = """
for batch in range(10):
    pairs = [(f"{batch}.{n}", {"n": n}) for n in range(40)]
    pairs = pairs if int(words[-1]) % 2 else pairs[::-1]
    for half in (pairs[:20], pairs[20:]):
        print(write(lambda c: inbox.put_events(c, "g", half, NOW), linger=0.005))
    def both(connection):
        told = [(f"{batch}+{n}", {"n": n}) for n in range(6)]
        told = told if int(words[-1]) % 2 else told[::-1]
        new = 0
        for pair in told:  # one statement each: the widest gap for two orders to meet
            new += inbox.put_events(connection, "g", [pair], NOW)
            time.sleep(0.003)
        return new
    meet(batch, every=0.4)
    print(write(both))
"""
        lines = self.run_all(code, 4)
        self.assertEqual(460, sum(int(line[0]) for line in lines))
        found = self.database.read(lambda c: inbox.events_after(c, 0, 10_000))
        self.assertEqual(460, len({event.digest for event in found}))
        self.assertEqual(460, len(found))

    def test_a_reader_that_goes_on_from_the_newest_event_misses_none(self: Any) -> None:
        code = """
for n in range(60):
    pair = (f"{words[-1]}.{n}", {"n": n})
    write(lambda c: inbox.put_events(c, "g", [pair], NOW), linger=0.001 * (int(words[-1]) * 7))
"""
        children = self.start(code, 3)
        seen: list[str] = []
        last, deadline = 0, monotonic() + 60
        running = True
        while running and monotonic() < deadline:
            running = any(child.poll() is None for child in children)
            for event in self.database.read(partial(inbox.events_after, event_id=last, limit=500)):
                last = event.event_id
                seen.append(event.digest)
        self.assertEqual([0, 0, 0], [child.poll() for child in children])
        self.assertEqual({f"{n}.{k}" for n in range(3) for k in range(60)}, set(seen))

    def test_a_process_killed_with_events_in_its_hand_loses_none_that_were_stored(
        self: Any,
    ) -> None:
        code = """
write(lambda c: inbox.put_events(c, "g", [("stored", {})], NOW))
def die(connection):
    inbox.put_events(connection, "g", [("lost", {})], NOW)
    os.kill(os.getpid(), signal.SIGKILL)
database.write(die)
"""
        self.run_to_its_death(code)
        again: list[tuple[str, dict[str, object]]] = [("stored", {}), ("lost", {})]
        new = self.database.write(lambda c: inbox.put_events(c, "g", again, NOW))
        self.assertEqual(1, new)

    def test_events_are_acted_on_once(self: Any) -> None:
        pairs = []
        for number in range(300):
            event = Event(
                kind=EventKind.PATCH_SET,
                project="p",
                branch="master",
                change=number % 30,
                patch_set=number // 30 + 1,
                commit=f"{number:040}",
                ref=f"refs/changes/{number}",
                at=100 + number,
            )
            pairs.append((event.digest, asdict(event)))
        self.database.write(lambda c: inbox.put_events(c, "g", pairs, NOW))
        code = """
from covtrack.dispatching import handle_events
from covtrack.settings import TrackedProject
projects = [TrackedProject(name="p", git="/p", gerrit="g")]
while handle_events(database, projects):
    pass
"""
        self.run_all(code, 3)
        alive = {(job.change, job.patch_set) for job in self.jobs(JobState.NEW)}
        self.assertEqual({(n, 10) for n in range(30)}, alive)
        self.assertEqual(300, len(self.jobs()))
        self.assertEqual((), self.database.read(lambda c: inbox.unhandled(c, 10)))

    # Runs

    def test_runs_saved_at_once_are_all_there(self: Any) -> None:
        code = """
for n in range(12):
    name = f"p{n % 2}"
    database.save_project(name, "master", Fraction(4, 5))
    found = replace(RESULT, project=name, commit=f"{n:02}{words[-1]}".ljust(40, "0"))
    print(name, database.save_run(found, snapshot="s", sha256="h", tree=None, measured_at=NOON))
"""
        lines = self.run_all(code, 4)
        for name in ("p0", "p1"):
            ids = sorted(int(line[1]) for line in lines if line[0] == name)
            runs = self.database.baselines(name)
            self.assertEqual(ids, sorted(run.run_id for run in runs))
            self.assertEqual(24, len(ids))
        target = {row.project: row.target for row in self.database.project_rows()}
        self.assertEqual({"p0": Fraction(4, 5), "p1": Fraction(4, 5)}, target)


class SQLiteProcessesTest(ProcessesContract, testtools.TestCase):
    """The contract on SQLite files."""

    def fresh_url(self) -> str:
        return sqlite_url(Path(self.useFixture(TempDir()).path))


class PostgreSQLProcessesTest(ProcessesContract, testtools.TestCase):
    """The contract on a PostgreSQL server of our own."""

    def fresh_url(self) -> str:
        return postgresql().fresh_url()
