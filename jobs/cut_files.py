"""Writes cuts and bases (jobs.cuts) as files, and reads back none but what was written just so."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, TypeVar

from jobs.cuts import Basis, Cut, Table, Traces
from jobs.results import Status
from jobs.snapshot import Circumstances, TestRecord
from venv_builder.errors import DataError

# Raised whenever the files gain or change a field: kept ones are then made anew.
FORMAT = "1"
LEVEL = 1
Kept = TypeVar("Kept", Basis, Cut)


def write_kept(path: Path, kept: Basis | Cut) -> None:
    """Write a basis or a cut: it appears whole or not at all."""
    body = zlib.compress(json.dumps(_to_raw(kept)).encode(), LEVEL)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(_digest(path, body) + body)
        new.replace(path)
    except OSError as error:
        raise DataError(
            f"The cut {path.name} cannot be written: {error.strerror}.",
            advice=f"Make room below {path.parent}; nothing stored was changed.",
        ) from error
    finally:
        with suppress(OSError):
            new.unlink()


def read_basis(path: Path) -> Basis | None:
    """A kept basis; None where there is none, or none that was written just so."""
    return _read_kept(path, _basis_from)


def read_cut(path: Path) -> Cut | None:
    """A kept cut; None where there is none, or none that was written just so."""
    return _read_kept(path, _cut_from)


def _digest(path: Path, body: bytes) -> bytes:
    """Of a format, of the name (which is that of the snapshots) and of what the file holds."""
    return hashlib.sha256(f"{FORMAT}\0{path.name}\0".encode() + body).digest()


def _read_kept(path: Path, read: Callable[[Mapping[str, Any]], Kept]) -> Kept | None:
    try:
        data = path.read_bytes()
        if _digest(path, data[32:]) != data[:32]:
            return None
        return read(json.loads(zlib.decompress(data[32:])))
    except (OSError, ValueError, LookupError, TypeError, zlib.error):
        return None


def _to_raw(kept: Basis | Cut) -> dict[str, Any]:
    if isinstance(kept, Basis):
        return {
            "measured": sorted(kept.measured),
            "spared": sorted(kept.spared),
            "traces": _raw_traces(kept.traces),
        }
    return {
        "executed": sorted(kept.executed),
        "ran": sorted(kept.ran),
        "fresh": [astuple(record) for record in kept.fresh.values()],
        "gone": sorted(kept.gone),
        "spared": [sorted(names) for names in kept.spared],
        "measured": [sorted(names) for names in kept.measured],
        "circumstances": asdict(kept.circumstances) if kept.circumstances else None,
        "arcs": kept.arcs,
        "now": _raw_traces(kept.now),
        "before": _raw_traces(kept.before),
    }


def _raw_traces(traces: Traces) -> dict[str, Any]:
    """Bits as hexadecimal digits: of decimal ones Python takes only so many."""
    return {
        "lines": _map_values(traces.lines, "{:x}".format),
        "arcs": _map_values(traces.arcs, sorted),
        "uses": _map_values(traces.uses, "{:x}".format),
        "touched": {context: sorted(found) for context, found in traces.touched.items()},
    }


def _map_values(table: Table, change: Callable[[Any], Any]) -> dict[str, dict[str, Any]]:
    return {
        context: {key: change(value) for key, value in found.items()}
        for context, found in table.items()
    }


def _basis_from(raw: Mapping[str, Any]) -> Basis:
    return Basis(
        measured=frozenset(raw["measured"]),
        spared=frozenset(raw["spared"]),
        traces=_traces_from(raw["traces"]),
    )


def _cut_from(raw: Mapping[str, Any]) -> Cut:
    records = [
        TestRecord(
            test=test,
            module=module,
            status=Status(status),
            seconds=seconds,
            executed=executed,
            reason=reason,
            spared=spared,
            spared_for=spared_for,
        )
        for test, module, status, seconds, executed, reason, spared, spared_for in raw["fresh"]
    ]
    under = raw["circumstances"]
    return Cut(
        executed=frozenset(raw["executed"]),
        ran=frozenset(raw["ran"]),
        fresh={record.test: record for record in records},
        gone=frozenset(raw["gone"]),
        spared=_pair(raw["spared"]),
        measured=_pair(raw["measured"]),
        circumstances=Circumstances(**under) if under else None,
        arcs=raw["arcs"],
        now=_traces_from(raw["now"]),
        before=_traces_from(raw["before"]),
    )


def _pair(raw: list[list[str]]) -> tuple[frozenset[str], frozenset[str]]:
    added, gone = map(frozenset, raw)
    return added, gone


def _traces_from(raw: Mapping[str, Any]) -> Traces:
    return Traces(
        lines=_map_values(raw["lines"], _from_hex),
        arcs=_map_values(raw["arcs"], lambda arcs: frozenset(map(tuple, arcs))),
        uses=_map_values(raw["uses"], _from_hex),
        touched={context: dict.fromkeys(found, 1) for context, found in raw["touched"].items()},
    )


def _from_hex(digits: str) -> int:
    return int(digits, 16)
