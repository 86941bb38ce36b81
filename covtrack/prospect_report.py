"""Shows a prospect for people, on stdout."""

from __future__ import annotations

from collections import Counter

from rich.console import Console

from covtrack.grids import Column, Grid, render_table
from covtrack.prospect_results import Lines, Prospect, ProspectedChange, Verified
from covtrack.terminal import format_share, show, stdout_width
from jobs.holding import count_lines
from jobs.landing import State
from jobs.results import Counts

MOST_SHOWN = 5
FIGURES = ("statements", "covered", "%")
CHANGES = (
    Column(title="change", least=12),
    Column(title="commit", spare=1),
    Column(title="subject", least=12),
    Column(title="state"),
    Column(title="tests", figures=True),
    Column(title="patch", figures=True),
    Column(title="%", figures=True),
    Column(title="own gain", figures=True),
)


def render_prospect(found: Prospect) -> None:
    """Print what the branch's coverage becomes, and each change's part in it."""
    console = Console(highlight=False, soft_wrap=True)
    included = sum(change.state is State.INCLUDED for change in found.changes)
    console.print(
        f"[bold]{show(found.project)}[/] {show(found.branch)} {found.tip[:10]} with "
        f"{included} of {len(found.changes)} changes (tree {found.merged_tree[:10]})"
    )
    width, color = stdout_width()
    for grid in (_totals(found), _changes(found.changes)):
        console.out(render_table(grid, width=width, color=color), end="", highlight=False)
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
        console.print(f"[yellow]Note:[/] {show(note)}")
    if found.verified:
        _print_verified(console, found.verified)
    spent = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in found.seconds.items())
    console.print(f"seconds: {spent}")


def _totals(found: Prospect) -> Grid:
    columns = (Column(title=""), *(Column(title=t, figures=True) for t in FIGURES))
    rows = tuple(
        (name, str(figures.statements), str(figures.covered), format_share(figures.counts))
        for name, figures in (("now", found.before), ("all landed", found.after))
    )
    return Grid(columns=columns, rows=rows)


def _changes(changes: tuple[ProspectedChange, ...]) -> Grid:
    return Grid(columns=CHANGES, rows=tuple(tuple(_cells(change)) for change in changes))


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
        console.print(f"[red]conflict:[/] {show(words)}")
    if change.state is State.INCOMPLETE:
        words = "not all of its tests could be imported and run, so it is left out."
        console.print(f"[red]incomplete:[/] {show(change.ref)}: {words}")
    if change.state is State.MERGED:
        console.print(f"merged: {show(change.ref)} has landed already.")
    for path, lines in list(change.gain_lines.items())[:MOST_SHOWN]:
        told = ", ".join(map(str, lines[:10])) + (", ..." if len(lines) > 10 else "")
        console.print(f"  {show(change.ref)} +{len(lines)} {show(path)}: {told}")
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
        console.print(f"  {show(test)}")
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
        console.print(f"  {number} {show(why)}")
    if not verified.complete:
        console.print("[red]incomplete:[/] the full run did not end as it should.")


def _print_lines(console: Console, name: str, lines: Lines) -> None:
    for path, numbers in list(lines.items())[:MOST_SHOWN]:
        console.print(f"  {name}: {show(path)}: {', '.join(map(str, numbers[:10]))}")
