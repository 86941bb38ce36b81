"""Who uses a word in all of a tree: worked out once for trees that are much alike. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

from jobs.outline import Outline, Scope, Statement

Words = frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """What of one file uses a word: lines of functions, as bits, and statements at import.

    `named` and `stating` also count what uses it as a plain name.
    """

    bits: int
    named: int
    statements: Sequence[Statement]
    stating: Sequence[Statement]


NOBODY = Users(bits=0, named=0, statements=(), stating=())


def bits_of(functions: Iterable[Scope]) -> int:
    """Where lines of the functions' calls are; in a file that is not exact, one stands for all."""
    mask = 0
    for function in functions:
        mask |= ((1 << (function.last - function.body + 1)) - 1) << function.body
    return mask


@dataclass(frozen=True, kw_only=True)
class Readers:
    """The users of words in a tree: of the files that `differ` its own, else those of `near`.

    `mentioning` names files that may use one of some words.
    """

    outline: Callable[[str], Outline | None]
    mentioning: Callable[[Collection[str]], Collection[str]]
    near: Readers | None = None
    differ: frozenset[str] = frozenset()
    _known: dict[Words, Mapping[str, Users]] = field(default_factory=dict)
    _classes: dict[str, Sequence[tuple[str, Statement]]] = field(default_factory=dict)
    _stating: dict[Words, Sequence[str]] = field(default_factory=dict)

    def own(self, words: Words) -> Mapping[str, Users]:
        """Users by path; beside a near tree only of the files that differ."""
        if words not in self._known:
            paths = self.mentioning(words) if self.near is None else self.differ
            found = ((path, self._users(path, words)) for path in paths)
            self._known[words] = {path: users for path, users in found if users != NOBODY}
        return self._known[words]

    def stating(self, words: Words) -> Sequence[str]:
        """Those of its own paths in which a statement at import uses one of the words."""
        if words not in self._stating:
            found = self.own(words).items()
            self._stating[words] = [path for path, users in found if users.stating]
        return self._stating[words]

    def users(self, words: Words) -> Iterator[tuple[str, Users]]:
        """All users, by path."""
        if self.near is not None:
            for path, users in self.near.users(words):
                if path not in self.differ:
                    yield path, users
        yield from self.own(words).items()

    def statements(
        self, words: Words, among: Set[str], own: Set[str]
    ) -> Iterator[tuple[str, Statement]]:
        """(path, statement) of what uses the words at import; in the `own` files by name too."""
        near = self.near
        for tree in (near, self) if near is not None else (self,):
            users = tree.own(words)
            for path in tree.stating(words):
                if path in among and not (tree is near and path in self.differ):
                    found = users[path]
                    for statement in found.stating if path in own else found.statements:
                        yield path, statement

    def classes(self, name: str) -> Sequence[tuple[str, Statement]]:
        """(path, statement) of the classes of a name."""
        if name not in self._classes:
            paths = self.mentioning({name}) if self.near is None else self.differ
            known = ((path, self.outline(path)) for path in paths)
            own = [
                (p, s) for p, outline in known if outline for s in outline.classes.get(name, ())
            ]
            near = self.near.classes(name) if self.near is not None else ()
            self._classes[name] = [*(one for one in near if one[0] not in self.differ), *own]
        return self._classes[name]

    @cached_property
    def bringing(self) -> Set[str]:
        """Files in which an `import *` may bind a name that stands nowhere in them."""
        found = {
            path
            for path in (self.mentioning({"*"}) if self.near is None else self.differ)
            if brings_names(self.outline(path))
        }
        return found if self.near is None else (self.near.bringing - self.differ) | found

    def _users(self, path: str, words: Words) -> Users:
        outline = self.outline(path)
        if outline is None:
            return NOBODY
        return Users(
            bits=bits_of(outline.functions_using(words, own=False)),
            named=bits_of(outline.functions_using(words, own=True)),
            statements=outline.statements_using(words, own=False),
            stating=outline.statements_using(words, own=True),
        )


def brings_names(outline: Outline | None) -> bool:
    """Whether an `import *` of a file may bind a name that stands nowhere in it."""
    return outline is not None and any("*" in found.names for found in outline.imports)
