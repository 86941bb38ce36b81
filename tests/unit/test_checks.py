"""What Gerrit's pages are told: checks, addresses of patch sets, the plugin's own address."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from testtools import TestCase

from covtrack.gerrit.checks import Measured, describe_check, name_check
from covtrack.gerrit.js_plugin import render_plugin
from covtrack.gerrit.patch_sets import Address, find_server, parse_address
from covtrack.gerrit.policy import decide
from covtrack.gerrit.settings import GerritServer, ReviewSettings
from covtrack.store.queued import Job, JobKind, JobState
from jobs.results import Fault, FaultKind, PatchCoverage, UncoveredRange
from tests.samples import NOON, OPEN
from tests.unit.test_review import PARENT, lacking, measured
from venv_builder.errors import UsageError

JOB = Job(
    job_id=3,
    server="g",
    project="demo",
    kind=JobKind.CHANGE,
    branch="master",
    reason="patchset-created",
    change=7,
    patch_set=2,
    commit="a" * 40,
    ref="refs/changes/07/7/2",
    state=JobState.DONE,
    attempts=1,
    queued_at=NOON,
    not_before=NOON,
    started_at=None,
    ended_at=None,
    progress="",
    error="",
    run_id=1,
    gain=None,
    verdict=None,
    verdict_attempts=0,
    verdict_not_before=None,
    verdict_error="",
)
GAPS = tuple(
    UncoveredRange(path="a.py", first=line, last=line + 1, nearest_test="t.Near\n.test")
    for line in range(1, 40, 4)
)


def describe(
    *states: JobState, result: Any = None, label: str | None = None, **values: Any
) -> dict[str, Any]:
    review = ReviewSettings(label=label, comments=4)
    jobs = tuple(replace(JOB, state=state, **values) for state in states)
    return describe_check(
        name="covtrack",
        jobs=jobs,
        measured=result
        and Measured(result=result, decision=decide(result, (), review), gain=None),
        review=review,
        link=None,
        may_rerun=True,
    )


class ProvisionalCheckTest(TestCase):
    result = measured(complete=False, provisional=OPEN)

    def test_what_is_known_is_shown_while_the_rest_waits(self) -> None:
        for state in (JobState.NEW, JobState.QUEUED, JobState.RUNNING, JobState.DONE):
            check = describe(state, result=self.result, kind=JobKind.REST, label="Coverage")
            (known,) = check["results"]
            self.assertEqual("INFO", known["category"])
            self.assertIn("Provisional: 12 of 840 affected tests ran", known["message"])
            self.assertIn("at least", known["summary"])

    def test_a_rest_that_failed(self) -> None:
        check = describe(JobState.FAILED, result=self.result, kind=JobKind.REST)
        failed, known = check["results"]
        self.assertIn("The rest was not measured", failed["summary"])
        self.assertIn("Provisional", known["message"])


class CheckTest(TestCase):
    def test_every_state_is_one_of_gerrits(self) -> None:
        told = {}
        for state in JobState:
            check = describe(state)
            told[state] = (check["status"], check["may_rerun"])
            self.assertEqual(state, check["state"])
            json.dumps(check)
        self.assertEqual(
            {
                JobState.NEW: ("SCHEDULED", False),
                JobState.QUEUED: ("SCHEDULED", False),
                JobState.RUNNING: ("RUNNING", False),
                JobState.DONE: ("RUNNABLE", True),
                JobState.FAILED: ("COMPLETED", True),
                JobState.SUPERSEDED: ("RUNNABLE", True),
                JobState.CANCELLED: ("RUNNABLE", True),
            },
            told,
        )
        self.assertEqual("RUNNABLE", describe()["status"])

    def test_runnable_checks_have_no_results(self) -> None:
        for check in (describe(), describe(JobState.CANCELLED), describe(JobState.NEW)):
            self.assertEqual([], check["results"])

    def test_a_rule_that_is_broken(self) -> None:
        result = measured(patch=lacking(*GAPS))
        for label, category in ((None, "WARNING"), ("Coverage", "ERROR")):
            summary, *ranges = describe(JobState.DONE, result=result, label=label)["results"]
            self.assertEqual(category, summary["category"])
            self.assertIn("0 of 10 statements", summary["summary"])
            self.assertIn("below 80 %", summary["message"])
            self.assertEqual([1, 5, 9, 13], [part["first"] for part in ranges])
        self.assertEqual("No test runs 2 lines of a.py:1-2", ranges[0]["summary"])
        self.assertNotIn("\n", ranges[0]["message"])

    def test_all_is_well(self) -> None:
        (summary,) = describe(JobState.DONE, result=measured())["results"]
        self.assertEqual("SUCCESS", summary["category"])
        self.assertIn("100.00 %, 10 of 10 statements", summary["summary"])

    def test_no_range_is_named_where_faults_may_hide_coverage(self) -> None:
        fault = Fault(kind=FaultKind.ENVIRONMENT, subject="x", sentence="No qemu.", advice="")
        patch = PatchCoverage(parent=PARENT, statements=10, covered=0, uncovered=GAPS)
        for values in ({"faults": (fault,)}, {"complete": False}):
            found = describe(JobState.DONE, result=measured(patch=patch, **values))["results"]
            self.assertEqual(["INFO"], [part["category"] for part in found])
            self.assertEqual(bool(values.get("faults")), "No qemu" in found[0]["message"])

    def test_a_failed_job_is_not_the_changes_doing(self) -> None:
        (failed,) = describe(JobState.FAILED, result=measured(), error="uv\nfails")["results"]
        self.assertEqual(("WARNING", "uv fails"), (failed["category"], failed["message"]))

    def test_names(self) -> None:
        self.assertEqual("covtrack", name_check("demo", True))
        self.assertEqual("covtrack demo", name_check("demo", False))


class AddressTest(TestCase):
    def test_a_query(self) -> None:
        query = {"host": "h", "project": "p/q", "change": "7", "patchset": "2", "concise": "1"}
        expected = Address(host="h", project="p/q", change=7, patch_set=2)
        self.assertEqual(expected, parse_address(query))
        for name, wrong in (
            ("change", "7.0"),
            ("patchset", " 2"),
            ("change", ""),
            ("project", ""),
        ):
            error = self.assertRaises(UsageError, parse_address, query | {name: wrong})
            self.assertIn(name, str(error))

    def test_servers_by_host(self) -> None:
        one = GerritServer(name="one", url="https://a.example.org:8443/gerrit")
        two = GerritServer(name="two", url="https://b.example.org")
        for host, found in (
            ("a.example.org:8443", one),
            ("A.example.org", one),
            ("b.example.org", two),
            ("c.example.org", None),
            ("", None),
        ):
            self.assertEqual(found, find_server([one, two], host), host)
        self.assertEqual(two, find_server([two], "c.example.org"))
        self.assertIsNone(find_server([], ""))
        twin = one.model_copy(update={"name": "twin", "url": "https://a.example.org/other"})
        self.assertEqual(twin, find_server([twin, two], "a.example.org"))
        self.assertIsNone(find_server([twin, one], "a.example.org:1"))


class PluginTest(TestCase):
    def test_the_address_is_filled_in(self) -> None:
        self.assertIn(
            'const ADDRESS = "https://c.example.org/x";', render_plugin("https://c.example.org/x/")
        )
        spiteful = render_plugin('https://c/"</script>\n\u2028')
        self.assertIn(r'const ADDRESS = "https://c/\"\u003c/script>\n\u2028";', spiteful)

    def test_only_web_addresses(self) -> None:
        for address in ("", "c.example.org", "javascript:alert(1)"):
            self.assertRaises(UsageError, render_plugin, address)
