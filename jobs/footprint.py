"""What each context of a snapshot used: lines, modules, files. Questions for the choice of tests.

Knows coverage.py's tables as `jobs.snapshot` does. Contexts are test ids, fixtures
(`CLASS:setUpClass`, `MODULE:fixtures`, ...) and imports (`FILE:import`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from jobs.comparison import Span
from jobs.readers import Readers
from jobs.snapshot import opened

IMPORTED = ":import"


class Touch(StrEnum):
    """How a context used a name: imported a module, opened a file, listed a folder."""

    IMPORT = "import"
    OPEN = "open"
    LIST = "list"


def span_bits(spans: Collection[Span]) -> int:
    """The lines of 1-based, inclusive spans as bits."""
    mask = 0
    for first, last in spans:
        mask |= ((1 << (last - first + 1)) - 1) << first
    return mask


class Witness(Protocol):
    """What can tell the contexts of a measured commit that used something; see Footprints."""

    def rows(self, path: str) -> Iterable[tuple[str, int]]: ...

    def running(self, path: str, spans: Collection[Span]) -> set[str]: ...

    def reading(self, readers: Readers, words: frozenset[str], own: Set[str]) -> set[str]: ...

    def measures(self, path: str) -> bool: ...

    def using(self, paths: Collection[str]) -> set[str]: ...

    def touching(self, kind: Touch, names: Collection[str]) -> set[str]: ...

    def touched(self, kind: Touch) -> Mapping[str, Collection[str]]: ...


class Footprints:
    """The footprints of one snapshot, read as they are asked for; close it after use."""

    def __init__(self, snapshot: Path) -> None:
        self._opened = opened(snapshot)
        self._db: sqlite3.Connection = self._opened.__enter__()
        self._rows: dict[str, list[tuple[str, int]]] = {}

    def close(self) -> None:
        """Give the file back."""
        self._opened.__exit__(None, None, None)

    def running(self, path: str, spans: Collection[Span]) -> set[str]:
        """Contexts that ran any line of the 1-based, inclusive spans of a file."""
        mask = span_bits(spans)
        return {context for context, bits in self.rows(path) if bits & mask}

    def reading(self, readers: Readers, words: frozenset[str], own: Set[str]) -> set[str]:
        """Contexts that ran functions which use one of the words, in `own` files also by name."""
        found: set[str] = set()
        for path, users in readers.users(words):
            mask = users.named if path in own else users.bits
            if mask:
                found.update(context for context, bits in self.rows(path) if bits & mask)
        return found

    def measures(self, path: str) -> bool:
        """Whether the file counts for coverage: all of its lines are recorded."""
        found = self._db.execute("SELECT 1 FROM file WHERE path = ?", (path,)).fetchone()
        return found is not None

    def using(self, paths: Collection[str]) -> set[str]:
        """Contexts that ran any line of the files."""
        wanted = json.dumps(sorted(paths))
        query = (
            "WITH wanted AS (SELECT value AS name FROM json_each(?)),"
            " ids AS (SELECT id FROM file WHERE path IN wanted)"
            " SELECT context FROM context WHERE id IN ("
            "SELECT context_id FROM covtrack_bits WHERE path IN wanted"
            " UNION SELECT context_id FROM line_bits WHERE file_id IN ids"
            " UNION SELECT context_id FROM arc WHERE file_id IN ids)"
        )
        return {context for (context,) in self._db.execute(query, (wanted,))}

    def touching(self, kind: Touch, names: Collection[str]) -> set[str]:
        """Contexts that touched any of the names in that way."""
        query = (
            "SELECT DISTINCT context FROM covtrack_touched JOIN context ON id = context_id"
            " WHERE kind = ? AND name IN (SELECT value FROM json_each(?))"
        )
        rows = self._db.execute(query, (kind.value, json.dumps(sorted(names))))
        return {context for (context,) in rows}

    def touched(self, kind: Touch) -> Mapping[str, Collection[str]]:
        """The contexts, by the name that they touched in that way."""
        found: dict[str, list[str]] = {}
        query = (
            "SELECT name, context FROM covtrack_touched JOIN context ON id = context_id"
            " WHERE kind = ?"
        )
        for name, context in self._db.execute(query, (kind.value,)):
            found.setdefault(name, []).append(context)
        return found

    def names(self, kind: Touch, without: Collection[str] = ()) -> set[str]:
        """Names touched in that way by other contexts than those."""
        query = (
            "SELECT DISTINCT name FROM covtrack_touched WHERE kind = ? AND context_id NOT IN"
            " (SELECT id FROM context WHERE context IN (SELECT value FROM json_each(?)))"
        )
        rows = self._db.execute(query, (kind.value, json.dumps(sorted(without))))
        return {name for (name,) in rows}

    def imported(self) -> set[str]:
        """Files that were imported: those that have a context of their own import."""
        query = "SELECT context FROM context WHERE context LIKE ?"
        return {
            name.removesuffix(IMPORTED) for (name,) in self._db.execute(query, (f"%{IMPORTED}",))
        }

    def rows(self, path: str) -> list[tuple[str, int]]:
        """(context, bits of the lines that it ran) of one file; a context may come twice."""
        if path not in self._rows:
            self._rows[path] = list(self._read_lines(path))
        return self._rows[path]

    def _read_lines(self, path: str) -> Iterator[tuple[str, int]]:
        of_context = " JOIN context ON context.id = context_id"
        query = f"SELECT context, numbits FROM covtrack_bits{of_context} WHERE path = ?"  # noqa: S608
        file = self._db.execute("SELECT id FROM file WHERE path = ?", (path,)).fetchone()
        for context, numbits in self._db.execute(query, (path,)):
            yield context, int.from_bytes(numbits, "little")
        if file is None:
            return
        query = f"SELECT context, numbits FROM line_bits{of_context} WHERE file_id = ?"  # noqa: S608
        for context, numbits in self._db.execute(query, file):
            yield context, int.from_bytes(numbits, "little")
        arcs: dict[str, int] = {}
        query = f"SELECT context, fromno, tono FROM arc{of_context} WHERE file_id = ?"  # noqa: S608
        for context, *ends in self._db.execute(query, file):
            for line in ends:
                if line > 0:
                    arcs[context] = arcs.get(context, 0) | 1 << line
        yield from arcs.items()
