"""Times the unit tests of real projects plain, under covtrack's recorder, and under coverage.py.

All three are jobs/measured/worker.py in one process, interleaved: without a recorder; with the
sys.monitoring recorder, lines per test; with coverage.py's C tracer, a context per test. CPU is
the whole process's; under both recorders it holds the footprints too. The lines of both are
compared on the files that are measured, at all and test by test.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from configparser import ConfigParser
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from coverage.numbits import numbits_to_nums
from real_projects import (
    Checkout,
    Scene,
    about,
    git,
    keep,
    load_kept,
    print_table,
    run_timed,
    say,
)

from jobs.measure import covered_statements, missing_branches
from jobs.statements import Parsed, read_parsed
from venv_builder.processes import run_command

NAME = "recorder_cost"
WORKER = Path(__file__).resolve().parents[1] / "jobs" / "measured" / "worker.py"
PLAIN, OURS, TRACER = "plain", "sys.monitoring", "C tracer"
QUERY = """
    SELECT context, path, numbits FROM line_bits
    JOIN context ON context.id = context_id JOIN file ON file.id = file_id
"""
HEADS = [
    "project",
    "way",
    "tests",
    "CPU s",
    "ratio",
    "range",
    "of minima",
    "lines",
    "differ",
    "test lines",
    "differ",
]
ARC_QUERY = QUERY.replace("numbits", "fromno, tono").replace("line_bits", "arc")
# Context and file to the lines that ran, or to the arcs out of lines with several exits.
Lines = Mapping[tuple[str, str], Collection[Any]]
WAYS = {PLAIN: "none", OURS: "auto", TRACER: "coverage"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A project's unit tests: its package, and the folder of the test modules in it.

    Where the tests switch `greenlets` and the project does not tell coverage.py so, its C tracer
    takes lines of one file for those of another: then it is told.
    """

    package: str
    tests: str
    greenlets: bool = False

    def modules(self, paths: Sequence[str]) -> list[str]:
        """The dotted names of the test modules among the paths of the tree."""
        found = (Path(path) for path in paths if path.startswith(f"{self.tests}/"))
        return [".".join(path.with_suffix("").parts) for path in found if path.match("test_*.py")]

    def measured(self, paths: Sequence[str]) -> list[str]:
        """What the project's own settings measure: the package without its tests."""
        own = (path for path in paths if path.startswith(f"{self.package}/"))
        return [path for path in own if not path.startswith(f"{self.package}/tests/")]


SUITES = {
    "oslo.utils": Suite(package="oslo_utils", tests="oslo_utils/tests", greenlets=True),
    "placement": Suite(package="placement", tests="placement/tests/unit"),
    "python-novaclient": Suite(package="novaclient", tests="novaclient/tests/unit"),
}


def make_python(scene: Scene, name: str, clone: Path) -> Path:
    """The interpreter of an environment with the project's requirements; one there is reused."""
    folder = scene.work / "environments" / name
    python = folder / "bin" / "python"
    if python.exists():
        return python
    uv = Path(sys.executable).with_name("uv")
    text = scene.constraints.read_text().splitlines(keepends=True)
    constraints = scene.work / f"{name}-constraints.txt"
    constraints.write_text("".join(line for line in text if not line.startswith(f"{name}===")))
    words = [word for file in clone.glob("*requirements.txt") for word in ("-r", str(file))]
    install: list[str | Path] = [uv, "pip", "install", "-q", "--python", python, *words]
    install += ["-c", constraints, "stestr", "coverage"]
    create: list[str | Path] = [uv, "venv", "-q", "--python", scene.python, folder]
    for argv in (create, install):
        done = run_command(argv, cwd=scene.work)
        if done.status:
            shutil.rmtree(folder, ignore_errors=True)
            raise SystemExit(f"The environment of {name} cannot be built: {done.last_words}")
    return python


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One project's checkout and how its tests are run."""

    checkout: Checkout
    suite: Suite
    paths: Sequence[str]
    worker: Path
    branch: bool

    def run(self, way: str) -> tuple[float, dict[str, Any]]:
        """CPU seconds of one worker, and its report."""
        folder = self.checkout.root.with_name(f"{self.checkout.root.name}-run")
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "data").mkdir(parents=True)
        (folder / "plan.json").write_text(json.dumps(self._plan(folder, way)))
        argv = [self.checkout.python, self.worker, folder / "plan.json"]
        timed = run_timed(argv, cwd=self.checkout.root, env=self.checkout.environment())
        if timed.completed.status:
            raise SystemExit(f"The worker failed: {timed.completed.stderr[-2000:]}")
        report: dict[str, Any] = json.loads((folder / "report.json").read_text())
        return timed.cpu, report

    def _plan(self, folder: Path, way: str) -> dict[str, Any]:
        measured = self.suite.measured(self.paths)
        return {
            "root": str(self.checkout.root),
            "folder": str(folder / "data"),
            **{name: str(folder / name) for name in ("stream", "report", "ticks")},
            "report": str(folder / "report.json"),
            "modules": self.suite.modules(self.paths),
            "only": None,
            **{name: [] for name in ("skip", "match", "avoid", "imports")},
            "source": [self.suite.package],
            "branch": self.branch,
            "measured": measured,
            "tree": sorted(set(self.paths) - set(measured)),
            "recorder": "branching" if self.branch and way == OURS else WAYS[way],
        }

    def lines(self) -> Lines:
        """All lines of the last run in measured files. An empty file's line 0 is no line."""
        folder = self.checkout.root.with_name(f"{self.checkout.root.name}-run") / "data"
        (path,) = folder.glob(".coverage*")
        measured = set(self.suite.measured(self.paths))
        with closing(sqlite3.connect(path)) as db:
            if self.branch:
                return self._arcs(db)
            return {
                (context, name): set(numbits_to_nums(bits)) - {0}
                for context, name, bits in db.execute(QUERY)
                if name in measured
            }

    def _arcs(self, db: sqlite3.Connection) -> Lines:
        """Executed branch exits as coverage.py reports them, and executed statements as (n, n)."""
        found: dict[tuple[str, str], set[tuple[int, int]]] = defaultdict(set)
        for context, name, start, end in db.execute(ARC_QUERY):
            found[context, name].add((start, end))
        parsed = self.parse()
        return {
            (context, name): executed_exits(parsed[name], arcs)
            for (context, name), arcs in found.items()
            if name in parsed
        }

    def parse(self) -> Mapping[str, Parsed]:
        """The measured files by the project's own interpreter and coverage.py."""
        folder = self.checkout.root.with_name(f"{self.checkout.root.name}-run")
        ask = {
            "root": str(self.checkout.root),
            "result": str(folder / "parsed.json"),
            "known": [],
            "source": [self.suite.package],
            "branch": True,
            "outline": [],
            "only": self.suite.measured(self.paths),
        }
        (folder / "parse.json").write_text(json.dumps(ask))
        argv = [self.checkout.python, self.worker.with_name("parse.py"), folder / "parse.json"]
        done = run_command(argv, cwd=self.checkout.root, env=self.checkout.environment())
        if done.status:
            raise SystemExit(f"The files cannot be parsed: {done.stderr[-2000:]}")
        files = json.loads((folder / "parsed.json").read_text())["files"]
        return {path: read_parsed(raw) for path, raw in files.items()}


def executed_exits(parsed: Parsed, arcs: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """The branch exits that count as taken, and (n, n) for every statement that ran."""
    missing = set(missing_branches(parsed, arcs))
    forks = {line for line, exits in parsed.exits.items() if exits > 1}
    taken = {arc for arc in parsed.arcs if arc[0] in forks and arc not in missing}
    lines = {line for arc in arcs for line in arc if line > 0}
    # Of a context that did not run the line, not even what is never counted was taken.
    ran = covered_statements(parsed, lines)
    return {arc for arc in taken if arc[0] in ran} | {(line, line) for line in ran}


def prepare(scene: Scene, name: str, revision: str, worker: Path, *, branch: bool) -> Bench:
    clone = scene.clone(name, name)
    checkout = Checkout(
        clone=clone,
        root=scene.work / "checkouts" / f"recorder-{name}",
        python=make_python(scene, name, clone),
        variables={},
    )
    shutil.rmtree(checkout.root, ignore_errors=True)  # a work tree of an earlier clone
    checkout.go_to(git(clone, "rev-parse", revision))
    paths = git(checkout.root, "ls-files", "*.py").splitlines()
    if SUITES[name].greenlets:
        tell_of_greenlets(checkout.root / ".coveragerc")
    return Bench(checkout=checkout, suite=SUITES[name], paths=paths, worker=worker, branch=branch)


def tell_of_greenlets(file: Path) -> None:
    """Add the setting to coverage.py's of a checkout."""
    settings = ConfigParser(interpolation=None)
    settings.read(file)
    settings["run"]["concurrency"] = "greenlet"
    with file.open("w") as out:
        settings.write(out)


def measure(bench: Bench, name: str, rounds: int) -> dict[str, Any]:
    """`rounds` interleaved runs of each way; a first plain one, uncounted, compiles bytecode."""
    bench.run(PLAIN)
    cpus: dict[str, list[float]] = {way: [] for way in WAYS}
    lines: dict[str, Lines] = {}
    reports: dict[str, dict[str, Any]] = {}
    for number in range(rounds):
        for way in WAYS:
            cpu, reports[way] = bench.run(way)
            cpus[way].append(round(cpu, 3))
            if way != PLAIN:
                lines[way] = bench.lines()
        seconds = ", ".join(f"{way} {cpus[way][-1]:.2f}" for way in WAYS)
        say(f"{name}: round {number + 1} of {rounds}: {seconds} CPU s")
    tests = [test for ids in reports[OURS]["tests"].values() for test in ids]
    return {
        "commit": git(bench.checkout.root, "rev-parse", "HEAD"),
        "tests": len(tests),
        "recorders": {way: reports[way]["recorder"] for way in WAYS},
        "cpu": cpus,
        **compare(lines[OURS], lines[TRACER], tests),
    }


def compare(ours: Lines, tracers: Lines, tests: Collection[str]) -> dict[str, object]:
    """How much ran by the C tracer, and what only one of the two recorded: at all, per test."""
    differences: dict[str, object] = {}
    for kind, keys in (("lines", None), ("pairs", set(tests))):
        found, expected = flatten(ours, keys), flatten(tracers, keys)
        differences[kind] = len(expected)
        differences[f"{kind}_missed"] = sorted(expected - found)[:100]
        differences[f"{kind}_false"] = sorted(found - expected)[:100]
    return {"files": len({name for _, name in tracers}), **differences}


def flatten(lines: Lines, tests: Collection[str] | None) -> set[tuple[str, str, Any]]:
    """Test, file and line of each that ran; without `tests` those of all contexts as one."""
    return {
        ("" if tests is None else context, name, number)
        for (context, name), numbers in lines.items()
        if tests is None or context in tests
        for number in numbers
    }


def as_rows(name: str, result: Mapping[str, Any]) -> list[list[object]]:
    """The printed rows: ratios are of the runs of one round; the rest are lines."""
    rows: list[list[object]] = []
    plain = result["cpu"][PLAIN]
    for way in WAYS:
        cpus = result["cpu"][way]
        ratios = [cpu / base for cpu, base in zip(cpus, plain, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        middle = [f"{median(cpus):.2f}", f"{median(ratios):.2f}", spread]
        rows.append([name, way, result["tests"], *middle, f"{min(cpus) / min(plain):.2f}"])
    for kind in ("lines", "pairs"):
        rows[1] += [result[kind], len(result[f"{kind}_missed"]) + len(result[f"{kind}_false"])]
    return [row + [""] * (len(HEADS) - len(row)) for row in rows]


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    Scene.add_options(parser)
    parser.add_argument("--project", action="append", choices=sorted(SUITES))
    parser.add_argument("--revision", default="HEAD")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--branch", action="store_true", help="branches, not lines alone")
    parser.add_argument("--worker", type=Path, default=WORKER, help="another copy of worker.py")
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    scene = Scene.from_options(arguments)
    for name in arguments.project or sorted(SUITES):
        worker = arguments.worker.resolve()
        bench = prepare(scene, name, arguments.revision, worker, branch=arguments.branch)
        result = {"about": about(scene.python), **measure(bench, name, arguments.rounds)}
        kind = "branches" if arguments.branch else "projects"
        kept = load_kept(NAME)
        keep(NAME, {**kept, kind: {**kept.get(kind, {}), name: result}})
    print_results(load_kept(NAME)["branches" if arguments.branch else "projects"])


def print_results(results: Mapping[str, Mapping[str, Any]]) -> None:
    print_table(HEADS, [row for name in sorted(results) for row in as_rows(name, results[name])])


if __name__ == "__main__":
    main()
