"""Compares patch coverage with diff-cover on real history: the last N changes of a project.

Each change is measured by `covtrack run`, exported as XML, and given to diff-cover in a checkout
of the same commit. Where the two differ, coverage.py's own parser tells why: diff-cover knows
the first lines of statements alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from coverage import Coverage
from coverage.python import PythonFileReporter
from real_projects import (
    COVTRACK,
    Scene,
    Tracked,
    about,
    git,
    keep,
    load_kept,
    print_table,
    say,
)

from venv_builder.processes import check_command

NAME = "patch_coverage"
SOURCES = {"oslo.utils": "oslo_utils", "python-novaclient": "novaclient"}
DIFF_COVER = Path(sys.executable).with_name("diff-cover")
HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One project under comparison: its clone, its checkout and its covtrack."""

    scene: Scene
    project: str
    clone: Path
    checkout: Path
    tracked: Tracked


def find_changes(clone: Path, package: str, count: int) -> list[str]:
    """The last `count` first-parent commits that touch the package itself, oldest first."""
    paths = (f"{package}/**/*.py", f":(exclude,glob){package}/tests/**")
    spec = [f":(glob){paths[0]}", paths[1]]
    words = ("--first-parent", "-m", "--diff-filter=AMR", f"--max-count={count}", "--format=%H")
    return git(clone, "log", *words, "HEAD", "--", *spec).split()[::-1]


def export_xml(subject: Subject, sha: str) -> Path:
    xml = subject.scene.work / f"{subject.project}.xml"
    xml.unlink(missing_ok=True)
    words: list[str | Path] = ["export", subject.project, "--rev", sha, "--format", "xml"]
    config = subject.tracked.config
    check_command([*COVTRACK, "-c", config, *words, "-o", xml], cwd=subject.scene.work)
    return xml


def run_diff_cover(subject: Subject, xml: Path, parent: str) -> dict[str, Any]:
    """diff-cover's JSON for the checkout as it stands."""
    target = xml.with_suffix(".json")
    words: list[str | Path] = [xml, "--compare-branch", parent, "--format", f"json:{target}"]
    env = {"PATH": os.environ["PATH"], "HOME": str(subject.scene.work)}
    check_command([DIFF_COVER, *words], cwd=subject.checkout, env=env)
    told: dict[str, Any] = json.loads(target.read_text())
    return told


def read_lines(xml: Path) -> dict[str, dict[int, bool]]:
    """By path, the XML's lines and whether they ran."""
    return {
        str(node.get("filename")): {
            int(line.get("number", 0)): line.get("hits") != "0" for line in node.iter("line")
        }
        for node in ElementTree.parse(xml).iter("class")  # noqa: S314
    }


def explain(subject: Subject, parent: str, path: str, known: Mapping[int, bool]) -> set[int]:
    """Statements of a file that the change touches in other lines than their first."""
    words = ("diff", "-U0", "-M", "--no-color", parent, "HEAD", "--")
    old = git(subject.checkout, "diff", "-M", "--name-status", parent, "HEAD")
    names = [
        p
        for line in old.splitlines()
        if line.split("\t")[-1] == path
        for p in line.split("\t")[1:]
    ]
    hunks = HUNK.findall(git(subject.checkout, *words, *names))
    with chdir(subject.checkout):
        reporter = PythonFileReporter(path, Coverage(data_file=None))
        touched: set[int] = set()
        for start, count in ((int(a), int(b or 1)) for a, b in hunks):
            touched |= reporter.translate_lines(range(start, start + count))
            ends = [reporter.translate_lines([line]) for line in (start, start + 1)]
            if not count and ends[0] == ends[1]:
                touched |= ends[0]
        added = {n for a, b in hunks for n in range(int(a), int(a) + int(b or 1))}
    return (touched & set(known)) - added


def compare(subject: Subject, sha: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """One row: covtrack's patch beside diff-cover's figures, and what tells them apart."""
    patch = report["patch"]
    git(subject.checkout, "checkout", "--quiet", "--force", "--detach", sha)
    xml = export_xml(subject, sha)
    theirs = run_diff_cover(subject, xml, patch["parent"])
    known = read_lines(xml)
    changed = git(subject.checkout, "diff", "--name-only", patch["parent"], sha).splitlines()
    inner = {
        path: explain(subject, patch["parent"], path, known[path])
        for path in changed
        if path in known
    }
    ours = {
        (part["path"], line)
        for part in patch["uncovered"]
        for line, ran in known[part["path"]].items()
        if not ran and part["first"] <= line <= part["last"]
    }
    violations = {
        (path, line)
        for path, file in theirs["src_stats"].items()
        for line in file["violation_lines"]
    }
    lines = theirs["total_num_lines"]
    uncovered_inner = {(p, n) for p, numbers in inner.items() for n in numbers if not known[p][n]}
    return {
        "project": subject.project,
        "commit": sha,
        "parent": patch["parent"],
        "base": report["base"],
        "subject": git(subject.clone, "show", "-s", "--format=%s", sha),
        "tests": report["tests"],
        "statements": patch["statements"],
        "covered": patch["covered"],
        "ranges": len(patch["uncovered"]),
        "without_nearest": sum(part["nearest_test"] is None for part in patch["uncovered"]),
        "uncovered": patch["uncovered"],
        "diff_cover_lines": lines,
        "diff_cover_covered": lines - theirs["total_num_violations"],
        "touched_inside_alone": sum(map(len, inner.values())),
        "unexplained_statements": patch["statements"] - lines - sum(map(len, inner.values())),
        "unexplained_lines": sorted((ours - uncovered_inner) ^ violations),
    }


def as_cells(row: Mapping[str, Any]) -> list[object]:
    return [
        row["project"],
        f"{row['commit'][:8]} {row['subject'][:40]}",
        f"{row['covered']}/{row['statements']}",
        f"{row['diff_cover_covered']}/{row['diff_cover_lines']}",
        row["touched_inside_alone"],
        row["unexplained_statements"],
        len(row["unexplained_lines"]),
        row["ranges"],
        row["without_nearest"],
    ]


HEADS = (
    "project", "change", "covtrack", "diff-cover", "inside alone", "unexplained",
    "other lines", "ranges", "no test near",
)  # fmt: skip


def begin(scene: Scene, project: str) -> Subject:
    clone = scene.clone(project, f"{project}-patch")
    checkout = scene.work / "checkouts" / f"{project}-patch"
    if not checkout.exists():
        checkout.parent.mkdir(parents=True, exist_ok=True)
        git(scene.work, "clone", "--quiet", str(clone), str(checkout))
    label = f"{project}-patch"
    tracked = Tracked.begin(scene, project, label, clone, branch_coverage=False)
    return Subject(scene=scene, project=project, clone=clone, checkout=checkout, tracked=tracked)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    Scene.add_options(parser)
    parser.add_argument("--project", action="append", choices=sorted(SOURCES))
    parser.add_argument("--last", type=int, default=10, help="how many changes")
    parser.add_argument("--select", default="all")
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    scene = Scene.from_options(arguments)
    for project in arguments.project or sorted(SOURCES):
        subject = begin(scene, project)
        rows = []
        for sha in find_changes(subject.clone, SOURCES[project], arguments.last):
            say(f"{project}: {sha[:8]}")
            report, _ = subject.tracked.run(sha, arguments.select)
            rows.append(compare(subject, sha, report))
        others = load_kept(NAME).get("rows", [])
        rows = [row for row in others if row["project"] != project] + rows
        path = keep(
            NAME,
            {"about": about(scene.python) | {"diff_cover": version("diff-cover")}, "rows": rows},
        )
        say(f"kept in {path}")
        print_table(HEADS, [as_cells(row) for row in rows])


if __name__ == "__main__":
    main()
