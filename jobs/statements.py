"""What each source file consists of, parsed once per (blob, coverage settings) and cached.

The parsing itself is done by the measured interpreter's own coverage.py (measured/parse.py),
since statements differ between Python versions; this module holds the values and their cache.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tomllib
from collections.abc import Iterable, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

# Raised whenever the parser's entries gain or change a field: cached ones are then parsed anew.
FORMAT = "4"
# Options of coverage.py's run section that say which files count, not what is recorded of them.
COUNTING = frozenset({"source", "source_pkgs", "source_dirs", "omit", "include"})
CONFIG_FILES = (".coveragerc", ".coveragerc.toml", "setup.cfg", "tox.ini", "pyproject.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function's qualified name and 1-based lines: its def, its body's first, its last."""

    name: str
    first: int
    body: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """One file as coverage.py sees it; `error` says why it could not be parsed.

    `first` maps a line of a multi-line statement to the statement's first line. `arcs`,
    `exits`, `no_branch` and `jumps` are empty unless branches are measured; `jumps` maps a
    recorded arc out of a `with` body to the line where it really went on.
    """

    statements: frozenset[int] = frozenset()
    excluded: frozenset[int] = frozenset()
    first: Mapping[int, int]
    functions: tuple[Function, ...] = ()
    arcs: frozenset[tuple[int, int]] = frozenset()
    exits: Mapping[int, int]
    no_branch: frozenset[int] = frozenset()
    jumps: Mapping[tuple[int, int], int] = field(default_factory=dict)
    error: str | None = None

    @cached_property
    def spans(self) -> Mapping[int, int]:
        """First to last line of every statement that takes more than one line."""
        ends: dict[int, int] = {}
        for line, first in self.first.items():
            ends[first] = max(line, ends.get(first, line))
        return ends

    @cached_property
    def function_lines(self) -> frozenset[int]:
        """Lines that run only when some function is called."""
        return frozenset(
            line
            for function in self.functions
            for line in range(function.body, function.last + 1)
            if line > function.first
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Universe:
    """Paths that a report counts in any case, and those that count only if a line of them ran."""

    always: tuple[str, ...]
    if_run: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.always, *self.if_run)


def read_parsed(raw: Mapping[str, Any]) -> Parsed:
    """The value of one file's entry in the parser's JSON."""
    if "error" in raw:
        return Parsed(first={}, exits={}, error=str(raw["error"]))
    return Parsed(
        statements=frozenset(raw["statements"]),
        excluded=frozenset(raw["excluded"]),
        first={int(line): first for line, first in raw["first"].items()},
        functions=tuple(
            Function(name=name, first=first, last=last, body=body)
            for name, first, last, body in raw["functions"]
        ),
        arcs=frozenset((start, end) for start, end in raw.get("arcs", ())),
        exits={int(line): count for line, count in raw.get("exits", {}).items()},
        no_branch=frozenset(raw.get("no_branch", ())),
        jumps={(start, end): after for start, end, after in raw.get("jumps", ())},
    )


def coverage_settings_text(files: Mapping[str, str]) -> str:
    """The part of a tree's configuration files that coverage.py reads, in a fixed form."""
    found = {}
    for name in CONFIG_FILES:
        text = files.get(name)
        if text is None:
            continue
        if name.startswith(".coveragerc"):
            return json.dumps({name: text})
        found[name] = _coverage_part(name, text)
    return json.dumps(found, sort_keys=True)


def _coverage_part(name: str, text: str) -> Any:
    if name.endswith(".toml"):
        try:
            tables = tomllib.loads(text)
            own = name == "pyproject.toml"
            return tables.get("tool", {}).get("coverage", {}) if own else tables
        except tomllib.TOMLDecodeError:
            return text
    parser = ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except ConfigParserError:
        return text
    own = name == ".coveragerc"
    return {
        title: dict(parser[title]) for title in parser.sections() if own or "coverage" in title
    }


def recording_settings_text(files: Mapping[str, str]) -> str:
    """The part of coverage.py's settings that decides how lines are recorded, in a fixed form.

    Which files count (`source`, `omit`, `include`) and how they are reported is left out.
    """
    found: dict[str, Any] = {}
    for name in CONFIG_FILES:
        text = files.get(name)
        part = {} if text is None else _run_part(name, text)
        found |= {f"{name} {key}": part[key] for key in part.keys() - COUNTING}
        if name.startswith(".coveragerc") and text is not None:
            break
    return json.dumps(found, sort_keys=True, default=str)


def _run_part(name: str, text: str) -> Mapping[str, Any]:
    part = _coverage_part(name, text)
    if not isinstance(part, Mapping):
        return {"": text}
    for title in ("run", "coverage:run"):
        if title in part:
            return dict(part[title])
    return {}


def settings_key(settings_text: str, *identity: str) -> str:
    """A key of everything but the blob that decides how a file is parsed."""
    return hashlib.sha256("\0".join((FORMAT, settings_text, *identity)).encode()).hexdigest()[:32]


class StatementCache:
    """Parsed files by (key, blob) in one SQLite file; a damaged file is begun anew."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=60)
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS parsed"
                " (key TEXT, blob TEXT, json TEXT, PRIMARY KEY (key, blob)) WITHOUT ROWID"
            )
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    def load(self, key: str, blobs: Iterable[str]) -> dict[str, Parsed]:
        """The parsed files among `blobs` that are in the cache."""
        known = self.load_texts(key, blobs)
        found = {blob: _read_entry(text) for blob, text in known.items()}
        return {blob: parsed for blob, parsed in found.items() if parsed is not None}

    def load_texts(self, key: str, blobs: Iterable[str]) -> dict[str, str]:
        """The JSON of the entries among `blobs` that are in the cache."""
        query = (
            "SELECT blob, json FROM parsed WHERE key = ?"
            " AND blob IN (SELECT value FROM json_each(?))"
        )
        try:
            with closing(self._connect()) as connection:
                return dict(connection.execute(query, (key, json.dumps(sorted(set(blobs))))))
        except sqlite3.DatabaseError:
            self.path.unlink(missing_ok=True)
            return {}

    def store(self, key: str, parsed: Mapping[str, Any]) -> None:
        """Keep the parser's raw entries, by blob."""
        rows = [(key, blob, json.dumps(raw)) for blob, raw in parsed.items()]
        try:
            self._insert(rows)
        except sqlite3.DatabaseError:
            self.path.unlink(missing_ok=True)
            self._insert(rows)

    def load_universe(self, key: str, names: str) -> Universe | None:
        """The measured paths among a set of paths, whose hash is `names`; None if not known."""
        try:
            with closing(self._connect()) as connection:
                query = "SELECT json FROM parsed WHERE key = ? AND blob = ?"
                row = connection.execute(query, (key, f"paths:{names}")).fetchone()
            raw = json.loads(row[0]) if row else None
            return (
                Universe(always=tuple(raw["always"]), if_run=tuple(raw["if_run"])) if raw else None
            )
        except (sqlite3.DatabaseError, KeyError, TypeError, ValueError):
            return None

    def store_universe(self, key: str, names: str, universe: Universe) -> None:
        """Keep the measured paths among the set of paths whose hash is `names`."""
        self.store(key, {f"paths:{names}": asdict(universe)})

    def _insert(self, rows: list[tuple[str, str, str]]) -> None:
        with closing(self._connect()) as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO parsed VALUES (?, ?, ?)", rows)


def _read_entry(text: str) -> Parsed | None:
    """One entry of the cache; None for one that is damaged, so that it is parsed anew."""
    try:
        return read_parsed(json.loads(text))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
