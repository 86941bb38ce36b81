"""All rows of one snapshot, read once: for questions that ask for most of them.

Of a file, many contexts ran the same lines: these are kept once, with the contexts. Answers as
jobs.footprint.Footprints does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from pathlib import Path

from jobs.comparison import Span
from jobs.footprint import Touch, span_bits
from jobs.measure import Arc, Executed
from jobs.readers import Readers
from jobs.snapshot import lines_of_bits, opened

Groups = dict[int, list[str]]
LINES = "SELECT path, numbits, context_id FROM line_bits JOIN file ON file.id = file_id"
USES = "SELECT path, numbits, context_id FROM covtrack_bits"
ARCS = "SELECT path, fromno, tono, context_id FROM arc JOIN file ON file.id = file_id"
TOUCHED = "SELECT kind, name, context_id FROM covtrack_touched"


class TipFootprints:
    """The rows of a snapshot, by path, lines (as bits) or arcs, and contexts."""

    def __init__(self, snapshot: Path) -> None:
        with opened(snapshot) as db:
            self._names = dict(db.execute("SELECT id, context FROM context"))
            self._measured = {path for (path,) in db.execute("SELECT path FROM file")}
            self._lines = self._read(db, LINES)
            self._uses = self._read(db, USES)
            self._arcs: dict[str, dict[Arc, list[str]]] = {}
            for path, start, end, number in db.execute(ARCS):
                arcs = self._arcs.setdefault(path, {})
                arcs.setdefault((start, end), []).append(self._names[number])
            self._touched: dict[str, dict[str, list[str]]] = {}
            for kind, name, number in db.execute(TOUCHED):
                names = self._touched.setdefault(kind, {})
                names.setdefault(name, []).append(self._names[number])

    def _read(self, db: sqlite3.Connection, query: str) -> dict[str, Groups]:
        found: dict[str, dict[bytes, list[str]]] = {}
        for path, numbits, number in db.execute(query):
            groups = found.setdefault(path, {})
            groups.setdefault(numbits, []).append(self._names[number])
        return {
            path: {int.from_bytes(numbits, "little"): names for numbits, names in groups.items()}
            for path, groups in found.items()
        }

    def _groups(self, path: str) -> Iterator[tuple[int, Collection[str]]]:
        yield from self._lines.get(path, {}).items()
        yield from self._uses.get(path, {}).items()
        for arc, contexts in self._arcs.get(path, {}).items():
            yield sum(1 << line for line in {*arc} if line > 0), contexts

    @property
    def measured(self) -> Set[str]:
        """The files that count."""
        return self._measured

    def rows(self, path: str) -> Iterable[tuple[str, int]]:
        """(context, bits of the lines that it ran) of one file; a context may come twice."""
        return [(context, bits) for bits, found in self._groups(path) for context in found]

    def running(self, path: str, spans: Collection[Span]) -> set[str]:
        """Contexts that ran any line of the 1-based, inclusive spans of a file."""
        return self._running(path, span_bits(spans))

    def reading(self, readers: Readers, words: frozenset[str], own: Set[str]) -> set[str]:
        """Contexts that ran functions which use one of the words, in `own` files also by name."""
        found: set[str] = set()
        for path, users in readers.users(words):
            mask = users.named if path in own else users.bits
            if mask:
                found |= self._running(path, mask)
        return found

    def _running(self, path: str, mask: int) -> set[str]:
        groups = (contexts for bits, contexts in self._groups(path) if bits & mask)
        return {context for contexts in groups for context in contexts}

    def measures(self, path: str) -> bool:
        """Whether the file counts for coverage: all of its lines are recorded."""
        return path in self._measured

    def using(self, paths: Collection[str]) -> set[str]:
        """Contexts that ran any line of the files."""
        groups = (contexts for path in paths for _, contexts in self._groups(path))
        return {context for contexts in groups for context in contexts}

    def touching(self, kind: Touch, names: Collection[str]) -> set[str]:
        """Contexts that touched any of the names in that way."""
        touched = self._touched.get(kind.value, {})
        return {context for name in names for context in touched.get(name, ())}

    def touched(self, kind: Touch) -> Mapping[str, Collection[str]]:
        """The contexts, by the name that they touched in that way."""
        return self._touched.get(kind.value, {})

    def read_rows(self, contexts: frozenset[str]) -> dict[str, dict[str, Executed]]:
        """What each of the contexts ran of measured files, as jobs.snapshot.read_rows tells it."""
        found: dict[str, dict[str, Executed]] = {}
        known: dict[int, Executed] = {}
        for path, groups in self._lines.items():
            for bits, names in groups.items():
                for context in contexts.intersection(names):
                    if bits not in known:
                        known[bits] = Executed(lines=lines_of_bits(bits))
                    found.setdefault(context, {})[path] = known[bits]
        arcs: dict[tuple[str, str], set[Arc]] = {}
        for path, ended in self._arcs.items():
            for arc, names in ended.items():
                for context in contexts.intersection(names):
                    arcs.setdefault((context, path), set()).add(arc)
        for (context, path), ran in arcs.items():
            found.setdefault(context, {})[path] = Executed(arcs=frozenset(ran))
        return found

    def executed(self, without: frozenset[str] = frozenset()) -> dict[str, Executed]:
        """All that ran of each measured file, whatever the context, but for some contexts."""
        return {path: self._executed(path, without) for path in self._measured}

    def _executed(self, path: str, without: frozenset[str]) -> Executed:
        bits = 0
        for lines, contexts in self._lines.get(path, {}).items():
            if bits | lines != bits and not without.issuperset(contexts):
                bits |= lines
        arcs = {
            arc
            for arc, contexts in self._arcs.get(path, {}).items()
            if not without.issuperset(contexts)
        }
        lines_of_arcs = frozenset(line for arc in arcs for line in arc if line > 0)
        return Executed(lines=lines_of_arcs if arcs else lines_of_bits(bits), arcs=frozenset(arcs))
