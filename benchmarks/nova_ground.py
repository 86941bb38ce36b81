"""What the nova-size benchmark's steps stand on: no environment, and no test that runs."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from nova_tree import TOP

from jobs.diff import TreeDiff
from jobs.environment import Prepared
from jobs.execution import Ran
from jobs.ground import Ground, cpu_seconds
from jobs.outlining import outlines_key
from jobs.parsing import ParsedTree, parse_tree
from jobs.project import ProjectSettings
from jobs.repository import Mirror
from jobs.request import Base, Places, Request
from jobs.results import Kind, Outcome, Select, Status
from jobs.runner import Surroundings, WorkerPlan, WorkerResult
from jobs.snapshot import Circumstances
from jobs.statements import StatementCache
from jobs.suite import Layout, TestModule
from venv_builder import EnvironmentCache

KEY = "nova"
VERSION = (3, 13, 0)
CIRCUMSTANCES = Circumstances(recording="", variables="", entry_points="", distributions={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The files below the benchmark's folder."""

    root: Path

    @property
    def repository(self) -> Path:
        return self.root / "repository"

    @property
    def base(self) -> Path:
        return self.root / "base.coverage"

    @property
    def fresh(self) -> Path:
        """What the worker of the small change left: data and footprint.json."""
        return self.root / "fresh" / "data"

    def modules(self) -> list[str]:
        """The names of all test modules; none before there is a snapshot."""
        if not self.base.exists():
            return []
        with closing(sqlite3.connect(self.base)) as db:
            return [name for (name,) in db.execute("SELECT DISTINCT module FROM covtrack_test")]

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "facts.json").read_text())
        return found


class Clock:
    """Wall seconds by stage, and CPU seconds of this process and its children."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun, used = time.perf_counter(), cpu_seconds()
        yield
        self.seconds[name] = round(time.perf_counter() - begun, 3)
        self.cpu[name] = round(cpu_seconds() - used, 3)


def make_request(
    work: Work, mirror: Mirror, commit: str, base: str, snapshot: Path | None = None
) -> Request:
    """What a job of the commit would be asked."""
    scratch = work.root / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    return Request(
        settings=ProjectSettings(name=TOP, git=str(work.repository)),
        mirror=mirror,
        commit=mirror.commit(commit),
        branch="master",
        kind=Kind.CHANGE,
        select=Select.AFFECTED,
        base=Base(commit=base, snapshot=snapshot or work.base, before=None),
        places=Places(
            tree=work.repository, kept=work.root, stestr=work.root / "stestr", scratch=scratch
        ),
        environments=cast(EnvironmentCache, None),
    )


def make_ground(work: Work, mirror: Mirror, commit: str, base: str | None) -> Ground:
    """The commit as a job sees it; there is no environment, it is not asked for."""
    return Ground(
        blobs=mirror.blobs(commit),
        base_blobs=mirror.blobs(base) if base else {},
        layout=Layout(test_path=""),
        modules=tuple(map(make_module, work.modules())),
        prepared=cast(Prepared, SimpleNamespace(interpreter=SimpleNamespace(version=VERSION))),
        around=Surroundings(
            root=work.repository,
            python=Path(sys.executable),
            variables={"COVERAGE_CORE": "ctrace"},
            path=(),
            memory=8 * 2**30,
            writable=(),
            source=(TOP,),
        ),
        diff=mirror.diff(base, commit) if base else TreeDiff(),
        key=KEY,
        cache=StatementCache(work.root / "statements.sqlite"),
        env_cpu_seconds=0.0,
        circumstances=CIRCUMSTANCES,
    )


def make_module(name: str) -> TestModule:
    return TestModule(name=name, path=f"{name.replace('.', '/')}.py")


def parse(work: Work, ground: Ground) -> ParsedTree:
    folder = work.root / "scratch" / "parse"
    return parse_tree(
        ground.cache, KEY, outlines_key(VERSION), ground.blobs, folder, ground.around
    )


def make_ran(fresh: Path, module: str, tests: Sequence[str], parsed: ParsedTree) -> Ran:
    """What a worker that ran the tests of a module would have left in the folder of `fresh`."""
    worker = WorkerResult(
        plan=WorkerPlan(modules=(module,)),
        status=0,
        timed_out=False,
        cpu_seconds=0.0,
        stream=fresh.with_name("stream"),
        data=(fresh / ".coverage.monitoring",),
        last_words="",
        report={"tests": {module: list(tests)}, "finished": True},
    )
    outcomes = tuple(Outcome(test=test, status=Status.PASSED) for test in list(tests))
    return Ran(workers=(worker,), outcomes=outcomes, parsed=parsed)
