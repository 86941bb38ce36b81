"""`covtrack demo`: a real library's history measured before the user's eyes, from nothing."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import click
from rich.console import Console

from covtrack.demo_history import LIBRARY, History, Step, make_history
from covtrack.export import export_snapshot
from covtrack.grids import Column, Grid, render_table
from covtrack.prospect import Prospector
from covtrack.prospect_report import render_prospect
from covtrack.reasons import explain_test
from covtrack.replay import Replayer, Walk
from covtrack.replay_report import print_replay, say_commit, write_page
from covtrack.replay_results import Replay
from covtrack.reporting import Format, render_projects
from covtrack.settings import FILE_NAME, load_settings
from covtrack.store.database import Database
from covtrack.terminal import format_share, print_patch, show_progress
from covtrack.tracking import Order, Tracker
from jobs.results import JobResult, Select
from venv_builder import find_interpreters
from venv_builder.errors import UsageError
from venv_builder.progress import Listener, Noted

SETTINGS = """\
# Written by covtrack demo; this folder may be deleted as a whole.
state = "state"

[projects.{name}]
git = "{git}"
branch = "master"
constraints = "none"
# Lines alone: per-test data of branches needs coverage.py's slower recorder.
branch_coverage = false
{python}
"""
REPLAYED = 2
SIBLINGS = 3
# Newer ones may lack wheels of what the library needs.
NEWEST_TRIED = (3, 13)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One measured step of the demo."""

    step: Step
    result: JobResult


def run_demo(folder: Path) -> None:
    """Run the whole demo below `folder` and print what it showed.

    Raises UsageError if the folder holds something else, InfrastructureError without network.
    """
    start = monotonic()
    folder = folder.resolve()
    clear_folder(folder)
    with show_progress() as listener:
        history = make_history(folder, listener)
        path = folder / FILE_NAME
        python = newest_python()
        path.write_text(SETTINGS.format(name=LIBRARY, git=history.path, python=python))
        settings = load_settings(path)
        database = Database.open(settings.database_url)
        tracker = Tracker(settings, database, listener)
        jobs = _run_jobs(tracker, history, listener)
        html = folder / "html"
        export_snapshot(tracker, settings.project(LIBRARY), "master", "html", html)
        listener(Noted(sentence="What becomes of the coverage when all three changes land?"))
        siblings = tuple(step.branch for step in history.siblings)
        prospect = Prospector(tracker, settings.project(LIBRARY)).run(siblings)
        replay = _replay(tracker, folder, listener)
    _print_jobs(jobs)
    _print_patches(jobs)
    _print_why(tracker, jobs)
    render_prospect(prospect)
    print_replay(replay)
    click.echo(f"Replay page: {folder / 'replay.html'}")
    click.echo(render_projects(database.project_rows(), Format.TABLE, datetime.now(UTC)))
    click.echo(f"HTML report: {html / 'index.html'}")
    command = Path(sys.argv[0]).absolute()
    click.echo(f"Try next:    cd {folder} && {command} report {LIBRARY}")
    click.echo(f"The demo took {monotonic() - start:.0f} s.")


def clear_folder(folder: Path) -> None:
    """Keep downloaded archives of an earlier demo; refuse a folder that is somebody else's."""
    ours = (folder / FILE_NAME).is_file() or (folder / "archives").is_dir()
    if folder.exists() and any(folder.iterdir()) and not ours:
        raise UsageError(
            f"{folder} holds other files.", advice="Name another one: covtrack demo --folder NEW"
        )
    for name in ("state", "history", "html", "gerrit"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "archives").mkdir(parents=True, exist_ok=True)


def _run_jobs(tracker: Tracker, history: History, listener: Listener) -> list[Job]:
    project = tracker.settings.project(LIBRARY)
    jobs: list[Job] = []
    for step in (*history.releases, *history.merges, *history.siblings):
        listener(Noted(sentence=f"{step.title}: measuring."))
        select = None if jobs else Select.ALL
        order = Order(revision=step.commit, select=select)
        jobs.append(Job(step=step, result=tracker.run(project, order)))
    return jobs


def newest_python() -> str:
    """The setting for the newest CPython here that records lines per test at little cost."""
    found = [one.version[:2] for one in find_interpreters() if one.version[:2] >= (3, 12)]
    known = [version for version in found if version <= NEWEST_TRIED]
    return f'python = "{".".join(map(str, max(known)))}"' if known else ""


def _replay(tracker: Tracker, folder: Path, listener: Listener) -> Replay:
    """The last merges once more, as changes, each held against a full run."""
    listener(Noted(sentence=f"Replaying the last {REPLAYED} merges against full runs."))
    walk = Walk(last=REPLAYED, method="affected", verify=None, revision="refs/heads/master")
    project = tracker.settings.project(LIBRARY)
    found = Replayer(tracker, project, walk).run(
        lambda number, row: say_commit(listener, number, REPLAYED, row)
    )
    write_page(found, folder / "replay.html")
    return found


def _print_patches(jobs: list[Job]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for job in jobs[-SIBLINGS:]:
        console.print(f"[bold]{job.step.title}[/]", end=": ")
        print_patch(console, job.result.patch)


def _print_why(tracker: Tracker, jobs: list[Job]) -> None:
    """Why one of the tests ran that the last change affects without touching it."""
    for outcome in jobs[-1].result.outcomes[:1]:
        click.echo(explain_test(tracker, LIBRARY, outcome.test, jobs[-1].step.commit))


def _print_jobs(jobs: list[Job]) -> None:
    """A row per job; costs are CPU seconds, and their share of the first, full run."""
    full = jobs[0].result.cpu_seconds
    figures = ("run", "carried", "spared", "coverage", "CPU s", "of full")
    columns = (
        Column(title="commit"),
        Column(title="kind"),
        *(Column(title=title, figures=True) for title in figures),
    )
    rows = tuple(
        (
            job.step.title,
            job.result.kind.value,
            str(job.result.tests.run),
            str(job.result.tests.carried),
            str(job.result.tests.spared),
            format_share(job.result.measurement.total),
            f"{job.result.cpu_seconds:.1f}",
            f"{100 * job.result.cpu_seconds / full:.1f} %",
        )
        for job in jobs
    )
    click.echo(f"{LIBRARY}: what each job cost against a full run")
    click.echo(render_table(Grid(columns=columns, rows=rows)), nl=False)
