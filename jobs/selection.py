"""Which test modules run: the original method (changed test files), or all. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from jobs.results import Select
from jobs.suite import TestModule


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Modules to run now, names of modules that are gone, and why more runs than was asked.

    `carry` is False for a full run: nothing of a base is then carried.
    """

    run: tuple[TestModule, ...]
    carry: bool = True
    gone: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def select_modules(
    select: Select,
    modules: Sequence[TestModule],
    changed: Collection[str] | None,
    measured: Collection[str],
    *,
    invalid_base: str | None = None,
) -> Selection:
    """The modules to run for a commit.

    `changed` are the paths that `git diff --name-only` prints, None without a base. `measured`
    are the names of the base's test modules. `invalid_base` says why nothing of the base can be
    carried: then everything runs.
    """
    gone = frozenset(measured) - {module.name for module in modules}
    if changed is None or select is Select.ALL:
        return Selection(run=tuple(modules), carry=False, gone=gone)
    if invalid_base:
        note = f"{invalid_base} All tests run."
        return Selection(run=tuple(modules), carry=False, gone=gone, notes=(note,))
    run = tuple(module for module in modules if any(module.owns(path) for path in changed))
    return Selection(run=run, gone=gone)
