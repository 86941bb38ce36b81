"""Makes the new snapshot of a job: the base's rows that are carried, and what ran now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from jobs.comparison import align
from jobs.diff import FileChange
from jobs.execution import Ran, module_of
from jobs.footprint import IMPORTED, Footprints, Touch
from jobs.ground import Ground
from jobs.importing import imported_files, no_longer_imported
from jobs.merge import FileMove, MergePlan, contexts_to_drop, plan_move
from jobs.outcomes import failed_import
from jobs.parsing import ParsedTree
from jobs.request import Request
from jobs.selection import Selection
from jobs.snapshot import TestRecord, read_contexts
from jobs.snapshot_writing import write_snapshot
from jobs.suite import owner_of


def merge_tests(
    request: Request, selection: Selection, ran: Ran, known: Mapping[str, TestRecord]
) -> dict[str, TestRecord]:
    """All tests of the new commit: those carried as they were, those run now."""
    modules = module_of(ran.workers)
    names = {module.name for module in selection.run} | selection.gone
    gone = find_gone(selection, ran, known)
    sha = request.commit.sha
    carried = {
        test: replace(record, spared=sha, spared_for=selection.reason(test, record.module))
        if test in selection.spared
        else record
        for test, record in known.items()
        if selection.carry and test not in gone
    }
    fresh = {}
    for outcome in ran.outcomes:
        if failed_import(outcome.test) is not None:
            continue
        module = modules.get(outcome.test) or owner_of(outcome.test, names) or ""
        fresh[outcome.test] = TestRecord(
            test=outcome.test,
            module=module,
            status=outcome.status,
            seconds=outcome.seconds,
            executed=sha,
            reason=selection.reason(outcome.test, module),
        )
    return {**carried, **fresh}


def find_gone(selection: Selection, ran: Ran, known: Mapping[str, TestRecord]) -> frozenset[str]:
    """Tests of the base that are no more: their module is gone, or was loaded without them."""
    listed = {
        test.partition("(")[0]
        for worker in ran.workers
        for tests in worker.tests.values()
        for test in tests
    }
    again = {outcome.test for outcome in ran.outcomes}
    loaded = {module.name for module in selection.run}

    def is_gone(test: str, module: str) -> bool:
        if module in selection.gone:
            return True
        # A scenario that did not come back, or a test whose class could not be set up.
        lost = test not in again and test not in selection.skip
        return module in loaded and (lost or test.partition("(")[0] not in listed)

    return frozenset(test for test, record in known.items() if is_gone(test, record.module))


def merge_rows(
    request: Request,
    ground: Ground,
    selection: Selection,
    ran: Ran,
    known: Mapping[str, TestRecord],
    tests: Mapping[str, TestRecord],
    target: Path,
) -> None:
    """Write the new snapshot: what is carried of the base's, then what the workers left."""
    base = request.base.snapshot if request.base and selection.carry else None
    fresh = [path for worker in ran.workers for path in worker.data]
    plan = MergePlan(dropped=frozenset(), moves={})
    if base is not None and request.base is not None and not request.append:
        plan = MergePlan(
            dropped=_find_dropped(base, ground, selection, ran, fresh, known, tests),
            moves=dict(plan_moves(ground, ran.parsed)),
        )
    write_snapshot(
        target,
        base=base,
        plan=plan,
        fresh=fresh,
        tests=tests.values(),
        measured=ran.parsed.files.keys(),
        key=ground.key,
        circumstances=ground.circumstances,
        touched=[worker.footprint for worker in ran.workers if worker.footprint],
    )


def plan_moves(
    ground: Ground, parsed: ParsedTree, changes: Iterable[FileChange] | None = None
) -> Iterator[tuple[str, FileMove]]:
    """Where the rows of each changed Python file of the ground's base (by old path) go."""
    for change in ground.diff.changes if changes is None else changes:
        if change.old is not None and change.old.endswith(".py"):
            new = change.new or ""
            alignment = align(
                ground.base_outlines.outline(change.old), ground.outlines.outline(new)
            )
            yield change.old, plan_move(change, parsed.files.get(new), alignment)


def _find_dropped(
    base: Path,
    ground: Ground,
    selection: Selection,
    ran: Ran,
    fresh: Collection[Path],
    known: Mapping[str, TestRecord],
    tests: Mapping[str, TestRecord],
) -> frozenset[str]:
    contexts = read_contexts(base)
    again = {outcome.test for outcome in ran.outcomes}
    moved = {path for path, change in ground.diff.by_old.items() if change.new != path}
    dropped = contexts_to_drop(
        contexts,
        ran=again,
        gone=known.keys() - tests.keys(),
        left=tests.keys(),
        loaded={name for worker in ran.workers for name in worker.tests} | selection.gone,
        imports=selection.imports | moved,
        reached=selection.reached,
    )
    dropped |= selection.pending
    if not (dropped or selection.imports or moved):
        return dropped
    left = _no_longer_imported(base, ground, fresh, dropped)
    return dropped | {f"{path}{IMPORTED}" for path in left}


def _no_longer_imported(
    base: Path,
    ground: Ground,
    fresh: Collection[Path],
    dropped: Collection[str],
) -> set[str]:
    """Files that were imported in the base and that nothing leads to any more."""
    now = imported_files(context for path in fresh for context in read_contexts(path))
    with closing(Footprints(base)) as footprints:
        touched = footprints.names(Touch.IMPORT)
        kept = footprints.names(Touch.IMPORT, without=dropped)
        imported = footprints.imported()
    before, after = ground.base_outlines.dependencies, ground.outlines.dependencies
    by_tests = {before.file_of(name) for name in touched} - {None}
    still = {after.file_of(name) for name in kept} - {None}
    modules = {module.path for module in ground.modules}
    old = {path for path in imported if ground.is_test_file(path)}
    left = no_longer_imported(
        before,
        {path for path in (*old, *by_tests) if path},
        after,
        {path for path in (*modules, *now, *still) if path},
    )
    return left & imported
