"""Records lines per context on sys.monitoring (Python 3.12 and newer), line mode only.

The same interface as recorder.CoverageRecorder and, on the same run, the same lines as
coverage.py's C tracer: each code object of a measured file has LINE events on; an event adds its
line to the current context and is switched off until the context changes.
https://docs.python.org/3/library/sys.monitoring.html
"""

from __future__ import annotations

import importlib.machinery
import os
import sqlite3
import sys
import types
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import coverage
from coverage import CoverageData

IMPORT = ""


class MonitoringRecorder:
    """Lines per context of the files in `measured` (absolute path to path in the data file).

    `folder` receives one data file, `.coverage.monitoring`.
    """

    name = f"sys.monitoring of Python {sys.version_info[0]}.{sys.version_info[1]}, lines per test"

    def __init__(self, folder: str, measured: dict[str, str]) -> None:
        self.path = os.path.join(folder, ".coverage.monitoring")
        self.measured = measured
        self.context = IMPORT
        self.lines: dict[str, dict[str, set[int]]] = {}
        self.monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        self.tool: int = self.monitoring.COVERAGE_ID

    def start(self) -> None:
        self._enter(IMPORT)
        self.monitoring.use_tool_id(self.tool, "covtrack")
        self._watch_loader()

    def _watch_loader(self) -> None:
        """Switch LINE events on for all code of a measured file as it is loaded."""
        loader: Any = importlib.machinery.SourceFileLoader
        load, measured, switch_on = loader.get_code, self.measured, self._switch_on

        def get_code(self: Any, name: str) -> Any:
            code = load(self, name)
            if code is not None and code.co_filename in measured:
                switch_on(code)
            return code

        loader.get_code = get_code

    def _switch_on(self, code: types.CodeType) -> None:
        line = self.monitoring.events.LINE
        for part in code_parts(code):
            self.monitoring.set_local_events(self.tool, part, line)

    def switch(self, context: str) -> None:
        if context == self.context:
            return
        self._enter(context)
        self.monitoring.restart_events()

    def _enter(self, context: str) -> None:
        """From now on lines belong to `context`: the callback is bound to its sets."""
        self.context = context
        if context not in self.lines:
            self.lines[context] = defaultdict(set)
        lines, disable = self.lines[context], self.monitoring.DISABLE

        def on_line(code: types.CodeType, number: int) -> Any:
            lines[code.co_filename].add(number)
            return disable

        self.monitoring.register_callback(self.tool, self.monitoring.events.LINE, on_line)

    def stop(self) -> None:
        self.monitoring.register_callback(self.tool, self.monitoring.events.LINE, None)
        self.monitoring.free_tool_id(self.tool)
        write_data(self.path, self.lines, self.measured)


def code_parts(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and all that are nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_parts(constant)


def to_numbits(numbers: set[int]) -> bytes:
    """coverage.numbits.nums_to_numbits without its checks."""
    bits = bytearray(max(numbers) // 8 + 1)
    for number in numbers:
        bits[number >> 3] |= 1 << (number & 7)
    return bytes(bits)


def write_data(path: str, lines: dict[str, dict[str, set[int]]], measured: dict[str, str]) -> None:
    """Write a coverage.py data file: made by coverage.py, filled in one transaction."""
    data = CoverageData(basename=path)
    data.add_lines({name: [] for name in measured.values()})
    data.write()
    data.close()
    db = sqlite3.connect(path)
    with db:
        db.execute("PRAGMA synchronous = OFF")
        files = dict(db.execute("SELECT path, id FROM file"))
        contexts = [(number, name) for number, name in enumerate(lines, 1)]
        db.execute("DELETE FROM line_bits")  # add_lines left empty rows of a context of its own
        db.execute("DELETE FROM context")
        db.executemany("INSERT INTO context (id, context) VALUES (?, ?)", contexts)
        db.executemany(
            "INSERT INTO line_bits VALUES (?, ?, ?)",
            (
                (files[measured[name]], number, to_numbits(numbers))
                for number, context in contexts
                for name, numbers in lines[context].items()
                if numbers
            ),
        )
    db.close()


def can_record(cov: coverage.Coverage) -> bool:
    """Whether this interpreter and these settings allow lines by sys.monitoring.

    Branches, file tracer plugins and subprocesses need coverage.py itself.
    """
    if not hasattr(sys, "monitoring") or cov.get_option("run:branch"):
        return False
    concurrency: Any = cov.get_option("run:concurrency") or []
    plain = not set(concurrency) - {"thread", "greenlet", "eventlet", "gevent"}
    return plain and not cov.get_option("run:plugins") and not cov.get_option("run:patch")
