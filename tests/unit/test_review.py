"""What is said on a change: the decision, the message, the comments, Gerrit's limits."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from testtools import TestCase

from covtrack.gerrit.line_comments import EarlierComment
from covtrack.gerrit.policy import count_lost, decide, parse_footers
from covtrack.gerrit.settings import ReviewSettings
from covtrack.gerrit.verdict import (
    LISTS,
    LONGEST,
    NUMBERS,
    WORDS,
    Gain,
    Material,
    Review,
    _words,
    check_template,
    compose,
    render_failure,
)
from jobs.results import (
    Before,
    Counts,
    Fault,
    FaultKind,
    FileMeasure,
    JobResult,
    Measurement,
    Outcome,
    PatchCoverage,
    Select,
    Status,
    UncoveredRange,
)
from tests.samples import OPEN, RESULT
from venv_builder.errors import UsageError

SETTINGS = ReviewSettings(label="Coverage")
PARENT = "p" * 40


def measured(
    covered: int = 80, statements: int = 100, *, before: tuple[int, int] = (80, 100), **more: Any
) -> JobResult:
    """A result with these counts, by default a change of ten statements that all ran."""
    total = Counts(statements=statements, covered=covered)
    patch = PatchCoverage(parent=PARENT, statements=10, covered=10)
    values: dict[str, Any] = {
        "measurement": Measurement(files=(FileMeasure(path="a.py", counts=total),)),
        "before": Before(total=Counts(statements=before[1], covered=before[0]), vendored=Counts()),
        "base": PARENT,
        "patch": patch,
        "faults": (),
        "outcomes": (),
        "complete": True,
        "select": Select.AFFECTED,
    }
    return replace(RESULT, **values | more)


def lacking(*ranges: UncoveredRange, statements: int = 10) -> PatchCoverage:
    return PatchCoverage(
        parent=PARENT, statements=statements, covered=statements - len(ranges), uncovered=ranges
    )


def part(first: int, last: int | None = None, test: str | None = "t.Near.test") -> UncoveredRange:
    return UncoveredRange(path="a.py", first=first, last=last or first, nearest_test=test)


def material(result: JobResult, **more: Any) -> Material:
    values: dict[str, Any] = {
        "decision": decide(result, (), SETTINGS),
        "prospect": None,
        "touched": {"a.py": frozenset(range(1, 10_000))},
        "earlier": (),
        "link": None,
        "patch_set": 1,
    }
    return Material(result=result, **values | more)


def said(result: JobResult, rules: ReviewSettings = SETTINGS, **more: Any) -> Review:
    review = compose(material(result, **more), rules)
    assert review is not None
    return review


class FooterTest(TestCase):
    def test_the_last_paragraph_alone(self) -> None:
        message = (
            "Fix\n\nCoverage-Exempt: not here\n\ncoverage-exempt: generated code\n"
            "Low-Coverage-Reason:\nChange-Id: I1\n"
        )
        (footer,) = parse_footers(message)
        self.assertEqual(("Coverage-Exempt", "generated code"), (footer.key, footer.reason))
        self.assertEqual((), parse_footers("Coverage-Exempt: subject"))

    @given(st.text())
    def test_no_message_breaks_it(self, text: str) -> None:
        parse_footers(text)


class DecisionTest(TestCase):
    def test_covered(self) -> None:
        self.assertEqual((1, True), self.decided(measured()))

    def test_patch_below_the_threshold(self) -> None:
        result = measured(patch=lacking(part(1), part(3), part(5)))
        decision = decide(result, (), SETTINGS)
        self.assertEqual((-1, False), (decision.vote, decision.passed))
        self.assertIn("below 80 %: 1 more statement", decision.sentences[0])

    def test_small_patches_are_not_asked(self) -> None:
        result = measured(patch=lacking(part(1), part(3), statements=5))
        self.assertEqual((1, True), self.decided(result))

    def test_lines_elsewhere_that_no_longer_run(self) -> None:
        result = measured(covered=77)
        self.assertEqual((-1, False), self.decided(result))
        tolerant = SETTINGS.model_copy(update={"allowed_drop": 3})
        self.assertEqual(1, decide(result, (), tolerant).vote)

    def test_deleted_code_is_no_drop(self) -> None:
        result = measured(covered=10, statements=30, patch=lacking(statements=0))
        self.assertEqual((1, True), self.decided(result))

    def test_footers_exempt_and_are_told(self) -> None:
        result = measured(patch=lacking(*(part(n) for n in range(1, 9))))
        decision = decide(result, parse_footers("Fix\n\nCoverage-Exempt: generated"), SETTINGS)
        self.assertEqual(1, decision.vote)
        self.assertIn("Coverage-Exempt: generated", " ".join(decision.sentences))

    def test_faults_of_others_never_blame_the_patch(self) -> None:
        low = lacking(*(part(n) for n in range(1, 9)))
        for kind in (FaultKind.ENVIRONMENT, FaultKind.COMPANY):
            fault = Fault(kind=kind, subject="t", sentence="It is so.", advice="")
            self.assertIsNone(decide(measured(patch=low, faults=(fault,)), (), SETTINGS).vote)
        self.assertIsNone(decide(measured(patch=low, complete=False), (), SETTINGS).vote)
        self.assertIsNone(decide(measured(patch=None), (), SETTINGS).vote)

    @given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 40), st.integers(0, 40))
    def test_pure_deletions_are_never_punished(
        self, covered: int, uncovered: int, gone: int, gone_uncovered: int
    ) -> None:
        before = (covered + gone, covered + gone + uncovered + gone_uncovered)
        result = measured(covered, covered + uncovered, before=before, patch=lacking(statements=0))
        self.assertEqual(1, decide(result, (), SETTINGS).vote)
        self.assertEqual(0, count_lost(result, lacking(statements=0)))

    def decided(self, result: JobResult) -> tuple[int | None, bool]:
        decision = decide(result, (), SETTINGS)
        return decision.vote, decision.passed


class ProvisionalTest(TestCase):
    result = measured(
        covered=70,
        patch=lacking(*(part(number) for number in range(1, 9))),
        complete=False,
        provisional=replace(OPEN, undecided={"a.py": (3, 7), "b.py": (1,)}),
    )

    def test_it_is_marked_in_its_first_sentence(self) -> None:
        review = said(self.result)
        first, _, *rest = review.message.splitlines()
        self.assertEqual(
            "Provisional: 12 of 840 affected tests ran, 3 statements are undecided; "
            "the rest is queued.",
            first,
        )
        self.assertIn("Patch coverage: at least 20.00 %, 2 of 10 statements; 2 undecided", rest)
        self.assertIn("* Project: 80.00 % → at least 70.00 %, 3 undecided, +0 in all", rest)
        self.assertIn("300 still to run", review.message)
        self.assertEqual("autogenerated:covtrack~provisional", review.tag)

    def test_it_neither_votes_nor_comments(self) -> None:
        review = said(self.result)
        self.assertEqual(({}, {}), (review.votes, review.comments))
        decision = decide(self.result, (), SETTINGS)
        self.assertEqual((None, True), (decision.vote, decision.passed))
        final = replace(self.result, complete=True, provisional=None)
        self.assertEqual({"Coverage": -1}, said(final).votes)

    def test_no_template_leaves_the_mark_out(self) -> None:
        review = compose(material(self.result), SETTINGS, "All is well.")
        assert review is not None
        self.assertEqual("Provisional: 12 of 840", review.message[:22])
        self.assertIn("All is well.", review.message)

    def test_the_final_one_says_what_it_replaces(self) -> None:
        review = said(measured(), replaces=True)
        self.assertEqual(
            "Final: this replaces the provisional verdict on this patch set.",
            review.message.splitlines()[0],
        )
        self.assertEqual("autogenerated:covtrack~result", review.tag)
        self.assertEqual({"Coverage": 1}, review.votes)
        quiet = ReviewSettings(quiet=True)
        self.assertIsNone(compose(material(measured()), quiet))
        self.assertIsNotNone(compose(material(measured(), replaces=True), quiet))

    def test_it_is_never_complete(self) -> None:
        self.assertRaises(ValueError, replace, RESULT, provisional=OPEN)

    def test_a_rest_that_failed(self) -> None:
        message = render_failure("The disk is full.", "", None, rest=True).message
        self.assertIn("The rest was not measured: the verdict stays provisional", message)


class MessageTest(TestCase):
    def test_what_it_says(self) -> None:
        gain = Gain(
            before=Counts(statements=100, covered=80),
            after=Counts(statements=110, covered=95),
            own=7,
            open_changes=3,
        )
        result = measured(covered=82, statements=103, patch=lacking(part(7)))
        review = said(result, prospect=gain, link="http://c/jobs/1\x1b")
        lines = review.message.splitlines()
        self.assertEqual("Patch coverage: 90.00 %, 9 of 10 statements", lines[0])
        self.assertIn("* Project: 80.00 % → 79.61 %, +2 covered, +3 in all", lines)
        self.assertIn("* With all 3 open changes: 80.00 % → 86.36 %; +7 by this one alone", lines)
        self.assertIn("* Details: http://c/jobs/1", lines)
        self.assertLess(len(lines), 9)

    def test_the_body_is_gerrits(self) -> None:
        body = said(measured(patch=lacking(part(7), part(9, 11)))).body()
        self.assertEqual("autogenerated:covtrack~result", body["tag"])
        self.assertEqual({"Coverage": 1}, body["labels"])
        single, several = body["comments"]["a.py"]
        self.assertEqual(7, single["line"])
        self.assertEqual((9, 11), (several["range"]["start_line"], several["range"]["end_line"]))
        json.dumps(body)

    def test_faults_and_failures(self) -> None:
        fault = Fault(
            kind=FaultKind.ENVIRONMENT, subject="t", sentence="qemu-img is missing.", advice=""
        )
        outcome = Outcome(test="t.Broken.test", status=Status.FAILED)
        message = said(measured(faults=(fault,), outcomes=(outcome,))).message
        self.assertIn("environment, not held against the change: qemu-img is missing.", message)
        self.assertIn("t.Broken.test", message)

    def test_quiet(self) -> None:
        quiet = ReviewSettings(quiet=True)
        self.assertIsNone(compose(material(measured()), quiet))
        self.assertIsNotNone(compose(material(measured(covered=79)), quiet))
        self.assertIsNone(compose(material(measured()), ReviewSettings(post=False)))

    def test_a_template_of_the_project(self) -> None:
        review = compose(
            material(measured()), SETTINGS, "{{ covered }}/{{ statements }} {{ link }}"
        )
        assert review
        self.assertEqual("10/10", review.message)

    def test_broken_and_hostile_templates(self) -> None:
        for text in (
            "{{ nothing }}",
            "{% if %}",
            "{{ ''.__class__.__mro__ }}",
            "{{ 1 / 0 }}",
            "{{ 'a'.split()[9] + 1 }}",
        ):
            self.assertRaises(UsageError, compose, material(measured()), SETTINGS, text)

    def test_a_template_is_tried_with_all_that_it_may_name(self) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "words.j2"
            path.write_text(
                " ".join(f"{{{{ {name} }}}}" for name in _words(material(measured()), 0))
            )
            self.assertEqual(str(path), check_template(ReviewSettings(template=path)))
            for text in ("{{ nothing }}", "{% if %}"):
                path.write_text(text)
                self.assertRaises(UsageError, check_template, ReviewSettings(template=path))
            path.write_bytes(b"\xff")
            self.assertRaises(UsageError, check_template, ReviewSettings(template=path))
            path.unlink()
            self.assertRaises(UsageError, check_template, ReviewSettings(template=path))
        self.assertIsNone(check_template(ReviewSettings()))
        named = {*WORDS, *LISTS, *NUMBERS}
        self.assertEqual(named, set(_words(material(measured()), 0)))

    def test_a_failure_is_not_the_changes_doing(self) -> None:
        review = render_failure("The index is away.", "Try later.", None)
        self.assertIn("not held against the change", review.message)
        self.assertEqual(({}, {}), (review.votes, review.comments))

    @settings(max_examples=10)
    @given(st.lists(st.text(max_size=300), max_size=30), st.sampled_from([1, 3, 300]))
    def test_any_names_keep_gerrits_limits(self, names: list[str], ranges: int) -> None:
        parts = tuple(part(2 * n + 1, test="t" * 5000) for n in range(ranges))
        outcomes = tuple(Outcome(test=name or "t", status=Status.FAILED) for name in names)
        result = measured(patch=lacking(*parts, statements=500), outcomes=outcomes)
        review = said(result, ReviewSettings(comments=500))
        self.assertLessEqual(len(review.message.encode()), LONGEST + 100)
        self.assertFalse(set(review.message) & {"\x00", "\x1b", "\x07", "\x08"})
        for comments in review.comments.values():
            self.assertTrue(all(len(one.message.encode()) < 16 * 1024 for one in comments))


class CommentTest(TestCase):
    def test_clipped_to_what_the_change_touches(self) -> None:
        touched = {"a.py": frozenset({3, 4, 8})}
        review = said(measured(patch=lacking(part(1, 6), part(20))), touched=touched)
        (comment,) = review.comments["a.py"]
        self.assertEqual((3, 4), (comment.first, comment.last))

    def test_each_run_of_touched_lines(self) -> None:
        touched = {"a.py": frozenset({1, 4, 5})}
        review = said(measured(patch=lacking(part(1, 6))), touched=touched)
        found = [(one.first, one.last) for one in review.comments["a.py"]]
        self.assertEqual([(1, 1), (4, 5)], found)

    def test_none_where_tests_did_not_all_run(self) -> None:
        self.assertEqual({}, said(measured(patch=lacking(part(1)), complete=False)).comments)
        fault = Fault(kind=FaultKind.COMPANY, subject="t", sentence="It is so.", advice="")
        self.assertEqual({}, said(measured(patch=lacking(part(1)), faults=(fault,))).comments)

    def test_none_where_the_lines_are_unknown(self) -> None:
        self.assertEqual({}, said(measured(patch=lacking(part(1))), touched=None).comments)

    def test_capped_and_told(self) -> None:
        few = ReviewSettings(comments=2)
        ranges = (part(1), part(3, 9), part(20, 22))
        review = said(measured(patch=lacking(*ranges)), few)
        self.assertEqual([3, 20], [one.first for one in review.comments["a.py"]])
        self.assertIn("1 more uncovered range not commented on", review.message)

    def test_nothing_is_said_twice_on_a_change(self) -> None:
        result = measured(patch=lacking(part(1), part(5), part(30, test=None)))
        first = said(result).comments["a.py"]
        earlier = tuple(
            EarlierComment(path="a.py", line=one.last + 40, message=one.message) for one in first
        )
        self.assertEqual({}, said(result, earlier=earlier).comments)
        (left,) = said(result, earlier=earlier[1:]).comments["a.py"]
        self.assertEqual(first[0].message, left.message)

    def test_a_change_with_thousands_of_comments_gets_no_more(self) -> None:
        earlier = (EarlierComment(path="b.py", line=1, message="x"),) * 4_500
        review = said(measured(patch=lacking(part(1))), earlier=earlier)
        self.assertEqual({}, review.comments)


class ThresholdTest(TestCase):
    def test_exact_at_the_threshold(self) -> None:
        exact = SETTINGS.model_copy(update={"patch_threshold": Fraction(200, 3)})
        patch = lacking(*(part(n) for n in range(1, 4)), statements=9)
        self.assertEqual(1, decide(measured(patch=patch), (), exact).vote)
