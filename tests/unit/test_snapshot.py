"""jobs.snapshot with real data files of coverage.py, read back by both."""

from __future__ import annotations

import io
import runpy
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import chdir, closing
from pathlib import Path
from time import monotonic
from typing import Any

import coverage
from coverage import CoverageData
from hypothesis import given, settings
from hypothesis import strategies as st
from testtools import TestCase

from jobs.confinement import MEASURED
from jobs.diff import Hunk, LineMap
from jobs.measure import Arc, measure_tree
from jobs.merge import FileMove, MergePlan
from jobs.results import Status
from jobs.snapshot import (
    Circumstances,
    TestRecord,
    file_digest,
    has_arcs,
    is_data_file,
    read_circumstances,
    read_contexts,
    read_executed,
    read_settings_key,
    read_tests,
)
from jobs.snapshot_writing import write_snapshot
from jobs.statements import read_parsed
from venv_builder.errors import DataError

parse_file = runpy.run_path(str(MEASURED / "parse.py"))["parse_file"]

UNDER = Circumstances(recording="r", variables="v", entry_points="e", distributions={"six": "1"})
KEEP = MergePlan(dropped=frozenset(), moves={})
# {context: {file: lines}}
Lines = Mapping[str, Mapping[str, Sequence[int]]]
Arcs = Mapping[str, Mapping[str, Sequence[Arc]]]


class SnapshotCase(TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.written = 0

    def data_file(self, lines: Lines | None = None, arcs: Arcs | None = None) -> Path:
        """A data file as a worker leaves it."""
        self.written += 1
        path = self.folder / f".coverage.{self.written}"
        data = CoverageData(str(path))
        for context, files in (lines or {}).items():
            data.set_context(context)
            data.add_lines(files)
        for context, ends in (arcs or {}).items():
            data.set_context(context)
            data.add_arcs(ends)
        data.write()
        data.close()
        return path

    def write(
        self,
        fresh: Sequence[Path] = (),
        *,
        base: Path | None = None,
        plan: MergePlan = KEEP,
        measured: Sequence[str] = ("a.py", "b.py"),
        tests: Sequence[TestRecord] = (),
    ) -> Path:
        self.written += 1
        target = self.folder / f"snapshot-{self.written}"
        write_snapshot(
            target,
            base=base,
            plan=plan,
            fresh=fresh,
            tests=tests,
            measured=measured,
            key="k",
            circumstances=UNDER,
        )
        self.assertEqual(UNDER, read_circumstances(target))
        return target

    def rows(self, path: Path) -> dict[tuple[str, str], set[int]]:
        """{(context, file): lines} as coverage.py reads them."""
        data = CoverageData(str(path))
        data.read()
        found = {}
        for context in sorted(data.measured_contexts()):
            data.set_query_context(context)
            for file in sorted(data.measured_files()):
                lines = data.lines(file)
                if lines:
                    found[context, file] = set(lines)
        data.close()
        return found

    def files(self, path: Path) -> set[str]:
        data = CoverageData(str(path))
        data.read()
        files = data.measured_files()
        data.close()
        return files


class DataFileTest(SnapshotCase):
    def test_arcs_alone(self) -> None:
        files = {f"f{number}.py": [(line, line + 1) for line in range(99)] for number in range(99)}
        path = self.data_file(arcs={f"t{number}": files for number in range(30)})
        started = monotonic()
        self.assertTrue(is_data_file(path))
        # A join of the tables has 10**9 rows to try, and none fits, as there are no lines.
        self.assertLess(monotonic() - started, 5)

    def test_no_tables(self) -> None:
        path = self.folder / ".coverage"
        path.touch()
        self.assertFalse(is_data_file(path))
        path.write_text("no database")
        self.assertFalse(is_data_file(path))


class WriteTest(SnapshotCase):
    def test_union_of_workers(self) -> None:
        one = self.data_file({"": {"a.py": [1, 2]}, "t1": {"a.py": [3]}})
        two = self.data_file({"": {"a.py": [2, 9]}, "t2": {"a.py": [3, 4], "b.py": [300]}})
        snapshot = self.write([one, two])
        expected = {
            ("", "a.py"): {1, 2, 9},
            ("t1", "a.py"): {3},
            ("t2", "a.py"): {3, 4},
            ("t2", "b.py"): {300},
        }
        self.assertEqual(expected, self.rows(snapshot))
        self.assertEqual({"", "t1", "t2"}, read_contexts(snapshot))
        executed = read_executed(snapshot)
        self.assertEqual({1, 2, 3, 4, 9}, executed["a.py"].lines)
        self.assertEqual(frozenset(), executed["a.py"].arcs)
        self.assertFalse(has_arcs(snapshot))

    def test_rerun_contexts_go_and_come_back(self) -> None:
        rows = {"": {"a.py": [1]}, "t1": {"a.py": [2]}, "t2": {"a.py": [3]}}
        base = self.write([self.data_file(rows)])
        plan = MergePlan(dropped=frozenset({"t1", "t2", "never was"}), moves={})
        fresh = self.data_file({"t1": {"a.py": [5]}})
        snapshot = self.write([fresh], base=base, plan=plan)
        self.assertEqual({("", "a.py"): {1}, ("t1", "a.py"): {5}}, self.rows(snapshot))
        self.assertEqual({"", "t1"}, read_contexts(snapshot))

    def test_one_of_many_contexts_goes(self) -> None:
        """Few contexts of a large table are looked for otherwise than many."""
        rows = {f"t{number}": {"a.py": [1, number], "b.py": [2]} for number in range(3, 60)}
        base = self.write([self.data_file(rows)])
        plan = MergePlan(dropped=frozenset({"t7"}), moves={})
        snapshot = self.write([self.data_file({"t8": {"b.py": [9]}})], base=base, plan=plan)
        expected = {(c, f): set(lines) for c, fs in rows.items() for f, lines in fs.items()}
        del expected["t7", "a.py"], expected["t7", "b.py"]
        expected["t8", "b.py"].add(9)
        self.assertEqual(expected, self.rows(snapshot))
        ran = read_executed(snapshot)
        self.assertEqual({1, *range(3, 60)} - {7}, ran["a.py"].lines)
        self.assertEqual({2, 9}, ran["b.py"].lines)

    def test_base_without_unions(self) -> None:
        """A snapshot of an older covtrack keeps none: they are read from its rows."""
        base = self.write([self.data_file({"t1": {"a.py": [1, 2]}, "t2": {"a.py": [2, 3]}})])
        base.chmod(0o600)
        with closing(sqlite3.connect(base)) as db, db:
            db.execute("DROP TABLE covtrack_union")
        self.assertEqual({1, 2, 3}, read_executed(base)["a.py"].lines)
        plan = MergePlan(dropped=frozenset({"t1"}), moves={})
        snapshot = self.write([self.data_file({"t1": {"a.py": [9]}})], base=base, plan=plan)
        self.assertEqual({2, 3, 9}, read_executed(snapshot)["a.py"].lines)

    def test_base_stays_as_it_is(self) -> None:
        base = self.write([self.data_file({"t": {"a.py": [1]}})])
        before = file_digest(base)
        plan = MergePlan(dropped=frozenset({"t"}), moves={"a.py": gone()})
        self.write([], base=base, plan=plan)
        self.assertEqual(before, file_digest(base))

    def test_moved_lines_and_swapped_names(self) -> None:
        base = self.write([self.data_file({"t": {"a.py": [1, 2], "b.py": [7]}})])
        down = LineMap((Hunk(old_start=0, old_count=0, new_start=1, new_count=10),))
        moves = {"a.py": moved("b.py", down), "b.py": moved("a.py")}
        snapshot = self.write([], base=base, plan=MergePlan(dropped=frozenset(), moves=moves))
        self.assertEqual({("t", "b.py"): {11, 12}, ("t", "a.py"): {7}}, self.rows(snapshot))

    def test_names_exactly_the_measured_files(self) -> None:
        fresh = self.data_file({"t": {"a.py": [1], "other.py": [2], "/usr/lib/x.py": [3]}})
        snapshot = self.write([fresh], measured=["a.py", "never_ran.py"])
        self.assertEqual({"a.py", "never_ran.py"}, self.files(snapshot))
        self.assertEqual({"a.py", "never_ran.py"}, set(read_executed(snapshot)))
        self.assertEqual({("t", "a.py"): {1}}, self.rows(snapshot))

    def test_deleted_file_leaves_no_rows(self) -> None:
        base = self.write([self.data_file({"t": {"a.py": [1], "b.py": [2]}})])
        plan = MergePlan(dropped=frozenset(), moves={"a.py": gone()})
        snapshot = self.write([], base=base, plan=plan, measured=["b.py"])
        self.assertEqual({("t", "b.py"): {2}}, self.rows(snapshot))

    def test_arcs(self) -> None:
        one = self.data_file(arcs={"": {"a.py": [(-1, 1), (1, 2)]}, "t": {"a.py": [(2, 3)]}})
        two = self.data_file(arcs={"t": {"a.py": [(2, 3), (3, -1)]}})
        base = self.write([one, two])
        self.assertTrue(has_arcs(base))
        executed = read_executed(base)["a.py"]
        self.assertEqual({(-1, 1), (1, 2), (2, 3), (3, -1)}, executed.arcs)
        self.assertEqual({1, 2, 3}, executed.lines)
        lost = LineMap((Hunk(old_start=3, old_count=1, new_start=2, new_count=0),))
        plan = MergePlan(dropped=frozenset(), moves={"a.py": moved("b.py", lost)})
        snapshot = self.write([], base=base, plan=plan)
        self.assertEqual({(-1, 1), (1, 2), (2, 2)}, read_executed(snapshot)["b.py"].arcs)
        self.assertEqual({("", "b.py"): {1, 2}, ("t", "b.py"): {2}}, self.rows(snapshot))

    def test_tests_and_key(self) -> None:
        tests = [record("p.T.a"), record("p.T.b", Status.SKIPPED)]
        base = self.write([], tests=tests)
        self.assertEqual({t.test: t for t in tests}, read_tests(base))
        self.assertEqual("k", read_settings_key(base))
        snapshot = self.write([], base=base, tests=tests[1:])
        self.assertEqual(["p.T.b"], list(read_tests(snapshot)))

    def test_nothing_ran_at_all(self) -> None:
        snapshot = self.write([], measured=["a.py"])
        self.assertEqual({"a.py"}, self.files(snapshot))
        self.assertEqual({"a.py": frozenset()}, {f: e.lines for f, e in self.all(snapshot)})

    def all(self, path: Path) -> list[tuple[str, Any]]:
        return list(read_executed(path).items())


def moved(new: str, lines: LineMap | None = None) -> FileMove:
    return FileMove(new=new, lines=lines or LineMap())


def gone() -> FileMove:
    return FileMove(new=None, lines=LineMap())


def record(test: str, status: Status = Status.PASSED) -> TestRecord:
    return TestRecord(
        test=test, module=test.partition(".")[0], status=status, seconds=0.5, executed="c" * 40
    )


NUMBERS = st.lists(st.integers(1, 40), max_size=6)
ROWS = st.dictionaries(
    st.sampled_from(["", "t1", "t2", "t3"]),
    st.dictionaries(st.sampled_from(["a.py", "b.py", "c.py"]), NUMBERS, min_size=1),
    min_size=1,  # a worker that recorded nothing leaves no file
    max_size=4,
)


class UnionTest(SnapshotCase):
    def test_a_row_without_lines_is_dropped(self) -> None:
        base = self.write([self.data_file({"t1": {"a.py": [1]}, "t2": {"b.py": []}})])
        plan = MergePlan(dropped=frozenset({"t2"}), moves={})
        snapshot = self.write(base=base, plan=plan)
        self.assertEqual({("t1", "a.py"): {1}}, self.rows(snapshot))


class ModelTest(SnapshotCase):
    @settings(max_examples=15)
    @given(
        base=ROWS,
        one=ROWS,
        two=ROWS,
        dropped=st.frozensets(st.sampled_from(["t1", "t2", "t3"])),
        changed=st.frozensets(st.sampled_from(["a.py", "b.py", "c.py"])),
        order=st.permutations(["a.py", "b.py", "c.py", "d.py"]),
        measured=st.frozensets(st.sampled_from(["a.py", "b.py", "c.py", "d.py"])),
    )
    def test_rows_are_sets(
        self,
        base: Lines,
        one: Lines,
        two: Lines,
        dropped: frozenset[str],
        changed: frozenset[str],
        order: Sequence[str],
        measured: frozenset[str],
    ) -> None:
        free = {*changed, "d.py"}
        targets = dict(zip(("a.py", "b.py", "c.py"), order, strict=False))
        names = {old: targets[old] if targets[old] in free else None for old in changed}
        moves = {
            old: FileMove(new=new, lines=LineMap(), blocked=frozenset({7}))
            for old, new in names.items()
        }
        plan = MergePlan(dropped=dropped, moves=moves)
        before = self.write([self.data_file(base)], measured=["a.py", "b.py", "c.py"])
        fresh = [self.data_file(one), self.data_file(two)]
        snapshot = self.write(fresh, base=before, plan=plan, measured=sorted(measured))
        model: dict[tuple[str, str], set[int]] = {}
        for context, files in base.items():
            for file, lines in files.items():
                new = names.get(file, file)
                if context not in dropped and new is not None:
                    kept = set(lines) - ({7} if file in names else set())
                    model.setdefault((context, new), set()).update(kept)
        for rows in (one, two):
            for context, files in rows.items():
                for file, lines in files.items():
                    model.setdefault((context, file), set()).update(lines)
        expected = {key: lines for key, lines in model.items() if lines and key[1] in measured}
        self.assertEqual(expected, self.rows(snapshot))
        self.assertEqual(measured, self.files(snapshot))
        united: dict[str, set[int]] = {name: set() for name in measured}
        for (_, file), found in expected.items():
            united[file] |= found
        told = {path: ran.lines for path, ran in read_executed(snapshot).items()}
        self.assertEqual(united, told)


SOURCES = {
    "a.py": "def f(x):\n    if x:\n        return [\n            1,\n        ]\n    return 0\n"
    "f(1)\n",
    "b.py": "x = 1\nif x:\n    y = 2  # pragma: no cover\n",
    "never.py": "z = 1\n",
}


class ReportTest(SnapshotCase):
    """coverage.py opens a snapshot as one of its own and says what measure_tree says."""

    def check(self, snapshot: Path, *, branch: bool) -> None:
        root = self.folder / "tree"
        root.mkdir()
        for name, text in SOURCES.items():
            (root / name).write_text(text)
        output = io.StringIO()
        with chdir(root):
            cov = coverage.Coverage(data_file=str(snapshot), branch=branch, messages=False)
            cov.set_option("run:relative_files", True)
            cov.load()
            told = cov.report(file=output)
            cov.get_data().close(force=True)
            parsed = {name: read_parsed(parse_file(name, cov)) for name in SOURCES}
        total = measure_tree(parsed, read_executed(snapshot), lambda path: False).total
        mine = total.covered + total.branches_covered, total.statements + total.branches
        self.assertAlmostEqual(100 * mine[0] / mine[1], told)
        self.assertIn(f"{total.statements}", output.getvalue().splitlines()[-1])

    def test_lines(self) -> None:
        rows = {"": {"a.py": [1], "b.py": [1, 2]}, "t": {"a.py": [2, 4]}}
        self.check(self.write([self.data_file(rows)], measured=[*SOURCES]), branch=False)

    def test_branches(self) -> None:
        arcs = {"": {"a.py": [(-1, 1), (1, -1)]}, "t": {"a.py": [(-1, 2), (2, 3), (3, -1)]}}
        snapshot = self.write([self.data_file(arcs=arcs)], measured=[*SOURCES])
        self.check(snapshot, branch=True)


class DamageTest(SnapshotCase):
    def damaged(self) -> list[Path]:
        rows = {f"t{n}": {"a.py": [n + 1], "b.py": [1]} for n in range(300)}
        good = self.write([self.data_file(rows)]).read_bytes()
        texts = {
            "truncated": good[: len(good) // 2],
            "garbage": b"no database at all" * 100,
            "wiped": good[:100] + b"\xff" * (len(good) - 100),
            "empty": b"",
        }
        paths = [self.folder / name for name in texts]
        for path in paths:
            path.write_bytes(texts[path.name])
        return paths

    def test_reading(self) -> None:
        for path in self.damaged():
            for read in (read_executed, read_contexts, read_tests, read_settings_key):
                self.assertRaises(DataError, read, path)

    def test_as_base(self) -> None:
        for path in self.damaged():
            self.refused(base=path)

    def test_as_fresh_file(self) -> None:
        base = self.write([self.data_file({"t": {"a.py": [1]}})])
        for path in self.damaged():
            self.refused(base=base, fresh=[path])
            self.refused(fresh=[path])
        self.refused(fresh=[self.folder / "absent" / "file"])

    def refused(self, *, base: Path | None = None, fresh: Sequence[Path] = ()) -> None:
        before = set(self.folder.iterdir())
        self.assertRaises(DataError, self.write, fresh, base=base)
        self.assertEqual(before, set(self.folder.iterdir()))

    def test_target_stays_whole_when_the_new_one_fails(self) -> None:
        good = self.write([self.data_file({"t": {"a.py": [1]}})])
        before = file_digest(good)
        (broken,) = [path for path in self.damaged() if path.name == "garbage"]
        self.assertRaises(
            DataError,
            lambda: write_snapshot(
                good,
                base=None,
                plan=KEEP,
                fresh=[broken],
                tests=(),
                measured=(),
                key="k",
                circumstances=UNDER,
            ),
        )
        self.assertEqual(before, file_digest(good))

    def test_target_cannot_be_written(self) -> None:
        (self.folder / "file").write_text("")
        self.assertRaises(
            DataError,
            lambda: write_snapshot(
                self.folder / "file" / "snapshot",
                base=None,
                plan=KEEP,
                fresh=(),
                tests=(),
                measured=(),
                key="k",
                circumstances=UNDER,
            ),
        )
