"""What the reports say: stored rows in, text out, in each of the formats.

Pure: reads no clock, terminal or database. Percentages are rounded down, and what is not known
is called unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from itertools import groupby

from covtrack.contract import FilesReport, ProjectReport, percent_of, round_down, to_json
from covtrack.grids import (
    Column,
    Grid,
    clean,
    escape_markdown,
    render_csv,
    render_markdown,
    render_table,
)
from covtrack.store.values import LedgerCount, ProjectRow
from jobs.project import ProjectSettings
from jobs.results import Counts, FileMeasure, add_up

UNKNOWN = "unknown"
NEVER = "never"
DOUBT = "*"
DOUBTFUL = f"{DOUBT} incomplete: some tests could not run, so the figure may be too low."
Record = tuple[str | int | float | None, ...]
_AGES = ((60, 1, "s"), (3600, 60, "min"), (48 * 3600, 3600, "h"), (730 * 86400, 86400, "d"))

PROJECT_COLUMNS = (
    Column(title="project", least=24),
    Column(title="statements", figures=True, spare=1),
    Column(title="covered", figures=True, spare=4),
    Column(title="%", figures=True),
    Column(title="target", figures=True, spare=3),
    Column(title="to go", figures=True),
    Column(title="commit", spare=5),
    Column(title="age", figures=True, spare=2),
    Column(title="last change", least=12, spare=6),
)
FILE_COLUMNS = (
    Column(title="file", least=24),
    Column(title="statements", figures=True, spare=1),
    Column(title="covered", figures=True, spare=2),
    Column(title="missing", figures=True),
    Column(title="%", figures=True),
    Column(title="missing lines", least=12, spare=3),
)
PROJECT_TITLES = (
    "project",
    "branch",
    "code",
    "statements",
    "covered",
    "percent",
    "target",
    "to_target",
    "commit",
    "complete",
    "measured_at",
    "last_change",
)
FILE_TITLES = ("path", "code", "statements", "covered", "missing", "percent", "missing_lines")


class Format(StrEnum):
    """How a report is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


def with_unmeasured(
    rows: Sequence[ProjectRow], projects: Iterable[ProjectSettings]
) -> tuple[ProjectRow, ...]:
    """The stored rows, and an empty one for each configured project that has none yet."""
    known = {row.project for row in rows}
    new = (
        ProjectRow(
            project=project.name,
            branch=project.branch or "",
            target=project.share,
            latest=None,
            last_change=None,
        )
        for project in projects
        if project.name not in known
    )
    return tuple(sorted((*rows, *new), key=lambda row: row.project))


def render_projects(
    rows: Sequence[ProjectRow],
    format: Format,
    now: datetime,
    *,
    width: int | None = None,
    color: bool = False,
) -> str:
    """A row per project, vendored code beneath it, and the total; ends with a newline.

    `width` is the terminal's in cells; None (a pipe) takes all the room it needs.
    """
    match format:
        case Format.JSON:
            return to_json(tuple(ProjectReport.from_row(row) for row in rows)) + "\n"
        case Format.CSV:
            return render_csv(PROJECT_TITLES, _project_records(rows))
        case Format.MARKDOWN:
            notes = "".join(f"\n{escape_markdown(note)}\n" for note in _notes(rows))
            return render_markdown(project_grid(rows, now)) + notes
    if not rows:
        return "There are no projects yet.\n"
    notes = "".join(f"\n{note}\n" for note in _notes(rows))
    return render_table(project_grid(rows, now), width=width, color=color) + notes


def render_files(
    row: ProjectRow,
    files: Sequence[FileMeasure],
    format: Format,
    *,
    width: int | None = None,
    color: bool = False,
) -> str:
    """The files with most to gain first, vendored ones apart at the end; ends with a newline."""
    ordered = by_gain(files)
    match format:
        case Format.JSON:
            return to_json(FilesReport.from_values(row, ordered)) + "\n"
        case Format.CSV:
            return render_csv(FILE_TITLES, [_file_record(file) for file in ordered])
        case Format.MARKDOWN:
            return render_markdown(file_grid(ordered))
    headline = f"{describe(row)}\n"
    if not ordered:
        return headline
    return f"{headline}\n{render_table(file_grid(ordered), width=width, color=color)}"


def project_grid(rows: Sequence[ProjectRow], now: datetime) -> Grid:
    """The projects' rows as cells, the total last."""
    cells = [cells for row in rows for cells in _project_cells(row, now)]
    measured = [row for row in rows if row.latest is not None]
    totals = _total_cells(rows, measured) if measured else []
    strong = range(len(cells), len(cells) + len(totals))
    return Grid(columns=PROJECT_COLUMNS, rows=(*cells, *totals), strong=frozenset(strong))


def file_grid(files: Sequence[FileMeasure]) -> Grid:
    """The files' rows as cells in their order; a total of own code, one of vendored code."""
    rows: list[tuple[str, ...]] = []
    strong = set()
    for vendored, title in ((False, "total"), (True, "total vendored")):
        part = [file for file in files if file.vendored == vendored]
        rows += [
            (file.path, *_file_figures(file.counts), show_lines(file.missing)) for file in part
        ]
        if part:
            strong.add(len(rows))
            rows.append((title, *_file_figures(add_up(file.counts for file in part)), ""))
    return Grid(columns=FILE_COLUMNS, rows=tuple(rows), strong=frozenset(strong))


def by_gain(files: Iterable[FileMeasure]) -> tuple[FileMeasure, ...]:
    """Own files before vendored ones, those with the most missing statements first."""
    return tuple(
        sorted(files, key=lambda file: (file.vendored, -_missing(file.counts), file.path))
    )


def describe(row: ProjectRow) -> str:
    """One sentence on where a project stands."""
    run = row.latest
    name = f"{clean(row.project)} {clean(row.branch)}"
    if run is None:
        return f"{name} was never measured."
    place = f"{name} at {clean(run.commit[:10])}"
    if run.total.share is None:
        return f"{place} has no statements: its coverage is unknown."
    to_go = run.total.to_target(row.target)
    goal = f"{to_go:,} more reach" if to_go else "that meets"
    doubt = "" if run.complete else f" {DOUBTFUL}"
    return (
        f"{place}: {show_percent(run.total)} % of {run.total.statements:,} statements are "
        f"covered; {goal} the target of {_show_target(row.target)} %.{doubt}"
    )


def describe_ledger(count: LedgerCount | None) -> str:
    """One sentence on how often results equal full runs; empty where none was verified."""
    if count is None:
        return ""
    rest = count.verified - count.identical
    words = f"{count.identical} of {count.verified} verified identical"
    if count.unsteady:
        alone = f"{count.unsteady} differ" + ("s" if count.unsteady == 1 else "")
        words += f" ({alone} only where full runs differ among themselves)"
    if rest > count.unsteady:
        words += f", {rest - count.unsteady} not"
    return f"{words}, last on {count.last:%Y-%m-%d}"


def show_age(since: datetime, now: datetime) -> str:
    """How long ago in one unit, rounded down: 40 s, 5 min, 3 h, 4 d, 2 y."""
    seconds = max(0, int((now - since).total_seconds()))
    for limit, unit, name in _AGES:
        if seconds < limit:
            return f"{seconds // unit} {name}"
    return f"{seconds // (365 * 86400)} y"


def show_lines(lines: Sequence[int]) -> str:
    """Sorted line numbers as ranges: 1-3, 7."""
    runs = groupby(enumerate(lines), key=lambda pair: pair[1] - pair[0])
    spans = ([line for _, line in group] for _, group in runs)
    return ", ".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans)


def show_percent(counts: Counts) -> str:
    """The covered percentage with two decimals, rounded down, or unknown."""
    percent = percent_of(counts)
    return UNKNOWN if percent is None else f"{percent:.2f}"


def _notes(rows: Sequence[ProjectRow]) -> list[str]:
    """What stands beneath the table: what its mark means, and what full runs said."""
    doubt = [DOUBTFUL] if _any_doubt(rows) else []
    told = (f"{clean(row.project)}: {describe_ledger(row.ledger)}." for row in rows if row.ledger)
    return [*doubt, *told]


def _any_doubt(rows: Sequence[ProjectRow]) -> bool:
    return any(row.latest is not None and not row.latest.complete for row in rows)


def _project_cells(row: ProjectRow, now: datetime) -> list[tuple[str, ...]]:
    change = row.last_change.subject if row.last_change else ""
    if row.last_change and row.last_change.provisional:
        change = f"(provisional) {change}"
    target, run = _show_target(row.target), row.latest
    if run is None:
        return [(row.project, "", "", UNKNOWN, target, UNKNOWN, "", NEVER, change)]
    doubt = "" if run.complete else DOUBT
    own = (
        row.project,
        *_figures(run.total, doubt),
        target,
        f"{run.total.to_target(row.target):,}" if run.total.statements else UNKNOWN,
        run.commit[:10],
        show_age(run.measured_at, now),
        change,
    )
    return [own, *_vendored_cells("  vendored", run.vendored)]


def _total_cells(
    rows: Sequence[ProjectRow], measured: Sequence[ProjectRow]
) -> list[tuple[str, ...]]:
    runs = [row.latest for row in measured if row.latest]
    to_go = sum(row.latest.total.to_target(row.target) for row in measured if row.latest)
    of = "" if len(measured) == len(rows) else f" of {len(measured)} of {len(rows)} projects"
    own = _figures(add_up(run.total for run in runs), DOUBT if _any_doubt(rows) else "")
    total = (f"total{of}", *own, "", f"{to_go:,}")
    vendored = add_up(run.vendored for run in runs)
    return [(*total, "", "", ""), *_vendored_cells("total vendored", vendored)]


def _vendored_cells(title: str, counts: Counts) -> list[tuple[str, ...]]:
    return [(title, *_figures(counts), *("",) * 5)] if counts.statements else []


def _figures(counts: Counts, doubt: str = "") -> tuple[str, str, str]:
    return f"{counts.statements:,}", f"{counts.covered:,}", doubt + show_percent(counts)


def _file_figures(counts: Counts) -> tuple[str, str, str, str]:
    statements, covered, percent = _figures(counts)
    return statements, covered, f"{_missing(counts):,}", percent


def _missing(counts: Counts) -> int:
    return counts.statements - counts.covered


def _show_target(share: Fraction) -> str:
    return f"{round_down(share):g}"


def _project_records(rows: Sequence[ProjectRow]) -> list[Record]:
    records = [record for row in rows for record in _records_of(row)]
    runs = [row.latest for row in rows if row.latest]
    if not runs:
        return records
    to_go = sum(row.latest.total.to_target(row.target) for row in rows if row.latest)
    total, vendored = add_up(run.total for run in runs), add_up(run.vendored for run in runs)
    records.append(("total", None, "own", *_record(total), None, to_go, *(None,) * 4))
    return records + _vendored_records(("total", None), vendored)


def _records_of(row: ProjectRow) -> list[Record]:
    run, target = row.latest, round_down(row.target)
    change = row.last_change.subject if row.last_change else None
    names = (row.project, row.branch)
    if run is None:
        return [(*names, "own", None, None, UNKNOWN, target, None, None, None, NEVER, change)]
    own = (
        *(*names, "own", *_record(run.total), target),
        run.total.to_target(row.target) if run.total.statements else None,
        *(run.commit, "yes" if run.complete else "no", run.measured_at.isoformat(), change),
    )
    return [own, *_vendored_records(names, run.vendored)]


def _vendored_records(names: Record, counts: Counts) -> list[Record]:
    return [(*names, "vendored", *_record(counts), *(None,) * 6)] if counts.statements else []


def _record(counts: Counts) -> Record:
    return counts.statements, counts.covered, show_percent(counts)


def _file_record(file: FileMeasure) -> Record:
    code = "vendored" if file.vendored else "own"
    statements, covered, percent = _record(file.counts)
    missing = _missing(file.counts)
    return file.path, code, statements, covered, missing, percent, show_lines(file.missing)
