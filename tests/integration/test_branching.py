"""Arcs by sys.monitoring against coverage.py's own tracer: all forms of control flow, per call."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import coverage
from testtools import TestCase

from jobs.confinement import MEASURED
from jobs.measure import Arc, covered_statements, missing_branches
from jobs.statements import Parsed, read_parsed
from venv_builder import Interpreter, find_interpreters
from venv_builder.processes import run_command

FORMS = Path(__file__).with_name("branch_forms.txt")
RECORD = """
import asyncio, contextlib, json, os, runpy, sys
import coverage
folder, measured, way = sys.argv[1:]
path = os.path.join(folder, "forms.py")
if way == "ours":
    monitoring = runpy.run_path(os.path.join(measured, "monitoring.py"))
    branching = runpy.run_path(os.path.join(measured, "branching.py"))["Branching"]
    recorder = monitoring["MonitoringRecorder"](folder, {path: "forms.py"}, [path], branching)
    switch = recorder.switch
else:
    recorder = coverage.Coverage(
        data_file=os.path.join(folder, ".coverage.theirs"), branch=True, source=[folder]
    )
    switch = recorder.switch_context
recorder.start()
switch("import")
sys.path.insert(0, folder)
import forms
for number, (call, *arguments) in enumerate(forms.CALLS):
    switch("call %d" % number)
    try:
        call(*arguments)
    except Exception:
        pass
switch("")
recorder.stop()
if way != "ours":
    recorder.save()
"""


class BranchingTest(TestCase):
    def setUp(self) -> None:
        super().setUp()
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.folder = Path(held.name).resolve()
        (self.folder / "forms.py").write_text(FORMS.read_text())
        (self.folder / "record.py").write_text(RECORD)

    def run_python(self, found: Interpreter, *argv: str | Path) -> None:
        """Run it with this environment's coverage.py, whose Python tracer any version can load."""
        library = Path(coverage.__file__).parents[1]
        env = {**os.environ, "PYTHONPATH": str(library), "COVERAGE_CORE": "pytrace"}
        done = run_command([found.path, *argv], cwd=self.folder, env=env)
        self.assertEqual(0, done.status, done.stderr)

    def record(self, found: Interpreter, way: str, name: str) -> dict[str, set[Arc]]:
        """The arcs of forms.py by context."""
        self.run_python(found, "record.py", self.folder, MEASURED, way)
        arcs: dict[str, set[Arc]] = defaultdict(set)
        with closing(sqlite3.connect(self.folder / name)) as db:
            for context, start, end in db.execute(
                "SELECT context, fromno, tono FROM arc JOIN file ON file.id = file_id"
                " JOIN context ON context.id = context_id WHERE path LIKE '%forms.py'"
            ):
                arcs[context].add((start, end))
        return arcs

    def parse(self, found: Interpreter) -> Parsed:
        plan: dict[str, Any] = {"root": str(self.folder), "result": str(self.folder / "parsed")}
        plan |= {"known": [], "source": ["."], "branch": True, "outline": []}
        (self.folder / "plan").write_text(json.dumps({**plan, "only": ["forms.py"]}))
        self.run_python(found, MEASURED / "parse.py", "plan")
        return read_parsed(json.loads((self.folder / "parsed").read_text())["files"]["forms.py"])

    def test_same_branches_and_lines_in_every_call(self) -> None:
        known = [f for f in find_interpreters() if f.version[:2] in ((3, 12), (3, 13))]
        if not known:
            self.skipTest("no CPython 3.12 or 3.13 on this machine")
        for found in known:
            ours = self.record(found, "ours", ".coverage.monitoring")
            theirs = self.record(found, "theirs", ".coverage.theirs")
            parsed = self.parse(found)
            self.assertTrue(len(theirs) > 50)
            for context in theirs.keys() | ours.keys():
                self.assertEqual(
                    taken(parsed, theirs.get(context, set())),
                    taken(parsed, ours.get(context, set())),
                    f"{found.version} {context}",
                )


def taken(parsed: Parsed, arcs: set[Arc]) -> set[Arc]:
    """The branch exits of lines that ran that count as taken, and (n, n) for every statement."""
    ran = covered_statements(parsed, {line for arc in arcs for line in arc if line > 0})
    missing = set(missing_branches(parsed, arcs))
    return {
        arc
        for arc in parsed.arcs
        if parsed.exits.get(arc[0], 0) > 1 and arc[0] in ran and arc not in missing
    } | {(line, line) for line in ran}
