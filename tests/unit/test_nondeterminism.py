"""jobs.nondeterminism: names that survive moved lines, and results without such lines."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from testtools import TestCase

from covtrack.gerrit.policy import decide
from covtrack.gerrit.settings import ReviewSettings
from covtrack.ledger import is_sampled
from covtrack.reporting import describe_ledger
from covtrack.store.ledgering import count_entries
from covtrack.store.values import LedgerEntry
from jobs.holding import CHANCE, MISS, Explained, Held
from jobs.nondeterminism import leave_out, means_the_same, name_lines, without_lines
from jobs.results import (
    Before,
    Counts,
    FileMeasure,
    Measurement,
    PatchCoverage,
    Select,
    UncoveredRange,
)
from jobs.statements import Function, Parsed
from tests.samples import NOON, RESULT

SOURCE = "import a\n\n\ndef f(x):\n    if x:\n        return 1\n    return 1\n"
PARSED = Parsed(
    statements=frozenset({1, 4, 5, 6, 7}),
    first={},
    functions=(Function(name="f", first=4, body=5, last=7),),
    exits={},
)


def shifted(parsed: Parsed, lines: int) -> Parsed:
    """The file with so many lines more at its top."""
    return Parsed(
        statements=frozenset(line + lines for line in parsed.statements),
        first={a + lines: b + lines for a, b in parsed.first.items()},
        functions=tuple(
            replace(f, first=f.first + lines, body=f.body + lines, last=f.last + lines)
            for f in parsed.functions
        ),
        exits={},
    )


def file_of(statements: int, missing: frozenset[int]) -> FileMeasure:
    counts = Counts(statements=statements, covered=statements - len(missing))
    return FileMeasure(path="a.py", counts=counts, missing=tuple(sorted(missing)))


class NameTest(TestCase):
    def test_equal_texts_are_told_apart(self) -> None:
        names = name_lines("a.py", SOURCE, PARSED)
        self.assertEqual(
            ("f", "return 1", 0), (names[6].function, names[6].text, names[6].ordinal)
        )
        self.assertEqual(
            ("f", "return 1", 1), (names[7].function, names[7].text, names[7].ordinal)
        )
        self.assertEqual("", names[1].function)
        self.assertEqual(5, len(set(names.values())))

    @given(st.integers(0, 30))
    def test_names_survive_moved_lines(self, lines: int) -> None:
        moved = name_lines("a.py", "# more\n" * lines + SOURCE, shifted(PARSED, lines))
        before = name_lines("a.py", SOURCE, PARSED)
        self.assertEqual({line + lines: name for line, name in before.items()}, moved)

    def test_statement_of_several_lines(self) -> None:
        parsed = Parsed(statements=frozenset({1}), first={2: 1, 3: 1}, exits={})
        self.assertEqual("f( 1, )", name_lines("a.py", "f(\n    1,\n)\n", parsed)[1].text)

    def test_comments_and_layout_mean_nothing(self) -> None:
        self.assertTrue(
            means_the_same(SOURCE, f"# why\n{SOURCE}".replace("return 1", "return  1"))
        )
        self.assertFalse(means_the_same(SOURCE, SOURCE.replace("return 1", "return 2")))
        self.assertFalse(means_the_same("x = (", "x = ("))


class LeaveOutTest(TestCase):
    @settings(max_examples=100)
    @given(
        missing=st.frozensets(st.integers(1, 20)),
        known=st.frozensets(st.integers(1, 20), max_size=8),
    )
    def test_counts_are_those_of_the_rest(
        self, missing: frozenset[int], known: frozenset[int]
    ) -> None:
        (file,) = without_lines(Measurement(files=(file_of(20, missing),)), {"a.py": known}).files
        rest = set(range(1, 21)) - known
        self.assertEqual(tuple(sorted(missing - known)), file.missing)
        self.assertEqual(
            (len(rest), len(rest - missing)), (file.counts.statements, file.counts.covered)
        )

    @settings(max_examples=100)
    @given(
        before=st.booleans(),
        now=st.booleans(),
        lost=st.frozensets(st.integers(2, 20), max_size=2),
    )
    def test_flip_is_no_drop_and_no_gain_and_hides_no_drop(
        self, before: bool, now: bool, lost: frozenset[int]
    ) -> None:
        """Line 1 flips or not; those that are lost beside it are told, neither more nor less."""
        old = Measurement(files=(file_of(20, frozenset() if before else frozenset({1})),))
        new = Measurement(files=(file_of(20, lost if now else lost | {1}),))
        result = replace(
            RESULT,
            select=Select.ALL,
            measurement=new,
            before=Before(total=old.total, vendored=Counts()),
            patch=PatchCoverage(parent=RESULT.base or "", statements=0, covered=0),
            faults=(),
        )
        known = {"a.py": frozenset({1})}
        settled = leave_out(result, known, old, known)
        decision = decide(settled, (), ReviewSettings())
        told = " ".join(decision.sentences)
        self.assertEqual(-1 if lost else 1, decision.vote)
        self.assertEqual(bool(lost), f"{len(lost)} statement" in told)
        if before and not now and not lost:
            self.assertEqual(-1, decide(result, (), ReviewSettings()).vote)

    def test_patch_loses_what_flips(self) -> None:
        measured = Measurement(files=(file_of(9, frozenset({3, 4, 7})),))
        parts = (
            UncoveredRange(path="a.py", first=3, last=4),
            UncoveredRange(path="a.py", first=7, last=8),
        )
        patch = PatchCoverage(parent="p", statements=6, covered=3, uncovered=parts)
        result = replace(RESULT, measurement=measured, patch=patch)
        found = leave_out(result, {"a.py": frozenset({4, 7})}, None, {}).patch
        assert found is not None
        self.assertEqual((4, 3), (found.statements, found.covered))
        self.assertEqual((UncoveredRange(path="a.py", first=3, last=3),), found.uncovered)

    def test_nothing_known_changes_nothing(self) -> None:
        self.assertIs(RESULT, leave_out(RESULT, {}, None, {}))


class LedgerTest(TestCase):
    @given(st.text("0123456789abcdef", min_size=40, max_size=40))
    def test_sample_is_the_same_each_time_and_grows_with_the_share(self, commit: str) -> None:
        shares = [Fraction(0), Fraction(1, 20), Fraction(1, 2), Fraction(1)]
        drawn = [is_sampled(commit, share) for share in shares]
        self.assertEqual(drawn, [is_sampled(commit, share) for share in shares])
        self.assertEqual(sorted(drawn), drawn)
        self.assertEqual((False, True), (drawn[0], drawn[-1]))

    def test_sample_is_of_its_size(self) -> None:
        drawn = sum(is_sampled(f"{n:040x}", Fraction(1, 20)) for n in range(20_000))
        self.assertTrue(800 < drawn < 1200, drawn)

    def test_sentence(self) -> None:
        entry = LedgerEntry(
            run_id=1,
            project="p",
            commit="c",
            subject="s",
            verified_at=NOON,
            complete=True,
            tests=3,
            cpu_seconds=1.0,
            held=Held(),
        )
        missed = Explained(path="a.py", line=1, kind="missed", why=CHANCE)
        shaky = replace(entry, held=Held(missed={"a.py": (1,)}, explained=(missed,)))
        missed = missed.model_copy(update={"why": MISS})
        wrong = replace(entry, held=Held(missed={"a.py": (1,)}, explained=(missed,)))
        unknown = replace(entry, complete=False)
        self.assertEqual("", describe_ledger(count_entries([unknown])))
        self.assertEqual(
            "2 of 2 verified identical, last on 2026-05-04",
            describe_ledger(count_entries([entry, entry, unknown])),
        )
        self.assertEqual(
            "1 of 3 verified identical (1 differs only where full runs differ among themselves), "
            "1 not, last on 2026-05-04",
            describe_ledger(count_entries([entry, shaky, wrong])),
        )
