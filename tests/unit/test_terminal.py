"""covtrack.terminal: what people read, rounded down and never broken by what it quotes."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from testtools import TestCase

from covtrack.terminal import (
    MOST_FAULTS,
    MOST_RANGES,
    floor_percent,
    format_share,
    render_result,
    show_progress,
    tell_line,
)
from jobs.results import (
    Before,
    Counts,
    Fault,
    FaultKind,
    FileMeasure,
    JobResult,
    Kind,
    Measurement,
    PatchCoverage,
    Select,
    TestCounts,
    UncoveredRange,
)
from tests.samples import OPEN
from venv_builder.progress import Advanced, Noted, StageEnded, StageStarted

RESULT = JobResult(
    project="oslo.thing",
    branch="master",
    commit="c" * 40,
    subject="Fix [bold]everything[/bold] [/]",
    committed_at=datetime(2025, 1, 1, tzinfo=UTC),
    base="b" * 40,
    select=Select.CHANGED,
    kind=Kind.CHANGE,
    tests=TestCounts(run=7, passed=4, failed=2, skipped=1, carried=93),
    measurement=Measurement(
        files=(
            FileMeasure(path="a.py", counts=Counts(statements=3000, covered=2000)),
            FileMeasure(path="v.py", counts=Counts(statements=50, covered=49), vendored=True),
        )
    ),
    before=Before(
        total=Counts(statements=3000, covered=1999), vendored=Counts(statements=50, covered=50)
    ),
    faults=(),
    outcomes=(),
    carried={"d" * 40: 93},
    complete=True,
    snapshot=Path("snapshot"),
    recorder="none",
    environment="env",
    seconds={"run": 1.25},
)


def rendered(**changes: Any) -> str:
    output = io.StringIO()
    with redirect_stdout(output):
        render_result(replace(RESULT, **changes), Fraction(4, 5))
    return output.getvalue()


class ShareTest(TestCase):
    @given(statements=st.integers(1, 10**6), data=st.data())
    def test_rounded_down_to_two_places(self, statements: int, data: st.DataObject) -> None:
        covered = data.draw(st.integers(0, statements))
        text = format_share(Counts(statements=statements, covered=covered))
        shown = Fraction(text.removesuffix(" %"))
        exact = Fraction(100 * covered, statements)
        self.assertTrue(shown <= exact < shown + Fraction(1, 100), text)
        self.assertEqual(covered == statements, text == "100.00 %")

    def test_no_statements(self) -> None:
        self.assertEqual("unknown", format_share(Counts()))
        self.assertEqual(66.66, floor_percent(Fraction(2, 3)))


class RenderTest(TestCase):
    def test_figures(self) -> None:
        text = rendered()
        for words in ("3000", "2000", "66.66 %", "66.63 %", "400", "vendored", "98.00 %"):
            self.assertIn(words, text)
        for words in ("7 run", "4 passed", "2 failed", "1 skipped", "93 carried", "dddddddddd"):
            self.assertIn(words, text)
        self.assertNotIn("branches", text)
        self.assertNotIn("incomplete", text)

    def test_subject_is_quoted_as_it_is(self) -> None:
        self.assertIn(RESULT.subject, rendered())

    def test_provisional(self) -> None:
        shown = rendered(complete=False, provisional=OPEN)
        self.assertIn("provisional: 12 of 840 affected tests ran within the budget of 60 s", shown)
        self.assertIn("300 are still to run (90.5 s by their durations), 3 statements are", shown)
        self.assertIn("at least 66.66 %", shown)
        self.assertIn("at most 400", shown)
        self.assertNotIn("incomplete", shown)

    def test_branches(self) -> None:
        counts = Counts(statements=10, covered=5, branches=8, branches_covered=3)
        files = (FileMeasure(path="a.py", counts=counts),)
        text = rendered(measurement=Measurement(files=files))
        self.assertIn("37.50 %", text)
        self.assertNotIn("vendored", text)

    def test_nothing_measured_and_no_base(self) -> None:
        self.assertIn("unknown", rendered(measurement=Measurement(files=()), before=None))

    def test_faults(self) -> None:
        faults = tuple(
            Fault(
                kind=FaultKind.TEST, subject=f"t{n}", sentence=f"t{n} [/x] broke.", advice="Mend."
            )
            for n in range(MOST_FAULTS + 3)
        )
        text = rendered(faults=faults, complete=False)
        self.assertIn("t0 [/x] broke.", text)
        self.assertNotIn(f"t{MOST_FAULTS} ", text)
        self.assertIn("3 more faults", text)
        self.assertIn("incomplete", text)


class ProgressTest(TestCase):
    def told(self, *events: Any) -> str:
        output = io.StringIO()
        with redirect_stderr(output):
            for event in events:
                tell_line(event)
        return output.getvalue()

    def test_lines(self) -> None:
        text = self.told(
            StageStarted(stage="checkout", detail="abc"),
            StageStarted(stage="env"),
            StageEnded(stage="env", seconds=2.0),
            StageEnded(stage="merge", seconds=0.001),
            Advanced(stage="run", done=3, total=9),
            Advanced(stage="run", done=0, total=9),
            Advanced(stage="run", done=3, total=None),
            Noted(sentence="Mind this."),
        )
        expected = "Checking out: abc\nenv: 2.0 s\n  3 of 9 tests\nNote: Mind this.\n"
        self.assertEqual(expected, text)

    def test_plain_lines_where_stderr_is_no_terminal(self) -> None:
        output, other = io.StringIO(), io.StringIO()
        with redirect_stderr(output), redirect_stdout(other), show_progress() as listener:
            listener(Noted(sentence="Mind [bold]this[/]."))
        self.assertEqual(
            ("Note: Mind [bold]this[/].\n", ""), (output.getvalue(), other.getvalue())
        )


class PatchTest(TestCase):
    def make(self, ranges: int, statements: int = 40) -> PatchCoverage:
        return PatchCoverage(
            parent="a" * 40,
            statements=statements,
            covered=statements - ranges,
            uncovered=tuple(
                UncoveredRange(
                    path="a[b].py",
                    first=10 * n,
                    last=10 * n + n % 2,
                    nearest_test=f"t.Test.test_{n}[x]" if n > 1 else None,
                )
                for n in range(1, ranges + 1)
            ),
        )

    def test_the_ranges_and_their_nearest_tests(self) -> None:
        lines = rendered(patch=self.make(2)).splitlines()
        (at,) = (n for n, line in enumerate(lines) if line.startswith("patch:"))
        self.assertEqual(
            [
                "patch: 38 of 40 statements covered, 95.00 % (changed since aaaaaaaaaa)",
                "  uncovered      nearest test",
                "  a[b].py:10-11  unknown",
                "  a[b].py:20     t.Test.test_2[x]",
            ],
            [line.rstrip() for line in lines[at : at + 4]],
        )

    def test_long_names_are_not_folded(self) -> None:
        part = UncoveredRange(path="p" * 90, first=1, last=2, nearest_test="t" * 90)
        text = rendered(patch=replace(self.make(0), uncovered=(part,)))
        self.assertIn(f"  {'p' * 90}:1-2  {'t' * 90}\n", text)

    def test_many_ranges_are_counted(self) -> None:
        text = rendered(patch=self.make(MOST_RANGES + 3))
        self.assertEqual(MOST_RANGES, text.count("a[b].py:"))
        self.assertIn("... and 3 more uncovered ranges", text)
        self.assertNotIn("more uncovered", rendered(patch=self.make(MOST_RANGES)))

    def test_no_statements_are_no_share(self) -> None:
        text = rendered(patch=self.make(0, statements=0))
        self.assertIn("patch: no statements of own code (changed since aaaaaaaaaa)", text)

    def test_unknown(self) -> None:
        self.assertIn("patch: unknown\n", rendered(patch=None))


class HostileTextTest(TestCase):
    """Commit subjects and file names come from other people."""

    def test_control_characters_of_a_subject_are_not_shown(self) -> None:
        shown = rendered(subject="Fix \x1b[2J\x1b]0;owned\x07 it\nsecond")

        self.assertNotIn("\x1b", shown)
        self.assertNotIn("\x07", shown)
        self.assertIn("it second (change of master)", shown)
