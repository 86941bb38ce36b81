"""Parses, runs what was selected, and tells apart what went wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.company import Company, tell_company_apart
from jobs.faults import (
    Context,
    classify_failure,
    nothing_measured,
    unparsed_faults,
    worker_faults,
)
from jobs.ground import Ground
from jobs.importing import files_to_import, imported_files, module_names
from jobs.outcomes import keep_streams, read_outcomes
from jobs.parsing import ParsedTree, parse_tree
from jobs.request import Request
from jobs.results import Fault, Outcome, Status
from jobs.runner import Runner, WorkerPlan, WorkerResult, plan_workers
from jobs.selection import Selection
from jobs.snapshot import TestRecord, read_contexts
from jobs.system_packages import packages_mentioning
from jobs.worktree import Worktree
from venv_builder.progress import Listener

# Seconds of tests below which another worker costs more than it saves.
WORTH_A_WORKER = 2.0


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What the test run left."""

    workers: tuple[WorkerResult, ...]
    outcomes: tuple[Outcome, ...]
    parsed: ParsedTree

    @property
    def recorder(self) -> str:
        """What recorded the tests that ran now, "none" where none ran."""
        names = (str(worker.report.get("recorder", "")) for worker in self.workers)
        return next(filter(None, names), "none")


def parse_sources(request: Request, ground: Ground) -> ParsedTree:
    """The measured files of the commit, parsed; all of its Python files are outlined too."""
    folder = request.places.scratch / "parse"
    return parse_tree(
        ground.cache, ground.key, ground.outlines_key, ground.blobs, folder, ground.around
    )


class Execution:
    """Runs selections of one job, one after another; its time is that of all together."""

    def __init__(
        self,
        request: Request,
        ground: Ground,
        known: Mapping[str, TestRecord],
        parsed: ParsedTree,
        listener: Listener,
    ) -> None:
        self.request, self.ground = request, ground
        self.known, self.parsed = known, parsed
        around = replace(
            ground.around,
            measured=tuple(parsed.files),
            tree=tuple(p for p in ground.blobs if p.endswith(".py") and p not in parsed.files),
        )
        self.runner = Runner(request.places.scratch / "run", around, listener)
        self.deadline = time.monotonic() + request.settings.timeout
        self.workers: tuple[WorkerResult, ...] = ()
        self.outcomes: tuple[Outcome, ...] = ()

    def run(self, selection: Selection) -> tuple[WorkerResult, ...]:
        """Run the selected tests, and import what has to be imported anew."""
        settings = self.request.settings
        chosen = _chosen(selection, self.known)
        parallel, serial = plan_workers(
            selection.run,
            _seconds_by_module(chosen),
            workers=_how_many(settings.workers or os.cpu_count() or 1, chosen),
            serial=settings.serial,
            group_regex=self.ground.layout.group_regex,
            skip=selection.skip,
        )
        plans = _with_imports(parallel, self._imports(selection))
        results = self.runner.run(plans, timeout=self._left(), total=len(chosen) or None)
        if serial:
            results += self.runner.run(serial, timeout=self._left())
        self.workers += results
        self.outcomes += read_outcomes([result.stream for result in results])
        return results

    def ran(self) -> Ran:
        """What all runs left; the streams go into the stestr repository as one."""
        if any(worker.plan.modules for worker in self.workers):
            keep_streams([worker.stream for worker in self.workers], self.request.places.stestr)
        return self.ran_so_far()

    def ran_so_far(self) -> Ran:
        """What the runs left until now."""
        return Ran(workers=self.workers, outcomes=self.outcomes, parsed=self.parsed)

    def _imports(self, selection: Selection) -> tuple[str, ...]:
        base = self.request.base.snapshot if self.request.base and selection.carry else None
        before = imported_files(read_contexts(base)) if base else set()
        imports = files_to_import(selection.imports, before, self.ground.diff)
        return module_names(imports, self.ground.top_dirs)

    def _left(self) -> float:
        return max(1.0, self.deadline - time.monotonic())


def _chosen(selection: Selection, known: Mapping[str, TestRecord]) -> list[TestRecord]:
    """The known tests that will run."""
    names = {module.name for module in selection.run}
    return [r for r in known.values() if r.module in names and r.test not in selection.skip]


def _seconds_by_module(records: Iterable[TestRecord]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for record in records:
        seconds[record.module] = seconds.get(record.module, 0.0) + record.seconds
    return seconds


def _how_many(workers: int, chosen: Sequence[TestRecord]) -> int:
    """Workers that are worth their start: each loads the modules' imports by itself."""
    if not chosen:
        return workers
    return max(1, min(workers, int(sum(r.seconds for r in chosen) / WORTH_A_WORKER)))


def _with_imports(plans: Sequence[WorkerPlan], imports: tuple[str, ...]) -> tuple[WorkerPlan, ...]:
    """The plans, with what is to be imported after the tests of the last one."""
    if not imports:
        return tuple(plans)
    *others, last = plans or (WorkerPlan(),)
    return (*others, replace(last, imports=imports))


def find_faults(
    request: Request,
    ground: Ground,
    ran: Ran,
    known: Mapping[str, TestRecord],
    listener: Listener,
) -> tuple[Fault, ...]:
    own = {path.partition("/")[0].removesuffix(".py") for path in ground.blobs}
    bindep = request.mirror.read(request.commit.sha, "bindep.txt") or ""
    context = Context(
        project=request.settings.name,
        is_own=own.__contains__,
        system=lambda word: packages_mentioning(word, bindep),
    )
    faults = [
        fault
        for worker in ran.workers
        for fault in worker_faults(worker, _of(worker, ran.outcomes), request.settings.timeout)
    ]
    failed = [o for o in ran.outcomes if o.status in (Status.FAILED, Status.UNEXPECTED_SUCCESS)]
    company = Company(
        runner=Runner(request.places.scratch / "again", ground.around, listener),
        module_of=module_of(ran.workers),
        base_root=lambda: _lay_out_base(request),
        timeout=request.settings.timeout,
    )
    suspects = [o.test for o in failed if _passed_before(o.test, known)]
    excused = tell_company_apart(suspects, company)
    faults += excused.values()
    faults += [classify_failure(o, context) for o in failed if o.test not in excused]
    if not ran.parsed.files:
        faults.append(nothing_measured(ground.around.source))
    errors = ((path, p.error) for path, p in ran.parsed.files.items() if p.error)
    return (*faults, *unparsed_faults((path, error or "") for path, error in errors))


def _of(worker: WorkerResult, outcomes: Iterable[Outcome]) -> list[Outcome]:
    mine = {test for tests in worker.tests.values() for test in tests}
    return [
        outcome
        for outcome in outcomes
        # Scenarios add "(name)" to an id as it runs; fixtures' ids are in no module's list.
        if mine & {outcome.test, outcome.test.partition("(")[0]}
        or outcome.test.startswith(("setUp", "tearDown"))
    ]


def module_of(workers: Iterable[WorkerResult]) -> dict[str, str]:
    return {
        test: module
        for worker in workers
        for module, tests in worker.tests.items()
        for test in tests
    }


def _passed_before(test: str, known: Mapping[str, TestRecord]) -> bool:
    record = known.get(test)
    return record is not None and record.status is Status.PASSED


def _lay_out_base(request: Request) -> Path | None:
    """The base's commit in a tree of its own; None where there is no base."""
    if request.base is None:
        return None
    root = request.places.tree.with_name(request.places.tree.name + "-base")
    Worktree(mirror=request.mirror, root=root).check_out(request.base.commit)
    return root
