"""Prospective coverage read from whole snapshots: the plain way, which cuts have to equal.

Every change's snapshot and that of the commit it is held against are read in full; the selection
and the moves are those of a job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.carrying import plan_moves
from jobs.choosing import choose_tests
from jobs.ground import Ground
from jobs.job import measure_snapshot
from jobs.merge import FileMove, MergePlan
from jobs.parsing import ParsedTree
from jobs.prospective import Joined, Part, Rows, Tip, move_rows
from jobs.request import Base, Request
from jobs.results import Measurement
from jobs.selection import find_reached_tests
from jobs.snapshot import (
    TestRecord,
    has_arcs,
    read_contexts,
    read_executed,
    read_rows,
    read_tests,
)
from jobs.snapshot_writing import write_rows, write_snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeChange:
    """A measured change, held against a measured commit; what ran at `executed` ran for it."""

    measured: Base
    against: Base
    executed: frozenset[str]


class WholeReader:
    """Reads measured commits as they stand from the merged tree."""

    def __init__(self, request: Request, ground: Ground, parsed: ParsedTree) -> None:
        self.request = request
        self.ground = ground
        self.parsed = parsed
        self.notes: list[str] = []

    def part(self, change: WholeChange) -> Part:
        tests, before = read_tests(change.measured.snapshot), read_tests(change.against.snapshot)
        fresh = {test: r for test, r in tests.items() if r.executed in change.executed}
        return Part(
            commit=change.measured.commit,
            fresh=fresh,
            reached=self._reached(change.measured, tests),
            gone=frozenset(before.keys() - tests.keys()),
            rows=self._rows(change.measured, fresh, tests),
            spared=frozenset(test for test, record in tests.items() if record.spared),
            base_rows=self._rows(change.against, fresh, before),
        )

    def tip(self, tip: Base, parts: Iterable[Part]) -> Tip:
        tests = read_tests(tip.snapshot)
        reached = self._reached(tip, tests)
        fresh = reached.union(*(part.fresh for part in parts))
        executed = {"": read_executed(tip.snapshot)}
        return Tip(
            tests=tests,
            reached=reached,
            rows=self._rows(tip, fresh, tests),
            covered=move_rows(executed, self._moves_of(tip))[""],
        )

    def measure(self, tip: Base, joined: Joined, target: Path) -> Measurement:
        """Write the joined snapshot, and measure what it says."""
        anew = target.with_name("anew.coverage")
        write_rows(anew, joined.rows, arcs=has_arcs(tip.snapshot))
        write_snapshot(
            target,
            base=tip.snapshot,
            plan=MergePlan(dropped=joined.dropped, moves=self._moves_of(tip)),
            fresh=[anew],
            tests=joined.tests.values(),
            measured=self.parsed.files.keys(),
            key=self.ground.key,
            circumstances=self.ground.circumstances,
        )
        return measure_snapshot(self.request, self.parsed, target)

    def _rows(self, base: Base, fresh: Iterable[str], tests: Mapping[str, TestRecord]) -> Rows:
        others = read_contexts(base.snapshot) - tests.keys()
        return move_rows(read_rows(base.snapshot, others.union(fresh)), self._moves_of(base))

    def _reached(self, base: Base, tests: Mapping[str, TestRecord]) -> frozenset[str]:
        request = replace(self.request, base=base)
        selection = choose_tests(request, self._seen_from(base), tests, self.parsed.files)
        if not selection.carry:
            why = next(iter(selection.reasons.values()))
            self.notes.append(f"No test of {base.commit[:10]} is known to run so: {why}.")
        modules = {test: record.module for test, record in tests.items()}
        gone = (test for test, module in modules.items() if module in selection.gone)
        return find_reached_tests(selection, modules).union(gone)

    def _moves_of(self, base: Base) -> Mapping[str, FileMove]:
        return dict(plan_moves(self._seen_from(base), self.parsed))

    def _seen_from(self, base: Base) -> Ground:
        """By git's own diff of the two trees."""
        mirror, sha = self.request.mirror, self.request.commit.sha
        return replace(
            self.ground,
            diff=mirror.diff(base.commit, sha),
            base_blobs=mirror.blobs(base.commit),
        )


def read_ran(snapshot: Path) -> frozenset[str]:
    """The commits at which the snapshot's tests ran last."""
    return frozenset(record.executed for record in read_tests(snapshot).values())
