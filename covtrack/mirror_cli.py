"""The commands of the mirrors: status, sync, restore."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from covtrack.cli import Chosen, cli
from covtrack.settings import Settings
from venv_builder.errors import CovtrackError, InfrastructureError
from venv_builder.progress import Listener, Noted, Stages

if TYPE_CHECKING:
    from covtrack.mirrors import Mirrored


@cli.group()
def mirror() -> None:
    """Show, fill and push back the mirrors of the projects."""


@mirror.command("status")
@click.option("--offline", is_flag=True, help="Do not ask the servers what the mirrors lack.")
@click.pass_obj
def status(chosen: Chosen, offline: bool) -> None:
    """Show what each mirror holds, when it was last filled, and what its server has beyond."""
    from covtrack.grids import clean, render_table
    from covtrack.mirror_report import examine, status_grid
    from covtrack.mirrors import known
    from covtrack.terminal import stdout_width

    found = [examine(one, ask=not offline) for one in known(chosen.settings)]
    if not found:
        click.echo("no mirrors yet; add a project with: covtrack project add NAME --git URL")
        return
    width, color = stdout_width()
    grid = status_grid(found, datetime.now(UTC))
    click.echo(render_table(grid, width=width, color=color), nl=False)
    for one in found:
        if one.problem:
            click.echo(f"{clean(one.name)}: {clean(one.problem)}")
        if one.lost:
            click.echo(
                f"{clean(one.name)}: its server began anew; {one.lost} branches and tags are kept."
            )


@mirror.command("sync")
@click.argument("names", nargs=-1, metavar="[PROJECT]...")
@click.pass_obj
def sync(chosen: Chosen, names: tuple[str, ...]) -> None:
    """Fetch all that the servers have: branches, tags, notes, reviews.

    Without PROJECT every mirror, those too that the servers' patterns ask for.
    """
    from covtrack.mirrors import choose
    from covtrack.terminal import show_progress

    failed = 0
    with show_progress() as listener:
        mirrors = tuple(_find(chosen.settings, listener))
        failed += len(mirrors) - len([one for one in mirrors if one is not None])
        chosen_ones = choose((one for one in mirrors if one is not None), names)
        for one in chosen_ones:
            failed += not _sync(one, listener)
    if failed:
        sys.exit(InfrastructureError.exit_status)


def _find(settings: Settings, listener: Listener) -> Iterator[Mirrored | None]:
    """All mirrors, None for each server that does not say what its patterns match."""
    from covtrack.gerrit.client import GerritClient
    from covtrack.mirrors import beside, configured, kept, matched

    yield from configured(settings)
    for _, server in sorted(settings.gerrit.items()):
        names = kept(settings, server)
        if server.mirror:
            try:
                names = matched(server, GerritClient(server))
            except CovtrackError as error:
                listener(Noted(sentence=str(error)))
                yield None
        yield from beside(settings, server, names)


def _sync(one: Mirrored, listener: Listener) -> bool:
    """Whether all of it could be fetched."""
    from covtrack.grids import clean

    try:
        with Stages(listener).stage("mirror", one.name):
            replica = one.open()
            before = replica.refs()
            replica.sync(one.url)
    except CovtrackError as error:
        click.echo(f"{clean(one.name)}: {clean(str(error))}")
        return False
    after = replica.refs()
    news = sum(before.get(name) != sha for name, sha in after.items())
    click.echo(f"{clean(one.name)}: {len(after)} refs, {news} of them new or moved")
    return True


@mirror.command("restore")
@click.argument("project")
@click.argument("url")
@click.option(
    "--changes", is_flag=True, help="Restore reviews on a Gerrit that has none of its own, too."
)
@click.pass_obj
def restore(chosen: Chosen, project: str, url: str, changes: bool) -> None:
    """Push the mirror of PROJECT to URL, an empty repository.

    What the other side refuses is named. A plain repository takes everything; so does the one
    in the site of a Gerrit that is stopped.
    """
    from covtrack.grids import clean
    from covtrack.mirrors import choose, known
    from covtrack.restoring import restore as push_back
    from covtrack.restoring import tell
    from covtrack.terminal import show_progress

    (one,) = choose(known(chosen.settings), (project,))
    if Path(url).is_dir():
        url = str(Path(url).resolve())  # git runs in the mirror's folder
    with show_progress() as listener:
        restored = push_back(one.open(), url, listener, changes=changes)
    for line in tell(restored):
        indent = " " * (len(line) - len(line.lstrip()))
        click.echo(indent + clean(line))
    if not restored.complete:
        sys.exit(InfrastructureError.exit_status)
