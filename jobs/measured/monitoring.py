"""Records lines per context on sys.monitoring (Python 3.12 and newer), and arcs by branching.py.

The same interface as recorder.CoverageRecorder. In files that need exact lines these are, on the
same run, the lines of coverage.py's C tracer. In the others an event tells that a function,
class body or module ran; it stands for the first line of its body. A place that has told is
silent until the context changes.
https://docs.python.org/3/library/sys.monitoring.html
"""

from __future__ import annotations

import functools
import os
import sqlite3
import sys
import types
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from opcode import opmap
from typing import Any

import coverage
from coverage import CoverageData

RESUME = opmap.get("RESUME", 0)
OUTSIDE = ""
BETWEEN = ":between"

# Where audit events have the code object that is about to run, or to be a function's. Imports of
# every kind, exec and eval raise "exec"; types.coroutine sets __code__.
CODE_OF = {"exec": 0, "function.__new__": 0, "object.__setattr__": 2}

# Line to the stretches of the run in which it ran, by their numbers. Every switch begins one.
Lines = defaultdict[int, list[int]]


class MonitoringRecorder:
    """Lines per context of the files in `measured` (absolute path to path in the data file).

    `make_branching` is branching.Branching, if branches are measured of what is exact.
    `exact` are the absolute paths of those that need exact lines, all if it is None. `folder`
    receives one data file, `.coverage.monitoring`.
    """

    name = f"sys.monitoring of Python {sys.version_info[0]}.{sys.version_info[1]}, lines per test"

    def __init__(
        self,
        folder: str,
        measured: Mapping[str, str],
        exact: Collection[str] | None = None,
        make_branching: Callable[[Any], Any] | None = None,
    ) -> None:
        self.path = os.path.join(folder, ".coverage.monitoring")
        self.measured = measured
        self.exact = frozenset(measured if exact is None else exact)
        self.context = OUTSIDE
        self.contexts: list[str] = []
        self.unclaimed: list[int] = []
        self.lines: dict[str, Lines] = {path: defaultdict(list) for path in measured}
        self.bodies: dict[str, dict[int, list[int]]] = defaultdict(dict)
        self.monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        self.tool: int = self.monitoring.COVERAGE_ID
        if make_branching:
            self.name = self.name.replace("lines", "arcs")
        self.branching = make_branching(self.monitoring) if make_branching else None
        self.register = functools.partial(self.monitoring.register_callback, self.tool)
        self.recording = False

    def start(self) -> None:
        self.monitoring.use_tool_id(self.tool, "covtrack")
        self._enter(OUTSIDE)
        self.recording = True
        self._watch_code()

    def _watch_code(self) -> None:
        """Switch events on for all code of the tree just before it runs.

        A bound method in place of the plain function would cost 0.7 us an audit event, not 0.2.
        """

        def hear(event: str, arguments: tuple[Any, ...]) -> None:
            if event in CODE_OF and self.recording:
                self._found(arguments[CODE_OF[event]])

        sys.addaudithook(hear)

    def _found(self, code: Any) -> None:
        if isinstance(code, types.CodeType) and code.co_filename in self.lines:
            for part in code_parts(code):
                self._switch_on(part)

    def _switch_on(self, code: types.CodeType) -> None:
        events = self.monitoring.events
        wanted = events.LINE
        if code.co_filename not in self.exact:
            if self._tell_by_start(code, body_line(code)):
                wanted = events.PY_START | events.PY_RESUME
        elif starts_unseen(code) and self._tell_by_start(code, code.co_firstlineno):
            wanted |= events.PY_START
        if self.branching and code.co_filename in self.exact:
            wanted |= self.branching.watch(code)
        self.monitoring.set_local_events(self.tool, code, wanted)

    def _tell_by_start(self, code: types.CodeType, line: int) -> bool:
        """Whether file and first line tell this code object, as a lambda's may not.

        If so its start stands for `line`.
        """
        body = self.lines[code.co_filename][line]
        bodies = self.bodies[code.co_filename]
        return bodies.setdefault(code.co_firstlineno, body) is body

    def switch(self, context: str) -> None:
        if context == self.context:
            return
        self._enter(context)
        self.monitoring.restart_events()

    def claim(self, module: str) -> None:
        """What ran since the last test belongs to the fixtures of `module`, whose test follows."""
        for stretch in self.unclaimed:
            self.contexts[stretch] = "%s:fixtures" % module
        self.unclaimed.clear()

    def _enter(self, context: str) -> None:
        """From now on events belong to a new stretch: the callbacks are bound to its number."""
        self.context = context
        now = len(self.contexts)
        self.contexts.append(context)
        if context == BETWEEN:
            self.unclaimed.append(now)
        lines, bodies, disable = self.lines, self.bodies, self.monitoring.DISABLE

        def on_line(code: types.CodeType, number: int) -> Any:
            lines[code.co_filename][number].append(now)
            return disable

        def on_function(code: types.CodeType, offset: int) -> Any:
            bodies[code.co_filename][code.co_firstlineno].append(now)
            return disable

        self._register(on_line, on_function)
        if self.branching:
            self.branching.register(now, self.register)

    def _register(self, on_line: Any, on_function: Any) -> None:
        events = self.monitoring.events
        self.register(events.LINE, on_line)
        self.register(events.PY_START, on_function)
        self.register(events.PY_RESUME, on_function)

    def stop(self) -> None:
        self.recording = False
        self._register(None, None)
        if self.branching:
            self.branching.unregister(self.register)
        self.monitoring.free_tool_id(self.tool)
        files = {self.measured[path]: lines for path, lines in self.lines.items()}
        arcs = None
        if self.branching:
            taken = self.branching.arcs
            arcs = {self.measured[p]: all_arcs(ls, taken[p]) for p, ls in self.lines.items()}
        write_data(self.path, self.contexts, files, arcs)


def all_arcs(
    lines: Lines, taken: Mapping[tuple[int, int], list[int]]
) -> Iterator[tuple[int, int, int]]:
    """Stretch, start and end of each arc of a file; (n, n) tells that line n ran."""
    ran: dict[int, set[int]] = defaultdict(set)
    for number, stretches in lines.items():
        for stretch in stretches:
            ran[stretch].add(number)
            yield stretch, number, number
    for (start, end), stretches in taken.items():
        for stretch in stretches:
            if end < 0 or end in ran[stretch]:
                yield stretch, start, end


def code_parts(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and all that are nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_parts(constant)


def body_line(code: Any) -> int:
    """The first line of a function's body; its only line if it has one."""
    first: int = code.co_firstlineno
    return next((line for _, _, line in code.co_lines() if line and line > first), first)


def starts_unseen(code: types.CodeType) -> bool:
    """Whether the body begins on the line of RESUME, as that of most lambdas does.

    Python 3.13 has no LINE event there. coverage.py's C tracer records that line.
    """
    start = code.co_code[::2].find(RESUME) * 2
    lines: Any = code
    return any(
        first <= start < end - 2 and line == code.co_firstlineno  # an empty module has line 0
        for first, end, line in lines.co_lines()
    )


def by_context(lines: Mapping[int, list[int]], contexts: list[str]) -> Iterator[tuple[str, bytes]]:
    """Each context that ran any of a file's lines, with these lines a bit each.

    Lines of the same stretches go as one. Bits from the lowest on are coverage.py's own form.
    """
    together: dict[frozenset[int], int] = defaultdict(int)
    for number, stretches in lines.items():
        together[frozenset(stretches)] |= 1 << number
    bits: dict[str, int] = defaultdict(int)
    for group, mask in together.items():
        for stretch in group:
            bits[contexts[stretch]] |= mask
    for context, mask in bits.items():
        yield context, mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def write_data(
    path: str,
    contexts: list[str],
    files: Mapping[str, Lines],
    arcs: Mapping[str, Iterable[tuple[int, int, int]]] | None = None,
) -> None:
    """Write a coverage.py data file: made by coverage.py, filled in one transaction."""
    data = CoverageData(basename=path)
    (data.add_lines if arcs is None else data.add_arcs)({name: [] for name in files})
    data.write()
    if hasattr(data, "close"):  # coverage.py before 7.7 has no such method
        data.close()
    db = sqlite3.connect(path)
    with db:
        db.execute("PRAGMA synchronous = OFF")
        fill(db, contexts, files, arcs)
    db.close()


def fill(
    db: sqlite3.Connection,
    contexts: list[str],
    files: Mapping[str, Lines],
    arcs: Mapping[str, Iterable[tuple[int, int, int]]] | None = None,
) -> None:
    """Put the lines in; add_lines left empty rows of a context of its own."""
    db.execute("DELETE FROM line_bits")
    db.execute("DELETE FROM context")
    # Of a file without arcs add_arcs makes no entry.
    db.executemany("INSERT OR IGNORE INTO file (path) VALUES (?)", ((name,) for name in files))
    numbers = dict(db.execute("SELECT path, id FROM file"))
    keys = {context: key for key, context in enumerate(dict.fromkeys(contexts), 1)}
    db.executemany("INSERT INTO context (context, id) VALUES (?, ?)", keys.items())
    for name, found in (arcs or {}).items():
        db.executemany(
            "INSERT OR IGNORE INTO arc VALUES (?, ?, ?, ?)",
            ((numbers[name], keys[contexts[stretch]], *arc) for stretch, *arc in found),
        )
    for name, lines in files.items() if arcs is None else ():
        rows = ((numbers[name], keys[c], bits) for c, bits in by_context(lines, contexts))
        db.executemany("INSERT INTO line_bits VALUES (?, ?, ?)", rows)
    db.execute(
        "DELETE FROM context WHERE id NOT IN (SELECT context_id FROM {0})".format(
            "line_bits" if arcs is None else "arc"
        )
    )


def can_record(cov: coverage.Coverage, branches: bool = False) -> bool:
    """Whether this interpreter and these settings allow lines by sys.monitoring.

    File tracer plugins and subprocesses need coverage.py itself. So do branches, unless the
    caller accepts what branching.py misses (docs/branches.rst), and on Python 3.14 and newer.
    """

    def option(name: str) -> Any:
        try:
            return cov.get_option(name)
        except Exception:  # one that this coverage.py does not have yet
            return None

    refused = option("run:branch") and (not branches or sys.version_info >= (3, 14))
    if not hasattr(sys, "monitoring") or refused:
        return False
    plain = not set(option("run:concurrency") or ()) - {"thread", "greenlet", "eventlet", "gevent"}
    return plain and not option("run:plugins") and not option("run:patch")
