"""Learns lines that run or not without a change of the source, and finds them in a stored run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from covtrack.parsed_runs import read_parsed_files
from covtrack.store import ledgering
from covtrack.store.values import StoredRun
from jobs.nondeterminism import LineName, leave_out, means_the_same, name_lines
from jobs.repository import Mirror
from jobs.results import FileMeasure, JobResult, Measurement
from jobs.statements import Parsed

if TYPE_CHECKING:  # which itself learns
    from covtrack.tracking import Tracker

FLIPPED = "nondeterministic: differs between two runs of the same code"
MOST_FILES = 50
Lines = Mapping[str, frozenset[int]]


def learn_flips(tracker: Tracker, mirror: Mirror, result: JobResult) -> int:
    """Learn what differs between a result and its base's though the source means the same.

    How many lines were new. Nothing is learnt of incomplete results.
    """
    old = tracker.database.find_run(result.project, result.base) if result.base else None
    new = tracker.database.find_run(result.project, result.commit)
    if not (old and new and old.complete and new.complete and result.tests.run):
        return 0
    if old.run_id == new.run_id:  # the commit measured again: its last run but this one
        old = tracker.database.run_before(new.run_id)
    if old is None or not old.complete or not is_same_source(mirror, old.commit, new.commit):
        return 0
    before, now = (_names_missing(tracker, mirror, run, old, new) for run in (old, new))
    both = before[0] & now[0]
    flipped = (before[1] ^ now[1]) & both
    return learn(tracker, new, dict.fromkeys(flipped, FLIPPED))


def learn(tracker: Tracker, run: StoredRun, lines: Mapping[LineName, str]) -> int:
    """Keep lines as nondeterministic, each with why; how many were new."""
    if not lines:
        return 0
    now = datetime.now(UTC)
    return tracker.database.write(
        lambda connection: ledgering.put_lines(
            connection, run.project, lines, commit=run.commit, now=now
        )
    )


def is_same_source(mirror: Mirror, old: str, new: str) -> bool:
    """Whether two commits differ in comments and layout of Python files alone, or not at all."""
    changes = mirror.diff(old, new).changes if old != new else ()
    if len(changes) > MOST_FILES:
        return False
    for change in changes:
        if change.old is None or change.old != change.new or not change.old.endswith(".py"):
            return False
        texts = mirror.read(old, change.old), mirror.read(new, change.old)
        if texts[0] is None or texts[1] is None or not means_the_same(texts[0], texts[1]):
            return False
    return True


def _names_missing(
    tracker: Tracker, mirror: Mirror, run: StoredRun, old: StoredRun, new: StoredRun
) -> tuple[set[LineName], set[LineName]]:
    """Names of all statements, and of those that did not run, in files whose counts differ."""
    files = {
        one.run_id: {f.path: f for f in tracker.database.files_of(one.run_id)}
        for one in (old, new)
    }
    pair = files[old.run_id], files[new.run_id]
    paths = [
        p for p in pair[0].keys() & pair[1].keys() if pair[0][p].missing != pair[1][p].missing
    ]
    named = name_all(tracker, mirror, run, paths)
    everything = {name for names in named.values() for name in names.values()}
    missing = {
        named[path][line]
        for path in named
        for line in files[run.run_id][path].missing
        if line in named[path]
    }
    return everything, missing


def name_all(
    tracker: Tracker, mirror: Mirror, run: StoredRun, paths: Iterable[str]
) -> dict[str, dict[int, LineName]]:
    """The names of all statements of these files of a run, where they are still known."""
    wanted = tuple(paths)
    parsed: Mapping[str, Parsed] = {}
    if wanted and mirror.has(run.commit):
        parsed = read_parsed_files(tracker, run, mirror, wanted) or {}
    texts = {path: mirror.read(run.commit, path) for path in parsed}
    return {
        path: name_lines(path, text, parsed[path])
        for path, text in texts.items()
        if text is not None
    }


def known_lines(tracker: Tracker, mirror: Mirror, run: StoredRun) -> dict[str, frozenset[int]]:
    """The nondeterministic statements of a run's commit: first lines, by path."""
    learnt = tracker.database.read(
        lambda connection: ledgering.read_lines(connection, run.project)
    )
    names = {line.name for line in learnt}
    named = name_all(tracker, mirror, run, sorted({name.path for name in names}))
    found = {
        path: frozenset(line for line, name in by_line.items() if name in names)
        for path, by_line in named.items()
    }
    return {path: lines for path, lines in found.items() if lines}


def settle(tracker: Tracker, result: JobResult) -> tuple[JobResult, int]:
    """A result without its nondeterministic lines, now and before, and how many these are."""
    database, mirror = tracker.database, tracker.mirror(result.project)
    run = database.find_run(result.project, result.commit)
    if run is None:
        return result, 0
    lines = _counted(known_lines(tracker, mirror, run), result.measurement.files)
    base = database.find_run(result.project, result.base) if result.base else None
    before = Measurement(files=database.files_of(base.run_id)) if base else None
    base_lines: Lines = {}
    if base and before:
        base_lines = _counted(known_lines(tracker, mirror, base), before.files)
    return leave_out(result, lines, before, base_lines), sum(map(len, lines.values()))


def _counted(
    lines: Mapping[str, Collection[int]], files: Iterable[FileMeasure]
) -> dict[str, frozenset[int]]:
    """Those of the lines whose file counts."""
    paths = {file.path for file in files}
    return {path: frozenset(found) for path, found in lines.items() if path in paths}
