"""Reads which lines of a patch set's files ran, for Gerrit's diff view; never guesses.

A stored run has the statements that did not run; all others of its files ran.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from covtrack.gerrit.patch_sets import PatchSet, UnknownError
from covtrack.parsed_runs import read_parsed_files
from covtrack.store.values import StoredRun
from covtrack.tracking import Tracker
from jobs.diff import FileChange, LineMap
from jobs.file_lines import FileLines, find_lines, join_lines
from jobs.patch import is_opaque, touched_statements
from jobs.repository import Mirror
from jobs.results import FileMeasure
from jobs.statements import Parsed

MOST_KEPT = 64


class LineReader:
    """Reads the lines of runs; a run never changes, so the last ones read are kept."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._kept: dict[int, tuple[FileLines, ...]] = {}

    def read(self, patch_set: PatchSet) -> tuple[FileLines, ...]:
        """The measured files that the patch set touches, by path, of all its projects.

        Raises UnknownError where it was not measured, or cannot be told any more.
        """
        found: dict[str, FileLines] = {}
        runs = self._runs(patch_set)
        if not runs:
            raise UnknownError(f"Patch set {patch_set.number} is not measured yet.")
        for file in (file for run in runs for file in self._of_run(run)):
            known = found.get(file.path)
            found[file.path] = join_lines(known, file) if known else file
        return tuple(found[path] for path in sorted(found))

    def _runs(self, patch_set: PatchSet) -> list[StoredRun]:
        """The newest run of each project that has one."""
        commit, database = patch_set.commit, self.tracker.database
        names = [project.name for project in patch_set.projects] if commit else []
        runs = [database.find_run(name, commit or "") for name in names]
        return [run for run in runs if run is not None]

    def _of_run(self, run: StoredRun) -> tuple[FileLines, ...]:
        if run.provisional:
            raise UnknownError(
                "The budget ended before every line was proven; the rest of the tests is to come."
            )
        if not run.complete:
            raise UnknownError("Not all tests could run, so coverage may be missing.")
        if run.run_id not in self._kept:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[run.run_id] = self._read(run)
        return self._kept[run.run_id]

    def _read(self, run: StoredRun) -> tuple[FileLines, ...]:
        mirror = mirror_of(self.tracker, run)
        parent = run.patch.parent if run.patch else _first_parent(mirror, run.commit)
        changes = mirror.diff(parent, run.commit).by_new if parent else None
        measured = [
            file
            for file in self.tracker.database.files_of(run.run_id)
            if changes is None or file.path in changes
        ]
        parsed = self._parsed(run, mirror, measured)
        found = []
        for file in measured:
            change = (changes or {}).get(file.path) if run.patch else None
            lines = _lines(file, parsed.get(file.path), change)
            if lines is None:
                raise UnknownError(
                    f"How {file.path} was parsed for {run.commit[:10]} is not kept."
                )
            found.append(lines)
        return tuple(found)

    def _parsed(
        self, run: StoredRun, mirror: Mirror, measured: list[FileMeasure]
    ) -> Mapping[str, Parsed]:
        """Those of the files whose statements are still in the cache, by path."""
        parsed = read_parsed_files(self.tracker, run, mirror, [file.path for file in measured])
        if parsed is None:
            name = PurePath(run.snapshot).name
            raise UnknownError(f"The snapshot {name} is gone or damaged.")
        return parsed


def mirror_of(tracker: Tracker, run: StoredRun) -> Mirror:
    """The mirror with the run's commit; UnknownError where that is not there any more."""
    mirror = tracker.mirror(run.project)
    if not mirror.has(run.commit):
        raise UnknownError(f"The mirror of {run.project} has no commit {run.commit[:10]}.")
    return mirror


def _first_parent(mirror: Mirror, sha: str) -> str | None:
    parents = mirror.commit(sha).parents
    return parents[0] if parents else None


def _lines(
    file: FileMeasure, parsed: Parsed | None, change: FileChange | None
) -> FileLines | None:
    if parsed is None:
        return None
    touched = None
    if change is not None and not file.vendored and not is_opaque(change):
        touched = touched_statements(change.lines or LineMap(), parsed)
    return find_lines(file, parsed, touched)
