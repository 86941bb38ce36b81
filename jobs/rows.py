"""Rows of data files as bit sets, moved to the statements of another tree.

A bit stands for a statement's first line, or, where branches are measured, for an arc between
statements. Knows coverage.py's tables as `jobs.snapshot` does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from coverage.numbits import numbits_to_nums

from jobs.measure import Arc, covered_statements, translate_arc
from jobs.merge import FileMove
from jobs.snapshot import opened
from jobs.statements import Parsed

Rows = dict[str, dict[str, int]]


class RowReader:
    """Reads rows by context and path; an arc is the same bit in all data files that it reads.

    `files` are the measured files of the new tree, parsed: rows of others are left out.
    """

    def __init__(self, files: Mapping[str, Parsed], *, arcs: bool) -> None:
        self.files = {path: parsed for path, parsed in files.items() if parsed.error is None}
        self.arcs = arcs
        self._numbers: dict[str, dict[Arc, int]] = {}
        self._arcs: dict[str, list[Arc]] = {}

    def read(self, path: Path, moves: Mapping[str, FileMove]) -> Rows:
        """Every context's row, where it stands after the moves (by old path)."""
        rows: Rows = {}
        with opened(path) as db:
            found = self._arc_rows(db, moves) if self.arcs else self._line_rows(db, moves)
            for context, name, bits in found:
                files = rows.setdefault(context, {})
                files[name] = files.get(name, 0) | bits
        return rows

    def lines(self, path: str, bits: int) -> frozenset[int]:
        """The lines that the bits of a path stand for; ends of arcs, where these are kept."""
        if not self.arcs:
            return frozenset(_numbers(bits))
        ends = (line for arc in self.arcs_of(path, bits) for line in arc)
        return frozenset(line for line in ends if line > 0)

    def arcs_of(self, path: str, bits: int) -> frozenset[Arc]:
        """The arcs that the bits of a path stand for; none where lines are kept."""
        known = self._arcs.get(path, [])
        return frozenset(known[number] for number in _numbers(bits)) if self.arcs else frozenset()

    def _line_rows(
        self, db: sqlite3.Connection, moves: Mapping[str, FileMove]
    ) -> Iterator[tuple[str, str, int]]:
        query = (
            "SELECT context, path, numbits FROM line_bits"
            " JOIN context ON context.id = context_id JOIN file ON file.id = file_id"
        )
        known: dict[tuple[str, bytes], int] = {}
        for context, path, numbits in db.execute(query):
            new = moves[path].new if path in moves else path
            if new is not None and new in self.files:
                key = path, numbits
                if key not in known:
                    lines: Iterable[int] = numbits_to_nums(numbits)
                    lines = moves[path].move_lines(lines) if path in moves else lines
                    known[key] = _to_bits(covered_statements(self.files[new], frozenset(lines)))
                yield context, new, known[key]

    def _arc_rows(
        self, db: sqlite3.Connection, moves: Mapping[str, FileMove]
    ) -> Iterator[tuple[str, str, int]]:
        query = (
            "SELECT context, path, fromno, tono FROM arc JOIN context ON context.id = context_id"
            " JOIN file ON file.id = file_id"
        )
        known: dict[tuple[str, Arc], int] = {}
        for context, path, start, end in db.execute(query):
            new = moves[path].new if path in moves else path
            if new is not None and new in self.files:
                key = path, (start, end)
                if key not in known:
                    arc = (start, end)
                    arcs = moves[path].move_arcs([arc]) if path in moves else [arc]
                    known[key] = self._to_bits(new, arcs)
                yield context, new, known[key]

    def _to_bits(self, path: str, arcs: Iterable[Arc]) -> int:
        numbers = self._numbers.setdefault(path, {})
        bits = 0
        for start, end in (translate_arc(self.files[path], arc) for arc in arcs):
            # What lost an end is (n, n): that line n ran, which any arc from or to it proves.
            lines = {(line, line) for line in (start, end) if line > 0}
            for item in {(start, end), *lines}:
                if item not in numbers:
                    numbers[item] = len(numbers)
                    self._arcs.setdefault(path, []).append(item)
                bits |= 1 << numbers[item]
        return bits


def _to_bits(lines: Iterable[int]) -> int:
    bits = 0
    for line in lines:
        bits |= 1 << line
    return bits


def _numbers(bits: int) -> Collection[int]:
    return [number for number, bit in enumerate(reversed(f"{bits:b}")) if bit == "1"]
