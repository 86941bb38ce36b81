"""One coverage job as a sequence of stages: check out → env → select → run → merge → measure.

A function of values: the same in-process, in a build step or by hand. It reads the mirror and
the base's snapshot, and writes below its own places alone; it knows no database and no secret.
"""

from __future__ import annotations

import resource
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from jobs.execution import Ran, find_faults, module_of, parse_sources, run_selected
from jobs.ground import Ground, set_up
from jobs.measure import measure_tree
from jobs.merge import MergePlan, contexts_to_drop, plan_move
from jobs.outcomes import failed_import
from jobs.patching import measure_patch
from jobs.request import Request
from jobs.results import (
    Fault,
    FaultKind,
    JobResult,
    Measurement,
    PatchCoverage,
    count_outcomes,
)
from jobs.selection import Selection, select_modules
from jobs.snapshot import (
    TestRecord,
    read_contexts,
    read_executed,
    read_settings_key,
    read_tests,
    write_snapshot,
)
from jobs.suite import TestModule, owner_of
from jobs.vendored import CONF, make_matcher, parse_common_conf
from venv_builder import Need
from venv_builder.errors import UsageError
from venv_builder.progress import Listener, Noted, Stages

STOPPED = {FaultKind.CRASH, FaultKind.TIME}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A job's result, and what its project needs of the shared environment."""

    result: JobResult
    need: Need


def run_job(request: Request, target: Path, listener: Listener) -> Finished:
    """Measure one commit and write its snapshot to `target`.

    Raises a CovtrackError if nothing could be measured; faults of tests, imports, runner and
    clock are part of the result instead, which is then not `complete`.
    """
    stages, cpu = Stages(listener), _cpu_seconds()
    request.places.scratch.mkdir(parents=True, exist_ok=True)
    held = ExitStack()
    try:
        ground = set_up(request, stages, held)
        known = read_tests(request.base.snapshot) if request.base else {}
        selection = _select(request, ground, known)
        notes = (*request.notes, *ground.prepared.notes, *selection.notes)
        for note in notes:
            listener(Noted(sentence=note))
        ran, faults = _execute(request, ground, selection, known, stages)
        with stages.stage("merge"):
            tests = _merge_tests(request, ground, selection, ran, known)
            _merge_rows(request, ground, selection, ran, tests, target)
        with stages.stage("measure"):
            measurement = _measure(request, ran, target)
            patch = measure_patch(request, ground.diff, ran.parsed.files, measurement, target)
        if isinstance(patch, str):
            listener(Noted(sentence=patch))
            notes = (*notes, patch)
    finally:
        held.close()
        shutil.rmtree(request.places.scratch, ignore_errors=True)
    return Finished(
        result=_result(
            request,
            ran=ran,
            tests=tests,
            faults=faults,
            measurement=measurement,
            patch=None if isinstance(patch, str) else patch,
            snapshot=target,
            environment=ground.prepared.environment.key,
            notes=notes,
            seconds=stages.seconds,
            cpu_seconds=_cpu_seconds() - cpu,
        ),
        need=ground.prepared.need,
    )


def _cpu_seconds() -> float:
    """User and system time of this process and of all children it waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + usage.ru_utime + usage.ru_stime


def _select(request: Request, ground: Ground, known: Mapping[str, TestRecord]) -> Selection:
    if not ground.modules:
        raise UsageError(
            f"{request.settings.name} has no test modules below "
            f"{ground.layout.test_path or 'its root'} at {request.commit.sha[:10]}.",
            advice="Set test_path for the project in covtrack.toml.",
        )
    if request.base is None:
        return select_modules(request.select, ground.modules, None, ())
    invalid = None
    if read_settings_key(request.base.snapshot) != ground.key:
        invalid = "The coverage settings, Python or coverage.py differ from the base's."
    changed = request.mirror.changed_names(request.base.commit, request.commit.sha)
    measured = {record.module for record in known.values()}
    return select_modules(request.select, ground.modules, changed, measured, invalid_base=invalid)


def _what_runs(selection: Selection, modules: Sequence[TestModule]) -> str:
    return f"{len(selection.run)} of {len(modules)} test modules"


def _execute(
    request: Request,
    ground: Ground,
    selection: Selection,
    known: Mapping[str, TestRecord],
    stages: Stages,
) -> tuple[Ran, tuple[Fault, ...]]:
    with stages.stage("parse"):
        parsed = parse_sources(request, ground)
    with stages.stage("run", _what_runs(selection, ground.modules)):
        ran = run_selected(request, ground, selection, known, parsed, stages.listener)
    with stages.stage("faults"):
        return ran, find_faults(request, ground, ran, known, stages.listener)


def _merge_tests(
    request: Request,
    ground: Ground,
    selection: Selection,
    ran: Ran,
    known: Mapping[str, TestRecord],
) -> dict[str, TestRecord]:
    """All tests of the new commit: those carried as they were, those run now."""
    modules = module_of(ran.workers)
    replaced = {module.name for module in selection.run} | selection.gone
    again = {outcome.test for outcome in ran.outcomes}
    carried = {
        test: record
        for test, record in known.items()
        if selection.carry and record.module not in replaced and test not in again
    }
    fresh = {
        outcome.test: TestRecord(
            test=outcome.test,
            module=modules.get(outcome.test) or owner_of(outcome.test, replaced) or "",
            status=outcome.status,
            seconds=outcome.seconds,
            executed=request.commit.sha,
        )
        for outcome in ran.outcomes
        if failed_import(outcome.test) is None
    }
    return {**carried, **fresh}


def _merge_rows(
    request: Request,
    ground: Ground,
    selection: Selection,
    ran: Ran,
    tests: Mapping[str, TestRecord],
    target: Path,
) -> None:
    base = request.base.snapshot if request.base and selection.carry else None
    parsed = ran.parsed.files
    moves = {
        change.old: plan_move(change, parsed.get(change.new or ""))
        for change in ground.diff.changes
        if change.old is not None and change.old.endswith(".py")
    }
    dropped = contexts_to_drop(
        read_contexts(base) if base else (),
        {module.name for module in selection.run},
        selection.gone,
        {outcome.test for outcome in ran.outcomes},
    )
    write_snapshot(
        target,
        base=base,
        plan=MergePlan(dropped=dropped, moves=moves),
        fresh=[path for worker in ran.workers for path in worker.data],
        tests=tests.values(),
        measured=ran.parsed.files.keys(),
        key=ground.key,
    )


def _measure(request: Request, ran: Ran, snapshot: Path) -> Measurement:
    conf = request.mirror.read(request.commit.sha, CONF)
    globs = (*request.settings.vendored, *(parse_common_conf(conf) if conf else ()))
    executed = read_executed(snapshot)
    files = {
        path: parsed
        for path, parsed in ran.parsed.files.items()
        if path not in ran.parsed.if_run or executed[path].lines
    }
    return measure_tree(files, executed, make_matcher(globs))


def _result(
    request: Request,
    *,
    ran: Ran,
    tests: Mapping[str, TestRecord],
    faults: tuple[Fault, ...],
    measurement: Measurement,
    patch: PatchCoverage | None,
    snapshot: Path,
    environment: str,
    notes: tuple[str, ...],
    seconds: Mapping[str, float],
    cpu_seconds: float,
) -> JobResult:
    now = {outcome.test for outcome in ran.outcomes}
    carried = Counter(record.executed for test, record in tests.items() if test not in now)
    deselected = {test for worker in ran.workers for test in worker.deselected} - now - set(tests)
    commit = request.commit
    return JobResult(
        project=request.settings.name,
        branch=request.branch,
        commit=commit.sha,
        subject=commit.subject,
        committed_at=commit.committed_at,
        base=request.base.commit if request.base else None,
        select=request.select,
        kind=request.kind,
        tests=count_outcomes(ran.outcomes, carried=carried.total(), deselected=len(deselected)),
        measurement=measurement,
        before=request.base.before if request.base else None,
        faults=faults,
        outcomes=ran.outcomes,
        carried=dict(carried),
        complete=_is_complete(ran, faults),
        snapshot=snapshot,
        recorder=ran.recorder,
        environment=environment,
        notes=notes,
        seconds=dict(seconds),
        cpu_seconds=cpu_seconds,
        patch=patch,
    )


def _is_complete(ran: Ran, faults: tuple[Fault, ...]) -> bool:
    """Whether every test that should run did: no failed import, no crash, no timeout."""
    imports = any(failed_import(outcome.test) for outcome in ran.outcomes)
    nothing = not ran.parsed.files
    return not (imports or nothing or any(fault.kind in STOPPED for fault in faults))
