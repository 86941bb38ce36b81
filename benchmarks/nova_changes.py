"""Makes 200 open changes of the nova-size tree, and maps them all as `covtrack prospect` does.

They fork off five baselines, the last of which is the branch's tip. Each edits one to three source
files and a test file, and ten tests ran for it. Its snapshot is written by covtrack's own merge,
cut, and removed again: what the cuts hold is all that is read of it later.
"""

from __future__ import annotations

import ast
import json
import random
import re
import shutil
import sqlite3
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from nova_ground import Clock, Work, make_ground, make_module, make_ran, make_request, parse
from nova_tree import Row, commit_all, write_footprint, write_worker
from real_projects import git, say

from jobs.carrying import merge_rows, merge_tests
from jobs.cut_files import read_basis, read_cut, write_kept
from jobs.cuts import Traces, make_basis, make_cut, read_traces
from jobs.diff import TreeDiff
from jobs.joining import OpenChange, Reader, join_onto
from jobs.landing import land
from jobs.repository import Mirror
from jobs.request import Base
from jobs.selection import Selection
from jobs.snapshot import read_tests

AGAIN = 10
DEF = re.compile(r"^(\s*)def (\w+)\((.*[^,(*\s])\):$")
LINE = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one change edits, and the tests that run for it."""

    number: int
    baseline: int
    sources: tuple[str, ...]
    module: str
    tests: tuple[str, ...]


class Maker:
    """Makes the baselines and the changes on top of the benchmark's base."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.mirror = Mirror(work.repository / ".git")
        self.folder = work.root / "changes"
        self.edited: set[str] = set()
        self.chance = random.Random(2)  # noqa: S311 (the same each time)

    def make(self, changes: int, baselines: int) -> None:
        """All of them; the cuts, and what of them is in facts, lie in the folder `changes`."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        commits = self._make_baselines(baselines)
        plans = self._plan(changes, baselines)
        made = []
        for number, commit in enumerate(commits):
            snapshot = self._baseline(number)
            with Timing() as basis:
                kept = make_basis(snapshot)
                write_kept(self.folder / f"{commit}.basis", kept)
            own = [plan for plan in plans if plan.baseline == number]
            traces = read_traces(snapshot, {test for plan in own for test in plan.tests})
            for plan in own:
                say(f"makes change {plan.number} of {changes}")
                made.append(self._make_change(plan, commit, snapshot, traces))
        facts = {"commits": commits, "changes": made, "basis_seconds": basis.seconds}
        (self.folder / "facts.json").write_text(json.dumps(facts))

    def _baseline(self, number: int) -> Path:
        return self.folder / f"baseline{number}.coverage" if number else self.work.base

    def _make_baselines(self, count: int) -> list[str]:
        commits = [self.work.facts["base"]]
        for number in range(1, count):
            say(f"makes baseline {number}")
            before = self._baseline(number - 1)
            plan = self._choose(number, number - 1, self._sources(before), self._modules(before))
            traces = read_traces(before, set(plan.tests))
            commit = self._commit(plan, commits[-1], 1000 + number)
            target = self._baseline(number)
            self._measure(plan, commits[-1], commit, before, traces, target)
            commits.append(commit)
        git(self.work.repository, "branch", "--force", LINE, commits[-1])
        return commits

    def _plan(self, changes: int, baselines: int) -> list[Plan]:
        """Each file and test module is edited by one change alone, so that all can land."""
        sources, modules = self._sources(self.work.base), self._modules(self.work.base)
        self.chance.shuffle(sources)
        return [self._choose(n, n % baselines, sources, modules) for n in range(changes)]

    def _choose(
        self, number: int, baseline: int, sources: list[str], modules: list[tuple[str, list[str]]]
    ) -> Plan:
        module, tests = self.chance.choice(modules)
        return Plan(
            number=number,
            baseline=baseline,
            sources=tuple(sources.pop() for _ in range(self.chance.randint(1, 3))),
            module=module,
            tests=tuple(sorted(self.chance.sample(tests, AGAIN))),
        )

    def _sources(self, snapshot: Path) -> list[str]:
        with closing(sqlite3.connect(snapshot)) as db:
            names = [name for (name,) in db.execute("SELECT path FROM file ORDER BY path")]
        return [n for n in names if "def " in (self.work.repository / n).read_text()]

    def _modules(self, snapshot: Path) -> list[tuple[str, list[str]]]:
        """Test modules that have enough tests, each with these."""
        found: dict[str, list[str]] = defaultdict(list)
        for test, record in read_tests(snapshot).items():
            found[record.module].append(test)
        return [(name, sorted(ts)) for name, ts in sorted(found.items()) if len(ts) >= AGAIN]

    def _commit(self, plan: Plan, base: str, number: int) -> str:
        repository = self.work.repository
        git(repository, "checkout", "--quiet", "--force", "--detach", base)
        for path in plan.sources:
            edit_source(repository / path, number)
        path = make_module(plan.module).path
        if path in self.edited or not edit_test(repository / path, number):
            add_test(repository / path, number)
        self.edited.add(path)
        return commit_all(repository, f"Change {number}")

    def _make_change(
        self, plan: Plan, base: str, snapshot: Path, traces: Traces
    ) -> Mapping[str, Any]:
        commit = self._commit(plan, base, plan.number)
        target = self.folder / "measured.coverage"
        self._measure(plan, base, commit, snapshot, traces, target)
        with Timing() as spent:
            cut = make_cut(target, snapshot, {commit})
            write_kept(self.folder / f"{commit}.cut", cut)
        size = (self.folder / f"{commit}.cut").stat().st_size
        target.unlink()
        return {
            "commit": commit,
            "against": base,
            "seconds": spent.seconds,
            "cpu": spent.cpu,
            "bytes": size,
            "fresh": len(cut.fresh),
        }

    def _measure(
        self, plan: Plan, base: str, commit: str, snapshot: Path, traces: Traces, target: Path
    ) -> None:
        """Write the commit's snapshot as a job would have."""
        work = self.work
        request = make_request(work, self.mirror, commit, base, snapshot)
        ground = make_ground(work, self.mirror, commit, base)
        parsed = parse(work, ground)
        rows = [moved_row(test, traces, ground.diff) for test in plan.tests]
        fresh = work.root / "again" / "data"
        shutil.rmtree(fresh.parent, ignore_errors=True)
        fresh.mkdir(parents=True)
        write_worker(fresh / ".coverage.monitoring", rows)
        write_footprint(fresh / "footprint.json", rows)
        ran = make_ran(fresh, plan.module, plan.tests, parsed)
        module, known = make_module(plan.module), read_tests(snapshot)
        others = {test for test, record in known.items() if record.module == module.name}
        selection = Selection(
            run=(module,),
            skip=frozenset(others.difference(plan.tests)),
            reasons={module.name: f"{module.path} changed"},
        )
        tests = merge_tests(request, selection, ran, known)
        merge_rows(request, ground, selection, ran, known, tests, target)


class Timing:
    """Wall and CPU seconds of a block."""

    def __enter__(self) -> Timing:
        self._begun = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = round(time.perf_counter() - self._begun[0], 3)
        self.cpu = round(time.process_time() - self._begun[1], 3)


def edit_source(path: Path, number: int) -> None:
    """A statement more in a function; of some files also another signature, or a new function."""
    lines = path.read_text().splitlines(keepends=True)
    functions = [n for n in ast.walk(ast.parse("".join(lines))) if isinstance(n, ast.FunctionDef)]
    function = max(functions, key=lambda f: f.lineno)
    first = function.body[0]
    lines.insert(first.end_lineno or first.lineno, f"{' ' * first.col_offset}new = {number}\n")
    match = DEF.match(lines[function.lineno - 1].rstrip())
    if number % 10 == 0 and match:
        indent, name, arguments = match.groups()
        lines[function.lineno - 1] = f"{indent}def {name}({arguments}, added=None):\n"
    if number % 3 == 0:
        lines.append(f"\n\ndef added_{number}():\n    return {number}\n")
    path.write_text("".join(lines))


def edit_test(path: Path, number: int) -> bool:
    """One test more in the last class; whether there is a class."""
    lines = path.read_text().splitlines(keepends=True)
    classes = [n for n in ast.parse("".join(lines)).body if isinstance(n, ast.ClassDef)]
    if classes:
        body = f"\n    def test_added_{number}(self):\n        self.assertTrue({number})\n"
        lines.insert(classes[-1].end_lineno or classes[-1].lineno, body)
        path.write_text("".join(lines))
    return bool(classes)


def add_test(path: Path, number: int) -> None:
    """A new module beside the test module at `path`, with one test."""
    head = "import unittest\n\n\nclass AddedTest(unittest.TestCase):\n"
    body = f"    def test_added_{number}(self):\n        self.assertTrue({number})\n"
    path.with_name(f"test_added_{number}.py").write_text(head + body)


def moved_row(test: str, traces: Traces, diff: TreeDiff) -> Row:
    """What a test ran, where it stands now; of changed files it also runs what is new."""
    ran = {**traces.uses.get(test, {}), **traces.lines.get(test, {})}
    for path in ran.keys() & diff.by_old.keys():
        lines = diff.by_old[path].lines
        assert lines is not None
        old = [n for n in range(ran[path].bit_length()) if ran[path] >> n & 1]
        ran[path] = sum(1 << line for line in lines.map_lines(old) | lines.added)
    touched = frozenset(tuple(what.split(" ", 1)) for what in traces.touched.get(test, {}))
    return Row(context=test, ran=ran, touched=touched)  # type: ignore[arg-type]


def map_changes(work: Work, clock: Clock) -> dict[str, Any]:
    """Merge all changes onto the tip and join what is known of them; the cuts are there."""
    folder = work.root / "changes"
    facts, mirror = (
        json.loads((folder / "facts.json").read_text()),
        Mirror(work.repository / ".git"),
    )
    commits, changes = facts["commits"], facts["changes"]
    tip = Base(
        commit=commits[-1], snapshot=folder / f"baseline{len(commits) - 1}.coverage", before=None
    )
    refs = [change["commit"] for change in changes]
    with clock.stage("git"):
        landing = land(mirror, LINE, mirror.commit(tip.commit), refs)
    included = {change.commit.sha for change in landing.included}
    with clock.stage("cuts"):
        bases = {sha: read_basis(folder / f"{sha}.basis") for sha in commits}
        cuts = [
            OpenChange(
                commit=one["commit"],
                against=one["against"],
                cut=_there(read_cut(folder / f"{one['commit']}.cut")),
                basis=_there(bases[one["against"]]),
            )
            for one in changes
            if one["commit"] in included
        ]
    with clock.stage("checkout"):
        git(work.repository, "checkout", "--quiet", "--force", landing.merged.sha)
        request = make_request(work, mirror, landing.merged.sha, tip.commit, tip.snapshot)
        ground = make_ground(work, mirror, landing.merged.sha, tip.commit)
    with clock.stage("parse"):
        reader = Reader(request, ground, parse(work, ground))
    found = join_onto(reader, tip, cuts, clock.stage)
    return {
        "included": len(included),
        "covered": found.measurement.total.covered,
        "statements": found.measurement.total.statements,
        "overlapping": len(found.joined.overlapping),
        "gain": sum(len(lines) for own in found.gains.own.values() for lines in own.values()),
        "cut_seconds": median(change["seconds"] for change in changes),
        "cut_cpu": median(change["cpu"] for change in changes),
        "cut_bytes": median(change["bytes"] for change in changes),
    }


def _there(found: Any) -> Any:
    assert found is not None
    return found
