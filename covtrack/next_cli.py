"""The command that says what to test next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from covtrack.cli import Chosen, cli

if TYPE_CHECKING:
    from covtrack.grids import Grid
    from covtrack.next_results import Next


@cli.command("next")
@click.argument("project", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N")
@click.option(
    "--months",
    type=click.IntRange(min=0, max=1200),
    default=12,
    show_default=True,
    help="Count changes so far back from the baseline's commit.",
)
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table")
@click.pass_obj
def next_command(chosen: Chosen, project: str | None, limit: int, months: int, style: str) -> None:
    """Name the uncovered functions that are most worth a test, and the nearest test of each.

    They are ordered by uncovered statements * (1 + changes): each commit that changed a line of
    the function within the last months counts. Nothing is run or fetched.
    """
    from covtrack.contract import to_json
    from covtrack.next_search import find_next

    settings = chosen.project(project)
    with chosen.tracking() as tracker:
        found = find_next(tracker, settings, limit=limit, months=months)
    click.echo(to_json(found) if style == "json" else render_next(found), nl=style == "json")


def render_next(found: Next) -> str:
    """The answer for people; ends with a newline."""
    from covtrack.grids import clean, render_table
    from covtrack.terminal import stdout_width

    percent = "unknown" if found.percent is None else f"{found.percent:.2f} %"
    goal = f"{found.to_target:,} more statements reach" if found.to_target else "that meets"
    lines = [
        f"{clean(found.project)} {clean(found.branch)} at {found.commit[:10]}: {percent} of "
        f"{found.statements:,} statements are covered; {goal} the target of {found.target:g} %.",
        f"Weight: {found.weight}, in {found.months} months ({found.changes} commits with "
        "Python files).",
    ]
    width, color = stdout_width()
    table = render_table(_grid(found), width=width, color=color) if found.functions else ""
    rest = found.functions_total - len(found.functions)
    ends = [f"{found.uncovered_in_functions:,} uncovered statements in functions, "]
    ends[0] += f"{found.uncovered_elsewhere:,} outside (they run at import)."
    if rest:
        ends.append(f"{rest:,} more functions lack coverage (--limit, --format json).")
    if found.unknown_files:
        ends.append(f"Not known here: {clean(', '.join(found.unknown_files))}.")
    return "\n".join([*lines, "", table + "\n".join(ends)]) + "\n"


def _grid(found: Next) -> Grid:
    from covtrack.grids import Column, Grid

    columns = (
        Column(title="function", least=20),
        Column(title="place", least=20),
        Column(title="uncovered", figures=True),
        Column(title="gain", figures=True, spare=2),
        Column(title="changes", figures=True),
        Column(title="weight", figures=True, spare=1),
        Column(title="nearest test", least=20, spare=3),
    )
    rows = tuple(
        (
            one.name,
            f"{one.path}:{one.first}-{one.last}",
            str(one.uncovered),
            f"+{one.gain:.3f}",
            str(one.changes),
            str(one.weight),
            one.nearest_test or "none in this file",
        )
        for one in found.functions
    )
    return Grid(columns=columns, rows=rows)
