"""What prospective coverage needs of a measured change, kept beside its snapshot.

A change differs from the commit that it is held against in a few of hundreds of thousands of
rows. A cut holds those, and all rows of the tests that ran for the change; a basis holds what of
that commit belongs to no test. Nothing here knows of trees: two snapshots make a cut.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.measure import Arc
from jobs.snapshot import (
    Circumstances,
    TestRecord,
    has_arcs,
    opened,
    read_circumstances,
    read_contexts,
    read_measured,
    read_tests,
)

Table = Mapping[str, Mapping[str, Any]]
LINES = (
    "SELECT context_id, path, numbits FROM line_bits JOIN file ON file.id = file_id"
    " WHERE context_id IN (SELECT id FROM chosen)"
)
USES = (
    "SELECT context_id, path, numbits FROM covtrack_bits"
    " WHERE context_id IN (SELECT id FROM chosen)"
)
ARCS = (
    "SELECT context_id, path, fromno, tono FROM arc JOIN file ON file.id = file_id"
    " WHERE context_id IN (SELECT id FROM chosen)"
)
TOUCHED = (
    "SELECT context_id, kind, name FROM covtrack_touched"
    " WHERE context_id IN (SELECT id FROM chosen)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What contexts left, by context and path, or by context, kind and name touched.

    `lines` are bits of measured files, `uses` of others, `arcs` stand in place of lines where
    branches are measured; `touched` maps "KIND NAME" to 1.
    """

    lines: Mapping[str, Mapping[str, int]]
    arcs: Mapping[str, Mapping[str, frozenset[Arc]]]
    uses: Mapping[str, Mapping[str, int]]
    touched: Mapping[str, Mapping[str, int]]


TABLES = ("lines", "arcs", "uses", "touched")


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What of a snapshot belongs to no test; its measured files, and its tests that are spared."""

    measured: frozenset[str]
    spared: frozenset[str]
    traces: Traces


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A change's snapshot as far as it differs from that of the commit it is held against.

    `fresh` are the tests that ran at one of the commits `executed`, `ran` all commits at which
    some test did. `now` and `before` are the rows of the change and of that commit: all of the
    fresh tests, and of what is no test those that differ. `spared` and `measured` are what is
    added and what is gone.
    """

    executed: frozenset[str]
    ran: frozenset[str]
    fresh: Mapping[str, TestRecord]
    gone: frozenset[str]
    spared: tuple[frozenset[str], frozenset[str]]
    measured: tuple[frozenset[str], frozenset[str]]
    circumstances: Circumstances | None
    arcs: bool
    now: Traces
    before: Traces


def read_ran(snapshot: Path) -> frozenset[str]:
    """The commits at which the snapshot's tests ran last."""
    with opened(snapshot) as db:
        return frozenset(
            sha for (sha,) in db.execute("SELECT DISTINCT executed FROM covtrack_test")
        )


def make_basis(snapshot: Path) -> Basis:
    """Read the basis of a whole snapshot."""
    tests = read_tests(snapshot)
    return Basis(
        measured=read_measured(snapshot),
        spared=_spared(tests),
        traces=read_traces(snapshot, read_contexts(snapshot) - tests.keys()),
    )


def make_cut(snapshot: Path, against: Path, executed: Collection[str]) -> Cut:
    """Cut a change's whole snapshot, held against another; what ran at `executed` is its own."""
    tests, before = read_tests(snapshot), read_tests(against)
    ran = frozenset(record.executed for record in tests.values())
    own = ran.intersection(executed)
    fresh = {test: record for test, record in tests.items() if record.executed in own}
    measured, known = read_measured(snapshot), read_measured(against)
    others = read_contexts(snapshot) - tests.keys()
    others_before = read_contexts(against) - before.keys()
    now, was = _part(
        read_traces(snapshot, others.union(fresh)),
        read_traces(against, others_before.union(fresh)),
        fresh.keys(),
    )
    return Cut(
        executed=own,
        ran=ran,
        fresh=fresh,
        gone=frozenset(before.keys() - tests.keys()),
        spared=_change(_spared(tests), _spared(before)),
        measured=_change(measured, known),
        circumstances=read_circumstances(snapshot),
        arcs=has_arcs(snapshot),
        now=now,
        before=was,
    )


def _spared(tests: Mapping[str, TestRecord]) -> frozenset[str]:
    return frozenset(test for test, record in tests.items() if record.spared)


def _change(now: frozenset[str], before: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    return now - before, before - now


def changed(before: frozenset[str], change: tuple[Set[str], Set[str]]) -> frozenset[str]:
    """The set with what a change added and without what it took away."""
    added, gone = change
    return (before - gone) | added


def _part(now: Traces, before: Traces, fresh: Set[str]) -> tuple[Traces, Traces]:
    """Both sides without what is the same in them, but all of the fresh tests."""
    sides = [
        (
            _lacking(getattr(now, table), getattr(before, table), fresh),
            _lacking(getattr(before, table), getattr(now, table), fresh),
        )
        for table in TABLES
    ]
    one, other = zip(*sides, strict=True)
    return Traces(**dict(zip(TABLES, one, strict=True))), Traces(
        **dict(zip(TABLES, other, strict=True))
    )


def _lacking(mine: Table, other: Table, fresh: Set[str]) -> Table:
    found: dict[str, Mapping[str, Any]] = {}
    for context, values in mine.items():
        there = {} if context in fresh else other.get(context, {})
        kept = {key: value for key, value in values.items() if there.get(key) != value}
        if kept:
            found[context] = kept
    return found


def read_traces(snapshot: Path, contexts: Set[str]) -> Traces:
    """All that some contexts left in a whole snapshot."""
    with opened(snapshot) as db:
        names = {
            number: name
            for number, name in db.execute("SELECT id, context FROM context")
            if name in contexts
        }
        db.execute("CREATE TEMP TABLE chosen (id INTEGER PRIMARY KEY)")
        db.executemany("INSERT INTO chosen VALUES (?)", ((number,) for number in names))
        arcs: dict[tuple[int, str], set[Arc]] = {}
        for number, path, *arc in db.execute(ARCS):
            arcs.setdefault((number, path), set()).add((arc[0], arc[1]))
        ended = ((number, path, frozenset(found)) for (number, path), found in arcs.items())
        touched = ((number, f"{kind} {name}", 1) for number, kind, name in db.execute(TOUCHED))
        return Traces(
            lines=_by_context(names, _bits(db, LINES)),
            arcs=_by_context(names, ended),
            uses=_by_context(names, _bits(db, USES)),
            touched=_by_context(names, touched),
        )


def _bits(db: sqlite3.Connection, query: str) -> Iterator[tuple[int, str, int]]:
    for number, path, numbits in db.execute(query):
        yield number, path, int.from_bytes(numbits, "little")


def _by_context(
    names: Mapping[int, str], rows: Iterable[tuple[int, str, Any]]
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for number, key, value in rows:
        found.setdefault(names[number], {})[key] = value
    return found
