"""`covtrack serve` with the executor jenkins: queue → build on a real agent → database."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

from testtools import TestCase

from covtrack.store import ledgering
from covtrack.store.queued import BuildState, JobKind, JobState
from tests.jenkins_fixture import real_jenkins
from tests.jenkins_stage import Stage, grown
from tests.sample_project import SLOW

SECONDS = 300.0


class ServeOnJenkinsTest(TestCase):
    def begin(self, more: str = "") -> None:
        """A stage, with these lines in every project's settings."""
        jenkins = real_jenkins()
        folder = Path(tempfile.mkdtemp(prefix="on-jenkins-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.stage = Stage(folder, jenkins, f"covtrack-{secrets.token_hex(4)}", more=more)
        self.stage.prepare()
        self.addCleanup(self.stage.client.delete_job, self.stage.job)
        self.addCleanup(self.stage.stop_tracker)
        self.addCleanup(self.stage.database.close)

    def wait(self, ask: Callable[[], object]) -> None:
        end = monotonic() + SECONDS
        while not ask():
            if monotonic() > end:
                raise AssertionError(f"{self.stage.log()}\n{self.stage.jobs()}")
            sleep(0.2)

    def test_from_the_queue_to_the_database(self) -> None:
        self.begin()
        stage = self.stage
        stage.serve()
        first = stage.put_change("sample", 1, grown(1))
        self.wait(stage.is_idle)
        (job,) = stage.jobs()
        self.assertEqual((JobState.DONE, ""), (job.state, job.error), stage.log())
        (build,) = stage.builds(first)
        self.assertEqual(
            (BuildState.ENDED, "SUCCESS", True), (build.state, build.result, build.stored)
        )
        run = stage.database.find_run("sample", job.commit)
        assert run is not None
        self.assertEqual((job.run_id, True), (run.run_id, run.complete))
        self.assertIsNotNone(job.gain)
        console = stage.client.console(stage.job, build.number or 0, 100_000)
        self.assertNotIn("COVTRACK_RUN_TOKEN=", console)

        # The baseline came with it: the next change rests on that.
        second = stage.put_change("sample", 2, grown(2))
        self.wait(stage.is_idle)
        order = stage.builds(second)[0].order
        self.assertEqual(1, len(order["commits"]))
        self.assertEqual(run.base, order["base"]["commit"])

        # A branch that moves on while the tracker is killed, in the middle of the build.
        stage.repositories["sample"].commit(grown(3), "Merged")
        third = stage.put_advance("sample")
        self.wait(lambda: [one for one in stage.builds(third) if one.number])
        stage.kill_tracker()
        stage.serve()
        self.wait(stage.is_idle)
        self.assertEqual(["ended"], [one.state.value for one in stage.builds(third)])
        tip = stage.repositories["sample"].git("rev-parse", "master")
        latest = stage.database.latest_run("sample")
        assert latest is not None
        self.assertEqual(tip, latest.commit)

    def test_a_budget_makes_two_builds_of_a_change_and_the_ledger_more(self) -> None:
        self.begin('budget = "2 s"\nledger = "1"\n')
        stage = self.stage
        stage.repositories["sample"].commit({"sample/tests/test_slow.py": SLOW}, "Test slowly")
        stage.serve()
        first = stage.put_change("sample", 1, grown(1))
        self.wait(lambda: stage.is_idle() and len(stage.jobs()) == 4)
        change, *others = reversed(stage.jobs())
        (rest,) = (job for job in others if job.kind is JobKind.REST)
        self.assertEqual(first, change.job_id)
        self.assertEqual({JobState.DONE}, {job.state for job in stage.jobs()}, stage.log())
        builds = [*stage.builds(first), *stage.builds(rest.job_id)]
        self.assertEqual([2.0, None], [build.order["budget"] for build in builds])
        self.assertEqual({"SUCCESS"}, {build.result for build in builds})
        runs = {run.run_id: run for run in stage.database.runs_of("sample")}
        assert change.run_id is not None
        assert rest.run_id is not None
        provisional, final = runs[change.run_id], runs[rest.run_id]
        self.assertEqual((False, True), (provisional.complete, final.complete))
        self.assertIsNotNone(provisional.provisional)
        self.assertEqual(provisional.total.covered + 1, final.total.covered)
        # The final result and the baseline under it are drawn, what is provisional is not.
        entries = stage.database.read(lambda c: ledgering.read_entries(c, "sample"))
        baseline = min(runs)
        self.assertEqual({baseline, rest.run_id}, {entry.run_id for entry in entries})
        self.assertEqual({True}, {entry.identical for entry in entries})
