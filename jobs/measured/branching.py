"""Records the arcs of lines that can go on in more than one way, on Python 3.12 and 3.13.

An arc is (line, line that runs next); minus the code's first line stands for leaving it. Only
arcs out of lines with several exits are looked for: coverage.py takes a line with one exit, if
it ran, as that exit taken. One BRANCH event stands for both sides of a jump: a jump is silent
until the context changes only once both of its sides have been told.
"""

from __future__ import annotations

import dis
import itertools
import types
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

Arc = tuple[int, int]
# The last stretch that took it, all of them, and the cell of the jump's other side.
Cell = list[Any]

JUMPS = frozenset({*dis.hasjrel, *dis.hasjabs})
BACKWARD = frozenset(op for op in JUMPS if "BACKWARD" in dis.opname[op])
CACHE = dis.opmap.get("CACHE", 0)
CONDITIONAL = frozenset(op for op in JUMPS if dis.opname[op].startswith(("POP_JUMP", "FOR_ITER")))
FOR_ITER = dis.opmap["FOR_ITER"]
LEAVING = frozenset(op for name, op in dis.opmap.items() if name.startswith("RETURN_"))
RAISING = frozenset({dis.opmap["RAISE_VARARGS"]})
ENDING = LEAVING | RAISING | {dis.opmap["RERAISE"]}
# Steps that raise nothing; any other may leave its line by an exception.
QUIET = ("NOP", "RESUME", "CACHE", "EXTENDED_ARG", "POP_", "PUSH_NULL", "COPY", "SWAP", "END_")
QUIET_TOO = ("JUMP", "RETURN_", "LOAD_CONST", "LOAD_FAST", "STORE_FAST", "STORE_NAME", "MAKE_")
UNSURE = frozenset(
    op
    for name, op in dis.opmap.items()
    if not name.startswith((*QUIET, *QUIET_TOO)) or name.startswith("LOAD_FAST_CHECK")
)


class Flow:
    """Where each line of one code object can go on, read off its bytecode."""

    def __init__(self, code: types.CodeType) -> None:
        self.code = code
        self.lines = line_by_offset(code)
        self.ops, self.targets = read_steps(code.co_code)
        self.after = dict(itertools.pairwise(self.ops))
        self.handlers = list(read_handlers(code.co_exceptiontable))
        self.entries = {*self.targets.values(), *(to for _, _, to in self.handlers)}
        self.forks = self._find_forks()

    def sides(self) -> Iterator[tuple[int, list[tuple[int, Arc | None]]]]:
        """Each deciding jump's offset, and for both places it goes to: place, sure arc."""
        for offset, op in self.ops.items():
            line = self.lines.get(offset)
            if op in CONDITIONAL and line in self.forks:
                ends = (self.after.get(offset, -1), self.targets[offset])
                yield offset, [(end, self.follow(line or 0, end, sure=True)) for end in ends]

    def jumps(self) -> dict[int, Arc]:
        """The arc of each unconditional jump out of a line with several exits, by offset."""
        return {
            offset: arc
            for offset, op in self.ops.items()
            if op in JUMPS - CONDITIONAL
            and (line := self.lines.get(offset)) in self.forks
            and (arc := self.follow(line or 0, self.targets[offset], sure=True))
        }

    def returns(self) -> dict[int, Arc]:
        """The arc of each return out of such a line, by offset."""
        return {
            offset: (line, -self.code.co_firstlineno)
            for offset, op in self.ops.items()
            if op in LEAVING and (line := self.lines.get(offset)) in self.forks and line
        }

    def falls(self) -> dict[int, Arc]:
        """The arcs out of such a line by no jump, each by the offset of a step that proves it.

        The step is the line's last, if it cannot raise, else the one after, if nothing else leads
        there.
        """
        found = {}
        for offset, arc in self._all_falls():
            then = self.after[offset]
            if arc[0] in self.forks:
                if self.ops[offset] not in UNSURE:
                    found[offset] = arc
                elif then not in self.entries:
                    found[then] = arc
        return found

    def follow(self, line: int, offset: int, *, sure: bool) -> Arc | None:
        """The arc from `line` by way of `offset`; None where another event has to tell.

        If `sure`, also where an exception would lead elsewhere.
        """
        thrown: set[Arc | None] = set()
        for at in self._path(line, offset):
            op, here = self.ops[at], self.lines.get(at)
            arc = None
            if here and here != line:
                arc = line, here
            elif op in LEAVING:
                arc = line, -self.code.co_firstlineno
            elif op in RAISING:
                arc = self._thrown(line, at)
            elif op in UNSURE:
                thrown.add(self._thrown(line, at))
            if arc:
                return None if sure and thrown - {arc} else arc
        return None

    def _path(self, line: int, offset: int) -> Iterator[int]:
        """Steps from `offset` on, jumps followed, to the first that ends the line or may."""
        seen: set[int] = set()
        while offset in self.ops and offset not in seen:
            seen.add(offset)
            yield offset
            op = self.ops[offset]
            if op in CONDITIONAL or op in ENDING or self.lines.get(offset, line) != line:
                return
            offset = self.targets[offset] if op in JUMPS else self.after.get(offset, -1)

    def _thrown(self, line: int, offset: int) -> Arc | None:
        """Where an exception at the offset leads from the line."""
        handler = next((to for first, end, to in self.handlers if first <= offset < end), None)
        if handler is None:
            return line, -self.code.co_firstlineno
        for at in self._path(line, handler):
            here = self.lines.get(at)
            if here and here != line:
                return line, here
        return None

    def _all_falls(self) -> Iterator[tuple[int, Arc]]:
        for offset, then in self.after.items():
            line, op = self.lines.get(offset), self.ops[offset]
            if line and op not in JUMPS | ENDING and self.lines.get(then) != line:
                arc = self.follow(line, then, sure=False)
                if arc:
                    yield offset, arc

    def _find_forks(self) -> set[int]:
        """Lines with more than one exit, and those that hold a function's whole code."""
        exits: dict[int, set[Arc | None]] = defaultdict(set)
        for offset, op in self.ops.items():
            line = self.lines.get(offset)
            if line and op in CONDITIONAL:
                ends = (self.after.get(offset, -1), self.targets[offset])
                exits[line].update(self.follow(line, end, sure=False) for end in ends)
            elif line and (op in JUMPS or op in LEAVING):
                end = self.targets.get(offset, offset)
                exits[line].add(self.follow(line, end, sure=False))
        for _, arc in self._all_falls():
            exits[arc[0]].add(arc)
        inner = {c.co_firstlineno for c in self.code.co_consts if isinstance(c, types.CodeType)}
        alone = exits.keys() & {self.code.co_firstlineno}
        return {line for line, arcs in exits.items() if len(arcs) > 1} | alone | inner


class Branching:
    """Arcs per stretch of a run, by file; `register(event, callback)` switches callbacks."""

    def __init__(self, monitoring: Any) -> None:
        self.events = monitoring.events
        self.disable = monitoring.DISABLE
        self.arcs: dict[str, dict[Arc, list[int]]] = defaultdict(lambda: defaultdict(list))
        self._sides: dict[int, dict[tuple[int, int], Cell]] = {}
        self._falls: dict[int, dict[int, Arc]] = {}
        self._places: dict[int, dict[int, Arc]] = {}
        self._alive: list[types.CodeType] = []

    def watch(self, code: types.CodeType) -> int:
        """The events that the code object needs beside LINE."""
        flow = Flow(code)
        wanted, known = 0, self.arcs[code.co_filename]
        self._alive.append(code)
        cells: dict[tuple[int, int], Cell] = {}
        for offset, (near, far) in flow.sides():
            one: Cell = [-1, known[near[1]] if near[1] else None, None]
            other: Cell = [-1, known[far[1]] if far[1] else None, None]
            one[2], other[2] = other, one
            cells[offset, near[0]] = one
            # The end of a loop is told with or without the steps that clear the stack.
            for more in (4, 2, 0) if flow.ops[offset] == FOR_ITER else (0,):
                cells[offset, far[0] + more] = other
        self._sides[id(code)] = cells
        jumps, returns, falls = flow.jumps(), flow.returns(), flow.falls()
        self._places[id(code)] = {**jumps, **returns}
        self._falls[id(code)] = falls
        if cells:
            wanted |= self.events.BRANCH
        if jumps:
            wanted |= self.events.JUMP
        if returns:
            wanted |= self.events.PY_RETURN
        if falls:
            wanted |= self.events.INSTRUCTION
        return wanted

    def register(self, now: int, register: Callable[[int, Any], None]) -> None:
        """From now on events belong to the stretch `now`."""
        sides, places, falls = self._sides, self._places, self._falls
        arcs, disable = self.arcs, self.disable

        def on_branch(code: types.CodeType, offset: int, end: int) -> Any:
            cell = sides[id(code)].get((offset, end))
            if cell is None:
                return disable
            if cell[0] != now:
                cell[0] = now
                if cell[1] is not None:
                    cell[1].append(now)
            other = cell[2]
            return disable if other[1] is None or other[0] == now else None

        def on_place(code: types.CodeType, offset: int, _: Any) -> Any:
            arc = places[id(code)].get(offset)
            if arc is not None:
                arcs[code.co_filename][arc].append(now)
            return disable

        def on_step(code: types.CodeType, offset: int) -> Any:
            arc = falls[id(code)].get(offset)
            if arc is not None:
                arcs[code.co_filename][arc].append(now)
            return disable

        self._register(register, on_branch, on_step, on_place)

    def unregister(self, register: Callable[[int, Any], None]) -> None:
        """No event is heard any more."""
        self._register(register, None, None, None)

    def _register(
        self, register: Callable[[int, Any], None], on_branch: Any, on_step: Any, on_place: Any
    ) -> None:
        register(self.events.BRANCH, on_branch)
        register(self.events.INSTRUCTION, on_step)
        register(self.events.JUMP, on_place)
        register(self.events.PY_RETURN, on_place)


def read_steps(raw: bytes) -> tuple[dict[int, int], dict[int, int]]:
    """The opcode of every instruction, and where each jump goes, by offset.

    A jump counts from the end of its inline caches; dis tells the same, ten times slower.
    """
    ops: dict[int, int] = {}
    targets: dict[int, int] = {}
    extended = 0
    for offset in range(0, len(raw), 2):
        op = raw[offset]
        if op == CACHE:
            continue
        ops[offset] = op
        argument = extended | raw[offset + 1]
        extended = argument << 8 if op == dis.EXTENDED_ARG else 0
        if op in JUMPS:
            end = offset + 2
            while end < len(raw) and raw[end] == CACHE:
                end += 2
            targets[offset] = end - 2 * argument if op in BACKWARD else end + 2 * argument
    return ops, targets


def read_handlers(table: bytes) -> Iterator[tuple[int, int, int]]:
    """First and end offset of each guarded range, and its handler's.

    https://github.com/python/cpython/blob/3.13/InternalDocs/exception_handling.md
    """
    numbers = []
    value = 0
    for byte in table:
        value = value << 6 | byte & 63
        if not byte & 64:
            numbers.append(value)
            value = 0
    for first, length, target in zip(numbers[::4], numbers[1::4], numbers[2::4], strict=False):
        yield first * 2, (first + length) * 2, target * 2


def line_by_offset(code: types.CodeType) -> dict[int, int]:
    """The line of every instruction that has one."""
    found: dict[int, int] = {}
    for first, end, line in code.co_lines():
        if line:
            found.update(dict.fromkeys(range(first, end, 2), line))
    return found
