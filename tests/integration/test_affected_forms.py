"""Affected tests on a real clone: forms that tests and imports take in real projects."""

from __future__ import annotations

from textwrap import dedent

from jobs.results import Select
from tests.integration.test_affected import ALL, CIRCLES, SHAPES, TEXTS, AffectedCase

SCENARIOS = dedent(
    '''\
    """Each test runs once for each scenario, under an id that it gets as it runs."""
    import unittest

    from lib import files, shapes


    class ScenarioCase(unittest.TestCase):
        scenario = None

        def id(self):
            name = super().id()
            return "%s(%s)" % (name, self.scenario) if self.scenario else name

        def run(self, result=None):
            if self.scenario:
                return super().run(result)
            for scenario in self.scenarios:
                test = type(self)(self._testMethodName)
                test.scenario = scenario
                test.run(result)


    class WideTest(ScenarioCase):
        scenarios = ("narrow", "wide")

        def test_wide(self):
            if self.scenario == "wide":
                shapes.unit()
            else:
                files.read()
    '''
)
SCENARIO_TESTS = {"WideTest.test_wide(narrow)", "WideTest.test_wide(wide)"}


class FormsCase(AffectedCase):
    def add(self, name: str, text: str) -> None:
        """Have a file measured in the base too."""
        self.write(name, dedent(text))
        self.clone.commit_all("Add")
        self.measure("HEAD", Select.AFFECTED)


class ScenarioTest(FormsCase):
    def setUp(self) -> None:
        super().setUp()
        self.add("lib/tests/test_wide.py", SCENARIOS)

    def test_all_scenarios_of_a_test_run_with_one(self) -> None:
        """They are loaded as one test: its id is told apart only as it runs."""
        self.clone.replace("lib/shapes.py", "return UNITS[0]", "return str(UNITS[0])")
        result = self.expect({"UnitTest.test_unit", *SCENARIO_TESTS})
        self.assertEqual(len(ALL) + 2, result.tests.run + result.tests.carried)

    def test_scenarios_that_come_and_go(self) -> None:
        for old, new in (('("narrow", "wide")', '("narrow", "wide", "new")'), ('"wide", ', "")):
            self.clone.replace("lib/tests/test_wide.py", old, new)
            self.clone.commit_all("Edit")
            result = self.measure("HEAD", Select.AFFECTED)
            found = {test for test in self.ran(result) if test.startswith("WideTest")}
            names = [name for name in ("narrow", "wide", "new") if f'"{name}"' in self.scenarios()]
            self.assertEqual({f"WideTest.test_wide({name})" for name in names}, found)
            full = self.measure("HEAD", Select.ALL)
            self.assertEqual(full.measurement, result.measurement)
            self.assertEqual(full.tests.run, result.tests.run + result.tests.carried)

    def scenarios(self) -> str:
        text = self.clone.read("lib/tests/test_wide.py")
        return next(line for line in text.splitlines() if "scenarios = (" in line)


class ImportFormsTest(FormsCase):
    def test_class_by_another_name_in_another_file(self) -> None:
        self.add(
            "lib/tests/test_leaf.py",
            """\
            import unittest

            from lib.shapes import Circle as Round


            class Leaf(Round):
                pass


            class LeafTest(unittest.TestCase):
                def test_leaf(self):
                    self.assertTrue(Leaf().area() is not None)
            """,
        )
        text = "    sides = 1\n\n    def area(self):\n        return 0\n"
        self.clone.replace("lib/shapes.py", "    sides = 1\n", text)
        self.expect({"CircleTest.test_area", "LeafTest.test_leaf"})

    def test_star_import(self) -> None:
        self.add(
            "lib/everything.py", "from lib.shapes import *\n\n\ndef first():\n    return UNITS\n"
        )
        self.add(
            "lib/tests/test_everything.py",
            """\
            import unittest

            from lib import everything


            class StarTest(unittest.TestCase):
                def test_first(self):
                    self.assertTrue(everything.first())
            """,
        )
        self.clone.replace("lib/shapes.py", 'UNITS = ["m"]', 'UNITS = ["mm"]')
        self.expect({"UnitTest.test_unit", "StarTest.test_first"})

    def test_mixin_by_another_name(self) -> None:
        self.add(
            "lib/tests/test_renamed.py",
            """\
            from lib.tests import base

            Mixed = base.Mixin


            class RenamedTest(Mixed, base.BaseCase):
                def make(self):
                    return self.help()
            """,
        )
        text = self.clone.read("lib/tests/base.py")
        self.write("lib/tests/base.py", f"{text}\n    def test_more(self):\n        self.make()\n")
        self.expect({"PlainTest.test_more", "RenamedTest.test_more"})

    def test_import_inside_a_function(self) -> None:
        self.add(
            "lib/tests/test_late.py",
            """\
            import unittest


            class LateTest(unittest.TestCase):
                def test_late(self):
                    from lib import late
                    self.assertTrue(late.VALUE)

                def test_never(self):
                    pass
            """,
        )
        self.add("lib/late.py", "VALUE = 1\n")
        self.clone.replace("lib/late.py", "VALUE = 1", "VALUE = 2")
        self.expect({"LateTest.test_late"})

    def test_module_that_only_a_running_test_imported(self) -> None:
        self.clone.replace(
            "lib/tests/test_plugins.py", "self.assertIn(1, plugins.load())", "self.assertTrue(1)"
        )
        result = self.expect({"LoadTest.test_load"})
        missing = {file.path: file.missing for file in result.measurement.files}
        self.assertEqual((1, 2), missing["lib/plugins/first.py"])

    def test_deleted_module_and_its_users(self) -> None:
        """Importing its user ran it: all that depends on that file runs."""
        (self.root / "lib/decorators.py").unlink()
        self.clone.replace("lib/texts.py", "from lib.decorators import loud\n", "")
        self.clone.replace("lib/texts.py", "@loud\n", "")
        self.expect(TEXTS)

    def test_deleted_module_that_tests_found_by_listing(self) -> None:
        (self.root / "lib/plugins/first.py").unlink()
        self.expect({"LoadTest.test_load"})

    def test_name_that_a_new_module_takes_over(self) -> None:
        self.add(
            "lib/choice.py",
            """\
            try:
                from lib import fast
            except ImportError:
                fast = None


            def choose():
                if fast:
                    return 1
                return 2
            """,
        )
        self.add(
            "lib/tests/test_choice.py",
            """\
            import unittest

            from lib import choice


            class ChoiceTest(unittest.TestCase):
                def test_choose(self):
                    self.assertTrue(choice.choose())
            """,
        )
        self.write("lib/fast.py", "FAST = 1\n")
        self.expect({"ChoiceTest.test_choose"})
        (self.root / "lib/fast.py").unlink()
        self.write("notes.txt", "Another tree than the one before.\n")
        self.expect({"ChoiceTest.test_choose"})


class FailingFixtureTest(FormsCase):
    """Tests whose class cannot be set up do not run: nothing of them may be carried."""

    def test_class_that_cannot_be_set_up_and_then_can(self) -> None:
        self.clone.replace("lib/files.py", 'return "one"', "raise ValueError")
        result = self.expect({"test_files.SettingTest)"})
        self.assertEqual(len(ALL) - 1, result.tests.run + result.tests.carried)
        self.clone.replace("lib/shapes.py", "return UNITS[0]", "return str(UNITS[0])")
        self.expect({"UnitTest.test_unit"})
        self.clone.replace("lib/files.py", "raise ValueError", "return '1'")
        result = self.expect({"SettingTest.test_setting", "SettingTest.test_again"})
        self.assertEqual(len(ALL), result.tests.run + result.tests.carried)

    def test_module_that_cannot_be_set_up(self) -> None:
        text = self.clone.read("lib/tests/test_shapes.py")
        hook = "\n\ndef setUpModule():\n    shapes.unit()\n"
        self.write("lib/tests/test_shapes.py", text + hook)
        self.expect({*SHAPES, *CIRCLES, "UnitTest.test_unit"})
        self.clone.replace("lib/shapes.py", "return UNITS[0]", "raise ValueError")
        result = self.expect({"tests.test_shapes)"})
        self.assertEqual(len(ALL) - 4, result.tests.run + result.tests.carried)
        self.clone.replace("lib/shapes.py", "raise ValueError", "return 'mm'")
        self.expect({*SHAPES, *CIRCLES, "UnitTest.test_unit"})


class HelperTest(FormsCase):
    def test_constant_of_a_helper_of_tests(self) -> None:
        self.add("lib/tests/numbers.py", "WIDTH = 2\nOTHER = 3\n")
        self.add(
            "lib/tests/test_widths.py",
            """\
            import unittest

            from lib import shapes
            from lib.tests import numbers


            class WidthTest(unittest.TestCase):
                def test_width(self):
                    self.assertTrue(shapes.Square(numbers.WIDTH).area())

                def test_other(self):
                    self.assertTrue(shapes.Square(numbers.OTHER).area())
            """,
        )
        self.clone.replace("lib/tests/numbers.py", "WIDTH = 2", "WIDTH = 5")
        self.expect({"WidthTest.test_width"})

    def test_special_method_of_a_base(self) -> None:
        text = "    sides = 0\n\n    def __bool__(self):\n        return True\n"
        self.clone.replace("lib/base.py", "    sides = 0\n", text)
        self.expect(SHAPES | CIRCLES)
