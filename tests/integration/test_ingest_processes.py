"""Bundles stored and a branch advanced by several processes at once, on one database.

A real PostgreSQL server, real bundles, runs and snapshots.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from covtrack.ingest import store_bundle
from covtrack.settings import Settings
from covtrack.tracking import Order
from jobs.bundle import NAME
from jobs.snapshot import file_digest
from tests.databases import postgresql
from tests.step_case import ROOT, TrackerCase
from venv_builder.processes import ProcessGroup, start_group

CHILD = """
import sys, time
from pathlib import Path
from covtrack.ingest import store_bundle
from covtrack.settings import Settings
from covtrack.store import building
from covtrack.store.database import Database
from covtrack.tracking import Tracker
from venv_builder.progress import ignore
import covtrack.working, jobs.snapshot_checking

settings, go, task, *words = sys.argv[1:]
settings = Settings.model_validate_json(settings)
with Database.open(settings.database_url) as database:
    tracker = Tracker(settings, database, ignore)
    if task == "store":
        build = database.read(lambda c: building.read_build(c, words[0]))
    print("ready", flush=True)
    while not Path(go).exists():
        time.sleep(0.002)
    if task == "store":
        print(*store_bundle(tracker, build, Path(words[1])))
    else:
        (project,) = settings.projects.values()
        for result in tracker.advance(project, lambda result: None, fetch=False):
            print(result.commit)
"""


class RacesTest(TrackerCase):
    """On a PostgreSQL server of our own: SQLite lets one writer in at a time."""

    def fresh_url(self) -> str:
        return postgresql().fresh_url()

    def start(self, settings: Settings, *words: object) -> tuple[ProcessGroup, Path]:
        out = self.folder / f"{len(list(self.folder.glob('*.out')))}.out"
        go = self.folder / "go"
        argv = [sys.executable, "-c", CHILD, settings.model_dump_json(), go, *words]
        child = start_group(
            [str(word) for word in argv],
            cwd=ROOT,
            env={**self.environment(), "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=out.with_suffix(".err"),
        )
        self.addCleanup(child.kill)
        return child, out

    def finish(self, children: list[tuple[ProcessGroup, Path]]) -> list[list[str]]:
        """Let all begin at once; what each prints, a line each."""
        self.wait_until(lambda: all(out.read_text() for _, out in children), children)
        (self.folder / "go").touch()
        self.wait_until(lambda: all(child.poll() is not None for child, _ in children), children)
        errors = "".join(out.with_suffix(".err").read_text() for _, out in children)
        self.assertEqual({0}, {child.poll() for child, _ in children}, errors)
        return [out.read_text().splitlines()[1:] for _, out in children]

    def wait_until(self, done: Any, children: list[tuple[ProcessGroup, Path]]) -> None:
        deadline = monotonic() + 120
        while not done() and monotonic() < deadline:
            if any(child.poll() for child, _ in children):
                break
            sleep(0.01)

    def bundle(self, sha: str, change: int = 7) -> tuple[str, Path, Path]:
        """A change's run id and two bundles of it, as from a build that was started twice."""
        build = self.order(sha, change=change)
        order = self.folder / f"{build.run_id}.json"
        order.write_text(build.order.model_dump_json())
        paths = []
        for name in ("once", "again"):
            self.assertEqual(0, self.step("--order", order).status)
            paths.append(self.folder / f"{build.run_id}-{name}.bundle")
            (self.out / NAME).rename(paths[-1])
        return build.run_id, paths[0], paths[1]

    def assert_snapshots_are_those_stored(self, *states: Path) -> None:
        for run in self.database.runs_of(self.name):
            self.assertTrue(run.usable)
            found = [state / run.snapshot for state in states if (state / run.snapshot).is_file()]
            self.assertEqual([run.sha256], [file_digest(path) for path in found], run.snapshot)

    def test_stores_and_advances_at_once(self) -> None:
        first, again, other = self.bundle(self.change())
        self.clone.repo.git.checkout("-q", "-B", "side", "master")
        self.clone.replace("sample/shapes.py", "return 1", "return 2")
        second, _, _ = side = self.bundle(self.clone.commit_all("Two"), 8)
        self.clone.repo.git.checkout("-q", "master")
        self.tracker.run(self.project, Order())
        commits = []
        for number in range(2):
            self.clone.replace("sample/texts.py", '"hello', '"hello hello')
            commits.append(self.clone.commit_all(f"Commit {number}"))
        away = self.tracked.model_copy(
            update={"state": self.folder / "away", "database": self.tracked.database_url}
        )
        for settings in (self.tracked, away):
            self.tracker.settings = settings
            self.tracker.mirror(self.name).fetch(str(self.clone.root))
        self.tracker.settings = self.tracked
        told = self.finish(
            [
                *(
                    self.start(self.tracked, "store", first, path)
                    for path in (again, other, again)
                ),
                *(self.start(self.tracked, "store", second, path) for path in side[1:]),
                self.start(self.tracked, "advance"),
                self.start(self.tracked, "advance"),
                self.start(away, "advance"),
            ]
        )
        self.assertEqual([told[0], told[3]], [told[1], told[4]])
        self.assertEqual(told[0], told[2])
        ids = " ".join([*told[0], *told[3]]).split()
        self.assertEqual(4, len(set(ids)))
        self.assertEqual(commits, [*told[5], *told[6]])  # by one of the two, the other has none
        self.assertEqual(commits[-1:], told[7])  # nothing is there to build on
        stored = self.database.runs_of(self.name)
        self.assertEqual(4 + 1 + 2 + 1, len(stored))
        self.assert_snapshots_are_those_stored(self.tracked.state, away.state)

    def test_another_bundle_of_a_stored_run_leaves_it_as_it_is(self) -> None:
        run_id, once, again = self.bundle(self.change())
        self.assertNotEqual(file_digest(once), file_digest(again))
        stale = self.build(run_id)
        first = store_bundle(self.tracker, stale, once)
        self.assertEqual(first, store_bundle(self.tracker, stale, again))
        self.assert_snapshots_are_those_stored(self.tracked.state)
