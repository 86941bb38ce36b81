"""jobs.suite: discovery by file name against unittest's own, and names of modules."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from testtools import TestCase

from jobs.project import ProjectSettings
from jobs.suite import (
    Layout,
    TestModule,
    expand_variables,
    find_test_modules,
    module_name,
    owner_of,
    read_layout,
)
from tests.scratch_python import run_python
from venv_builder.errors import UsageError

LIST = (
    "import sys, unittest\n"
    "def walk(suite):\n"
    "    for item in suite:\n"
    "        if isinstance(item, unittest.TestSuite):\n"
    "            yield from walk(item)\n"
    "        else:\n"
    "            yield type(item).__module__\n"
    "start, top = sys.argv[1:]\n"
    "print(*sorted(set(walk(unittest.TestLoader().discover(start, 'test*.py', top)))))\n"
)
TEST = "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): pass\n"
FILES = {
    "pkg/__init__.py": "",
    "pkg/code.py": "",
    "pkg/tests/__init__.py": "",
    "pkg/tests/base.py": TEST,
    "pkg/tests/test_a.py": TEST,
    "pkg/tests/testb.py": TEST,
    "pkg/tests/not-a-test.py": TEST,
    "pkg/tests/test-dash.py": TEST,
    "pkg/tests/1deep/__init__.py": "",
    "pkg/tests/1deep/test_x.py": TEST,
    "pkg/tests/unit/__init__.py": "",
    "pkg/tests/unit/test_c.py": TEST,
    "pkg/tests/loose/test_d.py": TEST,
    "pkg/tests/unit/test_data.txt": "",
    "pkg/test_outside.py": TEST,
}
NOTHING = ProjectSettings(name="p", git="p")


class Tree(TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name).resolve()

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


class FindTest(Tree):
    def find(self, files: dict[str, str], layout: Layout) -> tuple[TestModule, ...]:
        return find_test_modules(files, layout, lambda path: "load_tests" in files.get(path, ""))

    def test_the_same_as_unittest(self) -> None:
        self.write(FILES)
        for test_path in ("pkg/tests", "pkg/tests/unit", "pkg", ""):
            found = self.find(FILES, Layout(test_path=test_path))
            start = f"./{test_path}"
            told = run_python(["-c", LIST, start, "."], cwd=self.root).stdout.split()
            names = [name for name in told if not name.startswith("unittest.")]
            self.assertEqual(names, [module.name for module in found], test_path)
        self.assertIn("pkg.tests.unit.test_c", names)

    def test_top_folder(self) -> None:
        files = {f"src/{name}": text for name, text in FILES.items()}
        self.write(files)
        layout = Layout(test_path="src/pkg/tests", top_dir="src")
        found = self.find(files, layout)
        told = run_python(["-c", LIST, "src/pkg/tests", "src"], cwd=self.root).stdout.split()
        self.assertEqual(told, [module.name for module in found])
        self.assertIn("src/pkg/tests/test_a.py", [module.path for module in found])

    def test_package_that_loads_its_own_tests(self) -> None:
        files = {**FILES, "pkg/tests/unit/__init__.py": "def load_tests(*a): pass"}
        found = {module.name: module for module in self.find(files, Layout(test_path="pkg/tests"))}
        self.assertIn("pkg.tests.testb", found)
        self.assertNotIn("pkg.tests.unit.test_c", found)
        unit = found["pkg.tests.unit"]
        self.assertTrue(unit.owns("pkg/tests/unit/test_c.py"))
        self.assertTrue(unit.owns("pkg/tests/unit/__init__.py"))
        self.assertFalse(unit.owns("pkg/tests/unity/test_c.py"))
        self.assertFalse(found["pkg.tests.test_a"].owns("pkg/tests/testb.py"))

    def test_nothing(self) -> None:
        self.assertEqual((), self.find({}, Layout(test_path="tests")))


class LayoutTest(Tree):
    def read(self, settings: ProjectSettings = NOTHING, **variables: str) -> Layout:
        return read_layout(self.root, settings, variables)

    def test_of_stestr(self) -> None:
        text = "[DEFAULT]\ntest_path=${T:-./pkg/tests}\ntop_dir=./\ngroup_regex=([^.]+)\n"
        self.write({".stestr.conf": text})
        expected = Layout(test_path="pkg/tests", top_dir="", group_regex="([^.]+)")
        self.assertEqual(expected, self.read())
        self.assertEqual("other", self.read(T="other/").test_path)

    def test_settings_go_first(self) -> None:
        self.write({".stestr.conf": "[DEFAULT]\ntest_path=./a\n"})
        settings = NOTHING.model_copy(update={"test_path": "./b", "top_dir": "src"})
        self.assertEqual(Layout(test_path="b", top_dir="src"), self.read(settings))

    def test_guessed(self) -> None:
        self.write({"pkg/tests/__init__.py": "", "pkg/__init__.py": ""})
        self.assertEqual("pkg/tests", self.read().test_path)
        self.write({"tests/__init__.py": ""})
        self.assertEqual("tests", self.read().test_path)

    def test_none(self) -> None:
        error = self.assertRaises(UsageError, self.read)
        self.assertIn("test_path", error.advice)

    def test_outside_the_tree(self) -> None:
        for path in ("../elsewhere", "/etc", "a/../.."):
            settings = NOTHING.model_copy(update={"test_path": path})
            error = self.assertRaises(UsageError, self.read, settings)
            self.assertIn(path, error.sentence)

    def test_unreadable_settings(self) -> None:
        for text in ("test_path=./a\n", "[DEFAULT\n", "[DEFAULT]\ntest_path=./a\ntest_path=./b\n"):
            self.write({".stestr.conf": text})
            self.assertRaises(UsageError, self.read)

    def test_group_regex_that_is_none(self) -> None:
        self.write({".stestr.conf": "[DEFAULT]\ntest_path=./a\ngroup_regex=([^.]+\n"})
        error = self.assertRaises(UsageError, self.read)
        self.assertIn("group_regex", error.sentence)


class NamesTest(TestCase):
    def test_shell_variables(self) -> None:
        for text, expected in {
            "$A/x": "one/x",
            "${A}/x": "one/x",
            "${B:-two}/x": "two/x",
            "${A:-two}/x": "one/x",
            "$B/x": "/x",
            "${E:-two}": "two",
            "plain": "plain",
        }.items():
            self.assertEqual(expected, expand_variables(text, {"A": "one", "E": ""}), text)

    def test_module_names(self) -> None:
        for path, tops, expected in (
            ("pkg/a.py", ("",), "pkg.a"),
            ("pkg/__init__.py", ("",), "pkg"),
            ("src/pkg/a.py", ("", "src"), "pkg.a"),
            ("source/a.py", ("", "src"), "source.a"),
            ("pkg/not-a-module.py", ("",), None),
            ("pkg/1.py", ("",), None),
            ("pkg/a.py", ("src",), None),
        ):
            self.assertEqual(expected, module_name(path, tops), path)

    @given(
        test=st.lists(st.sampled_from("ab"), min_size=1, max_size=5).map(".".join),
        suffix=st.sampled_from(["", "(x.a)", ":setUpClass", "(a.b:c)"]),
        modules=st.sets(st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(".".join)),
    )
    def test_owner_is_the_longest_prefix(self, test: str, suffix: str, modules: set[str]) -> None:
        owners = [m for m in modules if test == m or test.startswith(f"{m}.")]
        self.assertEqual(max(owners, key=len, default=None), owner_of(test + suffix, modules))

    def test_owner_of_a_fixture_that_failed(self) -> None:
        for test, expected in (
            ("setUpClass (p.m.T)", "p.m"),
            ("tearDownModule (p.m)", "p.m"),
            ("setUpModule (p.mm)", None),
            ("setUpClass", None),
        ):
            self.assertEqual(expected, owner_of(test, {"p.m", "q"}), test)
