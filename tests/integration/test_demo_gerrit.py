"""covtrack demo --gerrit, on the small sample project; and without what it needs."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from textwrap import dedent

from testtools import TestCase

from covtrack.demo_gerrit import run_gerrit_demo
from covtrack.demo_history import History, Step
from covtrack.gerrit.local_parts import gerrit_version, missing_parts
from covtrack.java import JAVA_VARIABLE
from tests.sample_project import FILES
from tests.scratch_git import ScratchRepository
from venv_builder.processes import run_command
from venv_builder.progress import Listener

ROOT = Path(__file__).parents[2]
UNTESTED = "\n\ndef unused(number):\n    number += 1\n    number += 2\n    return number\n"


def sample_history(folder: Path, listener: Listener) -> History:
    """The sample with a merge, and two changes on top: one tested, one not."""
    path = folder / "history" / "sample"
    repository = ScratchRepository(path)
    first = repository.commit({name: dedent(text) for name, text in FILES.items()}, "Begin")
    merge = repository.commit({"README": "A sample.\n"}, "Describe it")
    shapes = dedent(FILES["sample/shapes.py"])
    siblings = []
    for branch, text in (
        ("tested", shapes.replace("width * height", "height * width")),
        ("untested", shapes + UNTESTED),
    ):
        repository.git("checkout", "-q", "-b", branch, "master")
        change_id = f"Change-Id: I{branch.encode().hex():0<40}"
        sha = repository.commit({"sample/shapes.py": text}, f"Make {branch}\n\n{change_id}")
        siblings.append(Step(commit=sha, title=f"Make {branch}", branch=branch))
    return History(
        path=path,
        releases=(Step(commit=first, title="Begin"),),
        merges=(Step(commit=merge, title="Describe it"),),
        siblings=tuple(siblings),
    )


class DemoTest(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp(prefix="demo-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def test_from_nothing_to_verdicts(self) -> None:
        if reason := missing_parts(gerrit_version()):
            self.skipTest(reason)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            run_gerrit_demo(self.folder / "demo", sample_history)
        for words in (
            "Change 1: Make tested, ",
            "1 of 1 statement",
            "Change 2: Make untested, ",
            "Coverage+1",
            "  sample/shapes.py:22-24: No test runs these lines.",
        ):
            self.assertIn(words, out.getvalue())
        self.assertIn("serve: Job 1: sample master is measured", err.getvalue())
        self.assertNotIn("secret", (self.folder / "demo/covtrack.toml").read_text())

    def test_without_java(self) -> None:
        git = shutil.which("git")
        assert git is not None
        (self.folder / "git").symlink_to(git)
        done = run_command(
            [sys.executable, "-P", "-m", "covtrack", "demo", "--gerrit"],
            cwd=self.folder,
            env=os.environ
            | {"PATH": str(self.folder), "PYTHONPATH": str(ROOT), JAVA_VARIABLE: ""},
        )
        self.assertEqual(3, done.status, done.stderr)
        self.assertIn(" needs java, which is not installed.", done.stderr)
        self.assertIn("Install a JDK", done.stderr)
        self.assertNotIn("Traceback", done.stderr)
