"""What a rebased patch set costs, resting on the one before it or on the branch alone.

Merged changes of a real project, each uploaded anew: on a commit of the branch some merges before
its own, then rebased on its own parent. The rebased one is measured with and without the earlier
patch set to rest on, in state folders of their own, and in full: all must say the same.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from covtrack.settings import Settings, TrackedProject
from covtrack.store.database import Database
from covtrack.tracking import Order, Tracker
from jobs.results import JobResult, Select
from tests.scratch_git import ScratchRepository
from venv_builder.progress import ignore

NAME = "measured"


def find_pairs(clone: ScratchRepository, words: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """Of each change: where it was uploaded first, that patch set, its parent, the rebased one."""
    listed = clone.git("log", "--first-parent", "--merges", "--format=%H", words.revision)
    merges, found = listed.split()[: words.last], 0
    for position, merge in enumerate(merges):
        touched = clone.git("diff", "--name-only", f"{merge}^1", merge).splitlines()
        own = [name for name in touched if name.endswith(".py") and "/tests/" not in name]
        if not own or position + words.back >= len(merges) or found == words.changes:
            continue
        old, parent = f"{merges[position + words.back]}", clone.git("rev-parse", f"{merge}^1")
        try:
            first, second = (pick(clone, merge, place) for place in (old, parent))
        except AssertionError:  # it does not apply that far back
            clone.git("cherry-pick", "--abort")
            continue
        found += 1
        yield old, first, parent, second


def pick(clone: ScratchRepository, merge: str, place: str) -> str:
    """What the merge brought, as one commit on `place`. AssertionError where it does not apply."""
    clone.git("checkout", "-q", "--detach", "-f", place)
    clone.git("cherry-pick", "-m", "1", merge)
    sha = clone.git("rev-parse", "HEAD")
    clone.git("branch", "-f", f"kept-{sha[:10]}", sha)
    return sha


def measure(folder: Path, words: argparse.Namespace) -> list[dict[str, object]]:
    """A row for each change."""
    clone = ScratchRepository(folder / "clone")
    clone.git("fetch", "-q", str(words.repository), words.revision)
    clone.git("checkout", "-q", "-B", "master", "FETCH_HEAD")
    pairs = list(find_pairs(clone, words))
    project = TrackedProject(
        name=NAME,
        git=str(clone.root),
        branch="master",
        python=words.python,
        branch_coverage=False,
        constraints=str(words.constraints),
    )
    rows = []
    with_it, without, full = (open_tracker(folder / name) for name in ("with", "without", "full"))
    for old, first, parent, second in reversed(pairs):
        run(with_it, project, old, first, parent)
        with patch("covtrack.bases.Bases.earlier", return_value=None):
            run(without, project, old, first, parent)
            alone = run(without, project, second)
        after = run(with_it, project, second)
        whole = run(full, project, second, select=Select.ALL)
        rows.append(describe(alone, after, whole))
        print(json.dumps(rows[-1]), flush=True)
    return rows


def open_tracker(state: Path) -> Tracker:
    """A tracker with a state folder and a database of its own."""
    settings = Settings(state=state, projects={})
    return Tracker(settings, Database.open(settings.database_url), ignore)


def run(
    tracker: Tracker, project: TrackedProject, *commits: str, select: Select | None = None
) -> JobResult:
    """Measure the commits; the last one's result."""
    for commit in commits:
        result = tracker.run(project, Order(revision=commit, select=select))
    return result


def describe(alone: JobResult, after: JobResult, whole: JobResult) -> dict[str, object]:
    """Tests run and CPU seconds of each, and whether they say the same."""
    lines = [
        {one.path: (one.counts.statements, one.missing) for one in result.measurement.files}
        for result in (alone, after, whole)
    ]
    return {
        "commit": after.commit,
        "subject": after.subject[:60],
        "rested_on_the_one_before": any("earlier patch set" in note for note in after.notes),
        "tests": {
            "branch": alone.tests.run,
            "patch_set": after.tests.run,
            "full": whole.tests.run,
        },
        "cpu_seconds": {
            name: round(result.cpu_seconds, 2)
            for name, result in (("branch", alone), ("patch_set", after), ("full", whole))
        },
        "identical": lines[0] == lines[1] == lines[2],
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--revision", default="HEAD")
    parser.add_argument("--constraints", type=Path, required=True)
    parser.add_argument("--python", default="3.13")
    parser.add_argument("--changes", type=int, default=10)
    parser.add_argument("--last", type=int, default=60, help="merges that are looked at")
    parser.add_argument("--back", type=int, default=3)
    parser.add_argument("--folder", type=Path, required=True)
    words = parser.parse_args()
    rows = measure(words.folder, words)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    print(json.dumps({"rows": rows, "date": now, "cores": os.cpu_count()}, indent=1))


if __name__ == "__main__":
    main()
