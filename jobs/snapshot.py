"""The snapshot: a coverage.py data file of one commit, with a context per test.

Beside `jobs.covering`, `jobs.cuts`, `jobs.footprint` and `jobs.tip_footprints` the only module
that knows coverage.py's tables (https://coverage.readthedocs.io/en/latest/dbschema.html). Beside
them it keeps tables of its own, which coverage.py ignores: each test's module, outcome, duration,
the commit where it last ran and why; the lines that each context ran of files that are not
measured; and what else each context touched.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from coverage.numbits import numbits_to_nums, register_sqlite_functions

from jobs.measure import Arc, Executed
from jobs.results import Status
from jobs.unions import read_unions
from venv_builder.errors import DataError

TABLES = (
    """CREATE TABLE IF NOT EXISTS covtrack_test (
    test TEXT PRIMARY KEY, module TEXT NOT NULL, status TEXT NOT NULL, seconds REAL NOT NULL,
    executed TEXT NOT NULL,  -- the commit at which the test last ran
    reason TEXT NOT NULL  -- why it ran there
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS covtrack_bits (  -- as line_bits, of files that do not count
    path TEXT NOT NULL, context_id INTEGER NOT NULL, numbits BLOB NOT NULL,
    PRIMARY KEY (path, context_id)
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS covtrack_touched (  -- kind: jobs.footprint.Touch
    kind TEXT NOT NULL, name TEXT NOT NULL, context_id INTEGER NOT NULL,
    PRIMARY KEY (kind, name, context_id)
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS covtrack_spared (  -- tests whose rows are not what they run now
    test TEXT PRIMARY KEY, since TEXT NOT NULL, reason TEXT NOT NULL
) WITHOUT ROWID""",
)
OF_CONTEXT = ("line_bits", "arc", "covtrack_bits", "covtrack_touched")
SETTINGS_KEY = "covtrack_settings"
GROUND_KEY = "covtrack_ground"
_OF_CONTEXTS = (
    "SELECT context, path, {0} FROM {1} JOIN context ON context.id = context_id"
    " JOIN file ON file.id = file_id WHERE context IN (SELECT value FROM json_each(?))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRecord:
    """A test as the snapshot knows it; at commit `executed` it last ran, for `reason`.

    If it is `spared` since a commit, for `spared_for`, it may run other lines now; every line of
    its row is in the row of another test that is not.
    """

    __test__ = False

    test: str
    module: str
    status: Status
    seconds: float
    executed: str
    reason: str = ""
    spared: str = ""
    spared_for: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What tests run under beside their tree: recording, variables, entry points, distributions.

    `recording` (interpreter, coverage.py and its settings), `variables` and `entry_points` are
    digests, `distributions` maps names to versions.
    """

    recording: str
    variables: str
    entry_points: str
    distributions: Mapping[str, str]


NAMES_OF_GROUND = {field.name for field in fields(Circumstances)}


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
        bits = read_unions(db)
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
    return lines_of_bits(bits)


def lines_of_bits(bits: int) -> frozenset[int]:
    """The numbers of the bits that are set."""
    length = (bits.bit_length() + 7) // 8
    return frozenset(numbits_to_nums(bits.to_bytes(length, "little")))


def read_measured(path: Path) -> frozenset[str]:
    """The files that count in the snapshot, whether they ran or not."""
    with opened(path) as db:
        return frozenset(name for (name,) in db.execute("SELECT path FROM file"))


def read_rows(path: Path, contexts: Collection[str]) -> dict[str, dict[str, Executed]]:
    """What each of the contexts ran, by context and path: lines, or arcs where these are kept.

    Only of files that are measured; contexts that ran nothing of them are left out.
    """
    found: dict[str, dict[str, Executed]] = {}
    with opened(path) as db:
        wanted = (json.dumps(sorted(contexts)),)
        known: dict[bytes, Executed] = {}
        for context, name, numbits in db.execute(
            _OF_CONTEXTS.format("numbits", "line_bits"), wanted
        ):
            if numbits not in known:
                known[numbits] = Executed(lines=frozenset(numbits_to_nums(numbits)))
            found.setdefault(context, {})[name] = known[numbits]
        arcs: dict[tuple[str, str], set[Arc]] = {}
        for context, name, *arc in db.execute(_OF_CONTEXTS.format("fromno, tono", "arc"), wanted):
            arcs.setdefault((context, name), set()).add((arc[0], arc[1]))
    for (context, name), ran in arcs.items():
        found.setdefault(context, {})[name] = Executed(arcs=frozenset(ran))
    return found


def read_contexts(path: Path) -> frozenset[str]:
    """Every context's name: test ids, fixtures and imports; "" for what is none of these."""
    with opened(path) as db:
        return frozenset(name for (name,) in db.execute("SELECT context FROM context"))


def read_tests(path: Path) -> dict[str, TestRecord]:
    """Every test that the snapshot rests on, by id."""
    with opened(path) as db:
        rows = db.execute(
            "SELECT test, module, status, seconds, executed, reason FROM covtrack_test"
        )
        spared = _read_spared(db)
        statuses = {status.value: status for status in Status}
        return {
            test: TestRecord(
                test=test,
                module=module,
                status=statuses[status],
                seconds=seconds,
                executed=commit,
                reason=reason,
                spared=spared.get(test, ("", ""))[0],
                spared_for=spared.get(test, ("", ""))[1],
            )
            for test, module, status, seconds, commit, reason in rows
        }


def count_proofs(records: Iterable[TestRecord]) -> Counter[str]:
    """By the commit where they ran last, the tests whose rows prove lines: none that is spared."""
    return Counter(record.executed for record in records if not record.spared)


def _read_spared(db: sqlite3.Connection) -> Mapping[str, tuple[str, str]]:
    """By test, since which commit it is spared, and what for; older files hold none."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'covtrack_spared'").fetchone():
        return {}
    return {test: (since, why) for test, since, why in db.execute("SELECT * FROM covtrack_spared")}


def read_settings_key(path: Path) -> str | None:
    """The settings key under which the snapshot was recorded."""
    return _read_meta(path, SETTINGS_KEY)


def read_circumstances(path: Path) -> Circumstances | None:
    """What the snapshot's tests ran under; None in a snapshot that does not tell."""
    text = _read_meta(path, GROUND_KEY)
    stored = json.loads(text) if text else {}
    return Circumstances(**stored) if stored.keys() == NAMES_OF_GROUND else None


def _read_meta(path: Path, key: str) -> str | None:
    with opened(path) as db:
        row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None


def has_arcs(path: Path) -> bool:
    """Whether the snapshot records branches."""
    with opened(path) as db:
        row = db.execute("SELECT value FROM meta WHERE key = 'has_arcs'").fetchone()
        return row is not None and row[0] in ("1", "True")
