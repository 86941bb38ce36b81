"""The snapshot: a coverage.py data file of one commit, with a context per test.

Beside `jobs.covering` the only module that knows coverage.py's tables
(https://coverage.readthedocs.io/en/latest/dbschema.html). Beside them it keeps one table of its
own, `covtrack_test`, which coverage.py ignores: each test's module, outcome, duration and the
commit where it last ran.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from coverage import CoverageData
from coverage.exceptions import CoverageException
from coverage.numbits import numbits_to_nums, nums_to_numbits, register_sqlite_functions

from jobs.measure import Arc, Executed
from jobs.merge import IMPORT_CONTEXT, FileMove, MergePlan
from jobs.results import Status
from venv_builder.errors import DataError

TESTS = """CREATE TABLE IF NOT EXISTS covtrack_test (
    test TEXT PRIMARY KEY, module TEXT NOT NULL, status TEXT NOT NULL, seconds REAL NOT NULL,
    executed TEXT NOT NULL  -- the commit at which the test last ran
) WITHOUT ROWID"""
SETTINGS_KEY = "covtrack_settings"


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRecord:
    """A test as the snapshot knows it; `executed` is the commit where it last ran."""

    __test__ = False

    test: str
    module: str
    status: Status
    seconds: float
    executed: str


def file_digest(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a data file; raises DataError for what SQLite makes of a bad one."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            register_sqlite_functions(connection)
            yield connection
    except sqlite3.DatabaseError as error:
        raise DataError(
            f"The snapshot {path.name} cannot be read or written: {error}.",
            advice="Check the disk's free room; a corrupt snapshot is set aside by the next run.",
        ) from error


def is_data_file(path: Path) -> bool:
    """Whether coverage.py got as far as making its tables: a killed worker may not have."""
    try:
        with opened(path) as db:
            # One table at a time: of a join, an empty one asks for all rows of the others.
            for table in ("line_bits", "arc", "context", "file"):
                db.execute(f"SELECT 1 FROM {table} LIMIT 1")  # noqa: S608
    except DataError:
        return False
    return True


def read_executed(path: Path) -> dict[str, Executed]:
    """All that ran, per file, whatever the context."""
    with opened(path) as db:
        bits: dict[int, int] = {}
        for file, numbits in db.execute("SELECT file_id, numbits FROM line_bits"):
            bits[file] = bits.get(file, 0) | int.from_bytes(numbits, "little")
        arcs: dict[int, set[Arc]] = {}
        for file, start, end in db.execute("SELECT DISTINCT file_id, fromno, tono FROM arc"):
            arcs.setdefault(file, set()).add((start, end))
        return {
            name: Executed(
                lines=_lines(bits.get(file, 0), arcs.get(file, ())),
                arcs=frozenset(arcs.get(file, ())),
            )
            for file, name in db.execute("SELECT id, path FROM file")
        }


def _lines(bits: int, arcs: Collection[Arc]) -> frozenset[int]:
    if arcs:
        return frozenset(line for arc in arcs for line in arc if line > 0)
    length = (bits.bit_length() + 7) // 8
    return frozenset(numbits_to_nums(bits.to_bytes(length, "little")))


def read_import_lines(path: Path, files: Collection[str]) -> dict[str, frozenset[int]]:
    """Lines that ran at import time, for those of `files` that were imported at all."""
    found: dict[str, frozenset[int]] = {}
    with opened(path) as db:
        for name, numbits in db.execute(
            "SELECT path, numbits FROM line_bits JOIN file ON file.id = file_id"
            " JOIN context ON context.id = context_id WHERE context = ?",
            (IMPORT_CONTEXT,),
        ):
            if name in files:
                found[name] = frozenset(numbits_to_nums(numbits))
        for name, start, end in db.execute(
            "SELECT path, fromno, tono FROM arc JOIN file ON file.id = file_id"
            " JOIN context ON context.id = context_id WHERE context = ?",
            (IMPORT_CONTEXT,),
        ):
            if name in files:
                ends = frozenset(line for line in (start, end) if line > 0)
                found[name] = found.get(name, frozenset()) | ends
    return found


def read_contexts(path: Path) -> frozenset[str]:
    """Every context's name: test ids, fixtures' names, and "" for import time."""
    with opened(path) as db:
        return frozenset(name for (name,) in db.execute("SELECT context FROM context"))


def read_tests(path: Path) -> dict[str, TestRecord]:
    """Every test that the snapshot rests on, by id."""
    with opened(path) as db:
        rows = db.execute("SELECT test, module, status, seconds, executed FROM covtrack_test")
        return {
            test: TestRecord(
                test=test, module=module, status=Status(status), seconds=seconds, executed=commit
            )
            for test, module, status, seconds, commit in rows
        }


def read_settings_key(path: Path) -> str | None:
    """The settings key under which the snapshot was recorded."""
    with opened(path) as db:
        row = db.execute("SELECT value FROM meta WHERE key = ?", (SETTINGS_KEY,)).fetchone()
        return str(row[0]) if row else None


def has_arcs(path: Path) -> bool:
    """Whether the snapshot records branches."""
    with opened(path) as db:
        row = db.execute("SELECT value FROM meta WHERE key = 'has_arcs'").fetchone()
        return row is not None and row[0] in ("1", "True")


def write_snapshot(
    target: Path,
    *,
    base: Path | None,
    plan: MergePlan,
    fresh: Sequence[Path],
    tests: Iterable[TestRecord],
    measured: Collection[str],
    key: str,
) -> None:
    """Write `target` from the base's rows by `plan`, then the rows of the `fresh` data files.

    `tests` are all tests of the new commit, `measured` the paths that it measures whether they
    ran or not, `key` its settings key. The file appears whole or
    not at all.
    """
    new = target.with_name(f"{target.name}.{os.getpid()}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if base is None:
            _create(new, arcs=any(has_arcs(path) for path in fresh))
        else:
            shutil.copyfile(base, new)
        with opened(new) as db:
            db.execute("PRAGMA synchronous = OFF")
            with db:
                _drop_contexts(db, plan.dropped)
                _move_files(db, plan.moves)
                _write_tests(db, tests, key)
            for path in fresh:
                _add_rows(db, path)
            with db:
                _name_files(db, measured)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(target)
    except OSError as error:
        raise DataError(
            f"The snapshot {target.name} cannot be written: {error.strerror}.",
            advice=f"Make room below {target.parent}; nothing stored was changed.",
        ) from error
    finally:
        with suppress(OSError):  # not there, or its folder cannot be one
            new.unlink()


def _create(path: Path, *, arcs: bool) -> None:
    """An empty data file by coverage.py's own hand, so that its version is its own."""
    path.unlink(missing_ok=True)
    data = CoverageData(basename=str(path))
    try:
        (data.add_arcs if arcs else data.add_lines)({"covtrack": []})
        data.write()
    except CoverageException as error:
        raise DataError(f"The snapshot {path.name} cannot be written: {error}.") from error
    finally:
        data.close()
    with opened(path) as db, db:
        db.execute("DELETE FROM file")


def _drop_contexts(db: sqlite3.Connection, contexts: Collection[str]) -> None:
    db.execute("CREATE TEMP TABLE dropped (id INTEGER PRIMARY KEY)")
    db.executemany(
        "INSERT INTO dropped SELECT id FROM context WHERE context = ?",
        ((name,) for name in contexts),
    )
    for table, column in (("line_bits", "context_id"), ("arc", "context_id"), ("context", "id")):
        db.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT id FROM dropped)")  # noqa: S608
    db.execute("DROP TABLE dropped")


def _move_files(db: sqlite3.Connection, moves: Mapping[str, FileMove]) -> None:
    """Move rows to their new file and lines; old names are freed first, they may be swapped."""
    files = dict(db.execute("SELECT path, id FROM file"))
    parted = [(move, files[old]) for old, move in moves.items() if old in files]
    freed = ((f"\0{file}", file) for _, file in parted)
    db.executemany("UPDATE file SET path = ? WHERE id = ?", freed)
    for move, old in parted:
        if move.new is not None:
            db.execute("INSERT OR IGNORE INTO file (path) VALUES (?)", (move.new,))
            (new,) = db.execute("SELECT id FROM file WHERE path = ?", (move.new,)).fetchone()
            _move_bits(db, move, old, new)
            _move_arcs(db, move, old, new)
        _drop_file(db, old)


def _move_bits(db: sqlite3.Connection, move: FileMove, old: int, new: int) -> None:
    """Many contexts run the same lines of a file: each set of lines is mapped once."""
    rows = db.execute(
        "SELECT context_id, context, numbits FROM line_bits JOIN context ON id = context_id"
        " WHERE file_id = ?",
        (old,),
    ).fetchall()
    kinds = {(numbits, context == IMPORT_CONTEXT): context for _, context, numbits in rows}
    moved = {
        kind: nums_to_numbits(move.move_lines(numbits_to_nums(kind[0]), context))
        for kind, context in kinds.items()
    }
    carried = ((new, i, moved[numbits, name == IMPORT_CONTEXT]) for i, name, numbits in rows)
    db.executemany("INSERT INTO line_bits VALUES (?, ?, ?)", (row for row in carried if row[2]))


def _move_arcs(db: sqlite3.Connection, move: FileMove, old: int, new: int) -> None:
    """Map each distinct arc once, and let the database move the rows of all contexts."""
    query = (
        "SELECT DISTINCT fromno, tono, context = ? FROM arc JOIN context ON id = context_id"
        " WHERE file_id = ?"
    )
    arcs = db.execute(query, (IMPORT_CONTEXT, old)).fetchall()
    db.execute(
        "CREATE TEMP TABLE moved (fromno INTEGER, tono INTEGER, imported INTEGER,"
        " newfrom INTEGER, newto INTEGER,"
        " PRIMARY KEY (fromno, tono, imported, newfrom, newto)) WITHOUT ROWID"
    )
    db.executemany(
        "INSERT INTO moved VALUES (?, ?, ?, ?, ?)",
        (
            (start, end, imported, *arc)
            for start, end, imported in arcs
            for arc in move.move_arcs([(start, end)], IMPORT_CONTEXT if imported else "test")
        ),
    )
    db.execute(
        "INSERT OR IGNORE INTO arc SELECT ?, a.context_id, m.newfrom, m.newto"
        " FROM arc AS a CROSS JOIN context AS c ON c.id = a.context_id CROSS JOIN moved AS m"
        " ON m.fromno = a.fromno AND m.tono = a.tono AND m.imported = (c.context = ?)"
        " WHERE a.file_id = ?",
        (new, IMPORT_CONTEXT, old),
    )
    db.execute("DROP TABLE temp.moved")


def _drop_file(db: sqlite3.Connection, file: int) -> None:
    for table in ("line_bits", "arc", "tracer"):
        db.execute(f"DELETE FROM {table} WHERE file_id = ?", (file,))  # noqa: S608
    db.execute("DELETE FROM file WHERE id = ?", (file,))


def _write_tests(db: sqlite3.Connection, tests: Iterable[TestRecord], key: str) -> None:
    db.execute(TESTS)
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (SETTINGS_KEY, key))
    db.execute("DELETE FROM covtrack_test")
    db.executemany(
        "INSERT INTO covtrack_test VALUES (?, ?, ?, ?, ?)",
        ((t.test, t.module, t.status.value, t.seconds, t.executed) for t in tests),
    )


def _name_files(db: sqlite3.Connection, measured: Collection[str]) -> None:
    """Make the file table name exactly the measured files: coverage.py reports on those."""
    db.executemany("INSERT OR IGNORE INTO file (path) VALUES (?)", ((p,) for p in measured))
    for path, file in list(db.execute("SELECT path, id FROM file")):
        if path not in measured:
            _drop_file(db, file)


def _add_rows(db: sqlite3.Connection, path: Path) -> None:
    """Union a worker's rows in; files outside the project's root have absolute paths."""
    db.execute("ATTACH ? AS fresh", (str(path),))
    try:
        with db:
            db.execute(
                "INSERT OR IGNORE INTO file (path) SELECT path FROM fresh.file"
                " WHERE path NOT LIKE '/%'"
            )
            db.execute("INSERT OR IGNORE INTO context (context) SELECT context FROM fresh.context")
            join = (
                " FROM fresh.{0} AS r JOIN fresh.file AS ff ON ff.id = r.file_id"
                " JOIN file AS f ON f.path = ff.path"
                " JOIN fresh.context AS fc ON fc.id = r.context_id"
                " JOIN context AS c ON c.context = fc.context WHERE true"
            )
            db.execute(
                "INSERT INTO line_bits SELECT f.id, c.id, r.numbits"
                + join.format("line_bits")
                + " ON CONFLICT (file_id, context_id) DO UPDATE"
                " SET numbits = numbits_union(numbits, excluded.numbits)"
            )
            db.execute(
                "INSERT OR IGNORE INTO arc SELECT f.id, c.id, r.fromno, r.tono"
                + join.format("arc")
            )
    finally:
        db.execute("DETACH fresh")
