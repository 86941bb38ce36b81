"""jobs.comparison: what a change means by the rules, and by running both versions."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from textwrap import dedent, indent
from types import FrameType
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from testtools import TestCase

from jobs.comparison import (
    NOTHING_ALIGNED,
    Alignment,
    FileDifference,
    Span,
    align,
    compare,
)
from jobs.outline import Outline
from tests.written_tree import outline_of


def read(text: str) -> Outline:
    """The outline of a text that must be Python."""
    found = outline_of(dedent(text))
    assert found is not None
    return found


def differ(old: str, new: str) -> FileDifference:
    return compare("a.py", read(old), "a.py", read(new))


def functions(found: FileDifference) -> dict[str, tuple[Span, ...]]:
    return {function.scope.name: function.spans for function in found.functions}


def statements(found: FileDifference) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(str(s.kind), s.owner, s.bound) for s in found.statements]


def spans(old: str, new: str) -> tuple[Span, ...]:
    """Old spans of the one function f whose body is given."""
    texts = ("def f(a):\n" + indent(dedent(text), "    ") for text in (old, new))
    found = differ(*texts)
    return functions(found)["f"]


BODY = """\
    one()
    if two(
            a):
        three()
    else:
        four()
    five()
    """


class SpansTest(TestCase):
    """The old lines by which a change in a body is reached; line 1 is the def."""

    def edit(self, old: str, new: str) -> tuple[Span, ...]:
        self.assertEqual(1, BODY.count(old), old)
        return spans(BODY, BODY.replace(old, new))

    def test_a_statement_is_reached_by_itself(self) -> None:
        self.assertEqual(((2, 2),), self.edit("one()", "uno()"))
        self.assertEqual(((5, 5),), self.edit("three()", "tre()"))
        self.assertEqual(((7, 7),), self.edit("four()", "quattro()"))

    def test_a_condition_is_reached_by_all_lines_of_its_head(self) -> None:
        self.assertEqual(((3, 4),), self.edit("a):", "not a):"))

    def test_what_came_is_reached_by_what_stands_behind_it(self) -> None:
        self.assertEqual(((8, 8),), self.edit("    five()", "    new()\n    five()"))
        self.assertEqual(((2, 2),), self.edit("    one()", "    new()\n    one()"))
        self.assertEqual(((3, 4),), self.edit("    one()", "    one()\n    new()"))

    def test_at_the_end_by_what_stands_before_it(self) -> None:
        self.assertEqual(((8, 8),), self.edit("    five()", "    five()\n    new()"))
        self.assertEqual(((5, 5),), self.edit("three()", "three()\n        new()"))

    def test_a_new_branch_is_reached_by_the_condition(self) -> None:
        without = BODY.replace("    else:\n        four()\n", "")
        self.assertEqual(((3, 4),), spans(without, BODY))

    def test_what_went_is_reached_by_its_first_statement(self) -> None:
        self.assertEqual(((8, 8),), self.edit("    five()\n", ""))
        self.assertEqual(((7, 7),), self.edit("    else:\n        four()\n", ""))

    def test_several_places(self) -> None:
        found = spans(BODY, BODY.replace("one", "uno").replace("four", "quattro"))
        self.assertEqual(((2, 2), (7, 7)), found)

    def test_another_handler(self) -> None:
        text = "try:\n    one()\nexcept A:\n    two()\n"
        self.assertEqual(((4, 4),), spans(text, text.replace("A:", "B:")))
        self.assertEqual(((4, 4),), spans(text, f"{text}except B:\n    three()\n"))
        self.assertEqual(((2, 2),), spans(text, f"{text}finally:\n    three()\n"))
        self.assertEqual(((2, 2),), spans(text, f"{text}else:\n    three()\n"))

    def test_an_inner_function_is_one_of_its_own(self) -> None:
        old = "def f(a):\n    def g(x=1):\n        return x\n    return g\n"
        inner = differ(old, old.replace("return x", "return -x"))
        self.assertEqual({"f.g": ((3, 3),)}, functions(inner))
        header = differ(old, old.replace("x=1", "x=2"))
        self.assertEqual({"f": ((2, 2),)}, functions(header))

    def test_another_shape_is_all_of_it(self) -> None:
        for new in ("x = 1", "yield", "global one", "import one"):
            found = self.edit("five()", f"five()\n    {new}")
            self.assertEqual(((2, 8),), found, new)

    def test_a_function_that_went_is_all_of_it(self) -> None:
        found = differ("def f():\n    '''Text.'''\n    one()\n    two()\n", "x = 1\n")
        self.assertEqual({"f": ((3, 4),)}, functions(found))

    def test_one_that_came_is_none(self) -> None:
        found = differ("x = 1\n", "x = 1\ndef f(): pass\n")
        self.assertEqual({}, functions(found))
        self.assertEqual([("def", "", ("f",)), ("annotations", "", ())], statements(found))


class StatementsTest(TestCase):
    def test_nothing(self) -> None:
        found = differ(BODY_OF_MODULE, f"# note\n{BODY_OF_MODULE}")
        self.assertEqual(
            ((), (), True, False),
            (found.functions, found.statements, found.same_module, found.whole),
        )

    def test_both_versions_of_what_changed(self) -> None:
        found = differ(BODY_OF_MODULE, BODY_OF_MODULE.replace("X = 1", "Y = 1"))
        self.assertEqual([("bind", "", ("X",)), ("bind", "", ("Y",))], statements(found))
        self.assertFalse(found.same_module)

    def test_order(self) -> None:
        found = differ("X = 1\ncall()\n", "call()\nX = 1\n")
        self.assertEqual(1, len({s.hash for s in found.statements}))
        self.assertEqual(2, len(found.statements))

    def test_members_of_a_class_that_came_or_went_are_left_out(self) -> None:
        member = "class B:\n    x = 1\n    def f(self): pass\n"
        for old, new in (("y = 1\n", f"y = 1\n{member}"), (f"y = 1\n{member}", "y = 1\n")):
            self.assertEqual([("class", "", ("B",))], statements(differ(old, new)))

    def test_members_of_a_class_that_stays_are_told(self) -> None:
        found = differ(BODY_OF_MODULE, BODY_OF_MODULE.replace("    side = 1\n", ""))
        self.assertEqual([("bind", "A", ("side",))], statements(found))

    def test_a_header_is_told_without_the_members(self) -> None:
        found = differ(BODY_OF_MODULE, BODY_OF_MODULE.replace("class A:", "class A(Base):"))
        self.assertEqual({("class", "", ("A",))}, set(statements(found)))

    def test_a_new_file_and_one_that_is_gone(self) -> None:
        outline = read(BODY_OF_MODULE)
        new = compare(None, None, "a.py", outline)
        gone = compare("a.py", outline, None, None)
        for found in (new, gone):
            self.assertEqual(outline.statements, found.statements)
            self.assertEqual((True, False), (found.whole, found.same_module))
        self.assertEqual({}, functions(new))
        self.assertEqual({"A.area": ((4, 4),), "f": ((7, 7),)}, functions(gone))

    def test_what_is_no_python_any_more_is_whole(self) -> None:
        found = compare("a.py", read(BODY_OF_MODULE), "a.py", outline_of("def f(:"))
        self.assertTrue(found.whole)
        self.assertEqual(2, len(found.functions))
        self.assertEqual((), compare("a.py", None, "a.py", None).statements)


BODY_OF_MODULE = """\
class A:
    side = 1
    def area(self):
        return self.side
X = 1
def f():
    return X
"""


class AlignTest(TestCase):
    def aligned(self, old: str, new: str) -> Alignment:
        return align(read(old), read(new))

    def test_a_call_over_other_lines(self) -> None:
        old = "def f():\n    return call(\n        1,\n        2,\n    )\nf()\n"
        new = "def f():\n\n    return call(1, 2)\nf()\n"
        self.assertEqual({1: 1, 2: 3, 3: 3, 4: 3, 5: 3, 6: 4}, self.aligned(old, new).lines)
        back = self.aligned(new, old).lines
        self.assertEqual({1: 1, 3: 2, 4: 6}, {n: back[n] for n in (1, 3, 4)})

    def test_a_function_that_moved(self) -> None:
        first, second = "def f():\n    one()\n    two()\n", "def g():\n    three()\n"
        moved = self.aligned(first + second, second + first)
        self.assertEqual({2: 4, 3: 5, 5: 2}, moved.lines)
        self.assertEqual({1: 3, 4: 1}, moved.starts)

    def test_decorators_come_with_the_entry(self) -> None:
        old = "@one\n@two\ndef f():\n    one()\n"
        moved = self.aligned(old, "\n\n@one\n\n@two\ndef f():\n    one()\n")
        self.assertEqual({1: 3, 2: 5, 3: 6, 4: 7}, moved.lines)
        self.assertEqual({1: 3}, moved.starts)

    def test_functions_of_one_name_keep_their_places(self) -> None:
        old = "def f():\n    one()\nif x:\n    def f():\n        two()\n"
        moved = self.aligned(old, f"y = 1\n{old}")
        self.assertEqual({2: 3, 5: 6}, moved.lines)
        swapped = old.replace("one", "zwei").replace("two", "one")
        self.assertEqual(set(), self.aligned(old, swapped).lines.keys() & {2, 5})

    def moved_lines(self, old: str, new: str) -> dict[int, int]:
        """Where the old lines of functions' bodies are now."""
        moved = self.aligned(old, new).lines
        bodies = {
            n for f in read(old).functions for n in range(f.body, f.last + 1) if n != f.first
        }
        return {line: now for line, now in moved.items() if line in bodies}

    def test_a_function_that_gets_overloads_stays_itself(self) -> None:
        old = "def f(a):\n    def g():\n        one()\n    return g\n"
        stub = "@overload\ndef f(a: {}) -> int: ...\n"
        new = stub.format("int") + stub.format("str") + old
        self.assertEqual({2: 6, 3: 7, 4: 8}, self.moved_lines(old, new))
        self.assertEqual({6: 2, 7: 3, 8: 4}, self.moved_lines(new, old))
        self.assertEqual({}, functions(differ(old, new)))
        self.assertEqual({"f", "f#2"}, set(functions(differ(new, old))))

    def test_a_body_under_another_header_is_another_function(self) -> None:
        old = "@on(int)\ndef _(a):\n    one()\n@on(str)\ndef _(a):\n    two()\n"
        third = "@on(bytes)\ndef _(a):\n    two()\n"
        swapped = old.replace("one", "zwei").replace("two", "one").replace("zwei", "two")
        self.assertEqual({"_", "_#2"}, set(functions(differ(old, swapped + third))))
        self.assertEqual({"_", "_#2"}, set(functions(differ(old, swapped))))
        self.assertEqual({}, functions(differ(old, third + old)))

    def test_statements_that_are_alike_keep_their_order(self) -> None:
        old = "def f():\n    one()\n    one()\n    two()\n"
        moved = self.aligned(old, "def f():\n    one()\n    one()\n    one()\n    two()\n")
        self.assertEqual(3, len(set(moved.lines.values()) - {1}))
        self.assertEqual(5, moved.lines[4])
        self.assertEqual(
            sorted(moved.lines.values()), [moved.lines[n] for n in sorted(moved.lines)]
        )

    def test_the_rest_of_a_changed_function(self) -> None:
        old = "def f(a):\n    one()\n    if a:\n        two()\n    three()\n"
        new = "def f(a):\n    new()\n    one()\n    if a:\n        zwei()\n    three()\n"
        moved = self.aligned(old, new)
        self.assertEqual({1: 1, 2: 3, 3: 4, 5: 6}, moved.lines)

    def test_statements_that_share_a_line_now_apart_are_left_out(self) -> None:
        old, new = "def f():\n    one(); two()\n", "def f():\n    one()\n    two()\n"
        self.assertNotIn(2, self.aligned(old, new).lines)
        self.assertEqual({2: 2, 3: 2}, {n: self.aligned(new, old).lines[n] for n in (2, 3)})

    def test_inner_functions_go_with_themselves(self) -> None:
        old = "def f():\n    def g():\n        one()\n    return g\n"
        new = "def f():\n    zero()\n    def g():\n        one()\n    return g\n"
        self.assertEqual({1: 1, 2: 3, 3: 4, 4: 5}, self.aligned(old, new).lines)

    def test_one_line_functions_are_lines_of_their_module(self) -> None:
        moved = self.aligned("def f(): return 1\n", "\n\ndef f(): return 1\n")
        self.assertEqual({1: 3}, moved.lines)

    def test_nothing_without_both(self) -> None:
        self.assertEqual(NOTHING_ALIGNED, align(None, read("x = 1\n")))
        self.assertEqual(NOTHING_ALIGNED, align(read("x = 1\n"), None))


# A block is a list of statements: (kind, token, blocks inside).
Part = tuple[str, int, list[Any]]
Block = list[Part]
INPUTS = list(product((False, True), repeat=3))
TOKENS = st.integers(0, 8)


def statement(depth: int) -> st.SearchStrategy[Part]:
    simple = st.sampled_from(
        ["say", "say", "say", "long", "return", "raise", "skip", "use", "use", "bind", "capture"]
    )
    nothing: st.SearchStrategy[list[Any]] = st.just([])
    plain: st.SearchStrategy[Part] = st.tuples(simple, TOKENS, nothing)
    if not depth:
        return plain
    kinds = st.sampled_from(["if", "if_else", "for", "try", "finally", "with", "match", "all"])
    inner = st.lists(block(depth - 1), min_size=4, max_size=4)
    return plain | st.tuples(kinds, TOKENS, inner)


def block(depth: int) -> st.SearchStrategy[Block]:
    return st.lists(statement(depth), max_size=3)


@st.composite
def versions(draw: Any) -> tuple[str, str]:
    """A function and the same after some edits."""
    old = draw(st.lists(statement(2), min_size=1, max_size=4))
    return write(old), write(edit(draw, old))


def edit(draw: Any, old: Block) -> Block:
    new: Block = []
    for kind, token, inner in old:
        fate = draw(st.integers(0, 11))
        if fate == 0:
            new.append(draw(statement(1)))
        elif fate == 1:
            new += [draw(statement(1)), (kind, token, inner)]
        elif fate == 2:
            new.append((kind, draw(TOKENS), inner))
        elif fate != 3:
            new.append((kind, token, [edit(draw, part) for part in inner]))
    if draw(st.integers(0, 9)) == 0:
        new.append(draw(statement(1)))
    return new


def write(body: Block) -> str:
    return "def f(c):\n" + indent(text_of(body), "    ")


def text_of(body: Block) -> str:
    return "".join(map(text_of_one, body)) or "pass\n"


def text_of_one(part: Part) -> str:
    kind, token, inner = part
    one, two, three, four = (indent(text_of(b), "    ") for b in inner or [[]] * 4)
    condition, error = f"c[{token % 3}]", ("KeyError", "ValueError")[token % 2]
    # CPython 3.11, alone, tells of the last line of a finally that an error leaves early, where
    # that line is in an if: so another statement is the last.
    end = f"    say({token})\n"
    return {
        "say": f"say({token})\n",
        "long": f"say(\n    {token},\n)\n",
        "return": f"if {condition}:\n    return\n",
        "raise": f"if {condition}:\n    raise {error}({token})\n",
        "skip": f"if c[2]: say({token})\n",
        "use": "say(x)\n",
        "bind": f"if {condition}:\n    x = {token}\n",
        "capture": f"match {condition}:\n    case x: pass\n",
        "if": f"if ({condition} and\n        c[0]):\n{one}",
        "if_else": f"if {condition}:\n{one}else:\n{two}",
        "for": f"for _ in range({token % 3}):\n{one}else:\n{two}",
        "try": f"try:\n{one}except {error}:\n{two}except Exception:\n{three}else:\n{four}",
        "finally": f"try:\n{one}finally:\n{two}{end}",
        "with": f"with say({token}):\n{one}",
        "match": f"match {condition}:\n    case True:\n{indent(one, '    ')}"
        f"    case _:\n{indent(two, '    ')}",
        "all": f"try:\n{one}except {error}:\n{two}finally:\n{three}{end}",
    }[kind]


class Saying:
    """What `say(1)` gives: `with say(1):` says it again at the end."""

    def __init__(self, said: list[object], token: int) -> None:
        self.said, self.token = said, token
        said.append(token)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.said.append(-self.token)


def run(text: str, given_input: Sequence[bool]) -> tuple[list[object], set[int]]:
    """What the function says for an input, and the lines that ran."""
    said: list[object] = []
    namespace: dict[str, Any] = {"say": lambda token: Saying(said, token), "x": 99}
    exec(compile(text, "written", "exec"), namespace)
    lines: set[int] = set()

    def trace(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != "written":
            return None
        if event == "line":
            lines.add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        namespace["f"](given_input)
    except (KeyError, ValueError, UnboundLocalError) as error:
        said.append(repr(error))
    finally:
        sys.settrace(before)
    return said, lines


def first_lines(outline: Outline, lines: Iterable[int]) -> set[int]:
    """The lines at which the parts of the function begin that the given lines are in."""
    anchors = sorted(outline.functions[0].anchors)
    return {anchors[bisect_right(anchors, line) - 1] for line in lines}


class MeaningTest(TestCase):
    """Both versions are run: who came to no span of the change does the same, line by line."""

    @settings(max_examples=40)
    @given(versions())
    def test_who_came_to_no_span_does_the_same(self, texts: tuple[str, str]) -> None:
        old, new = texts
        was, now = read(old), read(new)
        found = compare("a.py", was, "a.py", now)
        reached = [span for function in found.functions for span in function.spans]
        aligned = align(was, now).lines
        for given_input in INPUTS:
            said, lines = run(old, given_input)
            if any(first <= line <= last for line in lines for first, last in reached):
                continue
            said_now, lines_now = run(new, given_input)
            self.assertEqual(said, said_now, f"{old}\n{new}\n{given_input}")
            carried = first_lines(now, {aligned[line] for line in lines if line in aligned})
            unaligned = lines - aligned.keys()
            self.assertEqual(
                (first_lines(now, lines_now), set()),
                (carried, unaligned),
                f"{old}\n{new}\n{given_input}",
            )
