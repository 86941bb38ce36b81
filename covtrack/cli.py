"""The command line: parses words, calls one function each, maps errors to sentence and status."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import click

from covtrack import __version__
from covtrack.settings import (
    FILE_NAME,
    Settings,
    add_project,
    find_settings,
    load_settings,
    settings_of_clone,
    write_template,
)
from jobs.clone import clone_root
from jobs.project import ProjectSettings, parse_duration
from jobs.results import Select
from venv_builder.errors import CovtrackError, InfrastructureError, UsageError

if TYPE_CHECKING:
    from covtrack.tracking import Tracker


@dataclass(frozen=True)
class Chosen:
    """The settings in force, and where they were read from (None: defaults)."""

    settings: Settings
    path: Path | None

    def project(self, name: str | None) -> ProjectSettings:
        """The named project; without a name the only one, or the clone that this folder is in."""
        if name:
            return self.settings.project(name)
        root = clone_root(Path.cwd())
        for project in self.settings.projects.values():
            if root is not None and project.git == str(root):
                return project
        if len(self.settings.projects) == 1:
            return next(iter(self.settings.projects.values()))
        if self.settings.projects:
            names = ", ".join(sorted(self.settings.projects))
            raise UsageError("Which project?", advice=f"Name one of: {names}.")
        if root is None:
            raise UsageError(
                f"{Path.cwd()} is in no git clone and there is no {FILE_NAME}.",
                advice="Go into a clone, or write settings with: covtrack init",
            )
        return settings_of_clone(root)

    @contextmanager
    def tracking(self) -> Iterator[Tracker]:
        """A tracker on these settings, whose progress is shown while the block runs."""
        from covtrack.store.database import Database
        from covtrack.terminal import show_progress
        from covtrack.tracking import Tracker

        with show_progress() as listener:
            database = Database.open(self.settings.database_url)
            yield Tracker(self.settings, database, listener)


def parse_budget(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> float | None:
    """Seconds; infinite for "none"."""
    seconds = inf if value == "none" else parse_duration(value)
    if value is not None and not (isinstance(seconds, float) and seconds > 0):
        raise click.BadParameter('must be a time such as "60 s", or "none"')
    return None if value is None else float(seconds)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="covtrack")
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    help=f"Settings file; default: {FILE_NAME} here or in a folder above.",
)
@click.pass_context
def cli(context: click.Context, config: Path | None) -> None:
    """Exact, incremental test coverage for Python code reviewed on Gerrit."""
    path = config or find_settings(Path.cwd())
    if context.invoked_subcommand in ("init", "schema", "demo", "step"):
        context.obj = Chosen(Settings(projects={}), path)
    else:
        context.obj = Chosen(load_settings(path), path)


@cli.command()
@click.argument("project", required=False)
@click.option(
    "--rev",
    help="Commit, branch, tag or ref to measure. Default: the branch's tip, "
    "or HEAD of the clone that you are in.",
)
@click.option("--base", help="Measure from the nearest baseline of this revision instead.")
@click.option(
    "--select",
    type=click.Choice([select.value for select in Select]),
    help="affected: the tests that the change reaches; changed: those of changed test files; "
    "all: a full run.",
)
@click.option(
    "--budget",
    callback=parse_budget,
    metavar="SECONDS",
    help='Of a change, run tests of so long ("60 s") and mark the figures; "none": run all that '
    "it asks for. Default: the project's budget.",
)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text")
@click.pass_obj
def run(
    chosen: Chosen,
    project: str | None,
    rev: str | None,
    base: str | None,
    select: str | None,
    budget: float | None,
    style: str,
) -> None:
    """Measure one commit: run what its change asks for, carry the rest from the baseline."""
    from covtrack.contract import RunReport, to_json
    from covtrack.terminal import render_result
    from covtrack.tracking import Order

    settings = chosen.project(project)
    in_clone = project is None and str(clone_root(Path.cwd())) == settings.git
    order = Order(
        revision="HEAD" if rev is None and in_clone else rev,
        base=base,
        select=Select(select) if select else None,
        budget=(budget or settings.budget) if budget != inf else None,
    )
    with chosen.tracking() as tracker:
        result = tracker.run(settings, order)
    if style == "json":
        click.echo(to_json(RunReport.from_result(result)))
    else:
        render_result(result, settings.share)
    if not (result.complete or result.provisional):
        sys.exit(InfrastructureError.exit_status)


@cli.command()
@click.argument("project", required=False)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "csv", "markdown"]),
    default="table",
)
@click.pass_obj
def report(chosen: Chosen, project: str | None, style: str) -> None:
    """Show every project's coverage and its way to target; or one project's files."""
    from covtrack.reporting import Format, render_files, render_projects, with_unmeasured
    from covtrack.store.database import Database
    from covtrack.terminal import stdout_width

    database = Database.open(chosen.settings.database_url)
    rows = with_unmeasured(database.project_rows(), chosen.settings.projects.values())
    width, color = stdout_width()
    now = datetime.now(UTC)
    if project is None:
        text = render_projects(rows, Format(style), now, width=width, color=color)
        click.echo(text, nl=False)
        return
    row = next((row for row in rows if row.project == project), None)
    if row is None or row.latest is None:
        raise UsageError(
            f"{project} was never measured.", advice=f"Measure it first: covtrack run {project}"
        )
    files = database.files_of(row.latest.run_id)
    click.echo(render_files(row, files, Format(style), width=width, color=color), nl=False)


@cli.command()
@click.argument("project", required=False)
@click.option("--rev", help="A measured commit. Default: the branch's newest baseline.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["coverage", "xml", "lcov", "html"]),
    required=True,
)
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="With --format coverage: name files below this folder instead of relative to it, for a "
    "coverage.py whose settings lack relative_files.",
)
@click.pass_obj
def export(
    chosen: Chosen,
    project: str | None,
    rev: str | None,
    style: str,
    output: Path,
    root: Path | None,
) -> None:
    """Write a measured commit's coverage by coverage.py's own writers."""
    from covtrack.export import export_snapshot

    settings = chosen.project(project)
    with chosen.tracking() as tracker:
        export_snapshot(tracker, settings, rev, style, output, root)
    click.echo(f"wrote {output}")


@cli.command()
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.pass_obj
def init(chosen: Chosen, force: bool) -> None:
    """Write a commented covtrack.toml into this folder."""
    path = Path.cwd() / FILE_NAME
    if force:
        path.unlink(missing_ok=True)
    write_template(path)
    click.echo(f"wrote {path}")


@cli.group()
def project() -> None:
    """Add, list and show the projects of covtrack.toml."""


@project.command("add")
@click.argument("name")
@click.option("--git", required=True, help="Address, or path of a clone.")
@click.option("--branch")
@click.option("--target", help="Percent of statements, 80 unless set.")
@click.option("--python", help="Such as 3.12.")
@click.option("--constraints", help="Path or address of a constraints file, or none.")
@click.pass_obj
def add(chosen: Chosen, /, name: str, **values: str | None) -> None:
    """Add a project to covtrack.toml."""
    path = chosen.path or Path.cwd() / FILE_NAME
    add_project(path, name, {key: value for key, value in values.items() if value is not None})
    click.echo(f"added {name} to {path}")


@project.command("list")
@click.pass_obj
def list_projects(chosen: Chosen) -> None:
    """List the configured projects."""
    if not chosen.settings.projects:
        click.echo("no projects yet; add one with: covtrack project add NAME --git URL")
    for name, settings in sorted(chosen.settings.projects.items()):
        click.echo(f"{name}\t{settings.branch or '(default branch)'}\t{settings.git}")


@project.command("show")
@click.argument("name")
@click.pass_obj
def show(chosen: Chosen, name: str) -> None:
    """Show every setting of a project, defaults included."""
    for key, value in chosen.settings.project(name).model_dump(mode="json").items():
        click.echo(f"{key} = {value}")


@cli.command()
@click.argument(
    "name",
    type=click.Choice(["run", "projects", "files", "replay", "prospect", "next", "order"]),
)
def schema(name: str) -> None:
    """Print the JSON Schema of what a command prints with --format json.

    projects is what `report` prints, files what `report PROJECT` does, order what `step` reads.
    """
    from covtrack.schemas import schemas

    click.echo(json.dumps(schemas()[name], indent=2))


@cli.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("covtrack-demo"),
    show_default=True,
    help="Where the demo keeps everything that it makes.",
)
@click.option("--gerrit", is_flag=True, help="With a real Gerrit and the verdicts on it.")
def demo(folder: Path, gerrit: bool) -> None:
    """Show covtrack at work on a real OpenStack library, from nothing."""
    from covtrack.demo import run_demo
    from covtrack.demo_gerrit import run_gerrit_demo

    run_gerrit_demo(folder) if gerrit else run_demo(folder)


def main() -> None:
    """Run the command line; every foreseen error is one sentence and a fixed status."""
    sys.exit(guarded(lambda: cli.main(standalone_mode=False)))


def guarded(command: Callable[[], object]) -> int:
    """Run `command`, tell its errors on stderr, return the exit status."""
    try:
        status = command()
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        error.show()
        return UsageError.exit_status
    except click.Abort:
        return _tell("Stopped; nothing stored was changed.", 130)
    except KeyboardInterrupt:
        return _tell("Stopped; nothing stored was changed.", 130)
    except CovtrackError as error:
        return _tell(str(error), error.exit_status)
    except BrokenPipeError:
        # Whoever read our output has gone; what is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
        place = f"{error.filename}: " if error.filename else ""
        sentence = f"The system refused: {place}{reason}."
        return _tell(f"{sentence} Mend that, then run again.", InfrastructureError.exit_status)
    except Exception as error:
        return _tell_defect(error)
    return status if isinstance(status, int) else 0


def _tell_defect(error: Exception) -> int:
    """Tell an error that nobody foresaw, and keep its traceback for whoever mends it."""
    with NamedTemporaryFile("w", prefix="covtrack-", suffix=".log", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    name, text = type(error).__name__, " ".join(str(error).split())[:200]
    sentence = f"Unexpected {name}: {text}. This is a defect of covtrack; {file.name} tells where."
    return _tell(sentence, InfrastructureError.exit_status)


def _tell(sentence: str, status: int) -> int:
    if sys.stderr is not None:
        click.echo(f"covtrack: {sentence}", err=True)
    return status
