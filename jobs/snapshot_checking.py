"""Whether a snapshot from elsewhere is what it claims to be: other people's code may have made it.

SQLite obeys what a file's schema says (triggers, views, expressions), so the schema has to be,
word for word, the one that this covtrack makes; then come structure, types, references and
names, and what a result says is compared with what its snapshot holds.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from time import monotonic
from typing import NoReturn
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from jobs.results import JobResult, Status
from jobs.snapshot import (
    GROUND_KEY,
    TABLES,
    Circumstances,
    count_proofs,
    opened,
    read_executed,
    read_tests,
)
from jobs.snapshot_writing import create_empty
from jobs.unions import TABLE as UNION_TABLE
from jobs.unions import are_true, has_unions
from venv_builder.errors import RefusedError

LONGEST_VALUE = 64 * 2**20
LARGEST_BITS = 2**17  # bytes of a set of lines: files of a million lines
LARGEST_LINE = 8 * LARGEST_BITS
SECONDS = 600.0
_SQL_COMMENT = re.compile(r"--[^\n]*")
_MAGIC = b"SQLite format 3\0"
_TYPES = {
    "file": {"path": "text"},
    "context": {"context": "text"},
    "meta": {"key": "text", "value": "text"},
    "line_bits": {"file_id": "integer", "context_id": "integer", "numbits": "blob"},
    "arc": {
        "file_id": "integer",
        "context_id": "integer",
        "fromno": "integer",
        "tono": "integer",
    },
    "covtrack_test": {
        "test": "text",
        "module": "text",
        "status": "text",
        "seconds": "real",
        "executed": "text",
        "reason": "text",
    },
    "covtrack_bits": {"path": "text", "context_id": "integer", "numbits": "blob"},
    "covtrack_touched": {"kind": "text", "name": "text", "context_id": "integer"},
    "covtrack_spared": {"test": "text", "since": "text", "reason": "text"},
}
_UNION = {"covtrack_union": {"file_id": "integer", "numbits": "blob"}}
_REFERENCES = {"file_id": "file", "context_id": "context"}


def _wrong(tables: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    """What SQL has to find nothing of, and the sentence where it does."""
    for table, columns in tables.items():
        for column, kind in columns.items():
            yield (
                f"{table} WHERE typeof({column}) != '{kind}'",
                f"{table}.{column} has a wrong type",
            )
            if other := _REFERENCES.get(column):
                unknown = f"{column} NOT IN (SELECT id FROM {other})"  # noqa: S608
                yield f"{table} WHERE {unknown}", f"{table} names an unknown {other}"
            if column == "numbits":
                rest = f"{table} WHERE length(numbits) > {LARGEST_BITS}"
                yield rest, f"{table} has a line beyond all files"
    far = f"arc WHERE abs(fromno) > {LARGEST_LINE} OR abs(tono) > {LARGEST_LINE}"
    yield far, "arc has a line beyond all files"
    unknown = "covtrack_spared WHERE test NOT IN (SELECT test FROM covtrack_test)"
    yield unknown, "covtrack_spared names an unknown test"


def check_snapshot(path: Path) -> None:
    """Raise RefusedError unless the file is a snapshot as this covtrack writes them."""
    with _opened(path) as db:
        united = has_unions(db)
        if _schema(db) != _own_schema(united=united):
            _refuse("its tables are not those of this covtrack's snapshots")
        found = db.execute("PRAGMA quick_check(1)").fetchone()
        if found is None or found[0] != "ok":
            _refuse("SQLite finds it damaged")
        for rest, sentence in _wrong(_TYPES | _UNION if united else _TYPES):
            if db.execute(f"SELECT 1 FROM {rest} LIMIT 1").fetchone():  # noqa: S608
                _refuse(sentence)
        if united and not are_true(db):
            _refuse("the lines that it says ran are not those that its tests ran")
        _check_names(db)
        _check_tests(db)
        _check_meta(db)


def _refuse(why: str) -> NoReturn:
    raise RefusedError(f"A snapshot is refused: {why}.", advice="Nothing of it was stored.")


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, read-only and untrusted; a hostile one cannot take for ever."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            _refuse("it is no SQLite file")
    deadline = monotonic() + SECONDS
    try:
        address = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as db:
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
            db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            db.set_progress_handler(lambda: monotonic() > deadline, 100_000)
            for name in ("trusted_schema = OFF", "cell_size_check = ON", "query_only = ON"):
                db.execute(f"PRAGMA {name}")
            yield db
    except sqlite3.Error as error:
        _refuse(f"SQLite cannot read it ({' '.join(str(error).split())[:100]})")
    except (UnicodeDecodeError, OverflowError) as error:
        _refuse(f"it holds a value that cannot be read ({type(error).__name__})")


def _schema(db: sqlite3.Connection) -> list[tuple[str, ...]]:
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT 100")
    return sorted(tuple(_plain(value) for value in row) for row in rows)


def _plain(value: object) -> str:
    return " ".join(_SQL_COMMENT.sub("", value).split()) if isinstance(value, str) else "-"


def _own_schema(*, united: bool) -> list[tuple[str, ...]]:
    with TemporaryDirectory() as folder:
        path = Path(folder, "empty.coverage")
        create_empty(path, arcs=False)
        with opened(path) as db:
            for table in (*TABLES, *((UNION_TABLE,) if united else ())):
                db.execute(table)
            return _schema(db)


def _check_names(db: sqlite3.Connection) -> None:
    for table in ("file", "covtrack_bits"):
        for (name,) in db.execute(f"SELECT DISTINCT path FROM {table}"):  # noqa: S608
            if not is_inside(name):
                _refuse(f"it names a file outside of the project ({name[:80]!r})")


def is_inside(name: str) -> bool:
    """Whether a path is relative, and stays below the folder that it counts from."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and "\0" not in name


def _check_tests(db: sqlite3.Connection) -> None:
    known = {status.value for status in Status}
    for status, seconds in db.execute("SELECT DISTINCT status, seconds FROM covtrack_test"):
        if status not in known or not (math.isfinite(seconds) and seconds >= 0):
            _refuse("it has a test with an outcome or a duration that cannot be")


def _check_meta(db: sqlite3.Connection) -> None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (GROUND_KEY,)).fetchone()
    try:
        TypeAdapter(Circumstances).validate_python(json.loads(row[0]) if row else None)
    except (ValueError, ValidationError, RecursionError):
        _refuse("it does not say what its tests ran under")


def check_result(result: JobResult, files: Collection[str]) -> None:
    """Raise RefusedError where a result says other than its (checked) snapshot and its commit.

    `files` are all paths of the commit. What the result says of lines is compared with the lines
    that ran; how many statements a file has is the step's word.
    """
    executed, tests = read_executed(result.snapshot), read_tests(result.snapshot)
    for file in result.measurement.files:
        counts = file.counts
        if file.path not in files:
            _refuse(f"its result measures a file that the commit lacks ({file.path[:80]!r})")
        if counts.covered > counts.statements or counts.branches_covered > counts.branches:
            _refuse(f"more is covered of {file.path[:80]!r} than there is")
        if len(set(file.missing)) != counts.statements - counts.covered:
            _refuse(f"the lines that did not run of {file.path[:80]!r} are not as many as it says")
        exits = counts.branches - counts.branches_covered
        if len(set(file.missing_branches)) != exits:
            _refuse(f"the branches not taken of {file.path[:80]!r} are not as many as it says")
        ran = executed[file.path].lines if file.path in executed else frozenset()
        if ran.intersection(file.missing) or (counts.covered and not ran):
            _refuse(f"the result of {file.path[:80]!r} is not what its lines say")
    paths = [file.path for file in result.measurement.files]
    if paths != sorted(set(paths)):
        _refuse("its result names files twice or out of order")
    missing = {file.path: set(file.missing) for file in result.measurement.files}
    for path, lines in result.provisional.undecided.items() if result.provisional else ():
        if not missing.get(path, set()).issuperset(lines):
            _refuse(f"lines of {path[:80]!r} that ran are undecided")
    now = {outcome.test for outcome in result.outcomes}
    carried = count_proofs(record for test, record in tests.items() if test not in now)
    if dict(carried) != dict(result.carried) or carried.total() != result.tests.carried:
        _refuse("its result carries other tests than the snapshot does")
    if result.tests.run != len(result.outcomes):
        _refuse("its result counts other tests than it names")
