"""Which files to import anew, so that lines which run at import are measured, and which not to.

Lines that run at import belong to no test but to the import of a file. Those of a file whose
import may do something else now come from importing it again; those of a file that nothing
imports any more are dropped. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from jobs.dependencies import Dependencies
from jobs.diff import TreeDiff
from jobs.footprint import IMPORTED
from jobs.suite import module_name


def files_to_import(
    imports: Iterable[str], imported: Collection[str], diff: TreeDiff
) -> frozenset[str]:
    """New paths of those of `imports` (old paths) that were `imported` before and still exist."""
    places = {path: diff.by_old[path].new if path in diff.by_old else path for path in imports}
    return frozenset(new for old, new in places.items() if old in imported and new is not None)


def module_names(paths: Iterable[str], top_dirs: Iterable[str]) -> tuple[str, ...]:
    """The dotted names under which the files are imported; those that have none are left out."""
    tops = tuple(top_dirs)
    names = (module_name(path, tops) for path in paths)
    return tuple(sorted(name for name in names if name and not name.endswith("__main__")))


def imported_files(contexts: Iterable[str]) -> set[str]:
    """The files that have a context of their own import."""
    return {c.removesuffix(IMPORTED) for c in contexts if c.endswith(IMPORTED)}


def no_longer_imported(
    before: Dependencies,
    old_roots: Collection[str],
    after: Dependencies,
    new_roots: Collection[str],
) -> set[str]:
    """Files that the roots (test modules, and files that tests import) no longer lead to."""
    return before.reached_from(old_roots) - after.reached_from(new_roots)
