"""The command that agents run: step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, time
from typing import TYPE_CHECKING

import click
from platformdirs import user_cache_path

from covtrack.cli import cli
from covtrack.settings import load_settings, settings_of_clone
from jobs.ci_variables import RUN_TOKEN, TrackerRun, Wanted, read_tracker_run, read_wanted
from jobs.order import StepOrder, parse_order
from jobs.project import ProjectSettings, parse_target
from jobs.results import JobResult, Kind, Select
from venv_builder.errors import InfrastructureError, PolicyError, RefusedError, UsageError
from venv_builder.files import remove_folder
from venv_builder.processes import forget_variable
from venv_builder.progress import Event, Listener, Noted, where_it_stands

if TYPE_CHECKING:
    from jobs.exchange import TrackerLink
    from jobs.step import Agent

TOLD_EVERY = 10.0
KILLED_SECONDS = 24 * 3600.0
ANY_DROP = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says of a step without a tracker; None for what it does not say."""

    config: Path | None
    project: str | None
    git: str | None
    branch: str | None
    rev: str | None
    select: str | None
    python: str | None
    baseline: Path | None
    keep: bool
    require_patch: Fraction | None
    allowed_drop: int | None


def parse_percent(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> Fraction | None:
    """An exact percentage in 0..100."""
    found = parse_target(value)
    if found is not None and not (isinstance(found, Fraction) and 0 <= found <= 100):
        raise click.BadParameter("must be a percentage such as 80")
    return found


@cli.command()
@click.option("--order", "file", type=click.Path(path_type=Path), help="Measure what FILE says.")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    help="A folder of bundles of earlier steps; with --order, the snapshot that it rests on.",
)
@click.option("--keep", is_flag=True, help="Put a merged commit's bundle into that folder.")
@click.option("--project", help="The project's name. Default: what the build or clone says.")
@click.option("--git", help="Where to fetch from. Default: this clone, then what the build says.")
@click.option("--branch", help="The branch that it is or lands on.")
@click.option("--rev", help="What to measure. Default: what the build says, else HEAD.")
@click.option("--select", type=click.Choice([select.value for select in Select]))
@click.option("--python", help="Such as 3.12.")
@click.option(
    "--require-patch",
    callback=parse_percent,
    metavar="PERCENT",
    help="Status 1 if less of the change's own statements is covered.",
)
@click.option(
    "--allowed-drop",
    type=click.IntRange(min=0),
    metavar="N",
    help="Status 1 if more statements of other code become uncovered.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where the step's files go. Default: this folder.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="COVTRACK_STATE",
    help="Where mirrors and environments stay from step to step. Default: the user's cache.",
)
@click.pass_context
def step(
    context: click.Context, /, file: Path | None, output: Path, state: Path | None, **words: object
) -> None:
    """Measure on an agent, with no database: write a bundle, coverage.xml and junit.xml.

    What is measured is what the tracker orders (COVTRACK_TRACKER, COVTRACK_RUN_ID,
    COVTRACK_RUN_TOKEN), else what FILE says, else what the variables of gerrit-trigger,
    gerrit-code-review or Zuul name, else the clone that this folder is in.
    """
    from jobs.step import Agent, clear_output

    run = read_tracker_run(os.environ)
    forget_variable(RUN_TOKEN)  # what is measured is other people's code
    assert context.parent is not None
    options = Options(config=context.parent.params["config"], **words)  # type: ignore[arg-type]
    state = (state or user_cache_path("covtrack")).absolute()
    agent = Agent(state=state, output=output.absolute())
    clear_output(agent)
    if file is not None:
        order = parse_order(read_file(file), str(file))
        results = do_step(agent, order, options.baseline)
    elif run is not None:
        results = step_of_tracker(agent, run)
    else:
        results = step_alone(agent, options)
    if not (results[-1].complete or results[-1].provisional):
        context.exit(InfrastructureError.exit_status)


def read_file(path: Path) -> bytes:
    """The bytes of a file; UsageError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error


def do_step(
    agent: Agent,
    order: StepOrder,
    baseline: Path | None,
    options: Options | None = None,
    link: TrackerLink | None = None,
) -> tuple[JobResult, ...]:
    """Measure what is ordered, show it, write the files, judge it where that is asked for."""
    from covtrack.contract import RunReport, to_json
    from covtrack.terminal import render_result
    from jobs.baselines import keep
    from jobs.step import measured, write_files

    with told(link) as listener, measured(agent, order, baseline, listener) as found:
        results = found.results
        report = to_json(RunReport.from_result(results[-1])) + "\n"
        write_files(agent, order, found, report)
        if options is not None and options.keep and options.baseline is not None:
            for commit, path in keep(options.baseline, order.run_id, results).items():
                listener(Noted(sentence=f"The baseline of {commit[:10]} is kept as {path}."))
        message = agent.workplace(order.settings.name).mirror().commit(results[-1].commit).message
    for result in results:
        render_result(result, order.settings.share)
    if options is not None:
        judge(results[-1], message, options)
    return results


def step_of_tracker(agent: Agent, run: TrackerRun) -> tuple[JobResult, ...]:
    """Do what the tracker ordered and bring it the bundle; else it is left as an artifact."""
    from jobs.baselines import fetch_baseline
    from jobs.bundle import NAME
    from jobs.exchange import TrackerLink

    link = TrackerLink(url=run.tracker, run_id=run.run_id, token=run.token)
    order = link.order()
    baseline = None
    if order.base is not None:
        baseline = fetch_baseline(agent.workplace(order.settings.name), link, order.base)
    results = do_step(agent, order, baseline, link=link)
    try:
        link.send(agent.output / NAME)
    except RefusedError:
        raise  # to take it from the build's artifacts would not help
    except InfrastructureError as error:
        click.echo(f"Note: {error} The bundle is left in {agent.output / NAME}.", err=True)
    return results


def step_alone(agent: Agent, options: Options) -> tuple[JobResult, ...]:
    """Measure what the build's variables, the options or this clone say, without a tracker."""
    from covtrack.terminal import show_progress
    from jobs.standalone import Sources, find_clone, write_order

    if options.keep and options.baseline is None:
        raise UsageError("--keep needs the folder to keep in.", advice="Add --baseline DIR.")
    clone = find_clone(Path.cwd())
    wanted = None if options.rev else read_wanted(os.environ)
    settings = choose_settings(options, wanted, clone)
    sources = Sources(
        wanted=wanted,
        clone=clone,
        address=options.git or (wanted.address if wanted else None),
        revision=options.rev,
        baselines=options.baseline,
    )
    agent.state.mkdir(parents=True, exist_ok=True)
    workplace = agent.workplace(settings.name)
    sweep(agent.state)
    with TemporaryDirectory(prefix="order-", dir=agent.state) as name:
        with show_progress() as listener:
            if wanted is not None:
                listener(Noted(sentence=describe(wanted)))
            found = write_order(workplace, settings, sources, Path(name), listener)
        return do_step(agent, found.order, found.snapshot, options)


def sweep(state: Path) -> None:
    """Remove what steps left below their state folder when they were killed, a day ago or more."""
    for folder in state.glob("order-*"):
        if time() - folder.stat().st_mtime > KILLED_SECONDS:
            remove_folder(folder)


def describe(wanted: Wanted) -> str:
    """One sentence that says what a build is for."""
    what = f"commit {wanted.commit[:10]}"
    if wanted.change is not None:
        what = f"change {wanted.change},{wanted.patch_set or '?'} ({wanted.commit[:10]})"
    subject = (wanted.message or "").strip().partition("\n")[0][:100]
    said = f": {subject}" if subject else ""
    return f"{wanted.source} asks for {what} of {wanted.project} on {wanted.branch}{said}."


def choose_settings(
    options: Options, wanted: Wanted | None, clone: Path | None
) -> ProjectSettings:
    """The project's settings: of the file that --config names, else what is known without one.

    A covtrack.toml in the workspace does not count: a patch set may have brought it.
    """
    name = options.project or (wanted.project if wanted else None)
    configured = load_settings(options.config).projects if options.config else {}
    if name is None and len(configured) == 1:
        name = next(iter(configured))
    known = next(
        (one for one in configured.values() if name in (one.name, one.name_on_gerrit)), None
    )
    if known is not None:
        values = {key: getattr(known, key) for key in ProjectSettings.model_fields}
    elif clone is not None:
        found = settings_of_clone(clone)
        values = found.model_dump() | {"name": name or found.name}
    elif name is not None:
        address = options.git or (wanted.address if wanted else None) or ""
        values = {"name": name, "git": address}
    else:
        raise UsageError(
            f"Nothing says what to measure: {Path.cwd()} is in no git clone, and no variable of "
            "gerrit-trigger, gerrit-code-review, Zuul or covtrack is set.",
            advice="Run the step in a clone, or name --project and --git.",
        )
    if wanted is not None:
        values["branch"] = wanted.branch
    said = {key: getattr(options, key) for key in ("git", "branch", "select", "python")}
    return ProjectSettings.model_validate(values | {k: v for k, v in said.items() if v})


def judge(result: JobResult, message: str, options: Options) -> None:
    """Raise PolicyError where a change is proven to break a rule that was asked for."""
    from covtrack.gerrit.policy import decide, parse_footers
    from covtrack.gerrit.settings import ReviewSettings

    asked = options.require_patch is not None or options.allowed_drop is not None
    if not asked or result.kind is not Kind.CHANGE:
        return
    drop = ANY_DROP if options.allowed_drop is None else options.allowed_drop
    rules = ReviewSettings(
        patch_threshold=options.require_patch or Fraction(0), allowed_drop=drop, small=0
    )
    decision = decide(result, parse_footers(message), rules)
    if not decision.passed:
        raise PolicyError(
            " ".join(decision.sentences), advice="The files of the step are written all the same."
        )


@dataclass
class _Teller:
    """Shows events, and tells the tracker where the step stands, now and then."""

    show: Listener
    link: TrackerLink
    told: float = field(default=0.0)

    def tell(self, event: Event) -> None:
        self.show(event)
        words = where_it_stands(event)
        if words is not None and monotonic() - self.told >= TOLD_EVERY:
            self.link.tell(words)
            self.told = monotonic()


@contextmanager
def told(link: TrackerLink | None) -> Iterator[Listener]:
    """A listener that shows progress here, and on the tracker where there is one."""
    from covtrack.terminal import show_progress

    with show_progress() as listener:
        yield listener if link is None else _Teller(listener, link).tell
