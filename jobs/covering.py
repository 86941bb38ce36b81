"""Which tests ran given lines: questions to a snapshot, about a few files at a time.

A test here is one that the snapshot has an outcome of: neither import time nor a fixture. Knows
coverage.py's tables as `jobs.snapshot` does; never reads those of all files.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from pathlib import Path

from jobs.snapshot import opened

OF_TESTS = (
    " JOIN context ON context.id = context_id JOIN covtrack_test ON test = context"
    " WHERE file_id = ?"
)
Ran = dict[str, int]


def read_tested_lines(path: Path, files: Collection[str]) -> dict[str, frozenset[int]]:
    """The lines of each of `files` that any test ran."""
    with opened(path) as db:
        return {name: _tested(db, file) for name, file in _ids(db, files).items()}


def read_tests_at(
    path: Path, lines: Mapping[str, Collection[int]]
) -> dict[tuple[str, int], Mapping[str, int]]:
    """By path and line, the tests that ran it, each with how much of the file it ran.

    How much is in lines, or in arcs where branches are measured.
    """
    found: dict[tuple[str, int], Mapping[str, int]] = {}
    with opened(path) as db:
        for name, file in _ids(db, lines).items():
            tests = _by_bits(db, file, lines[name]) or _by_arcs(db, file, lines[name])
            found |= {(name, line): ran for line, ran in tests.items()}
    return found


def _ids(db: sqlite3.Connection, files: Collection[str]) -> dict[str, int]:
    wanted = (json.dumps(sorted(files)),)
    query = "SELECT path, id FROM file WHERE path IN (SELECT value FROM json_each(?))"
    return dict(db.execute(query, wanted))


def _tested(db: sqlite3.Connection, file: int) -> frozenset[int]:
    bits = 0
    for (numbits,) in db.execute(f"SELECT numbits FROM line_bits{OF_TESTS}", (file,)):  # noqa: S608
        bits |= int.from_bytes(numbits, "little")
    lines = {line for line, bit in enumerate(reversed(f"{bits:b}")) if bit == "1"}
    for arc in db.execute(f"SELECT DISTINCT fromno, tono FROM arc{OF_TESTS}", (file,)):  # noqa: S608
        lines.update(line for line in arc if line > 0)
    return frozenset(lines)


def _by_bits(db: sqlite3.Connection, file: int, lines: Collection[int]) -> dict[int, Ran]:
    found: dict[int, Ran] = {}
    for test, numbits in db.execute(f"SELECT test, numbits FROM line_bits{OF_TESTS}", (file,)):  # noqa: S608
        bits = int.from_bytes(numbits, "little")
        for line in lines:
            if bits >> line & 1:
                found.setdefault(line, {})[test] = bits.bit_count()
    return found


def _by_arcs(db: sqlite3.Connection, file: int, lines: Collection[int]) -> dict[int, Ran]:
    found: dict[int, Ran] = {}
    wanted = json.dumps(sorted(lines))
    sizes = dict(db.execute(f"SELECT test, count(*) FROM arc{OF_TESTS} GROUP BY test", (file,)))  # noqa: S608
    for end in ("fromno", "tono"):
        query = (
            f"SELECT DISTINCT test, {end} FROM arc{OF_TESTS}"  # noqa: S608
            f" AND {end} IN (SELECT value FROM json_each(?))"
        )
        for test, line in db.execute(query, (file, wanted)):
            found.setdefault(line, {})[test] = sizes[test]
    return found
