"""A grid of text cells as a table for people, a Markdown table or CSV.

Pure: grids in, text out. Cells may hold anything (commit subjects and file names come from
other people): nothing in them can move the cursor, style the output, end a cell, or become a
formula in a spreadsheet.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

GAP = 2
UNBOUNDED = 10**9
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&#!])")
_UNSHOWN = ("Cc", "Cf", "Co", "Cs")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: figures stand right; where the width is small, text is cut short.

    `least` is the width in terminal cells below which it is not cut; None is never. Columns with
    the highest `spare` are left out first when the width does not do; those with 0 never are.
    """

    title: str
    figures: bool = False
    least: int | None = None
    spare: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Columns and rows of as many cells; `strong` are the indexes of rows that stand out."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[int] = frozenset()


def clean(text: str) -> str:
    """One line without control, format, private and surrogate characters."""
    kept = (c for c in text if c.isspace() or unicodedata.category(c) not in _UNSHOWN)
    return " ".join("".join(kept).split())


def render_table(grid: Grid, *, width: int | None = None, color: bool = False) -> str:
    """Aligned columns, `width` cells wide at most; None (a pipe) is as wide as needed."""
    shown = fit(grid, width)
    widths = share_out(shown, width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column, cells in zip(shown.columns, widths, strict=True):
        justify: JustifyMethod = "right" if column.figures else "left"
        table.add_column(Text(column.title), justify=justify, width=cells, no_wrap=True)
    for index, row in enumerate(shown.rows):
        texts = [Text(cut(clean_cell(c), w)) for c, w in zip(row, widths, strict=True)]
        table.add_row(*texts, style="bold" if index in shown.strong else None)
    return _print(table, sum(widths) + GAP * len(widths), color)


def cut(text: str, width: int) -> str:
    """`text` in `width` terminal cells, with an ellipsis where it had to be cut."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def clean_cell(cell: str) -> str:
    """A clean cell that keeps its indentation."""
    return " " * (len(cell) - len(cell.lstrip(" "))) + clean(cell)


def fit(grid: Grid, width: int | None) -> Grid:
    """The grid without the columns that `width` has no room for."""
    spare = sorted({column.spare for column in grid.columns} - {0}, reverse=True)
    for level in spare:
        if width is None or needed_width(grid) <= width:
            break
        kept = [index for index, column in enumerate(grid.columns) if column.spare != level]
        grid = Grid(
            columns=tuple(grid.columns[index] for index in kept),
            rows=tuple(tuple(row[index] for index in kept) for row in grid.rows),
            strong=grid.strong,
        )
    return grid


def needed_width(grid: Grid) -> int:
    """Terminal cells that the grid needs for all but the ends of the cells that may be cut."""
    columns = range(len(grid.columns))
    return GAP * (len(columns) - 1) + sum(_least_width(grid, index) for index in columns)


def share_out(grid: Grid, width: int | None) -> tuple[int, ...]:
    """The width of each column; room beyond what is needed goes to the first that want it."""
    room = UNBOUNDED if width is None else max(0, width - needed_width(grid))
    widths = []
    for index in range(len(grid.columns)):
        least = _least_width(grid, index)
        more = min(room, max(0, _full_width(grid, index) - least))
        room -= more
        widths.append(least + more)
    return tuple(widths)


def _full_width(grid: Grid, index: int) -> int:
    cells = (clean_cell(row[index]) for row in grid.rows)
    return max([cell_len(grid.columns[index].title), *(cell_len(cell) for cell in cells)])


def _least_width(grid: Grid, index: int) -> int:
    column, full = grid.columns[index], _full_width(grid, index)
    if column.least is None:
        return full
    return min(full, max(column.least, cell_len(column.title)))


def render_markdown(grid: Grid) -> str:
    """A GitHub table; every character with a meaning in Markdown is escaped."""
    lines = [
        _markdown_row(column.title for column in grid.columns),
        "|" + "|".join(" ---: " if c.figures else " --- " for c in grid.columns) + "|",
    ]
    for index, row in enumerate(grid.rows):
        mark = "**" if index in grid.strong else ""
        cells = (escape_markdown(cell) for cell in row)
        lines.append(_markdown_row((f"{mark}{c}{mark}" if c else "" for c in cells), escaped=True))
    return "\n".join(lines) + "\n"


def escape_markdown(text: str) -> str:
    """Clean text that Markdown shows as it is."""
    return _MARKDOWN.sub(r"\\\1", clean(text))


def render_csv(titles: Sequence[str], rows: Iterable[Sequence[str | int | float | None]]) -> str:
    """CSV with a header; None is an empty cell, text that a spreadsheet would run is quoted."""
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(titles)
    for row in rows:
        writer.writerow([defuse(cell) if isinstance(cell, str) else cell for cell in row])
    return file.getvalue()


def defuse(text: str) -> str:
    """Clean text that no spreadsheet takes for a formula: an apostrophe comes first."""
    cleaned = clean(text)
    return f"'{cleaned}" if cleaned.startswith(_FORMULA) else cleaned


def _markdown_row(cells: Iterable[str], *, escaped: bool = False) -> str:
    return "| " + " | ".join(c if escaped else escape_markdown(c) for c in cells) + " |"


def _print(table: Table, width: int, color: bool) -> str:
    file = StringIO()
    console = Console(
        file=file,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        legacy_windows=False,
        highlight=False,
        emoji=False,
        markup=False,
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"
