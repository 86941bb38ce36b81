"""jobs.affected rule by rule: source files that tell who ran them, before and after a change."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from testtools import TestCase

from jobs.affected import Reached
from tests.written_tree import reach, tests_of

FILES: Mapping[str, str] = {
    "pkg/__init__.py": "",
    "pkg/base.py": """\
        class Shape:
            sides = 0

            def area(self):
                return 0  #: test_circle

            def name(self):
                return self.sides  #: test_name
        """,
    "pkg/shapes.py": """\
        import os
        from pkg.base import Shape

        LIMIT = 10
        DOUBLE = LIMIT * 2
        UNITS = ["m"]


        class Square(Shape):
            def __init__(self, width):
                self.width = width  #: test_square test_wide

            def area(self):
                if self.width > LIMIT:  #: test_square test_wide
                    raise ValueError(self.width)  #: test_wide
                return self.width * self.width  #: test_square


        class Circle(Shape):
            sides = 1


        def unit(mark="!"):
            return UNITS[0] + mark  #: test_unit


        def double():
            LIMIT = 3
            return DOUBLE  #: test_double
        """,
    "pkg/loud.py": """\
        def loud(function):
            def wrapper(*args):
                return function(*args)  #: test_greet
            return wrapper  #: pkg/texts.py:import
        """,
    "pkg/texts.py": """\
        from pkg.loud import loud

        @loud
        def greet(name):
            return name  #: test_greet

        def plain(x: int) -> int:
            return x  #: test_plain
        """,
    "pkg/lonely.py": "import pkg.shapes\n\nHERE = 1\n",
    "t/__init__.py": "",
    "t/base.py": """\
        import unittest

        class Mixin:
            def test_mixed(self):
                self.make()

            def make(self):
                pass

        class BaseCase(unittest.TestCase):
            def help(self):
                return 1  #: test_greet
        """,
    "t/test_shapes.py": """\
        import unittest
        from pkg import shapes

        class SquareTest(unittest.TestCase):
            def test_square(self):
                shapes.Square(2).area()  #: test_square

            def test_wide(self):
                shapes.Square(11).area()  #: test_wide

        class CircleTest(unittest.TestCase):
            def test_circle(self):
                shapes.Circle().area()  #: test_circle

            def test_name(self):
                shapes.Circle().name()  #: test_name

        class RestTest(unittest.TestCase):
            def test_unit(self):
                shapes.unit()  #: test_unit

            def test_double(self):
                shapes.double()  #: test_double
        """,
    "t/test_texts.py": """\
        from pkg import texts
        from t import base

        class TextTest(base.BaseCase):
            def test_greet(self):
                self.help()  #: test_greet
                texts.greet("bob")  #: test_greet

            def test_plain(self):
                texts.plain(1)  #: test_plain

        class MixedTest(base.Mixin, base.BaseCase):
            def make(self):
                return 2  #: t.test_texts.MixedTest.test_mixed
        """,
    "t/test_other.py": """\
        import unittest

        LIMIT = 1

        class OtherTest(unittest.TestCase):
            def test_limit(self):
                self.assertTrue(self.LIMIT)  #: test_limit
                area = unit = greet = 1  #: test_limit
        """,
}
SQUARES, CIRCLES = {"test_square", "test_wide"}, {"test_circle", "test_name"}
SHAPES = {*SQUARES, *CIRCLES, "test_unit", "test_double"}


class RulesCase(TestCase):
    files = FILES

    def change(self, path: str, old: str, new: str, **more: Mapping[str, str]) -> Reached:
        """What it reaches to replace text that is there once."""
        text = self.files[path]
        self.assertEqual(1, text.count(old), f"{path}: {old}")
        return reach(self.files, {**self.files, path: text.replace(old, new)}, **more)

    def expect(self, tests: Collection[str], reached: Reached) -> None:
        self.assertEqual(set(tests), tests_of(reached))


class BodyTest(RulesCase):
    """A changed function body reaches the contexts that came to the change."""

    def test_by_statement_where_all_lines_are_known(self) -> None:
        for old, new, tests in (
            ("raise ValueError(self.width)", "raise ValueError()", {"test_wide"}),
            ("return self.width * self.width", "return self.width ** 2", {"test_square"}),
            ("self.width > LIMIT", "self.width >= LIMIT", SQUARES),
            ("return UNITS[0] + mark", "return mark", {"test_unit"}),
        ):
            found = self.change("pkg/shapes.py", old, new)
            self.expect(tests, found)
            self.assertEqual({}, found.imports)
            self.assertEqual({}, found.modules)

    def test_by_function_elsewhere(self) -> None:
        found = self.change("t/base.py", "return 1", "return 2")
        self.expect({"test_greet"}, found)
        self.assertIn("help", found.contexts["t.test_texts.TextTest.test_greet"])

    def test_that_ran_at_import_reaches_what_depends_on_the_importing_file(self) -> None:
        found = self.change("pkg/loud.py", "return wrapper ", "return function ")
        self.expect({"test_greet", "test_plain", "test_mixed"}, found)
        self.assertEqual({"pkg/texts.py", "t/test_texts.py"}, set(found.imports))
        self.assertIn("pkg/texts.py", found.modules)

    def test_of_a_test(self) -> None:
        found = self.change("t/test_shapes.py", "Square(11)", "Square(12)")
        self.expect({"test_wide"}, found)

    def test_a_function_that_went_reaches_its_users_too(self) -> None:
        path = "pkg/shapes.py"
        text = FILES[path].partition("        def double")[0]
        found = reach(FILES, {**FILES, path: text})
        self.expect({"test_double"}, found)
        self.assertIn(path, found.imports)

    def test_comments_docstrings_and_formats_reach_nothing(self) -> None:
        found = self.change(
            "pkg/shapes.py",
            "return UNITS[0] + mark",
            "return (UNITS[0]\n                    + mark)",
        )
        self.assertEqual(Reached(), found)
        found = self.change("t/base.py", "def help(self):", "def help(self):  # note")
        self.assertEqual(Reached(), found)


class NameTest(RulesCase):
    """A global reaches the functions and statements that use its name."""

    def test_a_constant(self) -> None:
        found = self.change("pkg/shapes.py", '["m"]', '["km"]')
        self.expect({"test_unit"}, found)
        self.assertEqual({"pkg/shapes.py"}, set(found.imports))

    def test_that_a_statement_passes_on(self) -> None:
        found = self.change("pkg/shapes.py", "LIMIT = 10", "LIMIT = 11")
        self.expect({*SQUARES, "test_double"}, found)
        why = found.contexts["t.test_shapes.RestTest.test_double"]
        self.assertIn("LIMIT", why)

    def test_that_nobody_uses(self) -> None:
        self.expect((), self.change("pkg/lonely.py", "HERE = 1", "HERE = 2"))
        self.expect((), self.change("pkg/shapes.py", "import os", "import os, sys"))

    def test_of_a_header_reaches_what_ran_the_function_or_names_it(self) -> None:
        self.expect({"test_unit"}, self.change("pkg/shapes.py", 'mark="!"', 'mark="?"'))
        found = self.change("pkg/texts.py", "@loud", "@loud\n        @loud")
        self.expect({"test_greet"}, found)

    def test_that_another_file_imports(self) -> None:
        user = (
            "from pkg.shapes import UNITS as them\n\n"
            "def first():\n    return them[0]  #: test_limit\n"
        )
        more = {**FILES, "pkg/user.py": user}
        text = FILES["pkg/shapes.py"]
        after = {**more, "pkg/shapes.py": text.replace('["m"]', '["km"]')}
        found = reach(more, after)
        self.expect({"test_unit", "test_limit"}, found)
        self.assertEqual({"pkg/shapes.py", "pkg/user.py"}, set(found.imports))

    def test_that_a_string_names(self) -> None:
        more = {
            **FILES,
            "t/test_patch.py": """\
                import unittest
                import pkg.shapes

                class PatchTest(unittest.TestCase):
                    def test_patched(self):
                        patch("pkg.shapes.UNITS", [])  #: test_patched
                """,
        }
        text = FILES["pkg/shapes.py"].replace('["m"]', '["km"]')
        self.expect({"test_unit", "test_patched"}, reach(more, {**more, "pkg/shapes.py": text}))

    def test_that_a_star_import_brings(self) -> None:
        user = "from pkg.shapes import *\n\ndef first():\n    return UNITS  #: test_limit\n"
        more = {**FILES, "pkg/user.py": user}
        text = FILES["pkg/shapes.py"].replace('["m"]', '["km"]')
        self.expect({"test_unit", "test_limit"}, reach(more, {**more, "pkg/shapes.py": text}))

    def test_the_list_of_what_a_star_brings(self) -> None:
        user = "from pkg.shapes import *\n\ndef first():\n    return 1  #: test_limit\n"
        more = {**FILES, "pkg/user.py": user}
        text = FILES["pkg/shapes.py"].replace("UNITS = [", "__all__ = []\n        UNITS = [")
        self.assertIn("test_limit", tests_of(reach(more, {**more, "pkg/shapes.py": text})))

    def test_tests_that_depend_on_nothing_of_it_are_not_reached_by_its_name(self) -> None:
        for path, old, new in (
            ("pkg/shapes.py", "LIMIT = 10", "LIMIT = 11"),
            ("pkg/shapes.py", "def unit(", "def unit(a, "),
            ("pkg/texts.py", "def greet(", "def greet(a, "),
        ):
            self.assertNotIn("test_limit", tests_of(self.change(path, old, new)), old)

    def test_a_test_that_imported_the_file_by_itself_depends_on_it(self) -> None:
        after = {
            **FILES, "pkg/shapes.py": FILES["pkg/shapes.py"].replace("LIMIT = 10", "LIMIT = 11")
        }  # fmt: skip
        found = reach(FILES, after, imported={"pkg/lonely.py": ["test_limit"]})
        self.expect({*SQUARES, "test_double", "test_limit"}, found)

    def test_a_new_global_that_hides_a_builtin(self) -> None:
        files = {
            **FILES,
            "pkg/shapes.py": FILES["pkg/shapes.py"].replace("UNITS[0]", "len(UNITS)"),
        }
        text = files["pkg/shapes.py"].replace("LIMIT = 10", "LIMIT = 10\n        len = str")
        self.expect({"test_unit"}, reach(files, {**files, "pkg/shapes.py": text}))


class UnboundedTest(RulesCase):
    """What has no bounds reaches all that depends on the module by import."""

    def test_an_effect(self) -> None:
        found = self.change("pkg/base.py", "class Shape", "print()\n\n\n        class Shape")
        self.expect(SHAPES, found)
        dependents = {"pkg/base.py", "pkg/shapes.py", "pkg/lonely.py", "t/test_shapes.py"}
        self.assertEqual(dependents, set(found.imports))
        self.assertEqual({"pkg/base.py"}, set(found.modules))

    def test_one_that_uses_what_changed(self) -> None:
        files = {**FILES, "pkg/lonely.py": "from pkg.shapes import UNITS\nUNITS.append(1)\n"}
        text = files["pkg/shapes.py"].replace('["m"]', '["km"]')
        found = reach(files, {**files, "pkg/shapes.py": text}, imported={
            "pkg/lonely.py": ["test_limit"]
        })  # fmt: skip
        self.expect({"test_unit", "test_limit"}, found)

    def test_a_star_import(self) -> None:
        found = self.change("pkg/shapes.py", "import os", "from os import *")
        self.expect(SHAPES, found)

    def test_modules_and_contexts_for_other_reasons(self) -> None:
        found = reach(
            FILES,
            FILES,
            contexts={"t.test_other.OtherTest.test_limit": "opened x"},
            modules={"pkg/texts.py": "imports six"},
        )
        self.expect({"test_limit", "test_greet", "test_plain", "test_mixed"}, found)
        self.assertEqual("opened x", found.contexts["t.test_other.OtherTest.test_limit"])
        self.assertEqual({"pkg/texts.py", "t/test_texts.py"}, set(found.imports))

    def test_a_file_that_is_no_python_now(self) -> None:
        found = reach(FILES, {**FILES, "pkg/shapes.py": "def f(:\n"})
        self.expect(SHAPES, found)

    def test_one_that_was_none(self) -> None:
        files = {**FILES, "pkg/base.py": "def f(:\n"}
        self.expect(SHAPES, reach(files, FILES))

    def test_a_file_that_is_gone(self) -> None:
        files = {path: text for path, text in FILES.items() if path != "pkg/texts.py"}
        self.assertLessEqual({"test_greet", "test_plain"}, tests_of(reach(FILES, files)))

    def test_a_new_file_reaches_who_uses_its_names(self) -> None:
        found = reach(FILES, {**FILES, "pkg/new.py": "def unit():\n    pass\n"})
        self.expect((), found)
        self.assertEqual({"pkg/new.py"}, set(found.imports))

    def test_annotations_reach_their_readers_alone(self) -> None:
        self.expect((), self.change("pkg/texts.py", "-> int", "-> str"))
        files = {
            **FILES,
            "pkg/reader.py": "def f(x):\n    return x.__annotations__  #: test_plain test_limit\n",
        }
        text = files["pkg/texts.py"].replace("-> int", "-> str")
        self.expect({"test_plain"}, reach(files, {**files, "pkg/texts.py": text}))


class ClassTest(RulesCase):
    """A member reaches, by its name, those who use the class or one that inherits it."""

    def test_header(self) -> None:
        found = self.change("pkg/base.py", "class Shape:", "class Shape(object):")
        self.expect(SQUARES | CIRCLES, found)

    def test_header_of_a_subclass_leaves_the_others_out(self) -> None:
        self.expect(CIRCLES, self.change("pkg/shapes.py", "class Circle(", "class Circle(Other, "))

    def test_attribute(self) -> None:
        self.expect(CIRCLES, self.change("pkg/shapes.py", "sides = 1", "sides = 2"))

    def test_method_that_overrides_another_files(self) -> None:
        method = "sides = 1\n\n            def area(self):\n                return 1"
        self.expect({"test_circle"}, self.change("pkg/shapes.py", "sides = 1", method))

    def test_method_that_went(self) -> None:
        text = FILES["pkg/base.py"].replace("def area(self)", "def size(self)")
        self.expect(
            {"test_circle", "test_square", "test_wide"},
            reach(FILES, {**FILES, "pkg/base.py": text}),
        )

    def test_special_method_is_the_classes(self) -> None:
        method = "sides = 1\n\n            def __bool__(self):\n                return False"
        self.expect(CIRCLES, self.change("pkg/shapes.py", "sides = 1", method))

    def test_method_that_something_foreign_may_call(self) -> None:
        method = "{}\n\n            def emit(self):\n                pass"
        files = dict(FILES)
        files["pkg/shapes.py"] = files["pkg/shapes.py"].replace("Circle(Shape)", "Circle(Foreign)")
        for base, tests in ((FILES, set()), (files, CIRCLES)):
            text = base["pkg/shapes.py"].replace("sides = 1", method.format("sides = 1"))
            self.expect(tests, reach(base, {**base, "pkg/shapes.py": text}))

    def test_objects_that_are_made_at_import_may_be_anybodys(self) -> None:
        files = {
            **FILES,
            "pkg/made.py": "from pkg.shapes import Circle\n\nregister(Circle())\n",
            "pkg/user.py": "import pkg.made\ndef f(x):\n    return x.sides  #: test_limit\n",
        }
        text = files["pkg/shapes.py"].replace("sides = 1", "sides = 2")
        after = {**files, "pkg/shapes.py": text}
        self.assertIn("test_limit", tests_of(reach(files, after)))

    def test_a_class_known_by_another_name(self) -> None:
        files = {
            **FILES,
            "t/test_leaf.py": """\
                import unittest
                from pkg.shapes import Circle as Renamed

                class Leaf(Renamed):
                    pass

                class LeafTest(unittest.TestCase):
                    def test_leaf(self):
                        Leaf().name()  #: test_leaf
                """,
            "pkg/base.py": FILES["pkg/base.py"].replace("#: test_name", "#: test_name test_leaf"),
        }
        text = files["pkg/shapes.py"].replace("sides = 1", "sides = 2")
        self.expect({*CIRCLES, "test_leaf"}, reach(files, {**files, "pkg/shapes.py": text}))


class TestFileTest(RulesCase):
    """In files of tests hooks are the framework's, and tests are known by their names."""

    def test_a_new_test_is_found_by_loading(self) -> None:
        new = "def test_new(self):\n                pass\n\n            def test_wide(self):"
        found = self.change("t/test_shapes.py", "def test_wide(self):", new)
        self.expect((), found)
        self.assertIn("t/test_shapes.py", found.modules)

    def test_the_header_of_a_test(self) -> None:
        found = self.change(
            "t/test_shapes.py", "def test_wide", "@skip\n            def test_wide"
        )
        self.expect({"test_wide"}, found)

    def test_a_test_that_a_mixin_brings(self) -> None:
        new = "def test_new(self):\n                pass\n\n            def make(self):"
        found = self.change("t/base.py", "def make(self):", new)
        self.expect((), found)
        self.assertLessEqual({"t/base.py", "t/test_texts.py"}, set(found.modules))

    def test_a_mixin_by_another_name(self) -> None:
        files = {
            **FILES,
            "t/test_renamed.py": "from t.base import Mixin as M\nclass Renamed(M):\n    pass\n",
        }
        text = files["t/base.py"].replace("def test_mixed", "def test_others")
        found = reach(files, {**files, "t/base.py": text})
        self.assertIn("t/test_renamed.py", found.modules)

    def test_hooks_are_the_classes(self) -> None:
        for hook in ("setUp", "tearDown", "setUpClass", "run", "__init__"):
            new = f"def {hook}(self):\n                pass\n\n            def help(self):"
            found = self.change("t/base.py", "def help(self):", new)
            self.assertLessEqual({"test_greet", "test_plain"}, tests_of(found), hook)

    def test_hooks_of_a_module_are_for_all_of_its_tests(self) -> None:
        for name in ("setUpModule", "tearDownModule", "load_tests"):
            for text in (f"def {name}(*given):\n            pass", f"{name} = make()"):
                found = self.change(
                    "t/test_shapes.py", "import unittest\n", f"import unittest\n        {text}\n"
                )
                self.expect(SHAPES, found)
        hook = "def setUpModule():\n            pass\n\n        class"
        self.expect((), self.change("pkg/shapes.py", "class Circle", f"{hook} Circle"))

    def test_helpers_are_not(self) -> None:
        new = "def other(self):\n                pass\n\n            def help(self):"
        self.expect((), self.change("t/base.py", "def help(self):", new))
        found = self.change("t/base.py", "def help(self):", "def help(self, x=1):")
        self.expect({"test_greet"}, found)

    def test_a_constant_of_a_test_file(self) -> None:
        found = self.change("t/test_other.py", "LIMIT = 1\n", "LIMIT = 2\n")
        self.assertIn("t/test_other.py", found.modules)
        self.assertLessEqual(tests_of(found), {"test_limit"})


class FixtureTest(RulesCase):
    files: Mapping[str, str] = {
        **FILES,
        "pkg/shapes.py": FILES["pkg/shapes.py"].replace(
            "#: test_unit", "#: t.test_shapes.RestTest:setUpClass t.test_shapes:fixtures"
        ),
    }

    def test_fixtures_that_ran_it_are_reached(self) -> None:
        found = self.change("pkg/shapes.py", "return UNITS[0]", "return 1 + UNITS[0]")
        self.assertEqual(
            {"t.test_shapes.RestTest:setUpClass", "t.test_shapes:fixtures"}, set(found.contexts)
        )
