"""The command that looks ahead: prospect."""

from __future__ import annotations

import sys

import click

from covtrack.cli import Chosen, cli
from venv_builder.errors import InfrastructureError


@cli.command()
@click.argument("words", nargs=-1, metavar="[PROJECT] REF...")
@click.option("--verify", is_flag=True, help="Compare with a full run of the real merge.")
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table")
@click.pass_obj
def prospect(chosen: Chosen, words: tuple[str, ...], verify: bool, style: str) -> None:
    """Say what coverage becomes when all these changes land, and what each of them gains.

    REF is a branch, tag, sha or ref such as refs/changes/NN/CHANGE/PATCHSET. The changes are
    merged onto the branch's tip in this order; those that conflict are named and left out.
    """
    from covtrack.contract import to_json
    from covtrack.prospect import Prospector
    from covtrack.prospect_report import render_prospect

    name, refs = split_words(chosen, words)
    project = chosen.project(name)
    with chosen.tracking() as tracker:
        found = Prospector(tracker, project).run(refs, verify=verify)
    if style == "json":
        click.echo(to_json(found))
    else:
        render_prospect(found)
    if not found.complete:
        sys.exit(InfrastructureError.exit_status)


def split_words(chosen: Chosen, words: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The project's name if the first word is one, and the refs."""
    if words and words[0] in chosen.settings.projects:
        return words[0], words[1:]
    return None, words
