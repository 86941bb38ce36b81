"""Random edits of a small project, for histories in which anything may change.

Each edit changes the files of a clone in place and says what it did. Source is edited as a
syntax tree, so it is Python afterwards; whether its tests pass is left to chance.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
IDENTITY = re.compile(r"^[a-z ]*[!?]?$")


class Editor:
    """Edits the files of one clone, all choices from one seed."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root = root
        self.chance = chance
        self.number = 0
        self.edits: tuple[Callable[[], str], ...] = (
            self.put_statement_in,
            self.put_statement_in,
            self.drop_statement,
            self.wrap_statement,
            self.change_constant,
            self.change_constant,
            self.change_constant,
            self.add_branch,
            self.call_more,
            self.call_more,
            self.add_method,
            self.drop_method,
            self.add_test,
            self.rename_test,
            self.add_default,
            self.set_attribute,
            self.swap_definitions,
            self.write_data,
            self.write_settings,
            self.toggle_plugin,
            self.toggle_test_file,
            self.rename_module,
            self.respell_import,
            self.add_text_alone,
            self.exclude_lines,
            self.break_lines,
            self.add_effect,
            self.add_condition,
            self.guard_statement,
            self.add_function,
            self.add_set_up,
        )

    def edit(self) -> str:
        """Make one edit that changes something; says what."""
        while True:
            self.number += 1
            before = self._texts()
            said = self.chance.choice(self.edits)()
            if self._texts() != before and self._is_python():
                return said
            self._restore(before)

    def _texts(self) -> dict[str, str]:
        found = (path for path in self.root.rglob("*") if ".git" not in path.parts)
        return {str(p.relative_to(self.root)): p.read_text() for p in found if p.is_file()}

    def _restore(self, texts: dict[str, str]) -> None:
        for name in self._texts().keys() - texts.keys():
            (self.root / name).unlink()
        for name, text in texts.items():
            self._write(name, text)

    def _write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def _is_python(self) -> bool:
        try:
            for name, text in self._texts().items():
                if name.endswith(".py"):
                    compile(text, name, "exec")
        except SyntaxError:
            return False
        return True

    def _any_file(self, pattern: str = "**/*.py") -> Path:
        found = [path for path in sorted(self.root.glob(f"lib/{pattern}")) if path.read_text()]
        return self.chance.choice(found)

    def _change(self, path: Path, work: Callable[[ast.Module], Any]) -> str:
        tree = ast.parse(path.read_text())
        work(tree)
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)) + "\n")
        return path.name

    def _functions(self, tree: ast.AST) -> list[Any]:
        return [node for node in ast.walk(tree) if isinstance(node, FUNCTION)]

    def _in_function(self, work: Callable[[Any], Any], pattern: str = "**/*.py") -> str:
        def choose(tree: ast.Module) -> None:
            functions = self._functions(tree)
            if functions:
                work(self.chance.choice(functions))

        return self._change(self._any_file(pattern), choose)

    def _in_class(self, work: Callable[[ast.ClassDef], Any], pattern: str = "**/*.py") -> str:
        def choose(tree: ast.Module) -> None:
            classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
            if classes:
                work(self.chance.choice(classes))

        return self._change(self._any_file(pattern), choose)

    def _parse(self, text: str) -> list[ast.stmt]:
        number = re.sub(r"(?<![A-Za-z])N(?![A-Za-z])", str(self.number), text)
        return ast.parse(number).body

    def put_statement_in(self) -> str:
        """Anywhere in a function, in blocks inside too."""

        def work(function: Any) -> None:
            block = self.chance.choice(list(_blocks(function)))
            text = self.chance.choice(
                ["kept_N = N", "for kept_N in range(N % 3):\n    pass", "global LIMIT", "pass",
                 "import os", "LIMIT = N", "LIMIT", "yield", "return 0", "assert True"]
            )  # fmt: skip
            block[self.chance.randint(0, len(block)) : 0] = self._parse(text)

        return f"put a statement into {self._in_function(work)}"

    def drop_statement(self) -> str:
        def work(function: Any) -> None:
            block = self.chance.choice(list(_blocks(function)))
            block.pop(self.chance.randrange(len(block)))
            block.extend([] if block else self._parse("pass"))

        return f"drop a statement from {self._in_function(work)}"

    def wrap_statement(self) -> str:
        def work(function: Any) -> None:
            block = self.chance.choice(list(_blocks(function)))
            at = self.chance.randrange(len(block))
            (around,) = self._parse(
                self.chance.choice(
                    [
                        "if len('x') > N % 2:\n    pass",
                        "for _ in range(N % 3):\n    pass",
                        "try:\n    pass\nexcept ValueError:\n    kept = N",
                        "try:\n    pass\nfinally:\n    kept = N",
                        "with open('setup.cfg'):\n    pass",
                        "match N % 2:\n    case 0:\n        pass\n    case kept:\n        pass",
                    ]
                )
            )
            next(_blocks_of(around))[:] = [block[at]]
            block[at] = around

        return f"wrap a statement of {self._in_function(work)}"

    def change_constant(self) -> str:
        """A number or a word, at module level, in a default, in a body."""

        def work(tree: ast.Module) -> None:
            found = [
                node
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant)
                and (type(node.value) is int or (type(node.value) is str and node.value != ""))
                and (type(node.value) is int or IDENTITY.match(str(node.value)))
            ]
            if found:
                node = self.chance.choice(found)
                number = self.chance.randint(0, 12)
                node.value = number if type(node.value) is int else f"{node.value!s}x"

        return f"change a constant of {self._change(self._any_file(), work)}"

    def add_branch(self) -> str:
        def work(function: Any) -> None:
            text = "if len('ab') > N % 4:\n    kept = 1\nelse:\n    kept = 2"
            function.body[self.chance.randint(0, len(function.body)) : 0] = self._parse(text)

        return f"add a branch to {self._in_function(work)}"

    def call_more(self) -> str:
        """A test or helper of tests runs another function, imported as it runs."""
        calls = (
            "from lib import shapes\nshapes.unit()",
            "from lib import shapes\nshapes.describe(shapes.Square(N % 13))",
            "from lib import texts\ntexts.greet('x')",
            "import lib.texts\nlib.texts.plain('x')",
            "from lib.files import read\nread()",
            "import importlib\nimportlib.import_module('lib.plugins').load()",
            "from lib import shapes\ngetattr(shapes.Circle(), 'area')()",
        )

        def work(function: Any) -> None:
            function.body[0:0] = self._parse(self.chance.choice(calls))

        return f"call more in {self._in_function(work, 'tests/*.py')}"

    def add_method(self) -> str:
        name = self.chance.choice(["area", "name", "__len__", "extra_N", "help", "make"])

        def work(owner: ast.ClassDef) -> None:
            owner.body += self._parse(f"def {name}(self):\n    return N % 2")

        return f"add method {name} in {self._in_class(work)}"

    def drop_method(self) -> str:
        def work(owner: ast.ClassDef) -> None:
            owner.body.pop(self.chance.randrange(len(owner.body)))
            owner.body.extend([] if owner.body else self._parse("pass"))

        return f"drop a member in {self._in_class(work)}"

    def add_test(self) -> str:
        def work(owner: ast.ClassDef) -> None:
            owner.body += self._parse("def test_new_N(self):\n    self.assertTrue(N)")

        return f"add a test in {self._in_class(work, 'tests/*.py')}"

    def rename_test(self) -> str:
        def work(function: Any) -> None:
            if function.name.startswith("test"):
                function.name = f"test_{self.number}"

        return f"rename a test in {self._in_function(work, 'tests/*.py')}"

    def add_default(self) -> str:
        def work(function: Any) -> None:
            if function.args.kwarg is None:
                function.args.kwonlyargs.append(ast.arg(arg=f"more_{self.number}"))
                function.args.kw_defaults.append(ast.Constant(value=self.number))

        return f"add a default in {self._in_function(work)}"

    def set_attribute(self) -> str:
        name = self.chance.choice(["sides", "more", "width"])

        def work(owner: ast.ClassDef) -> None:
            owner.body[0:0] = self._parse(f"{name} = N % 3")

        return f"set {name} in {self._in_class(work)}"

    def swap_definitions(self) -> str:
        def work(tree: ast.Module) -> None:
            places = [i for i, node in enumerate(tree.body) if isinstance(node, FUNCTION)]
            if len(places) > 1:
                one, other = self.chance.sample(places, 2)
                tree.body[one], tree.body[other] = tree.body[other], tree.body[one]

        return f"swap functions of {self._change(self._any_file(), work)}"

    def write_data(self) -> str:
        self._write("lib/data.txt", self.chance.choice(["one\n", "two\n", "two three\n"]))
        return "write the data"

    def write_settings(self) -> str:
        self._write("lib/settings.txt", self.chance.choice(["1\n", "2\n"]))
        return "write the settings"

    def toggle_plugin(self) -> str:
        path = self.root / f"lib/plugins/more_{self.number % 2}.py"
        if path.exists():
            path.unlink()
        else:
            path.write_text(f"def run():\n    return {self.number}\n")
        return f"toggle {path.name}"

    def toggle_test_file(self) -> str:
        path = self.root / f"lib/tests/test_more_{self.number % 3}.py"
        if path.exists():
            path.unlink()
        else:
            text = (self.root / "lib/tests/test_plugins.py").read_text()
            path.write_text(text.replace("LoadTest", f"More{self.number}"))
        return f"toggle {path.name}"

    def rename_module(self) -> str:
        names = ["decorators", "loudness"]
        if not (self.root / "lib/decorators.py").exists():
            names.reverse()
        old, new = names
        (self.root / f"lib/{old}.py").rename(self.root / f"lib/{new}.py")
        for path in self.root.glob("lib/**/*.py"):
            path.write_text(path.read_text().replace(f"lib.{old}", f"lib.{new}"))
        return f"rename {old}"

    def respell_import(self) -> str:
        """The same class by `import *`, by another name, by its module."""
        path = self.root / "lib/shapes.py"
        forms = (
            ("from lib.base import Shape", "Shape"),
            ("from lib.base import *", "Shape"),
            ("from lib.base import Shape as Renamed", "Renamed"),
            ("import lib.base", "lib.base.Shape"),
        )
        line, name = self.chance.choice(forms)
        text = re.sub(r"^(from|import) lib\.base.*$", line, path.read_text(), flags=re.MULTILINE)
        text = re.sub(r"^class (\w+)\([\w.]+\):", rf"class \1({name}):", text, flags=re.MULTILINE)
        path.write_text(text)
        return f"respell an import: {line}"

    def add_text_alone(self) -> str:
        """Comments, blank lines and docstrings: nothing that runs."""
        path = self._any_file()
        lines = path.read_text().splitlines()
        for _ in range(self.chance.randint(1, 4)):
            lines.insert(self.chance.randint(0, len(lines)), self.chance.choice(["", "# note"]))
        path.write_text("\n".join(lines) + "\n")
        return f"comment {path.name}"

    def exclude_lines(self) -> str:
        path = self._any_file()
        lines = path.read_text().splitlines()
        at = self.chance.randrange(len(lines))
        lines[at] += "  # pragma: no cover" if lines[at].strip() and "#" not in lines[at] else ""
        path.write_text("\n".join(lines) + "\n")
        return f"exclude lines of {path.name}"

    def break_lines(self) -> str:
        """Statements over other lines that mean the same."""
        path = self._any_file()
        lines = path.read_text().splitlines()
        pattern = re.compile(r"^( *)return (.+[^:\\(\[,])$")
        for at in self.chance.sample(range(len(lines)), min(9, len(lines))):
            found = pattern.match(lines[at])
            if found:
                space, value = found.groups()
                lines[at] = f"{space}return (\n{space}    {value}\n{space})"
        path.write_text("\n".join(lines) + "\n")
        return f"break lines of {path.name}"

    def add_effect(self) -> str:
        text = self.chance.choice(
            ["UNITS.append('x')", "LIMIT += 1", "Square.extra = N", "unit()", "len('x')"]
        )

        def work(tree: ast.Module) -> None:
            tree.body += self._parse(text)

        return f"add {text} to {self._change(self.root / 'lib/shapes.py', work)}"

    def add_condition(self) -> str:
        def work(tree: ast.Module) -> None:
            text = "if N % 2:\n    EXTRA = 1\nelse:\n    EXTRA = 2"
            tree.body += self._parse(text)

        return f"add a condition to {self._change(self._any_file(), work)}"

    def guard_statement(self) -> str:
        """A global that is bound, or made another one, before or after the others."""

        def work(tree: ast.Module) -> None:
            text = self.chance.choice(
                [
                    "if N % 2:\n    LIMIT = N",
                    "TOP_N = N",
                    "try:\n    UNITS\nexcept NameError:\n    pass",
                ]
            )
            tree.body[self.chance.randint(0, len(tree.body)) : 0] = self._parse(text)

        return f"guard a statement of {self._change(self._any_file(), work)}"

    def add_function(self) -> str:
        def work(tree: ast.Module) -> None:
            name = self.chance.choice(["more_N", "unit", "plain", "len"])
            tree.body += self._parse(f"def {name}(*given):\n    return N % 2")

        return f"add a function to {self._change(self._any_file(), work)}"

    def add_set_up(self) -> str:
        name = self.chance.choice(["setUp", "tearDown", "setUpClass", "setUpModule"])
        call = "from lib import texts\n    texts.greet('s')"

        def work(owner: ast.ClassDef) -> None:
            decorator = "@classmethod\n" if name == "setUpClass" else ""
            owner.body += self._parse(f"{decorator}def {name}(self):\n    {call}")

        if name == "setUpModule":
            path = self._any_file("tests/test_*.py")
            said = self._change(
                path, lambda tree: tree.body.extend(self._parse(f"def {name}():\n    {call}"))
            )
            return f"add {name} to {said}"
        return f"add {name} in {self._in_class(work, 'tests/*.py')}"


def _blocks_of(node: ast.AST) -> Iterator[list[Any]]:
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if block and isinstance(block, list):
            yield block
    for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        yield part.body


def _blocks(function: Any) -> Iterator[list[Any]]:
    """The statement lists of a function, those inside of its statements too."""
    for block in _blocks_of(function):
        yield block
        for statement in block:
            if not isinstance(statement, (*FUNCTION, ast.ClassDef)):
                yield from _blocks(statement)
