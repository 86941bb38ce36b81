"""Walks a project's real history as if each merge had been a change, and checks every figure.

Keeps everything in a folder of its own, below the project's: the database and the baselines are
not touched. A replay that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from covtrack.replay_results import METHODS, FullRun, Replay, ReplayedCommit, summarise
from covtrack.tracking import Tracker
from jobs.holding import Unproven, hold
from jobs.job import run_job
from jobs.project import ProjectSettings, Recorder
from jobs.repository import Commit, Mirror
from jobs.request import Base, Places, Request
from jobs.results import Before, JobResult, Kind, Select
from jobs.snapshot import read_tests
from venv_builder.errors import UsageError
from venv_builder.files import write_whole
from venv_builder.progress import Noted

MOST_REASONS = 5
MOST_FAULTS = 3
EXACT = (Select.AFFECTED, Select.AFFECTED_ALL)  # the others miss lines by their nature


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What to replay: `last` first-parent commits up to `revision`, by one method.

    `verify` is how many of them are compared with a full run, spread evenly; None for all.
    """

    last: int
    method: str
    verify: int | None
    revision: str | None = None
    fresh: bool = False

    def is_verified(self, number: int) -> bool:
        """Whether the commit of that number (0 for the oldest) is compared with a full run."""
        if self.verify is None:
            return True
        places = {round((i + 0.5) * self.last / self.verify - 0.5) for i in range(self.verify)}
        return number in places


class Replayer:
    """Runs one walk of one project."""

    def __init__(self, tracker: Tracker, project: ProjectSettings, walk: Walk) -> None:
        self.tracker = tracker
        self.project = project
        self.walk = walk
        self.listener = tracker.listener
        self.folder = tracker.folder(project.name) / "replays" / walk.method
        self.recorder = "unknown"

    def run(self, told: Callable[[int, ReplayedCommit], None]) -> Replay:
        """Replay all commits and return what was found; `told` hears of each as it is done.

        Raises UsageError where the history is shorter than asked.
        """
        with self.tracker.locked(self.project.name):
            mirror, commits = self._history()
            if self.walk.fresh:
                shutil.rmtree(self.folder, ignore_errors=True)
            done = self._read_done(commits)
            for number, row in enumerate(done):
                told(number, row)
            rows = [*done]
            for number, row in self._replay(mirror, commits, len(done)):
                rows.append(row)
                told(number, row)
        return Replay(
            project=self.project.name,
            method=self.walk.method,  # type: ignore[arg-type]
            recorder=self.recorder,
            python=self.project.python or "covtrack's own",
            commits=tuple(rows),
            summary=summarise(rows),
        )

    def _history(self) -> tuple[Mirror, list[Commit]]:
        """The mirror, and the commits oldest first, the one to start from included."""
        mirror = self.tracker.mirror(self.project.name)
        revision = self.walk.revision
        mirror.fetch(self.project.git, [revision] if revision else [])
        _, tip = self.tracker.tip_of(self.project, mirror)
        tip = mirror.resolve(revision) if revision else tip
        shas = mirror.first_parents(tip, self.walk.last + 1)
        if len(shas) <= self.walk.last:
            raise UsageError(
                f"{self.project.name} has {len(shas)} commits on its first-parent history.",
                advice=f"Replay fewer: --last {max(1, len(shas) - 1)}.",
            )
        return mirror, [mirror.commit(sha) for sha in reversed(shas)]

    def _read_done(self, commits: list[Commit]) -> list[ReplayedCommit]:
        """Rows of an earlier, stopped replay of the same commits; none if its data is gone."""
        if not (self._rows.exists() and self._snapshot.exists() and self._state.exists()):
            return []
        lines = self._rows.read_text().splitlines()
        rows = [ReplayedCommit.model_validate_json(line) for line in lines]
        state = json.loads(self._state.read_text())
        same = state["start"] == commits[0].sha and state["done"] <= len(rows)
        expected = [commit.sha for commit in commits[1:]]
        rows = rows[: state["done"]]
        if not same or [row.commit for row in rows] != expected[: len(rows)]:
            return []
        self.recorder = state["recorder"]
        return rows

    @property
    def _rows(self) -> Path:
        return self.folder / "commits.jsonl"

    @property
    def _state(self) -> Path:
        return self.folder / "state.json"

    @property
    def _snapshot(self) -> Path:
        return self.folder / "last.coverage"

    def _replay(
        self, mirror: Mirror, commits: list[Commit], done: int
    ) -> Iterator[tuple[int, ReplayedCommit]]:
        base = self._start(mirror, commits[0]) if not done else self._resume()
        for number, commit in enumerate(commits[1 + done :], done):
            self.listener(Noted(sentence=f"Replaying {commit.sha[:10]} {commit.subject}"))
            row, base = self._replay_commit(mirror, commit, base, number)
            with self._rows.open("a") as file:
                file.write(row.model_dump_json() + "\n")
            self._keep(commits[0].sha, base, number + 1)
            yield number, row

    def _start(self, mirror: Mirror, commit: Commit) -> Base:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.listener(Noted(sentence=f"The replay starts with a full run of {commit.sha[:10]}."))
        recorder = Recorder.PLAIN if self.walk.method == "append" else self.project.recorder
        result = self._job(mirror, commit, None, Select.ALL, recorder, self._snapshot)
        self.recorder = result.recorder
        base = Base(commit=commit.sha, snapshot=self._snapshot, before=_before(result))
        self._keep(commit.sha, base, 0)
        return base

    def _resume(self) -> Base:
        state = json.loads(self._state.read_text())
        return Base(commit=state["base"], snapshot=self._snapshot, before=None)

    def _keep(self, start: str, base: Base, done: int) -> None:
        state = {"start": start, "base": base.commit, "done": done, "recorder": self.recorder}
        write_whole(self._state, json.dumps(state))

    def _replay_commit(
        self, mirror: Mirror, commit: Commit, base: Base, number: int
    ) -> tuple[ReplayedCommit, Base]:
        append = self.walk.method == "append"
        recorder = Recorder.PLAIN if append else self.project.recorder
        target = self.folder / "next.coverage"
        begun = monotonic()
        result = self._job(mirror, commit, base, METHODS[self.walk.method], recorder, target)
        wall = monotonic() - begun
        row = ReplayedCommit(
            commit=commit.sha,
            subject=commit.subject,
            tests_run=result.tests.run,
            tests_total=result.tests.run + result.tests.carried + result.tests.spared,
            cpu_seconds=round(result.cpu_seconds, 3),
            wall_seconds=round(wall, 3),
            run_seconds=round(result.seconds.get("run", 0.0), 3),
            stages={stage: round(seconds, 3) for stage, seconds in result.seconds.items()},
            statements=result.measurement.total.statements,
            branches=result.measurement.total.branches,
            reasons=_reasons(target, commit.sha),
            complete=result.complete,
            notes=(*result.notes, *(() if result.complete else _told(result))),
        )
        for sentence in row.notes[len(result.notes) :]:
            self.listener(Noted(sentence=sentence))
        if self.walk.is_verified(number):
            row = self._verify(mirror, commit, base, result, row)
        if not result.complete:
            target.unlink(missing_ok=True)
            return row, base
        target.replace(self._snapshot)
        return row, Base(commit=commit.sha, snapshot=self._snapshot, before=_before(result))

    def _verify(
        self, mirror: Mirror, commit: Commit, base: Base, result: JobResult, row: ReplayedCommit
    ) -> ReplayedCommit:
        """The row with a full run beside it, and the same tests run bare."""

        def rerun(workers: int | None) -> FullRun:
            label = "alone" if workers else "again"
            return self._full(mirror, commit, result, label, workers)

        method = METHODS[self.walk.method]
        bare = 0.0
        if row.tests_run:
            only = frozenset(outcome.test for outcome in result.outcomes)
            job = self._job(mirror, commit, base, method, Recorder.NONE, None, only=only)
            seconds = job.seconds
            bare = seconds.get("run", 0.0)
        full = self._full(mirror, commit, result, "")
        held = hold(Unproven.of(result.measurement), full, rerun if method in EXACT else None)
        costs = {
            "verified": True,
            "full_cpu_seconds": round(full.cpu_seconds + result.env_cpu_seconds, 3),
            "full_wall_seconds": full.wall_seconds,
            "bare_seconds": round(bare, 3),
        }
        return row.model_copy(update={**costs, **dict(held)})

    def _full(
        self,
        mirror: Mirror,
        commit: Commit,
        result: JobResult,
        label: str,
        workers: int | None = None,
    ) -> FullRun:
        """A full run by coverage.py itself, without contexts, on its quickest core.

        Kept by commit and environment, so that another method's replay need not make it again.
        """
        key = f"{commit.sha}-{result.environment}-{label}{self.project.python}"
        if result.measurement.total.branches:
            key += "-branches"
        file = self.folder.with_name("full") / f"{key.replace('/', '%2F')}.json"
        if file.exists():
            return FullRun.model_validate_json(file.read_text())
        project = self.project
        if workers:
            project = project.model_copy(update={"workers": workers})
        begun = monotonic()
        job = self._job(mirror, commit, None, Select.ALL, Recorder.PLAIN, None, project)
        full = FullRun(
            **Unproven.of(job.measurement).model_dump(),
            cpu_seconds=round(job.tests_cpu_seconds, 3),
            wall_seconds=round(monotonic() - begun, 3),
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, full.model_dump_json())
        return full

    def _job(
        self,
        mirror: Mirror,
        commit: Commit,
        base: Base | None,
        select: Select,
        recorder: Recorder,
        target: Path | None,
        project: ProjectSettings | None = None,
        only: frozenset[str] | None = None,
    ) -> JobResult:
        scratch = self.folder / "scratch.coverage"
        settings = (project or self.project).model_copy(update={"recorder": recorder})
        request = Request(
            settings=settings,
            mirror=mirror,
            commit=commit,
            branch="replay",
            kind=Kind.CHANGE,
            select=select,
            base=base,
            places=self._places(),
            environments=self.tracker.environments,
            append=self.walk.method == "append" and base is not None,
            only=only,
        )
        result = run_job(request, target or scratch, self.listener).result
        scratch.unlink(missing_ok=True)
        return result

    def _places(self) -> Places:
        places = self.tracker.places(self.project.name)
        return replace(places, stestr=self.folder / "stestr")


def _told(result: JobResult) -> tuple[str, ...]:
    """Why a result is incomplete, as far as its faults tell."""
    return tuple(fault.sentence for fault in result.faults[:MOST_FAULTS])


def _reasons(snapshot: Path, commit: str) -> dict[str, int]:
    records = read_tests(snapshot).values()
    counts = Counter(record.reason for record in records if record.executed == commit)
    return dict(counts.most_common(MOST_REASONS))


def _before(result: JobResult) -> Before:
    return Before(total=result.measurement.total, vendored=result.measurement.vendored)
