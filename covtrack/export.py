"""Writes a measured commit's coverage in the formats that other tools read.

Finds the commit's snapshot and checks the place; jobs/exporting.py writes.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from covtrack.packing import unpacked
from covtrack.store.values import StoredRun
from covtrack.tracking import Tracker
from jobs.exporting import Exported, write_report
from jobs.project import ProjectSettings
from jobs.snapshot import file_digest
from venv_builder.errors import DataError, UsageError
from venv_builder.progress import Noted

REPORT_FILE = re.compile(r"^(z_[0-9a-f]{16}_.*\.html|(coverage_html|style|favicon|keybd).*)$")


def export_snapshot(
    tracker: Tracker,
    project: ProjectSettings,
    revision: str | None,
    style: str,
    output: Path,
    root: Path | None = None,
) -> None:
    """Write a measured commit's coverage to `output`, paths relative to the project's root.

    `style` is coverage, xml, lcov or html. With `root` the data file (style coverage) names
    files below that folder instead, for a coverage.py that has no `relative_files` setting.
    Raises UsageError if the commit was never measured, DataError if its snapshot is damaged.
    """
    run = _find_run(tracker, project, revision)
    snapshot = unpacked(tracker.settings.state / run.snapshot)
    if not snapshot.is_file() or file_digest(snapshot) != run.sha256:
        raise DataError(
            f"The snapshot of {run.commit[:10]} is gone or damaged.",
            advice=f"Measure it anew: covtrack run {project.name} --rev {run.commit[:10]}",
        )
    if run.provisional:
        lines = run.provisional.lines_undecided
        sentence = f"The figures are provisional: of the missing statements {lines} are undecided."
        tracker.listener(Noted(sentence=sentence))
    try:
        output = output.resolve()
        _check_output(output, style)
        output.parent.mkdir(parents=True, exist_ok=True)
        if style == "coverage":
            _copy_data(snapshot, output, root)
        else:
            _write_report(tracker, run, snapshot, style, output)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{output} cannot be written: {reason}.", advice="Name another place: -o PATH"
        ) from error


def _find_run(tracker: Tracker, project: ProjectSettings, revision: str | None) -> StoredRun:
    if revision is None:
        run = tracker.database.latest_run(project.name, project.branch)
        missing = f"{project.name} was never measured."
    else:
        sha = tracker.mirror(project.name).resolve(revision)
        run = tracker.database.find_run(project.name, sha)
        missing = f"{revision} ({sha[:10]}) of {project.name} was never measured."
    if run is None:
        raise UsageError(missing, advice=f"Measure it first: covtrack run {project.name}")
    return run


def _copy_data(snapshot: Path, output: Path, root: Path | None) -> None:
    new = output.with_name(output.name + ".new")
    shutil.copyfile(snapshot, new)
    if root is not None:
        with closing(sqlite3.connect(new)) as db, db:
            db.execute("UPDATE file SET path = ? || path", (f"{root.resolve()}/",))
    new.replace(output)


def _write_report(
    tracker: Tracker, run: StoredRun, snapshot: Path, style: str, output: Path
) -> None:
    what = Exported(
        mirror=tracker.mirror(run.project),
        commit=run.commit,
        snapshot=snapshot,
        environment=run.environment,
        environments=tracker.environments,
    )
    write_report(what, style, output, tracker.folder(run.project))


def _check_output(output: Path, style: str) -> None:
    """Refuse what is in the way: a folder for a file, a file for a folder, anybody's files."""
    if style != "html":
        if output.is_dir():
            raise UsageError(f"{output} is a folder.", advice="Name a file: -o FILE")
    elif output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file.", advice="Name a folder: -o FOLDER")
    elif output.is_dir() and any(not _is_report_file(path) for path in output.iterdir()):
        raise UsageError(f"{output} holds other files.", advice="Name an empty or a new folder.")


def _is_report_file(path: Path) -> bool:
    """Whether coverage.py's HTML report has a file of that name."""
    named = path.name in ("index.html", "function_index.html", "class_index.html", "status.json")
    hashed = re.match(
        r"^(z_[0-9a-f]{16}_.*\.html|(coverage_html|style|favicon|keybd).*)$", path.name
    )
    return path.is_file() and (named or hashed is not None or path.name == ".gitignore")
