"""The command that removes what is not kept: gc."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from covtrack.cli import Chosen, cli
from venv_builder.errors import UsageError

if TYPE_CHECKING:
    from covtrack.collecting import Collected
    from covtrack.retention import Keep


@cli.command()
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@click.option(
    "--keep",
    "rules",
    multiple=True,
    metavar="NAME=NUMBER",
    help="Instead of what the table [keep] says, such as baselines=10 or outcomes=30.",
)
@click.pass_obj
def gc(chosen: Chosen, dry_run: bool, rules: tuple[str, ...]) -> None:
    """Remove snapshots, logs and environments that are not kept; the table [keep] says which are.

    Figures stay in the database. `covtrack serve` does the same once a day.
    """
    from covtrack.collecting import Collector

    keep = parse_keep(chosen.settings.keep, rules)
    with chosen.tracking() as tracker:
        found = Collector(tracker, keep, dry=dry_run).run(
            lambda one: click.echo(describe(one, dry=dry_run))
        )
    before, after = (sum(counts) for counts in zip(*map(_bytes, found), strict=True))
    click.echo(f"bytes: {before:,} before, {after:,} {'would be left' if dry_run else 'after'}")


def parse_keep(keep: Keep, rules: tuple[str, ...]) -> Keep:
    """The policy with some numbers replaced; UsageError for what is none of its rules."""
    from pydantic import ValidationError

    values = {}
    for rule in rules:
        name, _, number = rule.partition("=")
        values[name] = number
    try:
        return type(keep).model_validate(keep.model_dump() | values)
    except ValidationError as error:
        raise UsageError(
            f"--keep {' '.join(rules)} is no rule: {error.errors()[0]['msg']}.",
            advice="Such as: --keep baselines=10 --keep changes=14",
        ) from error


def describe(one: Collected, *, dry: bool) -> str:
    """A line on what was removed; what packing would spare is not known before."""
    from covtrack.grids import clean

    verb = "would go" if dry else "removed"
    return (
        f"{clean(one.what)} {one.kept} kept, {one.removed} {verb}, {one.packed} "
        f"{'would be ' if dry else ''}packed, "
        f"{one.bytes_before - one.bytes_after:,} of {one.bytes_before:,} bytes"
    )


def _bytes(one: Collected) -> tuple[int, int]:
    return one.bytes_before, one.bytes_after
