"""`covtrack gc` on real snapshots: what goes, what stays, and a kill on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from covtrack.collecting import Collected, Collector
from covtrack.gc_cli import parse_keep
from covtrack.retention import Keep
from covtrack.settings import Settings, TrackedProject
from covtrack.store.database import Database
from covtrack.tracking import Tracker
from jobs.results import Kind
from tests.integration.test_tracking import STATE, TrackingCase
from venv_builder.errors import UsageError

OLD = time.time() - 40 * 86400


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


class Dying(Collector):
    def _remove(self, paths: Iterable[Path]) -> int:
        raise Killed


class GcCase(TrackingCase):
    def setUp(self) -> None:
        super().setUp()
        for number in range(3):
            if number:
                self.clone.commit(f"Say {number}", {"README": f"{number}\n"})
            self.run_job()
        self.folder = self.make_tracker().folder(self.name) / "snapshots"

    def collect(
        self, kind: type[Collector] = Collector, *, dry: bool = False, **keep: int
    ) -> tuple[Collected, ...]:
        project = TrackedProject.model_validate(self.project().model_dump())
        settings = Settings(state=STATE, projects={self.name: project})
        database = Database.open(settings.database_url)
        self.addCleanup(database.close)
        tracker = Tracker(settings, database, self.hear)
        return kind(tracker, Keep(**keep), dry=dry).run(lambda one: None)

    def files(self) -> int:
        return len(list(self.folder.glob("*/*")))

    def usable(self) -> list[bool]:
        return [run.usable for run in self.make_tracker().database.runs_of(self.name)]


class PackTest(GcCase):
    def test_packed_snapshot_comes_back_where_it_is_asked_for(self) -> None:
        done, *_ = self.collect(pack=0)
        self.assertEqual((3, 0, 3), (done.kept, done.removed, done.packed))
        self.assertTrue(done.bytes_after * 2 < done.bytes_before)
        self.assertEqual({".gz"}, {path.suffix for path in self.folder.glob("*/*")})
        self.assertEqual([True] * 3, self.usable())
        self.clone.commit("Go on", {"README": "more\n"})
        result = self.run_job()  # rests on the newest one, whose digest is looked at
        self.assertEqual((0, 3), (result.tests.run, result.tests.carried))
        suffixes = sorted(path.suffix for path in self.folder.glob("*/*"))
        self.assertEqual([".coverage", ".coverage", ".gz", ".gz"], suffixes)
        done, *_ = self.collect(baselines=1, weeks=0)
        self.assertEqual((1, 3, 1), (done.kept, done.removed, self.files()))

    def test_damaged_packed_snapshot_is_set_aside(self) -> None:
        self.collect(pack=0)
        for path in self.folder.glob("*/*.gz"):
            path.write_bytes(path.read_bytes()[:-20])
        self.clone.commit("Go on", {"README": "more\n"})
        result = self.run_job()
        self.assertEqual((3, 0), (result.tests.run, result.tests.carried))
        self.assertEqual([True, False, False, False], self.usable())


class GcTest(GcCase):
    def test_only_what_is_not_kept_goes(self) -> None:
        before = sum(path.stat().st_blocks * 512 for path in self.folder.glob("*/*"))
        told, *_ = self.collect(dry=True, baselines=1, weeks=0)
        self.assertEqual(
            (3, 1, 2, before), (self.files(), told.kept, told.removed, told.bytes_before)
        )
        done, *_ = self.collect(baselines=1, weeks=0)
        self.assertEqual(told, done)
        self.assertEqual([True, False, False], self.usable())
        left = sum(path.stat().st_blocks * 512 for path in self.folder.glob("*/*"))
        self.assertEqual((1, left), (self.files(), done.bytes_after))
        self.clone.commit("Go on", {"README": "more\n"})
        result = self.run_job()
        self.assertEqual((0, 3), (result.tests.run, result.tests.carried))
        rows = {row.project: row for row in self.make_tracker().database.project_rows()}
        self.assertIsNotNone(rows[self.name].latest)

    def test_cuts_go_with_what_they_rest_on(self) -> None:
        *gone, kept = (
            run.sha256 for run in reversed(self.make_tracker().database.runs_of(self.name))
        )
        cuts = self.folder.with_name("cuts")
        cuts.mkdir()
        names = [
            f"{kept}.basis",
            f"{kept}-{kept}.cut",
            f"{kept}-{gone[0]}.cut",
            f"{gone[0]}.basis",
        ]
        for name in (*names, f"{kept}.basis.1.new"):
            (cuts / name).write_text("x")
        self.collect(dry=True, baselines=1, weeks=0)
        self.assertEqual(5, len(list(cuts.iterdir())))
        self.collect(baselines=1, weeks=0)
        self.assertEqual(set(names[:2]), {path.name for path in cuts.iterdir()})

    def test_killed_on_the_way(self) -> None:
        """The database knows first; what is left over goes the next time."""
        self.assertRaises(Killed, self.collect, Dying, baselines=1, weeks=0)
        self.assertEqual((3, [True, False, False]), (self.files(), self.usable()))
        done, *_ = self.collect(baselines=1, weeks=0)
        self.assertEqual((2, 1), (done.removed, self.files()))
        self.assertEqual(0, self.collect(baselines=1, weeks=0)[0].removed)

    def test_base_of_a_change_of_late_stays(self) -> None:
        self.clone.repo.git.checkout("-q", "-b", "topic", "HEAD~2")
        self.clone.commit("Topic", {"NOTES": "1\n"})
        result = self.run_job()
        self.assertEqual(Kind.CHANGE, result.kind)
        done, *_ = self.collect(baselines=1, weeks=0, changes=9)
        self.assertEqual((3, 1), (done.kept, done.removed))
        self.assertEqual(
            [True],
            [
                r.usable
                for r in self.make_tracker().database.runs_of(self.name)
                if r.commit == result.base
            ],
        )
        gone, *_ = self.collect(baselines=1, weeks=0, changes=0)
        self.assertEqual(1, gone.kept)

    def test_litter_goes_when_it_is_old(self) -> None:
        for name, at in (("a.coverage", OLD), ("b.corrupt", OLD), ("c.coverage", time.time())):
            path = self.folder / "baselines" / name
            path.write_text("x")
            os.utime(path, (at, at))
        logs = STATE / "jobs"
        logs.mkdir(exist_ok=True)
        for name, at in (("1.log", OLD), ("2.log", time.time())):
            (logs / name).write_text("x")
            os.utime(logs / name, (at, at))
        project, jobs, _ = self.collect()
        self.assertEqual((3, 2, 4), (project.kept, project.removed, self.files()))
        self.assertEqual((1, 1), (jobs.kept, jobs.removed))

    def test_rules(self) -> None:
        keep = parse_keep(Keep(), ("baselines=3", "logs=0"))
        self.assertEqual(Keep(baselines=3, logs=0), keep)
        for wrong in ("baselines=0", "baselines", "other=1", "weeks=-1", "weeks=many"):
            self.assertRaises(UsageError, parse_keep, Keep(), (wrong,))
