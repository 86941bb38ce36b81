"""Runs of the affected tests as many as prove every line, round by round.

Reads what the base's contexts ran and what the workers recorded; `jobs.sufficient` decides. Where
the job has a budget, it goes as far as that reaches, and says what it leaves open.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import inf

from jobs.bounds import Bounds
from jobs.carrying import find_gone, plan_moves
from jobs.execution import Execution, Ran
from jobs.measure import covered_statements, missing_branches
from jobs.merge import contexts_to_drop
from jobs.results import Select
from jobs.rows import RowReader, Rows
from jobs.runner import WorkerResult
from jobs.selection import Selection, find_reached_tests, narrow
from jobs.snapshot import has_arcs, read_contexts
from jobs.sufficient import (
    Bits,
    Candidate,
    Doubt,
    afford,
    choose_first,
    choose_more,
    one_of_each_way,
    subtract,
    unite,
)
from jobs.suite import TestModule
from jobs.unfinished import Unfinished

# Of the affected tests' seconds, the part above which to choose among them cannot pay.
WORTH_CHOOSING = 0.8


def run_tests(
    execution: Execution, selection: Selection
) -> tuple[Selection, Ran, Unfinished | None]:
    """Run what was selected, and tell what of it ran, and what the budget left open, if it did.

    Where the selection has bounds, affected tests are spared if others prove their lines. Tests
    that were spared before are run where what proved their lines did so no more.
    """
    modules = {test: record.module for test, record in execution.known.items()}
    only = execution.request.only
    if not selection.carry or only is not None or execution.request.append:
        if only is not None and selection.carry:
            selection = narrow(selection, modules, only)
        execution.run(selection)
        return selection, execution.ran(), None
    proof = Proof(execution, selection, modules)
    chosen = proof.first()
    begin = proof.narrowed(chosen) if chosen != proof.affected else selection
    results = execution.run(begin)
    wanted: frozenset[str] = frozenset()
    while all(result.finished for result in results):
        chosen |= proof.take(results)
        wanted = proof.more(chosen) - chosen
        tests = proof.afford(wanted, chosen)
        if not tests:
            break
        chosen |= tests
        results = execution.run(proof.part(tests))
    if not wanted or not all(result.finished for result in results):
        return proof.what_ran(chosen), execution.ran(), None
    left = proof.unfinished(wanted, chosen)
    return replace(proof.what_ran(chosen), pending=left.pending), execution.ran(), left


class Proof:
    """What proves the lines of one job: tests and imports that nothing reached, and what ran."""

    def __init__(
        self, execution: Execution, selection: Selection, modules: Mapping[str, str]
    ) -> None:
        assert execution.request.base is not None
        self.execution, self.modules = execution, modules
        self.base = execution.request.base.snapshot
        names = frozenset(module.name for module in selection.run)
        self.selection = selection if selection.bounds else replace(selection, loaded=names)
        self.bounds = selection.bounds or Bounds(forced=frozenset(), ways={}, doubts=())
        self.affected = find_reached_tests(selection, modules)
        budget, select = execution.request.budget, execution.request.select
        self.budget = inf if budget is None or select is Select.CHANGED else budget
        self.is_cut = False
        self.proven: Bits = {}
        self.earlier = frozenset(t for t, r in execution.known.items() if r.spared)
        self.rounds = 0
        self.ran = Ran(workers=(), outcomes=(), parsed=execution.parsed)
        self.fresh: Rows = {}
        self.reader = RowReader(execution.parsed.files, arcs=has_arcs(self.base))
        self.moves = dict(plan_moves(execution.ground, execution.parsed))

    @cached_property
    def rows(self) -> Rows:
        """The base's rows at the new tree's lines."""
        return self.reader.read(self.base, self.moves)

    @cached_property
    def contexts(self) -> frozenset[str]:
        """Every context of the base."""
        return read_contexts(self.base)

    @cached_property
    def covered_before(self) -> Bits:
        """All that ran in the base, at the new tree's lines."""
        return unite(self.rows.values())

    @cached_property
    def candidates(self) -> Mapping[str, Candidate]:
        """The affected tests, and those that were spared before."""
        return {
            test: Candidate(
                test=test,
                seconds=self.execution.known[test].seconds,
                ran=self.rows.get(test, {}),
                group=self.bounds.ways.get(test),
            )
            for test in self.affected | self.earlier
        }

    def first(self) -> frozenset[str]:
        """The affected tests to begin with: all where none may be spared, or it would not pay.

        Of those, as many as the budget reaches.
        """
        if self.selection.bounds is None:
            return self.affected
        safe = unite(self._carried(self._dropped((), frozenset())))
        forced = self.bounds.forced
        chosen = choose_first(self.candidates, forced, safe)
        whole, part = self._seconds(self.affected), self._seconds(chosen)
        fits = whole <= self.budget
        if self.all_run or (part > WORTH_CHOOSING * whole and fits):
            chosen = self.affected
        if fits:
            return chosen
        at_risk = subtract(unite(c.ran for c in self.candidates.values()), safe)
        return self._afford(chosen, forced, at_risk, frozenset())

    @property
    def all_run(self) -> bool:
        """Whether each affected test is to run, though not all lines need it."""
        return self.execution.request.select is Select.AFFECTED_ALL

    def afford(self, wanted: frozenset[str], chosen: frozenset[str]) -> frozenset[str]:
        """Of the tests that have to run beside the `chosen`, as many as the budget reaches."""
        if not wanted or self.budget == inf:
            return wanted
        at_risk = subtract(unite(c.ran for c in self._not_run(chosen).values()), self.proven)
        return self._afford(wanted, (), at_risk, chosen)

    def unfinished(self, wanted: frozenset[str], chosen: frozenset[str]) -> Unfinished:
        """What is open where the `wanted` tests do not run beside the `chosen`."""
        not_run = self._not_run(chosen)
        taken = self._ways(chosen) - frozenset(self._surprised())
        between = self.bounds.between.items()
        return Unfinished(
            budget=self.budget,
            tests_affected=len(self.affected),
            tests_run=len(self.affected & chosen),
            left={test: self.candidates[test] for test in wanted},
            pending=frozenset(not_run),
            lost=frozenset(context for context, tests in between if tests & not_run.keys()),
            ways_left=len(self._ways(wanted) - taken - {None}),
            doubts=self.bounds.doubts,
            affected=self.affected,
            rows=self.rows,
            reader=self.reader,
            parsed=self.execution.parsed.files,
        )

    def _not_run(self, chosen: frozenset[str]) -> Mapping[str, Candidate]:
        asked = chosen.union(outcome.test for outcome in self.ran.outcomes)
        return {test: c for test, c in self.candidates.items() if test not in asked}

    def _afford(
        self,
        wanted: frozenset[str],
        forced: Collection[str],
        at_risk: Bits,
        chosen: frozenset[str],
    ) -> frozenset[str]:
        reached = afford(
            wanted,
            self.candidates,
            forced=forced,
            wanted=at_risk,
            taken=self._ways(chosen),
            seconds=self.budget - self._seconds(chosen),
        )
        self.is_cut |= reached != wanted
        return reached

    def _seconds(self, tests: Iterable[str]) -> float:
        known = self.execution.known
        return sum(known[test].seconds for test in tests if test in known)

    def _ways(self, tests: Iterable[str]) -> frozenset[int | None]:
        """The ways of tests through what changed."""
        return frozenset(self.bounds.ways.get(test) for test in tests)

    def take(self, results: Sequence[WorkerResult]) -> frozenset[str]:
        """Take in what a round left; the known tests that ran until now, asked for or not."""
        self.rounds += 1
        self.ran = self.execution.ran_so_far()
        ran = frozenset(o.test for o in self.ran.outcomes if o.test in self.modules)
        if (self.earlier | self.affected) - ran:
            for path in (path for result in results for path in result.data):
                for context, row in self.reader.read(path, {}).items():
                    self.fresh[context] = unite([self.fresh.get(context, {}), row])
        return ran

    def more(self, chosen: frozenset[str]) -> frozenset[str]:
        """What has to run beside the `chosen`, which ran."""
        if not (self.earlier | self.affected) - chosen or not self._may_lack(chosen):
            return frozenset()
        ran = {outcome.test for outcome in self.ran.outcomes}
        dropped = self._dropped(ran, chosen)
        proven = unite([*self._carried(dropped), *self.fresh.values()])
        spared, self.proven = self._not_run(chosen), proven
        more = choose_more(
            spared,
            proven,
            doubtful=any(self._is_open(doubt, proven) for doubt in self.bounds.doubts),
            groups=set(self._surprised()),
            exhaust=self.rounds > 1 and not self.is_cut,
        )
        more |= {test for test in self._around_lost(proven) if test in spared}
        return more.union(self._cut_off(spared, chosen))

    def _cut_off(self, spared: Mapping[str, Candidate], chosen: frozenset[str]) -> Iterable[str]:
        """What was to run from the start, and the budget did not reach."""
        if not self.is_cut:
            return ()
        if self.all_run:
            return self.affected & spared.keys()
        return (c.test for c in one_of_each_way(spared.values(), self._ways(chosen)))

    def part(self, tests: frozenset[str]) -> Selection:
        """The selection of a later round: just those tests, of what ran before nothing."""
        part = narrow(replace(self.selection, loaded=frozenset()), self.modules, tests)
        ran = {name for o in self.ran.outcomes for name in (o.test, _plain(o.test))}
        skip = frozenset({*part.skip, *(ran - tests)})
        return replace(part, run=self._modules_of(tests), skip=skip, imports=frozenset())

    def what_ran(self, chosen: frozenset[str]) -> Selection:
        """The selection as if just what ran had been selected; the rest is spared."""
        return replace(self.narrowed(chosen), spared=self.affected - chosen)

    def narrowed(self, chosen: frozenset[str]) -> Selection:
        """The selection with just the chosen of the known tests, whatever modules they are of."""
        run = self._modules_of(chosen, self.selection.loaded)
        return replace(narrow(self.selection, self.modules, chosen), run=run)

    def _modules_of(
        self, tests: Collection[str], loaded: Collection[str] = ()
    ) -> tuple[TestModule, ...]:
        """The modules of tests, and those of the names; not only of what was selected first."""
        names = {*(self.modules[test] for test in tests), *loaded}
        return tuple(m for m in self.execution.ground.modules if m.name in names)

    def _may_lack(self, chosen: frozenset[str]) -> bool:
        """Whether a line may have lost its proof: never where what ran, ran all of its old lines.

        Only asked where nothing is spared now, to leave most rows unread.
        """
        if self.selection.bounds is not None:
            return True
        dropped = self._dropped({outcome.test for outcome in self.ran.outcomes}, chosen)
        if not dropped:
            return False
        lost = subtract(
            unite(self.rows[context] for context in dropped if context in self.rows),
            unite(self.fresh.values()),
        )
        return bool(lost)

    def _dropped(self, ran: Collection[str], chosen: frozenset[str]) -> frozenset[str]:
        """Contexts of the base that prove nothing: those recorded anew, gone, or in doubt."""
        known = self.execution.known
        gone: frozenset[str] = frozenset()
        if self.rounds:
            gone = find_gone(self.what_ran(chosen), self.ran, known)
        modules = {name for worker in self.execution.workers for name in worker.tests}
        return contexts_to_drop(
            self.contexts,
            ran=ran,
            gone=gone | {t for t, module in self.modules.items() if module in self.selection.gone},
            left=known.keys() - gone,
            loaded=modules | self.selection.gone,
            imports=self.selection.imports,
            reached=self.selection.reached,
        )

    def _carried(self, dropped: Collection[str]) -> Iterator[Bits]:
        """Rows that stand as they are."""
        for context, row in self.rows.items():
            if context not in dropped and context not in self.candidates:
                yield row

    def _around_lost(self, proven: Bits) -> Iterator[str]:
        """Tests around what ran between tests in the base, where some of that did not run now."""
        for context, tests in self.bounds.between.items():
            if subtract(self.rows.get(context, {}), proven):
                yield from tests

    def _is_open(self, doubt: Doubt, proven: Bits) -> bool:
        """Whether statements or branches of the doubt did not run."""
        parsed = self.execution.parsed.files.get(doubt.path)
        if parsed is None:
            return False
        bits = proven.get(doubt.path, 0)
        lines = self.reader.lines(doubt.path, bits)
        inside = range(doubt.first, doubt.last + 1)
        if any(line in inside for line in parsed.statements - covered_statements(parsed, lines)):
            return True
        if not self.reader.arcs:
            return False
        arcs = self.reader.arcs_of(doubt.path, bits)
        return any(start in inside for start, _ in missing_branches(parsed, arcs))

    def _surprised(self) -> Iterator[int | None]:
        """The ways of tests that ran what no test did in the base, outside of what changed."""
        changed: dict[str, list[range]] = {}
        for doubt in self.bounds.doubts:
            changed.setdefault(doubt.path, []).append(range(doubt.first, doubt.last + 1))
        for test, row in self.fresh.items():
            candidate = self.candidates.get(test)
            if candidate is not None and candidate.group is not None:
                gained = subtract(row, self.covered_before)
                if any(self._is_new(p, bits, changed.get(p, ())) for p, bits in gained.items()):
                    yield candidate.group

    def _is_new(self, path: str, bits: int, changed: Sequence[range]) -> bool:
        """Whether anything of the bits lies outside of the changed lines."""
        lines = self.reader.lines(path, bits)
        return any(not any(line in span for span in changed) for line in lines)


def _plain(test: str) -> str:
    """A test's id without its scenario."""
    return test.partition("(")[0]
