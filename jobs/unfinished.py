"""What a run leaves open when its budget ends before its proof: which statements hang on what.

A statement counts as covered only if it was executed by what ran or by tests that the change does
not reach. One that did not is undecided where a test that did not run may still run it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from jobs.footprint import IMPORTED
from jobs.measure import covered_statements
from jobs.results import FileMeasure, Measurement, Provisional
from jobs.rows import RowReader, Rows
from jobs.statements import Parsed
from jobs.sufficient import Candidate, Doubt, unite


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A proof that was cut short.

    `left` are the tests that it still wants, `pending` the contexts whose rows prove nothing until
    it has gone on: all candidates that did not run. `rows` are the base's, `lost` contexts of what
    ran between tests there and did not run whole now. `ways_left` counts the ways of tests that
    are left which no test took yet, or one took and did otherwise than before.
    """

    budget: float
    tests_affected: int
    tests_run: int
    left: Mapping[str, Candidate]
    pending: frozenset[str]
    lost: frozenset[str]
    ways_left: int
    doubts: tuple[Doubt, ...]
    affected: frozenset[str]
    rows: Rows
    reader: RowReader
    parsed: Mapping[str, Parsed]

    def tell(self, measurement: Measurement, kept: Collection[str]) -> Provisional:
        """What is open in the result; `kept` are the contexts of its snapshot."""
        hanging = self._ran_before(kept)
        for path, lines in self._doubtful(measurement).items():
            hanging.setdefault(path, set()).update(lines)
        open_lines = (
            (file.path, tuple(line for line in file.missing if line in hanging[file.path]))
            for file in measurement.files
            if not file.vendored and file.path in hanging
        )
        return Provisional(
            budget=self.budget,
            tests_affected=self.tests_affected,
            tests_run=self.tests_run,
            tests_left=len(self.left),
            seconds_left=sum(candidate.seconds for candidate in self.left.values()),
            ways_left=self.ways_left,
            undecided={path: lines for path, lines in open_lines if lines},
        )

    def _ran_before(self, kept: Collection[str]) -> dict[str, set[int]]:
        """Statements that tests ran in the base which did not run now.

        Imports that only such tests led to are among them.
        """

        def hangs(context: str) -> bool:
            is_test = context in self.pending or context in self.lost
            return is_test or (context.endswith(IMPORTED) and context not in kept)

        found = unite(row for context, row in self.rows.items() if hangs(context))
        return {
            path: covered_statements(self.parsed[path], self.reader.lines(path, bits))
            for path, bits in found.items()
        }

    def _doubtful(self, measurement: Measurement) -> dict[str, set[int]]:
        """Statements of functions that changed or are new, if tests wait that may come to them."""
        files = {file.path: file for file in measurement.files}
        found: dict[str, set[int]] = {}
        for doubt in self.doubts if self.pending & self.affected else ():
            file = files.get(doubt.path)
            if file is not None:
                found.setdefault(doubt.path, set()).update(_inside(doubt, file))
        return found


def _inside(doubt: Doubt, file: FileMeasure) -> Iterator[int]:
    return (line for line in file.missing if doubt.first <= line <= doubt.last)
