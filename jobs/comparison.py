"""Compares two versions of a file by meaning, and aligns the lines of what stayed the same. Pure.

A function whose body means the same keeps its lines wherever they stand now, however they are
formatted; the same holds for all that runs at import. What differs is named.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from jobs.outline import Block, Entry, Outline, Scope, Statement, StatementKind

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedFunction:
    """A function of the old version, and the 1-based spans of old lines that lead to the change.

    Whoever ran none of these lines came to no statement that is new, gone or another one.
    """

    scope: Scope
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDifference:
    """What one file's change means.

    `functions` are those of the old version whose body changed or that are gone; `statements`
    those at module and class level that are new or gone, `same_module` tells that all that runs
    at import is the same. `whole` is set where one version is missing or is no Python.
    """

    old: str | None
    new: str | None
    functions: tuple[ChangedFunction, ...] = ()
    statements: tuple[Statement, ...] = ()
    same_module: bool = True
    whole: bool = False


def compare(
    old: str | None, before: Outline | None, new: str | None, after: Outline | None
) -> FileDifference:
    """The difference of a file's old version (path, outline) to its new one."""
    if before is None or after is None:
        known = before or after
        return FileDifference(
            old=old,
            new=new,
            functions=tuple(map(_whole, before.functions)) if before else (),
            statements=known.statements if known else (),
            same_module=False,
            whole=True,
        )
    return FileDifference(
        old=old,
        new=new,
        functions=tuple(_changed_functions(before, after)),
        statements=tuple(_without_members(before, after)),
        same_module=before.module == after.module,
    )


def _whole(function: Scope) -> ChangedFunction:
    return ChangedFunction(scope=function, spans=((function.body, function.last),))


def pair_functions(before: Outline, after: Outline) -> dict[str, Scope]:
    """The new version of each function of the old one that is still there, by its old name.

    Functions of one name, such as overloads, go by their order; but where some came or went,
    first those that are the same by header, place and body, then the others of one header.
    """
    moved = dict(_pair_namesakes(before, after))
    taken = {now.name for now in moved.values() if now}
    pairs: dict[str, Scope] = {}
    around: list[str] = []
    for function in before.functions:  # inner functions come after outer ones
        name = function.name
        while around and not name.startswith(f"{around[-1]}."):
            around.pop()
        if name in moved:
            now = moved[name]
        elif not around:
            now = None if name in taken else after.by_name.get(name)
        else:
            outer = pairs.get(around[-1])
            now = outer and after.by_name.get(f"{outer.name}{name.removeprefix(around[-1])}")
        around.append(name)
        if now is not None:
            pairs[name] = now
    return pairs


def _pair_namesakes(before: Outline, after: Outline) -> Iterator[tuple[str, Scope | None]]:
    """Functions outside others that had, or got, namesakes; None for one that is gone."""
    old, new = _namesakes(before), _namesakes(after)
    for name in old.keys() & new.keys():
        was, now = old[name], new[name]
        if len(was) == len(now):
            continue
        yield from ((function.name, None) for function, _ in was)
        matcher = SequenceMatcher(None, _keys(was), _keys(now), autojunk=False)
        for _, first, last, new_first, new_last in matcher.get_opcodes():
            pairs = zip(reversed(was[first:last]), reversed(now[new_first:new_last]), strict=False)
            for (function, header), (other, other_header) in pairs:
                if header == other_header:
                    yield function.name, other


def _keys(found: Iterable[tuple[Scope, str]]) -> list[tuple[str, str, str]]:
    return [(header, function.hash, function.shape) for function, header in found]


def _namesakes(outline: Outline) -> dict[str, list[tuple[Scope, str]]]:
    """Functions outside others with the hash of their def, by their name without a number.

    The hash is "" for what only type checkers see.
    """
    headers = {s.line: s.hash for s in outline.statements if s.kind is StatementKind.DEF}
    found: dict[str, list[tuple[Scope, str]]] = {}
    for function in outline.functions:
        parts = function.name.split(".")
        if not any(".".join(parts[:n]) in outline.by_name for n in range(1, len(parts))):
            same = found.setdefault(function.name.partition("#")[0], [])
            same.append((function, headers.get(function.first, "")))
    return found


def _changed_functions(before: Outline, after: Outline) -> Iterable[ChangedFunction]:
    pairs = pair_functions(before, after)
    for function in before.functions:
        now = pairs.get(function.name)
        if now is None or now.shape != function.shape:
            yield _whole(function)
        elif now.hash != function.hash:
            spans, _ = compare_blocks(function, now)
            yield ChangedFunction(scope=function, spans=tuple(spans))


def compare_blocks(old: Scope, new: Scope) -> tuple[list[Span], dict[int, int]]:
    """Spans of old lines that lead to a difference, and anchors of what is the same.

    Of two functions of one shape. A statement that is another one is reached by its own head; one
    that came by the statement behind it, else the one before, else what holds the block.
    """
    spans: list[Span] = []
    same: list[tuple[Entry, Entry]] = []
    _compare_block(old.block, new.block, (old.body, old.last), spans, same)
    moved: dict[int, int] = {}
    for was, now in same:
        moved |= dict(zip(was.anchors, now.anchors, strict=True))
    return spans, moved


def _compare_block(
    old: Block, new: Block, around: Span, spans: list[Span], same: list[tuple[Entry, Entry]]
) -> None:
    matcher = SequenceMatcher(None, [e.hash for e in old], [e.hash for e in new], autojunk=False)
    for tag, first, last, new_first, new_last in matcher.get_opcodes():
        if tag == "insert":
            spans.append(_span_at(old, first, around))
        elif last - first == new_last - new_first:
            for was, now in zip(old[first:last], new[new_first:new_last], strict=True):
                _compare_entry(was, now, spans, same)
        else:
            spans.append(_head(old[first]))


def _compare_entry(
    was: Entry, now: Entry, spans: list[Span], same: list[tuple[Entry, Entry]]
) -> None:
    if was.hash != now.hash and (not was.head or was.head != now.head):
        spans.append(_head(was))
        return
    if len(was.anchors) != len(now.anchors):
        spans.append(_head(was))
        return
    same.append((was, now))
    for inner, new_inner in zip(was.blocks, now.blocks, strict=True):
        _compare_block(inner, new_inner, _head(was), spans, same)


def _head(entry: Entry) -> Span:
    return entry.anchors[0], entry.last


def _span_at(block: Block, place: int, around: Span) -> Span:
    """Old lines that run if and when something before entry `place` of the block would."""
    if place < len(block):
        return _head(block[place])
    return _head(block[-1]) if block else around


def _without_members(before: Outline, after: Outline) -> Iterable[Statement]:
    """The changed statements, but for those in classes that are new or gone as a whole.

    Nobody can have an object of such a class but by its name, which is bound or lost with it.
    """
    kept = _classes(before) & _classes(after)
    for statement in _changed_statements(before.statements, after.statements):
        if not statement.owner or statement.owner in kept:
            yield statement


def _classes(outline: Outline) -> set[str]:
    """Dotted names of all classes outside functions."""
    found = (s for s in outline.statements if s.kind is StatementKind.CLASS)
    return {f"{s.owner}.{s.bound[0]}" if s.owner else s.bound[0] for s in found}


def _changed_statements(old: Sequence[Statement], new: Sequence[Statement]) -> Iterable[Statement]:
    matcher = SequenceMatcher(None, [s.hash for s in old], [s.hash for s in new], autojunk=False)
    for tag, old_first, old_last, new_first, new_last in matcher.get_opcodes():
        if tag != "equal":
            yield from old[old_first:old_last]
            yield from new[new_first:new_last]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Old lines of what means the same to the new lines of the same code.

    `starts` maps the first line of a function's code, by which arcs name its entry and exit.
    """

    lines: Mapping[int, int]
    starts: Mapping[int, int]


NOTHING_ALIGNED = Alignment(lines={}, starts={})


def align(before: Outline | None, after: Outline | None) -> Alignment:
    """The lines of all that means the same in both versions: scopes, and parts of functions.

    A scope whose statements were split or joined into lines differently, so that one old line
    would stand for several new ones, is left out.
    """
    if before is None or after is None:
        return NOTHING_ALIGNED
    lines: dict[int, int] = {}
    starts: dict[int, int] = {}
    inner = {line for f in before.functions for line in _own_lines(f)}
    if before.module == after.module:
        last = max([*before.anchors, *inner], default=0)
        outer = [line for line in range(1, last + 1) if line not in inner]
        lines |= _align_scope(outer, before.anchors, after.anchors)
    pairs = pair_functions(before, after)
    for function in before.functions:  # inner functions come after outer ones
        now = pairs.get(function.name)
        own = _own_lines(function)
        for line in own:
            lines.pop(line, None)
        if now is None or now.shape != function.shape:
            continue
        if now.hash == function.hash:
            lines |= _align_scope(own, function.anchors, now.anchors)
        else:
            lines |= _align_rest(function, now)
        starts[function.start] = now.start
    return Alignment(lines=lines, starts=starts)


def _own_lines(function: Scope) -> range:
    """Lines of a function's body; of a one-line function, the line is its module's."""
    return range(max(function.body, function.first + 1), function.last + 1)


def _align_rest(function: Scope, now: Scope) -> dict[int, int]:
    """Lines of those statements of a changed function that stayed: of their heads alone."""
    _, moved = compare_blocks(function, now)
    lines: dict[int, int] = {}
    for entry in _entries(function.block):
        if entry.anchors[-1] in moved:
            lines |= dict.fromkeys(
                range(entry.anchors[-1], entry.last + 1), moved[entry.anchors[-1]]
            )
            lines |= {anchor: moved[anchor] for anchor in entry.anchors if anchor in moved}
    return lines


def _entries(block: Block) -> Iterable[Entry]:
    for entry in block:
        yield entry
        for inner in entry.blocks:
            yield from _entries(inner)


def _align_scope(
    own: Iterable[int], before: Sequence[int], after: Sequence[int]
) -> dict[int, int]:
    if len(before) != len(after):
        return {}
    moved: dict[int, int] = {}
    for old, new in zip(before, after, strict=True):
        if moved.setdefault(old, new) != new:
            return {}
    anchors = sorted(moved)
    # A line inside a statement goes where its statement begins.
    places = ((line, bisect_right(anchors, line) - 1) for line in own)
    return {line: moved[anchors[place]] for line, place in places if place >= 0}
