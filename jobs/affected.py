"""Which contexts a change can reach, and why: the rules of `--select affected`. Pure.

A changed function body reaches the contexts that ran the function. A change at module or class
level reaches, through the names that it binds, the functions and statements that use those
names; what has no such bounds reaches all that depends on the module by import. Nothing is left
out that a rule cannot bound. Questions go to the base's footprints, outlines and import graph.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol

from jobs.classes import Classes, Tree
from jobs.comparison import FileDifference, Span
from jobs.footprint import IMPORTED
from jobs.outline import Scope, Statement, StatementKind
from jobs.readers import Readers, Words

# Readers of a function's annotations.
ANNOTATION_READERS = frozenset(
    {"__annotations__", "get_type_hints", "get_annotations", "signature", "getfullargspec"}
)
# Methods that unittest, testtools and fixtures call by themselves.
HOOKS = frozenset(
    {
        "setUp", "tearDown", "setUpClass", "tearDownClass", "run", "runTest", "id", "debug",
        "countTestCases", "defaultTestResult", "doCleanups", "addCleanup", "cleanUp", "reset",
        "_setUp", "_cleanUp", "useFixture", "shortDescription", "subTest",
    }
)  # fmt: skip

# Functions that unittest calls around all tests of a module, or to make them.
MODULE_HOOKS = frozenset({"setUpModule", "tearDownModule", "load_tests"})


class Uses(Protocol):
    """The questions that are asked of the base's footprints and tests.

    `running` tells the contexts that ran lines of a file; unless it `is_exact`, one line stands
    for all of a function that ran. `using` tells those that ran any of some files or are tests
    in them, `importing` those that imported one, `named` the tests of a file whose id begins with
    a name.
    """

    def running(self, path: str, spans: Collection[Span]) -> set[str]: ...

    def reading(self, readers: Readers, words: frozenset[str], own: Set[str]) -> set[str]: ...

    def is_exact(self, path: str) -> bool: ...

    def using(self, paths: Collection[str]) -> set[str]: ...

    def importing(self, paths: Set[str]) -> set[str]: ...

    def named(self, path: str, prefix: str) -> set[str]: ...


@dataclass(kw_only=True)
class Reached:
    """What a change reaches, each with the reason.

    `contexts` are the base's; `imports` are files whose import may do something else now;
    `modules` files that may hold other tests now.
    """

    contexts: dict[str, str] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Name:
    """A global of a file (owner ""), or an attribute of a class in it."""

    path: str
    owner: str
    name: str


def find_reached(
    differences: Iterable[FileDifference],
    tree: Tree,
    uses: Uses,
    *,
    contexts: Mapping[str, str] | None = None,
    modules: Mapping[str, str] | None = None,
    wanted: Set[str] | None = None,
) -> Reached:
    """All that the differences reach in the base.

    `contexts` are reached for reasons beside them, and all that depends on the `modules` (files).
    Where all contexts that are `wanted` are reached, nothing more is looked for.
    """
    search = _Search(tree, uses, wanted)
    search.take_others(contexts or {}, modules or {})
    known = tuple(differences)
    for difference in known:
        search.take_functions(difference)
    for difference in known:
        if search.is_done:
            break
        search.take_difference(difference)
    return search.finish()


class _Search:
    """A worklist: each name, class and module is looked at once."""

    def __init__(self, tree: Tree, uses: Uses, wanted: Set[str] | None) -> None:
        self.tree = tree
        self._wanted = wanted
        self.classes = Classes(tree)
        self.readers = self.classes.readers
        self.uses = uses
        self.reached = Reached()
        self._seen: set[object] = set()
        self._waiting: list[Callable[[], None]] = []
        self._around: dict[str, set[str]] = {}

    def finish(self) -> Reached:
        while self._waiting and not self.is_done:
            self._waiting.pop()()
        return self.reached

    @property
    def is_done(self) -> bool:
        """Whether all contexts that are wanted are reached."""
        return self._wanted is not None and self._wanted <= self.reached.contexts.keys()

    def take_others(self, contexts: Mapping[str, str], modules: Mapping[str, str]) -> None:
        """Reach contexts, and dependents of files, for reasons of their own."""
        for context, why in contexts.items():
            self._reach([context], why)
        for path, why in modules.items():
            self._take_module(path, why)

    def take_functions(self, difference: FileDifference) -> None:
        """Reach what ran the changed functions of one file."""
        path = difference.old or difference.new or ""
        for function in difference.functions:
            spans = function.spans if self.uses.is_exact(path) else [_span(function.scope)]
            contexts = self.uses.running(path, spans)
            if contexts:
                self._reach(contexts, f"{function.scope.name} of {path} changed")

    def take_difference(self, difference: FileDifference) -> None:
        """Reach what one file's change at module and class level reaches."""
        path = difference.old or difference.new or ""
        for statement in difference.statements:
            self._take_statement(path, statement, f"line {statement.line} of {path} changed")
        if not difference.same_module:
            self._import_again(path, f"what {path} does when it is imported changed")
        nothing = not (difference.functions or difference.statements)
        if difference.whole and difference.old and (difference.new or nothing):
            self._take_module(path, f"{path} cannot be compared")

    def _once(self, key: object, work: Callable[[], None]) -> None:
        if key not in self._seen:
            self._seen.add(key)
            self._waiting.append(work)

    def _reach(self, contexts: Iterable[str], why: str) -> None:
        for context in contexts:
            if context.endswith(IMPORTED):
                path = context.removesuffix(IMPORTED)
                self._take_module(path, f"importing {path} runs what changed: {why}")
            self.reached.contexts.setdefault(context, why)

    def _import_again(self, path: str, why: str) -> None:
        self.reached.imports.setdefault(path, why)

    def _take_function(self, path: str, function: Scope, why: str) -> None:
        self._reach(self._ran(path, [function]), why)

    def _ran(self, path: str, functions: Iterable[Scope]) -> set[str]:
        """Contexts that ran any of the functions of a file."""
        spans = [_span(function) for function in functions]
        return self.uses.running(path, spans) if spans else set()

    def _take_module(self, path: str, why: str) -> None:
        """Reach all that depends on a file by import, and have all of it imported again."""

        def work() -> None:
            self.reached.modules.setdefault(path, why)
            for dependent in self.tree.dependencies.dependents([path]):
                self._import_again(dependent, why)
            self._reach(self._near(path), f"depends on {path}: {why}")

        self._once(("module", path), work)

    def _near(self, path: str) -> set[str]:
        """Contexts that depend on a file: ran or imported something that imports it."""
        if path not in self._around:
            dependents = self.tree.dependencies.dependents([path])
            near = self.uses.using(dependents) | self.uses.importing(dependents)
            self._around[path] = {c for c in near if not c.endswith(IMPORTED)}
        return self._around[path]

    def _take_statement(self, path: str, statement: Statement, why: str) -> None:
        """Reach what one statement at module or class level reaches, by its kind."""
        self._import_again(path, why)
        if self.tree.tests(path):
            self.reached.modules.setdefault(path, why)
            if not statement.owner and not MODULE_HOOKS.isdisjoint(statement.bound):
                self._reach(self.uses.named(path, ""), why)
        kind, owner = statement.kind, statement.owner
        if kind is StatementKind.EFFECT or "*" in statement.bound:
            self._take_module(path, why)
        elif kind is StatementKind.ANNOTATIONS:
            self._take_readers(_Name(path, "", ""), ANNOTATION_READERS, why)
        elif kind is StatementKind.CLASS:
            (name,) = statement.bound
            self._take_class(path, f"{owner}.{name}" if owner else name, why)
        elif kind is StatementKind.DEF and owner:
            self._take_method(path, statement, why)
        else:
            if kind is StatementKind.DEF:
                self._run_by_name(path, statement.bound[0], why)
            for name in statement.bound:
                self._take_name(_Name(path, owner, name), why)
            if owner and statement.bound:
                self._take_class(path, owner, why)

    def _run_by_name(self, path: str, name: str, why: str) -> None:
        """Reach what ran a function whose header changed."""
        outline = self.tree.outline(path)
        for function in outline.functions if outline else ():
            if function.name.partition("#")[0] == name:
                self._take_function(path, function, why)

    def _take_method(self, path: str, statement: Statement, why: str) -> None:
        (name,) = statement.bound
        self._run_by_name(path, f"{statement.owner}.{name}", why)
        if self.tree.tests(path):
            if name.startswith("test"):
                self._reach(self.uses.named(path, f"{statement.owner}.{name}"), why)
                self._take_subclasses(path, statement.owner, why)
                return
            implicit = name in HOOKS or _is_dunder(name)
        else:
            implicit = _is_dunder(name) or self.classes.has_foreign_base(path, statement.owner)
        self._take_name(_Name(path, statement.owner, name), why)
        if implicit:
            self._take_class(path, statement.owner, why)

    def _take_subclasses(self, path: str, owner: str, why: str) -> None:
        """Have the files loaded that inherit a class whose tests are other ones now."""
        for file in self.classes.subclass_files(path, frozenset({owner.rpartition(".")[2]})):
            self.reached.modules.setdefault(file, why)

    def _take_class(self, path: str, owner: str, why: str) -> None:
        """Reach what runs any method of a class, what names it, and what inherits it."""

        def work() -> None:
            outline = self.tree.outline(path)
            prefix = f"{owner}."
            functions = outline.functions if outline else ()
            ran = self._ran(path, (f for f in functions if f.name.startswith(prefix)))
            self._reach(ran | self.uses.named(path, prefix), why)
            self._take_name(_Name(path, owner.rpartition(".")[0], owner.rpartition(".")[2]), why)

        self._once(("class", path, owner), work)

    def _take_name(self, name: _Name, why: str) -> None:
        self._once(name, lambda: self._follow_name(name, why))

    def _follow_name(self, name: _Name, why: str) -> None:
        """Reach the functions and statements that use a name."""
        self._take_readers(name, frozenset({name.name}), why)
        if name.owner:
            return
        if name.name == "__all__":
            for path in self.tree.dependencies.dependents([name.path]):
                if path in self.readers.bringing:
                    self._take_module(path, f"{path} imports *: {why}")

    def _take_readers(self, name: _Name, words: frozenset[str], why: str) -> None:
        """Reach what uses one of the words; of an attribute, only the class's own users.

        Plain names mean a file's own globals, and those that `import *` brings; from elsewhere a
        name is reached as a word.
        """
        dependents = self.tree.dependencies.dependents([name.path])
        own = {name.path, *(dependents & self.readers.bringing)}
        contexts = self.uses.reading(self.readers, words, own)
        if contexts:
            imports = {c for c in contexts if _is_import(c, dependents)}
            others = self._allowed(contexts - imports, name, words, self._near(name.path))
            self._reach(imports | others, f"uses {_show(words)}: {why}")
        for path, statement in self.readers.statements(words, dependents, own):
            if name.owner and statement.kind is StatementKind.IMPORT:
                continue
            self._once(
                (path, statement.line, statement.hash),
                lambda at=path, s=statement: self._take_statement(  # type: ignore[misc]
                    at, s, f"line {s.line} of {at} uses {_show(words)}: {why}"
                ),
            )

    def _allowed(self, contexts: Set[str], name: _Name, words: Words, near: Set[str]) -> Set[str]:
        """Of the contexts, those that can come by a name: that know its class, of an attribute."""
        found = contexts & near
        if found and name.owner and words is not ANNOTATION_READERS:
            family = self._family(name)
            return found if family is None else found & family
        return found

    def _family(self, name: _Name) -> Set[str] | None:
        """Contexts that run or name a class or one that inherits it, and tests in those.

        None where an object of such a class may be made at import: then any test may hold it.
        """
        names = self.classes.names_of({name.owner.rpartition(".")[2]})
        if names is None:
            return None
        contexts: set[str] = set()
        for path in self.tree.mentioning(names):
            outline = self.tree.outline(path)
            if outline is None:
                continue
            for statement in outline.statements:
                if statement.kind is StatementKind.CLASS and statement.bound[0] in names:
                    contexts |= self.uses.named(path, f"{statement.bound[0]}.")
            contexts |= self._ran(path, outline.functions_concerning(names))
        return contexts


def _span(function: Scope) -> Span:
    """Where lines of a call are; in a file that is not exact, one of them stands for all."""
    return function.body, function.last


def _is_import(context: str, paths: Set[str]) -> bool:
    return context.endswith(IMPORTED) and context.removesuffix(IMPORTED) in paths


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _show(words: Collection[str]) -> str:
    return "annotations" if words is ANNOTATION_READERS else ", ".join(sorted(words))
