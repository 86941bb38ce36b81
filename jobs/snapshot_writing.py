"""Writes snapshots: a base's rows moved to where their code is now, and what workers recorded.

Knows coverage.py's tables and those of jobs.snapshot; decides nothing about what is carried.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from coverage import CoverageData
from coverage.exceptions import CoverageException
from coverage.numbits import numbits_to_nums, nums_to_numbits

from jobs.measure import Executed
from jobs.merge import FileMove, MergePlan
from jobs.snapshot import (
    GROUND_KEY,
    OF_CONTEXT,
    SETTINGS_KEY,
    TABLES,
    Circumstances,
    TestRecord,
    has_arcs,
    opened,
)
from jobs.unions import Unions
from venv_builder.errors import DataError

# Few contexts are looked up file by file in the table's only index, many by reading all of it.
_DROPPED_BY_PAIR = (
    "SELECT b.rowid AS row FROM dropped AS d CROSS JOIN file AS f CROSS JOIN line_bits AS b"
    " ON b.file_id = f.id AND b.context_id = d.id"
)
_DROPPED_BY_SCAN = (
    "SELECT rowid AS row FROM line_bits WHERE context_id IN (SELECT id FROM dropped)"
)


def write_snapshot(
    target: Path,
    *,
    base: Path | None,
    plan: MergePlan,
    fresh: Sequence[Path],
    tests: Iterable[TestRecord],
    measured: Collection[str],
    key: str,
    circumstances: Circumstances,
    touched: Sequence[Path] = (),
) -> None:
    """Write `target` from the base's rows by `plan`, then the rows of the `fresh` data files.

    `tests` are all tests of the new commit, `measured` the paths that it measures whether they
    ran or not, `key` its settings key, `touched` the footprint files of measured/footprint.py.
    The file appears whole or not at all.
    """
    new = target.with_name(f"{target.name}.{os.getpid()}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if base is None:
            create_empty(new, arcs=any(has_arcs(path) for path in fresh))
        else:
            shutil.copyfile(base, new)
        with opened(new) as db:
            db.execute("PRAGMA synchronous = OFF")
            with db:
                for table in TABLES:
                    db.execute(table)
                unions = Unions(db)
                _drop_contexts(db, plan.dropped, unions)
                _move_files(db, plan.moves, unions)
                _move_uses(db, plan.moves)
                _write_tests(db, tests)
                _write_meta(db, {SETTINGS_KEY: key, GROUND_KEY: json.dumps(asdict(circumstances))})
            for path in fresh:
                _add_rows(db, path, unions)
            with db:
                for path in touched:
                    _add_touched(db, path)
                _name_files(db, measured)
                unions.write()
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


def write_rows(path: Path, rows: Mapping[str, Mapping[str, Executed]], *, arcs: bool) -> None:
    """Write a plain data file of `rows`, by context and path: as a worker would have left it."""
    create_empty(path, arcs=arcs)
    names = sorted({name for files in rows.values() for name in files})
    with opened(path) as db, db:
        db.executemany("INSERT INTO file (path) VALUES (?)", ((name,) for name in names))
        db.executemany("INSERT INTO context (context) VALUES (?)", ((name,) for name in rows))
        files = dict(db.execute("SELECT path, id FROM file"))
        contexts = dict(db.execute("SELECT context, id FROM context"))
        ran = [
            (files[name], contexts[context], executed)
            for context, found in rows.items()
            for name, executed in found.items()
        ]
        db.executemany(
            "INSERT INTO line_bits VALUES (?, ?, ?)",
            ((f, c, nums_to_numbits(ran.lines)) for f, c, ran in ran if ran.lines),
        )
        db.executemany(
            "INSERT INTO arc VALUES (?, ?, ?, ?)",
            ((f, c, *arc) for f, c, ran in ran for arc in ran.arcs),
        )


def create_empty(path: Path, *, arcs: bool) -> None:
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
        # A file's number is given again, and the empty row of "covtrack" would be another's.
        for table in ("file", "context", "line_bits"):
            db.execute(f"DELETE FROM {table}")  # noqa: S608


def _drop_contexts(db: sqlite3.Connection, contexts: Collection[str], unions: Unions) -> None:
    db.execute("CREATE TEMP TABLE dropped (id INTEGER PRIMARY KEY)")
    db.executemany(
        "INSERT INTO dropped SELECT id FROM context WHERE context = ?",
        ((name,) for name in contexts),
    )
    (count,) = db.execute("SELECT count(*) FROM dropped").fetchone()
    (files,) = db.execute("SELECT count(*) FROM file").fetchone()
    (rows,) = db.execute("SELECT max(rowid) FROM line_bits").fetchone()
    found = _DROPPED_BY_PAIR if count * files < (rows or 0) // 4 else _DROPPED_BY_SCAN
    db.execute(f"CREATE TEMP TABLE dropped_bits AS {found}")
    bits = "SELECT file_id, numbits FROM line_bits WHERE rowid IN (SELECT row FROM dropped_bits)"
    unions.lose(db.execute(bits))
    db.execute("DELETE FROM line_bits WHERE rowid IN (SELECT row FROM dropped_bits)")
    others = (table for table in OF_CONTEXT if table != "line_bits")
    for table, column in (*((table, "context_id") for table in others), ("context", "id")):
        db.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT id FROM dropped)")  # noqa: S608
    db.execute("DROP TABLE dropped")
    db.execute("DROP TABLE dropped_bits")


def _move_files(db: sqlite3.Connection, moves: Mapping[str, FileMove], unions: Unions) -> None:
    """Move rows to their new file and lines; old names are freed first, they may be swapped."""
    files = dict(db.execute("SELECT path, id FROM file"))
    parted = [(move, files[old]) for old, move in moves.items() if old in files]
    freed = ((f"\0{file}", file) for _, file in parted)
    db.executemany("UPDATE file SET path = ? WHERE id = ?", freed)
    for move, old in parted:
        if move.new is not None:
            db.execute("INSERT OR IGNORE INTO file (path) VALUES (?)", (move.new,))
            (new,) = db.execute("SELECT id FROM file WHERE path = ?", (move.new,)).fetchone()
            _move_bits(db, move, old, new, unions)
            _move_arcs(db, move, old, new)
        _drop_file(db, old)
        unions.forget(old)


def _move_bits(db: sqlite3.Connection, move: FileMove, old: int, new: int, unions: Unions) -> None:
    query = "SELECT context_id, numbits FROM line_bits WHERE file_id = ?"
    rows = list(_moved(move, db.execute(query, (old,))))
    unions.gain((new, numbits) for _, numbits in rows)
    db.executemany(f"INSERT INTO line_bits VALUES ({new}, ?, ?)", rows)  # noqa: S608


def _moved(move: FileMove, rows: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Many contexts run the same lines of a file: each set of lines is mapped once."""
    known: dict[bytes, bytes] = {}
    for context, numbits in rows:
        if numbits not in known:
            known[numbits] = nums_to_numbits(move.move_lines(numbits_to_nums(numbits)))
        if known[numbits]:
            yield context, known[numbits]


def _move_uses(db: sqlite3.Connection, moves: Mapping[str, FileMove]) -> None:
    """Move the rows of files that are not measured; all are taken before one is put back."""
    taken = []
    for old, move in moves.items():
        query = "SELECT context_id, numbits FROM covtrack_bits WHERE path = ?"
        taken.append((move, db.execute(query, (old,)).fetchall()))
        db.execute("DELETE FROM covtrack_bits WHERE path = ?", (old,))
    for move, rows in taken:
        if move.new is not None:
            put = ((move.new, *row) for row in _moved(move, rows))
            db.executemany("INSERT OR REPLACE INTO covtrack_bits VALUES (?, ?, ?)", put)


def _move_arcs(db: sqlite3.Connection, move: FileMove, old: int, new: int) -> None:
    """Map each distinct arc once, and let the database move the rows of all contexts."""
    query = "SELECT DISTINCT fromno, tono FROM arc WHERE file_id = ?"
    arcs = db.execute(query, (old,)).fetchall()
    db.execute(
        "CREATE TEMP TABLE moved (fromno INTEGER, tono INTEGER, newfrom INTEGER, newto INTEGER,"
        " PRIMARY KEY (fromno, tono, newfrom, newto)) WITHOUT ROWID"
    )
    db.executemany(
        "INSERT INTO moved VALUES (?, ?, ?, ?)",
        ((*arc, *new_arc) for arc in arcs for new_arc in move.move_arcs([arc])),
    )
    db.execute(
        "INSERT OR IGNORE INTO arc SELECT ?, a.context_id, m.newfrom, m.newto"
        " FROM arc AS a CROSS JOIN moved AS m ON m.fromno = a.fromno AND m.tono = a.tono"
        " WHERE a.file_id = ?",
        (new, old),
    )
    db.execute("DROP TABLE temp.moved")


def _drop_file(db: sqlite3.Connection, file: int) -> None:
    for table in ("line_bits", "arc", "tracer"):
        db.execute(f"DELETE FROM {table} WHERE file_id = ?", (file,))  # noqa: S608
    db.execute("DELETE FROM file WHERE id = ?", (file,))


def _write_tests(db: sqlite3.Connection, tests: Iterable[TestRecord]) -> None:
    """Put in those of `tests` that the base does not have just so, and take out all others."""
    known = {row[0]: row for row in db.execute("SELECT * FROM covtrack_test")}
    records = tuple(tests)
    rows = [(t.test, t.module, t.status.value, t.seconds, t.executed, t.reason) for t in records]
    gone = known.keys() - {row[0] for row in rows}
    db.executemany("DELETE FROM covtrack_test WHERE test = ?", ((test,) for test in gone))
    db.executemany(
        "INSERT OR REPLACE INTO covtrack_test VALUES (?, ?, ?, ?, ?, ?)",
        (row for row in rows if known.get(row[0]) != row),
    )
    db.execute("DELETE FROM covtrack_spared")
    spared = ((t.test, t.spared, t.spared_for) for t in records if t.spared)
    db.executemany("INSERT INTO covtrack_spared VALUES (?, ?, ?)", spared)


def _write_meta(db: sqlite3.Connection, values: Mapping[str, str]) -> None:
    db.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", values.items())


def _name_files(db: sqlite3.Connection, measured: Collection[str]) -> None:
    """Make the file table name exactly the measured files: coverage.py reports on those.

    What ran of the others is kept as their use.
    """
    db.executemany("INSERT OR IGNORE INTO file (path) VALUES (?)", ((p,) for p in measured))
    for path, file in list(db.execute("SELECT path, id FROM file")):
        if path not in measured:
            _keep_uses(db, path, file)
            _drop_file(db, file)


def _keep_uses(db: sqlite3.Connection, path: str, file: int) -> None:
    union = (
        "INSERT INTO covtrack_bits VALUES (?, ?, ?) ON CONFLICT (path, context_id)"
        " DO UPDATE SET numbits = numbits_union(numbits, excluded.numbits)"
    )
    bits = db.execute("SELECT context_id, numbits FROM line_bits WHERE file_id = ?", (file,))
    db.executemany(union, [(path, *row) for row in bits])
    lines: dict[int, set[int]] = {}
    for context, *ends in db.execute(
        "SELECT context_id, fromno, tono FROM arc WHERE file_id = ?", (file,)
    ):
        lines.setdefault(context, set()).update(line for line in ends if line > 0)
    db.executemany(union, ((path, c, nums_to_numbits(found)) for c, found in lines.items()))


def _add_touched(db: sqlite3.Connection, path: Path) -> None:
    """Add what measured/footprint.py noted."""
    noted: Mapping[str, Mapping[str, Sequence[str]]] = json.loads(path.read_text())
    rows = [
        (kind, name, context)
        for kind, names in noted.items()
        for name, contexts in names.items()
        for context in contexts
    ]
    db.executemany(
        "INSERT OR IGNORE INTO context (context) VALUES (?)", ((c,) for c in {r[2] for r in rows})
    )
    db.executemany(
        "INSERT OR IGNORE INTO covtrack_touched SELECT ?, ?, id FROM context WHERE context = ?",
        rows,
    )


def _add_rows(db: sqlite3.Connection, path: Path, unions: Unions) -> None:
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
            unions.gain(
                db.execute(
                    "SELECT f.id, r.numbits FROM fresh.line_bits AS r"
                    " JOIN fresh.file AS ff ON ff.id = r.file_id"
                    " JOIN file AS f ON f.path = ff.path"
                )
            )
            db.execute(
                "INSERT OR IGNORE INTO arc SELECT f.id, c.id, r.fromno, r.tono"
                + join.format("arc")
            )
    finally:
        db.execute("DETACH fresh")
