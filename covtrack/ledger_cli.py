"""The command of the safety ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from covtrack.cli import Chosen, cli
from venv_builder.errors import UsageError

if TYPE_CHECKING:
    from covtrack.store.values import LedgerEntry, WaveringLine

MOST_LINES = 20


@cli.command()
@click.argument("words", nargs=-1, metavar="[run] [PROJECT] [COMMIT]")
@click.pass_obj
def ledger(chosen: Chosen, words: tuple[str, ...]) -> None:
    """Show how often results equalled full runs, and each line that differed, with why.

    `ledger run PROJECT [COMMIT]` makes a full run of a measured commit now (the newest unless
    named). `covtrack serve` does so for the share of jobs that the setting `ledger` names.
    """
    if words[:1] == ("run",):
        _run(chosen, words[1:])
    else:
        _show(chosen, words)


def _run(chosen: Chosen, words: tuple[str, ...]) -> None:
    from covtrack.ledger import verify_run

    if len(words) > 2:
        raise UsageError("covtrack ledger run takes a project and a commit.")
    project = chosen.project(words[0] if words else None)
    with chosen.tracking() as tracker:
        entry = verify_run(tracker, project, words[1] if len(words) > 1 else None)
    click.echo("\n".join(describe_entry(entry)))


def _show(chosen: Chosen, words: tuple[str, ...]) -> None:
    from covtrack.reporting import describe_ledger
    from covtrack.store import ledgering
    from covtrack.store.database import Database

    if len(words) > 1:
        raise UsageError("covtrack ledger takes a project.", advice="Or: covtrack ledger run ...")
    if words:
        chosen.settings.project(words[0])
    with Database.open(chosen.settings.database_url) as database:
        entries = database.read(lambda c: ledgering.read_entries(c, words[0] if words else None))
        names = sorted({entry.project for entry in entries} | set(words))
        for name in names:
            own = [entry for entry in entries if entry.project == name]
            count = describe_ledger(ledgering.count_entries(own)) or "nothing verified yet"
            click.echo(f"{name}: {count}.")
            for entry in own if words else ():
                click.echo("\n".join(f"  {line}" for line in describe_entry(entry)))
            known = database.read(lambda c, name=name: ledgering.read_lines(c, name))  # type: ignore[misc]
            for line in describe_lines(known) if words else ():
                click.echo(line)
    if not names:
        click.echo("Nothing is verified yet: set `ledger`, or covtrack ledger run PROJECT.")


def describe_entry(entry: LedgerEntry) -> list[str]:
    """A line on one verification, and one for each line that differs."""
    from covtrack.grids import clean

    said = "identical" if entry.identical else "differs"
    if not entry.complete:
        said = "unknown, the full run did not end as it should"
    branches = "" if entry.branches is None else f", {entry.branches} branch exits"
    head = (
        f"{entry.verified_at:%Y-%m-%d} {entry.commit[:10]} {clean(entry.subject)}: {said} "
        f"({entry.tests} tests{branches}, CPU {entry.cpu_seconds:.1f} s)"
    )
    lines = [
        clean(f"{line.kind.replace('_', ' ')}: {line.path}:{line.where}, {line.why}")
        for line in entry.held.explained[:MOST_LINES]
    ]
    rest = len(entry.held.explained) - MOST_LINES
    return [head, *(f"  {line}" for line in lines), *([f"  {rest} more"] if rest > 0 else [])]


def describe_lines(known: Sequence[WaveringLine]) -> list[str]:
    """The lines that were learnt to be nondeterministic."""
    from covtrack.grids import clean

    if not known:
        return []
    shown = [
        clean(
            f"{line.name.path} {line.name.function or '(module)'}: {line.name.text} "
            f"[{line.why}; {line.commit[:10]}]"
        )
        for line in known[:MOST_LINES]
    ]
    rest = len(known) - MOST_LINES
    head = "Left out of verdicts, since they run or not without a change of the source:"
    return [head, *(f"  {line}" for line in shown), *([f"  {rest} more"] if rest > 0 else [])]
