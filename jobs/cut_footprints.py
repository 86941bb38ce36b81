"""The footprints of a change, from its cut and the basis that it differs from.

Of tests it knows those alone that ran for the change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from functools import cached_property

from jobs.comparison import Span
from jobs.cuts import Basis, Cut, Table, Traces, changed
from jobs.footprint import Touch, span_bits
from jobs.readers import Readers, Users

PathRows = dict[str, int]
# Contexts that ran what uses a word as such, and those that ran what also uses it by name.
Hits = tuple[set[str], set[str]]


class BasisFootprints:
    """What the contexts of a basis used, by path and by what they touched."""

    def __init__(self, basis: Basis) -> None:
        self.basis = basis
        self._hits: dict[tuple[int, frozenset[str]], tuple[Readers, dict[str, Hits]]] = {}

    @cached_property
    def rows(self) -> Mapping[str, PathRows]:
        """By path and context, the lines that ran, as bits."""
        found: dict[str, PathRows] = {}
        for context, path in _pairs(self.basis.traces):
            found.setdefault(path, {})[context] = _bits(self.basis.traces, context, path)
        return found

    @cached_property
    def touching(self) -> Mapping[str, set[str]]:
        """By "KIND NAME", the contexts that touched it."""
        found: dict[str, set[str]] = {}
        for context, touched in self.basis.traces.touched.items():
            for what in touched:
                found.setdefault(what, set()).add(context)
        return found

    def reading(self, readers: Readers, words: frozenset[str]) -> Mapping[str, Hits]:
        """By path, contexts that ran functions which use one of the words; where there are any."""
        key = id(readers), words
        if key not in self._hits:
            self._hits[key] = (readers, dict(self._find_hits(readers, words)))
        return self._hits[key][1]

    def _find_hits(self, readers: Readers, words: frozenset[str]) -> Iterator[tuple[str, Hits]]:
        for path, users in readers.own(words).items():
            ran = self.rows.get(path, {}).items()
            named = {context for context, bits in ran if bits & users.named}
            if named:
                yield path, ({context for context, bits in ran if bits & users.bits}, named)


class CutFootprints:
    """Answers as jobs.footprint.Footprints would of the whole snapshot, of what the cut knows."""

    def __init__(self, basis: BasisFootprints, cut: Cut) -> None:
        self._basis = basis
        self._cut = cut
        self._measured = changed(basis.basis.measured, cut.measured)

    @cached_property
    def _changed(self) -> Mapping[str, PathRows]:
        """The rows of the paths in which the change differs."""
        found: dict[str, PathRows] = {}
        now, before = self._cut.now, self._cut.before
        for context, path in {*_pairs(now), *_pairs(before)}:
            if path not in found:
                found[path] = dict(self._basis.rows.get(path, {}))
            # Of tests that ran for the change, all rows are in the cut.
            fresh = context in self._cut.fresh
            bits = _bits_of(now, context, path) if fresh else self._bits_now(context, path)
            if bits is None:
                found[path].pop(context, None)
            else:
                found[path][context] = bits
        return found

    def _bits_now(self, context: str, path: str) -> int | None:
        """The lines of a row as it is now; None where there is none."""
        bits, there = 0, False
        for name in ("lines", "arcs", "uses"):
            now = getattr(self._cut.now, name).get(context, {}).get(path)
            if now is None and path not in getattr(self._cut.before, name).get(context, {}):
                now = getattr(self._basis.basis.traces, name).get(context, {}).get(path)
            if now is not None:
                there = True
                bits |= now if isinstance(now, int) else _ends(now)
        return bits if there else None

    def _rows_of(self, path: str) -> PathRows:
        found = self._changed.get(path)
        return self._basis.rows.get(path, {}) if found is None else found

    def rows(self, path: str) -> Iterable[tuple[str, int]]:
        """(context, bits of the lines that it ran) of one file."""
        return self._rows_of(path).items()

    def running(self, path: str, spans: Collection[Span]) -> set[str]:
        """Contexts that ran any line of the 1-based, inclusive spans of a file."""
        mask = span_bits(spans)
        return {context for context, bits in self._rows_of(path).items() if bits & mask}

    def reading(self, readers: Readers, words: frozenset[str], own: Set[str]) -> set[str]:
        """Contexts that ran functions which use one of the words, in `own` files also by name."""
        near, found = readers.near or readers, set[str]()
        for path, hits in self._basis.reading(near, words).items():
            if path not in self._changed and path not in readers.differ:
                found |= hits[path in own]
        for tree in (near,) if near is readers else (near, readers):
            users = tree.own(words)
            for path in self._changed.keys() & users.keys():
                if tree is readers or path not in readers.differ:
                    found |= self._hit(path, users[path], named=path in own)
        if readers is not near:
            for path, user in readers.own(words).items():
                if path not in self._changed:
                    found |= self._hit(path, user, named=path in own)
        return found

    def _hit(self, path: str, users: Users, *, named: bool) -> set[str]:
        mask = users.named if named else users.bits
        return {context for context, bits in self._rows_of(path).items() if bits & mask}

    def measures(self, path: str) -> bool:
        """Whether the file counts for coverage: all of its lines are recorded."""
        return path in self._measured

    def using(self, paths: Collection[str]) -> set[str]:
        """Contexts that ran any line of the files."""
        return {context for path in paths for context in self._rows_of(path)}

    @cached_property
    def _touching(self) -> Mapping[str, set[str]]:
        """By "KIND NAME", the contexts that touched it, where the change differs."""
        found: dict[str, set[str]] = {}
        before, now = self._cut.before.touched, self._cut.now.touched
        for touched in (before, now):
            for what in {what for names in touched.values() for what in names}:
                found.setdefault(what, set(self._basis.touching.get(what, ())))
        for context, names in before.items():
            for what in names:
                found[what].discard(context)
        for context, names in now.items():
            for what in names:
                found[what].add(context)
        return found

    def touching(self, kind: Touch, names: Collection[str]) -> set[str]:
        """Contexts that touched any of the names in that way."""
        found: set[str] = set()
        for name in names:
            what = f"{kind.value} {name}"
            found |= self._touching.get(what, self._basis.touching.get(what, set()))
        return found

    def touched(self, kind: Touch) -> Mapping[str, Collection[str]]:
        """The contexts, by the name that they touched in that way."""
        prefix = f"{kind.value} "
        found = {**self._basis.touching, **self._touching}
        return {
            what.removeprefix(prefix): contexts
            for what, contexts in found.items()
            if what.startswith(prefix)
        }


def _pairs(traces: Traces) -> Iterator[tuple[str, str]]:
    tables: tuple[Table, ...] = (traces.lines, traces.arcs, traces.uses)
    for table in tables:
        for context, found in table.items():
            for path in found:
                yield context, path


def _bits(traces: Traces, context: str, path: str) -> int:
    bits = traces.lines.get(context, {}).get(path, 0) | traces.uses.get(context, {}).get(path, 0)
    return bits | _ends(traces.arcs.get(context, {}).get(path, ()))


def _bits_of(traces: Traces, context: str, path: str) -> int | None:
    """The lines of a row; None where there is none."""
    lines, uses = traces.lines.get(context, {}).get(path), traces.uses.get(context, {}).get(path)
    if traces.arcs:
        arcs = traces.arcs.get(context, {}).get(path)
        if arcs is not None:
            return _ends(arcs) | (lines or 0) | (uses or 0)
    return None if lines is None and uses is None else (lines or 0) | (uses or 0)


def _ends(arcs: Iterable[tuple[int, int]]) -> int:
    bits = 0
    for line in {line for arc in arcs for line in arc if line > 0}:
        bits |= 1 << line
    return bits
