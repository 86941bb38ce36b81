"""Which modules to import anew, so that import-time lines of changed files are measured.

Lines that run at import belong to no test. Those of unchanged files are carried; those of a
changed file come from whichever test imported it now, else from importing it here. Where the
diff touches a function that ran at import time, its callers are unknown: every test module is
imported again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jobs.diff import FileChange, TreeDiff
from jobs.merge import reaches_import_time_code
from jobs.parsing import ParsedTree
from jobs.runner import WorkerPlan
from jobs.snapshot import read_import_lines
from jobs.statements import Parsed, StatementCache
from jobs.suite import TestModule, module_name


def plan_imports(
    diff: TreeDiff,
    parsed: ParsedTree,
    *,
    base: Path | None,
    fresh: Sequence[Path],
    old: StatementCache,
    key: str,
    modules: Sequence[TestModule],
    top_dir: str,
) -> WorkerPlan | None:
    """The worker that imports what has to be imported; None where nothing has to.

    `base` is the snapshot that is carried (None: nothing is, so all is fresh), `fresh` the data
    files of the tests that ran now.
    """
    if base is None:
        return None
    changes = [c for c in diff.changes if c.old and c.old.endswith(".py")]
    before = read_import_lines(base, {c.old for c in changes if c.old})
    imported = [c for c in changes if c.old in before]
    blobs = {c.old_blob for c in imported if c.old_blob}
    old_parsed = old.load(key, blobs)
    if any(_reaches(change, before, old_parsed, parsed.files) for change in imported):
        return WorkerPlan(imports=tuple(module.name for module in modules))
    loaded = _loaded_now(fresh, {c.new for c in imported if c.new})
    missing = (c.new for c in imported if c.new and c.new not in loaded)
    return _as_plan((path for path in missing if path in parsed.files), top_dir)


def _reaches(
    change: FileChange,
    before: Mapping[str, frozenset[int]],
    old: Mapping[str, Parsed],
    new: Mapping[str, Parsed],
) -> bool:
    lines = before[change.old or ""]
    was, now = old.get(change.old_blob or ""), new.get(change.new or "")
    return reaches_import_time_code(change, was, now, lines)


def _loaded_now(fresh: Iterable[Path], paths: set[str]) -> set[str]:
    return {name for path in fresh for name in read_import_lines(path, paths)}


def _as_plan(paths: Iterable[str], top_dir: str) -> WorkerPlan | None:
    tops = ("", top_dir, "src", "lib")
    names = (module_name(path, tops) for path in paths)
    wanted = tuple(sorted(name for name in names if name and not name.endswith("__main__")))
    return WorkerPlan(imports=wanted) if wanted else None
