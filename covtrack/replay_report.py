"""Shows a replay: a line per commit as it goes, a table for people, a page with a plot."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from covtrack.grids import Column, Grid, clean, render_table
from covtrack.replay_results import Replay, ReplayedCommit, Summary
from covtrack.terminal import stdout_width
from jobs.holding import count_lines
from venv_builder.errors import InfrastructureError
from venv_builder.files import write_whole
from venv_builder.progress import Listener, Noted

SHOWN_WHYS = 3
PLOT_HEIGHT = 200
PLOT_STEP = 16


def say_commit(listener: Listener, number: int, last: int, row: ReplayedCommit) -> None:
    """Tell of one replayed commit as it is done."""
    cost = f"CPU {row.cpu_seconds:.1f} s"
    if row.full_cpu_seconds:
        cost += f" of {row.full_cpu_seconds:.1f} ({_percent(row.share)})"
    verdict = _verdict(row) if row.verified else "not verified"
    words = f"{row.tests_run} of {row.tests_total} tests, {cost}, {verdict}"
    listener(Noted(sentence=f"{number + 1}/{last} {row.commit[:10]}: {words}."))


def _verdict(row: ReplayedCommit) -> str:
    if row.identical:
        return "identical"
    words = (
        f"{count_lines(row.false_covered)} lines falsely covered, {count_lines(row.missed)} missed"
    )
    if row.branches:
        wrong = count_lines(row.false_branches), count_lines(row.missed_branches)
        words += f", {wrong[0]} branches falsely covered, {wrong[1]} missed"
    return words


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"


def _cells(row: ReplayedCommit) -> list[str]:
    """One row of the table and of the page."""
    full = row.full_cpu_seconds
    whys = Counter(found.why for found in row.explained)
    return [
        row.commit[:10],
        row.subject,
        f"{row.tests_run} / {row.tests_total}",
        f"{row.cpu_seconds:.1f}",
        "" if full is None else f"{full:.1f}",
        "" if full is None else _percent(row.share),
        f"{row.wall_seconds:.1f}",
        str(count_lines(row.false_covered)) if row.verified else "",
        str(count_lines(row.missed)) if row.verified else "",
        "; ".join(f"{n} {why}" for why, n in whys.most_common(SHOWN_WHYS))
        + ("" if row.complete else " incomplete"),
    ]


COLUMNS = (
    Column(title="commit"),
    Column(title="subject", least=12),
    Column(title="tests", figures=True),
    Column(title="CPU s", figures=True),
    Column(title="full", figures=True),
    Column(title="share", figures=True),
    Column(title="wall s", figures=True, spare=1),
    Column(title="false", figures=True),
    Column(title="missed", figures=True),
    Column(title="why", least=8),
)


def render_replay(replay: Replay, *, width: int | None = None, color: bool = False) -> str:
    """The table and the summary as text; `width` is the terminal's, None is as wide as needed."""
    grid = Grid(columns=COLUMNS, rows=tuple(tuple(_cells(row)) for row in replay.commits))
    title = f"{clean(replay.project)}: {len(replay.commits)} merges, {replay.method}\n"
    lines = [f"{name}: {value}\n" for name, value in figures(replay.summary)]
    return "".join([title, render_table(grid, width=width, color=color), *lines])


def print_replay(replay: Replay) -> None:
    """Print the table and the summary on stdout."""
    width, color = stdout_width()
    click.echo(render_replay(replay, width=width, color=color), nl=False)


def figures(summary: Summary) -> list[tuple[str, str]]:
    """The summary in words; what is not known is not left out."""
    known = summary.full_cpu_seconds
    branches: list[tuple[str, str]] = []
    if summary.branches_verified:
        branches = [
            ("branches falsely covered", str(summary.false_branches)),
            ("branches missed", str(summary.missed_branches)),
        ]
    aim = summary.within_wall_aim
    return [
        ("identical to a full run", f"{summary.identical} of {summary.verified} verified"),
        ("lines falsely covered", str(summary.false_covered)),
        ("lines missed", f"{summary.missed} ({summary.unexplained} lines unexplained)"),
        *branches,
        ("tests run", f"{summary.tests_run} of {summary.tests_total}"),
        ("CPU", f"{summary.cpu_seconds:.1f} s of {known:.1f} s" if known else "unknown"),
        ("CPU share, whole replay", _percent(summary.cpu_share_mean)),
        ("CPU share, median merge", _percent(summary.cpu_share_median)),
        (
            "wall, median merge",
            f"{summary.wall_seconds_median:.1f} s" if summary.wall_seconds_median else "unknown",
        ),
        ("within 1.25 x bare + 2 s", "unknown" if aim is None else f"{aim} merges"),
    ]


def write_page(replay: Replay, path: Path) -> None:
    """Write the page, whole or not at all; InfrastructureError if it cannot be written."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("covtrack"), autoescape=True, undefined=StrictUndefined
    )
    text = pages.get_template("replay.html").render(
        replay=replay,
        figures=figures(replay.summary),
        rows=[_cells(row) for row in replay.commits],
        plot=plot(replay),
    )
    try:
        write_whole(path, text)
    except OSError as error:
        raise InfrastructureError(f"{path} cannot be written: {error.strerror}.") from error


def plot(replay: Replay) -> dict[str, Any]:
    """Bars of the plot in its own units: PLOT_HEIGHT stands for the costliest run."""
    costs = [c for row in replay.commits for c in (row.cpu_seconds, row.full_cpu_seconds or 0.0)]
    top = max(costs, default=0.0) or 1.0

    def height(seconds: float) -> float:
        return round(PLOT_HEIGHT * seconds / top, 1)

    bars = [
        {
            "x": number * PLOT_STEP,
            "job": height(row.cpu_seconds),
            "full": None if row.full_cpu_seconds is None else height(row.full_cpu_seconds),
            "wrong": row.verified and not row.identical,
            "title": f"{row.commit[:10]} {row.subject}: {row.cpu_seconds:.1f} s",
        }
        for number, row in enumerate(replay.commits)
    ]
    width = max(1, len(bars)) * PLOT_STEP
    return {
        "bars": bars,
        "width": width,
        "height": PLOT_HEIGHT,
        "step": PLOT_STEP,
        "top": round(top),
    }
