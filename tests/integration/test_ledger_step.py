"""Full runs for the ledger on an agent: drawn, ordered, made, checked and kept."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from covtrack.ingest import store_bundle
from covtrack.ordering import order_build
from covtrack.store import building, ledgering, queueing
from covtrack.store.queued import Build, JobKind, JobState
from covtrack.store.values import LedgerEntry
from covtrack.tracking import Order
from jobs.bundle import MANIFEST, NAME
from jobs.holding import MISS
from jobs.order import StepOrder
from jobs.project import ProjectSettings
from tests.step_case import TrackerCase
from venv_builder.errors import RefusedError

SHAPES = "sample/shapes.py"
UNTESTED = 18


class LedgerStepTest(TrackerCase):
    def settings(self) -> ProjectSettings:
        return super().settings().model_copy(update={"branch_coverage": True})

    def setUp(self) -> None:
        super().setUp()
        self.project = self.project.model_copy(update={"ledger": Fraction(1)})
        self.tracked.projects[self.name] = self.project

    def do(self, order: StepOrder) -> Path:
        """Have a step do it; its bundle."""
        path = self.folder / "order.json"
        path.write_text(order.model_dump_json())
        done = self.step("--order", path)
        self.assertEqual(0, done.status, done.stderr)
        return self.out / NAME

    def entries(self) -> tuple[LedgerEntry, ...]:
        return self.database.read(lambda c: ledgering.read_entries(c, self.name))

    def test_a_stored_change_is_drawn_and_verified_once(self) -> None:
        build = self.order(self.change())
        path = self.do(build.order)
        values = {"state": JobState.RUNNING.value}
        job_id = self.build(build.run_id).job_id
        self.database.write(lambda c: queueing.put_values(c, job_id, values))
        ids = store_bundle(self.tracker, self.build(build.run_id), path)
        self.database.write(lambda c: queueing.put_values(c, job_id, {"state": "done"}))
        jobs = self.database.read(lambda c: queueing.jobs_in(c, JobState.NEW))
        commits = [commit.sha for commit in build.order.commits]
        self.assertEqual(commits, [job.commit for job in jobs])
        self.assertEqual({JobKind.VERIFY}, {job.kind for job in jobs})
        ordered = order_build(self.tracker, self.project, jobs[1])
        assert ordered is not None
        again = self.build(ordered.run_id)
        path = self.do(ordered.order)
        self.assertEqual((), store_bundle(self.tracker, again, path))
        self.assertEqual((), store_bundle(self.tracker, self.build(ordered.run_id), path))
        self.assertEqual((), store_bundle(self.tracker, again, path))
        (entry,) = self.entries()
        self.assertTrue(entry.identical, entry.held)
        self.assertEqual((ids[1], 3), (entry.run_id, entry.tests))
        self.assertEqual(2, entry.branches)
        self.assertEqual(2, len(self.database.runs_of(self.name)))  # no run of its own
        self.assertIsNone(order_build(self.tracker, self.project, jobs[1], attempt=2))

    def verified_wrongly(self) -> tuple[Build, Path]:
        """A full run held against a result that says of an untested line that it ran."""
        result = self.tracker.run(self.project, Order(fetch=True))
        job = self.job(self.build(self.order(result.commit, JobKind.VERIFY).run_id).job_id)
        (build,) = self.database.read(lambda c: building.builds_of(c, job.job_id))
        wrong = json.loads(json.dumps(build.order))
        wrong["against"]["ours"]["missing"][SHAPES].remove(UNTESTED)
        self.database.write(lambda c: building.put_build_values(c, build.run_id, {"order": wrong}))
        return self.build(build.run_id), self.do(StepOrder.model_validate(wrong))

    def test_what_differs_is_told_and_checked(self) -> None:
        build, path = self.verified_wrongly()
        whole = path.read_bytes()
        edits: tuple[Callable[[dict[str, Any]], object], ...] = (
            lambda m: m.update(held=None),
            lambda m: m.update(held={}),
            lambda m: m["held"].update(explained=[]),
            lambda m: m["held"]["false_covered"].update({SHAPES: [UNTESTED, 3]}),
            lambda m: m["held"]["explained"][0].update(why="it is a lie"),
            lambda m: m["held"]["explained"][0].update(why="nondeterministic: known from before"),
            lambda m: m["held"]["explained"][0].update(line=3),
        )
        for edit in edits:
            path.write_bytes(whole)
            rewrite(path, edit)
            error = self.assertRaises(RefusedError, store_bundle, self.tracker, build, path)
            self.assertIn("what differs", str(error))
        self.assertEqual((), self.entries())
        path.write_bytes(whole)
        self.assertEqual((), store_bundle(self.tracker, build, path))
        (entry,) = self.entries()
        self.assertEqual((False, False), (entry.identical, entry.is_unsteady))
        self.assertEqual({SHAPES: (UNTESTED,)}, entry.held.false_covered)
        self.assertEqual([MISS], [one.why for one in entry.held.explained])


def rewrite(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a bundle's manifest."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members[MANIFEST])
    edit(manifest)
    members[MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
