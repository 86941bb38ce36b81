"""Shows a job's events and its result: live on a terminal, as plain lines in a log.

Progress goes to stderr, results to stdout.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from covtrack.grids import Column, Grid, clean, render_table
from jobs.results import Counts, JobResult, PatchCoverage, Provisional, UncoveredRange
from venv_builder.progress import Advanced, Event, Listener, Noted, StageEnded, StageStarted

QUICK = 0.05
MOST_FAULTS = 10
MOST_RANGES = 10
LEAST = "at least "  # stands before what the rest of a provisional result can only raise
TITLES = {
    "checkout": "Checking out",
    "parse": "Parsing",
    "select": "Choosing tests",
    "env": "Preparing the environment",
    "run": "Running",
    "faults": "Looking at failures",
    "merge": "Merging",
    "measure": "Measuring",
    "mirror": "Mirroring",
    "push": "Pushing",
    "gerrit": "Gerrit",
    "copy": "Copying",
    "compare": "Comparing",
}


@contextmanager
def show_progress() -> Iterator[Listener]:
    """A listener that shows events on stderr while the block runs."""
    console = Console(stderr=True)
    if console.is_terminal:
        with _Live(console) as live:
            yield live.tell
    else:
        yield tell_line


def tell_line(event: Event) -> None:
    """One plain line per event that matters, for logs."""
    match event:
        case StageStarted(stage=stage, detail=detail):
            line = f"{TITLES.get(stage, stage)}: {detail}" if detail else None
        case StageEnded(stage=stage, seconds=seconds, detail=detail):
            line = f"{stage}: {seconds:.1f} s {detail}".rstrip() if seconds > QUICK else None
        case Advanced(done=done, total=total, detail=detail):
            line = f"  {done} of {total} {detail or 'tests'}" if total and done else None
        case Noted(sentence=sentence):
            line = f"Note: {sentence}"
    if line:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class _Live:
    """A rich progress display: one line per running stage, notes above it."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self.tasks: dict[str, int] = {}

    def __enter__(self) -> _Live:
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def tell(self, event: Event) -> None:
        match event:
            case StageStarted(stage=stage, detail=detail):
                title = f"{TITLES.get(stage, stage)} {escape(detail)}"
                self.tasks[stage] = self.progress.add_task(title[:70], total=None, count="")
            case StageEnded(stage=stage):
                if stage in self.tasks:
                    self.progress.remove_task(self.tasks.pop(stage))  # type: ignore[arg-type]
            case Advanced(stage=stage, done=done, total=total):
                count = f"{done}/{total}" if total else str(done or "")
                if stage in self.tasks:
                    task = self.tasks[stage]
                    self.progress.update(task, completed=done, total=total, count=count)  # type: ignore[arg-type]
            case Noted(sentence=sentence):
                self.progress.console.print(f"[yellow]Note:[/] {escape(sentence)}")


def stdout_width() -> tuple[int | None, bool]:
    """The width of the terminal on stdout and whether it takes styles; None, False for a pipe."""
    styled = sys.stdout.isatty()
    return (Console().width if styled else None), styled


def show(text: str) -> str:
    """Other people's text for rich: no markup, one line, no control characters."""
    return escape(clean(text))


def format_share(counts: Counts) -> str:
    """The covered percentage, rounded down to two places; "unknown" without statements."""
    return "unknown" if counts.share is None else f"{floor_percent(counts.share):.2f} %"


def floor_percent(share: Fraction) -> float:
    """A share in 0..1 as a percentage, rounded down to two decimals."""
    return int(share * 10000) / 100


def render_result(result: JobResult, target: Fraction) -> None:
    """Print a run's result for people, on stdout."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"[bold]{show(result.project)}[/] {result.commit[:10]} {show(result.subject)}"
        f" ({result.kind.value} of {show(result.branch)})"
    )
    console.out(render_table(_figures(result, target)), end="", highlight=False)
    print_patch(console, result.patch, LEAST if result.provisional else "")
    tests = result.tests
    console.print(
        f"tests: {tests.run} run ({tests.passed} passed, {tests.failed} failed, "
        f"{tests.skipped} skipped), {tests.carried} carried"
        + _spared(result)
        + "".join(
            f"\n  {count} carried from {commit[:10]}"
            for commit, count in sorted(result.carried.items(), key=lambda item: -item[1])[:5]
        )
    )
    for fault in result.faults[:MOST_FAULTS]:
        console.print(f"[red]{fault.kind.value}:[/] {show(fault.sentence)}")
        console.print(f"  {show(fault.advice)}")
    if len(result.faults) > MOST_FAULTS:
        console.print(f"... and {len(result.faults) - MOST_FAULTS} more faults (--format json).")
    if result.provisional is not None:
        print_provisional(console, result.provisional)
    elif not result.complete:
        console.print("[red]incomplete:[/] the figure rests on tests that did not all run; it is")
        console.print("  no baseline.")
    spent = ", ".join(f"{stage} {secs:.1f}" for stage, secs in result.seconds.items())
    console.print(f"seconds: {spent}; CPU {result.cpu_seconds:.1f}")


def _spared(result: JobResult) -> str:
    spared = result.tests.spared
    if not spared:
        return ""
    if result.provisional is not None:
        return f", {spared} spared as far as is known now"
    return f", {spared} spared: others prove their lines"


def print_provisional(console: Console, open_: Provisional) -> None:
    """Print what is open in a result whose budget ended, and what its figures then mean."""
    console.print(
        f"[red]provisional:[/] {open_.tests_run} of {open_.tests_affected} affected tests ran "
        f"within the budget of {open_.budget:g} s;"
    )
    console.print(
        f"  {open_.tests_left} are still to run ({open_.seconds_left:.1f} s by their durations), "
        f"{open_.lines_undecided} statements are undecided"
    )
    console.print(
        "  and not among the covered ones. These figures are no baseline; all that is to run: "
        "--budget none"
    )


def render_line(result: JobResult) -> str:
    """One line on a result, for lists."""
    tests = result.tests
    spared = f"{tests.spared} spared, " if tests.spared else ""
    return (
        f"{result.commit[:10]} {format_share(result.measurement.total)}  {tests.run} tests run, "
        f"{tests.carried} carried, {spared}CPU {result.cpu_seconds:.1f} s  {result.subject}"
    )


def _figures(result: JobResult, target: Fraction) -> Grid:
    titles = ("statements", "covered", "%", "before", "to target")
    columns = (Column(title=""), *(Column(title=title, figures=True) for title in titles))
    total, before = result.measurement.total, result.before
    least = LEAST if result.provisional else ""
    vendored = result.measurement.vendored
    was = format_share(before.total) if before else "-"
    to_go = total.to_target(target)
    most = "at most " if least and to_go else ""
    rows = [("own code", *_counted(total, least), was, f"{most}{to_go}")]
    if total.branches:
        taken = Counts(statements=total.branches, covered=total.branches_covered)
        rows.append(("branches", *_counted(taken, least), "", ""))
    if vendored.statements:
        was = format_share(before.vendored) if before else "-"
        rows.append(("vendored", *_counted(vendored, least), was, ""))
    return Grid(columns=columns, rows=tuple(rows))


def _counted(counts: Counts, least: str) -> tuple[str, str, str]:
    return str(counts.statements), str(counts.covered), f"{least}{format_share(counts)}"


def print_patch(console: Console, patch: PatchCoverage | None, least: str = "") -> None:
    """Print the coverage of a change's own statements, and where it lacks."""
    if patch is None:
        console.print("patch: unknown")
        return
    counts = Counts(statements=patch.statements, covered=patch.covered)
    least = least if patch.uncovered else ""
    figures = (
        f"{least}{counts.covered} of {counts.statements} statements covered, "
        f"{least}{format_share(counts)}"
        if counts.statements
        else "no statements of own code"
    )
    console.print(f"patch: {figures} (changed since {patch.parent[:10]})")
    for row in _uncovered(patch.uncovered[:MOST_RANGES]):
        console.print(escape(row))
    if len(patch.uncovered) > MOST_RANGES:
        rest = len(patch.uncovered) - MOST_RANGES
        console.print(f"  ... and {rest} more uncovered ranges (--format json).")


def _uncovered(parts: Sequence[UncoveredRange]) -> list[str]:
    """Aligned rows; none is folded, since names are there to be copied."""
    rows = [("uncovered", "nearest test")] if parts else []
    for part in parts:
        lines = str(part.first) if part.first == part.last else f"{part.first}-{part.last}"
        rows.append((clean(f"{part.path}:{lines}"), clean(part.nearest_test or "unknown")))
    width = max((len(place) for place, _ in rows), default=0)
    return [f"  {place:<{width}}  {test}" for place, test in rows]
