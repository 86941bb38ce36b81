"""jobs.faults: whose fault it is, by real tracebacks and real worker ends."""

from __future__ import annotations

import ctypes
import traceback
from collections.abc import Callable
from pathlib import Path
from unittest import loader

from testtools import TestCase

from jobs.faults import (
    Context,
    classify_failure,
    company_fault,
    guess_distribution,
    unparsed_faults,
    worker_faults,
)
from jobs.results import Fault, FaultKind, Outcome, Status
from jobs.runner import WorkerPlan, WorkerResult
from jobs.system_packages import packages_mentioning

FAILED_IMPORT = f"unittest.loader.{loader._FailedTest.__name__}.pkg.tests.test_a"  # type: ignore[attr-defined]


def raised(function: Callable[[], object]) -> str:
    """The traceback that the call ends with."""
    try:
        function()
    except BaseException:
        return traceback.format_exc()
    raise AssertionError("it did not fail")


def failing(code: str) -> str:
    return raised(lambda: exec(code, {}))


class ClassifyTest(TestCase):
    context = Context(
        project="oslo.thing",
        is_own={"pkg"}.__contains__,
        system=lambda word: packages_mentioning(word, "libxml2-dev\nlibpq-dev\n"),
    )

    def classify(self, details: str, test: str = "pkg.tests.test_a.T.test_x") -> Fault:
        outcome = Outcome(test=test, status=Status.FAILED, details=details)
        fault = classify_failure(outcome, self.context)
        self.assertTrue(fault.sentence.endswith("."), fault.sentence)
        self.assertNotIn("\n", fault.sentence)
        self.assertIn(fault.subject, fault.sentence)
        self.assertTrue(fault.advice)
        return fault

    def test_missing_distribution(self) -> None:
        for test, subject in ((FAILED_IMPORT, "pkg.tests.test_a"), ("a.T.b", "a.T.b")):
            fault = self.classify(failing("import yamlish_not_here.sub"), test)
            self.assertEqual((FaultKind.ENVIRONMENT, subject), (fault.kind, fault.subject))
            self.assertIn("yamlish_not_here", fault.sentence)
            self.assertIn('extra_packages = ["yamlish-not-here"]', fault.advice)
            self.assertIn("oslo.thing", fault.advice)

    def test_missing_module_of_the_projects_own(self) -> None:
        details = failing("raise ModuleNotFoundError(\"No module named 'pkg.gone'\")")
        self.assertEqual(FaultKind.IMPORT, self.classify(details, FAILED_IMPORT).kind)
        self.assertEqual(FaultKind.TEST, self.classify(details).kind)

    def test_missing_module_of_the_standard_library(self) -> None:
        """Removed from Python: no distribution will bring it back."""
        details = failing("import os.not_there")
        self.assertEqual(FaultKind.IMPORT, self.classify(details, FAILED_IMPORT).kind)

    def test_missing_system_library(self) -> None:
        details = raised(lambda: ctypes.CDLL("libxml2-not-here.so.2"))
        self.assertEqual(FaultKind.ENVIRONMENT, self.classify(details).kind)
        details = details.replace("libxml2-not-here.so.2", "libxml2.so.2")
        fault = self.classify(details)
        self.assertIn("libxml2.so.2", fault.sentence)
        self.assertIn("libxml2-dev", fault.advice)
        self.assertNotIn("libpq-dev", fault.advice)

    def test_import_error_of_the_patch(self) -> None:
        details = failing("from json import not_there")
        fault = self.classify(details, FAILED_IMPORT)
        self.assertEqual((FaultKind.IMPORT, "pkg.tests.test_a"), (fault.kind, fault.subject))
        self.assertIn("cannot import name 'not_there'", fault.sentence)

    def test_failure(self) -> None:
        details = failing("assert 1 == 2, 'one is not two'")
        fault = self.classify(details)
        self.assertEqual(FaultKind.TEST, fault.kind)
        self.assertIn("AssertionError: one is not two", fault.sentence)

    def test_no_reason_and_an_endless_one(self) -> None:
        self.assertIn("no reason", self.classify("").sentence)
        self.assertLess(len(self.classify(f"ValueError: {'x' * 9999}").sentence), 500)


class GuessTest(TestCase):
    def test_distributions(self) -> None:
        for module, expected in (
            ("yaml", "PyYAML"),
            ("OpenSSL.crypto", "pyOpenSSL"),
            ("oslo_config.cfg", "oslo.config"),
            ("keystoneclient.v3", "python-keystoneclient"),
            ("requests", "requests"),
            ("os_brick", "os-brick"),
        ):
            self.assertEqual(expected, guess_distribution(module))


class WorkerFaultsTest(TestCase):
    def worker(
        self,
        status: int,
        *,
        finished: bool = False,
        timed_out: bool = False,
        words: str = "",
    ) -> WorkerResult:
        return WorkerResult(
            plan=WorkerPlan(modules=("a", "b")),
            status=status,
            timed_out=timed_out,
            cpu_seconds=0.0,
            stream=Path("stream"),
            data=(),
            last_words=words,
            report={"finished": finished},
        )

    crashed = (
        Outcome(test="a.T.fine", status=Status.PASSED),
        Outcome(test="a.T.crash", status=Status.CRASHED),
    )

    def test_fine(self) -> None:
        self.assertEqual([], worker_faults(self.worker(0, finished=True), (), 10))

    def test_crash_names_the_test_and_the_signal(self) -> None:
        (fault,) = worker_faults(self.worker(139, words="Segfault"), self.crashed, 10)
        self.assertEqual((FaultKind.CRASH, "a.T.crash"), (fault.kind, fault.subject))
        self.assertIn("signal 11", fault.sentence)
        self.assertIn("Segfault", fault.sentence)

    def test_exit_before_the_end(self) -> None:
        for status in (0, 1, 128):
            (fault,) = worker_faults(self.worker(status), (), 10)
            self.assertEqual(FaultKind.CRASH, fault.kind)
            self.assertIn(f"status {status}", fault.sentence)
            self.assertIn("2 test modules", fault.sentence)

    def test_status_other_than_0_after_the_report(self) -> None:
        (fault,) = worker_faults(self.worker(134, finished=True), (), 10)
        self.assertIn("signal 6", fault.sentence)

    def test_time(self) -> None:
        (fault,) = worker_faults(self.worker(137, timed_out=True), self.crashed, 90.0)
        self.assertEqual(FaultKind.TIME, fault.kind)
        self.assertIn("90 s", fault.sentence)
        self.assertIn("a.T.crash", fault.sentence)


class OtherFaultsTest(TestCase):
    def test_company(self) -> None:
        fault = company_fault("a.T.x", "passes alone")
        self.assertEqual((FaultKind.COMPANY, "a.T.x"), (fault.kind, fault.subject))
        self.assertIn("passes alone", fault.sentence)

    def test_unparsed(self) -> None:
        faults = unparsed_faults([("a.py", "invalid syntax"), ("b.py", "null bytes")])
        self.assertEqual(["a.py", "b.py"], [fault.subject for fault in faults])
        self.assertEqual({FaultKind.DATA}, {fault.kind for fault in faults})
        self.assertIn("invalid syntax", faults[0].sentence)
