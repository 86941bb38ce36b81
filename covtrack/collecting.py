"""`covtrack gc`: removes snapshots that are not kept, their cuts, logs and environments.

Killed at any moment nothing is lost: the database learns that a snapshot is gone before the file
goes, and a file that nobody knows goes the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from covtrack.cutting import FOLDER as CUTS
from covtrack.cutting import find_unkept
from covtrack.packing import pack, packed_name
from covtrack.retention import Keep, Needed, choose_kept
from covtrack.settings import Settings, TrackedProject
from covtrack.store import building, inbox, queueing, writing
from covtrack.store.database import Database
from covtrack.store.queued import ALIVE, Job, JobKind
from covtrack.store.values import StoredRun
from covtrack.tracking import Tracker
from jobs.repository import Mirror
from venv_builder.files import remove_anything

# A file that the database does not know may be one that is being stored.
UNKNOWN_AGE = timedelta(days=1)
LITTER = ("*.corrupt", "*.coverage", "*.coverage.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was (or would be) removed of one kind of thing; bytes are those on disk."""

    what: str
    """Such as `PROJECT: snapshots`."""
    kept: int
    removed: int
    packed: int = 0
    bytes_before: int
    bytes_after: int


class Collector:
    """Removes what is not kept; `dry` only tells."""

    def __init__(self, tracker: Tracker, keep: Keep, *, dry: bool = False) -> None:
        self.tracker = tracker
        self.settings: Settings = tracker.settings
        self.database: Database = tracker.database
        self.keep = keep
        self.dry = dry

    def run(self, told: Callable[[Collected], None]) -> tuple[Collected, ...]:
        """Go through all configured projects, logs and environments; `told` hears of each."""
        found = []
        for name in sorted(self.settings.projects):
            found.append(self._project(self.settings.projects[name]))
            told(found[-1])
        for collect in (self._logs, self._environments):
            found.append(collect())
            told(found[-1])
        if not self.dry:
            self._forget_rows()
        return tuple(found)

    def _forget_rows(self) -> None:
        now = datetime.now(UTC)
        events, outcomes = (now - timedelta(days=n) for n in (self.keep.logs, self.keep.outcomes))
        self.database.write(lambda connection: inbox.forget_events(connection, events))
        self.database.write(lambda connection: writing.forget_outcomes(connection, outcomes))

    def _project(self, project: TrackedProject) -> Collected:
        folder = self.tracker.folder(project.name) / "snapshots"
        cuts = self.tracker.folder(project.name) / CUTS
        with self.tracker.locked(project.name):  # no job of it runs
            runs = self.database.runs_of(project.name)
            kept = choose_kept(runs, self.keep, self._needed(project, runs), datetime.now(UTC))
            before = _size([*_files(folder), *cuts.glob("*")])
            gone = self._unkept(runs, kept) + self._unknown(folder, runs)
            if not self.dry:
                for run in runs:
                    if run.usable and run.run_id not in kept:
                        self.database.forget_snapshot(run.run_id)
            digests = {run.sha256 for run in runs if run.run_id in kept}
            lost = self._remove([*gone, *find_unkept(cuts, digests)])
            idle = self._idle(run for run in runs if run.run_id in kept)
            lost += 0 if self.dry else sum(_pack(path) for path in idle)
        return Collected(
            what=f"{project.name}: snapshots",
            packed=len(idle),
            kept=len(kept),
            removed=len(gone),
            bytes_before=before,
            bytes_after=before - lost,
        )

    def _needed(self, project: TrackedProject, runs: Iterable[StoredRun]) -> Needed:
        """Commits of open changes and living jobs, and the baselines that they would rest on."""
        open_commits, living, builds = self.database.read(
            lambda connection: (
                inbox.open_commits(connection, project.gerrit or "", project.name_on_gerrit),
                [job for state in ALIVE for job in queueing.jobs_in(connection, state)],
                building.builds_alive(connection),
            )
        )
        own = {job.commit for job in living if job.project == project.name and _rests(job)}
        mirror = self.tracker.mirror(project.name)
        wanted = {sha for sha in {*open_commits, *own} if sha and mirror.has(sha)}
        known = tuple({run.commit for run in runs if run.usable and run.complete})
        return Needed(
            commits=frozenset(wanted | _nearest(mirror, wanted, known)),
            paths=frozenset(build.baseline for build in builds if build.baseline),
        )

    def _unkept(self, runs: Iterable[StoredRun], kept: Iterable[int]) -> list[Path]:
        """Files of runs that are not kept, and are not those of a kept run too."""
        chosen = set(kept)
        stay = {run.snapshot for run in runs if run.run_id in chosen}
        gone = {run.snapshot for run in runs if run.run_id not in chosen} - stay
        paths = [self.settings.state / snapshot for snapshot in sorted(gone)]
        return [one for path in paths for one in (path, packed_name(path)) if one.is_file()]

    def _idle(self, runs: Iterable[StoredRun]) -> list[Path]:
        """Files of the runs that were neither written nor unpacked for some days."""
        limit = (datetime.now(UTC) - timedelta(days=self.keep.pack)).timestamp()
        paths = sorted({self.settings.state / run.snapshot for run in runs})
        return [path for path in paths if path.is_file() and path.stat().st_mtime <= limit]

    def _unknown(self, folder: Path, runs: Iterable[StoredRun]) -> list[Path]:
        """Old files that no run of the database names, and damaged ones that were set aside."""
        names = {self.settings.state / run.snapshot for run in runs}
        known = names | {packed_name(path) for path in names}
        limit = (datetime.now(UTC) - UNKNOWN_AGE).timestamp()
        found = [path for pattern in LITTER for path in folder.glob(f"*/{pattern}")]
        return [path for path in found if path not in known and path.stat().st_mtime < limit]

    def _logs(self) -> Collected:
        """Logs of jobs that ended long ago."""
        folder = self.settings.state / "jobs"
        limit = (datetime.now(UTC) - timedelta(days=self.keep.logs)).timestamp()
        files = list(folder.glob("*.log")) + list(folder.glob("*.out"))
        gone = [path for path in files if path.stat().st_mtime < limit]
        before = _size(files)
        lost = self._remove(gone)
        return Collected(
            what="logs of jobs:",
            kept=len(files) - len(gone),
            removed=len(gone),
            bytes_before=before,
            bytes_after=before - lost,
        )

    def _environments(self) -> Collected:
        """Environments that no job used for long."""
        limit = (datetime.now(UTC) - timedelta(days=self.keep.environments)).timestamp()
        found = self.tracker.environments.generations.forget_unused(limit, dry=self.dry)
        return Collected(
            what="environments:",
            kept=found.kept,
            removed=found.removed,
            bytes_before=found.bytes_kept + found.bytes_removed,
            bytes_after=found.bytes_kept,
        )

    def _remove(self, paths: Iterable[Path]) -> int:
        """The bytes that these files take; they are removed unless all is dry."""
        lost = 0
        for path in paths:
            lost += _size([path])
            if not self.dry:
                remove_anything(path)
        return lost


def _rests(job: Job) -> bool:
    """Whether a living job will look for a snapshot to rest on."""
    return job.kind is not JobKind.VERIFY


def _nearest(mirror: Mirror, commits: Iterable[str], known: tuple[str, ...]) -> set[str]:
    found = (mirror.nearest(sha, tuple(one for one in known if one != sha)) for sha in commits)
    return {sha for sha in found if sha}


def _pack(path: Path) -> int:
    """The bytes that packing spares."""
    before = _size([path])
    pack(path)
    return before - _size([packed_name(path)])


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*/*") if path.is_file()]


def _size(paths: Iterable[Path]) -> int:
    """Bytes on disk, as du tells them."""
    return sum(path.lstat().st_blocks * 512 for path in paths)
