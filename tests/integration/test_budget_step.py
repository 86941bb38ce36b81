"""A budget on an agent: it goes out with the order, and what is provisional comes back as such."""

from __future__ import annotations

from covtrack.endings import Ending, end_job
from covtrack.ingest import store_bundle
from covtrack.ordering import OrderedBuild, order_build
from covtrack.store import building, queueing
from covtrack.store.queued import Build, Job, JobKind, JobState
from jobs.bundle import NAME
from jobs.project import ProjectSettings
from jobs.results import Kind
from tests.sample_project import SLOW
from tests.step_case import TrackerCase
from venv_builder.errors import RefusedError


class BudgetStepTest(TrackerCase):
    def setUp(self) -> None:
        super().setUp()
        self.clone.commit("Test slowly", {"sample/tests/test_slow.py": SLOW})
        self.clone.repo.git.checkout("-q", "-b", "work")
        self.clone.replace("sample/shapes.py", "width * height", "height * width")
        self.sha = self.clone.commit_all("Turn round")

    def settings(self) -> ProjectSettings:
        return super().settings().model_copy(update={"budget": 2.0})

    def do(self, build: OrderedBuild) -> Build:
        """Have a step measure what is ordered."""
        with self.serving() as url:
            done = self.step(env=self.variables(url, build))
        self.assertEqual(0, done.status, done.stderr)
        return self.build(build.run_id)

    def end(self, job_id: int) -> tuple[Job, ...]:
        """End the job as an executor does; the jobs that wait then."""
        values = {"state": JobState.RUNNING.value}
        self.database.write(lambda c: queueing.put_values(c, job_id, values))
        end_job(self.database, lambda said: None, self.job(job_id), Ending(status=0, words=""))
        return self.database.read(lambda c: queueing.jobs_in(c, JobState.NEW))

    def test_provisional_then_the_rest(self) -> None:
        build = self.do(self.order(self.sha))
        self.assertEqual(2.0, build.order["budget"])
        first = self.database.find_run(self.name, self.sha)
        assert first is not None
        assert first.provisional is not None
        self.assertEqual({"sample/shapes.py": (18,)}, dict(first.provisional.undecided))
        self.assertEqual(self.report()["provisional"]["lines_undecided"], 1)  # type: ignore[index]
        job = self.job(build.job_id)
        self.assertEqual((first.run_id, None), (job.run_id, job.gain))
        kinds = {run.kind for run in self.database.baselines(self.name, changes=True)}
        self.assertEqual({Kind.BASELINE}, kinds)
        (rest,) = self.end(build.job_id)
        self.assertEqual((JobKind.REST, self.sha), (rest.kind, rest.commit))
        ordered = order_build(self.tracker, self.project, rest)
        assert ordered is not None
        build = self.do(ordered)
        self.assertIsNone(build.order["budget"])
        final = self.database.find_run(self.name, self.sha)
        assert final is not None
        self.assertTrue(final.complete)
        self.assertEqual(first.total.covered + 1, final.total.covered)
        self.assertIsNotNone(self.job(build.job_id).gain)

    def test_what_had_no_budget_is_not_taken_for_provisional(self) -> None:
        build = self.order(self.sha)
        path = self.folder / "order.json"
        path.write_text(build.order.model_dump_json())
        self.assertEqual(0, self.step("--order", path).status)
        order = build.order.model_dump(mode="json") | {"budget": None}
        self.database.write(lambda c: building.put_build_values(c, build.run_id, {"order": order}))
        error = self.assertRaises(
            RefusedError, store_bundle, self.tracker, self.build(build.run_id), self.out / NAME
        )
        self.assertIn("is provisional, and had no budget", str(error))
        self.assertIsNone(self.database.newest_run(self.name))
