"""The safety ledger: sampled results are held against full runs of the same commit, and kept."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from covtrack.full_runs import run_in_full
from covtrack.learning import known_lines, learn, name_all
from covtrack.replay_results import Explained, Lines, compare_lines, hold_against, missing_lines
from covtrack.store import ledgering
from covtrack.store.values import MISS, LedgerEntry, StoredRun
from covtrack.tracking import Tracker
from jobs.project import ProjectSettings
from jobs.results import JobResult, Measurement
from venv_builder.errors import UsageError
from venv_builder.progress import Noted

KNOWN = "nondeterministic: known from before"


def is_sampled(commit: str, share: Fraction) -> bool:
    """Whether a commit (its full hash) is of that share; the same answer each time."""
    drawn = int(hashlib.sha256(f"covtrack ledger {commit}".encode()).hexdigest(), 16)
    return Fraction(drawn, 2**256) < share


def verify_run(tracker: Tracker, project: ProjectSettings, commit: str | None) -> LedgerEntry:
    """Hold the newest run of a commit (None: the project's newest) against a full run; keep it.

    Raises UsageError where there is no complete run, or its commit is not in the mirror.
    """
    run = _find(tracker, project.name, commit)
    with tracker.locked(project.name):
        folder = tracker.folder(project.name) / "ledger"
        try:
            values = _hold(_Verifier(tracker, project, run))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    tracker.database.write(lambda connection: ledgering.put_entry(connection, run.run_id, values))
    return tracker.database.read(
        lambda connection: ledgering.read_entries(connection, project.name, 1)
    )[0]


def _find(tracker: Tracker, project: str, commit: str | None) -> StoredRun:
    database = tracker.database
    mirror = tracker.mirror(project)
    if commit is None:
        run = database.newest_run(project)
    else:
        run = database.find_run(project, mirror.resolve(commit))
    if run is None or not run.complete:
        raise UsageError(
            f"{project} has no complete run of {commit or 'any commit'}.",
            advice=f"Measure it first: covtrack run {project}",
        )
    if not mirror.has(run.commit):
        raise UsageError(f"The mirror of {project} has no commit {run.commit[:10]} any more.")
    return run


class _Verifier:
    """The full runs of one stored run."""

    def __init__(self, tracker: Tracker, project: ProjectSettings, run: StoredRun) -> None:
        self.tracker = tracker
        self.project = project
        self.run = run
        self.mirror = tracker.mirror(project.name)

    def full(self, workers: int | None = None) -> JobResult:
        """A full run of the commit."""
        folder = self.tracker.folder(self.project.name) / "ledger"
        commit = self.mirror.commit(self.run.commit)
        sentence = f"A full run of {self.run.commit[:10]} for the ledger."
        self.tracker.listener(Noted(sentence=sentence))
        return run_in_full(self.tracker, self.project, commit, self.run.branch, folder, workers)


def _hold(verifier: _Verifier) -> dict[str, Any]:
    """The ledger's columns; lines in which full runs differ are learnt."""
    tracker, run = verifier.tracker, verifier.run
    full = verifier.full()
    ours = missing_lines(Measurement(files=tracker.database.files_of(run.run_id)))
    theirs = missing_lines(full.measurement)
    false_covered: Lines = {}
    missed: Lines = {}
    explained: tuple[Explained, ...] = ()
    if full.complete:
        false_covered, missed = compare_lines(ours, theirs)
        known = known_lines(tracker, verifier.mirror, run)
        explained = _explain_known(false_covered, missed, known)
        *_, others = hold_against(
            _without(ours, known),
            _without(theirs, known),
            lambda workers: _without(missing_lines(verifier.full(workers).measurement), known),
        )
        explained += others
        _learn(verifier, others)
    return {
        "verified_at": datetime.now(UTC),
        "complete": full.complete,
        "tests": full.tests.run,
        "cpu_seconds": full.cpu_seconds,
        "false_covered": {path: list(lines) for path, lines in false_covered.items()},
        "missed": {path: list(lines) for path, lines in missed.items()},
        "explained": [line.model_dump() for line in explained],
    }


def _without(missing: Lines, known: Mapping[str, Collection[int]]) -> Lines:
    """The lines that did not run, but for the known ones."""
    return {
        path: tuple(line for line in lines if line not in known.get(path, ()))
        for path, lines in missing.items()
    }


def _explain_known(
    false_covered: Lines, missed: Lines, known: Mapping[str, Collection[int]]
) -> tuple[Explained, ...]:
    return tuple(
        Explained(path=path, line=line, kind=kind, why=KNOWN)  # type: ignore[arg-type]
        for kind, found in (("false_covered", false_covered), ("missed", missed))
        for path, lines in found.items()
        for line in lines
        if line in known.get(path, ())
    )


def _learn(verifier: _Verifier, explained: tuple[Explained, ...]) -> None:
    unsteady = [line for line in explained if line.why != MISS]
    named = name_all(
        verifier.tracker, verifier.mirror, verifier.run, sorted({line.path for line in unsteady})
    )
    names = {
        named[line.path][line.line]: line.why
        for line in unsteady
        if line.line in named.get(line.path, {})
    }
    learn(verifier.tracker, verifier.run, names)
