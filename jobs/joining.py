"""Measures the merge of several measured changes onto a measured tip, without running a test.

Lays the merged tree out and has it parsed as a job would; what ran comes from the snapshots.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from jobs.choosing import find_reached_known, need_modules
from jobs.cut_footprints import BasisFootprints, CutFootprints
from jobs.cut_rows import rows_in
from jobs.cuts import Basis, Cut, changed
from jobs.execution import parse_sources
from jobs.footprint import Witness
from jobs.ground import Ground, set_up
from jobs.job import measure_executed
from jobs.measure import Executed
from jobs.merge import FileMove
from jobs.parsing import ParsedTree
from jobs.prospective import (
    Gains,
    Joined,
    Moved,
    Part,
    Tip,
    add_rows,
    contexts_touched,
    find_gains,
    join,
    move_rows,
)
from jobs.request import Base, Request
from jobs.results import Measurement
from jobs.snapshot import (
    Circumstances,
    TestRecord,
    has_arcs,
    read_circumstances,
    read_tests,
)
from jobs.tip_footprints import TipFootprints
from jobs.views import Views
from venv_builder.errors import UsageError
from venv_builder.progress import Listener, Noted, Stages


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenChange:
    """A measured change (a sha), cut from the measured commit below it that it is held against.

    `basis` is that commit's.
    """

    commit: str
    against: str
    cut: Cut
    basis: Basis


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
    request: Request, tip: Base, changes: Sequence[OpenChange], listener: Listener
) -> Prospective:
    """What the request's commit, the merge of the changes onto the tip, covers.

    The request's base is the tip. A change stands after those that it builds on. Raises
    UsageError where branches are measured in one and not in another.
    """
    stages = Stages(listener)
    _check_kind(tip, changes)
    request.places.scratch.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        held.callback(shutil.rmtree, request.places.scratch, ignore_errors=True)
        ground = set_up(request, stages, held)
        need_modules(request, ground)
        with stages.stage("parse"):
            reader = Reader(request, ground, parse_sources(request, ground))
        found = join_onto(reader, tip, changes, stages.stage)
        notes = (*ground.prepared.notes, *reader.notes)
    for note in notes:
        listener(Noted(sentence=note))
    return Prospective(
        measurement=found.measurement,
        gains=found.gains,
        tests=found.joined.tests,
        overlapping=found.joined.overlapping,
        notes=notes,
        seconds=dict(stages.seconds),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the join of all changes found."""

    joined: Joined
    measurement: Measurement
    gains: Gains


def join_onto(
    reader: Reader,
    tip: Base,
    changes: Sequence[OpenChange],
    stage: Callable[[str], AbstractContextManager[None]],
) -> Found:
    """The stages of a join on the ground of the merged tree."""
    with uncollected():
        with stage("select"):
            reader.views.prepare([(change.commit, change.against) for change in changes])
            parts = [reader.part(change) for change in changes]
            branch = reader.tip(tip, parts)
        with stage("merge"):
            joined = join(branch, parts)
        with stage("measure"):
            measurement = reader.measure(tip, joined)
            gains = find_gains(branch, parts, reader.parsed.files, measurement)
    return Found(joined=joined, measurement=measurement, gains=gains)


def _check_kind(tip: Base, changes: Iterable[OpenChange]) -> None:
    for change in changes:
        if change.cut.arcs != has_arcs(tip.snapshot):
            raise UsageError(
                f"Of {change.commit[:10]} and the tip only one measures branches: their "
                "figures cannot be joined.",
                advice="Leave the change out, or set branch_coverage for the project.",
            )


@contextmanager
def uncollected() -> Iterator[None]:
    """Without a search for garbage: what is read stays, and to go through it again takes long."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class Reader:
    """Reads measured commits as they stand from the merged tree."""

    def __init__(self, request: Request, ground: Ground, parsed: ParsedTree) -> None:
        self.request = request
        self.ground = ground
        self.parsed = parsed
        self.notes: list[str] = []
        self.views = Views(request.mirror, ground, request.commit.sha, parsed)
        self._moved: Moved = {}
        self._lines: dict[int, Executed] = {}
        self._tip: TipFootprints | None = None
        self._moves: dict[str, Mapping[str, FileMove]] = {}
        self._footprints: dict[int, BasisFootprints] = {}

    def part(self, change: OpenChange) -> Part:
        """One change: what ran for it, and what else of the merged tree reaches that."""
        cut, basis = change.cut, change.basis
        seen = self.views.beside(change.commit, change.against)
        moves = self.views.moves(seen)
        moves_before = self._moves_of(change.against)
        parted = {
            path
            for path in moves.keys() | moves_before.keys()
            if moves.get(path) is not moves_before.get(path)
        }
        now, before = rows_in(cut, basis, parted, self._lines)
        measured = changed(basis.measured, cut.measured)
        footprints = CutFootprints(self._footprints_of(basis), cut)
        return Part(
            commit=change.commit,
            fresh=cut.fresh,
            reached=self._reached(
                seen, change.commit, cut.fresh, cut.circumstances, measured, footprints
            ),
            gone=cut.gone,
            rows=move_rows(now, moves, self._moved),
            spared=changed(basis.spared, cut.spared),
            base_rows=move_rows(before, moves_before, self._moved),
        )

    def tip(self, tip: Base, parts: Sequence[Part]) -> Tip:
        """The tip, with the rows of all that the parts may change."""
        tests, rows = read_tests(tip.snapshot), TipFootprints(tip.snapshot)
        under, seen = read_circumstances(tip.snapshot), self.views.whole(tip.commit)
        self._tip = rows
        moves = self._moves_of(tip.commit)
        return Tip(
            tests=tests,
            reached=self._reached(seen, tip.commit, tests, under, rows.measured, rows),
            rows=move_rows(rows.read_rows(contexts_touched(parts)), moves),
            covered=move_rows({"": rows.executed()}, moves)[""],
        )

    def measure(self, tip: Base, joined: Joined) -> Measurement:
        """What the tip's rows cover, moved, but for those that are joined anew, and these."""
        assert self._tip is not None
        kept = move_rows({"": self._tip.executed(joined.dropped)}, self._moves_of(tip.commit))[""]
        return measure_executed(self.request, self.parsed, add_rows(kept, joined.rows))

    def _footprints_of(self, basis: Basis) -> BasisFootprints:
        """The same for all changes that are held against one commit."""
        return self._footprints.setdefault(id(basis), BasisFootprints(basis))

    def _reached(
        self,
        seen: Ground,
        commit: str,
        tests: Mapping[str, TestRecord],
        under: Circumstances | None,
        measured: Collection[str],
        footprints: Witness,
    ) -> frozenset[str]:
        """Tests of a measured commit that run otherwise in the merged tree, or may."""
        reached, why = find_reached_known(
            seen, tests, under, measured, footprints, self.parsed.files
        )
        if why:
            self.notes.append(f"No test of {commit[:10]} is known to run so: {why}.")
        return reached

    def _moves_of(self, commit: str) -> Mapping[str, FileMove]:
        if commit not in self._moves:
            self._moves[commit] = self.views.moves(self.views.whole(commit))
        return self._moves[commit]
