"""What a source file means, as values: its functions, what runs at import, what it imports.

Pure; made by measured/outline.py, whose docstring says what is in the hashes and what is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar, overload


class StatementKind(StrEnum):
    """What a statement at module or class level does; EFFECT is anything without bounds."""

    IMPORT = "import"
    BIND = "bind"
    EFFECT = "effect"
    HEAD = "head"
    DEF = "def"
    ANNOTATIONS = "annotations"
    CLASS = "class"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A statement of a function, or a handler or case: its head is in lines anchors[0]..last.

    `blocks` are those inside it, always in the same order for one kind of statement; `head` is
    the hash of all but these, "" for a statement without.
    """

    hash: str
    anchors: tuple[int, ...]
    last: int
    head: str = ""
    blocks: tuple[Block, ...] = ()


Block = Sequence[Entry]


class LazyBlock(Sequence[Entry]):
    """A function's block that is read when it is first looked at: of most functions, never."""

    def __init__(self, raw: list[list[Any]]) -> None:
        self._raw = raw

    @cached_property
    def _entries(self) -> tuple[Entry, ...]:
        return _read_block(self._raw)

    @overload
    def __getitem__(self, place: int) -> Entry: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Entry]: ...

    def __getitem__(self, place: int | slice) -> Entry | Sequence[Entry]:
        return self._entries[place]

    def __len__(self) -> int:
        return len(self._raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LazyBlock) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash(len(self._raw))


@dataclass(frozen=True, kw_only=True)
class Scope:
    """A function: 1-based lines of its code, its def, its body's first and last.

    `shape` is the hash of what its statements decide for all of it (local names, generator or
    not). `names` are plain names that its body uses, `words` what can reach an attribute.
    """

    name: str
    start: int
    first: int
    body: int
    last: int
    hash: str
    shape: str
    block: Block
    names: frozenset[str]
    words: frozenset[str]

    @cached_property
    def anchors(self) -> tuple[int, ...]:
        """Lines where the parts of its body begin, in the order of the syntax tree."""
        return tuple(anchors_of(self.block))


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement that runs at import; `owner` is the dotted class around it, "" for none.

    A class binds its name; the last names of its `bases` are "?" where they are expressions.
    """

    owner: str
    kind: StatementKind
    hash: str
    bound: tuple[str, ...]
    names: frozenset[str]
    words: frozenset[str]
    line: int
    bases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """An import that runs when its file is imported; `names` are empty for a plain import."""

    level: int
    module: str
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Outline:
    """One version of one file; `module` is the hash of all that runs at import."""

    module: str
    anchors: tuple[int, ...]
    functions: tuple[Scope, ...]
    statements: tuple[Statement, ...]
    imports: tuple[Import, ...]

    @cached_property
    def by_name(self) -> Mapping[str, Scope]:
        """Functions by their qualified name (`#2` for the second of the same name)."""
        return {function.name: function for function in self.functions}

    def functions_using(self, words: Iterable[str], *, own: bool) -> Iterable[Scope]:
        """Functions that use one of the words; those that are the file's `own` as names too."""
        return _using(self._functions, words, own=own)

    def statements_using(self, words: Iterable[str], *, own: bool) -> Sequence[Statement]:
        """Statements at module and class level that use one of the words; see above."""
        return _using(self._statements, words, own=own)

    def functions_concerning(self, names: Set[str]) -> Iterable[Scope]:
        """Functions that are methods of one of the classes, or use its name."""
        tokens = self._tokens
        places = {place for name in names & tokens.keys() for place in tokens[name]}
        return [self.functions[place] for place in sorted(places)]

    @cached_property
    def classes(self) -> Mapping[str, Sequence[Statement]]:
        """Class statements by the name that they bind, dots left out."""
        found: dict[str, list[Statement]] = {}
        for statement in self.statements:
            if statement.kind is StatementKind.CLASS:
                found.setdefault(statement.bound[0], []).append(statement)
        return found

    @cached_property
    def _tokens(self) -> Mapping[str, Sequence[int]]:
        found: dict[str, list[int]] = {}
        for place, function in enumerate(self.functions):
            for token in {*function.name.split("."), *function.names, *function.words}:
                found.setdefault(token, []).append(place)
        return found

    @cached_property
    def _functions(self) -> Users[Scope]:
        return _index(self.functions)

    @cached_property
    def _statements(self) -> Users[Statement]:
        return _index(self.statements)


Part = TypeVar("Part", Scope, Statement)
# The parts that use a word as such, and those that use it as a plain name, by place.
Users = tuple[Sequence[Part], Mapping[str, Sequence[int]], Mapping[str, Sequence[int]]]


def _index(parts: Sequence[Part]) -> Users[Part]:
    words: dict[str, list[int]] = {}
    names: dict[str, list[int]] = {}
    for place, part in enumerate(parts):
        for word in part.words:
            words.setdefault(word, []).append(place)
        for name in part.names:
            names.setdefault(name, []).append(place)
    return parts, words, names


def _using(users: Users[Part], words: Iterable[str], *, own: bool) -> Sequence[Part]:
    parts, by_word, by_name = users
    found: set[int] = set()
    for word in words:
        found.update(by_word.get(word, ()))
        if own:
            found.update(by_name.get(word, ()))
    return [parts[place] for place in sorted(found)]


def anchors_of(block: Block) -> Iterator[int]:
    """Lines where the entries of a block and of all blocks inside begin."""
    for entry in block:
        yield from entry.anchors
        for inner in entry.blocks:
            yield from anchors_of(inner)


def read_outline(raw: Mapping[str, Any]) -> Outline:
    """The value of one file's entry in the outliner's JSON."""
    return Outline(
        module=raw["module"],
        anchors=tuple(raw["anchors"]),
        functions=tuple(map(_read_scope, raw["functions"])),
        statements=tuple(map(_read_statement, raw["statements"])),
        imports=read_imports(raw),
    )


def read_imports(raw: Mapping[str, Any]) -> tuple[Import, ...]:
    """Just the imports of one file's entry."""
    return tuple(
        Import(level=level, module=module, names=tuple(names))
        for level, module, names in raw["imports"]
    )


def _read_scope(fields: list[Any]) -> Scope:
    name, start, first, body, last, digest, shape, block, names, words = fields
    return Scope(
        name=name,
        start=start,
        first=first,
        body=body,
        last=last,
        hash=digest,
        shape=shape,
        block=LazyBlock(block),
        names=frozenset(names),
        words=frozenset(words),
    )


def _read_block(entries: list[list[Any]]) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            hash=digest,
            anchors=tuple(anchors),
            last=last,
            head=inner[0] if inner else "",
            blocks=tuple(map(_read_block, inner[1])) if inner else (),
        )
        for digest, anchors, last, *inner in entries
    )


def _read_statement(fields: list[Any]) -> Statement:
    owner, kind, digest, bound, names, words, line = fields
    bases = bound[1:] if kind == StatementKind.CLASS else ()
    return Statement(
        owner=owner,
        kind=StatementKind(kind),
        hash=digest,
        bound=tuple(bound[:1] if kind == StatementKind.CLASS else bound),
        bases=tuple(bases),
        names=frozenset(names),
        words=frozenset(words),
        line=line,
    )
