"""jobs.measure against coverage.py's own analysis, on the same sources and the same data."""

from __future__ import annotations

import itertools
import runpy
import tempfile
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import coverage
from coverage import CoverageData
from hypothesis import given, settings
from hypothesis import strategies as st
from testtools import TestCase

from jobs.confinement import MEASURED
from jobs.measure import Arc, Executed, measure_file, measure_tree
from jobs.results import FileMeasure
from jobs.statements import Parsed, read_parsed
from tests.scratch_python import run_python

EXAMPLES = 30
parse_file = runpy.run_path(str(MEASURED / "parse.py"))["parse_file"]

SAMPLES = {
    "multi_line": (
        "x = [\n    1,\n    2,\n]\n\n"
        "def f(\n    a,\n    b=(\n        1,\n    ),\n):\n"
        '    """Doc\n    string."""\n'
        "    return dict(\n        a=a,\n        b=b,\n    )\n\n"
        "y = f(\n    1,\n) + \\\n    {} if False else 3\n".replace("+ \\\n    {}", "\\\n   ")
    ),
    "excluded": (
        "import sys\n"
        "if sys.argv is None:  # pragma: no cover\n    x = 1\n    y = 2\nelse:\n    x = 3\n"
        "def f():  # pragma: no cover\n    if x:\n        return 1\n    return 2\n"
        "while x:  # pragma: no branch\n    x -= 1\n"
        "for i in range(3):\n    if i > 5:\n        raise ValueError  # pragma: no cover\n"
        "while True:\n    break\n"
    ),
    "match": (
        "def f(p):\n    match p:\n        case 1:\n            return 'one'\n"
        "        case [a, *_] if a:\n            r = a\n"
        "        case {'k': v}:\n            r = v\n"
        "        case _:\n            r = 0\n    return r\n"
        "f(1); f([2])\nf('x')\n"
    ),
    "try": (
        "def f(n):\n    try:\n        if n:\n            raise KeyError(n)\n        r = 1\n"
        "    except ValueError:\n        r = 2\n    except KeyError:\n        return 3\n"
        "    else:\n        r = 4\n    finally:\n        n = 0\n    return r\n"
        "f(0)\nf(1)\n"
        "def g():\n    for i in range(3):\n        try:\n            continue\n"
        "        finally:\n            i += 1\n    else:\n        return i\ng()\n"
    ),
    "finally_exits": (
        "def f(\n    n,\n    m=1,\n):\n    for i in n:\n        try:\n"
        "            if i == 1: return 1\n            if i == 2: continue\n"
        "            if i == 3: break\n        finally:\n            m = 0\n"
        "        x = 1  # pragma: no cover\n    if m:\n        return 2\n"
        "f([1])\nf([3])\n"
    ),
    "with": (
        "from contextlib import nullcontext\n"
        "def f(x):\n    with nullcontext():\n        if x:\n            y = [\n"
        "                1,\n            ]\n    return 4\n"
        "def g(x):\n    with nullcontext(\n    ), \\\n      nullcontext():\n"
        "        with nullcontext(\n        ) as z:\n            for i in x:\n"
        "                y = 1\n    return 4\n"
        "def h(x):\n    for i in range(2):\n        with nullcontext():\n"
        "            if x:\n                continue\n            if i:\n                break\n"
        "f(0); f(1); g([1]); h(0); h(1)\n"
    ),
    "comprehension": (
        "a = [i for i in range(3)\n     if i\n     if i > 1]\n"
        "b = {\n    k: v\n    for k, v in\n    zip(a, a)\n}\n"
        "c = (\n    x\n    for x in []\n)\n"
        "d = lambda q: (\n    q\n)\nlist(c)\n"
    ),
    "decorators": (
        "def deco(*a):\n    return lambda f: f\n\n"
        "@deco(\n    1,\n)\n@deco(2)\ndef f(\n    x,\n):\n    return x\n\n"
        "@deco()\nclass C:\n    '''Doc.'''\n\n    a: int\n    b: int = 2\n\n"
        "    @property\n    def p(self):\n        return self.b\n\n"
        "    @staticmethod\n    def s(): pass\nC().p\n"
    ),
    "one_line": (
        "x = 1\nif x: y = 2\nelse: y = 3\nif not x: y = 4\nfor i in (): pass\n"
        "while x: x = 0\ndef f(): return 1\nclass D: pass\ntry: f()\nexcept Exception: pass\n"
        "with open(__file__) as h: h.read(); z = 1\nassert x == 0, 'no'\n"
    ),
    "asynchronous": (
        "import asyncio\n\nasync def gen():\n    for i in range(2):\n        yield i\n\n"
        "async def main():\n    async for i in gen():\n        if i:\n            break\n"
        "    async with asyncio.Lock():\n        await asyncio.sleep(0)\n"
        "    return [i async for i in gen()]\n\nasyncio.run(main())\n"
    ),
    "nothing": "",
    "docstring_only": '"""Only this.\n\nAnd this."""\n',
}


class Sources:
    """A folder of source files, and coverage.py's own figures for data about them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> str:
        path = self.folder / f"{name}.py"
        path.write_text(text)
        return str(path)

    def parse(self, path: str, *, branch: bool) -> Parsed:
        return read_parsed(parse_file(path, coverage.Coverage(data_file=None, branch=branch)))

    def load(self, executed: Executed, path: str, *, branch: bool) -> coverage.Coverage:
        """A Coverage that holds exactly this data."""
        cov = coverage.Coverage(data_file=None, branch=branch)
        data = cov.get_data()
        if branch:
            data.add_arcs({path: executed.arcs})
        else:
            data.add_lines({path: executed.lines})
        return cov


class Checks(TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.sources = Sources(Path(folder.name).resolve())

    def agree(self, cov: coverage.Coverage, path: str, mine: FileMeasure, *, branch: bool) -> None:
        _, statements, excluded, missing, _ = cov.analysis2(path)
        counts = mine.counts
        self.assertEqual(missing, list(mine.missing), path)
        self.assertEqual(
            (len(statements), len(statements) - len(missing), len(excluded)),
            (counts.statements, counts.covered, counts.excluded),
            path,
        )
        stats = cov.branch_stats(path) if branch else {}
        expected = (sum(n for n, _ in stats.values()), sum(taken for _, taken in stats.values()))
        self.assertEqual(expected, (counts.branches, counts.branches_covered), path)
        not_taken = {line: total - taken for line, (total, taken) in stats.items()}
        found = Counter(line for line, _ in mine.missing_branches)
        self.assertEqual({line: n for line, n in not_taken.items() if n}, dict(found), path)

    def compare(self, path: str, parsed: Parsed, executed: Executed, *, branch: bool) -> None:
        cov = self.sources.load(executed, path, branch=branch)
        mine = measure_file(path, parsed, executed, vendored=False)
        self.agree(cov, path, mine, branch=branch)
        cov.get_data().close(force=True)


class RecordedTest(Checks):
    """Data that coverage.py recorded while the samples ran."""

    def record(self, *, branch: bool) -> CoverageData:
        names = [self.sources.write(name, text) for name, text in SAMPLES.items()]
        all_in_one = "\n".join(f"runpy.run_path({name!r})" for name in names)
        main = self.sources.write("main", f"import runpy\n{all_in_one}\n")
        data = self.sources.folder / "data"
        options = ["--branch"] if branch else []
        run_python(
            ["-m", "coverage", "run", *options, f"--data-file={data}", main],
            cwd=self.sources.folder,
        )
        recorded = CoverageData(str(data))
        recorded.read()
        return recorded

    def check_all(self, *, branch: bool) -> None:
        data = self.record(branch=branch)
        self.addCleanup(data.close, force=True)
        figures = []
        for path in (str(self.sources.folder / f"{name}.py") for name in SAMPLES):
            lines = frozenset(data.lines(path) or ())
            executed = Executed(lines=lines, arcs=frozenset(data.arcs(path) or ()))
            parsed = self.sources.parse(path, branch=branch)
            self.compare(path, parsed, executed, branch=branch)
            figures.append(measure_file(path, parsed, executed, vendored=False).counts)
        self.assertGreater(sum(c.covered for c in figures), 60)
        self.assertGreater(sum(c.statements - c.covered for c in figures), 3)
        self.assertEqual(branch, sum(c.branches for c in figures) > 0)
        self.assertEqual(branch, sum(c.branches - c.branches_covered for c in figures) > 0)

    def test_each_arc_by_any_line_of_its_ends(self) -> None:
        for name in ("finally_exits", "with"):
            path = self.sources.write(name, SAMPLES[name])
            parsed = self.sources.parse(path, branch=True)
            self.assertTrue(parsed.jumps or name != "with")
            for start, end in {*parsed.arcs, *parsed.jumps}:
                for arc in itertools.product(siblings(parsed, start), siblings(parsed, end)):
                    executed = Executed(lines=lines_of([arc]), arcs=frozenset([arc]))
                    self.compare(path, parsed, executed, branch=True)

    def test_lines(self) -> None:
        self.check_all(branch=False)

    def test_branches(self) -> None:
        self.check_all(branch=True)


SIMPLE = st.sampled_from(
    (
        *("x = 1", "x = (\n  1,\n  2)", "if x: x = 2", "x = [i\n  for i in ()]", "f(\n)"),
        *("if x: pass  # pragma: no cover", "assert x", "x = 3  # pragma: no cover", "pass"),
        *("while x: break", "raise x", "with x: x = 1", "lambda: (\n  x)", "return"),
        *("for i in x: continue", "'''a\nb'''"),
    )
)
HEADS = st.sampled_from(
    (
        *("if x:", "if (x and\n  y):", "while x:", "while True:", "for i in x:", "with x:"),
        *("def f(a,\n  b=2):", "@d\nclass C:", "@d(\n  1)\ndef g():", "match x:", "try:"),
        *("if x:  # pragma: no cover", "while x:  # pragma: no branch"),
    )
)


def indent(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def compound(head: str, body: list[str], other: list[str]) -> str:
    inside, second = indent("\n".join(body)), indent("\n".join(other))
    if head == "match x:":
        return head + "\n" + indent(f"case 1:\n{inside}case _:\n{second}")
    if head == "try:":
        return f"{head}\n{inside}except E:\n{second}finally:\n{inside}"
    if head.startswith(("if", "while", "for")) and other != ["pass"]:
        return f"{head}\n{inside}else:\n{second}"
    return f"{head}\n{inside}"


STATEMENTS = st.recursive(
    SIMPLE,
    lambda inner: st.builds(
        compound,
        HEADS,
        st.lists(inner, min_size=1, max_size=3),
        st.lists(inner, min_size=1, max_size=2),
    ),
    max_leaves=8,
)


def is_python(text: str) -> bool:
    """Whether it compiles: a class within the function must not hold a bare return."""
    try:
        compile(text, "generated", "exec")
    except SyntaxError:
        return False
    return True


PROGRAMS = (
    st.lists(STATEMENTS, min_size=1, max_size=4)
    .map(lambda body: "def main():\n" + indent("\n".join(body)) + "main()\n")
    .filter(is_python)
)


TEXTS = st.one_of(PROGRAMS, PROGRAMS, st.sampled_from(sorted(SAMPLES.values())))


class GeneratedTest(Checks):
    """Any data about any source, possible or not, counts as coverage.py counts it."""

    @settings(max_examples=EXAMPLES)
    @given(text=TEXTS, data=st.data())
    def test_any_lines(self, text: str, data: Any) -> None:
        path = self.sources.write("generated", text)
        parsed = self.sources.parse(path, branch=False)
        numbers = st.integers(1, text.count("\n") + 2)
        executed = Executed(lines=data.draw(st.frozensets(numbers)))
        self.compare(path, parsed, executed, branch=False)

    @settings(max_examples=EXAMPLES)
    @given(text=TEXTS, data=st.data())
    def test_any_arcs(self, text: str, data: Any) -> None:
        path = self.sources.write("generated", text)
        parsed = self.sources.parse(path, branch=True)
        arcs = data.draw(st.frozensets(arcs_about(parsed, text.count("\n") + 1)))
        executed = Executed(lines=lines_of(arcs), arcs=arcs)
        self.compare(path, parsed, executed, branch=True)


def siblings(parsed: Parsed, line: int) -> list[int]:
    """All lines of the statement that `line` begins; a way out (-line) gives ways out."""
    sign = -1 if line < 0 else 1
    return [line, *(sign * n for n, first in parsed.first.items() if first == abs(line))]


def arcs_about(parsed: Parsed, length: int) -> st.SearchStrategy[Arc]:
    """Arcs of the file, by any line of their statements; loops on a line; and plain nonsense."""
    numbers = st.integers(1, length)
    known = st.sampled_from(sorted(parsed.arcs) or [(-1, 1)])

    def elsewhere(arc: Arc) -> st.SearchStrategy[Arc]:
        return st.tuples(*(st.sampled_from(siblings(parsed, line)) for line in arc))

    backs = st.sampled_from(sorted(parsed.jumps) or [(-1, 1)])
    loops = known.map(lambda arc: (abs(arc[0]), abs(arc[0])))
    return st.one_of(
        known,
        known.flatmap(elsewhere),
        loops,
        backs,
        backs.flatmap(elsewhere),
        st.tuples(numbers, numbers),
    )


def lines_of(arcs: Collection[tuple[int, int]]) -> frozenset[int]:
    return frozenset(line for arc in arcs for line in arc if line > 0)


class MeasureTreeTest(TestCase):
    def test_sorted_whole_and_apart(self) -> None:
        two = Parsed(statements=frozenset({1, 2}), first={}, exits={})
        broken = Parsed(first={}, exits={}, error="no")
        parsed = {"b.py": two, "a.py": two, "vendor/c.py": two, "broken.py": broken}
        executed = {"a.py": Executed(lines=frozenset({2, 9})), "gone.py": Executed()}
        tree = measure_tree(parsed, executed, lambda path: path.startswith("vendor/"))
        self.assertEqual(["a.py", "b.py", "vendor/c.py"], [file.path for file in tree.files])
        self.assertEqual((4, 1), (tree.total.statements, tree.total.covered))
        self.assertEqual((2, 0), (tree.vendored.statements, tree.vendored.covered))
        self.assertEqual([(1,), (1, 2), (1, 2)], [file.missing for file in tree.files])
