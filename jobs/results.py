"""What a job hands back: frozen values that hold counts and line sets, never percentages.

Pure: imports nothing that does I/O. Rounding is for display only, and always down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from pathlib import Path


class Kind(StrEnum):
    """Whether a result is a branch's baseline or an unmerged change that forks off one."""

    BASELINE = "baseline"
    CHANGE = "change"


class Select(StrEnum):
    """How tests are chosen.

    Of those that the change reaches enough to prove every line, or each; those of changed test
    files; all.
    """

    AFFECTED = "affected"
    AFFECTED_ALL = "affected-all"
    CHANGED = "changed"
    ALL = "all"


class Status(StrEnum):
    """The outcome of one test, as subunit tells it; CRASHED never reported an end."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    EXPECTED_FAILURE = "xfail"
    UNEXPECTED_SUCCESS = "uxsuccess"
    CRASHED = "crashed"


class FaultKind(StrEnum):
    """Whose fault it is; the values are part of the machine contract."""

    TEST = "test"
    ENVIRONMENT = "environment"
    IMPORT = "import"
    CRASH = "crash"
    TIME = "time"
    COMPANY = "company"
    DATA = "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Statements of one or many files: how many there are, run, and excluded by settings.

    `branches` and `branches_covered` stay 0 unless the project measures branches.
    """

    statements: int = 0
    covered: int = 0
    excluded: int = 0
    branches: int = 0
    branches_covered: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            statements=self.statements + other.statements,
            covered=self.covered + other.covered,
            excluded=self.excluded + other.excluded,
            branches=self.branches + other.branches,
            branches_covered=self.branches_covered + other.branches_covered,
        )

    @property
    def share(self) -> Fraction | None:
        """Exact covered share of statements in 0..1; None where there are no statements."""
        return Fraction(self.covered, self.statements) if self.statements else None

    def to_target(self, target: Fraction) -> int:
        """Statements that still have to be covered to reach `target` (a share in 0..1)."""
        needed = -((-self.statements * target.numerator) // target.denominator)
        return max(0, needed - self.covered)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMeasure:
    """One file's counts and the 1-based first lines of its statements that did not run.

    `missing_branches` are the branch exits never taken, from line to line (negative: out of the
    function that begins there), where branches are measured.
    """

    path: str
    counts: Counts
    missing: tuple[int, ...] = ()
    vendored: bool = False
    missing_branches: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All measured files of one commit, sorted by path; own and vendored code apart."""

    files: tuple[FileMeasure, ...]

    @property
    def total(self) -> Counts:
        """The project's own code, vendored files left out."""
        return add_up(file.counts for file in self.files if not file.vendored)

    @property
    def vendored(self) -> Counts:
        """Vendored (copied) code alone."""
        return add_up(file.counts for file in self.files if file.vendored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One test that ran: id as stestr prints it, status, wall seconds, traceback if any."""

    test: str
    status: Status
    seconds: float = 0.0
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that went wrong: one sentence that names it, one that names the way out."""

    kind: FaultKind
    subject: str
    sentence: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TestCounts:
    """How many tests ran now (by outcome), were carried from a base, spared, or left out.

    Of a test that is `spared`, every line that it covered is covered by others, though it may run
    others now.
    """

    __test__ = False

    run: int = 0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    carried: int = 0
    deselected: int = 0
    spared: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The base's counts, own and vendored."""

    total: Counts
    vendored: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class UncoveredRange:
    """Lines first..last: statements of a patch that did not run, all of one function.

    `nearest_test` ran the closest line of that function, else of that file; None is unknown.
    """

    path: str
    first: int
    last: int
    nearest_test: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchCoverage:
    """Statements of own code that a commit adds to or modifies of `parent`, and those that ran.

    `uncovered` holds exactly the statements that did not run, sorted by path and line.
    """

    parent: str
    statements: int
    covered: int
    uncovered: tuple[UncoveredRange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisional:
    """What is still open in a result whose budget ended before its proof did.

    Of `tests_affected` known tests that the change reaches `tests_run` ran. By what is known now
    `tests_left` are still to run, of `seconds_left` by their recorded durations; `ways_left` of
    the ways through the change were not taken yet. `undecided` are first lines, by path, of
    statements of own code that did not run now and hang on tests that did not either. Every
    statement that counts as covered was executed.
    """

    budget: float
    tests_affected: int
    tests_run: int
    tests_left: int
    seconds_left: float
    ways_left: int
    undecided: Mapping[str, tuple[int, ...]]

    @property
    def lines_undecided(self) -> int:
        """How many statements of own code may yet turn out to be covered."""
        return sum(map(len, self.undecided.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """Everything that one job found out; `snapshot` is a coverage.py data file on disk.

    `base` is the commit that the figures are compared with. `carried` maps a commit to the number
    of tests whose data was last executed there. `tests_cpu_seconds` is the part of the test
    workers, `env_cpu_seconds` that of getting the environment.
    `complete` is False when the figure rests on failed imports, a crash or a timeout, or is
    `provisional`: such a result never becomes a baseline. `seconds` is wall time per stage,
    `cpu_seconds` the whole user and system time of the measured processes and of covtrack itself.
    `patch` is None where it is unknown; a note then says why.
    """

    project: str
    branch: str
    commit: str
    subject: str
    committed_at: datetime
    base: str | None
    select: Select
    kind: Kind
    tests: TestCounts
    measurement: Measurement
    before: Before | None
    faults: tuple[Fault, ...]
    outcomes: tuple[Outcome, ...]
    carried: Mapping[str, int]
    complete: bool
    snapshot: Path
    recorder: str
    environment: str
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    patch: PatchCoverage | None = None
    tests_cpu_seconds: float = 0.0
    env_cpu_seconds: float = 0.0
    provisional: Provisional | None = None

    def __post_init__(self) -> None:
        if self.complete and self.provisional is not None:
            raise ValueError("a provisional result is not complete")


def add_up(counts: Iterable[Counts]) -> Counts:
    """The sum of all counts."""
    return sum(counts, Counts())


def count_outcomes(
    outcomes: Iterable[Outcome], *, carried: int, deselected: int, spared: int = 0
) -> TestCounts:
    """Tally outcomes; crashed tests and unexpected successes count as failed."""
    statuses = [outcome.status for outcome in outcomes]
    skipped = statuses.count(Status.SKIPPED)
    passed = statuses.count(Status.PASSED) + statuses.count(Status.EXPECTED_FAILURE)
    return TestCounts(
        run=len(statuses),
        passed=passed,
        failed=len(statuses) - passed - skipped,
        skipped=skipped,
        carried=carried,
        deselected=deselected,
        spared=spared,
    )
