"""Which files of a tree depend on which by import. Pure.

A module depends on what it imports at its own import, on the packages around it, and on all
that those depend on. Imports inside functions belong to the tests that run them instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from jobs.outline import Import
from jobs.suite import module_name


@dataclass(frozen=True, kw_only=True)
class Dependencies:
    """`edges` maps a file to the files that its import imports; `wanted` to all dotted names.

    Names that no file of the tree answers to are in `wanted` too: distributions, and files that
    may come or are gone.
    """

    edges: Mapping[str, frozenset[str]]
    wanted: Mapping[str, frozenset[str]]
    names: Mapping[str, str]

    def dependents(self, paths: Iterable[str]) -> set[str]:
        """The given files and all that depend on them, directly or not."""
        importers: dict[str, list[str]] = {}
        for path, targets in self.edges.items():
            for target in targets:
                importers.setdefault(target, []).append(path)
        return _closure(paths, importers)

    def reached_from(self, paths: Iterable[str]) -> set[str]:
        """The given files and all that they depend on, directly or not."""
        return _closure(paths, self.edges)

    def wanting(self, names: Collection[str]) -> set[str]:
        """Files whose own imports ask for one of the dotted names."""
        return {path for path, wanted in self.wanted.items() if not wanted.isdisjoint(names)}

    def file_of(self, name: str) -> str | None:
        """The file that a dotted name imports; of a name inside a module, the module's."""
        while name:
            if name in self.names:
                return self.names[name]
            name = name.rpartition(".")[0]
        return None


def _closure(start: Iterable[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
    found = set(start)
    waiting = list(found)
    while waiting:
        for path in edges.get(waiting.pop(), ()):
            if path not in found:
                found.add(path)
                waiting.append(path)
    return found


def find_dependencies(
    imports: Mapping[str, Iterable[Import]], top_dirs: Iterable[str]
) -> Dependencies:
    """The import graph of a tree: the imports of each of its files, by path."""
    tops = tuple(top_dirs)
    dotted = {path: module_name(path, tops) for path in imports}
    names = {name: path for path, name in dotted.items() if name}
    wanted = {
        path: frozenset(_wanted(dotted[path] or "", path, statements))
        for path, statements in imports.items()
    }
    edges = {
        path: frozenset(names[name] for name in wants if name in names and names[name] != path)
        for path, wants in wanted.items()
    }
    return Dependencies(edges=edges, wanted=wanted, names=names)


def _wanted(module: str, path: str, imports: Iterable[Import]) -> Iterator[str]:
    package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
    yield from _with_parents(package)
    for statement in imports:
        base = _absolute(package, statement)
        yield from _with_parents(base)
        yield from (f"{base}.{name}" for name in statement.names if name != "*")


def _absolute(package: str, statement: Import) -> str:
    if not statement.level:
        return statement.module
    parts = package.split(".")
    base = parts[: len(parts) - statement.level + 1]
    return ".".join(filter(None, (*base, statement.module)))


def _with_parents(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]
