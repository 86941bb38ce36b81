"""jobs.dependencies on small trees written as text; absolute names by importlib's own hand."""

from __future__ import annotations

import importlib.util
import runpy
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from testtools import TestCase

from jobs.confinement import MEASURED
from jobs.dependencies import Dependencies, change_dependencies, find_dependencies
from jobs.outline import Import
from tests.written_tree import outline_of


def graph(files: Mapping[str, str], tops: tuple[str, ...] = ("",)) -> Dependencies:
    """The import graph of files by their source."""
    outlines = {path: outline_of(text) for path, text in files.items()}
    return find_dependencies({p: o.imports if o else () for p, o in outlines.items()}, tops)


TREE = {
    "pkg/__init__.py": "",
    "pkg/base.py": "import os.path\n",
    "pkg/deep/__init__.py": "from . import inner\n",
    "pkg/deep/inner.py": "from .. import base\nfrom ..other import name\n",
    "pkg/other.py": "",
    "pkg/lazy.py": "def f():\n    import pkg.base\n",
    "t/__init__.py": "",
    "t/test_base.py": "import pkg.base as tested\n",
    "t/test_deep.py": "from pkg.deep.inner import Thing\n",
}
NAMES = {f"m{number}.py": f"m{number}" for number in range(6)}


class EdgesTest(TestCase):
    def edges(self, path: str, text: str) -> set[str]:
        return set(graph({**TREE, path: text}).edges[path]) - {path}

    def test_forms_of_import(self) -> None:
        around = {"pkg/__init__.py"}
        for text, expected in (
            ("import pkg", around),
            ("import pkg.base", {*around, "pkg/base.py"}),
            ("import pkg.base as b, pkg.other", {*around, "pkg/base.py", "pkg/other.py"}),
            ("from pkg import base", {*around, "pkg/base.py"}),
            ("from pkg.base import Thing", {*around, "pkg/base.py"}),
            ("from pkg import Thing", around),
            ("from pkg import *", around),
            ("from pkg.deep import inner", {*around, "pkg/deep/__init__.py", "pkg/deep/inner.py"}),
            ("import six", set()),
            ("if x:\n    import pkg.other", {*around, "pkg/other.py"}),
            ("try:\n    import pkg.other\nexcept E: pass", {*around, "pkg/other.py"}),
            ("class A:\n    import pkg.other", {*around, "pkg/other.py"}),
            ("def f():\n    import pkg.other", set()),
        ):
            self.assertEqual(expected, self.edges("main.py", text), text)

    def test_relative_imports(self) -> None:
        above = {"pkg/__init__.py"}
        for path, text, expected in (
            ("pkg/new.py", "from . import base", {"pkg/base.py"}),
            (
                "pkg/new.py",
                "from .deep import inner",
                {"pkg/deep/__init__.py", "pkg/deep/inner.py"},
            ),
            ("pkg/new/__init__.py", "from . import base", set()),
            ("pkg/new/__init__.py", "from .. import base", {"pkg/base.py"}),
            ("pkg/deep/new.py", "from ..base import Thing", {"pkg/base.py"}),
        ):
            found = self.edges(path, text) - {"pkg/deep/__init__.py"}
            self.assertEqual(
                (expected | above) - {"pkg/deep/__init__.py"}, found, f"{path}: {text}"
            )

    def test_a_module_depends_on_the_packages_around_it(self) -> None:
        edges = graph(TREE).edges["pkg/deep/inner.py"]
        self.assertLessEqual({"pkg/deep/__init__.py", "pkg/__init__.py"}, edges)

    def test_files_without_a_name_import_too(self) -> None:
        self.assertEqual(
            {"pkg/__init__.py", "pkg/base.py"}, self.edges("bin/run-it.py", "import pkg.base")
        )

    def test_roots_below_folders(self) -> None:
        files = {"src/pkg/__init__.py": "", "src/pkg/a.py": "", "t/test_a.py": "import pkg.a"}
        found = graph(files, ("", "src"))
        self.assertEqual({"src/pkg/__init__.py", "src/pkg/a.py"}, found.edges["t/test_a.py"])
        self.assertEqual("src/pkg/a.py", found.file_of("pkg.a.Thing"))

    def test_names_that_no_file_answers_to(self) -> None:
        found = graph({**TREE, "main.py": "import six.moves\nfrom pkg import later\n"})
        self.assertEqual({"main.py"}, found.wanting({"six"}))
        self.assertEqual({"main.py"}, found.wanting({"pkg.later", "nothing"}))
        self.assertEqual(set(), found.wanting({"ix"}))


class QuestionsTest(TestCase):
    def test_dependents(self) -> None:
        found = graph(TREE)
        self.assertEqual(
            {
                "pkg/base.py", "pkg/deep/inner.py", "pkg/deep/__init__.py",
                "t/test_base.py", "t/test_deep.py",
            },
            found.dependents(["pkg/base.py"]),
        )  # fmt: skip
        self.assertEqual({"gone.py"}, found.dependents(["gone.py"]))
        self.assertEqual(set(), found.dependents([]))

    def test_file_of(self) -> None:
        found = graph(TREE)
        for name, path in (
            ("pkg.base", "pkg/base.py"),
            ("pkg.base.Thing.part", "pkg/base.py"),
            ("pkg", "pkg/__init__.py"),
            ("pkg.nothing", "pkg/__init__.py"),
            ("other", None),
            ("", None),
        ):
            self.assertEqual(path, found.file_of(name), name)

    @given(st.dictionaries(st.sampled_from(list(NAMES)), st.sets(st.sampled_from(list(NAMES)))))
    def test_both_ways_agree_and_circles_end(self, wants: dict[str, set[str]]) -> None:
        found = find_dependencies(
            {
                path: [Import(level=0, module=NAMES[p], names=()) for p in wants.get(path, ())]
                for path in NAMES
            },
            ("",),
        )
        for one in NAMES:
            self.assertIn(one, found.dependents([one]))
            for other in NAMES:
                self.assertEqual(
                    one in found.dependents([other]), other in found.reached_from([one])
                )


class ChangedTest(TestCase):
    """A graph that is changed in some files is the one that is found of all."""

    def assert_same(self, before: Mapping[str, str], after: Mapping[str, str]) -> bool:
        near, found = graph(before), graph(after)
        changed = {
            path: outline.imports if (outline := outline_of(text)) else ()
            for path, text in after.items()
            if before.get(path) != text
        }
        now = change_dependencies(near, changed, before.keys() - after.keys(), ("",))
        if now is None:
            return False
        self.assertEqual(
            (found.edges, found.wanted, found.names), (now.edges, now.wanted, now.names)
        )
        for path in {*before, *after, "none.py"}:
            self.assertEqual(found.dependents([path]), now.dependents([path]), path)
            self.assertEqual(set(found.names_of(path)), set(now.names_of(path)), path)
        for name in {*found.names, *near.names, "six"}:
            self.assertEqual(found.wanting({name}), now.wanting({name}), name)
        return True

    def test_one_file(self) -> None:
        for path, text in (
            ("pkg/other.py", "import six\n"),
            ("pkg/base.py", "from . import other\n"),
            ("t/test_new.py", "from pkg.deep import inner\n"),
            ("six.py", ""),
            ("pkg/deep/inner.py", ""),
        ):
            self.assertTrue(self.assert_same(TREE, {**TREE, path: text}), path)
        for path in TREE:
            left = {name: text for name, text in TREE.items() if name != path}
            self.assertTrue(self.assert_same(TREE, left), path)

    def test_name_of_two_files_has_to_be_found_anew(self) -> None:
        twins = {**TREE, "pkg/base/__init__.py": ""}
        self.assertFalse(self.assert_same(TREE, twins))
        self.assertFalse(self.assert_same(twins, TREE))

    @given(
        *[st.dictionaries(st.sampled_from(list(NAMES)), st.sets(st.sampled_from(list(NAMES))))] * 2
    )
    def test_any_two(self, old: dict[str, set[str]], new: dict[str, set[str]]) -> None:
        before, after = (
            {path: "".join(f"import {NAMES[p]}\n" for p in sorted(w)) for path, w in tree.items()}
            for tree in (old, new)
        )
        self.assertTrue(self.assert_same(before, after))


class AbsoluteNameTest(TestCase):
    """The names that measured/footprint.py notes of imports while tests run."""

    def test_as_importlib_resolves_them(self) -> None:
        absolute = runpy.run_path(str(MEASURED / "footprint.py"))["absolute_name"]
        for name in ("", "a", "a.b"):
            for package in ("p", "p.q", "p.q.r"):
                for level in range(package.count(".") + 2):
                    if level or name:
                        expected = importlib.util.resolve_name("." * level + name, package)
                        self.assertEqual(expected.strip("."), absolute(name, package, level))
                        self.assertEqual(
                            expected.strip("."), absolute("." * level + name, package, 0)
                        )
