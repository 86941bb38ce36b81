"""What the classes of a tree inherit, and under which names they are known. Pure.

Classes are told by their last name alone: two of one name count as one, so that what is found
is rather too much than too little.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence, Set
from dataclasses import dataclass

from jobs.dependencies import Dependencies
from jobs.outline import Outline, Statement, StatementKind
from jobs.readers import Readers


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The base's tree: outlines by path (None where Python cannot parse the file).

    `mentioning` names the files whose source may use one of the words, `tests` those that hold
    tests or stand beside them. `readers` are set where they are known already.
    """

    outline: Callable[[str], Outline | None]
    mentioning: Callable[[Collection[str]], Collection[str]]
    dependencies: Dependencies
    tests: Callable[[str], bool]
    readers: Readers | None = None


class Classes:
    """Questions about the classes of one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.readers = tree.readers or Readers(outline=tree.outline, mentioning=tree.mentioning)
        self._subclasses: dict[frozenset[str], Set[str]] = {}

    def has_foreign_base(self, path: str, owner: str) -> bool:
        """Whether something outside the tree may call methods of the class by itself."""
        for _, statement in self.bases(path, owner):
            for base in statement.bases:
                if base != "object" and not self.named(base):
                    return True
        return False

    def bases(self, path: str, owner: str) -> Iterator[tuple[str, Statement]]:
        """The class statements of a class and of all classes of the tree that it may inherit."""
        seen: set[tuple[str, int]] = set()
        waiting = [
            (path, s)
            for s in self.statements(path)
            if (f"{s.owner}.{s.bound[0]}" if s.owner else s.bound[0]) == owner
        ]
        while waiting:
            file, statement = waiting.pop()
            if (file, statement.line) in seen:
                continue
            seen.add((file, statement.line))
            yield file, statement
            for base in statement.bases:
                waiting += self.named(base)

    def named(self, name: str) -> Sequence[tuple[str, Statement]]:
        """(path, statement) of the tree's classes of that name."""
        return self.readers.classes(name)

    def statements(self, path: str) -> Iterator[Statement]:
        outline = self._tree.outline(path)
        for statement in outline.statements if outline else ():
            if statement.kind is StatementKind.CLASS:
                yield statement

    def names_of(self, own: Set[str]) -> set[str] | None:
        """The names of the classes, of those that inherit them, and of what is bound to one.

        None where a statement at import does more with one than to bind it.
        """
        names = set(own)
        waiting = set(own)
        while waiting:
            more: set[str] = set()
            for path in self._tree.mentioning(waiting):
                outline = self._tree.outline(path)
                for statement in outline.statements_using(waiting, own=True) if outline else ():
                    if statement.kind in (StatementKind.EFFECT, StatementKind.DEF):
                        return None
                    more |= _names_given(statement)
            waiting = more - names
            names |= waiting
        return names

    def subclass_names(self, names: frozenset[str]) -> Set[str]:
        """The names of classes that may inherit one of those, and of what is bound to one."""
        if names not in self._subclasses:
            self._subclasses[names] = self._find_subclass_names(names)
        return self._subclasses[names]

    def _find_subclass_names(self, names: Set[str]) -> Set[str]:
        found: set[str] = set()
        waiting = set(names)
        while waiting:
            more: set[str] = set()
            for path in self._tree.mentioning(waiting):
                outline = self._tree.outline(path)
                for statement in outline.statements_using(waiting, own=True) if outline else ():
                    more |= _names_given(statement)
            waiting = more - found - names
            found |= waiting
        return found

    def subclass_files(self, path: str, names: frozenset[str]) -> set[str]:
        every = names | self.subclass_names(names)
        dependents = self._tree.dependencies.dependents([path])
        return {
            file
            for file in dependents & set(self._tree.mentioning(every))
            if (outline := self._tree.outline(file)) and _has_class(outline, every)
        }


def _has_class(outline: Outline, names: Set[str]) -> bool:
    """Whether a class statement uses one of the names."""
    used = outline.statements_using(names, own=True)
    return any(statement.kind is StatementKind.CLASS for statement in used)


def _names_given(statement: Statement) -> set[str]:
    """The names that a class, assignment or import (`as`) gives to what it makes of a class."""
    if statement.kind is StatementKind.IMPORT:
        return set(statement.bound) - statement.words
    named = statement.kind in (StatementKind.CLASS, StatementKind.BIND)
    return set(statement.bound) if named else set()
