"""Merges, remaps and totals a snapshot of nova's size, beside what coverage.py needs for it.

The repository and the snapshot are made by nova_tree.py out of a real project and a real snapshot
of it. Each step is a process of its own, so that its memory is its own; the steps are covtrack's
own functions on real commits, but that no test runs: the rows of those that would are given.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import re
import resource
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from nova_changes import Maker, map_changes
from nova_ground import (
    CIRCUMSTANCES,
    KEY,
    Clock,
    Work,
    make_ground,
    make_module,
    make_ran,
    make_request,
    parse,
)
from nova_tree import (
    Size,
    commit_all,
    lay_out,
    make_records,
    make_rows,
    read_template,
    write_footprint,
    write_worker,
)
from real_projects import about, git, keep, print_table, run_timed, say

from jobs.carrying import merge_rows, merge_tests
from jobs.cuts import make_basis, make_cut
from jobs.job import measure_snapshot
from jobs.merge import MergePlan
from jobs.repository import Mirror
from jobs.selection import Selection
from jobs.snapshot import file_digest, read_tests
from jobs.snapshot_writing import write_snapshot
from venv_builder.processes import run_command

NAME = "nova_size"
# How many tests run again for the small change, at least: those of one module.
AGAIN = 10


def edit(path: Path) -> None:
    """Comment lines at the file's top, and a statement more in its last function."""
    lines = path.read_text().splitlines(keepends=True)
    functions = [n for n in ast.walk(ast.parse("".join(lines))) if isinstance(n, ast.FunctionDef)]
    if functions:
        first = max(functions, key=lambda f: f.lineno).body[0]
        lines.insert(first.end_lineno or first.lineno, f"{' ' * first.col_offset}new = None\n")
    path.write_text("# This file\n# was changed.\n" + "".join(lines))


def generate(work: Work, arguments: argparse.Namespace) -> None:
    """The repository, the full run's data files, its snapshot, and the small change."""
    shutil.rmtree(work.root, ignore_errors=True)
    work.root.mkdir(parents=True)
    size = Size(copies=arguments.copies, tests=arguments.tests, mixed=arguments.mixed)
    template = read_template(arguments.template)
    say("lays the tree out")
    base = lay_out(template, arguments.source, arguments.revision, size, work.repository)
    mirror = Mirror(work.repository / ".git")
    make_request(work, mirror, base, base)
    ground = make_ground(work, mirror, base, None)
    say("parses it")
    parsed = parse(work, ground)
    rows = list(make_rows(template, size, random.Random(1)))  # noqa: S311 (the same each time)
    records = make_records(template, rows, base)
    say(f"writes {len(rows)} contexts of {len(parsed.files)} files")
    half = len(rows) // 2
    workers = [rows[:half], rows[half:]]
    full = work.root / "full"
    full.mkdir()
    for number, part in enumerate(workers):
        write_worker(full / f".coverage.{number}", part)
        write_footprint(full / f"footprint.{number}.json", part)
        write_worker(work.root / f".coverage.plain.{number}", part, only=frozenset(parsed.files))
    clock = Clock()
    with clock.stage("write"):
        write_snapshot(
            work.base,
            base=None,
            plan=MergePlan(dropped=frozenset(), moves={}),
            fresh=sorted(full.glob(".coverage.*")),
            touched=sorted(full.glob("footprint.*")),
            tests=records.values(),
            measured=parsed.files.keys(),
            key=KEY,
            circumstances=CIRCUMSTANCES,
        )
    say("makes the change")
    hot = hottest(work.base)
    module = choose_module(record.module for record in records.values())
    changed = [hot, *sorted(parsed.files)[len(parsed.files) // 2 :: len(parsed.files) // 4][:2]]
    for path in {*changed, make_module(module).path}:
        edit(work.repository / path)
    change = commit_all(work.repository, "A small change")
    again = [
        row for row in rows if row.context in records and records[row.context].module == module
    ]
    work.fresh.mkdir(parents=True)
    write_worker(work.fresh / ".coverage.monitoring", again)
    write_footprint(work.fresh / "footprint.json", again)
    parse_change(work, mirror, change, base)
    facts = {
        "base": base,
        "change": change,
        "module": module,
        "again": [row.context for row in again],
        "changed": changed,
        "full_snapshot_seconds": clock.seconds["write"],
        **measure_sizes(work.base),
    }
    (work.root / "facts.json").write_text(json.dumps(facts))


def parse_change(work: Work, mirror: Mirror, change: str, base: str) -> None:
    """Have what is new parsed and kept, as a job does before any test runs."""
    make_request(work, mirror, change, base)
    parse(work, make_ground(work, mirror, change, base))


def choose_module(names: Iterable[str]) -> str:
    """The test module with the fewest tests of those that have enough."""
    counts = Counter(names)
    return min((count, name) for name, count in counts.items() if count >= AGAIN)[1]


def hottest(snapshot: Path) -> str:
    """The measured file that most contexts ran."""
    with closing(sqlite3.connect(snapshot)) as db:
        (name,) = db.execute(
            "SELECT path FROM file JOIN line_bits ON file_id = id GROUP BY id"
            " ORDER BY count(*) DESC LIMIT 1"
        ).fetchone()
    return str(name)


def measure_sizes(snapshot: Path) -> dict[str, Any]:
    """How large the snapshot is, as rows and on disk."""
    counts = {}
    with closing(sqlite3.connect(snapshot)) as db:
        for table in ("file", "context", "line_bits", "covtrack_bits", "covtrack_touched"):
            (counts[table],) = db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        (tests,) = db.execute("SELECT count(*) FROM covtrack_test").fetchone()
        (hot,) = db.execute(
            "SELECT max(n) FROM (SELECT count(*) AS n FROM line_bits GROUP BY file_id)"
        ).fetchone()
    return {"rows": counts, "tests": tests, "hot_rows": hot, "bytes": snapshot.stat().st_size}


def merge_small_change(work: Work, clock: Clock) -> dict[str, Any]:
    """The merge stages of a job of the small change, and its measuring."""
    facts, mirror = work.facts, Mirror(work.repository / ".git")
    request = make_request(work, mirror, facts["change"], facts["base"])
    ground = make_ground(work, mirror, facts["change"], facts["base"])
    with clock.stage("statements"):
        parsed = parse(work, ground)
    with clock.stage("tests"):
        known = read_tests(work.base)
    ran = make_ran(work.fresh, facts["module"], facts["again"], parsed)
    module = make_module(facts["module"])
    selection = Selection(run=(module,), reasons={module.name: f"{module.path} changed"})
    target = work.root / "next.coverage"
    with clock.stage("merge"):
        tests = merge_tests(request, selection, ran, known)
        merge_rows(request, ground, selection, ran, known, tests, target)
    with clock.stage("measure"):
        measurement = measure_snapshot(request, parsed, target)
    total = measurement.total
    return {
        "bytes": target.stat().st_size,
        "statements": total.statements,
        "covered": total.covered,
        "tests": len(tests),
    }


def total_cached(work: Work, clock: Clock) -> dict[str, Any]:
    """The counts of every file from statements that are known and a snapshot."""
    facts, mirror = work.facts, Mirror(work.repository / ".git")
    request = make_request(work, mirror, facts["base"], facts["base"])
    ground = make_ground(work, mirror, facts["base"], None)
    with clock.stage("statements"):
        parsed = parse(work, ground)
    with clock.stage("measure"):
        measurement = measure_snapshot(request, parsed, work.base)
    return {"statements": measurement.total.statements, "covered": measurement.total.covered}


def cut_open_change(work: Work, clock: Clock) -> dict[str, Any]:
    """What the first `covtrack prospect` after a change was measured reads of it, whole."""
    facts = work.facts
    measured = work.root / "next.coverage"
    with clock.stage("digest"):
        file_digest(measured)
    with clock.stage("cut"):
        cut = make_cut(measured, work.base, {facts["change"]})
    with clock.stage("basis"):
        basis = make_basis(work.base)
    return {"fresh": len(cut.fresh), "contexts": len(basis.traces.lines)}


STEPS: Mapping[str, Callable[[Work, Clock], dict[str, Any]]] = {
    "merge": merge_small_change,
    "total": total_cached,
    "cut": cut_open_change,
    "open changes": map_changes,
}


def run_step(work: Work, name: str) -> None:
    """One step in this process; prints what it found and cost as JSON."""
    clock = Clock()
    found = STEPS[name](work, clock)
    cost = {
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu,
        "wall": round(sum(clock.seconds.values()), 3),
        "cpu": round(sum(clock.cpu.values()), 3),
        "max_rss": peak_memory(),
    }
    print(json.dumps({**found, **cost}))


def peak_memory() -> int:
    """Bytes of this process at most; getrusage() would tell of what started it, too."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def measure_step(work: Work, name: str) -> dict[str, Any]:
    argv: list[str | Path] = [sys.executable, __file__, "--work", work.root, "--step", name]
    timed = run_timed(argv, cwd=Path.cwd(), env={"PATH": "/usr/bin:/bin"})
    if timed.completed.status:
        raise SystemExit(timed.completed.stderr[-3000:])
    found: dict[str, Any] = json.loads(timed.completed.stdout.splitlines()[-1])
    say(f"{name}: {found}")
    return found


def measure_coverage(work: Work) -> dict[str, Any]:
    """`coverage combine` of the full run's two data files, and its report of the total."""
    coverage = Path(sys.executable).with_name("coverage")
    git(work.repository, "checkout", "--quiet", "--force", work.facts["base"])
    parts = sorted(work.root.glob(".coverage.plain.*"))
    spent = {}
    for name, words in {
        "combine": ["combine", "-q", "--keep", *parts],
        "report": ["report", "--format=total", "--precision=4"],
    }.items():
        argv = [sys.executable, __file__, "--peak", coverage, *words]
        timed = run_timed(argv, cwd=work.repository, env={"PATH": "/usr/bin:/bin"})
        if timed.completed.status:
            raise SystemExit(timed.completed.last_words)
        *output, memory = timed.completed.stdout.splitlines()
        name = f"coverage {name}"
        spent[name] = {
            "wall": round(timed.wall, 2),
            "cpu": round(timed.cpu, 2),
            "max_rss": int(memory),
            "output": output,
        }
        say(f"{name}: {spent[name]}")
    return spent


def run_and_tell_peak(argv: Sequence[str]) -> int:
    """Run a command from this small process; print the bytes that it took at most."""
    done = run_command(argv)
    print(done.stdout, end="")
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
    return done.status


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder to work in; is emptied")
    parser.add_argument("--template", type=Path, help="a real snapshot, in line mode")
    parser.add_argument("--source", type=Path, help="a clone of the template's project")
    parser.add_argument("--revision", default="HEAD", help="the template's commit")
    parser.add_argument("--copies", type=int, default=17)
    parser.add_argument("--tests", type=int, default=18_000)
    parser.add_argument("--mixed", type=int, default=4, help="real tests in each made one")
    parser.add_argument("--changes", type=int, default=200, help="open changes")
    parser.add_argument("--baselines", type=int, default=5, help="that they fork off")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reuse", action="store_true", help="what an earlier run generated")
    parser.add_argument("--step", choices=sorted(STEPS), help="this step alone")
    return parser.parse_args()


def main() -> None:
    if sys.argv[1:2] == ["--peak"]:
        raise SystemExit(run_and_tell_peak(sys.argv[2:]))
    arguments = read_arguments()
    work = Work(root=arguments.work.resolve())
    if arguments.step:
        run_step(work, arguments.step)
        return
    if not arguments.reuse:
        generate(work, arguments)
        Maker(work).make(arguments.changes, arguments.baselines)
    rounds: list[dict[str, Any]] = []
    for _ in range(arguments.rounds):
        rounds.append({name: measure_step(work, name) for name in STEPS})
        rounds[-1] |= measure_coverage(work)
    facts = work.facts
    facts["again"] = len(facts["again"])
    keep(NAME, {"about": about("-"), "facts": facts, "rounds": rounds})
    print_results(rounds)


def print_results(rounds: Sequence[Mapping[str, Any]]) -> None:
    """Medians, and the range of the walls."""
    rows: list[list[object]] = []
    for name in rounds[0]:
        found = [one[name] for one in rounds]
        walls = [one["wall"] for one in found]
        spread = f"{min(walls):.2f} to {max(walls):.2f}"
        memory = max(one["max_rss"] for one in found) / 2**20
        cpu = median(one["cpu"] for one in found)
        rows.append([name, "", f"{median(walls):.2f}", spread, f"{cpu:.2f}", f"{memory:.0f}"])
        for stage in found[0].get("seconds", ()):
            walls = [one["seconds"][stage] for one in found]
            spread = f"{min(walls):.2f} to {max(walls):.2f}"
            cpu = median(one["cpu_seconds"][stage] for one in found)
            rows.append(["", stage, f"{median(walls):.2f}", spread, f"{cpu:.2f}", ""])
    print_table(["step", "stage", "wall s", "range", "CPU s", "MiB"], rows)


if __name__ == "__main__":
    main()
