"""Which files of a tree depend on which by import. Pure.

A module depends on what it imports at its own import, on the packages around it, and on all
that those depend on. Imports inside functions belong to the tests that run them instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

from jobs.outline import Import
from jobs.suite import module_name


@dataclass(frozen=True, kw_only=True)
class Dependencies:
    """`edges` maps a file to the files that its import imports; `wanted` to all dotted names.

    Names that no file of the tree answers to are in `wanted` too: distributions, and files that
    may come or are gone. `twins` are names that several files answer to.
    The graph of a tree that is much like another's knows that one as `near`, and in which files it
    `differs`; `added` are the names of those that are new.
    """

    edges: Mapping[str, frozenset[str]]
    wanted: Mapping[str, frozenset[str]]
    names: Mapping[str, str]
    twins: frozenset[str] = frozenset()
    near: Dependencies | None = None
    differs: frozenset[str] = frozenset()
    added: Mapping[str, str] = field(default_factory=dict)

    def dependents(self, paths: Collection[str]) -> Set[str]:
        """The given files and all that depend on them, directly or not."""
        (path, *more) = paths or ("",)
        if more or not path:
            return _closure(paths, self._importers)
        if path not in self._known:
            self._known[path] = self._near_dependents(path) or _closure([path], self._importers)
        return self._known[path]

    def _near_dependents(self, path: str) -> Set[str] | None:
        """What depends on a file there too, and here; None where that has to be found anew."""
        if self.near is None or path in self.differs:
            return None
        found = self.near.dependents([path])
        if not self.differs.isdisjoint(found):
            return None
        more = {p for p in self.differs if not found.isdisjoint(self.edges.get(p, ()))}
        return None if any(self._importers.get(p) for p in more) else found | more

    def reached_from(self, paths: Iterable[str]) -> set[str]:
        """The given files and all that they depend on, directly or not."""
        return _closure(paths, self.edges)

    def wanting(self, names: Collection[str]) -> set[str]:
        """Files whose own imports ask for one of the dotted names."""
        if self.near is None:
            return {path for name in names for path in self._wanting.get(name, ())}
        own = (path for path in self.differs if path in self.wanted)
        return (self.near.wanting(names) - self.differs) | {
            path for path in own if not self.wanted[path].isdisjoint(names)
        }

    @cached_property
    def _known(self) -> dict[str, Set[str]]:
        return {}

    def names_of(self, path: str) -> Sequence[str]:
        """The dotted names of a file."""
        if self.near is None:
            return self._paths.get(path, ())
        if path in self.differs and (path not in self.near.wanted or path not in self.wanted):
            name = self.added.get(path)
            return (name,) if name else ()
        return self.near.names_of(path)

    @cached_property
    def _paths(self) -> Mapping[str, Sequence[str]]:
        return _inverse({name: (path,) for name, path in self.names.items()})

    @cached_property
    def _importers(self) -> Mapping[str, Sequence[str]]:
        return _inverse(self.edges)

    @cached_property
    def _wanting(self) -> Mapping[str, Sequence[str]]:
        return _inverse(self.wanted)

    def file_of(self, name: str) -> str | None:
        """The file that a dotted name imports; of a name inside a module, the module's."""
        while name:
            if name in self.names:
                return self.names[name]
            name = name.rpartition(".")[0]
        return None


def _inverse(edges: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, targets in edges.items():
        for target in targets:
            found.setdefault(target, []).append(path)
    return found


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
    edges = {path: _edges(path, wants, names) for path, wants in wanted.items()}
    counts = Counter(name for name in dotted.values() if name)
    twins = frozenset(name for name, count in counts.items() if count > 1)
    return Dependencies(edges=edges, wanted=wanted, names=names, twins=twins)


def change_dependencies(
    near: Dependencies,
    changed: Mapping[str, Iterable[Import]],
    gone: Collection[str],
    top_dirs: Iterable[str],
) -> Dependencies | None:
    """The import graph of a tree that differs from another in the imports of some files.

    `changed` also are the files that are new there. The graph itself, where nothing differs; None
    where a name comes or goes that several files answer to: then it has to be found anew.
    """
    if not (changed or gone):
        return near
    tops = tuple(top_dirs)
    dotted = {path: module_name(path, tops) for path in (*changed, *gone)}
    moved = {n: p for p, n in dotted.items() if n and (p in gone or p not in near.wanted)}
    known = (near.names.get(name, path) == path for name, path in moved.items())
    if len(moved) < sum(p in gone or p not in near.wanted for p in dotted if dotted[p]):
        return None
    if not (all(known) and near.twins.isdisjoint(moved)):
        return None
    names = {**near.names, **moved}
    wanted, edges = dict(near.wanted), dict(near.edges)
    for path in gone:
        names.pop(dotted[path] or "", None)
        del wanted[path], edges[path]
    for path, statements in changed.items():
        wanted[path] = frozenset(_wanted(dotted[path] or "", path, statements))
    again = near.wanting(moved).difference(gone).union(changed)
    edges |= {path: _edges(path, wanted[path], names) for path in again}
    return Dependencies(
        edges=edges,
        wanted=wanted,
        names=names,
        twins=near.twins,
        near=near,
        differs=frozenset(again.union(gone)),
        added={path: name for name, path in moved.items() if path not in gone},
    )


def _edges(path: str, wanted: Iterable[str], names: Mapping[str, str]) -> frozenset[str]:
    return frozenset(names[name] for name in wanted if name in names and names[name] != path)


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
