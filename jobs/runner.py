"""Runs test modules in parallel workers of the measured interpreter, confined and recorded.

Plans first (pure), then starts and watches. Each worker is
`python -m stestr.subunit_runner.run MODULE...` with a recorder around it (measured/worker.py).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from jobs.confinement import MEASURED, Confinement
from jobs.project import Recorder
from jobs.snapshot import is_data_file
from jobs.suite import TestModule
from venv_builder.processes import ProcessGroup, start_group
from venv_builder.progress import Advanced, Listener

POLL = 0.02
REPORT_EVERY = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where tests run: the tree, the env's python, its variables, and their limits.

    `measured` are the paths whose coverage counts, `tree` all other Python files of the tree.
    """

    root: Path
    python: Path
    variables: Mapping[str, str]
    path: tuple[Path, ...]
    memory: int
    writable: tuple[str, ...]
    source: tuple[str, ...] = ()
    branch: bool | None = None
    recorder: Recorder = Recorder.AUTO
    measured: tuple[str, ...] = ()
    tree: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """What one worker loads: modules, and of their tests those `only`, minus `skip` (ids).

    `match` (regular expressions) keeps just the matching tests, `avoid` leaves them out;
    `imports` are modules to import after the tests, for their import-time lines.
    """

    modules: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    skip: frozenset[str] = frozenset()
    match: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    record: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResult:
    """What a worker left: exit status (128 + N for signal N), report, stream, data files.

    `finished` is False if it crashed or was stopped; `timed_out` tells the latter.
    """

    plan: WorkerPlan
    status: int
    timed_out: bool
    cpu_seconds: float
    stream: Path
    data: tuple[Path, ...]
    last_words: str
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether it ran to its end and wrote its report."""
        return self.status == 0 and bool(self.report.get("finished"))

    @property
    def footprint(self) -> Path | None:
        """The file that says what its tests touched beside lines."""
        path = self.stream.with_name("data") / "footprint.json"
        return path if path.exists() else None

    @property
    def tests(self) -> Mapping[str, Sequence[str]]:
        """Ids of the tests that each module holds, run or not."""
        tests: Mapping[str, Sequence[str]] = self.report.get("tests", {})
        return tests

    @property
    def deselected(self) -> Sequence[str]:
        """Ids of loaded tests that this worker was told to leave out."""
        return tuple(self.report.get("deselected", ()))


def plan_workers(
    modules: Sequence[TestModule],
    seconds: Mapping[str, float],
    *,
    workers: int,
    serial: Sequence[str] = (),
    group_regex: str | None = None,
    skip: frozenset[str] = frozenset(),
) -> tuple[tuple[WorkerPlan, ...], tuple[WorkerPlan, ...]]:
    """Plans for the parallel workers, then for the one that runs the `serial` tests alone.

    Modules are spread by known `seconds` (longest first); one that is not known counts as the
    median. A module stays whole, so that its fixtures run once; modules whose names the
    stestr group_regex maps to one group stay together.
    """
    if not modules:
        return (), ()
    groups = _group(modules, group_regex)
    known = sorted(seconds[name] for group in groups.values() for name in group if name in seconds)
    usual = known[len(known) // 2] if known else 1.0
    weights = {key: sum(seconds.get(n, usual) for n in names) for key, names in groups.items()}
    loads: list[tuple[float, list[str]]] = [
        (0.0, []) for _ in range(max(1, min(workers, len(groups))))
    ]
    for key in sorted(groups, key=lambda key: (-weights[key], key)):
        load, names = min(loads, key=lambda item: (item[0], len(item[1])))
        loads[loads.index((load, names))] = (load + weights[key], [*names, *groups[key]])
    parallel = tuple(
        WorkerPlan(modules=tuple(sorted(names)), avoid=tuple(serial), skip=skip)
        for _, names in loads
    )
    if not serial:
        return parallel, ()
    everything = tuple(sorted(module.name for module in modules))
    return parallel, (WorkerPlan(modules=everything, match=tuple(serial), skip=skip),)


def _group(modules: Iterable[TestModule], pattern: str | None) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for module in modules:
        match = re.match(pattern, f"{module.name}.") if pattern else None
        groups.setdefault(match[0] if match else f"{module.name}.", []).append(module.name)
    return groups


class Runner:
    """Runs worker plans side by side in one job's folder, until all end or time is up."""

    def __init__(self, folder: Path, surroundings: Surroundings, listener: Listener) -> None:
        self.folder = folder
        self.surroundings = surroundings
        self.listener = listener
        self._started = 0

    def run(
        self, plans: Sequence[WorkerPlan], *, timeout: float, total: int | None = None
    ) -> tuple[WorkerResult, ...]:
        """Run the plans in parallel; at `timeout` seconds the rest is killed.

        `total` is the expected number of tests, for progress. Ctrl-C kills all workers.
        """
        folders = [self._prepare(plan) for plan in plans]
        groups: list[ProcessGroup] = []
        deadline = monotonic() + timeout
        try:
            groups += [self._start(plan, at) for plan, at in zip(plans, folders, strict=True)]
            timed_out = self._watch(groups, folders, deadline, total)
        finally:
            for group in groups:
                group.kill()
        return tuple(
            _collect(plan, folder, group, timed_out=late)
            for plan, folder, group, late in zip(plans, folders, groups, timed_out, strict=True)
        )

    def _prepare(self, plan: WorkerPlan) -> Path:
        self._started += 1
        folder = self.folder / f"worker-{self._started}"
        (folder / "data").mkdir(parents=True)
        around = self.surroundings
        words = {
            "root": str(around.root),
            "folder": str(folder / "data"),
            "stream": str(folder / "stream"),
            "report": str(folder / "report.json"),
            "ticks": str(folder / "ticks"),
            "modules": plan.modules,
            "only": plan.only,
            "skip": sorted(plan.skip),
            "match": plan.match,
            "avoid": plan.avoid,
            "imports": plan.imports,
            "source": around.source,
            "branch": around.branch,
            "measured": around.measured,
            "tree": around.tree,
            "recorder": around.recorder.value if plan.record else "none",
        }
        (folder / "plan.json").write_text(json.dumps(words))
        return folder

    def _start(self, plan: WorkerPlan, folder: Path) -> ProcessGroup:
        around = self.surroundings
        confinement = Confinement(
            scratch=folder, memory=around.memory, writable=(str(around.root), *around.writable)
        )
        return start_group(
            confinement.argv([around.python, MEASURED / "worker.py", folder / "plan.json"]),
            cwd=around.root,
            env=confinement.environment(around.path, around.variables),
            stdout=folder / "stdout",
            stderr=folder / "stderr",
        )

    def _watch(
        self,
        groups: Sequence[ProcessGroup],
        folders: Sequence[Path],
        deadline: float,
        total: int | None,
    ) -> list[bool]:
        """Wait for all; the list tells which were still running when time was up."""
        told = 0.0
        while not all([group.poll() is not None for group in groups]):  # noqa: C419 (polls each)
            now = monotonic()
            if now > deadline:
                return [group.poll() is None for group in groups]
            if now - told > REPORT_EVERY:
                told = now
                done = sum(_size(folder / "ticks") for folder in folders)
                self.listener(Advanced(stage="run", done=done, total=total))
            sleep(POLL)
        return [False for _ in groups]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _collect(
    plan: WorkerPlan, folder: Path, group: ProcessGroup, *, timed_out: bool
) -> WorkerResult:
    try:
        report = json.loads((folder / "report.json").read_text())
    except (OSError, ValueError):
        report = {}
    data = filter(is_data_file, sorted((folder / "data").glob(".coverage*")))
    status = group.status if group.status is not None else -9
    return WorkerResult(
        plan=plan,
        status=status if status >= 0 else 128 - status,
        timed_out=timed_out,
        cpu_seconds=group.cpu_seconds,
        stream=folder / "stream",
        data=tuple(data),
        last_words=_last_words(folder / "stderr"),
        report=report,
    )


def _last_words(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:  # a test removed its own folder
        return ""
    return " | ".join(line.strip() for line in lines[-3:] if line.strip())
