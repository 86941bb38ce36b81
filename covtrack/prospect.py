"""Finds what a branch's coverage becomes when all published changes land.

What has to be measured first is measured and stored as by `covtrack run`; of the merged tree
nothing is stored: it is no commit that anybody made.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from covtrack.contract import PatchReport
from covtrack.cutting import FOLDER as CUTS
from covtrack.cutting import Cutter
from covtrack.full_runs import run_in_full
from covtrack.prospect_results import Figures, Prospect, ProspectedChange, Verified
from covtrack.store.values import StoredRun
from covtrack.tracking import Order, Tracker
from jobs.cuts import read_ran
from jobs.holding import Unproven, hold
from jobs.joining import OpenChange, Prospective, join_changes
from jobs.landing import Landed, Landing, State, land
from jobs.project import ProjectSettings
from jobs.repository import Commit
from jobs.request import Base, Request
from jobs.results import FileMeasure, JobResult, Kind, Select
from jobs.snapshot import count_proofs
from venv_builder.errors import InfrastructureError, UsageError
from venv_builder.progress import Noted


def _lines_of(files: Iterable[FileMeasure]) -> Unproven:
    return Unproven(missing={file.path: file.missing for file in files})


def _never(run: StoredRun) -> bool:
    return False


class Prospector:
    """Joins changes of one project."""

    def __init__(self, tracker: Tracker, project: ProjectSettings) -> None:
        self.tracker = tracker
        self.project = project
        self.mirror = tracker.mirror(project.name)
        self.folder = tracker.folder(project.name) / "prospect"
        self.fetch = True
        self._nearest: dict[str, StoredRun] = {}
        self.cutter = Cutter(tracker.folder(project.name) / CUTS, tracker.settings.state)

    def run(self, refs: Sequence[str], *, verify: bool = False, fetch: bool = True) -> Prospect:
        """The prospect of the changes named by `refs`, merged onto the tip in this order.

        `verify` compares with a real full run of the merge; without `fetch` the mirror is taken
        as it is. Raises UsageError for unknown refs, and where none is given.
        """
        self.fetch = fetch
        if not refs:
            raise UsageError(
                "No change was named.", advice="Such as: covtrack prospect PROJECT topic-branch"
            )
        with self.tracker.locked(self.project.name):
            if fetch:
                self.mirror.fetch(self.project.git, refs)
            branch, tip = self.tracker.tip_of(self.project, self.mirror)
        landing, runs = self._measured_landing(branch, self.mirror.commit(tip), refs)
        with self.tracker.locked(self.project.name), self.mirror.kept(landing.merged.sha):
            try:
                shutil.rmtree(self.folder, ignore_errors=True)
                found = self._join(landing, runs)
                verified = self._verify(landing, found) if verify else None
            finally:
                shutil.rmtree(self.folder, ignore_errors=True)
        return _report(self.project.name, landing, runs, found, verified)

    def _measured_landing(
        self, branch: str, tip: Commit, refs: Sequence[str]
    ) -> tuple[Landing, dict[str, StoredRun]]:
        """The changes that can land, and a run of each; again without those that do not run."""
        incomplete: set[str] = set()
        while True:
            landing = land(self.mirror, branch, tip, refs, incomplete)
            runs = self._measure_all(landing)
            broken = [c for c in landing.included if not runs[c.commit.sha].complete]
            if not broken:
                self._tell_left_out(landing)
                return landing, runs
            incomplete.update(change.commit.sha for change in broken)

    def _tell_left_out(self, landing: Landing) -> None:
        for change in landing.changes:
            sentence = f"{change.ref} is left out: its own figure is incomplete."
            if change.state is State.CONFLICT:
                rivals = ", ".join(change.conflicts_with)
                sentence = f"{change.ref} conflicts with {rivals} and is left out."
            if change.state in (State.CONFLICT, State.INCOMPLETE):
                self.tracker.listener(Noted(sentence=sentence))

    def _measure_all(self, landing: Landing) -> dict[str, StoredRun]:
        """A usable run of the tip, of every included change, and of a commit below each.

        Oldest first: what is newer then rests on it. Of changes and what they are held against
        the cuts suffice; the tip is read whole.
        """
        tip = landing.tip.sha
        changes = [change.commit.sha for change in landing.included]
        forks = {self._fork(tip, sha) for sha in changes}
        for fork in sorted(forks, key=lambda sha: self.mirror.commit(sha).committed_at):
            if self._nearest_baseline(landing.branch, fork) is None:
                self._measured(fork)
        found = {tip: self._measured(tip)}
        return found | {sha: self._measured(sha, self.cutter.is_cut) for sha in changes}

    def _measured(self, sha: str, suffices: Callable[[StoredRun], bool] = _never) -> StoredRun:
        """The newest run of a commit, made now if there is none that can be used."""
        database, name = self.tracker.database, self.project.name
        run = database.find_run(name, sha)
        if run is None or not self._is_usable(run, suffices):
            order = Order(revision=sha, select=Select.AFFECTED, fetch=self.fetch)
            self.tracker.run(self.project, order)
            run = database.find_run(name, sha)
        if run is None:
            raise InfrastructureError(f"The run of {sha[:10]} was not stored.")
        return run

    def _is_usable(self, run: StoredRun, suffices: Callable[[StoredRun], bool]) -> bool:
        """Whether a run is complete and exact, and what is needed of it as it was written."""
        whole = run.complete and run.usable and run.select is not Select.CHANGED
        return whole and (suffices(run) or self.cutter.is_whole(run))

    def _nearest_baseline(self, branch: str, sha: str) -> StoredRun | None:
        """The usable baseline that is a commit or its nearest ancestor."""
        if sha in self._nearest:
            return self._nearest[sha]
        runs = self.tracker.database.baselines(self.project.name, branch, exact=True)
        known = {run.commit: run for run in runs if run.usable}
        while (nearest := self.mirror.nearest(sha, tuple(known))) is not None:
            run = known.pop(nearest)
            if self._is_usable(run, self.cutter.has_basis):
                self._nearest[sha] = run
                return run
        return None

    def _join(self, landing: Landing, runs: Mapping[str, StoredRun]) -> Prospective:
        tip = self._base(runs[landing.tip.sha])
        changes = self._order(landing, runs)
        listener = self.tracker.listener
        return join_changes(self._request(landing, tip), tip, changes, listener)

    def _order(self, landing: Landing, runs: Mapping[str, StoredRun]) -> list[OpenChange]:
        """The included changes, each behind those that it builds on."""
        tip = landing.tip.sha
        shas = {change.commit.sha for change in landing.included}
        ahead = {sha: self._ahead(tip, sha) & shas - {sha} for sha in shas}
        return [
            self._open_change(landing, change, runs, tuple(ahead[change.commit.sha]))
            for change in sorted(landing.included, key=lambda c: len(ahead[c.commit.sha]))
        ]

    def _open_change(
        self,
        landing: Landing,
        change: Landed,
        runs: Mapping[str, StoredRun],
        below: tuple[str, ...],
    ) -> OpenChange:
        """A change held against the nearest of those it builds on, else a commit it forks off."""
        sha, tip = change.commit.sha, landing.tip.sha
        builds_on = self.mirror.nearest(sha, below)
        fork = self._fork(tip, sha)
        nearest = runs[builds_on] if builds_on else self._nearest_baseline(landing.branch, fork)
        against = nearest or runs[tip]
        chosen = partial(self._executed, change, tip, builds_on, against)
        return OpenChange(
            commit=sha,
            against=against.commit,
            cut=self.cutter.cut(runs[sha], against, chosen),
            basis=self.cutter.basis(against),
        )

    def _executed(
        self,
        change: Landed,
        tip: str,
        builds_on: str | None,
        against: StoredRun,
        ran: Collection[str],
    ) -> frozenset[str]:
        """Of the commits where the tests `ran`, those unmerged at which they ran for the change.

        Those below it that are no change of their own here, and earlier patch sets: commits that
        are in no branch, and where no test of the run that it is held against ran. One too many
        only makes more tests be held for the change's own, whose rows are true of its tree.
        """
        sha = change.commit.sha
        below = self._ahead(tip, sha) - (self._ahead(tip, builds_on) if builds_on else set())
        earlier = {o for o in ran if o not in below and self._unmerged(tip, o)}
        if earlier:
            earlier -= self._ran_at(self.cutter.snapshot(against))
        return frozenset(o for o in ran if o in below or o in earlier)

    @staticmethod
    @cache
    def _ran_at(snapshot: Path) -> frozenset[str]:
        """The commits at which the tests of a snapshot ran; none where it is gone."""
        return read_ran(snapshot) if snapshot.is_file() else frozenset()

    @cache  # noqa: B019 (a prospector lives for one prospect)
    def _fork(self, tip: str, sha: str) -> str:
        return self.mirror.merge_base(tip, sha) or tip

    @cache  # noqa: B019
    def _ahead(self, tip: str, sha: str) -> frozenset[str]:
        return self.mirror.ahead(tip, sha)

    @cache  # noqa: B019
    def _unmerged(self, tip: str, sha: str) -> bool:
        """Whether a commit is known, and not in the branch."""
        return self.mirror.has(sha) and not self.mirror.is_ancestor(sha, tip)

    def _base(self, run: StoredRun) -> Base:
        return Base(commit=run.commit, snapshot=self.cutter.snapshot(run), before=run.as_before)

    def _request(self, landing: Landing, base: Base) -> Request:
        places = self.tracker.places(self.project.name)
        return Request(
            settings=self.project,
            mirror=self.mirror,
            commit=landing.merged,
            branch=landing.branch,
            kind=Kind.CHANGE,
            select=Select.AFFECTED,
            base=base,
            places=replace(places, stestr=self.folder / "stestr"),
            environments=self.tracker.environments,
            beside=self.tracker.other_needs(self.project.name),
        )

    def _verify(self, landing: Landing, found: Prospective) -> Verified:
        full = self._full(landing)
        held = hold(
            _lines_of(found.measurement.files),
            _lines_of(full.measurement.files),
            lambda workers: _lines_of(self._full(landing, workers).measurement.files),
        )
        total = full.measurement.total
        return Verified(
            statements=total.statements,
            covered=total.covered,
            tests=full.tests.run,
            known_tests=len(found.tests),
            complete=full.complete,
            false_covered=held.false_covered,
            missed=held.missed,
            explained=held.explained,
        )

    def _full(self, landing: Landing, workers: int | None = None) -> JobResult:
        tracker, project, commit = self.tracker, self.project, landing.merged
        return run_in_full(tracker, project, commit, landing.branch, self.folder, workers)


def _report(
    project: str,
    landing: Landing,
    runs: Mapping[str, StoredRun],
    found: Prospective,
    verified: Verified | None,
) -> Prospect:
    before, after = runs[landing.tip.sha].total, found.measurement.total
    own = sum(len(lines) for files in found.gains.own.values() for lines in files.values())
    lacking = [run.commit for run in runs.values() if not run.complete]
    return Prospect(
        project=project,
        branch=landing.branch,
        tip=landing.tip.sha,
        merged_tree=landing.merged.tree,
        before=Figures.from_counts(before),
        after=Figures.from_counts(after),
        changes=tuple(_report_change(change, runs, found) for change in landing.changes),
        shared=after.covered - found.gains.kept - own,
        lost=before.covered - found.gains.kept,
        overlapping_tests=found.overlapping,
        rests_on=dict(count_proofs(found.tests.values())),
        complete=not lacking,
        notes=(*found.notes, *(f"The figure of {sha[:10]} is incomplete." for sha in lacking)),
        seconds={stage: round(seconds, 3) for stage, seconds in found.seconds.items()},
        verified=verified,
    )


def _report_change(
    change: Landed, runs: Mapping[str, StoredRun], found: Prospective
) -> ProspectedChange:
    sha = change.commit.sha
    told = ProspectedChange(
        ref=change.ref,
        commit=sha,
        subject=change.commit.subject,
        state=change.state,
        conflicts_with=change.conflicts_with,
        paths=change.paths,
    )
    if sha not in found.gains.own:
        return told
    patch = runs[sha].patch
    lines = found.gains.own[sha]
    return told.model_copy(
        update={
            "tests": runs[sha].tests.run,
            "patch": None if patch is None else PatchReport.model_validate(patch),
            "gain": sum(map(len, lines.values())),
            "gain_lines": dict(lines),
        }
    )
