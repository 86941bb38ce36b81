"""jobs.classes: inheritance and the names of classes, in trees written as text."""

from __future__ import annotations

from collections.abc import Mapping

from testtools import TestCase

from jobs.classes import Classes
from tests.written_tree import WrittenTree

FILES: Mapping[str, str] = {
    "base.py": "import outside\n\nclass Root(object):\n    pass\nclass Own(Root):\n    pass\n",
    "more.py": "import base\nclass Sub(base.Own):\n    class Inner(Outer):\n        pass\n",
    "far.py": "from more import Sub as Renamed\nclass Leaf(Renamed):\n    pass\n",
    "foreign.py": "import outside\nclass Foreign(outside.Thing):\n    pass\n",
    "deep.py": "from foreign import Foreign\nclass Deep(Foreign):\n    pass\n",
    "made.py": "class Made(make()):\n    pass\n",
    "circle.py": "class A(B):\n    pass\nclass B(A):\n    pass\n",
    "unrelated.py": "class Other:\n    x = 1\n",
}


def classes(**files: str) -> Classes:
    """The classes of FILES, and of more or other files."""
    more = {f"{name}.py": text for name, text in files.items()}
    return Classes(WrittenTree({**FILES, **more}).tree())


class BasesTest(TestCase):
    def bases(self, path: str, owner: str) -> set[str]:
        return {s.bound[0] for _, s in classes().bases(path, owner)}

    def test_all_that_a_class_may_inherit(self) -> None:
        self.assertEqual({"Sub", "Own", "Root"}, self.bases("more.py", "Sub"))
        self.assertEqual({"Other"}, self.bases("unrelated.py", "Other"))
        self.assertEqual({"Inner"}, self.bases("more.py", "Sub.Inner"))
        self.assertEqual(set(), self.bases("more.py", "Inner"))

    def test_circles_end(self) -> None:
        self.assertEqual({"A", "B"}, self.bases("circle.py", "A"))

    def test_files_that_are_gone_or_no_python(self) -> None:
        self.assertEqual([], list(classes(base="class Own(:").bases("base.py", "Own")))

    def test_foreign_bases(self) -> None:
        for path, owner, expected in (
            ("base.py", "Root", False),
            ("base.py", "Own", False),
            ("more.py", "Sub", False),
            ("foreign.py", "Foreign", True),
            ("deep.py", "Deep", True),
            ("made.py", "Made", True),
            ("more.py", "Sub.Inner", True),
            ("far.py", "Leaf", True),  # Renamed is no class of the tree: rather too much
            ("circle.py", "A", False),
        ):
            self.assertEqual(expected, classes().has_foreign_base(path, owner), owner)


class SubclassesTest(TestCase):
    def test_names(self) -> None:
        self.assertEqual(
            {"Own", "Sub", "Renamed", "Leaf"}, classes().subclass_names(frozenset({"Root"}))
        )
        self.assertEqual({"Deep"}, classes().subclass_names(frozenset({"Foreign"})))
        self.assertEqual(
            {"Deep", "Same"}, classes(x="Same = Foreign\n").subclass_names(frozenset({"Foreign"}))
        )
        self.assertEqual(set(), classes().subclass_names(frozenset({"Leaf"})))

    def test_files_that_depend_on_the_class(self) -> None:
        files = {"base.py", "more.py", "far.py"}
        self.assertEqual(files, classes().subclass_files("base.py", frozenset({"Root"})))
        elsewhere = classes(unrelated="class Other(Root):\n    pass\n")
        self.assertNotIn("unrelated.py", elsewhere.subclass_files("base.py", frozenset({"Root"})))


class NamesTest(TestCase):
    """Under which names code may know objects of a class."""

    def test_subclasses(self) -> None:
        names = {"Root", "Own", "Sub", "Renamed", "Leaf"}
        self.assertEqual(names, classes().names_of({"Root"}))
        self.assertEqual({"Leaf"}, classes().names_of({"Leaf"}))

    def test_what_is_bound_to_one(self) -> None:
        found = classes(bound="import base\nSHAPES = [base.Own]\nMORE = SHAPES\n")
        names = {"Own", "Sub", "Renamed", "Leaf", "SHAPES", "MORE"}
        self.assertEqual(names, found.names_of({"Own"}))

    def test_an_import_gives_no_name_to_its_neighbours(self) -> None:
        found = classes(bound="from base import Own as One, six, mock as m\n").names_of({"Own"})
        assert found is not None
        self.assertIn("One", found)
        self.assertNotIn("six", found)

    def test_unknown_where_a_statement_does_more(self) -> None:
        for text in ("register(Own)\n", "def f(x=Own()): pass\n", "@Own\ndef f(): pass\n"):
            self.assertIsNone(
                classes(more=f"from base import Own\n{text}").names_of({"Own"}), text
            )
        self.assertIsNotNone(classes(unrelated="register(Other2)\n").names_of({"Own"}))
