"""A tiny text language for the rules of affected tests: source files that tell who ran them.

A line that ends in `#: a b` ran in the contexts a and b: tests by their last name, everything
else in full (`t.test_a.T:setUpClass`). All lines outside of functions ran in `FILE:import`.
Tests are the methods `test*` of classes in files below `t/`, with the ids that unittest gives
them. Outlines and import graph are the real ones, the answers of `WrittenUses` come from dicts.
"""

from __future__ import annotations

import re
import runpy
from collections.abc import Collection, Mapping, Set
from functools import cache
from textwrap import dedent

from jobs.affected import Reached, find_reached
from jobs.classes import Tree
from jobs.comparison import FileDifference, Span, compare
from jobs.confinement import MEASURED
from jobs.dependencies import Dependencies, find_dependencies
from jobs.footprint import IMPORTED
from jobs.outline import Outline, read_outline
from jobs.readers import Readers

outline_raw = runpy.run_path(str(MEASURED / "outline.py"))["outline"]
RAN = re.compile(r"#: (.*)$")
Files = Mapping[str, str]


@cache
def outline_of(text: str) -> Outline | None:
    """The real outline of a source text."""
    raw = outline_raw(dedent(text).encode())
    return read_outline(raw) if raw else None


class WrittenTree:
    """Files of the language, with the questions that `jobs.affected` asks of a base."""

    def __init__(
        self, files: Files, imported: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """`imported` maps a file to the contexts that imported it by themselves."""
        self.texts = {path: dedent(text) for path, text in files.items()}
        self.tests = {path: self._tests_of(path) for path in files}
        self.imported = {
            path: {self._full(name) for name in names} for path, names in (imported or {}).items()
        }

    def _tests_of(self, path: str) -> set[str]:
        outline = outline_of(self.texts[path])
        if not path.startswith("t/") or outline is None:
            return set()
        module = path.removesuffix(".py").replace("/", ".")
        names = (function.name for function in outline.functions)
        return {f"{module}.{n}" for n in names if n.partition(".")[2].startswith("test")}

    def _full(self, name: str) -> str:
        if "." in name or ":" in name:
            return name
        (full,) = {t for tests in self.tests.values() for t in tests if t.endswith(f".{name}")}
        return full

    def contexts(self, path: str) -> dict[str, set[int]]:
        """The lines of a file that ran, by context."""
        ran: dict[str, set[int]] = {}
        lines = self.texts[path].splitlines()
        for number, line in enumerate(lines, 1):
            found = RAN.search(line)
            for name in found.group(1).split() if found else ():
                ran.setdefault(self._full(name), set()).add(number)
        outline = outline_of(self.texts[path])
        inside = (
            {n for f in outline.functions for n in range(f.body, f.last + 1)} if outline else ()
        )
        ran[f"{path}{IMPORTED}"] = {n for n in range(1, len(lines) + 1) if n not in inside}
        return ran

    @property
    def dependencies(self) -> Dependencies:
        """The import graph."""
        outlines = {path: outline_of(text) for path, text in self.texts.items()}
        return find_dependencies(
            {path: outline.imports if outline else () for path, outline in outlines.items()},
            ("",),
        )

    def tree(self) -> Tree:
        """What `find_reached` is told of the files."""
        return Tree(
            outline=lambda path: outline_of(self.texts.get(path, "")),
            mentioning=lambda words: [
                path
                for path, text in self.texts.items()
                if any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) for word in words)
            ],
            dependencies=self.dependencies,
            tests=lambda path: path.startswith("t/"),
        )


class WrittenUses:
    """jobs.affected.Uses by what is written beside the lines; files outside `t/` are exact."""

    def __init__(self, written: WrittenTree) -> None:
        self.written = written

    def running(self, path: str, spans: Collection[Span]) -> set[str]:
        """Contexts that ran any line of the spans."""
        if path not in self.written.texts:
            return set()
        wanted = {line for first, last in spans for line in range(first, last + 1)}
        ran = self.written.contexts(path)
        return {context for context, lines in ran.items() if lines & wanted}

    def reading(self, readers: Readers, words: frozenset[str], own: Set[str]) -> set[str]:
        """Contexts that ran functions which use one of the words, in `own` files also by name."""
        found = set()
        for path, users in readers.users(words):
            mask = users.named if path in own else users.bits
            for context, lines in self.written.contexts(path).items():
                if any(mask >> line & 1 for line in lines):
                    found.add(context)
        return found

    def is_exact(self, path: str) -> bool:
        """Whether all lines that ran of the file are known."""
        return not path.startswith("t/")

    def using(self, paths: Collection[str]) -> set[str]:
        """Contexts that ran any line of the files, and tests that are in them."""
        known = [path for path in paths if path in self.written.texts]
        ran = {context for path in known for context in self.written.contexts(path)}
        return ran | {test for path in known for test in self.written.tests[path]}

    def importing(self, paths: Set[str]) -> set[str]:
        """Contexts that imported one of the files."""
        return {context for path in paths for context in self.written.imported.get(path, ())}

    def named(self, path: str, prefix: str) -> set[str]:
        """Tests of a file whose id begins with that name."""
        return {test for test in self.written.tests.get(path, ()) if f".{prefix}" in test}


def differences(before: Files, after: Files) -> list[FileDifference]:
    """The real comparison of all files that differ; no renames."""
    found = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old != new:
            found.append(
                compare(
                    None if old is None else path,
                    None if old is None else outline_of(old),
                    None if new is None else path,
                    None if new is None else outline_of(new),
                )
            )
    return found


def reach(
    before: Files,
    after: Files,
    *,
    imported: Mapping[str, Collection[str]] | None = None,
    contexts: Mapping[str, str] | None = None,
    modules: Mapping[str, str] | None = None,
) -> Reached:
    """What the change from one set of files to the other reaches."""
    written = WrittenTree(before, imported)
    return find_reached(
        differences(before, after),
        written.tree(),
        WrittenUses(written),
        contexts=contexts,
        modules=modules,
    )


def tests_of(reached: Reached) -> set[str]:
    """The last names of the tests and fixtures reached; imports of files are left out."""
    return {
        context.rpartition(".")[2]
        for context in reached.contexts
        if not context.endswith(IMPORTED)
    }
