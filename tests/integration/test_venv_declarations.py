"""What trees declare, read through the real tox in a subprocess."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import testtools

from venv_builder import Declared, Interpreter, pick_interpreter, read_declarations
from venv_builder.errors import BuildError, UsageError
from venv_builder.processes import Completed, run_command

TOX = """[tox]
minversion = 99
requires = virtualenv>=999
envlist = py3
[testenv]
usedevelop = True
install_command = pip install -c{env:UPPER_CONSTRAINTS_FILE:https://127.0.0.1:9/u} {packages}
setenv =
  OS_TEST_PATH=./demo/tests
  LOGS={envlogdir}
deps =
  -r{toxinidir}/test-requirements.txt
  .[ldap]
[testenv:cover]
setenv = PYTHON=coverage run --source demo --parallel-mode
"""
SETUP_CFG = """[metadata]
name = demo
[files]
packages = demo
[extras]
ldap =
  python-ldap>=3.0 # PSF
all =
  demo[ldap]
"""


class DeclarationsTest(testtools.TestCase):
    interpreter: Interpreter

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.interpreter = pick_interpreter()

    def setUp(self) -> None:
        super().setUp()
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name).resolve()
        self.tree = self.root / "demo"
        self.tree.mkdir()

    def write(self, name: str, text: str) -> None:
        (self.tree / name).write_text(text, encoding="utf-8")

    def write_demo(self) -> None:
        self.write("tox.ini", TOX)
        self.write("setup.cfg", SETUP_CFG)
        self.write("requirements.txt", "pbr>=2.0 # Apache\nPyYAML\n")
        self.write("test-requirements.txt", "stestr>=2\nPyYAML\n")

    def read(self, constraints: str | None = None, tox_env: str | None = None) -> Declared:
        return read_declarations(
            self.tree,
            interpreter=self.interpreter,
            constraints=constraints,
            tox_env=tox_env,
            cache=self.root / "cache",
        )

    def test_everything_of_an_openstack_tree(self) -> None:
        self.write_demo()
        upper = self.root / "upper.txt"
        upper.write_text("PyYAML===6.0\n")
        declared = self.read(constraints=str(upper))
        self.assertEqual(
            ("pbr>=2.0", "python-ldap>=3.0", "pyyaml", "stestr>=2"), declared.requirements
        )
        self.assertEqual(("pyyaml===6.0",), declared.constraints)
        self.assertEqual(("ldap",), declared.extras)
        self.assertEqual("./demo/tests", declared.set_env["OS_TEST_PATH"])
        self.assertEqual({"OS_TEST_PATH", "LOGS"}, set(declared.set_env))
        self.assertTrue(declared.set_env["LOGS"].startswith(str(self.tree / ".tox")))
        self.assertEqual("demo", declared.source)
        self.assertEqual(self.interpreter.factor, declared.tox_env)
        self.assertEqual((), declared.notes)

    def test_nothing_is_written_into_the_tree(self) -> None:
        self.write_demo()
        self.write("toxfile.py", "")
        before = {path.name for path in self.tree.rglob("*")}
        self.read(constraints="none")
        self.assertEqual(before, {path.name for path in self.tree.rglob("*")})

    def test_unreachable_constraints_are_noted(self) -> None:
        self.write_demo()
        declared = self.read()
        self.assertEqual((), declared.constraints)
        self.assertIn("could not be fetched", declared.notes[0])

    def test_none_drops_all_constraints(self) -> None:
        self.write_demo()
        declared = self.read(constraints="none")
        self.assertEqual(((), ()), (declared.constraints, declared.notes))

    def test_other_interpreter_than_toxs_own(self) -> None:
        self.write_demo()
        oldest = pick_interpreter("3.9")
        declared = read_declarations(self.tree, interpreter=oldest, constraints="none")
        self.assertEqual("py39", declared.tox_env)
        self.assertIn("pbr>=2.0", declared.requirements)

    def test_modules_of_the_tree_do_not_stand_in_for_tox(self) -> None:
        self.write_demo()
        for name in ("tox.py", "json.py", "packaging.py"):
            self.write(name, "raise SystemExit('imported from the tree')")
        self.assertEqual("demo", self.read(constraints="none").source)

    def test_toxfile_of_the_tree_sees_nothing_of_our_environment(self) -> None:
        self.write_demo()
        seen = self.root / "seen"
        self.write(
            "toxfile.py", f"import os; open({str(seen)!r}, 'w').write(repr(sorted(os.environ)))"
        )
        os.environ["GERRIT_PASSWORD"] = "secret"
        self.addCleanup(os.environ.pop, "GERRIT_PASSWORD")
        self.read(constraints="none")
        self.assertIn("PATH", seen.read_text())
        self.assertNotIn("GERRIT_PASSWORD", seen.read_text())

    def test_the_callers_runner_is_used(self) -> None:
        self.write_demo()
        calls = []

        def run(
            argv: Sequence[str | Path],
            *,
            cwd: Path | None = None,
            env: Mapping[str, str] | None = None,
            timeout: float | None = None,
        ) -> Completed:
            calls.append((cwd, timeout))
            return run_command(argv, cwd=cwd, env=env, timeout=timeout)

        read_declarations(self.tree, interpreter=self.interpreter, constraints="none", run=run)
        self.assertEqual([(self.tree, 60.0)], calls)

    def test_a_broken_file_is_one_sentence(self) -> None:
        self.write("tox.ini", "[tox]\nenvlist=py3\nbad line\n")
        error = self.assertRaises(BuildError, self.read)
        self.assertIn(str(self.tree / "tox.ini"), error.sentence)
        self.assertIn("bad line", error.sentence)
        self.assertEqual(1, len(error.sentence.splitlines()))

    def test_an_unknown_environment_is_named(self) -> None:
        self.write_demo()
        error = self.assertRaises(BuildError, self.read, "none", "nonesuch")
        self.assertIn("nonesuch", error.sentence)

    def test_without_tox_the_requirement_files_speak(self) -> None:
        self.write("requirements.txt", "six\n")
        self.write("test-requirements.txt", "-r requirements.txt\nmock\n")
        declared = self.read()
        self.assertEqual(("mock", "six"), declared.requirements)
        self.assertEqual((None, None), (declared.tox_env, declared.source))

    def test_extras_and_groups_of_pyproject(self) -> None:
        self.write(
            "pyproject.toml",
            '[project]\nname = "m"\ndependencies = ["six"]\n'
            '[project.optional-dependencies]\ntest = ["m[more]", "mock"]\nmore = ["ddt"]\n'
            '[dependency-groups]\ndev = ["fixtures"]\n',
        )
        declared = self.read()
        self.assertEqual(("ddt", "fixtures", "mock", "six"), declared.requirements)
        self.assertEqual(("more", "test"), declared.extras)

    def test_tox_in_pyproject_with_a_dependency_group(self) -> None:
        self.write(
            "pyproject.toml",
            '[project]\nname = "m"\n[dependency-groups]\ntest = ["mock"]\n'
            '[tool.tox.env_run_base]\ndependency_groups = ["test"]\ndeps = ["ddt"]\n',
        )
        self.assertEqual(("ddt", "mock"), self.read().requirements)

    def test_a_folder_that_is_none(self) -> None:
        error = self.assertRaises(
            UsageError, read_declarations, self.root / "gone", interpreter=self.interpreter
        )
        self.assertIn("gone", error.sentence)
