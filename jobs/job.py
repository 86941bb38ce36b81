"""One coverage job as a sequence of stages: check out → env → select → run → merge → measure.

A function of values: the same in-process, in a build step or by hand. It reads the mirror and
the base's snapshot, and writes below its own places alone; it knows no database and no secret.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from jobs.carrying import merge_rows, merge_tests
from jobs.choosing import choose_base
from jobs.execution import Execution, Ran, find_faults, parse_sources
from jobs.ground import cpu_seconds, set_up
from jobs.measure import NOTHING, Executed, measure_tree
from jobs.outcomes import failed_import
from jobs.parsing import ParsedTree
from jobs.patching import measure_patch
from jobs.proving import run_tests
from jobs.request import Request
from jobs.results import (
    Fault,
    FaultKind,
    JobResult,
    Measurement,
    PatchCoverage,
    Provisional,
    count_outcomes,
)
from jobs.selection import Selection
from jobs.snapshot import (
    TestRecord,
    count_proofs,
    read_contexts,
    read_executed,
)
from jobs.suite import TestModule
from jobs.vendored import CONF, make_matcher, parse_common_conf
from venv_builder import Need
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
    stages, cpu = Stages(listener), cpu_seconds()
    request.places.scratch.mkdir(parents=True, exist_ok=True)
    held = ExitStack()
    try:
        ground = set_up(request, stages, held)
        with stages.stage("parse"):
            parsed = parse_sources(request, ground)
        with stages.stage("select"):
            chosen = choose_base(request, ground, parsed.files)
        request, ground, known = chosen.request, chosen.ground, chosen.known
        selection = chosen.selection
        notes = (*request.notes, *ground.prepared.notes, *selection.notes)
        for note in notes:
            listener(Noted(sentence=note))
        with stages.stage("run", _what_runs(selection, ground.modules)):
            execution = Execution(request, ground, known, parsed, listener)
            selection, ran, left = run_tests(execution, selection)
        with stages.stage("faults"):
            faults = find_faults(request, ground, ran, known, listener)
        with stages.stage("merge"):
            tests = merge_tests(request, selection, ran, known)
            merge_rows(request, ground, selection, ran, known, tests, target)
        with stages.stage("measure"):
            measurement = measure_snapshot(request, parsed, target)
            patch = measure_patch(request, ground.diff, ran.parsed.files, measurement, target)
            provisional = left.tell(measurement, read_contexts(target)) if left else None
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
            provisional=provisional,
            snapshot=target,
            environment=ground.prepared.environment.key,
            env_cpu_seconds=ground.env_cpu_seconds,
            notes=notes,
            seconds=stages.seconds,
            cpu_seconds=cpu_seconds() - cpu,
        ),
        need=ground.prepared.need,
    )


def _what_runs(selection: Selection, modules: Sequence[TestModule]) -> str:
    return f"{len(selection.run)} of {len(modules)} test modules"


def measure_snapshot(request: Request, parsed: ParsedTree, snapshot: Path) -> Measurement:
    """Counts of the commit's files from what the snapshot says ran of them."""
    return measure_executed(request, parsed, read_executed(snapshot))


def measure_executed(
    request: Request, parsed: ParsedTree, executed: Mapping[str, Executed]
) -> Measurement:
    """Counts of the commit's files from what ran of them, by path."""
    conf = request.mirror.read(request.commit.sha, CONF)
    globs = (*request.settings.vendored, *(parse_common_conf(conf) if conf else ()))
    files = {
        path: file
        for path, file in parsed.files.items()
        if path not in parsed.if_run or executed.get(path, NOTHING).lines
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
    provisional: Provisional | None,
    snapshot: Path,
    environment: str,
    env_cpu_seconds: float,
    notes: tuple[str, ...],
    seconds: Mapping[str, float],
    cpu_seconds: float,
) -> JobResult:
    now = {outcome.test for outcome in ran.outcomes}
    carried = count_proofs(record for test, record in tests.items() if test not in now)
    spared = sum(bool(record.spared) for record in tests.values())
    is_sound = _is_complete(ran, faults)
    if provisional is not None:
        spared = max(0, spared - provisional.tests_left)
    deselected = {test for worker in ran.workers for test in worker.deselected} - now - set(tests)
    commit = request.commit
    return JobResult(
        project=request.settings.name,
        branch=request.branch,
        commit=commit.sha,
        subject=commit.subject,
        committed_at=commit.committed_at,
        base=request.base.compared or request.base.commit if request.base else None,
        select=request.select,
        kind=request.kind,
        tests=count_outcomes(
            ran.outcomes, carried=carried.total(), deselected=len(deselected), spared=spared
        ),
        measurement=measurement,
        before=request.base.before if request.base else None,
        faults=faults,
        outcomes=ran.outcomes,
        carried=dict(carried),
        complete=is_sound and provisional is None,
        snapshot=snapshot,
        recorder=ran.recorder,
        environment=environment,
        notes=notes,
        seconds=dict(seconds),
        cpu_seconds=cpu_seconds,
        patch=patch,
        env_cpu_seconds=env_cpu_seconds,
        tests_cpu_seconds=sum(worker.cpu_seconds for worker in ran.workers),
        provisional=provisional if is_sound else None,
    )


def _is_complete(ran: Ran, faults: tuple[Fault, ...]) -> bool:
    """Whether every test that should run did: no failed import, no crash, no timeout."""
    imports = any(failed_import(outcome.test) for outcome in ran.outcomes)
    nothing = not ran.parsed.files
    return not (imports or nothing or any(fault.kind in STOPPED for fault in faults))
