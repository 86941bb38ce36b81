"""Measures the merge of several measured changes onto a measured tip, without running a test.

Lays the merged tree out and has it parsed as a job would; what ran comes from the snapshots.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.carrying import plan_moves
from jobs.choosing import choose_tests
from jobs.execution import parse_sources
from jobs.ground import Ground, set_up
from jobs.job import measure_snapshot
from jobs.merge import FileMove, MergePlan
from jobs.parsing import ParsedTree
from jobs.prospective import Gains, Joined, Part, Rows, Tip, find_gains, join, move_rows
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
from venv_builder.errors import UsageError
from venv_builder.progress import Listener, Noted, Stages


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenChange:
    """A measured change, and the measured commit below it that it is held against.

    `executed` are the commits of the change's tree: what ran at one of them ran for the change.
    """

    measured: Base
    against: Base
    executed: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospective:
    """The merged tree's figures.

    `tests` are all tests of the merged tree, `overlapping` those whose rows are put together.
    """

    measurement: Measurement
    gains: Gains
    tests: Mapping[str, TestRecord]
    overlapping: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: Mapping[str, float]


def join_changes(
    request: Request, tip: Base, changes: Sequence[OpenChange], target: Path, listener: Listener
) -> Prospective:
    """Write the snapshot of the request's commit, the merge of the changes onto the tip.

    The request's base is the tip. A change stands after those that it builds on. Raises
    UsageError where branches are measured in one and not in another.
    """
    stages = Stages(listener)
    _check_kind(tip, changes)
    request.places.scratch.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        held.callback(shutil.rmtree, request.places.scratch, ignore_errors=True)
        ground = set_up(request, stages, held)
        with stages.stage("parse"):
            reader = Reader(request, ground, parse_sources(request, ground))
        with stages.stage("select", f"what {len(changes)} changes reach together"):
            parts = [reader.part(change) for change in changes]
            branch = reader.tip(tip, parts)
        with stages.stage("merge"):
            joined = join(branch, parts)
            reader.write(tip, joined, target)
        with stages.stage("measure"):
            measurement = measure_snapshot(request, reader.parsed, target)
            gains = find_gains(branch, parts, reader.parsed.files, measurement)
        notes = (*ground.prepared.notes, *reader.notes)
    for note in notes:
        listener(Noted(sentence=note))
    return Prospective(
        measurement=measurement,
        gains=gains,
        tests=joined.tests,
        overlapping=joined.overlapping,
        notes=notes,
        seconds=dict(stages.seconds),
    )


def _check_kind(tip: Base, changes: Iterable[OpenChange]) -> None:
    for change in changes:
        if has_arcs(change.measured.snapshot) != has_arcs(tip.snapshot):
            raise UsageError(
                f"Of {change.measured.commit[:10]} and the tip only one measures branches: their "
                "figures cannot be joined.",
                advice="Leave the change out, or set branch_coverage for the project.",
            )


class Reader:
    """Reads measured commits as they stand from the merged tree."""

    def __init__(self, request: Request, ground: Ground, parsed: ParsedTree) -> None:
        self.request = request
        self.ground = ground
        self.parsed = parsed
        self.notes: list[str] = []
        self._seen: tuple[str, Ground] | None = None  # one alone: each may hold a tree's outlines
        self._moves: dict[str, Mapping[str, FileMove]] = {}
        self._known: dict[str, Mapping[str, TestRecord]] = {}

    def part(self, change: OpenChange) -> Part:
        """One change: what ran for it, and what else of the merged tree reaches that."""
        tests, before = self.tests(change.measured), self.tests(change.against)
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
        """The tip, with the rows of all that the parts may change."""
        tests = self.tests(tip)
        reached = self._reached(tip, tests)
        fresh = reached.union(*(part.fresh for part in parts))
        executed = {"": read_executed(tip.snapshot)}
        return Tip(
            tests=tests,
            reached=reached,
            rows=self._rows(tip, fresh, tests),
            covered=move_rows(executed, self._moves_of(tip))[""],
        )

    def write(self, tip: Base, joined: Joined, target: Path) -> None:
        """Write the joined snapshot: the tip's rows moved, but for those that are joined anew."""
        anew = self.request.places.scratch / "joined.coverage"
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

    def tests(self, base: Base) -> Mapping[str, TestRecord]:
        """All tests of a measured commit; read once."""
        if base.commit not in self._known:
            self._known[base.commit] = read_tests(base.snapshot)
        return self._known[base.commit]

    def _rows(self, base: Base, fresh: Iterable[str], tests: Mapping[str, TestRecord]) -> Rows:
        others = read_contexts(base.snapshot) - tests.keys()
        return move_rows(read_rows(base.snapshot, others.union(fresh)), self._moves_of(base))

    def _reached(self, base: Base, tests: Mapping[str, TestRecord]) -> frozenset[str]:
        """Tests of a measured commit that run otherwise in the merged tree, or may."""
        request = replace(self.request, base=base)
        selection = choose_tests(request, self._seen_from(base), tests, self.parsed.files)
        if not selection.carry:
            why = next(iter(selection.reasons.values()))
            self.notes.append(f"No test of {base.commit[:10]} is known to run so: {why}.")
        modules = {test: record.module for test, record in tests.items()}
        gone = (test for test, module in modules.items() if module in selection.gone)
        return find_reached_tests(selection, modules).union(gone)

    def _moves_of(self, base: Base) -> Mapping[str, FileMove]:
        if base.commit not in self._moves:
            self._moves[base.commit] = dict(plan_moves(self._seen_from(base), self.parsed))
        return self._moves[base.commit]

    def _seen_from(self, base: Base) -> Ground:
        """The merged tree's ground with that commit as its base."""
        if self._seen is None or self._seen[0] != base.commit:
            mirror, sha = self.request.mirror, self.request.commit.sha
            self._seen = base.commit, self.ground.based_on(mirror, base.commit, sha)
        return self._seen[1]
