"""`covtrack demo`: a real library's history measured before the user's eyes, from nothing."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import click
from rich.console import Console, JustifyMethod
from rich.table import Table

from covtrack.demo_history import LIBRARY, History, Step, make_history
from covtrack.export import export_snapshot
from covtrack.reporting import Format, render_projects
from covtrack.settings import FILE_NAME, load_settings
from covtrack.store.database import Database
from covtrack.terminal import format_share, show_progress
from covtrack.tracking import Order, Tracker
from jobs.results import JobResult, Select
from venv_builder.errors import UsageError
from venv_builder.progress import Listener, Noted

SETTINGS = """\
# Written by covtrack demo; this folder may be deleted as a whole.
state = "state"

[projects.{name}]
git = "{git}"
branch = "master"
constraints = "none"
"""


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
    _clear(folder)
    with show_progress() as listener:
        history = make_history(folder, listener)
        path = folder / FILE_NAME
        path.write_text(SETTINGS.format(name=LIBRARY, git=history.path))
        settings = load_settings(path)
        database = Database.open(settings.database_url)
        tracker = Tracker(settings, database, listener)
        jobs = _run_jobs(tracker, history, listener)
        html = folder / "html"
        export_snapshot(tracker, settings.project(LIBRARY), "master", "html", html)
    _print_jobs(jobs)
    click.echo(render_projects(database.project_rows(), Format.TABLE, datetime.now(UTC)))
    click.echo(f"HTML report: {html / 'index.html'}")
    command = Path(sys.argv[0]).absolute()
    click.echo(f"Try next:    cd {folder} && {command} report {LIBRARY}")
    click.echo(f"The demo took {monotonic() - start:.0f} s.")


def _clear(folder: Path) -> None:
    """Keep downloaded archives of an earlier demo; refuse a folder that is somebody else's."""
    ours = (folder / FILE_NAME).is_file() or (folder / "archives").is_dir()
    if folder.exists() and any(folder.iterdir()) and not ours:
        raise UsageError(
            f"{folder} holds other files.", advice="Name another one: covtrack demo --folder NEW"
        )
    for name in ("state", "history", "html"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "archives").mkdir(parents=True, exist_ok=True)


def _run_jobs(tracker: Tracker, history: History, listener: Listener) -> list[Job]:
    project = tracker.settings.project(LIBRARY)
    jobs: list[Job] = []
    for step in (*history.releases, *history.siblings):
        listener(Noted(sentence=f"{step.title}: measuring."))
        select = None if jobs else Select.ALL
        order = Order(revision=step.commit, select=select)
        jobs.append(Job(step=step, result=tracker.run(project, order)))
    return jobs


def _print_jobs(jobs: list[Job]) -> None:
    """A row per job; costs are CPU seconds, and their share of the first, full run."""
    full = jobs[0].result.cpu_seconds
    table = Table(title=f"{LIBRARY}: what each job cost against a full run", box=None)
    for name in ("commit", "kind", "run", "carried", "coverage", "CPU s", "of full"):
        side: JustifyMethod = "left" if name in ("commit", "kind") else "right"
        table.add_column(name, justify=side, no_wrap=True)
    for job in jobs:
        result = job.result
        table.add_row(
            job.step.title,
            result.kind.value,
            str(result.tests.run),
            str(result.tests.carried),
            format_share(result.measurement.total),
            f"{result.cpu_seconds:.1f}",
            f"{100 * result.cpu_seconds / full:.1f} %",
        )
    Console(soft_wrap=True).print(table)
