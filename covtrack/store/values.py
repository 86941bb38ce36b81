"""What the store hands out: frozen values that hold counts, never percentages.

Pure: imports neither SQLAlchemy nor anything else that does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fractions import Fraction

from jobs.holding import MISS, Held
from jobs.nondeterminism import LineName
from jobs.results import (
    Before,
    Counts,
    Kind,
    PatchCoverage,
    Provisional,
    Select,
    TestCounts,
)


class Scope(StrEnum):
    """What the counts of a stored measurement add up: the run's own figures or its base's."""

    OWN = "own"
    VENDORED = "vendored"
    BASE_OWN = "base-own"
    BASE_VENDORED = "base-vendored"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """One stored run without its files, outcomes and faults; all times are UTC.

    `snapshot` is the data file's path relative to the state folder, `sha256` its hex digest;
    `usable` is False once the snapshot was set aside. One that is
    `provisional` is not complete. `tree` is git's hash of the measured tree.
    """

    run_id: int
    project: str
    branch: str
    commit: str
    subject: str
    committed_at: datetime
    base: str | None
    select: Select
    kind: Kind
    complete: bool
    usable: bool
    recorder: str
    environment: str
    tree: str | None
    snapshot: str
    sha256: str
    measured_at: datetime
    tests: TestCounts
    total: Counts
    vendored: Counts
    before: Before | None
    notes: tuple[str, ...]
    patch: PatchCoverage | None
    seconds: Mapping[str, float]
    cpu_seconds: float
    provisional: Provisional | None = None

    @property
    def as_before(self) -> Before:
        """This run's counts, as a job that builds on it wants them."""
        return Before(total=self.total, vendored=self.vendored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a full run says of a result of the same commit, line by line.

    Nothing is known where the full run was not `complete`. `branches` is how many branch exits
    were compared, None where they were not.
    """

    verified_at: datetime
    complete: bool
    tests: int
    cpu_seconds: float
    held: Held
    branches: int | None = None

    @property
    def identical(self) -> bool:
        """Whether every line, and every branch that was compared, was the same."""
        return self.complete and self.held.identical

    @property
    def is_unsteady(self) -> bool:
        """Whether full runs themselves differ in all that differs here."""
        return self.complete and all(line.why != MISS for line in self.held.explained)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry(Verification):
    """A verification, and the stored run that was verified."""

    run_id: int
    project: str
    commit: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCount:
    """How many results were held against full runs, and how many were identical.

    Of the others, `unsteady` differ only in lines in which full runs differ among themselves.
    """

    verified: int
    identical: int
    unsteady: int
    last: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveringLine:
    """A line that runs or not without a change of the source; learnt at a commit, and why."""

    name: LineName
    why: str
    commit: str
    learnt_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectRow:
    """A project as the report shows it; `target` is a share in 0..1.

    `latest` is the branch's newest baseline by commit date (an incomplete one only where there
    is no complete one), `last_change` the change that was measured last; None means never.
    """

    project: str
    branch: str
    target: Fraction
    latest: StoredRun | None
    last_change: StoredRun | None
    ledger: LedgerCount | None = None
