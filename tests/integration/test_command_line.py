"""The command line as a user meets it: real processes, statuses, what is printed where."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import coverage
import jsonschema
import testtools

from covtrack.schemas import schemas
from tests.sample_project import SampleClone
from venv_builder.processes import Completed, run_command

# One state folder for all tests of this process: they share the environment.
STATE = Path(tempfile.mkdtemp(prefix="covtrack-tests-"))
atexit.register(shutil.rmtree, STATE, ignore_errors=True)


def covtrack(*words: str | Path, cwd: Path) -> Completed:
    """Run the command to its end."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env = {**keep, "XDG_STATE_HOME": str(STATE), "NO_COLOR": "1", "COLUMNS": "100"}
    return run_command([sys.executable, "-m", "covtrack", *words], cwd=cwd, env=env)


class CommandCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp(prefix="command-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def make_clone(self) -> SampleClone:
        return SampleClone(self.folder / f"clone-{self.id().rpartition('.')[2]}")

    def assert_told(self, done: Completed, status: int, *words: str) -> None:
        """One sentence on stderr, no traceback, nothing on stdout, that exit status."""
        self.assertEqual((status, ""), (done.status, done.stdout))
        self.assertNotIn("Traceback", done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)


class RunCommandTest(CommandCase):
    def test_json_of_run_and_report_keep_the_contract(self) -> None:
        clone = self.make_clone()
        done = covtrack("run", "--format", "json", cwd=clone.root)
        self.assertEqual(0, done.status, done.stderr)
        answer = json.loads(done.stdout)
        jsonschema.validate(answer, schemas()["run"])
        self.assertEqual((3, 3), (answer["tests"]["run"], answer["tests"]["passed"]))
        self.assertEqual([18], answer["files"]["sample/shapes.py"]["missing"])
        rows = json.loads(covtrack("report", "--format", "json", cwd=clone.root).stdout)
        jsonschema.validate(rows, schemas()["projects"])
        row = next(row for row in rows if row["project"] == clone.root.name)
        self.assertEqual(answer["total"]["covered"], row["covered"])

    def test_text_says_what_the_figure_rests_on(self) -> None:
        clone = self.make_clone()
        covtrack("run", cwd=clone.root)
        done = covtrack("run", cwd=clone.root)
        self.assertIn("tests: 0 run", done.stdout)
        self.assertIn(f"3 carried from {clone.repo.head.commit.hexsha[:10]}", done.stdout)

    def test_uncommitted_edits_are_told(self) -> None:
        clone = self.make_clone()
        clone.replace("sample/shapes.py", "return 1", "return 2")
        done = covtrack("run", cwd=clone.root)
        self.assertIn("Uncommitted edits are not measured: sample/shapes.py", done.stderr)

    def test_incomplete_figure_ends_with_status_3(self) -> None:
        clone = self.make_clone()
        clone.commit("Break", {"sample/tests/test_broken.py": "def broken(:\n"})
        done = covtrack("run", cwd=clone.root)
        self.assertEqual(3, done.status)
        self.assertIn("sample.tests.test_broken did not import: SyntaxError", done.stdout)

    def test_a_budget(self) -> None:
        clone = self.make_clone()
        covtrack("run", cwd=clone.root)
        clone.repo.git.checkout("-q", "-b", "topic")
        clone.replace("sample/shapes.py", "width * height", "height * width")
        clone.commit_all("Turn round")
        clone.repo.git.checkout("-q", "master")
        words = ("run", "--rev", "topic", "--budget", "0.00001 s")
        done = covtrack(*words, cwd=clone.root)
        self.assertEqual(0, done.status, done.stderr)
        self.assertIn("provisional: 0 of 1 affected tests ran", done.stdout)
        value = json.loads(covtrack(*words, "--format", "json", cwd=clone.root).stdout)
        jsonschema.validate(value, schemas()["run"])
        self.assertEqual({"sample/shapes.py": [7]}, value["provisional"]["undecided"])
        told = covtrack("why", "test_area", "--rev", "topic", cwd=clone.root)
        self.assertIn("before its budget ended", told.stdout, told.stderr)
        export = ("export", "--rev", "topic", "--format", "xml", "-o", self.folder / "x.xml")
        done = covtrack(*export, cwd=clone.root)
        self.assertIn("of the missing statements 1 are undecided", done.stderr)
        done = covtrack("run", "--rev", "topic", "--budget", "none", cwd=clone.root)
        self.assertNotIn("provisional", done.stdout)
        for wrong in ("", "soon", "0 s", "-1"):
            done = covtrack("run", "--budget", wrong, cwd=clone.root)
            self.assert_told(done, 2, 'must be a time such as "60 s", or "none"')

    def test_usage_errors(self) -> None:
        clone = self.make_clone()
        self.assert_told(covtrack("run", cwd=self.folder), 2, "no git clone", "covtrack init")
        self.assert_told(covtrack("run", "ghost", cwd=clone.root), 2, "ghost", "project add")
        self.assert_told(covtrack("run", "--rev", "ghost", cwd=clone.root), 2, "ghost")
        self.assert_told(covtrack("run", "--select", "x", cwd=clone.root), 2, "--select")
        self.assert_told(covtrack("report", "ghost", cwd=clone.root), 2, "ghost")


class ExportCommandTest(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.clone = self.make_clone()
        self.assertEqual(0, covtrack("run", cwd=self.clone.root).status)

    def export(self, style: str, name: str, *words: str | Path) -> Path:
        output = self.folder / name
        arguments = ("--format", style, "-o", output, *words)
        done = covtrack("export", *arguments, cwd=self.clone.root)
        self.assertEqual(0, done.status, done.stderr)
        return output

    def test_data_file_has_relative_paths(self) -> None:
        data = coverage.CoverageData(str(self.export("coverage", "data")))
        data.read()
        self.assertIn("sample/shapes.py", data.measured_files())

    def test_data_file_with_a_root_opens_in_plain_coverage(self) -> None:
        self.export("coverage", "rooted", "--root", self.clone.root)
        words = [sys.executable, "-m", "coverage", "report", "--rcfile=/dev/null"]
        words.append(f"--data-file={self.folder / 'rooted'}")
        done = run_command(words, cwd=self.clone.root)
        self.assertRegex(done.stdout, r"shapes\.py\s+9\s+1\s+89%")

    def test_xml_names_files_from_the_root(self) -> None:
        tree = ElementTree.parse(self.export("xml", "coverage.xml"))
        names = {node.get("filename") for node in tree.iter("class")}
        self.assertIn("sample/shapes.py", names)

    def test_lcov_and_html(self) -> None:
        self.assertIn("SF:sample/shapes.py", self.export("lcov", "out.info").read_text())
        self.assertTrue((self.export("html", "html") / "index.html").is_file())

    def test_html_never_replaces_other_files(self) -> None:
        (self.folder / "mine").mkdir()
        (self.folder / "mine" / "letter.txt").write_text("x")
        (self.folder / "mine" / "index.html").write_text("x")
        arguments = ("--format", "html", "-o", self.folder / "mine")
        self.assert_told(covtrack("export", *arguments, cwd=self.clone.root), 2, "other files")

    def test_unmeasured_revision(self) -> None:
        self.clone.commit("More", {"notes.txt": "x"})
        words = ("--format", "lcov", "-o", self.folder / "x", "--rev", "nonesuch")
        self.assert_told(covtrack("export", *words, cwd=self.clone.root), 2, "nonesuch")


class SettingsCommandTest(CommandCase):
    def test_init_add_list_show(self) -> None:
        self.assertEqual(0, covtrack("init", cwd=self.folder).status)
        self.assert_told(covtrack("init", cwd=self.folder), 2, "exists already")
        added = covtrack("project", "add", "one", "--git", "/srv/one", cwd=self.folder)
        self.assertEqual(0, added.status, added.stderr)
        again = covtrack("project", "add", "one", "--git", "/srv/one", cwd=self.folder)
        self.assert_told(again, 2, "a project one already")
        self.assertIn("one\t", covtrack("project", "list", cwd=self.folder).stdout)
        self.assertIn("target = 80", covtrack("project", "show", "one", cwd=self.folder).stdout)
        self.assertIn("never", covtrack("report", cwd=self.folder).stdout)

    def test_schema_is_json(self) -> None:
        for name in ("run", "projects", "files"):
            done = covtrack("schema", name, cwd=self.folder)
            self.assertEqual(schemas()[name], json.loads(done.stdout))
