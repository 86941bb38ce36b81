"""The rows of a cut's two sides as they are joined: of measured files, by context and path."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from jobs.cuts import Basis, Cut, Traces
from jobs.measure import Executed
from jobs.snapshot import lines_of_bits

Rows = dict[str, dict[str, Executed]]


def rows_in(
    cut: Cut, basis: Basis, parted: Collection[str], known: dict[int, Executed]
) -> tuple[Rows, Rows]:
    """What the contexts ran in the change, and in the commit that it is held against.

    Rows of both that are the same are left out, but for those of the `parted` paths: there the
    same lines go elsewhere. Contexts that ran nothing are left out. `known` keeps the lines of
    bits: changes have most of them in common.
    """
    now, before = _to_rows(cut.now, known), _to_rows(cut.before, known)
    for context, path, ran in _rows_of(basis.traces, known, parted) if parted else ():
        if path not in before.get(context, ()) and context not in cut.fresh:
            now.setdefault(context, {})[path] = ran
            before.setdefault(context, {})[path] = ran
    return now, before


def _to_rows(traces: Traces, known: dict[int, Executed]) -> Rows:
    rows: Rows = {}
    for context, path, ran in _rows_of(traces, known):
        rows.setdefault(context, {})[path] = ran
    return rows


def _rows_of(
    traces: Traces, known: dict[int, Executed], only: Collection[str] | None = None
) -> Iterator[tuple[str, str, Executed]]:
    """(context, path, what ran) of all rows, or of the paths `only`."""
    for context, files in traces.lines.items():
        for path in _chosen(files, only):
            bits = files[path]
            if bits not in known:
                known[bits] = Executed(lines=lines_of_bits(bits))
            yield context, path, known[bits]
    for context, ended in traces.arcs.items():
        for path in _chosen(ended, only):
            yield context, path, Executed(arcs=ended[path])


def _chosen(paths: Collection[str], only: Collection[str] | None) -> Iterable[str]:
    return paths if only is None else [path for path in paths if path in only]
