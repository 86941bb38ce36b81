"""measured/outline.py: what changes a hash and what does not, and where anchors are."""

from __future__ import annotations

import io
import runpy
import tokenize
from pathlib import Path
from textwrap import dedent
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from testtools import TestCase

from jobs.confinement import MEASURED
from jobs.outline import Outline, StatementKind, read_outline

outline = runpy.run_path(str(MEASURED / "outline.py"))["outline"]

SOURCE = '''\
"""Module text."""
import os
import functools as tools
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from somewhere import Thing

LIMIT: int = 10
NAMES = ["one", "two"]
register("kept")


@tools.lru_cache(maxsize=LIMIT)
def area(width, height=1, *rest, unit="m", **more):
    """Function text."""
    if width < 0:
        raise ValueError(width)
    for part in rest:
        try:
            width += part
        except (TypeError,
                KeyError) as error:
            print(error)
        else:
            width -= 1
        finally:
            height = 1
    while width > LIMIT:
        width -= 1
    with open(os.devnull) as file, file:
        file.read()

    @tools.wraps(area)
    def inner(x=height):
        return x * 2

    class Local(Base):
        kept = 1

        def method(self):
            return self.kept
    return inner(
        width,
    )


class Square(Base, metaclass=Meta):
    """Class text."""

    side = 1

    @property
    def wide(self) -> bool:
        return self.side > LIMIT

    async def wait(self):
        await self.something
        match self.side:
            case 1:
                return "one"
            case [first, *_]:
                return first
'''


def read(text: str) -> Outline:
    """The outline of a text that must be Python."""
    raw = outline(dedent(text).encode())
    assert raw is not None
    return read_outline(raw)


Meaning = tuple[str, dict[str, tuple[str, str]], list[tuple[StatementKind, str]]]


def meaning(text: str) -> Meaning:
    """All hashes: of the module, of each function's body and shape, of each statement."""
    found = read(text)
    functions = {f.name: (f.hash, f.shape) for f in found.functions}
    return found.module, functions, [(s.kind, s.hash) for s in found.statements]


def edited(old: str, new: str) -> str:
    """SOURCE with text replaced that must be there once."""
    assert SOURCE.count(old) == 1, old
    return SOURCE.replace(old, new)


def changed(old: str, new: str) -> set[str]:
    """What a replacement in SOURCE changes: `module`, names of functions, kinds of statements."""
    module, functions, statements = meaning(SOURCE)
    now_module, now_functions, now_statements = meaning(edited(old, new))
    names = {n for n in {*functions, *now_functions} if functions.get(n) != now_functions.get(n)}
    kinds = {str(kind) for kind, _ in {*statements} ^ {*now_statements}}
    order = {"order"} if sorted(statements) == sorted(now_statements) != now_statements else set()
    same_order = statements == now_statements
    return (
        names
        | kinds
        | ({"module"} if module != now_module else set())
        | (order if not same_order else set())
    )


class NoChangeTest(TestCase):
    """Edits that change nothing that runs."""

    def test_docstrings(self) -> None:
        for text in ("Module text.", "Function text.", "Class text."):
            self.assertEqual(set(), changed(text, "Another\n\n    one, longer."))
        self.assertEqual(set(), changed('    """Function text."""\n', ""))
        self.assertEqual(set(), changed('"""Module text."""\n', ""))
        # This one is no docstring, and the interpreter passes by its line.
        self.assertEqual({"module"}, changed("    side = 1\n", '    side = 1\n    "Of text."\n'))

    def test_what_consists_of_a_docstring_means_what_a_pass_does(self) -> None:
        self.assertEqual(meaning('class A:\n    """Text."""\n'), meaning("class A:\n    pass\n"))
        self.assertEqual(meaning('def f():\n    """Text."""\n'), meaning("def f():\n    pass\n"))

    def test_comments_and_formatting(self) -> None:
        for old, new in (
            ("import os\n", "import os  # here\n\n\n"),
            ('["one", "two"]', "[\n    'one',  # first\n    \"two\",\n]"),
            ("width < 0", "(width <\n            0)"),
            ("inner(\n        width,\n    )", "inner(width)"),
            ("(TypeError,\n                KeyError)", "(TypeError, KeyError)"),
            ("LIMIT: int = 10", "LIMIT: int = (\n    10\n)"),
            ('"one"\n', '("o"\n                        "ne")\n'),
        ):
            self.assertEqual(set(), changed(old, new), new)

    def test_annotations_in_bodies(self) -> None:
        self.assertEqual(set(), changed("            height = 1", "            height: int = 1"))
        self.assertEqual({"area"}, changed("        kept = 1", "        kept: int = 1"))

    def test_annotations_of_globals(self) -> None:
        """They are no reason to run a test, but the lines of the module are measured again."""
        self.assertEqual({"module"}, changed("LIMIT: int = 10", "LIMIT: float = 10"))
        self.assertEqual({"module"}, changed("LIMIT: int = 10", "LIMIT = 10"))

    def test_a_declaration_binds_nothing(self) -> None:
        for template in ("{}\n", "def f():\n    {}\n", "class A:\n    {}\n"):
            hashes = [meaning(template.format(line)) for line in ("x: int", "x: int = None")]
            for part in (1, 2):
                if template.startswith("def") == (part == 1):
                    self.assertNotEqual(hashes[0][part], hashes[1][part], template)

    def test_annotations_of_a_def_change_nothing_but_themselves(self) -> None:
        noted = {"module", "annotations"}
        self.assertEqual(noted, changed("wide(self) -> bool", "wide(self) -> object"))
        self.assertEqual(noted, changed("area(width, height", "area(width: float, height"))
        self.assertEqual(noted, changed("wait(self)", "wait(self) -> None"))

    def test_annotations_below_a_decorator_that_could_read_them_are_part_of_the_def(self) -> None:
        plain, other = "@property\n    def wide(self)", "@command\n    def wide(self)"
        for decorator, kinds in ((plain, set()), (other, {StatementKind.DEF})):
            was = read(edited(plain, decorator))
            now = read(edited(plain, decorator).replace("-> bool", "-> int"))
            gone = {s.hash for s in was.statements} - {s.hash for s in now.statements}
            found = {s.kind for s in was.statements if s.hash in gone}
            self.assertEqual(kinds, found - {StatementKind.ANNOTATIONS})

    def test_what_only_type_checkers_read(self) -> None:
        """It is no statement; yet its `if` and decorators run, so lines are measured again."""
        self.assertEqual({"module"}, changed("import Thing", "import Thing, Other"))
        stub = "@overload\ndef area(width: int) -> int: ...\n\n\n@tools.lru_cache"
        self.assertLessEqual(
            changed("@tools.lru_cache", stub), {"module", "area", "area#2", *INNER_OF_AREA}
        )
        with_else = edited("import Thing\n", "import Thing\nelse:\n    Thing = None\n")
        bound = [s.bound for s in read(with_else).statements]
        self.assertIn(("Thing",), bound)

    def test_imports_for_type_checkers_are_no_dependencies(self) -> None:
        self.assertNotIn("somewhere", [i.module for i in read(SOURCE).imports])


INNER_OF_AREA = {"area#2.inner", "area#2.Local.method", "area.inner", "area.Local.method"}


class ChangeTest(TestCase):
    """Edits that change what runs, and just what they change."""

    def test_bodies(self) -> None:
        for old, new in (
            ("width < 0", "width <= 0"),
            ("raise ValueError(width)", "raise ValueError(height)"),
            ("KeyError) as error", "OSError) as error"),
            ("            width -= 1\n        finally", "            pass\n        finally"),
            ("    while width > LIMIT", "    while width >= LIMIT"),
            ("file.read()", "file.write()"),
            ("        kept = 1", "        kept = 2"),
            ("(x=height)", "(x=width)"),
            ("@tools.wraps(area)\n    ", ""),
        ):
            self.assertEqual({"area"}, changed(old, new), new)
        self.assertEqual({"area.inner"}, changed("return x * 2", "return x * 3"))
        self.assertEqual({"area.Local.method"}, changed("self.kept\n", "self.kept2\n"))
        self.assertEqual({"Square.wait"}, changed("case 1:", "case 2:"))
        self.assertEqual({"Square.wait"}, changed("case [first, *_]", "case [first]"))

    def test_order_of_a_body(self) -> None:
        self.assertEqual(
            {"area"},
            changed(
                "        except (TypeError,\n                KeyError) as error:\n"
                "            print(error)\n        else:\n            width -= 1\n",
                "        except (TypeError,\n                KeyError) as error:\n"
                "            width -= 1\n        else:\n            print(error)\n",
            ),
        )

    def test_headers(self) -> None:
        for old, new in (
            ('unit="m"', 'unit="mm"'),
            ("height=1", "height=2"),
            ("height=1", "height=None"),
            ("width, height=1", "wide, height=1"),
            ("*rest, ", "*, "),
            ("**more", "**others"),
            ("maxsize=LIMIT", "maxsize=1"),
            ("@tools.lru_cache(maxsize=LIMIT)\n", ""),
        ):
            self.assertEqual({"module", "def"}, changed(old, new) - {"area", "annotations"}, new)
        for old, new in (
            ("    @property\n", ""),
            ("wide(self)", "wide(self, mark)"),
            ("async def wait(self)", "async def wait(self, *, now=1)"),
        ):
            self.assertEqual({"module", "def"}, changed(old, new) - {"annotations"}, new)

    def test_kind_of_a_function(self) -> None:
        self.assertEqual(
            {"module", "def", "area"}, changed("def area", "async def area") - {"annotations"}
        )

    def test_module_level(self) -> None:
        for old, new, kind in (
            ("LIMIT: int = 10", "LIMIT: int = 11", "bind"),
            ("LIMIT: int = 10", "LIMIT: int", "bind"),
            ("    side = 1", "    side: int = 1", "bind"),
            ('"one", "two"', '"two", "one"', "bind"),
            ('register("kept")', 'register("other")', "effect"),
            ("import os", "import os.path as os", "import"),
            ("class Square(Base", "class Square(Other", "class"),
            ("metaclass=Meta", "metaclass=Other", "class"),
            ("    side = 1", "    side = 2", "bind"),
        ):
            self.assertEqual({"module", kind}, changed(old, new), new)

    def test_order_at_module_level(self) -> None:
        found = changed(
            'NAMES = ["one", "two"]\nregister("kept")',
            'register("kept")\nNAMES = ["one", "two"]',
        )
        self.assertEqual({"module", "order"}, found)

    def test_a_condition_is_part_of_what_it_holds(self) -> None:
        text = "if {}:\n    A = 1\nelse:\n    B = 2\n"
        was, now = (read(text.format(word)) for word in ("x", "y"))
        hashes = {s.bound: s.hash for s in was.statements}
        for statement in now.statements:
            self.assertNotEqual(hashes[statement.bound], statement.hash, statement.bound)

    def test_local_names_are_the_shape(self) -> None:
        base = "def f(v):\n    print(x)\n    {}\n"
        shapes = {
            line: read(base.format(line)).functions[0].shape
            for line in (
                "print(y)",
                "x = 1",
                "x: int",
                "x += 1",
                "del x",
                "import x",
                "import y as x",
                "import x.y",
                "from y import x",
                "(x := 1)",
                "for x in v: pass",
                "with v as x: pass",
                "def x(): pass",
                "class x: pass",
                "global x",
                "yield",
            )
        }
        plain = shapes.pop("print(y)")
        for line, shape in shapes.items():
            self.assertNotEqual(plain, shape, line)
        self.assertEqual(shapes["x = 1"], shapes["import y as x"])

    def test_names_that_handlers_and_patterns_bind_are_local(self) -> None:
        template = "def f(v):\n    print(x)\n    {}\n"
        plain = read(template.format("pass")).functions[0].shape
        for text in (
            "try: pass\n    except E as x: pass",
            "match v:\n        case x: pass",
            "match v:\n        case [1, *x]: pass",
            "match v:\n        case {1: 2, **x}: pass",
            "match v:\n        case int() as x: pass",
        ):
            self.assertNotEqual(plain, read(template.format(text)).functions[0].shape, text)

    def test_names_inside_inner_functions_are_not(self) -> None:
        template = "def f():\n    def g():\n        {}\n    return lambda: g\n"
        shapes = {read(template.format(x)).by_name["f"].shape for x in ("pass", "x = 1", "yield")}
        self.assertEqual(1, len(shapes))

    def test_no_python(self) -> None:
        for source in (b"def f(:\n", b"print 'x'\n", b"x = \0\n", b"\xff\xfe", b"(" * 10_000):
            self.assertIsNone(outline(source), repr(source[:10]))


class TokensTest(TestCase):
    """The names and words by which uses are found."""

    def body(self, text: str) -> tuple[set[str], set[str]]:
        (function,) = read(f"def f():\n    {text}\n").functions
        return set(function.names), set(function.words)

    def test_names_and_words(self) -> None:
        for text, names, words in (
            ("LIMIT + 1", {"LIMIT"}, set()),
            ("shapes.LIMIT", {"shapes"}, {"LIMIT"}),
            ("x().a[b].c", {"x", "b"}, {"a", "c"}),
            ('getattr(x, "LIMIT")', {"getattr", "x"}, {"LIMIT"}),
            ('patch("pkg.mod:Name.part")', {"patch"}, {"pkg", "mod", "Name", "part"}),
            ('print("two words")', {"print"}, set()),
            ("import a.b as c", set(), {"a", "b"}),
            ("from a.b import c as d", set(), {"a", "b", "c"}),
            ("from . import c", set(), {"", "c"}),
            ('f"{x.a}"', {"x"}, {"a"}),
        ):
            self.assertEqual((names, words), self.body(text), text)

    def test_attributes_that_patterns_read(self) -> None:
        _, words = self.body("match x:\n        case Point(side=1): pass")
        self.assertIn("side", words)

    def test_what_inner_functions_use_is_theirs(self) -> None:
        found = read("def f():\n    @d\n    def g(x=D):\n        return A.b\n    return g\n")
        outer, inner = found.by_name["f"], found.by_name["f.g"]
        self.assertEqual({"d", "D", "g"}, set(outer.names))
        self.assertEqual(({"A"}, {"b"}), (set(inner.names), set(inner.words)))


class StatementsTest(TestCase):
    def kinds(self, text: str) -> list[tuple[str, str, tuple[str, ...]]]:
        return [
            (str(s.kind), s.owner, s.bound)
            for s in read(text).statements
            if s.kind is not StatementKind.ANNOTATIONS
        ]

    def test_kinds(self) -> None:
        for text, kind, bound in (
            ("import a.b", "import", ("a",)),
            ("import a.b as c", "import", ("c",)),
            ("from a import b, c as d", "import", ("b", "d")),
            ("from a import *", "import", ("*",)),
            ("x = y = 1", "bind", ("x", "y")),
            ("x: int = 1", "bind", ("x",)),
            ("x += 1", "bind", ("x",)),
            ("(x, [y, *z]) = 1", "bind", ("x", "y", "z")),
            ("del x", "bind", ("x",)),
            ("x.y = 1", "effect", ()),
            ("x[y] = 1", "effect", ()),
            ("x = y.z = 1", "effect", ("x",)),
            ("x = y[z]", "bind", ("x",)),
            ("f()", "effect", ()),
            ("assert x", "effect", ()),
            ("raise x", "effect", ()),
            ("def f(): pass", "def", ("f",)),
            ("class A(b.C, D[int], f()): pass", "class", ("A",)),
        ):
            self.assertEqual([(kind, "", bound)], self.kinds(text), text)
        self.assertEqual(
            ("C", "D", "f"), read("class A(b.C, D[int], f()): pass").statements[0].bases
        )
        self.assertEqual([], self.kinds('"text"\n...\npass'))

    def test_inside_compounds_and_classes(self) -> None:
        text = """\
            class A:
                class B:
                    x = 1
                    def f(self): pass
            for i in n:
                y = i
            try:
                import a
            except ImportError:
                a = None
            """
        self.assertEqual(
            [
                ("class", "", ("A",)),
                ("class", "A", ("B",)),
                ("bind", "A.B", ("x",)),
                ("def", "A.B", ("f",)),
                ("bind", "", ("i",)),
                ("bind", "", ("y",)),
                ("import", "", ("a",)),
                ("bind", "", ("a",)),
            ],
            [kind for kind in self.kinds(text) if kind[0] != "head"],
        )


class SpansTest(TestCase):
    def test_lines_of_functions(self) -> None:
        found = read(
            """\
            @one
            @two(
                2)
            def f(a,
                  b):
                '''Text.'''
                # here
                return a
            def g(): return 1
            """
        )
        spans = [(f.name, f.start, f.first, f.body, f.last) for f in found.functions]
        self.assertEqual([("f", 1, 4, 8, 8), ("g", 9, 9, 9, 9)], spans)

    def test_functions_of_one_name(self) -> None:
        found = read("def f(): pass\nif x:\n    def f(): return 1\nclass C:\n    def f(s): pass\n")
        self.assertEqual(["f", "f#2", "C.f"], [f.name for f in found.functions])

    def test_anchors(self) -> None:
        found = read(SOURCE)
        lines = SOURCE.splitlines()
        area = found.by_name["area"]
        self.assertEqual(17, area.body)
        texts = [lines[anchor - 1].strip() for anchor in area.anchors]
        self.assertIn("except (TypeError,", texts)
        self.assertIn("@tools.wraps(area)", texts)
        self.assertNotIn("return x * 2", texts)
        waits = [lines[anchor - 1].strip() for anchor in found.by_name["Square.wait"].anchors]
        self.assertIn("case [first, *_]:", waits)


def places(source: str) -> list[int]:
    """Line numbers before which a comment or blank line may be put: not inside of a string."""
    taken: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.STRING:
            taken.update(range(token.start[0] + 1, token.end[0] + 1))
    lines = source.splitlines()
    taken.update(n + 1 for n, line in enumerate(lines, 1) if line.endswith("\\"))
    return [number for number in range(1, len(lines) + 2) if number not in taken]


SOURCES = [
    SOURCE,
    *(path.read_text() for path in sorted(Path(__file__).parent.glob("test_[c-d]*.py"))[:3]),
]
Put = list[tuple[int, str]]


@st.composite
def sources_with_lines_put_in(draw: Any) -> tuple[str, Put]:
    source = draw(st.sampled_from(SOURCES))
    line = st.tuples(
        st.sampled_from(places(source)), st.sampled_from(["", "# note", "        # far", "#:"])
    )
    return source, draw(st.lists(line, max_size=8))


def put_in(source: str, put: Put) -> str:
    before: dict[int, list[str]] = {}
    for number, text in put:
        before.setdefault(number, []).append(text)
    lines = source.splitlines()
    found: list[str] = []
    for number, line in enumerate([*lines, None], 1):
        found += before.get(number, [])
        found += [] if line is None else [line]
    return "\n".join(found) + "\n"


class PutInTest(TestCase):
    @settings(max_examples=12)
    @given(sources_with_lines_put_in())
    def test_blank_and_comment_lines_change_no_hash_and_shift_anchors(
        self, case: tuple[str, Put]
    ) -> None:
        source, put = case

        def shift(line: int) -> int:
            return line + sum(number <= line for number, _ in put)

        new_source = put_in(source, put)
        self.assertEqual(meaning(source), meaning(new_source))
        was, now = read(source), read(new_source)
        self.assertEqual(tuple(map(shift, was.anchors)), now.anchors)
        for old, new in zip(was.functions, now.functions, strict=True):
            spans = (old.start, old.first, old.body, old.last)
            self.assertEqual([*map(shift, spans)], [new.start, new.first, new.body, new.last])
            self.assertEqual(tuple(map(shift, old.anchors)), new.anchors)
            self.assertEqual((old.names, old.words), (new.names, new.words))
        for before, after in zip(was.statements, now.statements, strict=True):
            self.assertEqual(shift(before.line), after.line)
