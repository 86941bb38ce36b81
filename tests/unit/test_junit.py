"""Outcomes as JUnit's XML."""

from __future__ import annotations

from dataclasses import replace
from xml.etree.ElementTree import fromstring

from hypothesis import given
from testtools import TestCase

from jobs.junit import junit_xml
from jobs.results import JobResult, Outcome, Status, TestCounts
from tests.samples import RESULT, RESULTS

OUTCOMES = (
    Outcome(test="a.b.C.test_ok", status=Status.PASSED, seconds=0.25),
    Outcome(test="a.b.C.test_bad(x.y)", status=Status.FAILED, details="Trace\nError: <&\0>"),
    Outcome(test="a.b.C.test_dead", status=Status.CRASHED),
    Outcome(test="a.b.C.test_not", status=Status.SKIPPED, details="no time"),
)


class JUnitTest(TestCase):
    def test_each_outcome(self) -> None:
        tests = TestCounts(run=4, passed=1, failed=2, skipped=1, carried=9)
        (suite,) = fromstring(junit_xml([replace(RESULT, outcomes=OUTCOMES, tests=tests)]))
        counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")]
        self.assertEqual(["4", "1", "1", "1", "0.250"], counts)
        self.assertEqual(
            [[], ["failure"], ["error"], ["skipped"]], [[e.tag for e in c] for c in suite]
        )
        bad = suite[1]
        self.assertEqual(("a.b.C", "test_bad(x.y)"), (bad.get("classname"), bad.get("name")))
        self.assertEqual("Error: <&\ufffd>", bad[0].get("message"))

    @given(RESULTS)
    def test_whatever_tests_print_it_is_xml(self, result: JobResult) -> None:
        (suite,) = fromstring(junit_xml([result]))
        self.assertEqual(len(result.outcomes), len(suite))
