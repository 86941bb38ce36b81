"""Static reading of a tree's metadata, and the overlay that is written of it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path
from tempfile import TemporaryDirectory

import testtools

from venv_builder.errors import BuildError
from venv_builder.overlay import format_script, write_overlay
from venv_builder.project_files import read_groups, read_project

PBR = """[metadata]
name = demo.pbr
[files]
packages =
    demo_pbr
[extras]
ldap =
    python-ldap>=3.0 # PSF
[entry_points]
console_scripts =
    demo = demo_pbr.cli:main
demo.plugins =
    a = demo_pbr.a:A
    b = demo_pbr.b:B
"""
SETUPTOOLS = """[metadata]
name = demo
version = attr: demo.__version__
[options]
install_requires = file: reqs.txt
[options.extras_require]
Test_Extra = six; python_version<'3'
[options.entry_points]
console_scripts = demo = demo.cli:main
"""
PYPROJECT = """
[project]
name = "modern"
version = "1.5"
dependencies = ["six"]
[project.optional-dependencies]
all = ["modern[test]"]
test = ["mock"]
[project.scripts]
modern = "modern.cli:app.run"
[project.entry-points."modern.plugins"]
x = "modern.x:X"
[dependency-groups]
base = ["six"]
test = [{include-group = "base"}, "mock"]
loop = [{include-group = "loop"}, "one"]
"""
SETUP = """from setuptools import setup
VERSION = compute()
setup(name='old', version='0.3', install_requires=['six'], packages=find(),
      entry_points={'console_scripts': ['old = old.cli:main']}, extras_require={'x': ['mock']})
"""


class TreeTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree = Path(folder.name).resolve() / "some-tree"
        self.tree.mkdir()
        self.target = Path(folder.name) / "overlay"

    def write(self, name: str, text: str) -> None:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


class ReadProjectTest(TreeTest):
    def test_pbr(self) -> None:
        self.write("setup.cfg", PBR)
        project = read_project(self.tree)
        self.assertTrue(project.uses_pbr)
        self.assertIsNone(project.requirements)
        self.assertEqual(("python-ldap>=3.0 # PSF",), project.extras["ldap"])
        self.assertEqual(2, len(project.entry_points["demo.plugins"]))

    def test_setuptools_with_files_and_attributes(self) -> None:
        self.write("setup.cfg", SETUPTOOLS)
        self.write("reqs.txt", "six\nmock \\\n >=1\n")
        project = read_project(self.tree)
        self.assertFalse(project.uses_pbr)
        self.assertIsNone(project.version)
        self.assertEqual(2, len(project.requirements or ()))
        self.assertIn("test-extra", project.extras)

    def test_pyproject(self) -> None:
        self.write("pyproject.toml", PYPROJECT)
        project = read_project(self.tree)
        self.assertEqual(("modern", "1.5"), (project.name, project.version))
        self.assertEqual(("six",), project.requirements)
        self.assertEqual(("modern = modern.cli:app.run",), project.entry_points["console_scripts"])

    def test_dependency_groups_include_others_and_end(self) -> None:
        self.write("pyproject.toml", PYPROJECT)
        groups = read_groups(self.tree)
        self.assertEqual(("six", "mock"), groups["test"])
        self.assertEqual(("one",), groups["loop"])

    def test_literals_of_setup_py_without_running_it(self) -> None:
        self.write("setup.py", SETUP)
        project = read_project(self.tree)
        self.assertEqual(("old", "0.3"), (project.name, project.version))
        self.assertEqual(("mock",), project.extras["x"])

    def test_version_of_a_source_archive(self) -> None:
        self.write("setup.cfg", PBR)
        self.write("PKG-INFO", "Metadata-Version: 1.1\nName: demo.pbr\nVersion: 7.0\n")
        self.assertEqual("7.0", read_project(self.tree).version)

    def test_broken_files_are_named(self) -> None:
        for name, text in (("pyproject.toml", "[project\n"), ("setup.cfg", "no section\n")):
            self.write(name, text)
            error = self.assertRaises(BuildError, read_project, self.tree)
            self.assertIn(name, error.sentence)
            (self.tree / name).unlink()

    def test_dynamic_file_that_is_gone(self) -> None:
        self.write("setup.cfg", SETUPTOOLS)
        error = self.assertRaises(BuildError, read_project, self.tree)
        self.assertIn("reqs.txt", error.sentence)


class OverlayTest(TreeTest):
    def test_is_what_importlib_metadata_reads(self) -> None:
        self.write("setup.cfg", PBR)
        overlay = write_overlay(self.tree, self.target, version="9.1")
        info = PathDistribution(next(self.target.glob("*.dist-info")))
        self.assertEqual(("demo.pbr", "9.1"), (info.metadata["Name"], info.version))
        self.assertEqual({"console_scripts", "demo.plugins"}, {p.group for p in info.entry_points})
        self.assertEqual("demo_pbr", (info.read_text("top_level.txt") or "").strip())
        self.assertTrue(all(Path(path.locate()).is_file() for path in info.files or ()))
        self.assertEqual((), overlay.notes)

    def test_script_runs_the_tree_on_the_given_python(self) -> None:
        self.write("setup.cfg", PBR)
        self.write("demo_pbr/__init__.py", "")
        self.write("demo_pbr/cli.py", "import sys\ndef main():\n    print(sys.argv[1:])\n")
        python = Path(sys.executable)
        overlay = write_overlay(self.tree, self.target, version="1", python=python)
        run = subprocess.run(
            [overlay.bin / "demo", "a b"],
            env={"PYTHONPATH": str(self.tree), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual("['a b']\n", run.stdout)

    def test_a_tree_that_says_nothing_gets_its_folders_name_and_notes(self) -> None:
        overlay = write_overlay(self.tree, self.target)
        self.assertEqual(("some-tree", "0.0.0"), (overlay.name, overlay.version))
        self.assertEqual(2, len(overlay.notes))

    def test_replaces_an_older_overlay(self) -> None:
        self.write("setup.cfg", PBR)
        write_overlay(self.tree, self.target, version="1")
        write_overlay(self.tree, self.target, version="2")
        self.assertEqual(1, len(list(self.target.glob("*.dist-info"))))

    def test_nested_callables_and_lines_that_are_no_scripts(self) -> None:
        name, text = format_script("m = a.b:app.run [extra]", None) or ("", "")
        self.assertEqual("m", name)
        self.assertIn("from a.b import app\nsys.exit(app.run())", text)
        self.assertIsNone(format_script("m = a.b", None))
