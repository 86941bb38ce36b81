"""Which measured commit a run may rest on: an ancestor, one of the same tree, a patch set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from covtrack.packing import unpacked
from covtrack.store.database import Database
from covtrack.store.values import StoredRun
from jobs.project import ProjectSettings
from jobs.repository import Commit, Mirror
from jobs.request import Base
from jobs.results import Kind, Select
from jobs.snapshot import file_digest
from venv_builder.progress import Listener, Noted

MOST_LIKE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A resolved order: which commit of which branch, and what kind of result it will be."""

    commit: Commit
    branch: str
    tip: str
    kind: Kind
    base_from: str
    select: Select
    budget: float | None = None

    @property
    def is_change(self) -> bool:
        """Whether it is a change that is compared with what is below it."""
        return self.kind is Kind.CHANGE and self.base_from == self.commit.sha


class Bases:
    """Finds bases among the runs of `database`, whose snapshots lie below `state`."""

    def __init__(self, state: Path, database: Database, listener: Listener) -> None:
        self.state, self.database, self.listener = state, database, listener

    def nearest(self, project: ProjectSettings, mirror: Mirror, target: Target) -> Base | None:
        """The nearest measured ancestor whose snapshot is whole; damaged ones are set aside.

        A change may rest on the unmerged changes below it, a baseline on baselines alone. What was
        measured of a change itself is no ground to compare it with: see `same_tree`.
        """
        found = self.database.baselines(
            project.name,
            target.branch,
            exact=target.select is not Select.CHANGED,
            changes=target.kind is Kind.CHANGE,
        )
        runs = {run.commit: run for run in found if _is_ground(run, target)}
        while True:
            nearest = mirror.nearest(target.base_from, tuple(runs))
            if nearest is None:
                return None
            base = self._open(project.name, runs.pop(nearest))
            if base is not None:
                return base

    def same_tree(
        self, project: ProjectSettings, mirror: Mirror, target: Target, nearest: Base | None
    ) -> Base | None:
        """A measured commit with the same tree: nothing of it has to run again.

        So a rebase that changes no file, another message, or the merge of what was measured.
        """
        if target.select is Select.ALL:
            return None
        run = self.database.find_tree(
            project.name, target.commit.tree, exact=target.select is not Select.CHANGED
        )
        known = nearest.commit if nearest else None
        if run is None or run.commit == known or not mirror.has(run.commit):
            return None
        if not _answers(run, target):
            return None
        base = self._open(project.name, run)
        if base is None:
            return None
        sentence = f"{run.commit[:10]} has the same tree: its result holds here too."
        self.listener(Noted(sentence=sentence))
        if nearest is None:
            return replace(base, before=None)
        return replace(base, before=nearest.before, compared=nearest.commit)

    def earlier(
        self, project: ProjectSettings, mirror: Mirror, target: Target, nearest: Base | None
    ) -> Base | None:
        """The patch set before, as far as a like subject tells, compared as the `nearest` base is.

        Any measured commit would do to rest on; from this one a rebase or a small amendment
        reaches less than from the branch.
        """
        if (
            nearest is None
            or not target.is_change
            or target.select in (Select.ALL, Select.CHANGED)
        ):
            return None
        runs = self.database.baselines(project.name, target.branch, exact=True, changes=True)
        like = [run for run in runs if _is_earlier(run, target) and run.commit != nearest.commit]
        for run in sorted(like, key=lambda run: run.measured_at, reverse=True)[:MOST_LIKE]:
            base = self._open(project.name, run) if mirror.has(run.commit) else None
            if base is not None:
                return replace(base, before=nearest.before, compared=nearest.commit)
        return None

    def _open(self, project: str, run: StoredRun) -> Base | None:
        snapshot = unpacked(self.state / run.snapshot)
        if snapshot.is_file() and file_digest(snapshot) == run.sha256:
            return Base(commit=run.commit, snapshot=snapshot, before=run.as_before)
        aside = snapshot.with_suffix(".corrupt")
        if snapshot.is_file():
            snapshot.replace(aside)
        if not aside.is_file():  # its state folder may be another machine's
            sentence = f"The snapshot of {run.commit[:10]} is not below {self.state}"
            self.listener(Noted(sentence=f"{sentence}: nothing is built on it here."))
            return None
        self.database.forget_snapshot(run.run_id)
        self.listener(
            Noted(
                sentence=f"The baseline of {run.commit[:10]} was damaged: it is set aside and "
                "will be measured anew."
            )
        )
        return None


def _is_earlier(run: StoredRun, target: Target) -> bool:
    """Whether a run may be that of an earlier patch set, and answers the order."""
    is_like = run.kind is Kind.CHANGE and run.subject == target.commit.subject
    return is_like and run.commit != target.commit.sha and _answers(run, target)


def _is_ground(run: StoredRun, target: Target) -> bool:
    """Whether a run may be built on: one of the commit itself only where it answers the order."""
    if run.commit != target.commit.sha:
        return True
    return not target.is_change and _answers(run, target)


def _answers(run: StoredRun, target: Target) -> bool:
    """Whether a run of the same tree answers the order: all affected tests, not those spared."""
    return target.select is not Select.AFFECTED_ALL or not run.tests.spared
