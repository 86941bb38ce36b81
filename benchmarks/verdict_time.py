"""Times `covtrack run` of a one-module change, from start to verdict, against bare runs.

Side by side, interleaved, in the same environment and at the same commit: covtrack; stestr's
worker on the module alone (`python -m stestr.subunit_runner.run MODULE`); and `stestr run REGEX`
with coverage.py in the workers. The aim is at most 1.5 times the bare worker plus 3 seconds.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from histories import HISTORIES
from real_projects import (
    Checkout,
    Scene,
    Timed,
    Tracked,
    about,
    git,
    keep,
    load_kept,
    print_table,
    run_timed,
    say,
)

NAME = "verdict_time"
COVTRACK, BARE, REGEX = "covtrack run", "bare stestr worker", "stestr run REGEX, coverage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A commit that touches one test module and sources; `module` is its dotted name."""

    project: str
    revision: str
    module: str
    variables: Mapping[str, str] = field(default_factory=dict)


CHANGES = {
    change.project: change
    for change in (
        Change(project="oslo.utils", revision="3c43bfa", module="oslo_utils.tests.test_timeutils"),
        Change(
            project="python-novaclient",
            revision="7d6ce966",
            module="novaclient.tests.unit.test_api_versions",
        ),
        Change(
            project="placement",
            revision="aa520fec",
            module="placement.tests.unit.test_policy",
            variables=HISTORIES["placement"].variables,
        ),
    )
}


@dataclass(kw_only=True)
class Measured:
    """All runs of one way, in order."""

    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)

    def add(self, timed: Timed) -> None:
        self.walls.append(round(timed.wall, 3))
        self.cpus.append(round(timed.cpu, 3))


def measure(
    scene: Scene, change: Change, rounds: int, label: str, **settings: object
) -> dict[str, Any]:
    """Baseline at the change's parent, one discarded round, then `rounds` interleaved ones."""
    clone = scene.clone(change.project, label)
    sha = git(clone, "rev-parse", change.revision)
    git(clone, "branch", "parent", f"{sha}^")
    git(clone, "checkout", "--quiet", "--detach", sha)
    tracked = Tracked.begin(scene, change.project, label, clone, branch="parent", **settings)
    say(f"{label}: baseline at the parent of {sha[:8]}")
    base, _ = tracked.run("parent", "all")
    first, first_timed = tracked.run(sha, "changed")
    shutil.rmtree(scene.work / "checkouts" / label, ignore_errors=True)
    checkout = Checkout(
        clone=clone,
        root=scene.work / "checkouts" / label,
        python=tracked.python(base),
        variables=change.variables,
    )
    checkout.go_to(sha)
    ways: dict[str, Measured] = {way: Measured() for way in (COVTRACK, BARE, REGEX)}
    stages: list[Mapping[str, float]] = []
    for number in range(-1, rounds):
        report, timed = tracked.run(sha, "changed")
        others = {BARE: run_bare(checkout, change.module)}
        others[REGEX] = checkout.run_under_coverage(f"^{change.module}[.]")
        if number < 0:
            continue
        stages.append(report["seconds"])
        ways[COVTRACK].add(timed)
        for way, other in others.items():
            ways[way].add(other)
        walls = ", ".join(f"{way} {ways[way].walls[-1]:.2f}" for way in ways)
        say(f"{label}: round {number + 1} of {rounds}: {walls} s")
    return {
        "about": about(scene.python),
        "commit": sha,
        "module": change.module,
        "recorder": first["recorder"],
        "tests": first["tests"],
        "first_wall": round(first_timed.wall, 3),
        "ways": {way: {"wall": m.walls, "cpu": m.cpus} for way, m in ways.items()},
        "stages": {
            name: round(median(one.get(name, 0.0) for one in stages), 3) for name in stages[0]
        },
    }


def run_bare(checkout: Checkout, module: str) -> Timed:
    """stestr's worker on one module, without coverage; its subunit stream is thrown away."""
    argv: list[str | Path] = [checkout.python, "-m", "stestr.subunit_runner.run", module]
    return run_timed(argv, cwd=checkout.root, env=checkout.environment())


def as_rows(label: str, result: Mapping[str, Any]) -> list[list[object]]:
    """Three rows of the printed table."""
    bare = result["ways"][BARE]
    rows: list[list[object]] = []
    for way, runs in result["ways"].items():
        wall, cpu = median(runs["wall"]), median(runs["cpu"])
        plain = median(bare["wall"])
        rows.append(
            [
                label,
                way,
                f"{wall:.2f}",
                f"{cpu:.2f}",
                f"{wall / plain:.2f}",
                f"{wall - plain:+.2f}",
                f"{1.5 * plain + 3:.2f}" if way == COVTRACK else "",
            ]
        )
    return rows


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    Scene.add_options(parser)
    parser.add_argument("--project", action="append", choices=sorted(CHANGES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", action="store_true", help="line coverage, whatever they say")
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    scene = Scene.from_options(arguments)
    for project in arguments.project or sorted(CHANGES):
        name = project + ("-lines" if arguments.lines else "")
        settings: dict[str, object] = {"branch_coverage": False} if arguments.lines else {}
        result = measure(scene, CHANGES[project], arguments.rounds, f"verdict-{name}", **settings)
        keep(NAME, {"projects": {**load_kept(NAME).get("projects", {}), name: result}})
    print_results(load_kept(NAME)["projects"])


def print_results(results: Mapping[str, Mapping[str, Any]]) -> None:
    heads: Sequence[str] = ("project", "way", "wall s", "CPU s", "ratio", "difference", "aim")
    print_table(heads, [row for name in sorted(results) for row in as_rows(name, results[name])])
    print("\ncovtrack's wall seconds per stage (medians), and the first run of the change:")
    for name in sorted(results):
        stages = "  ".join(f"{stage} {s:.2f}" for stage, s in results[name]["stages"].items())
        print(f"{name}: {stages}; first {results[name]['first_wall']:.2f}")


if __name__ == "__main__":
    main()
