"""Answers the rules' questions (jobs.affected.Uses) from a base's snapshot and its tests."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from functools import cached_property

from jobs.comparison import Span
from jobs.dependencies import Dependencies
from jobs.footprint import Touch, Witness, span_bits
from jobs.readers import Readers
from jobs.snapshot import TestRecord
from jobs.suite import TestModule


class BaseUses:
    """Answers jobs.affected.Uses from the base's snapshot and its tests.

    `asked` are the lines that were asked for, as bits; nobody needs them without `keeps_asked`.
    """

    def __init__(
        self,
        footprints: Witness,
        known: Mapping[str, TestRecord],
        dependencies: Dependencies,
        modules: Sequence[TestModule],
    ) -> None:
        self._footprints = footprints
        self._known = known
        self._dependencies = dependencies
        self._modules = modules
        self.asked: dict[str, int] = {}
        self.keeps_asked = True

    def running(self, path: str, spans: Collection[Span]) -> set[str]:
        """Contexts that ran any line of the spans; `asked` keeps which were asked for, as bits."""
        self.asked[path] = self.asked.get(path, 0) | span_bits(spans)
        return self._footprints.running(path, spans)

    def reading(self, readers: Readers, words: frozenset[str], own: Set[str]) -> set[str]:
        """Contexts that ran functions which use one of the words, in `own` files also by name."""
        if self.keeps_asked:
            for path, users in readers.users(words):
                mask = users.named if path in own else users.bits
                self.asked[path] = self.asked.get(path, 0) | mask
        return self._footprints.reading(readers, words, own)

    def is_exact(self, path: str) -> bool:
        """Whether all lines that ran of the file are known, not just its functions."""
        return self._footprints.measures(path)

    def using(self, paths: Collection[str]) -> set[str]:
        """Contexts that ran any line of the files, and tests that are in them."""
        return self._footprints.using(paths) | self._tests_in(paths)

    def importing(self, paths: Set[str]) -> set[str]:
        """Contexts that imported one of the files, loaded or not."""
        imported = self._imported_files
        return {context for path in paths for context in imported.get(path, ())}

    def named(self, path: str, prefix: str) -> set[str]:
        """Tests of a file whose id begins with that name."""
        tests = self._tests_in([path])
        found = (test for test in tests if f".{prefix}" in test)
        return set(found)

    @cached_property
    def _imported_files(self) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, contexts in self._footprints.touched(Touch.IMPORT).items():
            path = self._dependencies.file_of(name)
            if path is not None:
                found.setdefault(path, set()).update(contexts)
        return found

    @cached_property
    def _module_names(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for module in self._modules:
            found.setdefault(module.path, []).append(module.name)
        return found

    @cached_property
    def _tests_by_module(self) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = {}
        for test, record in self._known.items():
            found.setdefault(record.module, set()).add(test)
        return found

    def _tests_in(self, paths: Collection[str]) -> set[str]:
        dotted, modules = self._dependencies.names_of, self._module_names
        names = {name for path in paths for name in (*dotted(path), *modules.get(path, ()))}
        by_module = self._tests_by_module
        return {test for name in names for test in by_module.get(name, ())}
