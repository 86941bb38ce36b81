"""What a run costs in PostgreSQL and on disk, and what the queue costs when the database is old.

Real commits of real projects are measured by `covtrack run` and `covtrack advance` on a PostgreSQL
of the tests. Then the same results are stored again many times, and the tables' bytes divided by
how many there were; snapshots are the files that the runs left. At last the table of jobs is
filled up to years of work and each statement of a job's way is timed.

    PYTHONPATH=. python benchmarks/database_growth.py TREE... --constraints FILE [--last 12]
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import click
from sqlalchemy import Connection, text

from covtrack.dispatching import handle_events
from covtrack.gerrit.events import Event, EventKind
from covtrack.recall import recall_result
from covtrack.settings import TrackedProject
from covtrack.store import inbox, queueing
from covtrack.store.copying import copy_database
from covtrack.store.database import Database
from covtrack.store.queued import JobState
from covtrack.store.values import StoredRun
from jobs.results import JobResult
from tests.databases import postgresql
from venv_builder.files import remove_folder
from venv_builder.processes import check_command

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "database_growth.json"
RUN_TABLES = ("runs", "measurements", "files", "outcomes", "faults", "evidence")
COPIES = 60
EVENTS = 1000
AGES = (20_000, 300_000)
ROUNDS = 7
NOW = datetime(2026, 11, 24, tzinfo=UTC)
LATER = datetime(2200, 1, 1, tzinfo=UTC)  # all that waits is due


def measure_projects(trees: tuple[Path, ...], words: dict[str, str], last: int, url: str) -> Path:
    """Measure the newest `last` commits of each tree; the state folder with the snapshots."""
    state = Path(words["state"])
    lines = [f'state = "{state}"', f'database = "{url}"', "[defaults]"]
    lines += [f'{key} = "{words[key]}"' for key in ("constraints", "python") if words.get(key)]
    lines += [f'[projects."{tree.name}"]\ngit = "{tree}"' for tree in trees]
    config = state.with_suffix(".toml")
    config.write_text("\n".join(lines) + "\n")
    for tree in trees:
        first = check_command(["git", "rev-parse", f"HEAD~{last}"], cwd=tree).stdout.strip()
        for command in (["run", tree.name, "--rev", first], ["advance", tree.name]):
            argv = [sys.executable, "-P", "-m", "covtrack", "--config", str(config), *command]
            check_command(argv, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
            click.echo(f"covtrack {' '.join(command)} is done", err=True)
    return state


def read_results(database: Database, project: str) -> list[tuple[StoredRun, JobResult]]:
    """All runs of a project with what they found, oldest first."""
    runs = sorted(database.baselines(project), key=lambda run: run.run_id)
    return [(run, recall_result(database, run, Path())) for run in runs]


def bytes_of(database: Database, *tables: str) -> dict[str, int]:
    """Bytes of each table with its indexes and what lies outside of its pages."""
    ask = text("SELECT pg_total_relation_size(CAST(:name AS regclass))")
    return {
        name: int(database.read(lambda c: c.execute(ask, {"name": name}).scalar_one()))  # noqa: B023
        for name in tables
    }


def store_again(database: Database, results: list[JobResult], copies: int) -> dict[str, Any]:
    """Bytes and seconds of each run when the results are stored so often again."""
    before = bytes_of(database, *RUN_TABLES)
    seconds = []
    for number in range(copies):
        result = replace(results[number % len(results)], commit=f"{number:08}".ljust(40, "a"))
        began = perf_counter()
        database.save_run(
            result, snapshot="s" * 110, sha256="f" * 64, tree="d" * 40, measured_at=NOW
        )
        seconds.append(perf_counter() - began)
    after = bytes_of(database, *RUN_TABLES)
    tables = {name: round((after[name] - before[name]) / copies) for name in RUN_TABLES}
    return {
        "runs_stored": copies,
        "bytes_per_run": sum(tables.values()),
        "bytes_per_run_by_table": tables,
        "seconds_per_save_median": round(median(seconds), 5),
    }


def growth_of_project(database: Database, project: str, state: Path) -> dict[str, Any]:
    """One project's figures: its full run apart from its incremental ones."""
    found = read_results(database, project)
    sizes = [(state / run.snapshot).stat().st_size for run, _ in found]
    full, later = [found[0][1]], [result for _, result in found[1:]]
    return {
        "tests": found[-1][0].tests.run + found[-1][0].tests.carried,
        "incremental_runs": len(later),
        "tests_run_incremental_mean": round(mean(result.tests.run for result in later), 1),
        "snapshot_bytes_full": sizes[0],
        "snapshot_bytes_incremental_mean": round(mean(sizes[1:])),
        "full": store_again(database, full, 20),
        "incremental": store_again(database, later, COPIES),
    }


def growth_of_events(database: Database) -> dict[str, Any]:
    """Bytes of an event with its job and its change, and how fast they are taken in."""
    project = TrackedProject(name="p", git="/p", gerrit="g", gerrit_project="openstack/p")
    before = bytes_of(database, "events", "jobs", "changes")
    pairs = []
    for number in range(EVENTS):
        event = Event(
            kind=EventKind.PATCH_SET,
            project="openstack/p",
            branch="master",
            change=number,
            patch_set=1,
            commit=f"{number:040}",
            ref=f"refs/changes/{number % 100:02}/{number}/1",
            subject="A subject of fifty characters, as most of them are",
            at=1,
        )
        pairs.append((event.digest, asdict(event)))
    began = perf_counter()
    for start in range(0, EVENTS, 50):
        batch = pairs[start : start + 50]
        database.write(lambda c: inbox.put_events(c, "g", batch, NOW))  # noqa: B023
    put = perf_counter() - began
    began = perf_counter()
    while handle_events(database, [project]):
        pass
    handled = perf_counter() - began
    after = bytes_of(database, "events", "jobs", "changes")
    return {
        "events": EVENTS,
        "bytes_each": {name: round((after[name] - before[name]) / EVENTS) for name in after},
        "seconds_per_event_stored": round(put / EVENTS, 6),
        "seconds_per_event_dispatched": round(handled / EVENTS, 6),
    }


def age(database: Database, rows: int) -> None:
    """Fill the table of jobs up to so many that are done, of 1,000 projects."""
    fill = text("""
        INSERT INTO jobs (server, project, kind, branch, reason, change, patch_set, "commit", ref,
            state, attempts, queued_at, not_before, started_at, ended_at, progress, error,
            verdict, verdict_attempts, verdict_error)
        SELECT 'g', 'p' || n % 1000, 'change', 'master', 'patchset-created', n, 1,
            lpad(n::text, 40, '0'), 'refs/changes/00/' || n || '/1', 'done', 1,
            :now, :now, CAST(:now AS timestamptz) - n * interval '1 s', :now, '', '',
            'posted', 0, ''
        FROM generate_series(1, :rows) AS n
        WHERE n > (SELECT count(*) FROM jobs)
    """)
    database.write(lambda c: c.execute(fill, {"rows": rows, "now": NOW - timedelta(days=1)}))


def time_queue(database: Database, rows: int) -> dict[str, float]:
    """Median seconds of each statement of a job's way, with so many jobs in the table."""
    age(database, rows)
    database.write(lambda c: c.execute(text("ANALYZE jobs")))
    queued = {"state": JobState.QUEUED.value}
    waiting = text("SELECT id FROM jobs WHERE state = 'new' ORDER BY id LIMIT 30")

    def queue(connection: Connection) -> None:
        for (job_id,) in connection.execute(waiting).all():
            queueing.put_values(connection, job_id, queued)

    database.write(queue)

    def timed(act: Callable[[Connection], object]) -> float:
        seconds = []
        for _ in range(ROUNDS):
            began = perf_counter()
            database.write(act)
            seconds.append(perf_counter() - began)
        return round(median(seconds), 5)

    def claim_and_end(connection: Connection) -> None:
        job = queueing.claim(connection, LATER)
        assert job is not None
        done = {"state": JobState.DONE.value, "ended_at": NOW}
        assert queueing.move_job(connection, job.job_id, JobState.RUNNING, done)

    def claim_nothing(connection: Connection) -> None:
        assert queueing.claim(connection, NOW - timedelta(days=400)) is None

    return {
        "claim and end a job": timed(claim_and_end),
        "claim where none is due": timed(claim_nothing),
        "jobs that wait for a ref": timed(lambda c: queueing.jobs_in(c, JobState.NEW)),
        "verdicts that are due": timed(lambda c: queueing.pending_verdicts(c, NOW)),
        "put progress": timed(lambda c: queueing.put_values(c, 1, {"progress": "run 1 of 2"})),
        "jobs by state (health)": timed(queueing.count_jobs),
        "newest jobs (page)": timed(lambda c: queueing.newest_jobs(c, 50)),
    }


def time_all(database: Database) -> dict[str, Any]:
    """Events first, whose jobs then wait while the table grows."""
    click.echo("timing the queue", err=True)
    return {
        "events": growth_of_events(database),
        "seconds_by_jobs_in_the_table": {str(rows): time_queue(database, rows) for rows in AGES},
    }


@click.command()
@click.argument("trees", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--constraints", type=click.Path(path_type=Path, exists=True))
@click.option("--python", "wanted", default="")
@click.option("--last", default=12, show_default=True)
@click.option(
    "--state",
    "kept",
    type=click.Path(path_type=Path, exists=True),
    help="Take the runs of this state folder instead of measuring TREES.",
)
def main(
    trees: tuple[Path, ...], constraints: Path | None, wanted: str, last: int, kept: Path | None
) -> None:
    """Measure, store, count, and write results/database_growth.json."""
    server = postgresql()
    url = server.fresh_url()
    with TemporaryDirectory(prefix="growth-", ignore_cleanup_errors=True) as name:
        if kept is not None:
            copy_database(f"sqlite:///{kept.resolve()}/covtrack.sqlite", url)
        words = {"state": f"{name}/state", "python": wanted}
        words["constraints"] = str(constraints.resolve()) if constraints else ""
        resolved = tuple(tree.resolve() for tree in trees)
        state = kept or measure_projects(resolved, words, last, url)
        with Database.open(url) as database:
            names = [row.project for row in database.project_rows()]
            found = {
                "about": about(server),
                "projects": {
                    project: growth_of_project(database, project, state) for project in names
                },
                **time_all(database),
            }
        if kept is None:
            remove_folder(state)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    click.echo(f"wrote {RESULTS}", err=True)


def about(server: Any) -> dict[str, Any]:
    """Where and when; the server runs without fsync, so that bytes count, not the disk's waits."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load": [round(one, 2) for one in os.getloadavg()],
        "postgresql": check_command([server.binaries / "postgres", "--version"]).stdout.strip(),
        "fsync": False,
        "covtrack": check_command(["git", "rev-parse", "HEAD"], cwd=ROOT).stdout.strip(),
    }


if __name__ == "__main__":
    main()
