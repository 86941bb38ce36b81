"""What nodes of a syntax tree mean, as text to be hashed, and the names that they use.

Docstrings, comments, formatting and what only type checkers read are left out. Loaded by
outline.py.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPE = (*FUNCTION, ast.ClassDef)
DOTTED = re.compile(r"^[^\W\d]\w*([.:][^\W\d]\w*)*$")
LONGEST_WORD = 200
# Decorators that make nothing of annotations.
PLAIN_DECORATORS = {
    "staticmethod", "classmethod", "property", "setter", "deleter", "abstractmethod",
    "contextmanager", "asynccontextmanager", "wraps", "cache", "lru_cache", "cached_property",
    "override", "final",
}  # fmt: skip


def digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=8).hexdigest()


def last_word(node: ast.AST) -> str:
    """The last name of a decorator or base: `wraps` of @functools.wraps(f)."""
    if isinstance(node, ast.Call):
        return last_word(node.func)
    if isinstance(node, ast.Subscript):
        return last_word(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def strip_docstrings(tree: ast.Module) -> None:
    """Take all docstrings out; what consists of nothing else is left with a `pass` there."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, *SCOPE)) and node.body and is_text(node.body[0]):
            text = node.body.pop(0)
            if not node.body:
                node.body.append(ast.copy_location(ast.Pass(), text))


def is_constant(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_text(node: Any) -> bool:
    return is_constant(node) and isinstance(node.value.value, str)


def is_for_type_checkers(node: ast.AST) -> bool:
    """An overload, or an `if TYPE_CHECKING:` without else: nothing of it runs or remains."""
    if isinstance(node, FUNCTION):
        return any(last_word(decorator) == "overload" for decorator in node.decorator_list)
    return isinstance(node, ast.If) and last_word(node.test) == "TYPE_CHECKING" and not node.orelse


def reads_annotations(node: Any) -> bool:
    """Whether a decorator of the function could look at its annotations."""
    return any(last_word(decorator) not in PLAIN_DECORATORS for decorator in node.decorator_list)


def header_parts(node: Any) -> Iterator[ast.AST]:
    """What of a function runs when it is defined, annotations left out."""
    yield from node.decorator_list
    yield from (default for default in node.args.defaults)
    yield from (default for default in node.args.kw_defaults if default is not None)


def describe(node: Any, *, local: bool) -> str:
    """The meaning of a node as text; bodies of functions inside are left out.

    Of a `local` scope, annotations of variables are left out as well: they never run. Those in
    the body of a class do.
    """
    if isinstance(node, FUNCTION):
        return describe_header(node, local=local)
    if isinstance(node, ast.AnnAssign) and local:
        if node.value is None:  # this binds nothing
            return "AnnAssign(%s)" % describe(node.target, local=local)
        return describe(ast.Assign(targets=[node.target], value=node.value), local=local)
    if isinstance(node, ast.AST):
        local = local and not isinstance(node, ast.ClassDef)
        inner = (describe(getattr(node, name, None), local=local) for name in node._fields)
        return "%s(%s)" % (type(node).__name__, ",".join(inner))
    if isinstance(node, list):
        return "[%s]" % ",".join(describe(item, local=local) for item in node)
    return repr(node)


def describe_header(node: Any, *, local: bool) -> str:
    arguments = node.args
    words = [type(node).__name__, node.name, str(getattr(node, "type_params", None) and 1)]
    for group in (arguments.posonlyargs, arguments.args, arguments.kwonlyargs):
        words.append(",".join(argument.arg for argument in group))
    words += [argument.arg for argument in (arguments.vararg, arguments.kwarg) if argument]
    words.append(str([default is None for default in arguments.kw_defaults]))
    words += [describe(part, local=local) for part in header_parts(node)]
    if reads_annotations(node):
        words.append(describe_annotations(node))
    return "|".join(words)


def describe_annotations(node: Any) -> str:
    arguments = [argument for argument in ast.walk(node.args) if isinstance(argument, ast.arg)]
    notes = [argument.annotation for argument in arguments]
    return "|".join(ast.dump(note) if note else "" for note in [*notes, node.returns])


class Tokens(ast.NodeVisitor):
    """Names and words that a scope uses; what is inside inner functions belongs to those."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.words: set[str] = set()

    def visit_Name(self, node: ast.Name) -> None:
        self.names.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.words.add(node.attr)
        self.visit(node.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        text = node.value
        if isinstance(text, str) and len(text) <= LONGEST_WORD and DOTTED.match(text):
            self.words.update(re.split("[.:]", text))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.words.update(alias.name.split("."))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.words.update((node.module or "").split("."), (alias.name for alias in node.names))

    def visit_MatchClass(self, node: Any) -> None:
        self.words.update(node.kwd_attrs)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: Any) -> None:
        self.names.add(node.name)
        for part in header_parts(node):
            self.visit(part)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 (ast's name)


def tokens_of(nodes: Iterable[ast.AST]) -> tuple[list[str], list[str]]:
    tokens = Tokens()
    for node in nodes:
        tokens.visit(node)
    return sorted(tokens.names), sorted(tokens.words)
