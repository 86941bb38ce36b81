"""Decides what a run rests on, has the job done, and stores what it found.

The only place where the database, the mirrors and the jobs meet.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from covtrack.bases import Bases, Target
from covtrack.learning import learn_flips
from covtrack.settings import Settings
from covtrack.store.database import Database
from jobs.clone import clone_root, inspect_clone
from jobs.job import run_job
from jobs.project import ProjectSettings
from jobs.replica import Replica
from jobs.repository import Mirror
from jobs.request import Base, Places, Request
from jobs.results import JobResult, Kind, Select
from jobs.snapshot import file_digest
from jobs.workplace import Workplace
from venv_builder import EnvironmentCache, Need
from venv_builder.errors import UsageError
from venv_builder.progress import Listener, Noted


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a user asks of one run; revisions are as typed, None for the default.

    Without `fetch` the mirror is taken as it is: its server may be away. `budget` is that of a
    change (jobs.request.Request); a merged commit has none.
    """

    revision: str | None = None
    base: str | None = None
    select: Select | None = None
    fetch: bool = True
    budget: float | None = None


class Tracker:
    """Runs jobs of configured projects in this process; one job at a time per project."""

    def __init__(self, settings: Settings, database: Database, listener: Listener) -> None:
        self.settings = settings
        self.database = database
        self.listener = listener
        root = settings.state / "environments"
        self.environments = EnvironmentCache(root, wheels=settings.wheel_source)
        self.bases = Bases(settings.state, database, listener)

    def folder(self, project: str) -> Path:
        """The project's own folder below the state folder."""
        return self.settings.folder(project)

    def workplace(self, project: str) -> Workplace:
        """Where the project's jobs are done on this machine."""
        return Workplace(folder=self.folder(project), project=project)

    def mirror(self, project: str) -> Mirror:
        """The project's mirror."""
        return Replica(self.folder(project) / "mirror.git")

    def places(self, project: str) -> Places:
        """Where the project's jobs work, and this process's own scratch folder."""
        return self.workplace(project).places

    def tip_of(self, project: ProjectSettings, mirror: Mirror) -> tuple[str, str]:
        """The project's branch and its tip's sha; UsageError where there is no such branch."""
        branch = project.branch or self._default_branch(project, mirror)
        tip = mirror.branch_tip(branch)
        if tip is None:
            known = ", ".join(mirror.branches()[:8]) or "none"
            raise UsageError(
                f"{project.name} has no branch {branch} (known: {known}).",
                advice="Set branch for the project in covtrack.toml.",
            )
        return branch, tip

    def run(self, project: ProjectSettings, order: Order) -> JobResult:
        """Measure what the order names and store it; the result is also returned.

        Raises UsageError for unknown revisions, InfrastructureError for what cannot be fetched,
        built or written. Nothing is stored unless the whole result is.
        """
        with self.locked(project.name):
            mirror = self.mirror(project.name)
            target = self.resolve(project, mirror, order)
            self.database.save_project(project.name, target.branch, project.share)
            base = self.bases.nearest(project, mirror, target)
            same = None
            if order.base is None:
                same = self.bases.same_tree(project, mirror, target, base)
            base = same or base
            notes = self._warnings(project, order)
            if base is None and target.kind is Kind.CHANGE and target.select is not Select.ALL:
                base, why = self._make_base(project, mirror, target)
                notes = (*notes, *why)
            other = None if same else self.bases.earlier(project, mirror, target, base)
            return self._measure(project, mirror, target, base, notes, other)

    def advance(
        self,
        project: ProjectSettings,
        told: Callable[[JobResult], None],
        *,
        fetch: bool = True,
    ) -> tuple[JobResult, ...]:
        """Measure every commit from the newest baseline to the branch's tip, as baselines.

        Where there is no baseline yet, the tip is measured in full. `told` hears of each result
        as it is stored. Stops at a commit whose figure is incomplete: it is the last result.
        """
        with self.locked(project.name):
            mirror = self.mirror(project.name)
            start = self.resolve(project, mirror, Order(fetch=fetch))
            self.database.save_project(project.name, start.branch, project.share)
            nearest = self.bases.nearest(project, mirror, start)
            shas = mirror.between(nearest.commit, start.tip) if nearest else (start.tip,)
            results = []
            for sha in shas:
                target = replace(start, commit=mirror.commit(sha), base_from=sha)
                base = self.bases.nearest(project, mirror, target)
                base = self.bases.same_tree(project, mirror, target, base) or base
                results.append(self._measure(project, mirror, target, base, ()))
                told(results[-1])
                if not results[-1].complete:
                    break
        return tuple(results)

    def locked(self, project: str) -> AbstractContextManager[None]:
        """One job at a time per project: its work tree is one."""
        return self.workplace(project).locked(self.listener)

    def resolve(self, project: ProjectSettings, mirror: Mirror, order: Order) -> Target:
        """What the order means by the mirror, fetched first where it says so."""
        named = [word for word in (order.revision, order.base) if word is not None]
        if order.fetch:
            mirror.fetch(project.git, named)
        branch, tip = self.tip_of(project, mirror)
        sha = tip if order.revision is None else mirror.resolve(order.revision)
        merged = mirror.is_ancestor(sha, tip)
        return Target(
            commit=mirror.commit(sha),
            branch=branch,
            tip=tip,
            kind=Kind.BASELINE if merged else Kind.CHANGE,
            base_from=sha if order.base is None else mirror.resolve(order.base),
            select=order.select or project.select,
            budget=None if merged else order.budget,
        )

    @staticmethod
    def _default_branch(project: ProjectSettings, mirror: Mirror) -> str:
        path = Path(project.git)
        if path.is_dir() and clone_root(path) is not None:
            branch = inspect_clone(path).branch
            if branch:
                return branch
        return mirror.default_branch(project.git)

    def _warnings(self, project: ProjectSettings, order: Order) -> tuple[str, ...]:
        """What a user who measures a clone should know of the clone's own state."""
        root = clone_root(Path(project.git)) if Path(project.git).is_dir() else None
        if root is None or order.revision not in (None, "HEAD"):
            return ()
        clone = inspect_clone(root)
        notes = []
        if clone.dirty:
            files = ", ".join(clone.dirty[:3]) + (" ..." if len(clone.dirty) > 3 else "")
            notes.append(f"Uncommitted edits are not measured: {files}.")
        if clone.shallow:
            notes.append("The clone is shallow: earlier baselines may be out of its reach.")
        return tuple(notes)

    def _make_base(
        self, project: ProjectSettings, mirror: Mirror, target: Target
    ) -> tuple[Base | None, tuple[str, ...]]:
        """Measure the commit that the change forks off, in full, and store it as baseline.

        Where that was done and is incomplete, none; the notes say why there is none.
        """
        fork = mirror.merge_base(target.base_from, target.tip)
        if fork is None:
            return None, ("The change shares no history with its branch: all its tests run.",)
        commit = mirror.commit(fork)
        known = self.database.find_run(project.name, fork)
        if known is not None and known.usable and not known.complete:
            why = "not all of its tests could run, before this change either"
            return None, (f"{fork[:10]} is no baseline, as {why}: all tests run.",)
        sentence = f"No baseline yet: a full run of {fork[:10]} makes it, then the change runs."
        self.listener(Noted(sentence=sentence))
        full = Target(
            commit=commit,
            branch=target.branch,
            tip=target.tip,
            kind=Kind.BASELINE,
            base_from=fork,
            select=Select.ALL,
        )
        if not self._measure(project, mirror, full, None, ()).complete:
            return None, (f"{fork[:10]} is no baseline, as not all of its tests could run.",)
        return self.bases.nearest(project, mirror, target), ()

    def _measure(
        self,
        project: ProjectSettings,
        mirror: Mirror,
        target: Target,
        base: Base | None,
        notes: tuple[str, ...],
        other: Base | None = None,
    ) -> JobResult:
        now = datetime.now(UTC)
        name = f"{target.commit.sha}-{now:%Y%m%dT%H%M%S%f}.coverage"
        snapshot = self.folder(project.name) / "snapshots" / f"{target.kind.value}s" / name
        request = Request(
            settings=project,
            mirror=mirror,
            commit=target.commit,
            branch=target.branch,
            kind=target.kind,
            select=target.select,
            base=base,
            places=self.places(project.name),
            environments=self.environments,
            beside=self.other_needs(project.name),
            notes=notes,
            budget=target.budget,
            other=other,
        )
        finished = run_job(request, snapshot, self.listener)
        snapshot.chmod(0o444)
        self._keep_need(finished.need)
        self.database.save_run(
            finished.result,
            snapshot=str(snapshot.relative_to(self.settings.state)),
            sha256=file_digest(snapshot),
            tree=target.commit.tree,
            measured_at=now,
        )
        learn_flips(self, mirror, finished.result)
        return finished.result

    def other_needs(self, project: str) -> tuple[Need, ...]:
        """What the other configured projects last needed of the shared environment."""
        needs = []
        for name in sorted(self.settings.projects):
            file = self.folder(name) / "need.json"
            if name != project and (need := _read_need(file)) is not None:
                needs.append(need)
        return tuple(needs)

    def _keep_need(self, need: Need) -> None:
        file = self.folder(need.project) / "need.json"
        new = file.with_suffix(".new")
        new.write_text(json.dumps(asdict(need)))
        new.replace(file)


def _read_need(file: Path) -> Need | None:
    """A kept need; None where there is none or it cannot be read: its own run writes it anew."""
    try:
        stored = json.loads(file.read_text())
        return Need(
            project=stored["project"],
            requirements=tuple(stored["requirements"]),
            constraints=tuple(stored["constraints"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
