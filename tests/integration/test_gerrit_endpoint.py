"""What Gerrit's pages are told over HTTP of a really measured change."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import requests
from testtools import TestCase

from covtrack.dispatching import recheck
from covtrack.export import export_snapshot
from covtrack.gerrit.settings import GerritServer
from covtrack.serving import Service
from covtrack.settings import Settings, TrackedProject
from covtrack.store import inbox, queueing
from covtrack.store.database import Database
from covtrack.store.queued import ChangeStatus, Job, JobState, KnownChange
from covtrack.tracking import Order, Tracker
from jobs.results import JobResult
from tests.sample_project import SampleClone
from venv_builder.progress import ignore

GERRIT = "https://review.example.org:8443"
PATH = "sample/shapes.py"
MORE = """
def twice(number):
    return area(
        number,
        2,
    )


SQUARE = area(
    2,
    2,
)
"""
LINES = "/coverage/api/coverage-data"
RERUN = {"X-Covtrack": "rerun"}
QUERY = {
    "host": "review.example.org:8443",
    "project": "group/sample",
    "change": "7",
    "patchset": "2",
}


class Measured:
    """A change of the sample project, measured once for all tests."""

    def __init__(self) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="covtrack-endpoint-"))
        atexit.register(shutil.rmtree, self.state, ignore_errors=True)
        clone = SampleClone(self.state / "clone")
        clone.repo.git.checkout("-q", "-b", "work")
        text = clone.read(PATH)
        self.commit = clone.commit(
            "Add twice", {PATH: text + MORE, "sample/new.py": "", "notes.txt": "Hello\n"}
        )
        self.project = TrackedProject(
            name="sample",
            git=str(clone.root),
            branch="master",
            gerrit="g",
            gerrit_project="group/sample",
        )
        self.settings = Settings(
            state=self.state,
            listen="127.0.0.1:0",
            gerrit={"g": GerritServer(name="g", url=GERRIT)},
            projects={"sample": self.project},
        )
        with Database.open(self.settings.database_url) as database:
            tracker = Tracker(self.settings, database, ignore)
            self.result = tracker.run(self.project, Order(revision=self.commit))


class EndpointCase(TestCase):
    measured: Measured

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.measured = Measured()

    def setUp(self) -> None:
        super().setUp()
        self.settings = self.measured.settings
        self.database = Database.open(self.settings.database_url)
        self.addCleanup(self.database.close)
        self.known = KnownChange(
            server="g",
            change=7,
            project="group/sample",
            branch="master",
            patch_set=2,
            commit=self.measured.commit,
            ref="refs/changes/07/7/2",
            subject="Add twice",
        )
        self.put_change()
        self.addCleanup(self.end_jobs)
        self.said: list[str] = []
        answering = self.answer()
        self.url = answering.__enter__()
        self.addCleanup(answering.__exit__, None, None, None)

    @contextmanager
    def answer(self) -> Iterator[str]:
        """covtrack's HTTP side alone, on a free port."""
        say = self.said.append
        service = Service(self.settings, None, self.database, listen_only=True, say=say)
        with service.answering():
            yield self.said[-1].removeprefix("HTTP on ").rstrip(".")

    def put_change(self, **values: Any) -> None:
        change = replace(self.known, **values)
        self.database.write(lambda connection: inbox.put_change(connection, change))

    def end_jobs(self) -> None:
        for job in self.jobs():
            self.move(job, JobState.CANCELLED)

    def move(self, job: Job, state: JobState, **values: Any) -> None:
        new = {"state": state.value, **values}
        self.database.write(lambda connection: queueing.put_values(connection, job.job_id, new))

    def jobs(self) -> tuple[Job, ...]:
        return self.database.read(lambda connection: queueing.newest_jobs(connection, 99))

    def ask(self, path: str, status: int = 200, **query: str) -> Any:
        answer = requests.get(f"{self.url}{path}", params=QUERY | query, timeout=30)
        self.assertEqual(status, answer.status_code, answer.text)
        return answer.json()

    def rerun(self, headers: dict[str, str] | None = None, **query: str) -> requests.Response:
        place, all_headers = f"{self.url}/api/rerun", RERUN if headers is None else headers
        return requests.post(place, params=QUERY | query, headers=all_headers, timeout=30)


class LinesTest(EndpointCase):
    def test_lines_are_those_of_coverage_itself(self) -> None:
        files = self.ask(LINES, type="lines", format="json", concise="1")["data"]["files"]
        self.assertEqual([PATH, "sample/new.py"], sorted((f["path"] for f in files), reverse=True))
        told = {line["line"]: line["count"] for line in self.of(files, PATH)["lines"]}
        for line, hits in self.xml_lines().items():
            self.assertEqual((line, hits), (line, told[line]))
        inner = {line: told[line] for line in told.keys() - self.xml_lines().keys()}
        # The inner lines of the three statements that take several.
        lines = [*range(12, 15), *range(22, 25), *range(28, 31)]
        self.assertEqual(dict(zip(lines, (1,) * 3 + (0,) * 3 + (1,) * 3, strict=True)), inner)

    def xml_lines(self) -> dict[int, int]:
        """What coverage.py's own XML report says of the file."""
        file = Path(tempfile.mkdtemp(dir=self.measured.state)) / "coverage.xml"
        tracker = Tracker(self.settings, self.database, ignore)
        export_snapshot(tracker, self.measured.project, self.measured.commit, "xml", file)
        (found,) = ElementTree.parse(file).getroot().iterfind(".//class[@name='shapes.py']")
        return {int(x.get("number", 0)): int(x.get("hits", 0)) for x in found.iter("line")}

    def of(self, files: list[Any], path: str) -> Any:
        return next(file for file in files if file["path"] == path)

    def test_percentages(self) -> None:
        (file,) = self.ask(LINES, type="percentages")["data"]["files"]
        result: JobResult = self.measured.result
        counts = next(f.counts for f in result.measurement.files if f.path == PATH)
        assert result.patch
        self.assertEqual(
            {
                "path": PATH,
                "absolute_coverage": {"covered": counts.covered, "total": counts.statements},
                "incremental_coverage": {"covered": 2, "total": 3},
            },
            file,
        )
        self.assertEqual((2, 3), (result.patch.covered, result.patch.statements))

    def test_what_cannot_be_known_any_more(self) -> None:
        snapshot, kept = self.measured.result.snapshot, self.measured.state / "kept"
        tracker = Tracker(self.settings, self.database, ignore)
        for path, words in (
            (snapshot, "is gone or damaged"),
            (tracker.places("sample").kept, "is not kept"),
            (tracker.mirror("sample").path, "has no commit"),
        ):
            path.rename(kept)
            self.assertIn(words, self.ask(LINES, 404)["error"])
            if path.is_dir():
                shutil.rmtree(path)
            kept.rename(path)
        self.ask(LINES)

    def test_a_damaged_snapshot(self) -> None:
        snapshot = self.measured.result.snapshot
        good = snapshot.read_bytes()
        snapshot.chmod(0o644)
        snapshot.write_bytes(b"no database" * 100)
        self.assertIn("damaged", self.ask(LINES, 404)["error"])
        snapshot.write_bytes(good)
        self.ask(LINES)


class QuestionTest(EndpointCase):
    def test_what_is_not_known(self) -> None:
        for path in (LINES, "/api/patch-set"):
            for query in (
                {"project": "group/other"},
                {"project": "sample"},
                {"change": "8"},
                {"patchset": "3"},
            ):
                error = self.ask(path, 404, **query)["error"]
                self.assertRegex(error, r"^[^\n]+\.$")
        self.assertIn("not measured", self.ask(LINES, 404, patchset="1")["error"])

    def test_bad_input(self) -> None:
        for query in (
            {"project": ""},
            {"change": "x"},
            {"change": "-7"},
            {"change": "0"},
            {"change": "9" * 30},
            {"change": str(2**31)},
            {"patchset": "2.0"},
            {"patchset": "٢"},
        ):
            self.assertRegex(self.ask("/api/patch-set", 400, **query)["error"], r"^The query.+\.$")
            self.assertEqual(400, self.rerun(None, **query).status_code)
        for query in ({"type": "branches"}, {"format": "xml"}):
            self.assertIn("type=lines", self.ask(LINES, 400, **query)["error"])
        nothing = requests.get(f"{self.url}{LINES}", timeout=30)
        self.assertEqual(400, nothing.status_code)
        self.ask(LINES, 404, project="'; DROP TABLE runs; --\0\ud7ff")

    def test_any_host_means_the_only_server(self) -> None:
        for host in ("", "review.example.org", "canary-review.example.org"):
            self.assertTrue(self.ask(LINES, host=host)["data"]["files"])

    def test_private_changes_are_not_known(self) -> None:
        self.put_change(private=True)
        for path in (LINES, "/api/patch-set"):
            self.assertIn("knows no change 7", self.ask(path, 404)["error"])
        self.assertEqual(404, self.rerun().status_code)

    def test_pages_of_the_server_alone_may_ask(self) -> None:
        allow = "access-control-allow-origin"
        for origin, allowed in ((GERRIT, GERRIT), ("https://evil.example.org", None)):
            answer = requests.get(
                f"{self.url}{LINES}", params=QUERY, headers={"Origin": origin}, timeout=30
            )
            self.assertEqual(allowed, answer.headers.get(allow))
            self.assertNotIn("access-control-allow-credentials", answer.headers)
            asking = {
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "x-covtrack",
            }
            answer = requests.options(f"{self.url}/api/rerun", headers=asking, timeout=30)
            self.assertEqual(200 if allowed else 400, answer.status_code)
            self.assertEqual(allowed, answer.headers.get(allow))


class CheckTest(EndpointCase):
    def check(self) -> Any:
        (check,) = self.ask("/api/patch-set")["checks"]
        return check

    def test_the_way_of_a_rerun(self) -> None:
        before = len(self.jobs())
        self.assertTrue(self.check()["may_rerun"])
        queued = self.rerun()
        self.assertEqual((202, True), (queued.status_code, queued.json()["queued"]))
        again = self.rerun()
        self.assertEqual((200, False), (again.status_code, again.json()["queued"]))
        self.assertEqual(before + 1, len(self.jobs()))
        job = self.jobs()[0]
        self.assertEqual(("recheck coverage", self.measured.commit), (job.reason, job.commit))
        self.assertEqual(("SCHEDULED", False), self.seen())
        self.move(job, JobState.RUNNING, progress="run 3 of 10 tests")
        self.assertEqual(("RUNNING", False), self.seen())
        self.assertEqual("run 3 of 10 tests", self.check()["description"])
        self.assertEqual([], self.check()["results"])
        self.move(job, JobState.DONE)
        self.assertEqual(("COMPLETED", True), self.seen())
        self.move(job, JobState.FAILED, error="It broke.")
        self.assertEqual("It broke.", self.check()["results"][0]["message"])
        self.assertEqual(202, self.rerun().status_code)

    def seen(self) -> tuple[str, bool]:
        check = self.check()
        return check["status"], check["may_rerun"]

    def test_results(self) -> None:
        summary, uncovered = self.check()["results"]
        self.assertEqual("SUCCESS", summary["category"])
        self.assertIn("2 of 3 statements", summary["summary"])
        self.assertEqual((PATH, 21, 24), tuple(uncovered[k] for k in ("path", "first", "last")))

    def test_a_mirror_that_is_gone(self) -> None:
        mirror = Tracker(self.settings, self.database, ignore).mirror("sample").path
        mirror.rename(self.measured.state / "away")
        self.assertIn("has no commit", self.ask("/api/patch-set", 404)["error"])
        shutil.rmtree(mirror)
        (self.measured.state / "away").rename(mirror)
        self.assertTrue(self.check()["results"])

    def test_only_from_pages_that_mean_it(self) -> None:
        before = len(self.jobs())
        for headers in (
            {},
            {"X-Covtrack": "yes"},
            RERUN | {"Origin": "https://evil.example.org"},
            RERUN | {"Origin": "null"},
        ):
            answer = self.rerun(headers)
            self.assertEqual(403, answer.status_code)
            self.assertRegex(answer.json()["error"], r"^[^\n]+\.$")
        self.assertEqual(before, len(self.jobs()))
        self.assertEqual(202, self.rerun(RERUN | {"Origin": GERRIT}).status_code)

    def test_only_the_newest_patch_set_of_an_open_change(self) -> None:
        before = len(self.jobs())
        self.assertEqual(409, self.rerun(patchset="1").status_code)
        for values in ({"status": ChangeStatus.MERGED}, {"status": ChangeStatus.ABANDONED}):
            self.put_change(**values)
            self.assertEqual(409, self.rerun().status_code)
            self.assertFalse(self.check()["may_rerun"])
        self.put_change(wip=True)
        self.assertEqual(409, self.rerun().status_code)
        projects = tuple(self.settings.projects.values())
        self.assertFalse(recheck(self.database, self.known, projects))
        self.assertEqual(before, len(self.jobs()))


class JobPageTest(EndpointCase):
    """The page that the link of a verdict leads to."""

    def put_job(self, **values: Any) -> int:
        self.assertTrue(recheck(self.database, self.known, [self.measured.project]))
        job_id = self.jobs()[0].job_id
        done = {"state": JobState.DONE.value, **values}
        self.database.write(lambda connection: queueing.put_values(connection, job_id, done))
        return job_id

    def page(self, job_id: int) -> str:
        answer = requests.get(f"{self.url}/jobs/{job_id}", timeout=10)
        self.assertEqual(200, answer.status_code, answer.text)
        self.assertIn("default-src 'none'", answer.headers["Content-Security-Policy"])
        return answer.text

    def test_what_was_measured(self) -> None:
        page = self.page(self.put_job())
        for words in (
            "sample change 7,2",
            f"{GERRIT}/c/7/2",
            "66.66 %, 2 of 3 statements",
            "3 carried",
            "sample.tests.test_shapes.AreaTest",
            self.measured.commit,
            "as JSON",
        ):
            self.assertIn(words, page)
        self.assertNotIn("http-equiv", page)

    def test_while_it_runs_and_where_it_failed(self) -> None:
        running = {"state": JobState.RUNNING.value, "progress": "run 3 of 10 tests"}
        page = self.page(self.put_job(**running))
        self.assertIn("run 3 of 10 tests", page)
        self.assertIn('http-equiv="refresh"', page)
        self.end_jobs()
        error = "<script>alert(1)</script> is no requirement."
        page = self.page(self.put_job(state=JobState.FAILED.value, error=error))
        self.assertIn("&lt;script&gt;", page)
        self.assertNotIn("<script>", page)

    def test_what_is_told_nobody(self) -> None:
        job_id = self.put_job()
        for number in (77_777, 0, 2**40):
            answer = requests.get(f"{self.url}/jobs/{number}", timeout=10)
            self.assertEqual(404, answer.status_code, answer.text)
        self.put_change(private=True)
        for path in (f"/jobs/{job_id}", f"/api/jobs/{job_id}"):
            self.assertEqual(404, requests.get(f"{self.url}{path}", timeout=10).status_code)
        shown = requests.get(f"{self.url}/api/jobs", timeout=10).json()
        self.assertNotIn(job_id, [one["job_id"] for one in shown])
