"""jobs.file_lines: which lines of a file ran."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from testtools import TestCase

from jobs.file_lines import FileLines, find_lines, join_lines
from jobs.results import Counts, FileMeasure
from jobs.statements import Parsed

PARSED = Parsed(statements=frozenset({1, 2, 5}), first={2: 2, 3: 2, 4: 2}, exits={})
MEASURED = FileMeasure(path="a.py", counts=Counts(statements=3, covered=2), missing=(2,))
numbers = st.frozensets(st.integers(1, 60))


class FindTest(TestCase):
    def test_what_is_not_missing_ran(self) -> None:
        found = find_lines(MEASURED, PARSED, frozenset({2, 5}))
        assert found
        self.assertEqual({1: True, 2: False, 5: True}, found.ran)
        self.assertEqual([(1, True), (2, False), (3, False), (4, False), (5, True)], lines(found))
        self.assertEqual(Counts(statements=3, covered=2), found.counts)
        self.assertEqual(Counts(statements=2, covered=1), found.touched_counts)

    def test_unknown_is_not_guessed(self) -> None:
        for statements in ({1, 2}, {1, 3, 5}, {1, 2, 5, 6}):
            other = Parsed(statements=frozenset(statements), first={}, exits={})
            self.assertIsNone(find_lines(MEASURED, other, None))
        found = find_lines(MEASURED, PARSED, None)
        assert found
        self.assertIsNone(found.touched_counts)

    def test_a_statement_within_the_lines_of_another_keeps_its_own(self) -> None:
        nested = FileLines(path="a.py", ran={1: True, 2: False}, spans={1: 3})
        self.assertEqual([(1, True), (2, False), (3, True)], lines(nested))

    @given(numbers, st.data())
    def test_counts_are_those_that_were_stored(
        self, statements: frozenset[int], data: st.DataObject
    ) -> None:
        missing = data.draw(st.frozensets(st.sampled_from(sorted(statements) or [0])))
        missing &= statements
        counts = Counts(statements=len(statements), covered=len(statements) - len(missing))
        measured = FileMeasure(path="a.py", counts=counts, missing=tuple(sorted(missing)))
        found = find_lines(measured, Parsed(statements=statements, first={}, exits={}), None)
        assert found
        self.assertEqual(counts, found.counts)
        self.assertEqual(missing, {line for line, ran in found.lines.items() if not ran})


class JoinTest(TestCase):
    @given(st.dictionaries(st.integers(1, 9), st.booleans()), st.data())
    def test_what_ran_for_either_ran(self, ran: dict[int, bool], data: st.DataObject) -> None:
        other = data.draw(st.dictionaries(st.integers(1, 9), st.booleans()))
        one, two = (FileLines(path="a.py", ran=found, spans={}) for found in (ran, other))
        joined = join_lines(one, two)
        self.assertEqual(joined, join_lines(two, one))
        self.assertEqual({*ran, *other}, set(joined.ran))
        for line, did in joined.ran.items():
            self.assertEqual(ran.get(line) is True or other.get(line) is True, did)

    def test_touched_lines_are_known_only_if_both_are(self) -> None:
        one = FileLines(path="a.py", ran={1: True}, spans={}, touched=frozenset({1}))
        unknown = FileLines(path="a.py", ran={1: True}, spans={})
        self.assertIsNone(join_lines(one, unknown).touched)
        self.assertEqual({1}, join_lines(one, one).touched)


def lines(file: FileLines) -> list[tuple[int, bool]]:
    return list(file.lines.items())
