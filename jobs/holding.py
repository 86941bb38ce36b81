"""Holds a result against a full run of the same commit: what differs, and why. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from jobs.results import Measurement

MISS = "footprint miss"  # the one difference from a full run that is ours
ORDER = "order dependence: differs when all tests run in one process"
CHANCE = "nondeterministic: differs between two full runs"
KNOWN = "nondeterministic: known from before"
WHYS = frozenset({MISS, ORDER, CHANCE, KNOWN})
MOST_FULL_RUNS = 3
Lines = dict[str, tuple[int, ...]]
Branches = dict[str, tuple[tuple[int, int], ...]]
Item = TypeVar("Item", int, tuple[int, int])
Found = dict[str, tuple[Item, ...]]
Kind = Literal["false_covered", "missed"]
Known = Mapping[str, Collection[int]]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Explained(_Value):
    """One line, or branch from `line` to `to`, that differs from the full run, and why."""

    path: str
    line: int
    to: int | None = None
    kind: Kind
    why: str

    @property
    def where(self) -> str:
        """The line, or the branch as `from->to`, as coverage.py writes it."""
        if self.to is None:
            return str(self.line)
        return f"{self.line}->{self.to if self.to > 0 else 'exit'}"


class Unproven(_Value):
    """What did not run, by path, of every file that counts."""

    missing: Lines
    """First lines of statements."""
    missing_branches: Branches = {}
    """Branch exits, from line to line, that were never taken."""

    @classmethod
    def of(cls, measurement: Measurement) -> Unproven:
        """What a measurement says."""
        files = measurement.files
        return cls(
            missing={file.path: file.missing for file in files},
            missing_branches={file.path: file.missing_branches for file in files},
        )


class Held(_Value):
    """How a result differs from a full run; nowhere if all is empty.

    Falsely covered is what ran by the result alone, missed what ran in the full run alone.
    """

    false_covered: Lines = {}
    missed: Lines = {}
    false_branches: Branches = {}
    missed_branches: Branches = {}
    explained: tuple[Explained, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether every line and every branch is the same."""
        return not (
            self.false_covered or self.missed or self.false_branches or self.missed_branches
        )


def compare(
    ours: Mapping[str, tuple[Item, ...]], full: Mapping[str, tuple[Item, ...]]
) -> tuple[Found[Item], Found[Item]]:
    """What is falsely covered and what is missed, by path: ours against a full run's.

    Both are first lines of statements that did not run, or branches that were not taken. Files
    that only one of them has are left out.
    """
    mine: dict[str, set[Item]] = {path: set(lines) for path, lines in ours.items()}
    theirs: dict[str, set[Item]] = {path: set(lines) for path, lines in full.items()}
    false_covered: Found[Item] = {}
    missed: Found[Item] = {}
    for path in sorted(mine.keys() & theirs.keys()):
        if wrong := theirs[path] - mine[path]:
            false_covered[path] = tuple(sorted(wrong))
        if wrong := mine[path] - theirs[path]:
            missed[path] = tuple(sorted(wrong))
    return false_covered, missed


def count_lines(lines: Mapping[str, Sequence[object]]) -> int:
    """How many lines (or branches) are named."""
    return sum(map(len, lines.values()))


def hold(
    ours: Unproven,
    full: Unproven,
    rerun: Callable[[int | None], Unproven] | None = None,
    known: Known | None = None,
) -> Held:
    """How ours differs from a full run, and why.

    Where anything differs that is not on a `known` line, `rerun` makes two more full runs: one
    like the first, and one whose tests all run in one worker (it is asked with None, then with
    1). Without it nothing else is explained.
    """
    known = known or {}
    false_covered, missed = compare(ours.missing, full.missing)
    false_branches, missed_branches = compare(ours.missing_branches, full.missing_branches)
    pairs: tuple[tuple[Kind, Lines, Branches], ...] = (
        ("false_covered", false_covered, false_branches),
        ("missed", missed, missed_branches),
    )
    again = cache(rerun) if rerun is not None else None
    explained: list[Explained] = []
    for kind, lines, branches in pairs:
        explained += _explain(kind, lines, full.missing, again, "missing", known)
        explained += _explain(
            kind, branches, full.missing_branches, again, "missing_branches", known
        )
    return Held(
        false_covered=false_covered,
        missed=missed,
        false_branches=false_branches,
        missed_branches=missed_branches,
        explained=tuple(explained),
    )


def _explain(
    kind: Kind,
    found: Found[Item],
    full: Found[Item],
    rerun: Callable[[int | None], Unproven] | None,
    what: Literal["missing", "missing_branches"],
    known: Known,
) -> Iterable[Explained]:
    for path, items in found.items():
        for item in items:
            start, to = item if isinstance(item, tuple) else (item, None)
            why = KNOWN
            if abs(start) not in known.get(path, ()):
                if rerun is None:
                    continue
                again, alone = getattr(rerun(None), what), getattr(rerun(1), what)
                why = _why(path, item, full, again, alone)
            yield Explained(path=path, line=start, to=to, kind=kind, why=why)


def _why(path: str, item: Item, full: Found[Item], again: Found[Item], alone: Found[Item]) -> str:
    """Why an item differs: told by a second full run and one whose tests run in one process.

    What differs between two full runs is nondeterministic; what differs when the same tests run
    in another company depends on their order. What is left is our miss.
    """
    if any(item in part.get(path, ()) for part in compare(full, again)):
        return CHANCE
    if any(item in part.get(path, ()) for part in compare(full, alone)):
        return ORDER
    return MISS
