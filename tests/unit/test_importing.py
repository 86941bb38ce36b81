"""jobs.importing: what is imported anew, and what nothing leads to any more."""

from __future__ import annotations

from collections.abc import Mapping

from testtools import TestCase

from jobs.dependencies import Dependencies, find_dependencies
from jobs.diff import FileChange, TreeDiff
from jobs.importing import files_to_import, imported_files, module_names, no_longer_imported
from tests.written_tree import outline_of


def change(old: str | None, new: str | None) -> FileChange:
    return FileChange(old=old, new=new, old_blob="1" * 40, new_blob="2" * 40)


class FilesToImportTest(TestCase):
    def test_new_paths_of_what_was_imported_and_is_still_there(self) -> None:
        diff = TreeDiff(
            changes=(change("moved.py", "now.py"), change("gone.py", None), change("a.py", "a.py"))
        )
        wanted = ("a.py", "same.py", "moved.py", "gone.py", "never.py")
        imported = {"a.py", "same.py", "moved.py", "gone.py", "unasked.py"}
        self.assertEqual({"a.py", "same.py", "now.py"}, files_to_import(wanted, imported, diff))

    def test_nothing(self) -> None:
        self.assertEqual(frozenset(), files_to_import((), {"a.py"}, TreeDiff()))


class ModuleNamesTest(TestCase):
    def test_names(self) -> None:
        paths = ("src/b.py", "a/__init__.py", "a/c.py", "a/__main__.py", "bin/run-it.py")
        self.assertEqual(("a", "a.c", "b"), module_names(paths, ("", "src")))


class ImportedFilesTest(TestCase):
    def test_contexts(self) -> None:
        contexts = ("", "a/b.py:import", "t.T.test", "t:setUpModule", "t.T.test_x:import_y")
        self.assertEqual({"a/b.py"}, imported_files(contexts))


def graph(files: Mapping[str, str]) -> Dependencies:
    outlines = {path: outline_of(text) for path, text in files.items()}
    return find_dependencies({p: o.imports if o else () for p, o in outlines.items()}, ("",))


class NoLongerImportedTest(TestCase):
    FILES: Mapping[str, str] = {
        "test_a.py": "import one",
        "test_b.py": "import two",
        "one.py": "import deep",
        "two.py": "",
        "deep.py": "",
    }

    def left(self, **now: str) -> set[str]:
        """Files that nothing leads to after the given ones changed."""
        before = graph(self.FILES)
        after = graph({**self.FILES, **{f"{name}.py": text for name, text in now.items()}})
        roots = {"test_a.py", "test_b.py"}
        return no_longer_imported(before, roots, after, roots)

    def test_an_import_that_went(self) -> None:
        self.assertEqual({"one.py", "deep.py"}, self.left(test_a=""))
        self.assertEqual({"deep.py"}, self.left(one=""))

    def test_one_that_another_still_makes(self) -> None:
        self.assertEqual(set(), self.left(test_a="", two="import one"))
        self.assertEqual({"one.py"}, self.left(test_a="import deep"))

    def test_a_root_that_is_gone(self) -> None:
        before = graph(self.FILES)
        found = no_longer_imported(before, {"test_a.py", "test_b.py"}, before, {"test_a.py"})
        self.assertEqual({"test_b.py", "two.py"}, found)
