"""Shows a prospect for people, on stdout."""

from __future__ import annotations

import sys
from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from covtrack.prospect_results import Lines, Prospect, ProspectedChange, Verified
from covtrack.replay_results import count_lines
from covtrack.terminal import format_share
from jobs.landing import State
from jobs.results import Counts

MOST_SHOWN = 5


def render_prospect(found: Prospect) -> None:
    """Print what the branch's coverage becomes, and each change's part in it."""
    console = Console(highlight=False, soft_wrap=True)
    included = sum(change.state is State.INCLUDED for change in found.changes)
    console.print(
        f"[bold]{escape(found.project)}[/] {escape(found.branch)} {found.tip[:10]} with "
        f"{included} of {len(found.changes)} changes (tree {found.merged_tree[:10]})"
    )
    console.print(_totals(found))
    wide = Console(highlight=False) if sys.stdout.isatty() else Console(width=140)
    wide.print(_changes(found.changes))
    own = sum(change.gain or 0 for change in found.changes)
    console.print(
        f"covered: {found.before.covered} now + {own} by one change alone + {found.shared} by "
        f"several - {found.lost} gone, changed or uncovered = {found.after.covered}"
    )
    for change in found.changes:
        _print_reason(console, change)
    _print_overlap(console, found.overlapping_tests)
    carried = sorted(found.rests_on.items(), key=lambda item: (-item[1], item[0]))
    told = ", ".join(f"{count} of {commit[:10]}" for commit, count in carried[:MOST_SHOWN])
    console.print(f"rests on {sum(found.rests_on.values())} tests, none run for this: {told}")
    for note in found.notes:
        console.print(f"[yellow]Note:[/] {escape(note)}")
    if found.verified:
        _print_verified(console, found.verified)
    spent = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in found.seconds.items())
    console.print(f"seconds: {spent}")


def _totals(found: Prospect) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("", "statements", "covered", "%"):
        table.add_column(name, justify="left" if not name else "right")
    for name, figures in (("now", found.before), ("all landed", found.after)):
        row = (str(figures.statements), str(figures.covered), format_share(figures.counts))
        table.add_row(name, *row)
    return table


def _changes(changes: tuple[ProspectedChange, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("change", "commit", "subject", "state", "tests", "patch", "%", "own gain"):
        figure = name in ("tests", "patch", "%", "own gain")
        widest = {"change": 30, "subject": 48}.get(name)
        table.add_column(
            name,
            justify="right" if figure else "left",
            no_wrap=True,
            max_width=widest,
            overflow="ellipsis",
        )
    for change in changes:
        table.add_row(*map(escape, _cells(change)))
    return table


def _cells(change: ProspectedChange) -> list[str]:
    cells = [change.ref, change.commit[:10], change.subject, change.state.value]
    if change.gain is None:
        return [*cells, "", "", "", ""]
    patch = change.patch
    counts = Counts(statements=patch.statements, covered=patch.covered) if patch else Counts()
    said = f"{counts.covered} of {counts.statements}" if patch else "unknown"
    share = format_share(counts) if counts.statements else "-"
    return [*cells, str(change.tests), said, share, f"+{change.gain}"]


def _print_reason(console: Console, change: ProspectedChange) -> None:
    if change.state is State.CONFLICT:
        rivals, paths = ", ".join(change.conflicts_with), ", ".join(change.paths[:MOST_SHOWN])
        words = f"{change.ref} conflicts with {rivals} in {paths}; it is left out."
        console.print(f"[red]conflict:[/] {escape(words)}")
    if change.state is State.INCOMPLETE:
        words = "not all of its tests could be imported and run, so it is left out."
        console.print(f"[red]incomplete:[/] {escape(change.ref)}: {words}")
    if change.state is State.MERGED:
        console.print(f"merged: {escape(change.ref)} has landed already.")
    for path, lines in list(change.gain_lines.items())[:MOST_SHOWN]:
        told = ", ".join(map(str, lines[:10])) + (", ..." if len(lines) > 10 else "")
        console.print(f"  {escape(change.ref)} +{len(lines)} {escape(path)}: {told}")
    rest = len(change.gain_lines) - MOST_SHOWN
    if rest > 0:
        console.print(f"  ... and {rest} more files (--format json).")


def _print_overlap(console: Console, tests: tuple[str, ...]) -> None:
    if not tests:
        console.print("overlap: no test is reached by more than one of them")
        return
    console.print(
        f"overlap: {len(tests)} tests are reached by more than one change, or by the branch since "
        "one forked off; their lines are put together, not run together"
    )
    for test in tests[:MOST_SHOWN]:
        console.print(f"  {escape(test)}")
    if len(tests) > MOST_SHOWN:
        console.print(f"  ... and {len(tests) - MOST_SHOWN} more (--format json).")


def _print_verified(console: Console, verified: Verified) -> None:
    counts = Counts(statements=verified.statements, covered=verified.covered)
    wrong, missed = count_lines(verified.false_covered), count_lines(verified.missed)
    console.print(
        f"verified by a full run of {verified.tests} tests ({verified.known_tests} known): "
        f"{counts.covered} of {counts.statements}, {format_share(counts)}; "
        f"{wrong} lines falsely covered, {missed} missed"
    )
    _print_lines(console, "falsely covered", verified.false_covered)
    _print_lines(console, "missed", verified.missed)
    for why, number in Counter(line.why for line in verified.explained).most_common():
        console.print(f"  {number} {escape(why)}")
    if not verified.complete:
        console.print("[red]incomplete:[/] the full run did not end as it should.")


def _print_lines(console: Console, name: str, lines: Lines) -> None:
    for path, numbers in list(lines.items())[:MOST_SHOWN]:
        console.print(f"  {name}: {escape(path)}: {', '.join(map(str, numbers[:10]))}")
