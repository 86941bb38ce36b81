"""jobs.covering against what coverage.py itself says of the same data file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coverage import CoverageData
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.covering import read_tested_lines, read_tests_at
from jobs.results import Status
from jobs.snapshot import TestRecord
from tests.unit.test_snapshot import SnapshotCase

TESTS = ("t.One", "t.Two", "t.Three")
CONTEXTS = ("", "setUpClass (t)", *TESTS)
FILES = ("a.py", "b.py")
LINES = st.frozensets(st.integers(1, 40), min_size=1, max_size=12)
ENDS = st.integers(-40, 40).filter(bool)
ARCS = st.frozensets(st.tuples(ENDS, ENDS), min_size=1, max_size=12)


def tables(rows: st.SearchStrategy[frozenset[Any]]) -> st.SearchStrategy[Any]:
    files = st.dictionaries(st.sampled_from(FILES), rows.map(list), min_size=1)
    return st.dictionaries(st.sampled_from(CONTEXTS), files, min_size=1)


class CoveringTest(SnapshotCase):
    @settings(max_examples=20)
    @given(rows=tables(LINES))
    def test_lines_and_their_tests(self, rows: Mapping[str, Mapping[str, list[int]]]) -> None:
        self.check(rows, {})

    @settings(max_examples=20)
    @given(rows=tables(ARCS))
    def test_arcs_and_their_tests(
        self, rows: Mapping[str, Mapping[str, list[tuple[int, int]]]]
    ) -> None:
        self.check({}, rows)

    def check(
        self,
        lines: Mapping[str, Mapping[str, list[int]]],
        arcs: Mapping[str, Mapping[str, list[tuple[int, int]]]],
    ) -> None:
        records = [
            TestRecord(test=t, module="t", status=Status.PASSED, seconds=1.0, executed="c")
            for t in TESTS
        ]
        path = self.write([self.data_file(lines or None, arcs or None)], tests=records)
        data = CoverageData(str(path))
        data.read()
        expected = {
            (file, line): set(contexts).intersection(TESTS)
            for file in FILES
            for line, contexts in data.contexts_by_lineno(file).items()
            if line > 0
        }
        data.close()
        tested = {
            file: {line for (name, line), tests in expected.items() if name == file and tests}
            for file in FILES
        }
        self.assertEqual(tested, read_tested_lines(path, FILES))
        found = read_tests_at(path, {file: range(1, 41) for file in FILES})
        told = {place: tests for place, tests in expected.items() if tests}
        self.assertEqual(told, {place: set(tests) for place, tests in found.items()})
        source = lines or arcs
        for (file, _), tests in found.items():
            sizes = {test: len(set(source[test][file])) for test in tests}
            self.assertEqual(sizes, tests)

    def test_unknown_files_are_left_out(self) -> None:
        path = self.write([self.data_file({"t.One": {"a.py": [1]}})])
        self.assertEqual({}, read_tested_lines(path, {"nowhere.py"}))
        self.assertEqual({}, read_tests_at(path, {"nowhere.py": {1}}))
