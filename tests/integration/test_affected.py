"""Affected tests on a real clone: what runs for each kind of change, and that no line is lost.

Every change is measured twice: by its affected tests alone, and by a full run that carries
nothing. Both must say the same of every statement.
"""

from __future__ import annotations

from collections.abc import Mapping

from jobs.results import JobResult, Select
from tests.integration.test_tracking import TrackingCase, lines_of
from tests.sample_project import SampleClone

FILES: Mapping[str, str] = {
    ".stestr.conf": "[DEFAULT]\ntest_path=./lib/tests\ntop_dir=./\n",
    ".coveragerc": "[run]\nsource = lib\nomit = lib/tests/*\n",
    "setup.cfg": "[metadata]\nname = lib\nversion = 1\n",
    "lib/__init__.py": "",
    "lib/base.py": """\
        class Shape:
            sides = 0

            def area(self):
                return 0

            def name(self):
                return type(self).__name__
        """,
    "lib/shapes.py": """\
        from lib.base import Shape

        LIMIT = 10
        UNITS = ["m"]


        class Square(Shape):
            def __init__(self, width):
                self.width = width

            def area(self):
                if self.width > LIMIT:
                    raise ValueError(self.width)
                return self.width * self.width


        class Circle(Shape):
            sides = 1


        def describe(shape, mark="!"):
            text = shape.name()
            return text + mark


        def unit():
            return UNITS[0]
        """,
    "lib/decorators.py": """\
        import functools


        def loud(function):
            @functools.wraps(function)
            def wrapper(*args):
                return function(*args).upper()
            return wrapper
        """,
    "lib/texts.py": """\
        from lib.decorators import loud


        @loud
        def greet(name):
            return "hello " + name


        def plain(name):
            return name
        """,
    "lib/data.txt": "one\n",
    "lib/settings.txt": "1\n",
    "lib/files.py": """\
        import os

        HERE = os.path.dirname(__file__)
        with open(os.path.join(HERE, "settings.txt")) as file:
            SETTING = file.read().strip()


        def read():
            with open(os.path.join(HERE, "data.txt")) as file:
                text = file.read()
            if "two" in text:
                return 2
            return 1


        def setting():
            if SETTING == "2":
                return "two"
            return "one"
        """,
    "lib/plugins/__init__.py": """\
        import importlib
        import pkgutil


        def load():
            names = [module.name for module in pkgutil.iter_modules(__path__)]
            modules = [importlib.import_module("lib.plugins." + name) for name in sorted(names)]
            return [module.run() for module in modules]
        """,
    "lib/plugins/first.py": """\
        def run():
            return 1
        """,
    "lib/tests/__init__.py": "",
    "lib/tests/base.py": """\
        import unittest

        from lib import texts


        class BaseCase(unittest.TestCase):
            def help(self):
                return texts.plain("x")


        class Mixin:
            def test_mixed(self):
                self.assertTrue(self.make())
        """,
    "lib/tests/test_shapes.py": """\
        import unittest

        from lib import shapes


        class SquareTest(unittest.TestCase):
            def test_area(self):
                self.assertEqual(4, shapes.Square(2).area())

            def test_too_wide(self):
                self.assertRaises(ValueError, shapes.Square(11).area)


        class CircleTest(unittest.TestCase):
            def test_area(self):
                self.assertEqual(0, shapes.Circle().area())

            def test_describe(self):
                self.assertEqual("Circle", shapes.describe(shapes.Circle())[:6])


        class UnitTest(unittest.TestCase):
            def test_unit(self):
                self.assertEqual("m", shapes.unit()[:1])
        """,
    "lib/tests/test_texts.py": """\
        from lib import texts
        from lib.tests import base


        class GreetTest(base.BaseCase):
            def test_greet(self):
                self.assertIn("bob", texts.greet("bob").lower())


        class PlainTest(base.Mixin, base.BaseCase):
            def make(self):
                return self.help()
        """,
    "lib/tests/test_files.py": """\
        import unittest

        from lib import files


        class ReadTest(unittest.TestCase):
            def test_read(self):
                self.assertIn(files.read(), (1, 2))


        class SettingTest(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                cls.value = files.setting()

            def test_setting(self):
                self.assertTrue(self.value)

            def test_again(self):
                self.assertTrue(self.value)
        """,
    "lib/tests/test_plugins.py": """\
        import unittest

        from lib import plugins


        class LoadTest(unittest.TestCase):
            def test_load(self):
                self.assertIn(1, plugins.load())
        """,
}
SHAPES = {"SquareTest.test_area", "SquareTest.test_too_wide"}
CIRCLES = {"CircleTest.test_area", "CircleTest.test_describe"}
FILE_TESTS = {"ReadTest.test_read", "SettingTest.test_setting", "SettingTest.test_again"}
TEXTS = {"GreetTest.test_greet", "PlainTest.test_mixed"}
ALL = SHAPES | CIRCLES | FILE_TESTS | TEXTS | {"UnitTest.test_unit", "LoadTest.test_load"}


class AffectedCase(TrackingCase):
    settings: Mapping[str, object] = {}

    def setUp(self) -> None:
        super().setUp()
        self.root = self.root.with_name("lib-clone")
        self.clone = SampleClone(self.root, FILES)
        self.measure("HEAD", Select.ALL)

    def measure(self, revision: str, select: Select) -> JobResult:
        return self.run_job(revision, select, **self.settings)

    def ran(self, result: JobResult) -> set[str]:
        return {".".join(o.test.split(".")[-2:]) for o in result.outcomes}

    def expect(self, tests: set[str]) -> JobResult:
        """Commit what is edited; exactly these tests run, and no line differs from a full run."""
        self.clone.commit_all("Edit")
        result = self.measure("HEAD", Select.AFFECTED)
        self.assertEqual(tests, self.ran(result))
        self.assertTrue(result.complete, result.faults)
        full = self.measure("HEAD", Select.ALL)
        self.assertEqual(full.tests.run, result.tests.run + result.tests.carried)
        self.assertEqual(lines_of(full), lines_of(result))
        self.assertEqual(full.measurement.total, result.measurement.total)
        return result

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class FunctionTest(AffectedCase):
    def test_body(self) -> None:
        self.clone.replace("lib/shapes.py", "text = shape.name()", "text = str(shape.name())")
        result = self.expect({"CircleTest.test_describe"})
        self.assertEqual(len(ALL) - 1, result.tests.carried)

    def test_statement_that_only_one_of_its_callers_comes_to(self) -> None:
        self.clone.replace("lib/shapes.py", "raise ValueError(self.width)", "raise ValueError()")
        self.expect({"SquareTest.test_too_wide"})

    def test_statement_put_before_another(self) -> None:
        old = "        return self.width * self.width"
        self.clone.replace("lib/shapes.py", old, f"        print()\n{old}")
        self.expect({"SquareTest.test_area"})

    def test_local_name_of_the_whole_function(self) -> None:
        self.clone.replace("lib/shapes.py", "raise ValueError(self.width)", "LIMIT = 3")
        self.clone.replace("lib/shapes.py", "self.width > LIMIT", "self.width > 10")
        self.clone.replace("lib/tests/test_shapes.py", "assertRaises(ValueError, ", "assertTrue(")
        self.expect(SHAPES)

    def test_default_and_signature(self) -> None:
        self.clone.replace("lib/shapes.py", 'mark="!"', 'mark="?"')
        self.expect({"CircleTest.test_describe"})

    def test_decorated_body(self) -> None:
        self.clone.replace("lib/texts.py", '"hello " + name', '"hi " + name')
        self.expect({"GreetTest.test_greet"})

    def test_wrapper_made_at_import(self) -> None:
        self.clone.replace("lib/decorators.py", ".upper()", ".upper().strip()")
        self.expect({"GreetTest.test_greet"})

    def test_decorator_that_runs_at_import(self) -> None:
        self.clone.replace(
            "lib/decorators.py", "    return wrapper", "    wrapper.x = 1\n    return wrapper"
        )
        self.expect(TEXTS)

    def test_fixture_runs_it(self) -> None:
        self.clone.replace(
            "lib/files.py", '        return "two"\n    return', "        pass\n    return"
        )
        self.clone.replace("lib/files.py", 'return "one"', 'return "1"')
        self.expect({"SettingTest.test_setting", "SettingTest.test_again"})


class ModuleLevelTest(AffectedCase):
    def test_constant(self) -> None:
        self.clone.replace("lib/shapes.py", "LIMIT = 10", "LIMIT = 1")
        self.clone.replace("lib/tests/test_shapes.py", "Square(2)", "Square(1)")
        self.clone.replace("lib/tests/test_shapes.py", "assertEqual(4", "assertEqual(1")
        self.expect(SHAPES)

    def test_constant_of_one_test(self) -> None:
        self.clone.replace("lib/shapes.py", 'UNITS = ["m"]', 'UNITS = ["mm"]')
        self.expect({"UnitTest.test_unit"})

    def test_statement_without_bounds(self) -> None:
        self.clone.replace("lib/shapes.py", 'UNITS = ["m"]', 'UNITS = []\nUNITS.append("m")')
        self.expect({*SHAPES, *CIRCLES, "UnitTest.test_unit"})

    def test_class_attribute(self) -> None:
        self.clone.replace("lib/shapes.py", "    sides = 1", "    sides = 2")
        self.expect(CIRCLES)

    def test_method_that_overrides(self) -> None:
        text = "    sides = 1\n\n    def area(self):\n        return 0\n"
        self.clone.replace("lib/shapes.py", "    sides = 1\n", text)
        self.expect({"CircleTest.test_area"})

    def test_base_class_in_another_file(self) -> None:
        self.clone.replace("lib/base.py", "class Shape:", "class Shape(object):")
        self.expect(SHAPES | CIRCLES)

    def test_unused_function_and_import(self) -> None:
        text = self.clone.read("lib/shapes.py")
        self.write("lib/shapes.py", f"import os\n{text}\n\ndef here():\n    return os.curdir\n")
        self.expect(set())

    def test_comments_docstrings_formats_and_annotations(self) -> None:
        self.clone.replace(
            "lib/shapes.py", "def unit():\n", 'def unit() -> str:\n    """One."""\n'
        )
        self.clone.replace(
            "lib/shapes.py", "raise ValueError(self.width)", "raise ValueError(\n  self.width\n  )"
        )
        self.clone.replace("lib/base.py", "    sides = 0\n", "    # how many\n    sides = 0\n")
        self.expect(set())

    def test_module_that_nothing_imports_any_more(self) -> None:
        self.clone.replace("lib/texts.py", "from lib.decorators import loud\n", "")
        self.clone.replace("lib/texts.py", "@loud\n", "")
        self.expect({"GreetTest.test_greet"})


class FileTest(AffectedCase):
    def test_data_that_a_test_opened(self) -> None:
        self.write("lib/data.txt", "two\n")
        self.expect({"ReadTest.test_read"})

    def test_data_read_at_import(self) -> None:
        self.write("lib/settings.txt", "2\n")
        self.expect(FILE_TESTS)

    def test_file_that_nobody_opened(self) -> None:
        self.write("lib/other.txt", "x\n")
        self.expect(set())

    def test_plugin_found_by_listing(self) -> None:
        self.write("lib/plugins/second.py", "def run():\n    return 2\n")
        self.expect({"LoadTest.test_load"})

    def test_renamed_and_deleted_modules(self) -> None:
        (self.root / "lib/plugins/first.py").rename(self.root / "lib/plugins/start.py")
        self.expect({"LoadTest.test_load"})

    def test_renamed_module_with_its_importers(self) -> None:
        (self.root / "lib/decorators.py").rename(self.root / "lib/loudness.py")
        self.clone.replace("lib/texts.py", "lib.decorators", "lib.loudness")
        self.expect({"GreetTest.test_greet"})

    def test_entry_points(self) -> None:
        text = self.clone.read("setup.cfg")
        self.write("setup.cfg", f"{text}\n[entry_points]\nlib.x =\n    y = lib.texts:plain\n")
        self.expect(ALL)
        self.assertIn("entry points differ", " ".join(self.notes))

    def test_settings_that_count_less_carry_all(self) -> None:
        self.write(".coveragerc", "[run]\nsource = lib\nomit = lib/tests/*,lib/base.py\n")
        self.expect(set())

    def test_settings_that_count_more_run_all(self) -> None:
        self.write(".coveragerc", "[run]\nsource = lib\n")
        self.expect(ALL)
        self.assertIn("did not count in the base", " ".join(self.notes))

    def test_lines_that_are_excluded_now(self) -> None:
        text = self.clone.read(".coveragerc")
        self.write(".coveragerc", f"{text}\n[report]\nexclude_lines =\n    raise ValueError\n")
        self.expect(set())


class TestFileTest(AffectedCase):
    def test_one_test_of_a_file(self) -> None:
        self.clone.replace("lib/tests/test_shapes.py", "shapes.unit()[:1]", "shapes.unit()[0]")
        self.expect({"UnitTest.test_unit"})

    def test_new_renamed_and_deleted_tests(self) -> None:
        self.clone.replace("lib/tests/test_shapes.py", "test_describe", "test_words")
        self.clone.replace(
            "lib/tests/test_shapes.py", "Circle().area())\n", "Circle().sides - 1)\n"
        )
        result = self.expect({"CircleTest.test_words", "CircleTest.test_area"})
        self.assertEqual(len(ALL), result.tests.run + result.tests.carried)

    def test_deleted_test(self) -> None:
        text = self.clone.read("lib/tests/test_shapes.py")
        self.write("lib/tests/test_shapes.py", text.partition("class UnitTest")[0])
        self.expect(set())

    def test_deleted_test_of_a_class_with_a_fixture(self) -> None:
        text = self.clone.read("lib/tests/test_files.py")
        self.write("lib/tests/test_files.py", text.partition("\n    def test_again")[0])
        self.expect(set())

    def test_helper_of_a_base_class(self) -> None:
        self.clone.replace("lib/tests/base.py", 'texts.plain("x")', 'texts.plain("y")')
        self.expect({"PlainTest.test_mixed"})

    def test_mixin_brings_a_test(self) -> None:
        text = self.clone.read("lib/tests/base.py")
        self.write("lib/tests/base.py", f"{text}\n    def test_more(self):\n        self.make()\n")
        self.expect({"PlainTest.test_more"})

    def test_set_up_that_is_new(self) -> None:
        old = "    def help(self):"
        new = f"    def setUp(self):\n        texts.plain('s')\n\n{old}"
        self.clone.replace("lib/tests/base.py", old, new)
        self.expect(TEXTS)

    def test_module_is_new(self) -> None:
        text = self.clone.read("lib/tests/test_plugins.py")
        self.write("lib/tests/test_more.py", text.replace("LoadTest", "MoreTest"))
        self.expect({"MoreTest.test_load"})


GENERATED = """\
import unittest

from lib import shapes


def make(width):
    class MadeTest(unittest.TestCase):
        def test_made(self):
            self.assertEqual(width * width, shapes.Square(width).area())
    return MadeTest("test_made")


def load_tests(loader, tests, pattern):
    shapes.unit()
    tests.addTest(make(3))
    return tests
"""
SHARED = """\
import unittest

from lib import files, shapes


class SharingSuite(unittest.TestSuite):
    def run(self, result, debug=False):
        for test in self:
            files.read()
            test(result)
        return result


class SharedTest(unittest.TestCase):
    def test_one(self):
        shapes.unit()

    def test_two(self):
        pass


def load_tests(loader, tests, pattern):
    names = ("test_one", "test_two")
    return SharingSuite(SharedTest(name) for name in names)
"""


class LoadingTest(AffectedCase):
    def test_tests_made_by_load_tests(self) -> None:
        self.write("lib/tests/test_made.py", GENERATED)
        self.expect({"MadeTest.test_made"})
        self.clone.replace("lib/tests/test_made.py", "make(3)", "make(4)")
        self.expect({"MadeTest.test_made"})

    def test_what_loading_runs_is_no_tests(self) -> None:
        self.write("lib/tests/test_made.py", GENERATED)
        self.expect({"MadeTest.test_made"})
        self.clone.replace("lib/shapes.py", "return UNITS[0]", "return str(UNITS[0])")
        self.expect({"MadeTest.test_made", "UnitTest.test_unit"})

    def test_what_runs_between_tests_reaches_those_of_the_module(self) -> None:
        self.write("lib/tests/test_shared.py", SHARED)
        shared = {"SharedTest.test_one", "SharedTest.test_two"}
        self.expect(shared)
        self.clone.replace("lib/shapes.py", "return UNITS[0]", "return str(UNITS[0])")
        self.expect({"SharedTest.test_one", "UnitTest.test_unit"})
        self.write("lib/data.txt", "two\n")
        self.expect({*shared, "ReadTest.test_read"})


class BranchesLoadingTest(LoadingTest):
    """The same with coverage.py's own recorder."""

    settings: Mapping[str, object] = {"branch_coverage": True}


class BranchesTest(AffectedCase):
    settings: Mapping[str, object] = {"branch_coverage": True}

    def test_arcs_are_carried_too(self) -> None:
        self.clone.replace("lib/shapes.py", "raise ValueError(self.width)", "raise ValueError()")
        result = self.expect({"SquareTest.test_too_wide"})
        self.assertGreater(result.measurement.total.branches, 0)

    def test_function_that_moved_in_a_file_whose_imports_changed(self) -> None:
        text = self.clone.read("lib/shapes.py")
        self.write("lib/shapes.py", f"import os\n\nHERE = os.curdir\n{text}")
        self.expect(set())


class ReuseTest(AffectedCase):
    def test_another_message_and_the_merge_cost_no_run(self) -> None:
        self.clone.repo.git.checkout("-q", "-b", "side")
        self.clone.replace("lib/shapes.py", "text = shape.name()", "text = str(shape.name())")
        self.clone.commit_all("Edit")
        change = self.measure("HEAD", Select.AFFECTED)
        self.assertEqual({"CircleTest.test_describe"}, self.ran(change))
        other = self.clone.commit_all("Other words")  # the same tree
        self.assertEqual(set(), self.ran(self.measure(other, Select.AFFECTED)))
        self.clone.repo.git.checkout("-q", "master")
        self.clone.repo.git.merge("-q", "--no-ff", "-m", "Merge", "side")
        merged = self.measure("HEAD", Select.AFFECTED)
        self.assertEqual(set(), self.ran(merged))
        self.assertEqual(lines_of(change), lines_of(merged))
        self.assertIn("has the same tree", " ".join(self.notes))

    def test_advance_measures_each_commit_once(self) -> None:
        for width in (2, 3):
            self.clone.replace("lib/shapes.py", f"LIMIT = 1{width - 2}", f"LIMIT = 1{width - 1}")
            self.clone.commit_all(f"Widen {width}")
        heard: list[JobResult] = []
        tracker, project = self.make_tracker(), self.project(**self.settings)
        results = tracker.advance(project, heard.append)
        self.assertEqual([2, 2], [result.tests.run for result in results])
        self.assertEqual(list(results), heard)
        self.assertEqual((), tracker.advance(project, heard.append))
