"""The commands that walk history or look back: replay, advance, why."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from covtrack.cli import Chosen, cli
from jobs.results import Select
from venv_builder.errors import InfrastructureError, UsageError


def parse_verify(word: str) -> int | None:
    """How many commits to verify: None for all, from "full", "none" or "sample:K"."""
    if word == "full":
        return None
    if word == "none":
        return 0
    match = re.fullmatch(r"sample:([1-9]\d*)", word)
    if match is None:
        raise UsageError(
            f"--verify {word} is none of full, none and sample:K.",
            advice="Such as: --verify sample:5",
        )
    return int(match[1])


@cli.command()
@click.argument("project", required=False)
@click.option("--last", type=click.IntRange(min=1), default=20, show_default=True, metavar="N")
@click.option("--rev", help="End there instead of at the branch's tip.")
@click.option(
    "--verify",
    default="full",
    show_default=True,
    help="full: compare every commit with a full run; sample:K: K of them; none.",
)
@click.option(
    "--select", type=click.Choice([select.value for select in Select]), default="affected"
)
@click.option(
    "--method",
    type=click.Choice(["covtrack", "append"]),
    default="covtrack",
    help="append: the way of 2013, changed test files under `coverage run --append`.",
)
@click.option("--fresh", is_flag=True, help="Begin anew instead of going on.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with a plot there.")
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table")
@click.pass_obj
def replay(
    chosen: Chosen,
    project: str | None,
    last: int,
    rev: str | None,
    verify: str,
    select: str,
    method: str,
    fresh: bool,
    html: Path | None,
    style: str,
) -> None:
    """Measure the last N merges as if each had been a change; compare with full runs."""
    from covtrack.replay import Replayer, Walk
    from covtrack.replay_report import print_replay, say_commit, write_page

    settings = chosen.project(project)
    walk = Walk(
        last=last,
        method="append" if method == "append" else select,
        verify=parse_verify(verify),
        revision=rev,
        fresh=fresh,
    )
    with chosen.tracking() as tracker:
        found = Replayer(tracker, settings, walk).run(
            lambda number, row: say_commit(tracker.listener, number, last, row)
        )
    if html:
        write_page(found, html)
        click.echo(f"wrote {html}", err=True)
    if style == "json":
        click.echo(found.model_dump_json(indent=1))
    else:
        print_replay(found)


@cli.command()
@click.argument("project", required=False)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text")
@click.pass_obj
def advance(chosen: Chosen, project: str | None, style: str) -> None:
    """Move the branch's baseline to its tip, commit by commit."""
    from covtrack.contract import RunReport, to_json
    from covtrack.terminal import render_line

    settings = chosen.project(project)
    with chosen.tracking() as tracker:
        results = tracker.advance(
            settings,
            lambda found: click.echo(
                render_line(found) if style == "text" else to_json(RunReport.from_result(found))
            ),
        )
    if not results:
        click.echo(f"The baseline of {settings.name} is at the tip already.", err=True)
    if results and not results[-1].complete:
        sys.exit(InfrastructureError.exit_status)


@cli.command()
@click.argument("words", nargs=-1, required=True, metavar="[PROJECT] TEST")
@click.option("--rev", help="A measured commit. Default: the one that was measured last.")
@click.pass_obj
def why(chosen: Chosen, words: tuple[str, ...], rev: str | None) -> None:
    """Say why a test ran for a commit, or that it was carried. TEST may be a part of its id."""
    from covtrack.reasons import explain_test

    if len(words) > 2:
        raise UsageError("covtrack why takes a project and a test.")
    settings = chosen.project(words[0] if len(words) == 2 else None)
    with chosen.tracking() as tracker:
        click.echo(explain_test(tracker, settings.name, words[-1], rev))
