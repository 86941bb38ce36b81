"""Steps that a tracker ordered, over HTTP, into its database: real step, server and store."""

from __future__ import annotations

import sys
from pathlib import Path

import requests

from covtrack.ingest import EndedError, store_bundle
from covtrack.store.queued import BuildState, JobKind
from covtrack.tracking import Order
from jobs.bundle import LARGEST_BUNDLE, NAME
from jobs.results import Kind
from tests.step_case import ROOT, TrackerCase
from venv_builder.errors import UsageError
from venv_builder.processes import run_command

SPY = """\
    import os
    import unittest
    from pathlib import Path


    def texts():
        yield repr(sorted(os.environ.items()))
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                yield path.read_bytes().decode("utf-8", "replace")
            except OSError:
                continue


    class SpyTest(unittest.TestCase):
        def test_spy(self):
            found = [text for text in texts() if "%s" in text]
            self.assertEqual([], [text[:2000] for text in found])
    """
CHILD = """
import os, sys
from pathlib import Path
from sqlalchemy import Engine, event
from covtrack.ingest import store_bundle
from covtrack.settings import Settings, TrackedProject
from covtrack.store import building
from covtrack.store.database import Database
from covtrack.tracking import Tracker
from venv_builder.progress import ignore

settings = Settings.model_validate_json(sys.argv[1])
run_id, bundle, moment = sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
done = []

def count(*arguments):
    done.append(1)
    if len(done) == moment:
        os.kill(os.getpid(), 9)

import jobs.snapshot_checking, jobs.bundle
with Database.open(settings.database_url) as database:
    build = database.read(lambda c: building.read_build(c, run_id))
    event.listen(Engine, "after_cursor_execute", count)
    sys.addaudithook(lambda name, a: count() if name in ("os.rename", "os.chmod") else None)
    store_bundle(Tracker(settings, database, ignore), build, bundle)
"""


class TrackerTest(TrackerCase):
    def test_a_change_from_order_to_database(self) -> None:
        sha = self.change()
        build = self.order(sha)
        self.assertEqual(["baseline", "change"], [c.kind.value for c in build.order.commits])
        with self.serving() as url:
            done = self.step(env=self.variables(url, build))
        self.assertEqual(0, done.status, done.stderr)
        stored = self.build(build.run_id)
        first, second = stored.run_ids or ()
        run = self.database.find_run(self.name, sha)
        assert run is not None
        self.assertEqual((second, Kind.CHANGE, self.first), (run.run_id, run.kind, run.base))
        self.assertEqual((1, 2), (run.tests.run, run.tests.carried))
        self.assertEqual([first], [r.run_id for r in self.database.baselines(self.name)])
        job = self.job(stored.job_id)
        self.assertEqual(second, job.run_id)
        assert job.gain is not None
        self.assertEqual({"statements": 18, "covered": 17}, job.gain["after"])
        # The same measured here, in one process, has the same figures.
        before = self.database.files_of(second)
        here = self.tracker.run(self.project, Order(revision=sha, fetch=False))
        self.assertEqual(before, here.measurement.files)
        self.assertEqual(0, here.tests.run)

    def test_a_baseline_goes_to_the_agent_and_is_built_on(self) -> None:
        self.tracker.run(self.project, Order())
        sha = self.change()
        build = self.order(sha)
        self.assertEqual(1, len(build.order.commits))
        with self.serving() as url:
            done = self.step(env=self.variables(url, build))
        self.assertEqual(0, done.status, done.stderr)
        run = self.database.find_run(self.name, sha)
        assert run is not None
        self.assertEqual((self.first, 1, 2), (run.base, run.tests.run, run.tests.carried))
        self.assertIsNotNone(run.before)

    def test_an_advance_measures_every_commit_on_the_one_before(self) -> None:
        self.tracker.run(self.project, Order())
        self.clone.replace("sample/texts.py", '"hello "', '"Hello "')
        second = self.clone.commit_all("Second")
        self.clone.replace("sample/shapes.py", "return 1", "return 2")
        third = self.clone.commit_all("Third")
        build = self.order(third, JobKind.ADVANCE)
        self.assertEqual([second, third], [commit.sha for commit in build.order.commits])
        with self.serving() as url:
            done = self.step(env=self.variables(url, build))
        self.assertEqual(0, done.status, done.stderr)
        run = self.database.find_run(self.name, third)
        assert run is not None
        self.assertEqual((second, Kind.BASELINE), (run.base, run.kind))
        self.assertEqual(2, len(self.build(build.run_id).run_ids or ()))

    def test_the_same_tree_of_a_commit_that_no_agent_has(self) -> None:
        self.tracker.run(self.project, Order())
        sha = self.change()
        self.tracker.run(self.project, Order(revision=sha))
        self.clone.repo.git.checkout("-q", "-B", "again", "master")
        self.clone.replace("sample/texts.py", '"hello "', '"Hello "')
        again = self.clone.commit_all("The same under another message")
        build = self.order(again)
        self.clone.repo.git.branch("-D", "work")
        with self.serving() as url:
            done = self.step(env=self.variables(url, build))
        self.assertEqual(0, done.status, done.stderr)
        run = self.database.find_run(self.name, again)
        assert run is not None
        self.assertEqual((self.first, 0, 3), (run.base, run.tests.run, run.tests.carried))

    def test_measured_code_cannot_see_the_token(self) -> None:
        build = self.order(self.change())
        spy = SPY % build.token[:20]
        self.clone.repo.git.checkout("-q", "master")
        sha = self.clone.commit("Spy", {"sample/tests/test_spy.py": spy})
        self.move(build.run_id, BuildState.CANCELLED)
        self.tracker.mirror(self.name).fetch(str(self.clone.root))
        order = build.order.model_copy(
            update={"commits": (build.order.commits[0].model_copy(update={"sha": sha}),)}
        )
        path = self.folder / "order.json"
        path.write_text(order.model_dump_json())
        done = self.step("--order", path, env=self.variables("http://127.0.0.1:9", build))
        self.assertEqual(0, done.status, done.stderr)
        self.assertIn("4 run (4 passed", done.stdout)

    def test_a_tracker_that_is_away_leaves_the_bundle_as_an_artifact(self) -> None:
        build = self.order(self.change())
        with self.serving() as url:
            self.assertEqual(0, self.step(env=self.variables(url, build)).status)
        self.assertTrue((self.out / NAME).is_file())
        done = self.step(env=self.variables("gopher://x", build))
        self.assertEqual(2, done.status)
        self.assertNotIn(build.token, done.stdout + done.stderr)
        for name in ("COVTRACK_RUN_TOKEN", "COVTRACK_RUN_ID"):
            variables = self.variables(url, build)
            del variables[name]
            done = self.step(env=variables)
            self.assertEqual(2, done.status)
            self.assertIn(f"{name} is not set", done.stderr)


class EndpointTest(TrackerCase):
    def test_who_has_no_token_learns_nothing(self) -> None:
        build = self.order(self.change())
        with self.serving() as url:
            place = f"{url}/api/steps/{build.run_id}"
            right = {"Authorization": f"Bearer {build.token}"}
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": "Bearer"},
                {"Authorization": f"Basic {build.token}"},
                {"Authorization": "Bearer \u00e9".encode("latin-1")},
            ):
                for path in (place, f"{place}/baseline", f"{url}/api/steps/other"):
                    answer = requests.get(path, headers=headers, timeout=30)
                    self.assertEqual(
                        (404, {"error": "There is nothing here."}),
                        (answer.status_code, answer.json()),
                    )
                answer = requests.put(f"{place}/bundle", data=b"x", headers=headers, timeout=30)
                self.assertEqual(404, answer.status_code)
            answer = requests.get(place, headers=right, timeout=30)
            self.assertEqual((200, build.run_id), (answer.status_code, answer.json()["run_id"]))
            answer = requests.get(f"{place}/baseline", headers=right, timeout=30)
            self.assertEqual(404, answer.status_code)
            answer = requests.put(f"{place}/bundle", data=b"no zip", headers=right, timeout=30)
            self.assertEqual(422, answer.status_code)
            self.assertIn("it is no whole zip file", answer.json()["error"])
            long = {**right, "Content-Length": str(LARGEST_BUNDLE + 1)}
            answer = requests.put(f"{place}/bundle", headers=long, timeout=30)
            self.assertEqual(413, answer.status_code)
            line = b"run 3 of 9 \x1b[31mtests\n"
            answer = requests.post(f"{place}/progress", data=line, headers=right, timeout=30)
            self.assertEqual(204, answer.status_code)
            progress = self.job(self.build(build.run_id).job_id).progress
            self.assertTrue(progress.startswith("run 3 of 9"), progress)
            self.assertNotIn("\x1b", progress)
            self.move(build.run_id, BuildState.ENDED)
            for answer in (
                requests.get(place, headers=right, timeout=30),
                requests.put(f"{place}/bundle", data=b"x", headers=right, timeout=30),
                requests.post(f"{place}/progress", data=b"x", headers=right, timeout=30),
            ):
                self.assertEqual(409, answer.status_code)
        self.assertEqual([], list((self.tracked.state / "incoming").iterdir()))
        self.assertIsNone(self.database.newest_run(self.name))

    def test_a_job_has_one_build_and_no_password_goes_out(self) -> None:
        sha = self.change()
        build = self.order(sha)
        job = self.job(self.build(build.run_id).job_id)
        from covtrack.ordering import make_order, order_build

        self.assertRaises(UsageError, order_build, self.tracker, self.project, job)
        secret = self.project.model_copy(update={"git": "https://me:secret@example.org/x"})
        error = self.assertRaises(UsageError, make_order, self.tracker, secret, job, run_id="r")
        self.assertNotIn("secret@", str(error))
        update = {"git_for_agents": "https://example.org/x"}
        order = make_order(self.tracker, secret.model_copy(update=update), job, run_id="r")
        assert order is not None
        self.assertNotIn("secret", order.model_dump_json())


class IngestTest(TrackerCase):
    def bundle(self) -> tuple[str, Path]:
        build = self.order(self.change())
        path = self.folder / "order.json"
        path.write_text(build.order.model_dump_json())
        self.assertEqual(0, self.step("--order", path).status)
        return build.run_id, self.out / NAME

    def test_stored_again_it_changes_nothing(self) -> None:
        run_id, path = self.bundle()
        stale = self.build(run_id)
        first = store_bundle(self.tracker, stale, path)
        self.assertEqual(2, len(first))
        self.assertEqual(first, store_bundle(self.tracker, self.build(run_id), path))
        self.assertEqual(first, store_bundle(self.tracker, stale, path))
        self.assertEqual(first[1], self.database.newest_run(self.name).run_id)  # type: ignore[union-attr]

    def test_what_is_over_is_not_stored(self) -> None:
        run_id, path = self.bundle()
        for state in (BuildState.LOST, BuildState.CANCELLED):
            self.move(run_id, state)
            self.assertRaises(EndedError, store_bundle, self.tracker, self.build(run_id), path)
        self.assertIsNone(self.database.newest_run(self.name))
        self.move(run_id, BuildState.ENDED)
        self.assertEqual(2, len(store_bundle(self.tracker, self.build(run_id), path)))

    def test_killed_at_every_statement_the_database_is_whole_and_it_goes_on(self) -> None:
        run_id, path = self.bundle()
        words = [self.tracked.model_dump_json(), run_id, str(path)]
        for moment in range(1, 200, 17):
            done = run_command(
                [sys.executable, "-c", CHILD, *words, str(moment)],
                cwd=ROOT,
                env={**self.environment(), "PYTHONPATH": str(ROOT)},
                timeout=120,
            )
            runs = self.database.baselines(self.name, changes=True)
            ids = self.build(run_id).run_ids
            self.assertEqual(sorted(ids or ()), sorted(run.run_id for run in runs))
            for run in runs:
                self.assertTrue((self.tracked.state / run.snapshot).is_file())
            if done.status == 0:
                break
            self.assertEqual(
                -9, done.status if done.status < 0 else 128 - done.status - 0, done.stderr
            )
        self.assertGreater(moment, 8)
        ids = store_bundle(self.tracker, self.build(run_id), path)
        self.assertEqual(2, len(ids))
        self.assertEqual(2, len(self.database.baselines(self.name, changes=True)))
