"""What a branch's coverage becomes when published changes land, as values and as JSON. Pure."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from covtrack.contract import PatchReport, percent_of
from covtrack.contract_types import Number, Percent, Utf8
from jobs.holding import Explained
from jobs.landing import State
from jobs.results import Counts

Lines = dict[Utf8, tuple[int, ...]]


class _Value(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, from_attributes=True
    )


class Figures(_Value):
    """Statements of own code; `percent` is rounded down, null where there are none."""

    statements: Number
    covered: Number
    percent: Percent | None

    @classmethod
    def from_counts(cls, counts: Counts) -> Figures:
        """The figures of counts."""
        return cls(
            statements=counts.statements, covered=counts.covered, percent=percent_of(counts)
        )

    @property
    def counts(self) -> Counts:
        """The counts alone."""
        return Counts(statements=self.statements, covered=self.covered)


class ProspectedChange(_Value):
    """One change as it was named; figures are null where it is not part of the merged tree."""

    ref: Utf8
    commit: Utf8
    subject: Utf8
    state: State
    conflicts_with: tuple[Utf8, ...] = ()
    """The branch, or refs of changes named before it; `paths` are the files in conflict."""
    paths: tuple[Utf8, ...] = ()
    tests: Number | None = None
    """Tests that ran for it."""
    patch: PatchReport | None = None
    """Coverage of its own statements, as measured by itself; null is unknown."""
    gain: Number | None = None
    """Statements that are covered when all has landed, and that no other change nor the tip
    covers; statements that it changes and covers again are among them."""
    gain_lines: Lines = {}
    """First lines of these statements in the merged tree, by path."""


class Verified(_Value):
    """The merged tree beside a real full run of it; lines are first lines of statements."""

    statements: Number
    covered: Number
    tests: Number
    """Tests that the full run ran; `known_tests` are those that the prospect rests on."""
    known_tests: Number
    complete: bool
    false_covered: Lines
    missed: Lines
    explained: tuple[Explained, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether every line equals the full run's."""
        return not (self.false_covered or self.missed)


class Prospect(_Value):
    """What `covtrack prospect --format json` prints."""

    version: Literal[1] = 1
    project: Utf8
    branch: Utf8
    tip: Utf8
    merged_tree: Utf8
    """Git's hash of the tree with all included changes."""
    before: Figures
    after: Figures
    changes: tuple[ProspectedChange, ...]
    shared: int
    """Covered statements that several of the changes bring; `lost` were covered and are gone,
    changed or uncovered: after = before + all gains + shared - lost."""
    lost: int
    overlapping_tests: tuple[Utf8, ...]
    """Tests that more than one of the changes, or the branch since one forked off, can reach."""
    rests_on: dict[Utf8, Number]
    """Commit to number of tests whose data was last executed there."""
    complete: bool
    """False where the tip's figure is incomplete."""
    notes: tuple[Utf8, ...] = ()
    seconds: dict[Utf8, float]
    """Wall time per stage of the joining; runs that had to be made first are not in it."""
    verified: Verified | None = None
