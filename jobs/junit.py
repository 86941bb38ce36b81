"""The outcomes of tests as JUnit's XML, as Jenkins' junit step reads it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from jobs.results import JobResult, Outcome, Status

# https://www.w3.org/TR/xml/#charsets: what no XML 1.0 document may hold, and lone surrogates.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FAILED = {Status.FAILED: "failure", Status.UNEXPECTED_SUCCESS: "failure", Status.CRASHED: "error"}


def junit_xml(results: Iterable[JobResult]) -> str:
    """A test suite per result, with the tests that ran now: nobody ran the carried ones."""
    root = Element("testsuites")
    for result in results:
        tests, crashed = result.tests, count_crashed(result.outcomes)
        suite = SubElement(
            root,
            "testsuite",
            name=_clean(f"{result.project} {result.commit[:10]}"),
            tests=str(tests.run),
            failures=str(tests.failed - crashed),
            errors=str(crashed),
            skipped=str(tests.skipped),
            time=f"{sum(outcome.seconds for outcome in result.outcomes):.3f}",
        )
        for outcome in result.outcomes:
            _add_case(suite, outcome)
    indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(root, encoding="unicode")}\n'


def count_crashed(outcomes: Iterable[Outcome]) -> int:
    """How many tests never reported an end."""
    return sum(outcome.status is Status.CRASHED for outcome in outcomes)


def _add_case(suite: Element, outcome: Outcome) -> None:
    klass, _, name = outcome.test.partition("(")[0].rpartition(".")
    scenario = outcome.test[len(outcome.test.partition("(")[0]) :]
    case = SubElement(
        suite,
        "testcase",
        classname=_clean(klass),
        name=_clean(name + scenario),
        time=f"{outcome.seconds:.3f}",
    )
    if outcome.status is Status.SKIPPED:
        SubElement(case, "skipped", message=_clean(outcome.details[:1000]))
    elif tag := _FAILED.get(outcome.status):
        last = outcome.details.strip().rpartition("\n")[2] or outcome.status.value
        SubElement(case, tag, message=_clean(last[:1000])).text = _clean(outcome.details)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
