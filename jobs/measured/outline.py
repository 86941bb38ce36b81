"""Outlines source files for comparison by meaning: versions with equal hashes do the same.

OUTLINE (JSON): {"module": hash of all that runs at import, "anchors": [lines], "functions":
[[name, start, def line, body, last, body hash, shape, BLOCK, names, words]],
"statements": [[class path, kind, hash, bound, names, words, line]] with kind one of "import",
"bind", "effect", "head" (of an if, try, for, with), "def", "annotations", "class",
"imports": [[level, module, [names]]]}
BLOCK: [[hash, anchors, last line of the head] or [..., hash of the head, [BLOCKs]]], an entry for
each statement, handler and case, with blocks inside where it has any.

What a class statement binds is its name; the last names of its bases follow. *Anchors* are the
lines where parts of a scope begin, in the order of the syntax tree: scopes with equal hashes
have anchors that match one by one. *Names* are plain names that a scope uses, *words* all that
can reach an attribute: attributes, imported names, strings that look like names. Docstrings,
comments, formatting and what only type checkers read are in no hash.
"""

from __future__ import annotations

import ast
import os
import runpy
from collections.abc import Iterable, Iterator
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
MEANING = runpy.run_path(os.path.join(HERE, "meaning.py"))
FUNCTION: Any = MEANING["FUNCTION"]
SCOPE: Any = MEANING["SCOPE"]
describe: Any = MEANING["describe"]
describe_annotations: Any = MEANING["describe_annotations"]
describe_header: Any = MEANING["describe_header"]
digest: Any = MEANING["digest"]
header_parts: Any = MEANING["header_parts"]
is_constant: Any = MEANING["is_constant"]
is_for_type_checkers: Any = MEANING["is_for_type_checkers"]
last_word: Any = MEANING["last_word"]
strip_docstrings: Any = MEANING["strip_docstrings"]
tokens_of: Any = MEANING["tokens_of"]
BINDING = (
    ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Delete, getattr(ast, "TypeAlias", ast.Delete),
)  # fmt: skip
# Patterns of a case that bind names; Python 3.9 has none.
CAPTURES = ("MatchAs", "MatchStar", "MatchMapping")


def anchors_of(body: Iterable[ast.AST]) -> list[int]:
    """Lines where the parts of a scope begin; bodies of inner functions are theirs."""
    lines: list[int] = []

    def visit(node: Any) -> None:
        if isinstance(node, SCOPE):
            lines.extend(decorator.lineno for decorator in node.decorator_list)
        if isinstance(node, (ast.stmt, ast.ExceptHandler)):
            lines.append(node.lineno)
        if hasattr(node, "pattern") and hasattr(node.pattern, "lineno"):
            lines.append(node.pattern.lineno)
        if not isinstance(node, FUNCTION):
            for child in ast.iter_child_nodes(node):
                visit(child)

    for node in body:
        visit(node)
    return lines


def start_of(node: Any) -> int:
    """The first line of a statement: of a def or class, that of its first decorator."""
    decorators = getattr(node, "decorator_list", ())
    lines = [node.lineno, *(decorator.lineno for decorator in decorators)]
    return int(min(lines))


def functions_of(tree: ast.Module) -> list[list[Any]]:
    found: list[list[Any]] = []
    counts: dict[str, int] = {}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, FUNCTION):
                name = prefix + child.name
                counts[name] = counts.get(name, 0) + 1
                if counts[name] > 1:
                    name += "#%d" % counts[name]
                found.append(outline_function(child, name))
                visit(child, name + ".")
            elif isinstance(child, ast.ClassDef):
                visit(child, prefix + child.name + ".")
            else:
                visit(child, prefix)

    visit(tree, "")
    return found


def outline_function(node: Any, name: str) -> list[Any]:
    names, words = tokens_of(node.body)
    body_hash = digest(describe(node.body, local=True), str(isinstance(node, ast.FunctionDef)))
    span = [start_of(node), node.lineno, start_of(node.body[0]), node.end_lineno]
    return [name, *span, body_hash, shape_of(node), block_of(node.body), names, words]


def shape_of(node: Any) -> str:
    """What a function's statements decide for all of it: its local names, and what kind it is."""
    bound: set[str] = set()
    kinds: set[str] = set()

    def visit(part: ast.AST) -> None:
        if isinstance(part, SCOPE):
            bound.add(part.name)
        elif isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
            bound.add(part.id)
        elif isinstance(part, (ast.Import, ast.ImportFrom)):
            bound.update(bound_names(part))
        elif isinstance(part, (ast.Global, ast.Nonlocal)):
            kinds.update("%s %s" % (type(part).__name__, name) for name in part.names)
        elif isinstance(part, ast.ExceptHandler) and part.name:
            bound.add(part.name)
        elif isinstance(part, (ast.Yield, ast.YieldFrom, ast.Await)):
            kinds.add(type(part).__name__)
        elif type(part).__name__ in CAPTURES:
            bound.update(filter(None, (getattr(part, word, None) for word in ("name", "rest"))))
        if not isinstance(part, (*SCOPE, ast.Lambda)):
            for child in ast.iter_child_nodes(part):
                visit(child)

    for part in node.body:
        visit(part)
    return str(digest(*sorted(bound), "", *sorted(kinds)))


INNER = ("body", "handlers", "orelse", "finalbody", "cases")


def block_of(nodes: Iterable[ast.AST], *, local: bool = True) -> list[list[Any]]:
    return [entry_of(node, local=local) for node in nodes]


def entry_of(node: Any, *, local: bool) -> list[Any]:
    """One statement, handler or case of a block; in the body of a class it is not `local`."""
    lines = [part.lineno for part in getattr(node, "decorator_list", ())]
    lines.append(node.lineno if hasattr(node, "lineno") else node.pattern.lineno)
    whole = digest(describe(node, local=local))
    inner = [name for name in INNER if hasattr(node, name)]
    if not inner or isinstance(node, FUNCTION):
        last = node.body[0].lineno - 1 if isinstance(node, FUNCTION) else node.end_lineno
        return [whole, lines, max(last, lines[-1])]
    head = [getattr(node, name) for name in node._fields if name not in inner]
    parts = [part for part in flatten(head) if isinstance(part, ast.AST)]
    ends = [getattr(p, "end_lineno", None) or 0 for part in parts for p in ast.walk(part)]
    local = local and not isinstance(node, ast.ClassDef)
    blocks = [block_of(getattr(node, name), local=local) for name in inner]
    text = digest(type(node).__name__, describe(head, local=local))
    return [whole, lines, max([lines[-1], *ends]), text, blocks]


def bound_names(node: Any) -> list[str]:
    """The names that a statement binds in its own scope."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    stored = (ast.Store, ast.Del)
    return sorted(
        {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, stored)}
    )


def kind_of(node: Any) -> str:
    """What a simple statement does: bind names, import them, or something that has no bounds."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return "import"
    # `x.y = 1` and `x[y] = 1` bind no name: what they change is somewhere else.
    foreign = (ast.Attribute, ast.Subscript)
    stored = (n.ctx for n in ast.walk(node) if isinstance(n, foreign))
    if not isinstance(node, BINDING) or any(not isinstance(c, ast.Load) for c in stored):
        return "effect"
    return "bind" if bound_names(node) else "effect"


def statements_of(tree: ast.Module) -> list[list[Any]]:
    """Everything that runs at import, one entry for each simple statement and each def.

    A condition, loop or handler around statements is part of each one's hash.
    """
    found: list[list[Any]] = []

    def add(node: Any, kind: str, path: str, text: str, bound: list[str], parts: Any) -> None:
        found.append([path, kind, digest(path, kind, text), bound, *tokens_of(parts), node.lineno])

    def visit(node: Any, path: str, around: str) -> None:
        if is_constant(node) or isinstance(node, ast.Pass) or is_for_type_checkers(node):
            return
        if isinstance(node, FUNCTION):
            text = around + describe_header(node, local=False)
            add(node, "def", path, text, [node.name], list(header_parts(node)))
            add(node, "annotations", path, node.name + describe_annotations(node), [], [])
        elif isinstance(node, ast.ClassDef):
            header = [*node.decorator_list, *node.bases, *(word.value for word in node.keywords)]
            text = node.name + describe(
                [*header, [word.arg for word in node.keywords]], local=False
            )
            bases = [last_word(base) or "?" for base in node.bases]
            add(node, "class", path, around + text, [node.name, *bases], header)
            visit_all(node.body, "%s.%s" % (path, node.name) if path else node.name, "")
        elif any(hasattr(node, name) for name in ("body", "handlers", "cases")):
            visit_compound(node, path, around)
        else:
            text = around + describe(node, local=not path)
            add(node, kind_of(node), path, text, bound_names(node), [node])

    def visit_compound(node: Any, path: str, around: str) -> None:
        """The statements inside, each with the compound statement's own head around it."""
        inner = ("body", "orelse", "finalbody", "handlers", "cases")
        head = [getattr(node, name) for name in node._fields if name not in inner]
        heads = [part for part in flatten(head) if isinstance(part, ast.AST)]
        text = around + type(node).__name__ + describe(head, local=False)
        if heads:
            bound = sorted(set().union(*(bound_names(part) for part in heads)))
            add(node, "bind" if bound else "head", path, text, bound, heads)
        for name in inner:
            visit_all(getattr(node, name, []), path, text + name)

    def visit_all(nodes: Iterable[ast.AST], path: str, around: str) -> None:
        for node in nodes:
            visit(node, path, around)

    visit_all(tree.body, "", "")
    return found


def flatten(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, list):
            yield from flatten(item)
        else:
            yield item


def imports_of(tree: ast.Module) -> list[list[Any]]:
    """[level, module, names] of the imports that run when the file is imported."""
    found: list[list[Any]] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, FUNCTION) or is_for_type_checkers(node):
            return
        if isinstance(node, ast.Import):
            found.extend([0, alias.name, []] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.append([node.level, node.module or "", [alias.name for alias in node.names]])
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def outline(source: bytes) -> dict[str, Any] | None:
    """The outline of one file's source, None where it is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    strip_docstrings(tree)
    functions, statements = functions_of(tree), statements_of(tree)
    whole = [describe(node, local=False) for node in tree.body]
    notes = [statement[2] for statement in statements]
    return {
        "module": digest(*whole, *notes),
        "anchors": anchors_of(tree.body),
        "functions": functions,
        "statements": statements,
        "imports": imports_of(tree),
    }
