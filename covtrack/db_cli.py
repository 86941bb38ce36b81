"""The commands about the database itself: db status, db upgrade, db copy."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from covtrack.cli import Chosen, cli


@cli.group()
def db() -> None:
    """Look at, upgrade or copy the database. URL is as `database` in covtrack.toml."""


@db.command()
@click.argument("url", required=False)
@click.pass_obj
def status(chosen: Chosen, url: str | None) -> None:
    """Say which revision the database has and how many rows its tables hold."""
    from covtrack.store.copying import read_state
    from covtrack.store.schema import HEAD

    state = read_state(url or chosen.settings.database_url)
    click.echo(f"database  {state.place}")
    ending = "" if state.current else f", this covtrack's is {HEAD}: covtrack db upgrade"
    click.echo(f"revision  {state.revision or 'none'}{ending}")
    for table, rows in state.rows.items():
        click.echo(f"{table:<12} {rows:>10,} rows")


@db.command()
@click.argument("url", required=False)
@click.pass_obj
def upgrade(chosen: Chosen, url: str | None) -> None:
    """Bring the database to this covtrack's tables, as any other command does by itself."""
    from covtrack.store.database import Database
    from covtrack.store.schema import HEAD

    with Database.open(url or chosen.settings.database_url) as database:
        click.echo(f"{database.place} has revision {HEAD}.")


@db.command()
@click.argument("from_url")
@click.argument("to_url")
@click.pass_obj
def copy(chosen: Chosen, from_url: str, to_url: str) -> None:
    """Copy the database FROM_URL into the empty database TO_URL, whole or not at all."""
    from covtrack.store.copying import copy_database
    from covtrack.terminal import show_progress

    with _quiet(chosen, from_url), show_progress() as listener:
        found = copy_database(from_url, to_url, listener)
    for table, content in found.items():
        digest = f"{content.digest:064x}"[:12]
        click.echo(f"{table:<12} {content.rows:>10,} rows  digest {digest}")
    total = sum(content.rows for content in found.values())
    click.echo(f"{total:,} rows are the same in both databases.")
    click.echo(
        "Snapshots, mirrors and environments are files below the state folder "
        f"({chosen.settings.state}) and are not copied: keep that folder, or move it along."
    )


def _quiet(chosen: Chosen, from_url: str) -> AbstractContextManager[None]:
    """No `covtrack serve` of this state folder writes to the source while it is copied."""
    from covtrack.serving import alone
    from covtrack.store.engine import read_url

    own = read_url(chosen.settings.database_url)
    state: Path = chosen.settings.state
    return alone(state) if read_url(from_url) == own and state.is_dir() else nullcontext()
