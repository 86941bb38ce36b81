"""Makes a repository and a snapshot of nova's size out of a real project and its real snapshot.

The real package is laid out many times below `nova/`, so that every file is real code with its
real statements. Each test of the copies has the rows of several real tests, one of which always
lies in the first copy: that one is the core that all tests go through.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from coverage import CoverageData
from real_projects import git

from jobs.results import Status
from jobs.snapshot import TestRecord

TOP = "nova"
Bits = dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many copies of the package, how many tests, and of how many real tests each is made."""

    copies: int
    tests: int
    mixed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A real snapshot, read: by context, lines as bits by path, and what else it touched."""

    package: str
    measured: frozenset[str]
    rows: Mapping[str, Bits]
    touched: Mapping[str, Sequence[tuple[str, str]]]
    tests: Mapping[str, tuple[str, float]]


def read_template(path: Path) -> Template:
    """The snapshot at `path`; its package is what most measured files lie in."""
    rows: dict[str, Bits] = defaultdict(dict)
    touched: dict[str, list[tuple[str, str]]] = defaultdict(list)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        for context, name, numbits in db.execute(
            "SELECT context, path, numbits FROM line_bits JOIN context c ON c.id = context_id"
            " JOIN file ON file.id = file_id UNION ALL"
            " SELECT context, path, numbits FROM covtrack_bits JOIN context c ON c.id = context_id"
        ):
            rows[context][name] = int.from_bytes(numbits, "little")
        for context, kind, name in db.execute(
            "SELECT context, kind, name FROM covtrack_touched JOIN context ON id = context_id"
        ):
            touched[context].append((kind, name))
        tests = {
            test: (module, seconds)
            for test, module, seconds in db.execute(
                "SELECT test, module, seconds FROM covtrack_test"
            )
        }
        measured = frozenset(name for (name,) in db.execute("SELECT path FROM file"))
    tops = [name.partition("/")[0] for name in measured]
    package = max(set(tops), key=tops.count)
    return Template(package=package, measured=measured, rows=rows, touched=touched, tests=tests)


class Copies:
    """The template's paths, names and contexts as they are in a copy of its package."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self._word = template.package

    def path(self, copy: int, path: str) -> str:
        """A path of the tree; others stay."""
        inside = path.startswith(f"{self._word}/")
        return f"{TOP}/c{copy:02}/{path}" if inside else path

    def name(self, copy: int, name: str) -> str:
        """A dotted name below the package; others stay."""
        inside = name == self._word or name.startswith(f"{self._word}.")
        return f"{TOP}.c{copy:02}.{name}" if inside else name

    def context(self, copy: int, context: str) -> str:
        """A test, a fixture or a file's import."""
        return self.path(copy, self.name(copy, context))

    def rows(self, copy: int, context: str) -> Iterator[tuple[str, int]]:
        """What a context ran, with the paths of the copy."""
        for path, bits in self.template.rows.get(context, {}).items():
            yield self.path(copy, path), bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One context of the large snapshot: lines as bits by path, and (kind, name) touched."""

    context: str
    ran: Mapping[str, int]
    touched: frozenset[tuple[str, str]]


def make_rows(template: Template, size: Size, chance: random.Random) -> Iterator[Row]:
    """Every context's row: first what is no test, of all copies, then the tests."""
    copies = Copies(template)
    for copy in range(size.copies):
        for context in template.rows.keys() - template.tests.keys():
            yield _mix(copies, [(copy, context)])
    real = sorted(template.tests)
    for copy, test in _choose_tests(real, size, chance):
        others = [(0, chance.choice(real))]
        others += [
            (chance.randrange(size.copies), chance.choice(real)) for _ in range(2, size.mixed)
        ]
        yield _mix(copies, [(copy, test), *others])


def _choose_tests(real: Sequence[str], size: Size, chance: random.Random) -> list[tuple[int, str]]:
    every = [(copy, test) for copy in range(size.copies) for test in real]
    return sorted(chance.sample(every, min(size.tests, len(every))))


def _mix(copies: Copies, parts: Sequence[tuple[int, str]]) -> Row:
    ran: Bits = {}
    touched: set[tuple[str, str]] = set()
    for copy, context in parts:
        for path, bits in copies.rows(copy, context):
            ran[path] = ran.get(path, 0) | bits
        for kind, name in copies.template.touched.get(context, ()):
            touched.add((kind, copies.context(copy, name)))
    return Row(context=copies.context(*parts[0]), ran=ran, touched=frozenset(touched))


def make_records(template: Template, rows: Iterable[Row], commit: str) -> dict[str, TestRecord]:
    """The test records of those rows that are tests."""
    copies, names = Copies(template), {}
    for copy in range(100):
        for test, (module, seconds) in template.tests.items():
            names[copies.context(copy, test)] = copies.name(copy, module), seconds
    return {
        row.context: TestRecord(
            test=row.context,
            module=names[row.context][0],
            status=Status.PASSED,
            seconds=names[row.context][1],
            executed=commit,
            reason="it is a full run",
        )
        for row in rows
        if row.context in names
    }


def lay_out(template: Template, source: Path, revision: str, size: Size, target: Path) -> str:
    """A repository with the copies of the package at `revision` of `source`; its first commit."""
    shutil.rmtree(target, ignore_errors=True)
    package = target / "package"
    package.mkdir(parents=True)
    git(target, "init", "--quiet", "--initial-branch", "master")
    archive = target / "package.tar"
    git(source, "archive", "--output", str(archive), revision, template.package)
    shutil.unpack_archive(archive, package)
    archive.unlink()
    for copy in range(size.copies):
        place = target / TOP / f"c{copy:02}"
        shutil.copytree(package / template.package, place / template.package)
        (place / "__init__.py").touch()
        for path in place.rglob("*.py"):  # each its own blob: the statements' cache goes by blob
            path.write_text(f"{path.read_text()}# Copy {copy}.\n")
    (target / TOP / "__init__.py").touch()
    shutil.rmtree(package)
    (target / ".coveragerc").write_text(
        f"[run]\nsource = {TOP}\nomit = */tests/*\nrelative_files = True\n"
    )
    return commit_all(target, "The tree")


def commit_all(repository: Path, subject: str) -> str:
    """Commit all that is in the work tree; the commit's sha."""
    git(repository, "add", "--all")
    person = ["-c", "user.name=Benchmark", "-c", "user.email=benchmark@localhost"]
    git(repository, *person, "commit", "--quiet", "--message", subject)
    return git(repository, "rev-parse", "HEAD")


def write_worker(path: Path, rows: Sequence[Row], *, only: frozenset[str] | None = None) -> None:
    """A data file as a worker leaves it; of the paths `only`, if given."""
    path.unlink(missing_ok=True)
    data = CoverageData(basename=str(path))
    names = sorted({name for row in rows for name in row.ran if only is None or name in only})
    data.add_lines({name: [] for name in names})
    data.write()
    data.close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("DELETE FROM line_bits")
        db.execute("DELETE FROM context")
        files = dict(db.execute("SELECT path, id FROM file"))
        contexts = ((number, row.context) for number, row in enumerate(rows, 1))
        db.executemany("INSERT INTO context (id, context) VALUES (?, ?)", contexts)
        found = (
            (files[name], number, bits.to_bytes((bits.bit_length() + 7) // 8, "little"))
            for number, row in enumerate(rows, 1)
            for name, bits in row.ran.items()
            if name in files and bits
        )
        db.executemany("INSERT INTO line_bits VALUES (?, ?, ?)", found)


def write_footprint(path: Path, rows: Iterable[Row]) -> None:
    """What measured/footprint.py would have left of the rows."""
    noted: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for kind, name in row.touched:
            noted[kind][name].append(row.context)
    path.write_text(json.dumps(noted))
