"""Compares covtrack's figures with full coverage.py runs of the same commits, line by line.

Three passes over each history: `changed` (the original method, each step from the last one),
`affected` (the same trees, but every test file that the change can reach is touched as well, so
that all of them run) and `all` (full runs by covtrack). The reference is coverage.py itself
under `stestr run`, in the same environment, in a checkout of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coverage import CoverageData
from histories import HISTORIES, History, make_rename, make_sibling, module_of, touch_tests
from real_projects import (
    COVTRACK,
    Checkout,
    Scene,
    Timed,
    Tracked,
    about,
    git,
    keep,
    load_kept,
    print_table,
    say,
)

from venv_builder.processes import check_command

NAME = "full_run_equality"
IMPORTED = """\
import importlib, json, os, sys
root, found = os.getcwd() + os.sep, {}
for name in json.load(sys.stdin):
    source, sink = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            importlib.import_module(name)
        except BaseException:
            pass
        files = [getattr(m, "__file__", None) or "" for m in list(sys.modules.values())]
        with open(sink, "w") as out:
            json.dump([f[len(root):] for f in files if f.startswith(root)], out)
        os._exit(0)
    os.close(sink)
    with open(source) as file:
        found[name] = json.load(file)
    os.waitpid(pid, 0)
json.dump(found, sys.__stdout__)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One commit to measure: what kind of change it is."""

    kind: str
    sha: str


@dataclass(kw_only=True)
class Comparison:
    """One history under comparison: its clone, its checkout, the reference runs so far."""

    scene: Scene
    history: History
    line_mode: bool
    every: int
    clone: Path
    checkout: Checkout | None = None
    pythons: dict[str, Path] = field(default_factory=dict)
    full: dict[str, dict[str, Any]] = field(default_factory=dict)
    again: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.history.label + ("-lines" if self.line_mode else "")

    def track(self, purpose: str, **settings: object) -> Tracked:
        if self.line_mode:
            settings["branch_coverage"] = False
        label = f"{self.label}-{purpose}"
        return Tracked.begin(self.scene, self.history.project, label, self.clone, **settings)

    def reference(self, sha: str, seed: str = "0") -> dict[str, Any]:
        """The full run of `sha`: files, failed tests and costs; run once per commit and seed."""
        kept = self.full if seed == "0" else self.again
        if sha not in kept:
            file = self.scene.work / "full" / self.label / f"{sha}-{seed}.json"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(self._run_reference(sha, seed)))
            kept[sha] = json.loads(file.read_text())
        return kept[sha]

    def _run_reference(self, sha: str, seed: str) -> dict[str, Any]:
        say(f"  full run of {sha[:8]} by coverage.py and stestr")
        assert self.checkout is not None
        self.checkout.go_to(sha)
        rcfile = self._rcfile() if self.line_mode else None
        timed = self.checkout.run_under_coverage(rcfile=rcfile, seed=seed)
        tests = self.checkout.count_tests()
        return {
            "files": self.checkout.read_coverage(rcfile)["files"],
            "status": timed.completed.status,
            "tests": tests,
            "cpu": timed.cpu,
            "wall": timed.wall,
        }

    def _rcfile(self) -> str:
        assert self.checkout is not None
        text = (self.checkout.root / ".coveragerc").read_text()
        path = self.scene.work / f"{self.label}.coveragerc"
        path.write_text(re.sub(r"(?m)^branch *=.*$", "branch = False", text))
        return str(path)


def compare_files(
    files: Mapping[str, Any], full: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Lines falsely covered, lines missed, and other differences of counts; each by path."""
    false_covered: dict[str, Any] = {}
    missed: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for path in sorted({*files, *full}):
        ours, theirs = files.get(path), full.get(path)
        if ours is None or theirs is None:
            summary = (ours or {}).get("statements") or (
                theirs["summary"]["num_statements"] if theirs else 0
            )
            if summary:
                other[path] = "covtrack lacks it" if ours is None else "only covtrack has it"
            continue
        mine, reference = set(ours["missing"]), set(theirs["missing_lines"])
        if reference - mine:
            false_covered[path] = sorted(reference - mine)
        if mine - reference:
            missed[path] = sorted(mine - reference)
        summary = theirs["summary"]
        counts = {
            name: (ours.get(key), summary.get(word))
            for name, key, word in (
                ("statements", "statements", "num_statements"),
                ("branches", "branches", "num_branches"),
                ("branches covered", "branches_covered", "covered_branches"),
            )
            if ours.get(key) != summary.get(word)
        }
        if counts:
            other[path] = counts
    return false_covered, missed, other


def count_lines(lines: Mapping[str, Iterable[int]]) -> int:
    """How many lines a mapping of paths to lines names."""
    return sum(len(list(numbers)) for numbers in lines.values())


def steps_of(history: History, clone: Path) -> list[Step]:
    """The history's commits, then the two that are made here: a rename and a sibling."""
    steps = [Step(kind=kind, sha=git(clone, "rev-parse", rev)) for kind, rev in history.steps]
    if history.rename:
        sha = make_rename(clone, steps[-1].sha, history.rename)
        steps.append(Step(kind="rename (made)", sha=sha))
    if history.sibling:
        fork = steps[-3].sha if len(steps) > 3 else steps[0].sha
        sha = make_sibling(clone, fork, history.sibling)
        steps.append(Step(kind="unmerged sibling", sha=sha))
    return steps


def judge(
    comparison: Comparison, step: Step, select: str, report: Mapping[str, Any], timed: Timed
) -> dict[str, Any]:
    """One row: covtrack's report against the full run of the same commit."""
    full = comparison.reference(step.sha)
    say_if_unequal(report["tests"], full["tests"])
    false_covered, missed, other = compare_files(report["files"], full["files"])
    base = report["base"] or step.sha
    changed = git(comparison.clone, "diff", "--name-only", base, report["commit"]).splitlines()
    row = {
        "project": comparison.history.project,
        "history": comparison.label,
        "kind": step.kind,
        "commit": step.sha,
        "select": select,
        "base": report["base"],
        "tests": report["tests"],
        "complete": report["complete"],
        "faults": report["faults"],
        "recorder": report["recorder"],
        "statements": report["total"]["statements"],
        "false_covered": false_covered,
        "missed": missed,
        "missed_in_changed_files": count_lines(
            {path: lines for path, lines in missed.items() if path in changed}
        ),
        "other": other,
        "seconds": {stage: round(value, 2) for stage, value in report["seconds"].items()},
        "cpu": round(timed.cpu, 1),
        "wall": round(timed.wall, 1),
        "full_cpu": round(full["cpu"], 1),
        "full_wall": round(full["wall"], 1),
        "full_tests": full["tests"],
    }
    first = step.kind == "baseline" and bool(other)
    if false_covered or first or (missed and select != "changed"):
        second = comparison.reference(step.sha, seed="1")
        a, b, c = compare_files(_as_report(full["files"]), second["files"])
        row["differs_between_two_full_runs"] = {"lines": a, "reverse": b, "other": c}
    return row


def say_if_unequal(tests: Mapping[str, int], full: int) -> None:
    """A reference run that lost tests is no reference."""
    known = tests["run"] + tests["carried"]
    if known != full:
        say(f"    covtrack knows {known} tests, the full run had {full}")


def _as_report(files: Mapping[str, Any]) -> dict[str, Any]:
    return {
        path: {
            "missing": file["missing_lines"],
            "statements": file["summary"]["num_statements"],
            "branches": file["summary"].get("num_branches"),
            "branches_covered": file["summary"].get("covered_branches"),
        }
        for path, file in files.items()
    }


def run_changed(comparison: Comparison, steps: list[Step]) -> Iterable[dict[str, Any]]:
    """The original method over the whole history, each step from the nearest measured one."""
    tracked = comparison.track("changed")
    base = git(comparison.clone, "rev-parse", comparison.history.base)
    say(f"{comparison.label}: baseline at {base[:8]}")
    report, timed = tracked.run(base, "all")
    comparison.checkout = Checkout(
        clone=comparison.clone,
        root=comparison.scene.work / "checkouts" / comparison.label,
        python=tracked.python(report),
        variables=comparison.history.variables,
    )
    yield judge(comparison, Step(kind="baseline", sha=base), "all", report, timed)
    for step in steps:
        say(f"{comparison.label}: {step.kind} {step.sha[:8]}, changed")
        report, timed = tracked.run(step.sha, "changed")
        comparison.checkout.python = comparison.pythons[step.sha] = tracked.python(report)
        yield judge(comparison, step, "changed", report, timed)


def run_affected(comparison: Comparison, steps: list[Step]) -> Iterable[dict[str, Any]]:
    """A history of the same trees in which each commit also touches all tests it can reach."""
    branch = f"{comparison.label}-affected"
    base = git(comparison.clone, "rev-parse", comparison.history.base)
    git(comparison.clone, "branch", "--force", branch, base)
    tracked = comparison.track("affected", branch=branch)
    tracked.run(base, "all")
    before, tip = base, base
    for step in steps:
        assert comparison.checkout is not None
        comparison.checkout.python = comparison.pythons[step.sha]
        tests = find_reached(comparison, tracked, before, step.sha, tip)
        tip = touch_tests(comparison.clone, step.sha, tip, sorted(tests))
        git(comparison.clone, "branch", "--force", branch, tip)
        say(f"{comparison.label}: {step.kind} {step.sha[:8]}, {len(tests)} test files reached")
        report, timed = tracked.run(tip, "changed")
        yield judge(comparison, step, "affected", report, timed)
        before = step.sha


def find_reached(
    comparison: Comparison, tracked: Tracked, before: str, sha: str, measured: str
) -> set[str]:
    """Test files that load a file the change touches, or executed one in the snapshot before."""
    assert comparison.checkout is not None
    comparison.checkout.go_to(sha)
    listed = git(comparison.clone, "ls-tree", "-r", "--name-only", sha).splitlines()
    files = {
        module_of(path): path
        for path in listed
        if path.startswith(comparison.history.tests) and re.search(r"/test[^/]*\.py$", path)
    }
    done = check_command(
        [comparison.checkout.python, "-c", IMPORTED],
        cwd=comparison.checkout.root,
        env=comparison.checkout.environment(),
        stdin=json.dumps(sorted(files)),
    )
    loaded = json.loads(done.stdout[done.stdout.rindex('{"') :])
    changed = set(git(comparison.clone, "diff", "--name-only", before, sha).splitlines())
    changed |= set(
        git(comparison.clone, "diff", "--name-only", "--no-renames", before, sha).splitlines()
    )
    reached = {files[name] for name, paths in loaded.items() if changed.intersection(paths)}
    for context in _contexts_of(tracked, measured, changed):
        name = context.partition("(")[0].partition(":")[0]
        while name and name not in files:
            name = name.rpartition(".")[0]
        if name:
            reached.add(files[name])
    return reached


def _contexts_of(tracked: Tracked, sha: str, paths: set[str]) -> set[str]:
    """Contexts that ran any line of `paths` in the stored snapshot of `sha`."""
    target = tracked.scene.work / f"{tracked.label}.coverage"
    words: list[str | Path] = [
        "export",
        tracked.name,
        "--rev",
        sha,
        "--format",
        "coverage",
        "-o",
        target,
    ]
    target.unlink(missing_ok=True)
    check_command([*COVTRACK, "-c", tracked.config, *words], cwd=tracked.scene.work)
    data = CoverageData(basename=str(target))
    data.read()
    found: set[str] = set()
    for file in data.measured_files():
        if any(file == path or file.endswith(f"/{path}") for path in paths):
            for names in data.contexts_by_lineno(file).values():
                found.update(names)
    data.close()
    return found - {""}


def run_all(comparison: Comparison, steps: list[Step]) -> Iterable[dict[str, Any]]:
    """Full runs by covtrack: recorder and totals alone."""
    tracked = comparison.track("all")
    for step in steps[:: comparison.every]:
        say(f"{comparison.label}: {step.kind} {step.sha[:8]}, all")
        report, timed = tracked.run(step.sha, "all")
        yield judge(comparison, step, "all", report, timed)


def as_cells(row: Mapping[str, Any]) -> list[object]:
    """One row of the printed table."""
    tests = row["tests"]
    return [
        row["history"],
        f"{row['kind']} {row['commit'][:8]}",
        row["select"],
        f"{tests['run']}/{tests['run'] + tests['carried']}",
        count_lines(row["false_covered"]),
        count_lines(row["missed"]),
        row["missed_in_changed_files"],
        len(row["other"]),
        row["cpu"],
        row["full_cpu"],
        f"{row['cpu'] / row['full_cpu']:.2f}",
    ]


HEADS = (
    "history", "step", "select", "tests", "false covered", "missed", "in changed files",
    "files that differ else", "CPU s", "full CPU s", "ratio",
)  # fmt: skip
PASSES = {"changed": run_changed, "affected": run_affected, "all": run_all}


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    Scene.add_options(parser)
    parser.add_argument("--history", action="append", choices=sorted(HISTORIES))
    parser.add_argument("--passes", nargs="+", choices=list(PASSES), default=list(PASSES))
    parser.add_argument("--every", type=int, default=1, help="of pass `all`: each N-th step only")
    parser.add_argument("--keep-references", action="store_true", help="reuse earlier full runs")
    parser.add_argument("--lines", action="store_true", help="line coverage, whatever they say")
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    scene = Scene.from_options(arguments)
    for label in arguments.history or sorted(HISTORIES):
        history = HISTORIES[label]
        name = label + ("-lines" if arguments.lines else "")
        clone = scene.clone(history.project, name)
        shutil.rmtree(scene.work / "checkouts" / name, ignore_errors=True)
        if not arguments.keep_references:
            shutil.rmtree(scene.work / "full" / name, ignore_errors=True)
        comparison = Comparison(
            scene=scene,
            history=history,
            line_mode=arguments.lines,
            every=arguments.every,
            clone=clone,
        )
        steps = steps_of(history, clone)
        rows: list[dict[str, Any]] = []
        for word in ("changed", *(p for p in arguments.passes if p != "changed")):
            for row in PASSES[word](comparison, steps):
                rows.append(row)
                say("    " + "  ".join(map(str, as_cells(row))))
                store(name, rows, arguments.python)
    kept = load_kept(NAME)["histories"]
    print_table(HEADS, [as_cells(row) for name in sorted(kept) for row in kept[name]["rows"]])


def store(name: str, rows: list[dict[str, Any]], python: str) -> None:
    """Keep one history's rows beside those of the others."""
    kept = load_kept(NAME)
    histories = {**kept.get("histories", {}), name: {"about": about(python), "rows": rows}}
    keep(NAME, {"histories": histories})


if __name__ == "__main__":
    main()
