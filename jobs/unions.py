"""Keeps, per measured file, the lines that any context ran, so that totals need not read all rows.

A table of its own in a snapshot, right whenever the snapshot is: what is dropped is looked for in
the rows that stay, as far as the rows that came do not hold it. Arcs have no such table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

TABLE = """CREATE TABLE IF NOT EXISTS covtrack_union (  -- the lines of all contexts, as line_bits
    file_id INTEGER PRIMARY KEY, numbits BLOB NOT NULL
)"""
Bits = dict[int, int]
_KNOWN = "SELECT 1 FROM sqlite_master WHERE name = 'covtrack_union'"


def has_unions(db: sqlite3.Connection) -> bool:
    """Whether the snapshot keeps the table."""
    return db.execute(_KNOWN).fetchone() is not None


def read_unions(db: sqlite3.Connection) -> Bits:
    """By file id, all lines that ran, as bits; read from the rows where no union is kept."""
    table = "covtrack_union" if has_unions(db) else "line_bits"
    return unite(db.execute(f"SELECT file_id, numbits FROM {table}"))  # noqa: S608


def are_true(db: sqlite3.Connection) -> bool:
    """Whether the table holds what the rows hold."""
    found = unite(db.execute("SELECT file_id, numbits FROM line_bits"))
    return read_unions(db) == {file: bits for file, bits in found.items() if bits}


def unite(rows: Iterable[tuple[int, bytes]]) -> Bits:
    """The rows of each file as one."""
    found: Bits = {}
    for file, numbits in rows:
        found[file] = found.get(file, 0) | int.from_bytes(numbits, "little")
    return found


class Unions:
    """The unions of one snapshot while its rows change; to be told of what goes and what comes."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._bits = read_unions(db)
        self._lost: Bits = {}

    def lose(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """These rows, by file id, are gone."""
        for file, bits in unite(rows).items():
            self._lost[file] = self._lost.get(file, 0) | bits

    def forget(self, file: int) -> None:
        """The file is gone, or its number is another's from now on."""
        self._bits.pop(file, None)
        self._lost.pop(file, None)

    def gain(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """These rows, by file id, came, after all that were lost."""
        for file, bits in unite(rows).items():
            self._bits[file] = self._bits.get(file, 0) | bits
            if file in self._lost:
                self._lost[file] &= ~bits

    def write(self) -> None:
        """Look for what is lost in the rows that are there, and write the table."""
        for file, lost in self._lost.items():
            found = self._find(file, lost) if lost else 0
            self._bits[file] = self._bits.get(file, 0) & ~lost | found
        self._db.execute(TABLE)
        self._db.execute("DELETE FROM covtrack_union")
        self._db.executemany(
            "INSERT INTO covtrack_union SELECT id, ? FROM file WHERE id = ?",
            ((_numbits(bits), file) for file, bits in self._bits.items() if bits),
        )

    def _find(self, file: int, lost: int) -> int:
        """The lost lines that some row holds; stops at the row that completes them."""
        found = 0
        rows = self._db.execute("SELECT numbits FROM line_bits WHERE file_id = ?", (file,))
        for (numbits,) in rows:
            found |= int.from_bytes(numbits, "little") & lost
            if found == lost:
                break
        return found


def _numbits(bits: int) -> bytes:
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
