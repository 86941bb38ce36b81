"""The safety ledger: sampled results are held against full runs of the same commit, and kept."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from fractions import Fraction

from covtrack.full_runs import run_in_full
from covtrack.learning import known_lines, learn, name_all
from covtrack.store import ledgering
from covtrack.store.values import LedgerEntry, StoredRun, Verification
from covtrack.tracking import Tracker
from jobs.holding import KNOWN, MISS, Held, Unproven
from jobs.order import Against
from jobs.project import ProjectSettings
from jobs.results import JobResult, Measurement
from venv_builder.errors import UsageError
from venv_builder.progress import Noted


def is_sampled(commit: str, share: Fraction) -> bool:
    """Whether a commit (its full hash) is of that share; the same answer each time."""
    drawn = int(hashlib.sha256(f"covtrack ledger {commit}".encode()).hexdigest(), 16)
    return Fraction(drawn, 2**256) < share


def verify_run(tracker: Tracker, project: ProjectSettings, commit: str | None) -> LedgerEntry:
    """Hold the newest complete run of a commit (None: the project's newest) against a full run.

    The entry is kept. Raises UsageError where there is no complete run, or its commit is not in
    the mirror.
    """
    run = find_complete(tracker, project.name, commit)
    with tracker.locked(project.name):
        folder = tracker.folder(project.name) / "ledger"
        try:
            found = _verify(tracker, project, run)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    learn_from(tracker, run, found.held)
    tracker.database.write(lambda connection: ledgering.put_entry(connection, run.run_id, found))
    return tracker.database.read(
        lambda connection: ledgering.read_entries(connection, project.name, 1)
    )[0]


def find_complete(tracker: Tracker, project: str, commit: str | None) -> StoredRun:
    """The newest complete run of a commit (None: of any), whose commit is in the mirror.

    Raises UsageError where there is none.
    """
    database = tracker.database
    mirror = tracker.mirror(project)
    sha = None if commit is None else mirror.resolve(commit)
    runs = [run for run in database.runs_of(project) if run.complete and sha in (None, run.commit)]
    if not runs:
        raise UsageError(
            f"{project} has no complete run of {commit or 'any commit'}.",
            advice=f"Measure it first: covtrack run {project}",
        )
    run = max(runs, key=lambda one: one.run_id)
    if not mirror.has(run.commit):
        raise UsageError(f"The mirror of {project} has no commit {run.commit[:10]} any more.")
    return run


def against(tracker: Tracker, run: StoredRun) -> Against:
    """What a stored run says did not run, and which lines may do as they please.

    Its branches are left out where the database does not have them all.
    """
    files = tracker.database.files_of(run.run_id)
    unproven = Unproven.of(Measurement(files=files))
    for file in files:
        if len(file.missing_branches) != file.counts.branches - file.counts.branches_covered:
            unproven = Unproven(missing=unproven.missing)
    known = known_lines(tracker, tracker.mirror(run.project), run)
    return Against(
        run=run.run_id,
        ours=unproven,
        known={path: tuple(sorted(lines)) for path, lines in known.items()},
    )


def _verify(tracker: Tracker, project: ProjectSettings, run: StoredRun) -> Verification:
    mirror = tracker.mirror(project.name)
    folder = tracker.folder(project.name) / "ledger"
    stored = against(tracker, run)

    def full(workers: int | None = None) -> JobResult:
        sentence = f"A full run of {run.commit[:10]} for the ledger."
        tracker.listener(Noted(sentence=sentence))
        commit = mirror.commit(run.commit)
        return run_in_full(tracker, project, commit, run.branch, folder, workers)

    first = full()
    held = Held()
    if first.complete:
        held = stored.hold(first, full)
    return verified(first, stored, held)


def verified(full: JobResult, stored: Against, held: Held) -> Verification:
    """The verification that a full run and what differs from it make, as of now."""
    return Verification(
        verified_at=datetime.now(UTC),
        complete=full.complete,
        tests=full.tests.run,
        cpu_seconds=full.cpu_seconds,
        branches=(full.measurement.total.branches or None)
        if stored.ours.missing_branches
        else None,
        held=held,
    )


def learn_from(tracker: Tracker, run: StoredRun, held: Held) -> None:
    """Learn the lines that full runs of a run's commit differ in among themselves."""
    unsteady = [
        line for line in held.explained if line.to is None and line.why not in (MISS, KNOWN)
    ]
    paths = sorted({line.path for line in unsteady})
    named = name_all(tracker, tracker.mirror(run.project), run, paths)
    names = {
        named[line.path][line.line]: line.why
        for line in unsteady
        if line.line in named.get(line.path, {})
    }
    learn(tracker, run, names)
